//! Backups of the three kinds of databases, proven by restoring; and what a second day costs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use entracte_backup::{Kind, Reason, Repository, Retention};
use entracte_db::{
    Contents, MariadbSettings, Placeholders, PostgresSettings, Settings, SqliteSettings,
    TableContents,
};
use entracte_model::journal::FaultKind;
use entracte_release::target::{Announce, Backup, Hooks, Layout, Pace};
use entracte_release::{Target, backups};
use entracte_testbed::mariadb::Mariadb;
use entracte_testbed::postgres::Postgres;
use mysql::prelude::Queryable;

/// Enough that single rows are far apart in the dump, and little enough for a test.
const ROWS: u64 = 60_000;
/// One row of this many is another one the next day: 0.05 %.
const ONE_OF: u64 = 2_000;
/// What the second day may add, in hundredths of what the first one took.
const SECOND_DAY_PERCENT_MAX: u64 = 15;

struct Place {
    dir: tempfile::TempDir,
    target: Target,
}

impl Place {
    fn new(database: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        let target = Target {
            project: "taverne".into(),
            environment: "production".into(),
            game_name: "Taverne".into(),
            root: dir.path().join("no-tree"),
            persist: vec![],
            volatile: vec![],
            hardlink: false,
            layout: Layout::default(),
            point: None,
            placeholders: Placeholders::default(),
            database: Some(database),
            front: None,
            gate_socket: state.join("gate.sock"),
            gate_state: state.join("gate"),
            gate_url: "http://127.0.0.1:1".into(),
            trusted_keys: vec![],
            hooks: Hooks::default(),
            smoke: vec![],
            smoke_passes: 1,
            rehearse: entracte_release::rehearse::Serve::default(),
            pace: Pace {
                notice_ms: 0,
                drain_ms: 0,
                hold_ms: 0,
                fence_ms: 20_000,
                ramp_ms: 0,
                watch_ms: 0,
            },
            backup: Backup {
                repository: state.join("backup"),
                password_file: state.join("backup.password"),
                retention: Retention::default(),
            },
            announce: Announce::default(),
            keep: 1,
            state,
        };
        Self { dir, target }
    }

    fn take(&self) -> entracte_backup::Snapshot {
        let go_on = AtomicBool::new(false);
        let taken = backups::take(&self.target, None, Reason::Manual, &go_on, &mut |_, _, _, _| {});
        taken.unwrap().into_iter().find(|snapshot| snapshot.kind == Kind::Database).unwrap()
    }

    fn check(&self) -> Result<Option<backups::Proof>, entracte_model::journal::Fault> {
        backups::check(&self.target, &self.dir.path().join("scratch"), None, &mut |_, _, _, _| {})
    }

    fn packed(&self) -> u64 {
        sizes(&self.target.backup.repository.join("dumps/data"))
    }

    /// A backup, its proof, a day with few changes, and what that costs; then a backup that does
    /// not bring back what it should.
    fn first_and_second_day(&self, change: impl FnOnce()) {
        let day_one = self.take();
        let proof = self.check().unwrap().unwrap();
        assert!(proof.compared && proof.rows >= ROWS, "{proof:?}");
        let first = self.packed();

        change();
        let second = self.take();
        let added = self.packed() - first;
        println!("{} bytes: {first} packed, {added} more on the second day", second.bytes);
        assert!(added * 100 <= first * SECOND_DAY_PERCENT_MAX, "{added} after {first}");
        let proof = self.check().unwrap().unwrap();
        assert_eq!(proof.snapshot, second.short);
        self.restic_reads(&second);
        self.a_difference_is_found(&second.id);
        assert!(self.expected_ms() > 0);
        self.comes_back_live(&day_one.id);
    }

    /// The first day again in the live database, and the second one kept in a backup.
    fn comes_back_live(&self, id: &str) {
        let mut quiet = |_: u64, _: u64, _: &str, _: &str| {};
        let restored = backups::restore_live(&self.target, None, id, &mut quiet);
        let (restored, before) = restored.unwrap();
        assert_eq!(restored.id, id);
        assert!(before.id != id && before.kind == Kind::Database);
        let mut live = entracte_db::open(self.target.database.as_ref().unwrap()).unwrap();
        let found = live.dump_with_contents(&mut std::io::sink(), &mut |_| {}).unwrap().1;
        let backup = &self.target.backup;
        let repository = Repository::open(&backup.repository, &backup.password_file).unwrap();
        let words = repository.contents(id).unwrap().unwrap();
        let expected: Contents = serde_json::from_slice(&words).unwrap();
        assert_eq!(expected.differences(&found), Vec::<String>::new());
        let words = repository.contents(&before.id).unwrap().unwrap();
        let kept: Contents = serde_json::from_slice(&words).unwrap();
        assert!(!kept.differences(&found).is_empty(), "the second day was not kept");
    }

    /// What the last resort would take is known from the proof.
    fn expected_ms(&self) -> u64 {
        let list = backups::list(&self.target).unwrap();
        backups::last_resort(&list).unwrap().0
    }

    fn restic_reads(&self, snapshot: &entracte_backup::Snapshot) {
        let restic = |args: &[&str]| {
            let done = Command::new("restic")
                .arg("-r")
                .arg(self.target.backup.repository.join("dumps"))
                .arg("--password-file")
                .arg(&self.target.backup.password_file)
                .arg("--no-cache")
                .args(args)
                .output()
                .expect("restic is needed: run cargo xtask setup");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            done.stdout
        };
        restic(&["check", "--read-data"]);
        let theirs = restic(&["dump", &snapshot.id, &format!("/{}", snapshot.name)]);
        let file = self.dir.path().join("ours");
        backups::extract(&self.target, &snapshot.id, &file, &mut |_, _, _, _| {}).unwrap();
        assert!(fs::read(&file).unwrap() == theirs);
        fs::remove_file(&file).unwrap();
    }

    /// A row that was there when the backup was taken and does not come back.
    fn a_difference_is_found(&self, id: &str) {
        let backup = &self.target.backup;
        let repository = Repository::open(&backup.repository, &backup.password_file).unwrap();
        let words = repository.contents(id).unwrap().unwrap();
        let mut contents: Contents = serde_json::from_slice(&words).unwrap();
        let table = contents.tables.values_mut().find(|table| table.rows == ROWS).unwrap();
        table.rows += 1;
        contents.tables.insert("forgotten".into(), TableContents::default());
        repository.keep_contents(id, &serde_json::to_vec(&contents).unwrap()).unwrap();
        let fault = self.check().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Broken);
        let said = fault.message;
        assert!(said.contains("60001 rows are expected, 60000 came back"), "{said}");
        assert!(said.contains("table forgotten is missing"), "{said}");
        repository.keep_contents(id, &words).unwrap();
    }
}

fn sizes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.metadata().unwrap() {
            meta if meta.is_dir() => sizes(&entry.path()),
            meta => meta.len(),
        })
        .sum()
}

#[test]
fn mariadb() {
    let server = Mariadb::start();
    server.create_database("game", "game", "secret");
    let mut root = server.root();
    for sql in [
        "USE game",
        "CREATE TABLE players (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(40), mail VARCHAR(80),
             gold INT, seen DATETIME, note TEXT) ENGINE=InnoDB",
        "INSERT INTO players SELECT seq, CONCAT('Joueur ', seq), CONCAT(MD5(seq), '@example.org'),
             (seq * 7919) MOD 100000, '2022-01-01' + INTERVAL seq SECOND, CONCAT('a\nb ', MD5(seq * 3))
             FROM seq_1_to_60000",
        "CREATE TABLE log (id INT PRIMARY KEY, text TEXT) ENGINE=InnoDB",
        "CREATE VIEW rich AS SELECT id, gold FROM players WHERE gold > 50000",
        "CREATE USER gone@localhost",
        "GRANT ALL ON game.* TO gone@localhost",
        // A body whose lines look like rows of the dump.
        "CREATE DEFINER = gone@localhost TRIGGER bought AFTER UPDATE ON players FOR EACH ROW
BEGIN
INSERT INTO `log` VALUES (NULL, 'x');
END",
        "DROP TRIGGER bought",
        "CREATE DEFINER = gone@localhost TRIGGER bought BEFORE UPDATE ON players FOR EACH ROW
BEGIN
SET NEW.seen = NEW.seen;
END",
        "CREATE DEFINER = gone@localhost PROCEDURE pay() UPDATE players SET gold = gold + 1",
        "CREATE DEFINER = gone@localhost FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN n * 2",
        "CREATE DEFINER = gone@localhost EVENT daily ON SCHEDULE EVERY 1 DAY DISABLE DO CALL pay()",
        // Whoever defined them is on no other server, and soon not on this one.
        "DROP USER gone@localhost",
    ] {
        root.query_drop(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
    }
    let place = Place::new(Settings::Mariadb(MariadbSettings {
        socket: Some(server.socket().to_owned()),
        host: None,
        port: server.port(),
        user: "root".into(),
        password: "".into(),
        database: "game".into(),
        data_dir: None,
        game_users: vec![],
    }));
    place.first_and_second_day(move || {
        root.query_drop("DROP TRIGGER bought").unwrap();
        let change = format!("UPDATE players SET gold = 7 WHERE (id * 7919) MOD {ONE_OF} = 0");
        root.query_drop(change).unwrap();
    });
    // Routines and events are in it, which the program's own defaults leave out.
    let newest = backups::list(&place.target).unwrap().remove(0);
    let file = place.dir.path().join("dump");
    backups::extract(&place.target, &newest.id, &file, &mut |_, _, _, _| {}).unwrap();
    let text = String::from_utf8(fs::read(&file).unwrap()).unwrap();
    for word in ["PROCEDURE `pay`", "FUNCTION `twice`", "EVENT `daily`", "VIEW `rich`"] {
        assert!(text.contains(word), "{word} is missing");
    }
}

#[test]
fn postgres() {
    let server = Postgres::start();
    server.create_database("game", "game", "secret", "CREATEDB");
    let mut client = server.root("game");
    client
        .batch_execute(
            "SET ROLE game;
             CREATE TABLE players (id int PRIMARY KEY, name text, mail text, gold int, note text);
             INSERT INTO players SELECT n, 'Joueur ' || n, md5(n::text) || '@example.org',
                 (n * 7919) % 100000, E'a\\nb ' || md5((n * 3)::text) FROM generate_series(1, 60000) n;
             CREATE SEQUENCE tickets START 42;
             CREATE VIEW rich AS SELECT id FROM players WHERE gold > 50000;
             CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT n * 2';",
        )
        .unwrap();
    let place = Place::new(Settings::Postgres(PostgresSettings {
        socket_dir: Some(server.socket_dir().to_owned()),
        host: None,
        port: server.port(),
        user: "game".into(),
        password: "secret".into(),
        database: "game".into(),
        game_users: vec![],
    }));
    place.first_and_second_day(move || {
        let change = format!("UPDATE players SET gold = 7 WHERE (id * 7919) % {ONE_OF} = 0");
        client.batch_execute(&change).unwrap();
    });
}

#[test]
fn sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("game.sqlite");
    let game = rusqlite::Connection::open(&path).unwrap();
    game.execute_batch(
        "PRAGMA journal_mode = WAL;
         CREATE TABLE players (id INTEGER PRIMARY KEY, name TEXT, mail TEXT, gold INT, note TEXT);
         CREATE INDEX by_name ON players (name);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
             INSERT INTO players SELECT i, 'Joueur ' || i, hex(i * 7919) || hex(i * 104729) || '@example.org',
                 (i * 7919) % 100000, 'note ' || hex(i * 31) || hex(i * 977) FROM n;
         CREATE TRIGGER kept BEFORE DELETE ON players BEGIN SELECT RAISE(ABORT, 'kept'); END;",
    )
    .unwrap();
    let place = Place::new(Settings::Sqlite(SqliteSettings { path }));
    place.first_and_second_day(move || {
        let change = format!("UPDATE players SET gold = 7 WHERE (id * 7919) % {ONE_OF} = 0");
        game.execute_batch(&change).unwrap();
    });
}
