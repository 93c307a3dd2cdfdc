//! The main job, end to end: real nginx, php-fpm and MariaDB, players at 50 requests a second.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

mod common;

use std::fs;

use common::{Account, Site, assert_same_data};
use entracte_testbed::players::{self, Load, Players};
use entracte_testbed::taverne::Options;

/// v1.0 to v1.1; then a v1.2 whose script fails in the middle; then a v1.3 whose smoke test fails.
fn three_releases_under_load(account: Account) {
    let site = Site::start(&Options::default(), account);
    let players = Players::start(&site.url, &Load::new(30, 50.0)).unwrap();

    site.check_out("1.1");
    let packed = site.json(&["pack", "1.1"]);
    assert_eq!(packed["version"], "1.1.0");
    let released = site.ok(&["deploy", "1.1", "--yes"]);
    assert!(released.contains("1.1.0 is live"), "{released}");
    let prepared = site.ok(&["log", "r1"]).contains("rollback point prepared while the game runs");
    assert_eq!(prepared, account == Account::Administrator, "{released}");
    site.assert_tree("1.1");
    let expected = site.migrated(&site.dump_at("closed", "r1"), "1.1");
    assert_same_data("r1, released", &expected, &site.dump_at("opened", "r1"));
    site.ok(&["verify"]);

    site.check_out("1.2");
    site.ok(&["pack", "1.2", "--allow", "unmentioned"]);
    let taken_back = site.exits(4, &["deploy", "1.2", "--yes"]);
    assert!(taken_back.contains("production is 1.1.0, to the byte"), "{taken_back}");
    site.assert_tree("1.1");
    assert_same_data(
        "r2, taken back",
        &site.dump_at("closed", "r2"),
        &site.dump_at("opened", "r2"),
    );

    site.check_out("1.3");
    site.ok(&["pack", "1.3", "--allow", "unmentioned"]);
    if account == Account::Administrator {
        a_rehearsal_finds_it(&site);
    }
    let taken_back = site.exits(4, &["deploy", "1.3", "--yes"]);
    assert!(taken_back.contains("smoke test"), "{taken_back}");
    site.assert_tree("1.1");
    assert_same_data(
        "r3, taken back",
        &site.dump_at("closed", "r3"),
        &site.dump_at("opened", "r3"),
    );
    site.ok(&["verify"]);

    let played = players.stop();
    let mut database = site.taverne.connection();
    assert!(played.oks.len() > 200, "only {} requests were answered ok", played.oks.len());
    assert_eq!(players::missing(&mut database, &played.oks), Vec::<String>::new());
    assert_eq!(players::wrong_purses(&mut database), 0);
    assert!(played.lost().is_empty(), "{:?}", &played.lost()[..played.lost().len().min(5)]);
}

/// A page of 1.3 is broken: the real game, started on a private copy of the database, shows it before
/// any player could. And a configuration that leads to the live database is not started.
fn a_rehearsal_finds_it(site: &Site) {
    let found = site.exits(3, &["rehearse", "1.3"]);
    assert!(found.contains("the new version runs at http://127.0.0.1:"), "{found}");
    assert!(found.contains("fails on a copy of production"), "{found}");
    let file = site.dev.join("entracte.toml");
    let text = fs::read_to_string(&file).unwrap();
    let live = format!("'old' => '{}', 'lang'", site.taverne.database.socket.display());
    let forced = text.replace("engine = \"mariadb\"", "engine = \"mariadb\"\npoint = \"binlog\"");
    fs::write(&file, forced.replace("'lang'", &live)).unwrap();
    let refused = site.exits(3, &["rehearse", "1.3"]);
    // The private instance keeps no log: what comes behind it, and not the files.
    assert!(refused.contains("asks for (binlog)"), "{refused}");
    assert!(refused.contains("rehearsed with a dump of the tables"), "{refused}");
    assert!(refused.contains("config.php:4 holds the live database's socket"), "{refused}");
    fs::write(&file, text).unwrap();
}

#[test]
fn an_administrator_releases_under_load_and_two_broken_versions_are_taken_back() {
    three_releases_under_load(Account::Administrator);
}

#[test]
fn an_ordinary_account_releases_under_load_and_two_broken_versions_are_taken_back() {
    three_releases_under_load(Account::Ordinary);
}
