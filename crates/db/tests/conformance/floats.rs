//! FLOAT columns, which MariaDB and its dump programs write with six digits: they come back to the
//! last bit all the same.

use std::collections::BTreeSet;

use entracte_db::{Database, PointWay, open, scratch};
use mysql::prelude::Queryable;
use mysql::{Row, Value};

use crate::fixture::{Fixture, Game, quiet, run};

const TABLES: &str = "
CREATE TABLE floats (id INT PRIMARY KEY, f FLOAT, u FLOAT UNSIGNED, d FLOAT(7,4),
  hidden FLOAT NOT NULL DEFAULT 0 INVISIBLE, `a``b, c` FLOAT, g FLOAT AS (f) STORED, w DOUBLE);
CREATE TABLE keyed (f FLOAT PRIMARY KEY, n INT);
CREATE TABLE `ta``ble` (`from` FLOAT, t TEXT);
";
const MYISAM: &str = "CREATE TABLE moved (f FLOAT) ENGINE=MyISAM;";
const PAST: &str = "CREATE TABLE past (id INT PRIMARY KEY, f FLOAT) WITH SYSTEM VERSIONING;";
const ALL: &str = "SELECT id, f, u, d, hidden, `a``b, c`, g, w FROM floats ORDER BY id";
const KEYED: &str = "SELECT f, n FROM keyed ORDER BY n";
const ROWS: u32 = 3_000;

/// Every kind of number of this format, the same ones in every run.
fn numbers() -> impl Iterator<Item = f32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let random = std::iter::from_fn(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(f32::from_bits(u32::try_from(state >> 32).unwrap()))
    });
    let special =
        [f32::MAX, f32::MIN, f32::MIN_POSITIVE, f32::from_bits(1), 16_777_217.0, 0.1, 0.0];
    special.into_iter().chain(random).filter(|number| number.is_finite())
}

fn filled(fixture: &Fixture) -> Box<dyn Database> {
    let mut database = fixture.open();
    run(&mut *database, &[TABLES]).unwrap();
    let Game::Mariadb(mut game) = fixture.as_the_game() else { unreachable!() };
    let mut numbers = numbers();
    let mut keys = BTreeSet::new();
    game.query_drop("BEGIN").unwrap();
    for id in 0..ROWS {
        let mut next = || numbers.next().unwrap();
        let (f, u, hidden, named) = (next(), next().abs(), next(), next());
        let small = f32::from_bits(f.to_bits() & 0x007f_ffff | 0x4300_0000);
        let sql = "INSERT INTO floats (id, f, u, d, hidden, `a``b, c`, w) VALUES (?,?,?,?,?,?,?)";
        let wide = f64::from(f) / 3.0;
        game.exec_drop(sql, (id, f, u, small, hidden, named, wide)).unwrap();
        if keys.insert(named.to_bits()) {
            game.exec_drop("INSERT INTO keyed VALUES (?,?)", (named, id)).unwrap();
        }
        game.exec_drop("INSERT INTO `ta``ble` VALUES (?, 'x')", (hidden,)).unwrap();
    }
    game.query_drop("COMMIT").unwrap();
    database
}

/// All values as the server keeps them.
fn values(fixture: &Fixture) -> Vec<Vec<Value>> {
    let Game::Mariadb(mut game) = fixture.as_the_game() else { unreachable!() };
    let mut found = Vec::new();
    for sql in [ALL, KEYED, "SELECT `from`, t FROM `ta``ble`"] {
        let rows: Vec<Row> = game.exec(sql, ()).unwrap();
        found.extend(rows.into_iter().map(Row::unwrap));
    }
    assert!(found.len() > 2 * ROWS as usize);
    found
}

fn is_exact(fixture: &Fixture, wanted: &[Vec<Value>]) {
    let found = values(fixture);
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!(found, wanted);
    }
}

/// Takes the point, spoils every value, and goes back.
fn point_is_exact(fixture: &Fixture, prepare: bool) -> PointWay {
    let mut database = filled(fixture);
    let dir = fixture.path().join("point");
    if prepare {
        assert!(database.prepare_point(&dir, &mut quiet).unwrap().is_some());
        let Game::Mariadb(mut game) = fixture.as_the_game() else { unreachable!() };
        game.query_drop("UPDATE floats SET f = -f, u = u / 3 WHERE id % 7 = 0").unwrap();
    }
    let (before, sums) = (values(fixture), database.sums().unwrap());
    let proof = database.fence(std::time::Duration::from_secs(30), &mut |_| {}).unwrap();
    let point = database.take_point(&dir, &mut quiet).unwrap();
    assert!(point.notes.iter().all(|note| !note.contains("FLOAT")), "{:?}", point.notes);
    database.unfence(Some(&proof)).unwrap();
    run(&mut *database, &["UPDATE floats SET f = 1; DROP TABLE keyed;"]).unwrap();
    database.restore_point(&point, &mut quiet).unwrap();
    is_exact(fixture, &before);
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
    point.way
}

#[test]
fn a_point_that_is_a_dump_keeps_every_bit() {
    let way = point_is_exact(&Fixture::mariadb_user(), false);
    assert!(matches!(way, PointWay::MariadbDump(_)), "{way:?}");
}

#[test]
fn a_point_of_a_dump_and_the_binary_log_keeps_every_bit() {
    let way = point_is_exact(&Fixture::mariadb_binlog(), true);
    assert!(matches!(way, PointWay::MariadbBinlog(_)), "{way:?}");
}

#[test]
fn a_point_of_files_keeps_every_bit_of_the_tables_that_it_dumps() {
    let fixture = Fixture::mariadb_admin();
    run(&mut *fixture.open(), &[MYISAM]).unwrap();
    fixture.as_the_game().run("INSERT INTO moved VALUES (0.12345678), (16777217)");
    let way = point_is_exact(&fixture, false);
    let PointWay::MariadbFiles(about) = way else { panic!("{way:?}") };
    assert_eq!(about.dumped, ["moved"]);
}

#[test]
fn a_backup_keeps_every_bit_with_the_rows_of_the_past() {
    let fixture = Fixture::mariadb_admin();
    let mut database = filled(&fixture);
    run(&mut *database, &[PAST]).unwrap();
    let Game::Mariadb(mut game) = fixture.as_the_game() else { unreachable!() };
    for number in numbers().take(300) {
        game.exec_drop("REPLACE INTO past VALUES (1, ?)", (number,)).unwrap();
    }
    let (before, sums) = (values(&fixture), database.sums().unwrap());
    let mut dump = Vec::new();
    database.dump(&mut dump, &mut quiet).unwrap();
    let scratch = scratch::start(&fixture.settings, &fixture.path().join("scratch")).unwrap();
    let mut copy = open(scratch.settings()).unwrap();
    copy.load(&mut dump.as_slice(), &mut quiet).unwrap();
    assert_eq!(sums.differences(&copy.sums().unwrap()), Vec::<String>::new());
    // What the sums say is what the server keeps: one bit of a FLOAT makes another sum.
    game.query_drop("UPDATE past SET f = 0.12345678").unwrap();
    let one = database.sums().unwrap();
    game.query_drop("DELETE HISTORY FROM past; UPDATE past SET f = 0.1234567").unwrap();
    let another = database.sums().unwrap();
    assert!(one.differences(&another).iter().any(|line| line.contains("past")));
    database.load(&mut dump.as_slice(), &mut quiet).unwrap();
    is_exact(&fixture, &before);
}

#[test]
fn a_server_that_is_reached_over_the_network_is_dumped_exactly_too() {
    let mut fixture = Fixture::mariadb_user();
    filled(&fixture);
    let before = values(&fixture);
    let settings = fixture.mariadb_settings_mut();
    let socket = settings.socket.take();
    settings.host = Some("localhost".to_owned());
    let mut database = fixture.open();
    let mut dump = Vec::new();
    database.dump(&mut dump, &mut quiet).unwrap();
    run(&mut *database, &["UPDATE floats SET f = 1; DROP TABLE keyed;"]).unwrap();
    database.load(&mut dump.as_slice(), &mut quiet).unwrap();
    fixture.mariadb_settings_mut().socket = socket;
    is_exact(&fixture, &before);
}
