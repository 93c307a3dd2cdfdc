//! Private instances for rehearsals.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use entracte_db::{MariadbSettings, Nowhere, Script, Secret, Settings, open, scratch};
use entracte_testbed::mariadb::Mariadb;
use entracte_testbed::process::{START_MS_MAX, runs, wait_until};
use mysql::prelude::Queryable;

fn settings(server: &Mariadb) -> Settings {
    server.create_database("taverne", "taverne", "geheim");
    Settings::Mariadb(MariadbSettings {
        socket: Some(server.socket().to_owned()),
        host: None,
        port: 0,
        user: "taverne".to_owned(),
        password: Secret::new("geheim"),
        database: "taverne".to_owned(),
        data_dir: None,
        game_users: Vec::new(),
    })
}

fn pid(dir: &Path) -> u32 {
    fs::read_to_string(dir.join("pid")).unwrap().trim().parse().unwrap()
}

#[test]
fn it_behaves_as_the_live_server_and_is_gone_afterwards() {
    let live = Mariadb::start_with(&["--sql-mode=ANSI_QUOTES,NO_ZERO_DATE"]);
    let live_settings = settings(&live);
    live.root().query_drop("ALTER DATABASE taverne COLLATE latin1_german1_ci").unwrap();
    // Deeper than the path of a socket may be long.
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(120));
    let scratch = scratch::start(&live_settings, &deep).unwrap();
    assert!(scratch.notes().is_empty(), "{:?}", scratch.notes());
    let mut database = open(scratch.settings()).unwrap();
    let sql = "SELECT @@sql_mode, @@collation_database, @@skip_networking, @@version = VERSION()";
    let row = database.query(sql).unwrap().remove(0);
    assert_eq!(
        row[..3],
        ["ANSI_QUOTES,NO_ZERO_DATE", "latin1_german1_ci", "1"].map(|s| Some(s.to_owned()))
    );
    // Scripts in it read no file of the machine, though its server may run as root.
    let read = database.query("SELECT LOAD_FILE('/etc/hostname') IS NULL").unwrap();
    assert_eq!(read, [[Some("1".to_owned())]]);
    let first = pid(&deep);
    // Starting again in the same place starts empty.
    let script = Script::held("x", b"CREATE TABLE \"t\" (a INT)");
    database.run_scripts(&[script], &mut Nowhere, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert_eq!(database.sums().unwrap().tables.len(), 1);
    drop(scratch);
    assert!(wait_until(START_MS_MAX, || !runs(first)), "still there: {first}");
    // The live server is out of reach by now: that is a note, not an end.
    drop(live);
    let scratch = scratch::start(&live_settings, &deep).unwrap();
    assert!(scratch.notes()[0].contains("could not be asked"), "{:?}", scratch.notes());
    assert!(open(scratch.settings()).unwrap().sums().unwrap().tables.is_empty());
}
