//! Random pairs of schemas on MariaDB.

use std::fmt::Write;

use entracte_db::{MariadbSettings, Settings};
use entracte_testbed::mariadb::Mariadb;
use mysql::prelude::Queryable;

use super::pairs::{Dice, all_bridged, make, old_becomes_new, run};

const SEEDS: u64 = 8;

fn database(server: &Mariadb, name: &str) -> Settings {
    let mut root = server.root();
    root.query_drop(format!("DROP DATABASE IF EXISTS `{name}`")).unwrap();
    root.query_drop(format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4")).unwrap();
    Settings::Mariadb(MariadbSettings {
        socket: Some(server.socket().to_owned()),
        host: None,
        port: 0,
        user: "root".to_owned(),
        password: "".into(),
        database: name.to_owned(),
        data_dir: None,
        game_users: Vec::new(),
    })
}

#[test]
fn every_pair_of_schemas_is_bridged() {
    let server = Mariadb::start();
    all_bridged(SEEDS, |seed| {
        let (old, new) = (schema(seed * 2 + 1), schema(seed * 2 + 2));
        let of = |name: &str, sql: &str| {
            let settings = database(&server, name);
            make(&settings, sql);
            settings
        };
        let (a, trial, b) = (of("a", &old), of("trial", &old), of("development", &new));
        old_becomes_new(&a, &trial, &b)
    });
}

#[test]
fn a_small_change_is_a_small_statement_and_loss_is_marked() {
    let server = Mariadb::start();
    let (old, trial, new) =
        (database(&server, "a"), database(&server, "trial"), database(&server, "development"));
    let table = "CREATE TABLE players (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(20)";
    for settings in [&old, &trial] {
        run(settings, &format!("{table}, gold INT) AUTO_INCREMENT = 77;"));
    }
    run(&new, &format!("{table}, coins INT, KEY by_name (name));"));
    let wanted = entracte_db::compare::snapshot(&new).unwrap();
    let proposal = entracte_db::compare::propose(&trial, &wanted, &[]).unwrap();
    let said: Vec<(&str, Option<&str>)> =
        proposal.steps.iter().map(|step| (step.sql.as_str(), step.loses.as_deref())).collect();
    assert_eq!(
        said,
        [
            (
                "ALTER TABLE `players` ADD COLUMN `coins` int(11) DEFAULT NULL AFTER `name`, \
                 ADD KEY `by_name` (`name`);",
                None
            ),
            ("ALTER TABLE `players` DROP COLUMN `gold`;", Some("of the table players: gold")),
        ]
    );
}

/// Everything that a database can hold, by chance.
fn schema(seed: u64) -> String {
    let mut dice = Dice(seed);
    let mut sql = String::new();
    for name in ["s0", "s1"] {
        if !dice.one_in(3) {
            let by = dice.pick(&["1", "5", "10"]);
            let cycle = dice.pick(&["NOCYCLE", "CYCLE"]);
            writeln!(sql, "CREATE SEQUENCE {name} INCREMENT BY {by} CACHE {by} {cycle};").unwrap();
        }
    }
    let has_sequence = sql.contains("SEQUENCE s0");
    let mut tables: Vec<(String, bool)> = Vec::new();
    for number in 0..5 {
        if dice.one_in(5) {
            continue;
        }
        let name = format!("t{number}");
        let parents: Vec<&str> =
            tables.iter().filter(|(_, innodb)| *innodb).map(|(name, _)| name.as_str()).collect();
        let (text, is_parent) = table(&mut dice, &name, &parents, has_sequence);
        sql += &text;
        tables.push((name, is_parent));
    }
    if dice.one_in(2) {
        sql += "CREATE TABLE old_rows (x INT, since TIMESTAMP(6) GENERATED ALWAYS AS ROW START,
                until TIMESTAMP(6) GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (since, until))
                WITH SYSTEM VERSIONING;\n";
    }
    let first = tables.first().map_or("(SELECT 1 AS id) x".to_owned(), |(name, _)| name.clone());
    programs(&mut dice, &tables, &first, &mut sql);
    sql
}

const COLUMNS: [&str; 11] = [
    "INT",
    "BIGINT UNSIGNED NOT NULL DEFAULT 3",
    "VARCHAR(20) DEFAULT 'it''s; a ,(b'",
    "VARCHAR(40) CHARACTER SET latin1",
    "TEXT COMMENT 'a; b, c'",
    "DECIMAL(10,2) NOT NULL DEFAULT 1.50",
    "DATETIME DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP",
    "ENUM('x','y') NOT NULL DEFAULT 'y'",
    "JSON",
    "INT CHECK (c0 IS NULL OR c0 > 0)",
    "INT INVISIBLE DEFAULT 4",
];

fn table(dice: &mut Dice, name: &str, parents: &[&str], sequence: bool) -> (String, bool) {
    let engine = dice.pick(&["InnoDB", "InnoDB", "InnoDB", "MyISAM", "Aria"]);
    let innodb = engine == "InnoDB";
    let partitioned = dice.one_in(4);
    let counts = dice.pick(&[" AUTO_INCREMENT", ""]);
    let mut items = vec![format!("id INT NOT NULL{counts} PRIMARY KEY")];
    let start = dice.below(5);
    let mut present = Vec::new();
    for at in 0..5 {
        let column = (start + at) % 5;
        if dice.one_in(3) {
            continue;
        }
        let kind = COLUMNS[dice.below(COLUMNS.len())];
        let kind = kind.replace("c0", &format!("c{column}"));
        items.push(format!("c{column} {kind}"));
        present.push((column, kind));
    }
    if dice.one_in(2) && !present.is_empty() {
        let (column, _) = present[0];
        let stored = dice.pick(&["VIRTUAL", "STORED"]);
        items.push(format!("g VARCHAR(90) GENERATED ALWAYS AS (CONCAT(c{column}, '!')) {stored}"));
    }
    if sequence && dice.one_in(3) {
        items.push("n BIGINT DEFAULT NEXTVAL(s0)".to_owned());
    }
    for (column, kind) in &present {
        if kind.starts_with("INT") && dice.one_in(2) {
            let unique = if partitioned { "" } else { dice.pick(&["", "UNIQUE "]) };
            items.push(format!("{unique}KEY k{column} (c{column}, id)"));
        }
        if kind.starts_with("TEXT") && dice.one_in(2) && !partitioned {
            items.push(format!("FULLTEXT KEY words{column} (c{column})"));
        }
    }
    if counts.is_empty() && dice.one_in(2) {
        let bound = dice.pick(&["0", "1"]);
        items.push(format!("CONSTRAINT positive CHECK (id > {bound} OR 'a;\"b' = 'x')"));
    }
    if innodb && !partitioned && !parents.is_empty() && !dice.one_in(3) {
        let parent = dice.pick(parents);
        let action = dice.pick(&["CASCADE", "SET NULL"]);
        items.push("p INT".to_owned());
        items.push(format!(
            "CONSTRAINT {name}_fk FOREIGN KEY (p) REFERENCES {parent} (id) ON DELETE {action}"
        ));
    }
    let mut options = format!("ENGINE={engine}");
    if dice.one_in(3) {
        options += dice.pick(&[" COMMENT='a''b = c'", " COMMENT='d'"]);
    }
    if dice.one_in(3) {
        options += dice.pick(&[" DEFAULT CHARSET=latin1", " COLLATE=utf8mb4_bin"]);
    }
    if innodb && dice.one_in(4) {
        options += dice.pick(&[" ROW_FORMAT=COMPACT", " ROW_FORMAT=DYNAMIC"]);
    }
    if innodb && !partitioned && dice.one_in(5) {
        options += " WITH SYSTEM VERSIONING";
    }
    if partitioned {
        options += dice.pick(&[
            " PARTITION BY HASH (id) PARTITIONS 3",
            " PARTITION BY RANGE (id) (PARTITION low VALUES LESS THAN (10), PARTITION high VALUES LESS THAN MAXVALUE)",
        ]);
    }
    let text = format!("CREATE TABLE {name} (\n  {}\n) {options};\n", items.join(",\n  "));
    (text, innodb && !partitioned)
}

fn programs(dice: &mut Dice, tables: &[(String, bool)], first: &str, sql: &mut String) {
    for name in ["f0", "f1"] {
        if !dice.one_in(3) {
            let value = dice.pick(&["1", "2"]);
            writeln!(
                sql,
                "DELIMITER //\nCREATE FUNCTION {name}(x INT) RETURNS INT DETERMINISTIC\nBEGIN\n  \
                 IF x > {value} THEN RETURN x; END IF;\n  RETURN {value};\nEND//\nDELIMITER ;"
            )
            .unwrap();
        }
    }
    if dice.one_in(2) {
        let word = dice.pick(&["'a'", "'b;'"]);
        writeln!(sql, "CREATE PROCEDURE pay(IN who INT) SELECT {word}, who;").unwrap();
    }
    // Views of views, named so that the one that is needed stands behind.
    if !dice.one_in(3) {
        let extra = dice.pick(&["", ", 2 AS two"]);
        writeln!(sql, "CREATE VIEW v9 AS SELECT id{extra} FROM {first};").unwrap();
        if !dice.one_in(3) {
            let more = dice.pick(&["id", "id + 1 AS id"]);
            writeln!(sql, "CREATE SQL SECURITY INVOKER VIEW v1 AS SELECT {more} FROM v9;").unwrap();
        }
    }
    for (table, _) in tables {
        for name in ["x", "y"] {
            if dice.one_in(3) {
                let moment = dice.pick(&["BEFORE INSERT", "BEFORE INSERT", "AFTER DELETE"]);
                let value = dice.pick(&["1", "2"]);
                writeln!(
                    sql,
                    "DELIMITER $$\nCREATE TRIGGER {table}_{name} {moment} ON {table} FOR EACH ROW\n\
                     BEGIN\n  SET @a = {value}; -- why\n  SET @b = '$';\nEND$$\nDELIMITER ;"
                )
                .unwrap();
            }
        }
    }
    if dice.one_in(2) {
        let every = dice.pick(&["1 DAY", "2 HOUR"]);
        let state = dice.pick(&["ENABLE", "DISABLE"]);
        writeln!(sql, "CREATE EVENT nightly ON SCHEDULE EVERY {every} {state} DO SET @c = 1;")
            .unwrap();
    }
}
