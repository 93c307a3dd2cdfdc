//! Releases without SQL: requests wait inside the gate, and none is lost.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

mod common;
mod holding;
mod site;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use common::Account;
use entracte_testbed::http::{Answer, Client};
use entracte_testbed::players::{self, Played, Players, Record};
use entracte_testbed::process::wait_until;
use entracte_testbed::taverne::Options;
use serde_json::Value;

/// How long anything that must happen may take on a busy machine, in milliseconds.
const PATIENCE_MS: u64 = 60_000;

/// Puts a version in while players ask, 200 times a second as far as the machine can.
fn release_under_load(workers_stop: &str) -> Played {
    let site = holding::start(workers_stop);
    holding::develop(&site, "1.0.1");
    let plan = site.ok(&["plan"]);
    assert!(plan.contains("hold") && !plan.contains("drain"), "{plan}");
    let players = Players::start(&site.url, &holding::load()).unwrap();
    let released = site.ok(&["deploy", "1.0.1", "--yes"]);
    assert!(released.contains("1.0.1 is live"), "{released}");
    let before = players.so_far().ok;
    assert!(wait_until(PATIENCE_MS, || players.so_far().ok > before + 100), "{released}");
    let version = Client::new(&site.url).get("/version.php").unwrap().text();
    assert!(version.contains("code 1.0.1"), "{version}");
    let played = players.stop();
    let mut database = site.taverne.connection();
    assert_eq!(players::missing(&mut database, &played.oks), Vec::<String>::new());
    assert_eq!(players::wrong_purses(&mut database), 0);
    played
}

/// Every request was answered by the game, and as it should be.
fn assert_none_lost(played: &Played) {
    let lost: Vec<&Record> = played.with(|outcome| !outcome.is_played());
    assert!(lost.is_empty(), "{} requests were lost, such as {:?}", lost.len(), lost[0]);
    assert!(played.records.len() > 200, "only {} requests", played.records.len());
}

#[test]
fn a_release_without_sql_at_200_requests_a_second_loses_none() {
    let played = release_under_load("true");
    assert_none_lost(&played);
}

#[test]
fn one_with_a_window_of_three_seconds_loses_none_either() {
    // A worker that takes its time to stop.
    let played = release_under_load("sleep 3");
    assert_none_lost(&played);
    let waited_us = played.latencies.max_us();
    assert!(waited_us > 1_500_000, "nobody waited ({waited_us} µs): this test shows nothing");
}

/// The login closes before the game does: who is in finishes, who comes sees the page.
#[test]
fn players_who_are_in_finish_and_new_logins_get_the_page() {
    let options = Options { players: 300, ..Options::default() };
    let mut site = common::Site::start_undumped(&options, Account::Ordinary);
    site.kill_up();
    let path = site.dev.join("entracte.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("drain = \"1s\""), "{text}");
    let text = text.replace("drain = \"1s\"", "drain = \"5min\"");
    // Longer than a busy machine lets her wait between two requests.
    fs::write(&path, text.replace("player_left = \"1s\"", "player_left = \"10s\"")).unwrap();
    site.up();
    site.check_out("1.1");
    site.ok(&["pack", "1.1"]);
    let register = |name: &str| {
        let mut browser = Client::new(&site.url).always("Accept", "text/html");
        let fields = [("name", name), ("password", "longue épée")];
        let answer = browser.post("/register.php", name, &fields).unwrap();
        (browser, answer)
    };
    let (mut player, answer) = register("Ancienne");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut deploy = site.command(&["deploy", "1.1", "--yes"]).spawn().unwrap();
    let mut refused = None;
    let mut number = 0;
    let closed = wait_until(PATIENCE_MS, || {
        // Whoever plays keeps the game open.
        assert_eq!(player.get("/").unwrap().status, 200);
        number += 1;
        let (_, answer) = register(&format!("Nouvelle {number}"));
        let page = answer.status == 503;
        refused = Some(answer);
        page
    });
    let refused = refused.unwrap();
    assert!(closed, "{}", refused.text());
    assert!(refused.text().contains("The curtain falls in a moment"), "{}", refused.text());
    for _ in 0..20 {
        assert_eq!(player.get("/?p=market").unwrap().status, 200);
    }
    assert_eq!(site.json(&["gate", "status"])["phase"], "draining");
    // Now she stops, and the release goes on long before the deadline.
    assert!(deploy.wait().unwrap().success());
    assert_eq!(player.get("/").unwrap().status, 200, "her session outlived the release");
    assert_eq!(register("Nouvelle après").1.status, 200);
}

/// A small site with a version of files only, and more of a configuration.
fn small(pace: &str, workers_stop: &str) -> site::Site {
    let site = site::Site::with("", "");
    site.edit("[target.production.pace]", &format!("[target.production.pace]\n{pace}"));
    let hooks = format!(
        "[target.production.hooks]\nworkers_stop = [{workers_stop:?}]\n\n[target.production.pace]"
    );
    site.edit("[target.production.pace]", &hooks);
    site.develop("1.1");
    fs::remove_dir_all(site.dev.join("SQL")).unwrap();
    site
}

/// Somebody who asks for a page all the time, on connections that are kept.
struct Visitor {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Answer>>,
}

impl Visitor {
    fn begin(site: &site::Site) -> Self {
        let (mut browser, stop) = (site.browser().always("Accept", "text/html"), Arc::default());
        let stopped: Arc<AtomicBool> = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut answers = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                answers.push(browser.get("/version.txt").unwrap());
            }
            answers
        });
        Self { stop, thread }
    }

    fn end(self) -> Vec<Answer> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn what_lasts_longer_than_promised_ends_on_the_page_and_goes_on() {
    let mut site = small("hold = \"3s\"", "sleep 5");
    site.up();
    let visitor = Visitor::begin(&site);
    site.ok(&["deploy", "--yes"]);
    let answers = visitor.end();
    let (played, pages): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(!pages.is_empty(), "the page was never shown");
    for page in pages {
        assert_eq!(page.status, 503);
        let retry: u64 = page.header("retry-after").unwrap().parse().unwrap();
        assert!(retry >= 5, "{retry}");
        assert_eq!(page.header("cache-control"), Some("no-store"));
    }
    assert_eq!(played.last().unwrap().text(), "version 1.1.0\n");
}

#[test]
fn a_version_that_fails_its_tests_is_taken_back_and_nobody_saw_it() {
    let mut site = small("hold = \"15s\"", "true");
    fs::write(site.dev.join("source/version.txt"), "version of nothing\n").unwrap();
    site.up();
    let before = site.production();
    let visitor = Visitor::begin(&site);
    let said = site.exits(4, &["deploy", "--yes"]);
    assert!(said.contains("smoke test") && said.contains("to the byte"), "{said}");
    let answers = visitor.end();
    assert!(answers.iter().all(|answer| answer.text() == "version 1.0.0\n"));
    assert_eq!(site.production(), before);
}

#[test]
fn a_runner_that_dies_holding_leaves_nobody_waiting_and_is_taken_up() {
    let mut site = small("hold = \"4s\"", "true");
    // Its first hook kills it.
    let mark = site.at("killed");
    let kill = format!("test -f {0} || {{ touch {0}; kill -KILL $PPID; }}", mark.display());
    site.edit("workers_stop = [\"true\"]", &format!("workers_stop = [{kill:?}]"));
    site.up();
    let visitor = Visitor::begin(&site);
    let deploy = site.run(&["deploy", "--yes"]);
    assert!(mark.exists() && !deploy.status.success(), "{}", site::said(&deploy));
    // The duties may be quicker than we are.
    let is_in = || {
        site.run(&["resume"]);
        site.get("/version.txt").1 == "version 1.1.0\n"
    };
    assert!(wait_until(PATIENCE_MS, is_in), "{}", site.up_log());
    let answers = visitor.end();
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 503)));
    assert_eq!(answers.last().unwrap().text(), "version 1.1.0\n");
    site.says(0, &["verify"], &["exactly 1.1.0"]);
}

fn steps(site: &site::Site) -> Vec<String> {
    let plan: Value = site.json(0, &["plan"]);
    plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["step"]["step"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_is_too_long_to_wait_for_or_touches_the_database_closes_the_game() {
    let held = |site: &site::Site| steps(site).contains(&"hold".to_owned());
    let site = small("hold = \"5s\"", "true");
    site.ok(&["pack", "1.1"]);
    assert!(held(&site));
    // Nothing is known yet: the guess for closing, exchange and tests is 2.1 s in nine of ten cases.
    site.edit("hold = \"5s\"", "hold = \"2s\"");
    assert!(!held(&site));
    site.edit("hold = \"2s\"", "hold = \"0s\"");
    assert!(!held(&site));
    site.edit("hold = \"0s\"", "hold = \"15s\"");
    assert!(held(&site));
    fs::create_dir(site.dev.join("SQL")).unwrap();
    site.develop("1.2");
    site.ok(&["pack", "1.2"]);
    let steps = steps(&site);
    assert!(
        steps.contains(&"close".to_owned()) && steps.contains(&"drain".to_owned()),
        "{steps:?}"
    );
}
