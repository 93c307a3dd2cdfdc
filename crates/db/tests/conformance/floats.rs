//! Numbers with a point come back to the last bit, by every way: random patterns of all that is
//! finite, read as bits and never as text.

use std::fmt::Debug;

use entracte_db::{Database, PointWay, open, scratch};
use mysql::prelude::Queryable;

use crate::fixture::{Fixture, Game, quiet, run};

const ROWS: usize = 3_000;

/// Numbers of splitmix64: the same at every run.
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn f32(&mut self) -> f32 {
        loop {
            let number = f32::from_bits((self.next() >> 32) as u32);
            if number.is_finite() {
                return number;
            }
        }
    }

    fn f64(&mut self) -> f64 {
        loop {
            let number = f64::from_bits(self.next());
            if number.is_finite() {
                return number;
            }
        }
    }
}

/// The ends of what there is, numbers that six digits do not tell, and random ones.
fn numbers() -> Vec<(f32, f64)> {
    let mut numbers = vec![
        (0.0, 0.0),
        (-0.0, -0.0),
        (f32::MAX, f64::MAX),
        (f32::MIN, f64::MIN),
        (f32::MIN_POSITIVE, f64::MIN_POSITIVE),
        (f32::from_bits(1), f64::from_bits(1)),
        (-f32::from_bits(0x7f_ffff), -f64::from_bits(0xf_ffff_ffff_ffff)),
        (0.1, 0.1),
        (16_777_215.0, 9_007_199_254_740_991.0),
        (1.0 + f32::EPSILON, 1.0 + f64::EPSILON),
    ];
    let mut bits = Bits(20_261_126);
    // Those of a game, and those of everywhere.
    numbers.extend((0..ROWS / 2).map(|_| {
        let n = bits.next();
        ((n % 20_000_000) as f32 / 1_000.0, (n % 20_000_000_000) as f64 / 1_000_000.0)
    }));
    numbers.extend((0..ROWS / 2).map(|_| (bits.f32(), bits.f64())));
    numbers
}

fn write(game: &mut Game, from: usize, numbers: &[(f32, f64)]) {
    let ids = i32::try_from(from).unwrap()..;
    match game {
        Game::Sqlite(connection) => {
            let all = connection.transaction().unwrap();
            let mut insert = all.prepare("INSERT INTO moves VALUES (?, ?, ?)").unwrap();
            for (id, (short, long)) in ids.zip(numbers) {
                insert.execute((id, short, long)).unwrap();
            }
            drop(insert);
            all.commit().unwrap();
        }
        Game::Mariadb(connection) => {
            let rows = ids.zip(numbers).map(|(id, (short, long))| (id, short, long));
            connection.query_drop("BEGIN").unwrap();
            let sql = "INSERT INTO moves (id, short, `lo``ng`) VALUES (?, ?, ?)";
            connection.exec_batch(sql, rows).unwrap();
            connection.query_drop("COMMIT").unwrap();
        }
        Game::Postgres(client) => {
            let mut all = client.transaction().unwrap();
            let insert = all.prepare("INSERT INTO moves VALUES ($1, $2, $3)").unwrap();
            for (id, (short, long)) in ids.zip(numbers) {
                all.execute(&insert, &[&id, short, long]).unwrap();
            }
            all.commit().unwrap();
        }
    }
}

fn read(game: &mut Game) -> Vec<(u32, u64)> {
    match game {
        Game::Sqlite(connection) => {
            let mut all = connection.prepare("SELECT short, long FROM moves ORDER BY id").unwrap();
            let row = |row: &rusqlite::Row| Ok((row.get::<_, f32>(0)?, row.get::<_, f64>(1)?));
            let rows = all.query_map([], row).unwrap().map(Result::unwrap);
            rows.map(|(short, long)| (short.to_bits(), long.to_bits())).collect()
        }
        Game::Mariadb(connection) => {
            let sql = "SELECT short, `lo``ng` FROM moves ORDER BY id";
            let rows: Vec<(f32, f64)> = connection.exec(sql, ()).unwrap();
            rows.iter().map(|(short, long)| (short.to_bits(), long.to_bits())).collect()
        }
        Game::Postgres(client) => {
            let rows = client.query("SELECT short, long FROM moves ORDER BY id", &[]).unwrap();
            let bits = |row: &postgres::Row| {
                (row.get::<_, f32>(0).to_bits(), row.get::<_, f64>(1).to_bits())
            };
            rows.iter().map(bits).collect()
        }
    }
}

fn same<T: PartialEq + Debug>(found: &[T], expected: &[T]) {
    let other = found.iter().zip(expected).position(|(found, expected)| found != expected);
    if let Some(at) = other {
        panic!("row {at}: {:x?} is expected, {:x?} came back", expected[at], found[at]);
    }
    assert_eq!(found.len(), expected.len());
}

fn moves(fixture: &Fixture) -> Box<dyn Database> {
    let mut database = fixture.open();
    let table = fixture.either(
        "CREATE TABLE moves (id INTEGER PRIMARY KEY, short REAL, long REAL);",
        "CREATE TABLE moves (id INT PRIMARY KEY, short FLOAT, `lo``ng` DOUBLE);",
        "CREATE TABLE moves (id int PRIMARY KEY, short real, long double precision);",
    );
    run(&mut *database, &[table]).unwrap();
    database
}

pub fn numbers_come_back_to_the_last_bit(fixture: &Fixture) {
    let mut database = moves(fixture);
    write(&mut fixture.as_the_game(), 0, &numbers());
    let (expected, sums) = (read(&mut fixture.as_the_game()), database.sums().unwrap());
    assert!(expected[2] == (f32::MAX.to_bits(), f64::MAX.to_bits()), "{:x?}", expected[2]);
    let point = database.take_point(&fixture.path().join("point"), &mut quiet).unwrap();
    run(&mut *database, &["UPDATE moves SET short = 0 WHERE id < 100; DELETE FROM moves;"])
        .unwrap();
    database.restore_point(&point, &mut quiet).unwrap();
    same(&read(&mut fixture.as_the_game()), &expected);
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
    let mut dump = Vec::new();
    let (_, held) = database.dump_with_contents(&mut dump, &mut quiet).unwrap();
    run(&mut *database, &["DROP TABLE moves;"]).unwrap();
    database.load(&mut dump.as_slice(), &mut quiet).unwrap();
    same(&read(&mut fixture.as_the_game()), &expected);
    let (_, came_back) = database.dump_with_contents(&mut std::io::sink(), &mut quiet).unwrap();
    assert_eq!(held.differences(&came_back), Vec::<String>::new());
    // What proves it sees the last bit.
    let next = f32::from_bits(expected[20].0 ^ 1);
    let mut game = fixture.as_the_game();
    run(&mut *database, &["DELETE FROM moves WHERE id = 20;"]).unwrap();
    write(&mut game, 20, &[(next, f64::from_bits(expected[20].1))]);
    drop(game);
    assert_eq!(sums.differences(&database.sums().unwrap()).len(), 1);
    let (_, other) = database.dump_with_contents(&mut std::io::sink(), &mut quiet).unwrap();
    assert_eq!(held.differences(&other).len(), 1);
}

#[test]
fn what_is_logged_after_a_dump_comes_back_to_the_last_bit() {
    let fixture = Fixture::mariadb_binlog();
    let mut database = moves(&fixture);
    // Where rows have no key, the server finds them by all their columns.
    run(&mut *database, &["CREATE TABLE keyless (f FLOAT, d DOUBLE);"]).unwrap();
    let (numbers, mut game) = (numbers(), fixture.as_the_game());
    let dir = fixture.path().join("point");
    write(&mut game, 0, &numbers[..ROWS / 3]);
    game.run("INSERT INTO keyless SELECT short, `lo``ng` FROM moves");
    database.prepare_point(&dir, &mut quiet).unwrap();
    write(&mut game, ROWS / 3, &numbers[ROWS / 3..]);
    game.run("UPDATE moves SET short = short / 3 WHERE id % 7 = 0");
    game.run("UPDATE keyless SET f = f / 3, d = d / 3 WHERE ABS(f) < 1 OR f > 1000");
    game.run("DELETE FROM keyless WHERE f BETWEEN 0.001 AND 0.3");
    let (expected, sums) = (read(&mut game), database.sums().unwrap());
    let point = database.take_point(&dir, &mut quiet).unwrap();
    assert!(matches!(point.way, PointWay::MariadbBinlog(_)), "{:?}", point.notes);
    run(&mut *database, &["DROP TABLE moves; DELETE FROM keyless;"]).unwrap();
    database.restore_point(&point, &mut quiet).unwrap();
    same(&read(&mut game), &expected);
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
}

/// Every kind of FLOAT and of table around it.
const ODD: &str = "
CREATE TABLE `o``dd, x` (id INT, `f``, f` FLOAT NOT NULL, few FLOAT(7,4), plus FLOAT UNSIGNED, zeros FLOAT ZEROFILL,
  hidden FLOAT INVISIBLE, half FLOAT AS (few / 3) VIRTUAL, third FLOAT AS (few / 3) STORED, PRIMARY KEY (`f``, f`));
CREATE TABLE past (id INT PRIMARY KEY, f FLOAT) WITH SYSTEM VERSIONING;
CREATE TABLE isam (f FLOAT, g DOUBLE, b BLOB) ENGINE=MyISAM;
CREATE TABLE merged (f FLOAT, g DOUBLE, b BLOB) ENGINE=MRG_MyISAM UNION=(isam);
CREATE TABLE empty (f FLOAT);
CREATE VIEW seen AS SELECT f / 3 AS f FROM past;
INSERT INTO past SELECT seq, seq / 7 FROM seq_1_to_100;
UPDATE past SET f = f / 3;
INSERT INTO `o``dd, x` (id, `f``, f`, few, plus, zeros, hidden) SELECT seq, seq / 7, seq / 13, seq / 17, seq / 19,
  seq / 23 FROM seq_1_to_300;
INSERT INTO isam SELECT seq / 7, seq / 11, CHAR(seq) FROM seq_1_to_255;
";

#[test]
fn floats_of_every_kind_come_back_from_a_dump_over_a_socket_and_over_tcp() {
    let mut fixture = Fixture::mariadb_user();
    let mut database = fixture.open();
    run(&mut *database, &[ODD]).unwrap();
    let sums = database.sums().unwrap();
    let mut game = fixture.as_the_game();
    let read = |game: &mut Game| {
        let Game::Mariadb(connection) = game else { unreachable!() };
        let mut all = Vec::new();
        for sql in [
            "SELECT `f``, f`, few, plus, zeros, hidden, half, third FROM `o``dd, x` ORDER BY id",
            "SELECT f FROM past FOR SYSTEM_TIME ALL ORDER BY id, row_start",
            "SELECT f, g FROM isam ORDER BY b",
        ] {
            let rows: Vec<mysql::Row> = connection.exec(sql, ()).unwrap();
            all.extend(rows.into_iter().map(|row| format!("{:?}", row.unwrap())));
        }
        all
    };
    let expected = read(&mut game);
    assert_eq!(expected.len(), 300 + 200 + 255);
    for over_tcp in [false, true] {
        if over_tcp {
            let settings = fixture.mariadb_settings_mut();
            settings.socket = None;
            settings.host = Some("127.0.0.1".to_owned());
            database = fixture.open();
        }
        let dir = fixture.path().join(format!("point-{over_tcp}"));
        let point = database.take_point(&dir, &mut quiet).unwrap();
        assert!(matches!(point.way, PointWay::MariadbDump(_)));
        assert!(!point.notes.iter().any(|note| note.contains("FLOAT")), "{:?}", point.notes);
        run(&mut *database, &["DELETE FROM past; DROP TABLE `o``dd, x`; DELETE FROM isam;"])
            .unwrap();
        database.restore_point(&point, &mut quiet).unwrap();
        same(&read(&mut game), &expected);
        assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
    }
    let mut dump = Vec::new();
    database.dump(&mut dump, &mut quiet).unwrap();
    let scratch = scratch::start(&fixture.settings, &fixture.path().join("scratch")).unwrap();
    let mut copy = open(scratch.settings()).unwrap();
    copy.load(&mut dump.as_slice(), &mut quiet).unwrap();
    assert_eq!(sums.differences(&copy.sums().unwrap()), Vec::<String>::new());
    // The sums see the last bit where the rows are summed up by us, too.
    for sql in [
        "UPDATE `o``dd, x` SET hidden = hidden * (1 + 6e-8) WHERE id = 7",
        "UPDATE `o``dd, x` SET plus = plus * (1 + 6e-8) WHERE id = 7",
        "UPDATE past SET f = f * (1 + 6e-8) WHERE id = 1",
        "UPDATE isam SET f = f * (1 + 6e-8) WHERE b = CHAR(200)",
    ] {
        let before = database.sums().unwrap();
        game.run(sql);
        assert_ne!(before.differences(&database.sums().unwrap()), Vec::<String>::new(), "{sql}");
    }
}
