//! What players see, in a real Chromium. Set `ENTRACTE_PICTURES` to a folder to look at it yourself.

mod common;

use std::path::PathBuf;

use common::{Game, Gate};
use entracte_model::gate::Phase;
use entracte_testbed::browser::{Browser, Taste};

const WIDTHS: [u32; 3] = [320, 768, 1_280];

fn closed(gate: &Gate, remains_ms: u64, progress: u8) {
    let now = gate.status().server_time;
    gate.set_with(Phase::Closed, |goal| {
        goal.reopens_p50 = Some(now + remains_ms);
        goal.reopens_p90 = Some(now + 3 * remains_ms);
        goal.progress = Some(progress);
        goal.message.insert("en".into(), "The market opens. Bring gold!".into());
        goal.message.insert("fr".into(), "Le marché ouvre. Apportez de l’or !".into());
        goal.version = Some("1.1.0".into());
        goal.notes_url = Some("/_entracte/news/".into());
    });
}

fn url(gate: &Gate, path: &str) -> String {
    format!("http://{}{path}", gate.address)
}

/// The page as it stands is readable for everybody, at every width, in light and dark.
fn is_good_everywhere(browser: &mut Browser, gate: &Gate, what: &str, language: &str) {
    for dark in [false, true] {
        for width in WIDTHS {
            browser.prefer(Taste { language, dark, width });
            browser.open(&url(gate, "/"));
            let case = format!("{what}, {language}, {width} pixels, dark: {dark}");
            assert!(!browser.scrolls_sideways(), "{case}: scrolls sideways");
            if let Some(dir) = std::env::var_os("ENTRACTE_PICTURES").map(PathBuf::from) {
                let shade = if dark { "dark" } else { "light" };
                browser.picture(&dir.join(format!("{what}-{language}-{shade}-{width}.png")));
            }
        }
        assert_eq!(browser.accessibility(), Vec::<String>::new(), "{what}, dark: {dark}");
    }
}

#[test]
fn the_closed_page_is_good_in_both_languages_at_every_width_in_light_and_dark() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut browser = Browser::start();
    closed(&gate, 180_000, 40);
    for (language, heading, note) in [
        ("en", "We are changing the scenery", "at most 9 minutes"),
        ("fr", "Changement de décor", "9 minutes au plus"),
    ] {
        is_good_everywhere(&mut browser, &gate, "closed", language);
        let text = browser.text();
        assert!(text.contains(heading) && text.contains(note), "{text}");
        assert_eq!(browser.run("return document.documentElement.lang"), language);
    }
    gate.set(Phase::Closed);
    is_good_everywhere(&mut browser, &gate, "closed-unknown", "en");
    assert!(game.got().iter().all(|got| got.target != "/"), "a player reached the game");
}

#[test]
fn the_closed_page_counts_down_follows_the_work_and_leads_back_by_itself() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut browser = Browser::start();
    closed(&gate, 180_000, 10);
    browser.open(&url(&gate, "/inn?room=7"));
    let clock = "return document.getElementById('big').textContent";
    let first = browser
        .wait_for("a clock", "const t = document.getElementById('big').textContent; return /^[0-9]+:[0-9]{2}$/.test(t) && t");
    let first = first.as_str().unwrap().to_owned();
    let script = format!("return document.getElementById('big').textContent !== '{first}'");
    browser.wait_for("the next second", &script);
    let seconds = |text: &str| {
        let (minutes, seconds) = text.split_once(':').unwrap();
        minutes.parse::<u64>().unwrap() * 60 + seconds.parse::<u64>().unwrap()
    };
    let later = browser.run(clock).as_str().unwrap().to_owned();
    assert!(seconds(&later) < seconds(&first) && seconds(&first) <= 180, "{first}, {later}");

    // Without a reload: the bar moves, and the promise that was made later counts.
    browser.run("window.same = true");
    closed(&gate, 600_000, 70);
    browser.wait_for("the progress", "return document.getElementById('bar').value === 70");
    browser.wait_for(
        "the new promise",
        "return parseInt(document.getElementById('big').textContent) >= 8",
    );
    assert_eq!(browser.run("return window.same"), true, "the page was loaded again");

    gate.set(Phase::Open);
    browser.wait_for("the game", "return document.body.textContent === 'game'");
    assert_eq!(browser.run("return location.pathname + location.search"), "/inn?room=7");
}

#[test]
fn who_comes_while_the_login_is_closed_sees_when_it_closes_and_then_the_closed_page() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let mut browser = Browser::start();
    let now = gate.status().server_time;
    gate.set_with(Phase::Draining, |goal| {
        goal.deadline = Some(now + 120_000);
        goal.reopens_p50 = Some(now + 300_000);
    });
    is_good_everywhere(&mut browser, &gate, "draining", "en");
    is_good_everywhere(&mut browser, &gate, "draining", "fr");
    let text = browser.text();
    assert!(text.contains("Fermeture dans") && text.contains("De retour dans environ"), "{text}");
    closed(&gate, 180_000, 5);
    browser.wait_for(
        "the closed page",
        "return document.body.textContent.includes('Changement de décor')",
    );
}

/// A gate that reopens with `before` newcomers in the queue, and lets in two a second.
fn reopening(game: &Game, before: u32) -> Gate {
    let gate =
        Gate::start(game.address, |config| config["limits"]["ramp_step_ms"] = 600_000.into());
    gate.set(Phase::Closed);
    gate.set(Phase::Reopening);
    for _ in 0..before {
        gate.get("/", &[("Accept", "text/html")]);
    }
    gate
}

#[test]
fn the_waiting_room_is_good_everywhere() {
    let game = Game::start();
    let mut browser = Browser::start();
    let gate = reopening(&game, 400);
    is_good_everywhere(&mut browser, &gate, "waiting", "fr");
    assert!(browser.text().contains("joueurs sont devant vous"), "{}", browser.text());
}

#[test]
fn the_waiting_room_shows_the_place_and_lets_in_by_itself() {
    let game = Game::start();
    let mut browser = Browser::start();
    browser.prefer(Taste::default());
    let before = 60;
    let gate = reopening(&game, before);
    browser.open(&url(&gate, "/"));
    // A window that is slower than the queue is the next at once, or in.
    let place = "const note = document.getElementById('note');
        const n = note && note.textContent.match(/^([0-9]+) players are before you/);
        return n ? +n[1] : 0";
    let first = browser.run(place).as_u64().unwrap();
    assert!(first < u64::from(before), "{first}");
    if first > 0 {
        let nearer =
            place.replace("return n ? +n[1] : 0", &format!("return (n ? +n[1] : 0) < {first}"));
        browser.wait_for("a better place", &nearer);
    }
    browser.wait_for("the game", "return document.body.textContent === 'game'");
}

#[test]
fn a_game_that_does_not_answer_is_told_from_a_closing_and_the_page_comes_back() {
    let game = Game::start();
    let address = game.address;
    let gate = Gate::start(address, |_| {});
    drop(game);
    let mut browser = Browser::start();
    browser.prefer(Taste::default());
    browser.open(&url(&gate, "/"));
    let text = browser.text();
    assert!(text.contains("This is not a planned closing"), "{text}");
    assert_eq!(browser.accessibility(), Vec::<String>::new());
    assert!(!browser.scrolls_sideways());
    if let Some(dir) = std::env::var_os("ENTRACTE_PICTURES").map(PathBuf::from) {
        browser.picture(&dir.join("fault-en-light-1280.png"));
    }
    let _game = Game::at(address);
    browser.wait_for("the game", "return document.body.textContent === 'game'");
}

#[test]
fn a_tester_enters_by_a_link_that_works_once() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    closed(&gate, 180_000, 40);
    let pass = gate.client().pass(5).unwrap();
    let link = url(&gate, &format!("/_entracte/pass#{}", pass.url_token));
    let mut browser = Browser::start();
    browser.prefer(Taste { width: 320, ..Taste::default() });
    browser.open(&link);
    assert_eq!(browser.run("return document.getElementById('token').value"), pass.url_token);
    assert_eq!(browser.run("return location.hash"), "", "the token stays in the address bar");
    assert_eq!(browser.accessibility(), Vec::<String>::new());
    assert!(!browser.scrolls_sideways());
    if let Some(dir) = std::env::var_os("ENTRACTE_PICTURES").map(PathBuf::from) {
        browser.picture(&dir.join("pass-en-light-320.png"));
    }
    browser.run("document.querySelector('button').click()");
    browser.wait_for("the game", "return document.body.textContent === 'game'");
    // Somebody who read the link over a shoulder comes too late.
    let mut other = Browser::start();
    other.prefer(Taste::default());
    other.open(&link);
    other.run("document.querySelector('button').click()");
    let refused = "return document.body.innerText.includes('it was used already')";
    other.wait_for("the refusal", refused);
    assert_eq!(other.accessibility(), Vec::<String>::new());
}

/// The text of the widget's banner, or nothing.
const BANNER: &str = "const host = [...document.body.children].find(e => e.shadowRoot);
    const bar = host && host.shadowRoot.querySelector('[role=status]');
    return bar ? bar.textContent : ''";

#[test]
fn players_in_the_game_see_a_banner_before_a_closing_and_once_what_is_new() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| config["inject_widget"] = true.into());
    let mut browser = Browser::start();
    browser.prefer(Taste { language: "fr", width: 320, ..Taste::default() });
    gate.set_with(Phase::Open, |goal| goal.version = Some("1.0.0".into()));
    browser.open(&url(&gate, "/"));
    browser.wait_for("the widget", "return window.__entracte === 1");
    browser.wait_for("the version", "return localStorage.getItem('entracte-version') === '1.0.0'");
    assert_eq!(browser.run(BANNER), "", "nothing to say, and it speaks");

    let now = gate.status().server_time;
    gate.set_with(Phase::Announced, |goal| {
        goal.closes_at = Some(now + 3_500_000);
        goal.message.insert("fr".into(), "Le marché ouvre.".into());
        goal.version = Some("1.1.0".into());
    });
    browser.open(&url(&gate, "/"));
    let shown = browser.wait_for("the banner", BANNER).as_str().unwrap().to_owned();
    assert!(shown.contains("Fermeture du jeu pour une mise à jour dans 5"), "{shown}");
    assert!(shown.contains("Le marché ouvre."), "{shown}");
    browser.wait_for(
        "a second",
        &BANNER.replace(
            "return bar ? bar.textContent : ''",
            &format!("return bar.textContent !== {shown:?}"),
        ),
    );
    assert!(!browser.scrolls_sideways());
    assert_eq!(browser.accessibility_of("body > div"), Vec::<String>::new());
    if let Some(dir) = std::env::var_os("ENTRACTE_PICTURES").map(PathBuf::from) {
        browser.picture(&dir.join("banner-fr-light-320.png"));
    }
    let game_style = "getComputedStyle(document.body).display";
    assert_eq!(
        browser.run(&format!("return {game_style}")),
        "block",
        "the game's own style changed"
    );

    // The login closes: who is in goes on playing, and is asked to come to an end, in words.
    gate.set_with(Phase::Draining, |goal| goal.deadline = Some(now + 3_500_000));
    browser.open(&url(&gate, "/"));
    let ending = BANNER.replace(
        "return bar ? bar.textContent : ''",
        "return bar && bar.textContent.includes('Merci de terminer ce que vous faites') && bar.textContent",
    );
    let shown = browser.wait_for("the word to who is in", &ending);
    assert!(!shown.as_str().unwrap().contains("dans 5"), "{shown}");
    assert!(browser.text().contains("game"), "a player who is in sees the page");
    assert_eq!(browser.accessibility_of("body > div"), Vec::<String>::new());

    // Closed and opened again with the new version: told once.
    gate.set(Phase::Closed);
    gate.set_with(Phase::Open, |goal| {
        goal.version = Some("1.1.0".into());
        goal.notes_url = Some("/_entracte/news/".into());
    });
    browser.open(&url(&gate, "/"));
    let shown = browser.wait_for("the news", BANNER).as_str().unwrap().to_owned();
    assert!(shown.contains("Le jeu a été mis à jour en version 1.1.0."), "{shown}");
    let link = "return [...document.body.children].find(e => e.shadowRoot).shadowRoot.querySelector('a').getAttribute('href')";
    assert_eq!(browser.run(link), "/_entracte/news/");
    assert_eq!(browser.accessibility_of("body > div"), Vec::<String>::new());
    browser.open(&url(&gate, "/"));
    browser.wait_for("the status", "return performance.getEntriesByType('resource').some(e => e.name.endsWith('/v1/status') && e.responseEnd > 0)");
    assert_eq!(browser.run(BANNER), "", "the news are told twice");
}
