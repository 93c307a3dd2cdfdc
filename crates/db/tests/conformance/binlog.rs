//! The point of a dump made ahead and the binary log since: exact, or another way with the reason.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use entracte_db::{Database, Point, PointWay};
use entracte_model::way::{Way, Wish};
use entracte_testbed::process::wait_until;

use crate::child;
use crate::fixture::{Fixture, Game, chain, logging_server, quiet, run};
use crate::point::DAMAGE_MARIADB;

const BIG: &str = "
CREATE TABLE big (id INT AUTO_INCREMENT PRIMARY KEY, n INT NOT NULL, t VARCHAR(400), KEY (n));
INSERT INTO big (n, t) SELECT seq % 97, REPEAT(CHAR(65 + seq % 26), 300) FROM seq_1_to_1500;
CREATE TABLE keyless (a INT, b TEXT, at DATETIME(6), m DECIMAL(20,4));
INSERT INTO keyless SELECT seq % 7, 'twice', '2026-01-02 03:04:05.678901', 1.5 FROM seq_1_to_40;
CREATE TABLE emptied (id INT AUTO_INCREMENT PRIMARY KEY, t TEXT);
INSERT INTO emptied (t) VALUES ('a'), ('b');
CREATE TABLE letters (t LONGTEXT);
CREATE TABLE numbered (id INT DEFAULT NEXTVAL(tickets) PRIMARY KEY, t TEXT);
";

fn big() -> (Fixture, Box<dyn Database>) {
    big_on(Fixture::mariadb_binlog())
}

fn big_on(fixture: Fixture) -> (Fixture, Box<dyn Database>) {
    let mut database = fixture.seeded();
    run(&mut *database, &[BIG]).unwrap();
    (fixture, database)
}

/// What a game does, with all that a log can tell wrongly: triggers, cascades, sequences,
/// generated columns, rows that are alike, transactions that are undone.
fn play(game: &mut Game, round: u32) {
    game.run(&format!("UPDATE big SET n = n + 1, t = REVERSE(t) WHERE id % 53 = {round}"));
    game.run(&format!("DELETE FROM big WHERE id BETWEEN {0} AND {0} + 30", round * 90 + 1));
    game.run("INSERT INTO big (n, t) SELECT seq, CONCAT('é 🐉 ', seq) FROM seq_1_to_40");
    game.run(&format!("INSERT INTO players (name, gold) VALUES ('late {round}', 0.1 + {round})"));
    game.run("DELETE FROM keyless WHERE a = 3 LIMIT 1");
    game.run("INSERT INTO keyless VALUES (5, 'twice', NOW(6), RAND()), (NULL, NULL, NULL, NULL)");
    game.run("INSERT INTO numbered (t) VALUES ('x'); SELECT NEXTVAL(tickets)");
    game.run("BEGIN; INSERT INTO big (n) VALUES (1); SAVEPOINT a; DELETE FROM big; ROLLBACK TO a");
    game.run("COMMIT; BEGIN; DELETE FROM players; ROLLBACK");
}

fn point_is_exact(database: &mut dyn Database, point: &Point, sums: &entracte_db::Sums) {
    run(database, &[DAMAGE_MARIADB, "DELETE FROM big; DROP TABLE keyless; TRUNCATE numbered;"])
        .unwrap();
    database.restore_point(point, &mut quiet).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
}

#[test]
fn what_was_written_between_the_dump_and_the_fence_comes_back() {
    let (fixture, mut database) = big();
    let dir = fixture.path().join("point");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut game = fixture.as_the_game();
        let over = &over;
        let player = scope.spawn(move || {
            let mut round = 0;
            while !over.load(Ordering::SeqCst) {
                play(&mut game, round);
                round += 1;
            }
        });
        for _ in 0..3 {
            assert!(database.prepare_point(&dir, &mut quiet).unwrap().is_some());
        }
        over.store(true, Ordering::SeqCst);
        player.join().unwrap();
    });
    let mut game = fixture.as_the_game();
    play(&mut game, 99_000);
    // One statement whose rows are more than a packet of the server.
    game.run("UPDATE big SET t = CONCAT(REPEAT('w', 380), id % 7)");
    game.run("DELETE FROM players WHERE id = 1");
    game.run("TRUNCATE emptied; INSERT INTO emptied (t) VALUES ('y')");
    // A log that goes on in another file, and others on the server who do what they like.
    let mut root = fixture.as_root();
    root.run("FLUSH BINARY LOGS");
    root.run("CREATE OR REPLACE DATABASE elsewhere; CREATE TABLE elsewhere.t (a INT)");
    root.run("INSERT INTO elsewhere.t VALUES (1); ALTER TABLE elsewhere.t ADD b INT");
    play(&mut game, 99_001);
    drop(game);
    let proof = database.fence(std::time::Duration::from_secs(30), &mut |_| {}).unwrap();
    let (sums, schema) = (database.sums().unwrap(), database.schema().unwrap());
    let point = database.take_point(&dir, &mut quiet).unwrap();
    assert!(matches!(point.way, PointWay::MariadbBinlog(_)), "{:?}", point.notes);
    assert_eq!(point.notes, Vec::<String>::new());
    assert!(!dir.join("ahead").exists());
    assert_eq!(database.sums().unwrap(), sums);
    assert_eq!(database.probe_point(&dir).unwrap().as_ref(), Some(&point));
    database.unfence(Some(&proof)).unwrap();
    for _ in 0..2 {
        point_is_exact(&mut *database, &point, &sums);
        let differences = schema.differences(&database.schema().unwrap());
        assert!(differences.is_empty(), "{differences:?}");
    }
    // The game's account can enter, and goes on with the next number.
    let next = "SELECT NEXTVAL(tickets)";
    fixture.as_the_game().run(next);
    database.drop_point(&point).unwrap();
    assert!(!dir.exists());
}

#[test]
fn what_a_log_cannot_tell_as_rows_makes_a_dump_in_the_window() {
    let (fixture, mut database) = big();
    let mut game = fixture.as_the_game();
    for (number, sql) in [
        "ALTER TABLE big ADD more INT NOT NULL DEFAULT 3",
        "INSERT INTO letters VALUES (REPEAT('a long letter', 50000))",
    ]
    .into_iter()
    .enumerate()
    {
        let dir = fixture.path().join(format!("point-{number}"));
        assert!(database.prepare_point(&dir, &mut quiet).unwrap().is_some());
        game.run("INSERT INTO big (n, t) VALUES (1, 'before')");
        game.run(sql);
        game.run("INSERT INTO big (n, t) VALUES (1, 'behind')");
        let sums = database.sums().unwrap();
        let point = database.take_point(&dir, &mut quiet).unwrap();
        assert!(matches!(point.way, PointWay::MariadbDump(_)), "{sql}");
        let note = &point.notes[0];
        assert!(note.contains("since the dump") || note.contains("been changed"), "{note}");
        run(&mut *database, &["DELETE FROM big; DROP TABLE emptied;"]).unwrap();
        database.restore_point(&point, &mut quiet).unwrap();
        assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
        // Prepared again, it is a new dump.
        let dir = fixture.path().join(format!("again-{number}"));
        assert!(database.prepare_point(&dir, &mut quiet).unwrap().is_some());
        game.run("INSERT INTO big (n, t) VALUES (1, 'again')");
        database.wish_for(Wish::Only(Way::Binlog));
        let point = database.take_point(&dir, &mut quiet).unwrap();
        assert!(matches!(point.way, PointWay::MariadbBinlog(_)), "{:?}", point.notes);
        database.wish_for(Wish::Any);
    }
}

#[test]
fn whoever_dies_in_the_middle_leaves_no_half_point() {
    let (fixture, mut database) = big();
    let mut game = fixture.as_the_game();
    let dir = fixture.path().join("point");
    assert!(child::killed_at(&fixture, "prepare", &dir, 0));
    assert!(!dir.join("ahead/binlog.json").exists() && dir.join("ahead").exists());
    let mut kills = 0;
    let sums = loop {
        database.prepare_point(&dir, &mut quiet).unwrap();
        play(&mut game, kills);
        let sums = database.sums().unwrap();
        let died = child::killed_at(&fixture, "take", &dir, kills as usize);
        if !died {
            break sums;
        }
        assert_eq!(database.probe_point(&dir).unwrap(), None);
        kills += 1;
    };
    assert!(kills > 1, "{kills}");
    let point = database.probe_point(&dir).unwrap().unwrap();
    assert!(matches!(point.way, PointWay::MariadbBinlog(_)), "{:?}", point.notes);
    run(&mut *database, &[DAMAGE_MARIADB, "DELETE FROM big;"]).unwrap();
    let mut kills = 0;
    while child::killed_at(&fixture, "restore", &dir, kills) {
        kills += 1;
    }
    assert!(kills > 1, "{kills}");
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
    // Killed once more, and then taken up by another process.
    assert!(child::killed_at(&fixture, "restore", &dir, 1));
    database.restore_point(&point, &mut quiet).unwrap();
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
}

#[test]
fn events_that_are_cut_or_gone_are_not_believed() {
    // A server of its own: what is thrown away here others would need.
    let (fixture, mut database) = big_on(Fixture::mariadb_binlog_of(logging_server()));
    let dir = fixture.path().join("point");
    database.prepare_point(&dir, &mut quiet).unwrap();
    let mut game = fixture.as_the_game();
    play(&mut game, 1);
    // The server has thrown away what would have been needed.
    let mut root = fixture.as_root();
    root.run("FLUSH BINARY LOGS");
    play(&mut game, 2);
    let current = root.value("SHOW MASTER STATUS");
    // The server keeps a log until the engine has everything of it on disk.
    assert!(wait_until(60_000, || {
        root.run(&format!("PURGE BINARY LOGS TO '{current}'"));
        root.value("SHOW BINARY LOGS") == current
    }));
    let sums = database.sums().unwrap();
    let point = database.take_point(&dir, &mut quiet).unwrap();
    assert!(matches!(point.way, PointWay::MariadbDump(_)));
    assert!(point.notes[0].contains("has removed its log"), "{:?}", point.notes);
    run(&mut *database, &["DELETE FROM big;"]).unwrap();
    database.restore_point(&point, &mut quiet).unwrap();
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
    // A dump that somebody cut.
    let dir = fixture.path().join("cut");
    database.prepare_point(&dir, &mut quiet).unwrap();
    let dump = dir.join("ahead/dump.sql");
    let text = fs::read(&dump).unwrap();
    fs::write(&dump, &text[..text.len() - 9]).unwrap();
    let point = database.take_point(&dir, &mut quiet).unwrap();
    assert!(point.notes[0].contains("no dump was prepared"), "{:?}", point.notes);
}

#[test]
fn each_way_says_what_it_costs_or_why_it_is_not_open() {
    let (fixture, mut database) = big();
    let why = |database: &mut dyn Database, way: Way| {
        let offers = database.ways(fixture.path()).unwrap();
        offers.iter().find(|offer| offer.way == way).unwrap().obstacle.clone()
    };
    let offers = database.ways(fixture.path()).unwrap();
    assert_eq!(
        offers.iter().map(|o| o.way).collect::<Vec<_>>(),
        [Way::Files, Way::Binlog, Way::Dump]
    );
    assert!(offers[1].window_bytes <= offers[2].window_bytes && offers[2].disk_bytes > 0);
    assert!(offers.iter().all(|offer| offer.free_bytes.is_some_and(|free| free > 0)));
    assert!(why(&mut *database, Way::Files).unwrap().contains("no data directory"));
    assert_eq!(why(&mut *database, Way::Binlog), None);
    assert_eq!(why(&mut *database, Way::Dump), None);
    for (table, reason) in [
        ("CREATE TABLE odd (a INT) ENGINE=MyISAM", "kept by MyISAM"),
        ("CREATE TABLE odd (a INT) WITH SYSTEM VERSIONING", "history"),
    ] {
        run(&mut *database, &[table]).unwrap();
        let found = why(&mut *database, Way::Binlog).unwrap();
        assert!(found.contains("the table odd") && found.contains(reason), "{found}");
        run(&mut *database, &["DROP TABLE odd;"]).unwrap();
    }
    let mut root = fixture.as_root();
    let user = &database.query("SELECT CURRENT_USER()").unwrap()[0][0].clone().unwrap();
    let user = user.replace('@', "'@'");
    root.run(&format!("REVOKE BINLOG REPLAY ON *.* FROM '{user}'"));
    let mut database = fixture.open();
    let found = why(&mut *database, Way::Binlog).unwrap();
    assert!(found.contains("GRANT BINLOG REPLAY ON *.* TO"), "{found}");
    let plain = Fixture::mariadb_user();
    let offers = plain.seeded().ways(plain.path()).unwrap();
    assert!(offers[1].obstacle.as_deref().unwrap().contains("log_bin is OFF"), "{offers:?}");
    let mut other = plain.open();
    other.wish_for(Wish::Only(Way::Files));
    let refused = other.take_point(&plain.path().join("point"), &mut quiet).unwrap_err();
    assert!(chain(&refused).contains("no data directory"), "{}", chain(&refused));
}
