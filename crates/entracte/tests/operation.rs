//! A production day by day: the door by hand, planned releases, freezes, daily backups.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod site;

use entracte_testbed::process::wait_until;
use site::{PATIENCE_MS, Site};

#[test]
fn the_gate_moves_by_hand_but_not_under_a_release() {
    let mut site = Site::new();
    site.up();
    assert_eq!(site.json(0, &["gate", "status"])["phase"], "open");
    let close = ["gate", "close", "--for", "10min", "--message", "The database moves house"];
    site.says(0, &close, &["closed", "by hand", "expected back at"]);
    let answer = site.browser().get("/").unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("The database moves house"), "{}", answer.text());
    assert!(answer.header("retry-after").is_some());

    let pass = site.json(0, &["gate", "pass", "--minutes", "5"]);
    let (name, value) = (pass["header"].as_str().unwrap(), pass["value"].as_str().unwrap());
    let tester = site.browser().always(name, value).get("/").unwrap();
    assert_eq!((tester.status, tester.text().trim()), (200, "<h1>The inn</h1>"));
    assert!(pass["link"].as_str().unwrap().starts_with(&site.url));

    site.says(3, &["gate", "drain"], &["closed cannot become draining"]);
    site.says(0, &["gate", "open"], &["open"]);
    assert_eq!(site.get("/").0, 200);
    site.says(0, &["gate", "drain"], &["draining"]);
    site.ok(&["gate", "open"]);
    site.says(2, &["gate", "close", "--for", "soon"], &["expected a duration such as"]);

    // One that only waits for its time leaves the gate alone; one that was interrupted does not.
    site.develop("1.1");
    site.ok(&["deploy", "1.1", "--yes", "--at", "2999-01-01T04:30"]);
    site.ok(&["gate", "drain"]);
    site.ok(&["gate", "open"]);
    site.ok(&["abort"]);
    site.edit("watch = \"0s\"", "watch = \"60s\"");
    site.ok(&["deploy", "1.1", "--yes", "--detach"]);
    site.says(7, &["gate", "close"], &["r1 is not finished", "--force"]);
    site.says(7, &["deploy", "1.1", "--yes"], &["r1 is at work", "nothing was changed"]);
    site.says(7, &["rollback", "--yes"], &["r1 is at work"]);
    site.says(7, &["init", "--production-version", "1.0"], &["r1"]);
    assert_eq!(site.json(7, &["resume"])["exit"], 7);
}

#[test]
fn a_planned_release_starts_by_itself_and_another_is_called_off() {
    let mut site = Site::new();
    site.develop("1.1");
    site.says(2, &["deploy", "--yes", "--at", "soon"], &["is no time", "04:30"]);
    site.says(2, &["deploy", "--yes", "--at", "2020-01-01T00:00"], &["is over"]);
    assert!(!site.dev.join("dist").join("inn-1.1.0.tar.zst").exists(), "refused before packing");
    let planned = ["deploy", "1.1", "--yes", "--at", "2999-01-01T04:30"];
    site.says(
        0,
        &planned,
        &["r1 will start at 2999-01-01 04:30:00", "nothing runs that would start it"],
    );
    site.says(7, &["deploy", "--yes"], &["r1 is planned for", "`entracte abort` calls it off"]);
    site.says(0, &["history"], &["planned for 2999-01-01"]);
    site.says(0, &["log"], &["nothing has happened yet"]);
    site.says(0, &["abort"], &["r1 was called off"]);
    site.says(0, &["history"], &["no release yet"]);
    site.up();
    site.says(
        3,
        &["deploy", "1.1", "--yes", "--at", "quietest"],
        &["not seen a whole day", "--at"],
    );
    let soon = site.exits(0, &["deploy", "1.1", "--yes", "--at", "+2s"]);
    assert!(!soon.contains("nothing runs"), "{soon}");
    let live = wait_until(PATIENCE_MS, || {
        site.json(0, &["history"])[0]["outcome"]["outcome"] == "released"
    });
    assert!(live, "{}", site.up_log());
    assert!(site.up_log().contains("taking up r1"));
    site.says(0, &["verify"], &["exactly 1.1.0"]);
}

#[test]
fn a_freeze_stops_everybody_until_it_ends() {
    let mut site = Site::new();
    site.up();
    site.develop("1.1");
    site.says(2, &["history", "--freeze", " "], &["why?"]);
    site.says(0, &["history", "--freeze", "tournament until Sunday"], &["--unfreeze"]);
    let before = site.production();
    site.says(3, &["deploy", "1.1", "--yes"], &["frozen: tournament until Sunday"]);
    site.says(0, &["history"], &["frozen: tournament until Sunday"]);
    assert_eq!(site.json(0, &["status"])["frozen"], "tournament until Sunday");
    assert_eq!(site.production(), before);
    site.ok(&["history", "--unfreeze"]);
    site.ok(&["deploy", "1.1", "--yes"]);
}

#[test]
fn the_daily_backup_is_taken_once_a_day() {
    let mut site = Site::new();
    site.edit("daily_at = \"23:59\"", "daily_at = \"00:00\"");
    site.up();
    let list = |site: &Site| site.json(0, &["backup", "list"]);
    let taken = wait_until(PATIENCE_MS, || site.up_log().contains("daily backup: 2 snapshots"));
    assert!(taken, "{}", site.up_log());
    assert_eq!(list(&site)[0]["tags"]["reason"], "daily");
    let first = list(&site);
    site.down();
    site.up();
    // A release takes its own; the day's own is not taken again.
    site.develop("1.1");
    site.ok(&["deploy", "1.1", "--yes"]);
    assert_eq!(site.up_log().matches("daily backup").count(), 1, "{}", site.up_log());
    assert!(list(&site).as_array().unwrap().len() > first.as_array().unwrap().len());
}
