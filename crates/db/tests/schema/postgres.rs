//! Random pairs of schemas on PostgreSQL.

use std::fmt::Write;

use entracte_db::{PostgresSettings, Settings};
use entracte_testbed::postgres::Postgres;

use super::pairs::{Dice, all_bridged, make, old_becomes_new};

const SEEDS: u64 = 8;

pub fn database(server: &Postgres, name: &str) -> Settings {
    let mut root = server.root("postgres");
    root.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).unwrap();
    root.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
    Settings::Postgres(PostgresSettings {
        socket_dir: Some(server.socket_dir().to_owned()),
        host: None,
        port: server.port(),
        user: "postgres".to_owned(),
        password: "".into(),
        database: name.to_owned(),
        game_users: Vec::new(),
    })
}

/// What was granted on `name`, as the server keeps it.
fn granted(server: &Postgres, database: &str, sql: &str) -> Vec<String> {
    let rows = server.root(database).query(sql, &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn what_is_made_again_has_the_rights_that_were_granted_on_it() {
    let server = Postgres::start();
    server.root("postgres").batch_execute("CREATE ROLE \"a player\"; CREATE ROLE clerk").unwrap();
    let old = "CREATE TABLE players (id int, gold int);
        CREATE VIEW rich AS SELECT id, gold FROM players WHERE gold > 10;
        CREATE VIEW richer AS SELECT id FROM rich WHERE gold > 20;
        CREATE FUNCTION worth(x int) RETURNS int LANGUAGE sql AS 'SELECT x';
        CREATE VIEW gone AS SELECT 1 AS one;
        REVOKE ALL ON FUNCTION worth(int) FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION worth(int) TO clerk;
        GRANT SELECT ON rich TO \"a player\" WITH GRANT OPTION; GRANT SELECT ON gone TO clerk;
        GRANT SELECT, UPDATE ON richer TO clerk; GRANT SELECT (id) ON players TO PUBLIC;";
    let new = "CREATE TABLE players (id int, gold bigint, name text);
        CREATE VIEW rich AS SELECT id, gold FROM players WHERE gold > 11;
        CREATE VIEW richer AS SELECT id FROM rich WHERE gold > 20;
        CREATE FUNCTION worth(x int) RETURNS bigint LANGUAGE sql AS 'SELECT x::bigint';";
    let (a, trial, b) =
        (database(&server, "a"), database(&server, "trial"), database(&server, "b"));
    make(&a, old);
    make(&trial, old);
    make(&b, new);
    let wanted = entracte_db::compare::snapshot(&b).unwrap();
    let proposal = entracte_db::compare::propose(&trial, &wanted, &[]).unwrap();
    assert!(proposal.left.is_empty() && proposal.refused.is_empty(), "{proposal:?}");
    let again: Vec<_> = proposal.steps.iter().filter(|step| step.sql.contains("GRANT ")).collect();
    assert!(!again.is_empty(), "{proposal:?}");
    // On the other copy, as a person would run it.
    for step in &proposal.steps {
        make(&a, &step.sql);
    }
    for database in ["a", "trial"] {
        let relations = granted(
            &server,
            database,
            "SELECT concat(relname, ' ', relacl) FROM pg_class
             WHERE relname IN ('rich', 'richer') ORDER BY 1",
        );
        assert_eq!(
            relations,
            [
                "rich {postgres=arwdDxt/postgres,\"\\\"a player\\\"=r*/postgres\"}",
                "richer {postgres=arwdDxt/postgres,clerk=rw/postgres}"
            ]
        );
        let routine = "SELECT concat(proacl) FROM pg_proc WHERE proname = 'worth'";
        assert_eq!(granted(&server, database, routine), ["{postgres=X/postgres,clerk=X/postgres}"]);
    }
}

#[test]
fn every_pair_of_schemas_is_bridged() {
    let server = Postgres::start();
    all_bridged(SEEDS, |seed| {
        let of = |name: &str, sql: &str| {
            let settings = database(&server, name);
            make(&settings, sql);
            settings
        };
        let (old, new) = (schema(seed * 2 + 1), schema(seed * 2 + 2));
        let (a, trial, b) = (of("a", &old), of("trial", &old), of("b", &new));
        old_becomes_new(&a, &trial, &b)
    });
}

fn schema(seed: u64) -> String {
    let mut dice = Dice(seed);
    let mut sql = String::new();
    if dice.one_in(2) {
        sql += "CREATE SCHEMA far;\nCREATE TABLE far.away (id int);\n";
    }
    if dice.one_in(2) {
        sql += "CREATE EXTENSION pgcrypto;\n";
    }
    let labels = dice.pick(&["'a', 'b'", "'a', 'x', 'b', 'c'", "'b', 'd'"]);
    writeln!(sql, "CREATE TYPE mood AS ENUM ({labels});").unwrap();
    let base = dice.pick(&["int", "int", "bigint"]);
    let rule = dice.pick(&[
        "DEFAULT 1 CONSTRAINT up CHECK (VALUE > 0)",
        "NOT NULL",
        "CONSTRAINT up CHECK (VALUE > 1)",
    ]);
    writeln!(sql, "CREATE DOMAIN points AS {base} {rule};").unwrap();
    let attributes = dice.pick(&["a int, b text", "b varchar, c int"]);
    writeln!(sql, "CREATE TYPE pair AS ({attributes});").unwrap();
    let value = dice.pick(&["1", "2"]);
    let result = dice.pick(&["int", "bigint"]);
    writeln!(
        sql,
        "CREATE FUNCTION one(x int) RETURNS {result} IMMUTABLE LANGUAGE sql AS $f$ SELECT {value}::{result}; $f$;
         CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; -- {value}\n END $$;"
    )
    .unwrap();
    if dice.one_in(2) {
        writeln!(sql, "CREATE PROCEDURE pay(who int) LANGUAGE sql AS 'SELECT {value}';").unwrap();
        sql += "CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);\n";
    }
    let by = dice.pick(&["1", "5"]);
    let cycle = dice.pick(&["", "CYCLE"]);
    writeln!(sql, "CREATE SEQUENCE counter INCREMENT {by} MAXVALUE 9999 {cycle};").unwrap();
    let mut tables = Vec::new();
    for name in ["t0", "t1", "\"Order\"", "t3"] {
        if !dice.one_in(5) {
            sql += &table(&mut dice, name, &tables);
            tables.push(name);
        }
    }
    partitions(&mut dice, &mut sql);
    if let Some(first) = tables.first() {
        above(&mut dice, first, &mut sql);
    }
    for (at, name) in tables.iter().enumerate() {
        around(&mut dice, at, name, &mut sql);
    }
    sql
}

fn table(dice: &mut Dice, name: &str, parents: &[&str]) -> String {
    const COLUMNS: [&str; 12] = [
        "int",
        "bigint NOT NULL DEFAULT 3",
        "varchar(20) DEFAULT 'it''s; a ,(b'",
        "text COLLATE \"C\"",
        "numeric(10,2) NOT NULL DEFAULT 1.5",
        "timestamptz DEFAULT now()",
        "mood DEFAULT 'b'",
        "points",
        "pair",
        "jsonb",
        "int[]",
        "int CHECK (id > 0)",
    ];
    let identity = dice.pick(&[
        "int GENERATED ALWAYS AS IDENTITY",
        "serial",
        "bigint GENERATED BY DEFAULT AS IDENTITY (INCREMENT 2)",
        "bigint DEFAULT nextval('counter')",
    ]);
    let mut items = vec![format!("id {identity} PRIMARY KEY")];
    let start = dice.below(5);
    for at in 0..5 {
        if !dice.one_in(3) {
            let kind = COLUMNS[dice.below(COLUMNS.len())];
            items.push(format!("c{} {kind}", (start + at) % 5));
        }
    }
    if dice.one_in(2) {
        let expression = dice.pick(&["id * 2", "id + 1"]);
        items.push(format!("g bigint GENERATED ALWAYS AS ({expression}) STORED"));
    }
    if !parents.is_empty() && dice.one_in(2) {
        let parent = dice.pick(parents);
        let action = dice.pick(&["CASCADE", "SET NULL DEFERRABLE"]);
        items.push(format!("p int REFERENCES {parent} (id) ON DELETE {action}"));
    }
    if dice.one_in(3) {
        let bound = dice.pick(&["0", "1"]);
        items.push(format!("CONSTRAINT sane CHECK (id > {bound} OR 'a;b' = 'c')"));
    }
    let head =
        dice.pick(&["CREATE TABLE", "CREATE TABLE", "CREATE TABLE", "CREATE UNLOGGED TABLE"]);
    // A logged table cannot lead to one that a crash empties.
    let head = if parents.is_empty() && name != "t0" { head } else { "CREATE TABLE" };
    let options = dice.pick(&["", "", " WITH (fillfactor = 70)", " WITH (fillfactor = 80)"]);
    let head =
        if items.iter().any(|item| item.contains("REFERENCES")) { "CREATE TABLE" } else { head };
    format!("{head} {name} (\n  {}\n){options};\n", items.join(",\n  "))
}

fn partitions(dice: &mut Dice, sql: &mut String) {
    if dice.one_in(4) {
        return;
    }
    let extra = dice.pick(&["", ", note text", ", note varchar(9) DEFAULT 'x'"]);
    let key = dice.pick(&["", ", PRIMARY KEY (id, y)"]);
    writeln!(
        sql,
        "CREATE TABLE log (id int NOT NULL, y int NOT NULL{extra}{key}) PARTITION BY RANGE (y);"
    )
    .unwrap();
    let until = dice.pick(&["10", "20"]);
    writeln!(sql, "CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (1) TO ({until});").unwrap();
    if dice.one_in(2) {
        sql.push_str("CREATE TABLE log_rest PARTITION OF log DEFAULT;\n");
    }
    if dice.one_in(2) {
        sql.push_str("CREATE INDEX log_y ON log (y);\n");
    }
    if dice.one_in(2) {
        let more = dice.pick(&["", "more int"]);
        writeln!(
            sql,
            "CREATE TABLE base (id int, b text);\nCREATE TABLE child ({more}) INHERITS (base);"
        )
        .unwrap();
    }
}

/// Views, and what hangs on them.
fn above(dice: &mut Dice, first: &str, sql: &mut String) {
    if dice.one_in(4) {
        return;
    }
    let more = dice.pick(&["", ", 2 AS two"]);
    writeln!(sql, "CREATE VIEW v9 AS SELECT *{more} FROM {first};").unwrap();
    writeln!(sql, "CREATE VIEW v1 AS SELECT id FROM v9;").unwrap();
    if dice.one_in(2) {
        sql.push_str("CREATE MATERIALIZED VIEW kept AS SELECT id FROM v1;\nCREATE INDEX kept_id ON kept (id);\n");
    }
    if dice.one_in(2) {
        sql.push_str("COMMENT ON VIEW v1 IS 'on; top';\nGRANT SELECT ON v1 TO PUBLIC;\n");
    }
}

/// What hangs on a table.
fn around(dice: &mut Dice, at: usize, name: &str, sql: &mut String) {
    if dice.one_in(2) {
        let what = dice.pick(&["(id DESC)", "(id) WHERE id > 3", "((id + 1))", "USING hash (id)"]);
        let unique = if what == "USING hash (id)" { "" } else { dice.pick(&["", "UNIQUE "]) };
        writeln!(sql, "CREATE {unique}INDEX i{at} ON {name} {what};").unwrap();
    }
    if dice.one_in(2) {
        let when = dice.pick(&["BEFORE INSERT", "AFTER UPDATE OF id"]);
        writeln!(
            sql,
            "CREATE TRIGGER fires {when} ON {name} FOR EACH ROW EXECUTE FUNCTION fired();"
        )
        .unwrap();
    }
    if dice.one_in(3) {
        let text = dice.pick(&["a IS b; c", "d"]);
        writeln!(
            sql,
            "COMMENT ON TABLE {name} IS '{text}';\nCOMMENT ON COLUMN {name}.id IS '{text}';"
        )
        .unwrap();
    }
    if dice.one_in(3) {
        let what = dice.pick(&["id > 0", "id > 1"]);
        writeln!(
            sql,
            "CREATE POLICY own ON {name} USING ({what});\nALTER TABLE {name} ENABLE ROW LEVEL SECURITY;"
        )
        .unwrap();
    }
    if dice.one_in(4) {
        writeln!(
            sql,
            "CREATE RULE quiet AS ON DELETE TO {name} WHERE old.id = 3 DO INSTEAD NOTHING;"
        )
        .unwrap();
    }
    if dice.one_in(4) {
        let target = dice.pick(&["100", "200"]);
        writeln!(
            sql,
            "ALTER TABLE {name} ALTER id SET STATISTICS {target};\nALTER TABLE {name} REPLICA IDENTITY FULL;"
        )
        .unwrap();
    }
}
