//! Releases behind the web server that a team keeps: the real nginx, Caddy, HAProxy and Apache.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

mod small;

use entracte_testbed::fronts::{Front, Kind};
use entracte_testbed::http::Client;
use serde_json::Value;
use small::{Small, ends, signal, step};

/// The small site with a server in the place of our gate.
fn behind(kind: Kind, name: &str, version: &str) -> (Small, Front) {
    let mut site = Small::start(version);
    site.kill_gate();
    let address = site.url().trim_start_matches("http://").parse().unwrap();
    let dir = site.dev.parent().unwrap().to_owned();
    let mut front = Front::at(kind, &dir.join("server"), site.game.address, address);
    let keys = format!(
        "kind = \"{name}\"\nurl = {:?}\nfolder = {:?}\ncheck = {:?}\nreload = {:?}\npid_file = {:?}\n\
         admin = {:?}\nlogin = [\"POST /login\"]",
        site.url(),
        dir.join("front"),
        front.check(),
        front.reload(),
        front.pid_file(),
        front.admin()
    );
    site.reconfigure("login = [\"POST /login\"]", &keys);
    // Our own gate's, and refused for another.
    site.reconfigure("player_left = \"1s\"\n", "");
    let printed = site.json(&["gate", "snippet"]);
    let all = printed["snippets"].as_array().unwrap();
    let lines: Vec<String> =
        all.iter().take(2).map(|one| one["text"].as_str().unwrap().to_owned()).collect();
    front.start(&lines);
    (site, front)
}

/// Not included yet: said, and no release begins.
fn is_missed(site: &Small, front: &mut Front, version: &str) {
    let lines = std::fs::read_to_string(front.config()).unwrap();
    front.kill();
    front.start(&[]);
    let missing = site.exits(3, &["doctor"]);
    assert!(missing.contains("entracte gate snippet"), "{missing}");
    let refused = site.exits(3, &["deploy", version, "--yes"]);
    assert!(refused.contains("does not do what it was told"), "{refused}");
    front.kill();
    std::fs::write(front.config(), lines).unwrap();
    front.start_again();
    let well = small::said(&site.run(&["doctor"]));
    assert!(well.contains("has taken our lines") && well.contains("cannot hold"), "{well}");
}

fn page(site: &Small, accept: &str) -> (u16, String) {
    let mut browser = Client::new(site.url()).always("Accept", accept).always("Cookie", "sid=1");
    let answer = browser.get("/count").unwrap();
    (answer.status, answer.text())
}

/// The release stands in the middle: everybody gets the page, nobody plays.
fn is_closed(site: &mut Small, name: &str) {
    assert_eq!(site.phase(), "closed");
    let (status, html) = page(site, "text/html");
    assert!(status == 503 && html.contains("data-entracte"), "{name}: {status} {html}");
    let (status, problem) = page(site, "application/json");
    let problem: Value = serde_json::from_str(&problem).unwrap();
    assert_eq!((status, problem["phase"].as_str()), (503, Some("closed")), "{name}");
    assert!(!site.buy(), "a purchase came through a closed {name}");
}

fn closes_and_reopens(kind: Kind, name: &str) {
    let (mut site, _front) = behind(kind, name, "1.1");
    let (mut deploy, runner) = site.deploy_paused("1.1", "started", step("migrate"));
    is_closed(&mut site, name);
    signal(runner, "CONT");
    assert_eq!(ends(&mut deploy), Some(0), "{}", site.logs());
    site.reference.migrate("1.1");
    site.assert_is("1.1", &["r1"], name);
}

#[test]
fn caddy_closes_and_reopens_around_a_release() {
    closes_and_reopens(Kind::Caddy, "caddy");
}

#[test]
fn haproxy_closes_and_reopens_around_a_release() {
    closes_and_reopens(Kind::Haproxy, "haproxy");
}

#[test]
fn apache_closes_and_reopens_around_a_release() {
    closes_and_reopens(Kind::Apache, "apache");
}

/// Not included; then a release that fails; then one whose runner dies, with nginx, in the middle.
#[test]
fn behind_nginx_a_release_passes_or_goes_back_whole() {
    let (mut site, mut front) = behind(Kind::Nginx, "nginx", "1.3");
    is_missed(&site, &mut front, "1.3");
    let plan = site.ok(&["plan", "1.3"]);
    assert!(plan.contains("cannot hold requests") && plan.contains("does not count"), "{plan}");
    let failed = site.exits(4, &["deploy", "1.3", "--yes"]);
    assert!(failed.contains("smoke test"), "{failed}");
    site.assert_is("1.0", &[], "taken back");

    site.pack("1.1");
    let (mut deploy, runner) = site.deploy_paused("1.1", "started", step("migrate"));
    is_closed(&mut site, "nginx");
    signal(runner, "KILL");
    ends(&mut deploy);
    front.kill();
    front.start_again();
    is_closed(&mut site, "nginx that came back");
    site.ok(&["resume"]);
    site.reference.migrate("1.1");
    site.assert_is("1.1", &["r3"], "resumed");
}
