//! Back to the version before: what is lost and what stays is exactly what was said.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;
mod site;

use std::io::Write;
use std::process::{Command, Stdio};

use common::{Account, assert_same_data};
use entracte_testbed::taverne::Options;
use serde_json::json;
use site::{Site, listing, sqlite3, write_tree};

/// A site with 1.1 in production, and what its database was before.
fn released() -> (Site, String) {
    let mut site = Site::with("languages = [\"en\", \"fr\"]", "");
    site.up();
    site.buy();
    let before = site.dump();
    site.develop("1.1");
    site.ok(&["deploy", "1.1", "--yes"]);
    (site, before)
}

/// The tree that production must hold for a version, with what is its own.
fn expected_tree(site: &Site, version: &str) -> String {
    let tree = site.at("expected");
    let _ = std::fs::remove_dir_all(&tree);
    write_tree(version, &tree);
    listing(&tree)
}

/// The live tree without what belongs to production and not to a version.
fn tree(site: &Site) -> String {
    let own = |line: &&str| !line.contains("config.php");
    site.root
        .join("config.php")
        .exists()
        .then(|| {
            listing(&site.root)
                .lines()
                .filter(own)
                .map(|line| format!("{line}\n"))
                .collect::<String>()
        })
        .expect("production's own configuration stays")
}

#[test]
fn without_data_the_files_go_back_and_what_players_did_stays() {
    let (site, _) = released();
    assert_eq!(site.buy(), "2 purchases");
    let data = site.dump();
    let price = site.json(0, &["rollback", "--dry-run"]);
    assert_eq!(price["price"]["with_data"], false);
    assert_eq!(price["price"]["scripts_that_stay"], json!(["11-gold.sql"]));
    site.says(2, &["rollback"], &["nobody is there to be asked", "--yes"]);
    assert_eq!(tree(&site), expected_tree(&site, "1.1"), "nothing happened yet");

    site.says(0, &["rollback", "--yes"], &["Price: none in data", "11-gold.sql", "1.0.0 is live"]);
    assert_eq!(tree(&site), expected_tree(&site, "1.0"));
    assert_eq!(site.dump(), data, "the database is untouched");
    site.says(0, &["verify"], &["exactly 1.0.0"]);
    let news = site.get("/_entracte/news/en/1.1.0.html");
    assert!(news.1.contains("withdrawn") || news.1.contains("taken back"), "{news:?}");

    // The script stays, so the same version comes again without it, and tells its notes again.
    site.says(
        3,
        &["deploy", "1.1", "--yes"],
        &["sequence 1", "`entracte pack 1.1.0` makes it anew"],
    );
    site.ok(&["deploy", "--yes"]);
    assert_eq!(tree(&site), expected_tree(&site, "1.1"));
    assert_eq!(site.dump(), data, "a script never runs twice");
}

#[test]
fn with_data_everything_is_as_it_was_and_the_lost_play_is_in_the_backup() {
    let (site, before) = released();
    assert_eq!(site.buy(), "2 purchases");
    let played = site.dump();
    site.says(0, &["rollback", "--with-data", "--dry-run"], &["of play since", "is lost"]);
    site.says(
        3,
        &["rollback", "r7", "--with-data", "--yes"],
        &["r7 is not what production holds", "r1"],
    );
    assert_eq!(site.dump(), played);

    site.says(
        0,
        &["rollback", "--with-data", "--yes"],
        &["is lost", "entracte backup list", "1.0.0 is live"],
    );
    assert_eq!(tree(&site), expected_tree(&site, "1.0"));
    assert_eq!(site.dump(), before, "to the last row");

    let backups = site.json(0, &["backup", "list"]);
    let taken = backups
        .as_array()
        .unwrap()
        .iter()
        .find(|snapshot| snapshot["kind"] == "database" && snapshot["tags"]["release"] == "r2");
    let id = taken.unwrap_or_else(|| panic!("{backups}"))["short"].as_str().unwrap().to_owned();
    let file = site.at("played.sqlite");
    site.ok(&["backup", "restore", &id, &file.display().to_string()]);
    assert_eq!(sqlite3(&file, ".dump"), played);

    // The script went with the data, so it runs again.
    site.ok(&["deploy", "--yes"]);
    assert_eq!(tree(&site), expected_tree(&site, "1.1"));
    assert!(site.dump().contains("v11"), "the script must run again");
    site.ok(&["verify"]);
}

/// Over the live database only behind a closed gate, and only where a person said yes.
#[test]
fn a_backup_comes_back_into_the_live_database_when_somebody_says_so() {
    let mut site = Site::new();
    site.up();
    site.buy();
    let taken = site.json(0, &["backup", "now"]);
    let of_database = |snapshot: &&serde_json::Value| snapshot["kind"] == "database";
    let found = taken.as_array().unwrap().iter().find(of_database).unwrap();
    let id = found["short"].as_str().unwrap().to_owned();
    let (before, bought) = (site.dump(), site.buy());
    let played = site.dump();
    assert_ne!(before, played, "{bought}");
    let restore = ["backup", "restore", &id, "--database"];
    site.says(3, &restore, &["the gate is open", "entracte gate close"]);
    site.ok(&["gate", "close", "--for", "30m"]);
    site.says(2, &restore, &["nobody is there to be asked", "--yes"]);
    for answer in ["n", "", "yes please"] {
        let output = at_a_terminal(&site, &restore, answer);
        assert!(output.contains("[y/N]") && output.contains("not restored"), "{output}");
    }
    assert_eq!(site.dump(), played, "nothing happened yet");
    let output = at_a_terminal(&site, &restore, "y");
    assert!(output.contains("What was written since") && output.contains("Restored"), "{output}");
    assert_eq!(site.dump(), before);
    // What was there is in a backup of its own, and comes back without a question.
    let backups = site.json(0, &["backup", "list"]);
    // The newest stands first.
    let newest = backups.as_array().unwrap().iter().find(of_database).unwrap();
    let newest = newest["short"].as_str().unwrap();
    site.says(0, &["backup", "restore", newest, "--database", "--yes"], &["Restored"]);
    assert_eq!(site.dump(), played);
}

/// Runs one of our commands at a terminal, where somebody types `answer`.
fn at_a_terminal(site: &Site, args: &[&str], answer: &str) -> String {
    let ours = site.command(args);
    let words = std::iter::once(ours.get_program()).chain(ours.get_args());
    let words = words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>();
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
    if let Some(dir) = ours.get_current_dir() {
        command.current_dir(dir);
    }
    command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{answer}\n").as_bytes()).unwrap();
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned()
}

#[test]
fn a_release_without_scripts_has_no_data_to_bring_back() {
    let mut site = Site::new();
    site.up();
    site.develop("1.1");
    std::fs::remove_file(site.dev.join("SQL/11-gold.sql")).unwrap();
    site.ok(&["deploy", "1.1", "--yes"]);
    let now = site.production();
    site.says(
        3,
        &["rollback", "--with-data", "--yes"],
        &["r1 left no rollback point", "without --with-data"],
    );
    assert_eq!(site.production(), now);
    site.ok(&["rollback", "--yes"]);
    assert_eq!(tree(&site), expected_tree(&site, "1.0"));
    site.says(3, &["rollback", "--yes"], &["the rollback of r1"]);
}

#[test]
fn on_mariadb_data_comes_back_to_the_last_row_or_stays_to_the_last_row() {
    let options = Options { players: 200, cron: false, ..Options::default() };
    let site = common::Site::start(&options, Account::Ordinary);
    site.check_out("1.1");
    site.ok(&["deploy", "1.1", "--yes"]);
    let play = || {
        use mysql::prelude::Queryable;
        let mut database = site.taverne.mariadb.root();
        let table = &site.taverne.database.name;
        database.query_drop(format!("UPDATE {table}.players SET gold = gold + 1")).unwrap();
    };
    play();
    let text = site.ok(&["rollback", "--with-data", "--yes"]);
    assert!(text.contains("of play since"), "{text}");
    site.assert_tree("1.0");
    // What the hooks dumped of the quiet database: before 1.1 changed it, and after it went back.
    assert_same_data("with data", &site.dump_at("closed", "r1"), &site.dump_at("opened", "r2"));

    site.ok(&["deploy", "--yes"]);
    site.assert_tree("1.1");
    play();
    site.ok(&["rollback", "--yes"]);
    site.assert_tree("1.0");
    let stayed = site.dump_at("closed", "r4");
    assert_same_data("without data", &stayed, &site.dump_at("opened", "r4"));
    assert!(stayed.contains("market"), "what the script of 1.1 did is still there");
}
