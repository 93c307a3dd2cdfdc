//! The pages of the servers in a real Chromium: their script runs under the policy that is sent with
//! them, counts down, and leads back.

use entracte_model::UnixMs;
use entracte_model::gate::Phase;
use entracte_testbed::browser::Browser;

use crate::stand::{FRONTS, Stand, unix_ms};

/// A clock that runs, and so a script that may.
const CLOCK: &str = "const big = document.getElementById('big'); \
                     return big && /^[0-3]:[0-9]{2}$/.test(big.textContent)";

#[test]
fn the_page_counts_down_and_leads_back_by_itself() {
    let mut browser = Browser::start();
    for kind in FRONTS {
        let stand = Stand::start(kind);
        let url = format!("http://{}", stand.address());
        let back = |minutes: i64| Some(UnixMs(unix_ms() + minutes * 60_000));
        stand.set_with(Phase::Closed, |goal| goal.reopens_p50 = back(3));
        browser.open(&format!("{url}/inn?room=7"));
        browser.wait_for("a clock", CLOCK);

        // A tester's link, while everybody else still waits.
        let token = stand.driver.pass(30).unwrap().1;
        browser.open(&format!("{url}/_entracte/pass#{token}"));
        browser.wait_for("the game", "return document.body.textContent === 'game'");
        browser.run("document.cookie = 'entracte_pass=; Max-Age=0; Path=/'");
        if kind == FRONTS[0] {
            // Whoever was shown the closed page in spite of a pass is let in by the page itself.
            browser.open(&format!("{url}/inn?room=7"));
            browser.wait_for("a clock", CLOCK);
            browser.run(&format!("document.cookie = 'entracte_pass={token}; Path=/'"));
            browser.wait_for("the game", "return document.body.textContent === 'game'");
            browser.run("document.cookie = 'entracte_pass=; Max-Age=0; Path=/'");
        }

        // The rest is the same script for all; it is fastest where the page itself holds no time.
        if stand.driver.capabilities().tells_time_without_scripts {
            continue;
        }
        browser.open(&format!("{url}/inn?room=7"));
        browser.wait_for("a clock", CLOCK);
        browser.run("window.same = true");
        stand.set_with(Phase::Closed, |goal| goal.reopens_p50 = back(30));
        browser.wait_for(
            "the new promise",
            "return parseInt(document.getElementById('big').textContent) >= 20",
        );
        assert_eq!(browser.run("return window.same"), true, "{kind}: the page was loaded again");
        stand.set(Phase::Open);
        browser.wait_for("the game", "return document.body.textContent === 'game'");
        assert_eq!(browser.run("return location.pathname + location.search"), "/inn?room=7");
    }
}
