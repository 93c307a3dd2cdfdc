//! The point that is prepared while the game runs: exact whatever the game does meanwhile.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use entracte_db::{Database, PointWay};

use crate::child;
use crate::fixture::{Fixture, Game, quiet, run};
use crate::point::DAMAGE_MARIADB;

/// Tables of some thousand pages, as the fixture's own have one each.
const BIG: &str = "
CREATE TABLE big (id INT AUTO_INCREMENT PRIMARY KEY, n INT NOT NULL, t VARCHAR(400), KEY (n));
INSERT INTO big (n, t) SELECT seq % 97, REPEAT(CHAR(65 + seq % 26), 300) FROM seq_1_to_30000;
CREATE TABLE still (id INT PRIMARY KEY, t VARCHAR(400));
INSERT INTO still SELECT seq, REPEAT('s', 300) FROM seq_1_to_5000;
CREATE TABLE squeezed (id INT PRIMARY KEY, t TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4;
INSERT INTO squeezed SELECT seq, REPEAT('q', 900) FROM seq_1_to_3000;
CREATE TABLE emptied (id INT AUTO_INCREMENT PRIMARY KEY, t TEXT);
INSERT INTO emptied (t) SELECT REPEAT('e', 200) FROM seq_1_to_3000;
CREATE TABLE rebuilt (id INT PRIMARY KEY, t TEXT);
INSERT INTO rebuilt SELECT seq, REPEAT('r', 200) FROM seq_1_to_3000;
CREATE TABLE goes (id INT PRIMARY KEY);
";

fn big() -> (Fixture, Box<dyn Database>) {
    let fixture = Fixture::mariadb_admin();
    let mut database = fixture.seeded();
    run(&mut *database, &[BIG]).unwrap();
    (fixture, database)
}

/// What a game does: scattered changes, new pages, pages given up.
fn play(game: &mut Game, round: u32) {
    game.run(&format!("UPDATE big SET n = n + 1, t = REVERSE(t) WHERE id % 211 = {round}"));
    game.run(&format!("DELETE FROM big WHERE id BETWEEN {0} AND {0} + 300", round * 900 + 1));
    game.run("INSERT INTO big (n, t) SELECT seq, REPEAT('n', 350) FROM seq_1_to_400");
    game.run(&format!("UPDATE squeezed SET t = REPEAT('z', 800) WHERE id % 53 = {round}"));
}

#[test]
fn a_point_that_was_prepared_while_the_game_wrote_is_exact() {
    let (fixture, mut database) = big();
    let dir = fixture.path().join("point");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut game = fixture.as_the_game();
        let over = &over;
        let player = scope.spawn(move || {
            let mut round = 0;
            // Pages are written, and half written, while they are copied.
            while !over.load(Ordering::SeqCst) {
                play(&mut game, round % 20);
                round += 1;
            }
        });
        for _ in 0..4 {
            assert!(database.prepare_point(&dir, &mut quiet).unwrap().unwrap() > 0);
        }
        over.store(true, Ordering::SeqCst);
        player.join().unwrap();
    });
    let mut game = fixture.as_the_game();
    play(&mut game, 30);
    game.run("TRUNCATE emptied; INSERT INTO emptied (t) VALUES ('x')");
    game.run("ALTER TABLE rebuilt FORCE, ADD KEY (t(9))");
    game.run("DROP TABLE goes");
    game.run("CREATE TABLE comes (id INT PRIMARY KEY); INSERT INTO comes VALUES (1)");
    let sums = database.sums().unwrap();
    let point = database.take_point(&dir, &mut quiet).unwrap();
    assert!(matches!(point.way, PointWay::MariadbFiles(_)), "{:?}", point.notes);
    assert!(!dir.join("ahead").exists());
    assert_eq!(database.sums().unwrap(), sums);
    run(
        &mut *database,
        &[
            DAMAGE_MARIADB,
            "DELETE FROM big WHERE id % 3 = 0; UPDATE still SET t = 'x'; DROP TABLE squeezed;
             DROP TABLE emptied; ALTER TABLE rebuilt DROP COLUMN t; TRUNCATE comes;",
        ],
    )
    .unwrap();
    database.restore_point(&point, &mut quiet).unwrap();
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
}

#[test]
fn what_a_dead_process_prepared_is_not_believed() {
    let (fixture, mut database) = big();
    let dir = fixture.path().join("point");
    assert!(child::killed_at(&fixture, "prepare", &dir, 1));
    assert!(!dir.join("ahead/ahead.json").exists() && dir.join("ahead").exists());
    play(&mut fixture.as_the_game(), 1);
    // Prepared as a whole, and then taken by a process that dies in the middle of it.
    assert!(database.prepare_point(&dir, &mut quiet).unwrap().unwrap() > 0);
    assert!(dir.join("ahead/ahead.json").exists());
    assert!(child::killed_at(&fixture, "take", &dir, 2));
    assert!(!dir.join("ahead/ahead.json").exists());
    assert_eq!(database.probe_point(&dir).unwrap(), None);
    play(&mut fixture.as_the_game(), 2);
    let sums = database.sums().unwrap();
    let point = database.take_point(&dir, &mut quiet).unwrap();
    run(&mut *database, &["DELETE FROM big; DELETE FROM still; DROP TABLE squeezed;"]).unwrap();
    database.restore_point(&point, &mut quiet).unwrap();
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
}

#[test]
fn copies_of_another_database_are_not_believed() {
    let (fixture, mut database) = big();
    let dir = fixture.path().join("point");
    assert!(database.prepare_point(&dir, &mut quiet).unwrap().unwrap() > 0);
    let ledger = dir.join("ahead/ahead.json");
    let text = fs::read_to_string(&ledger).unwrap();
    fs::write(&ledger, text.replace("mariadb game_", "mariadb other_")).unwrap();
    // Another game's pages under our names: what they hold must not matter.
    fs::write(dir.join("ahead/still.ibd"), b"something else").unwrap();
    let sums = database.sums().unwrap();
    let point = database.take_point(&dir, &mut quiet).unwrap();
    run(&mut *database, &["DELETE FROM still;"]).unwrap();
    database.restore_point(&point, &mut quiet).unwrap();
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
}
