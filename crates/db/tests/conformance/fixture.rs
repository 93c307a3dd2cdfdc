//! A database of each kind, filled like a small game's.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use entracte_db::{
    Database, DbError, MariadbSettings, PostgresSettings, Progress, Script, ScriptsDone, Settings,
    SqliteSettings, StatementAt, StatementLog, open,
};
use entracte_testbed::mariadb::Mariadb;
use entracte_testbed::postgres::Postgres;
use mysql::prelude::Queryable;
use tempfile::TempDir;

pub struct Fixture {
    pub settings: Settings,
    pub dir: TempDir,
    pub server: Option<Arc<Mariadb>>,
    /// Held, so that the server lives as long as its databases are used.
    _postgres: Option<Arc<Postgres>>,
}

/// One server for all tests that run at the same time; it ends with the last of them.
static SERVER: Mutex<Weak<Mariadb>> = Mutex::new(Weak::new());
static LOGGING: Mutex<Weak<Mariadb>> = Mutex::new(Weak::new());
static POSTGRES: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
static NEXT: AtomicU32 = AtomicU32::new(1);

pub fn shared_server() -> Arc<Mariadb> {
    let mut held = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = held.upgrade() {
        return server;
    }
    let server = Arc::new(Mariadb::start());
    *held = Arc::downgrade(&server);
    server
}

/// One that keeps a binary log, row by row.
pub fn logging_server() -> Arc<Mariadb> {
    // Short packets, so that a statement soon is longer than one.
    let options = [
        "--log-bin=binlog",
        "--binlog-format=ROW",
        "--log-bin-trust-function-creators=1",
        "--max-allowed-packet=1M",
    ];
    Arc::new(Mariadb::start_with(&options))
}

fn shared_logging_server() -> Arc<Mariadb> {
    let mut held = LOGGING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = held.upgrade() {
        return server;
    }
    let server = logging_server();
    *held = Arc::downgrade(&server);
    server
}

pub fn shared_postgres() -> Arc<Postgres> {
    let mut held = POSTGRES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = held.upgrade() {
        return server;
    }
    let server = Arc::new(Postgres::start());
    *held = Arc::downgrade(&server);
    server
}

impl Fixture {
    /// The owner of its database, who may create others.
    pub fn postgres_creator() -> Self {
        Self::postgres(shared_postgres(), "CREATEDB")
    }

    /// The owner of its database and of nothing else.
    pub fn postgres_user() -> Self {
        Self::postgres(shared_postgres(), "")
    }

    pub fn postgres(server: Arc<Postgres>, rights: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("game_{number}");
        let password = "secret: 'quoted\\";
        server.create_database(&name, &name, password, rights);
        let settings = Settings::Postgres(PostgresSettings {
            socket_dir: Some(server.socket_dir().to_owned()),
            host: None,
            port: server.port(),
            user: name.clone(),
            password: password.into(),
            database: name,
            game_users: Vec::new(),
        });
        let dir = tempfile::tempdir().unwrap();
        Self { settings, dir, server: None, _postgres: Some(server) }
    }

    pub fn postgres_settings_mut(&mut self) -> &mut PostgresSettings {
        match &mut self.settings {
            Settings::Postgres(settings) => settings,
            other => panic!("a PostgreSQL test on {other:?}"),
        }
    }

    pub fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("game.sqlite");
        std::fs::write(&path, b"").unwrap();
        let settings = Settings::Sqlite(SqliteSettings { path });
        Self { settings, dir, server: None, _postgres: None }
    }

    pub fn mariadb_admin() -> Self {
        let mut fixture = Self::mariadb(shared_server());
        let server = fixture.server.clone().unwrap();
        let settings = fixture.mariadb_settings_mut();
        settings.user = "root".to_owned();
        settings.password = "".into();
        settings.data_dir = Some(server.data_dir().to_owned());
        fixture
    }

    /// An account that may read the binary log, without the data directory.
    pub fn mariadb_binlog() -> Self {
        Self::mariadb_binlog_of(shared_logging_server())
    }

    pub fn mariadb_binlog_of(server: Arc<Mariadb>) -> Self {
        let mut fixture = Self::mariadb(server);
        let user = fixture.mariadb_settings_mut().user.clone();
        let sql = "GRANT REPLICATION SLAVE, BINLOG MONITOR, BINLOG REPLAY ON *.*";
        fixture.as_root().run(&format!("{sql} TO '{user}'@'localhost'"));
        fixture
    }

    /// A session of the administrator, in no database.
    pub fn as_root(&self) -> Game {
        Game::Mariadb(self.server.as_ref().unwrap().root())
    }

    pub fn mariadb_user() -> Self {
        Self::mariadb(shared_server())
    }

    /// A database of its own with an account of its own on the server.
    pub fn mariadb(server: Arc<Mariadb>) -> Self {
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("game_{number}");
        server.create_database(&name, &name, "secret \"quoted\\");
        let settings = Settings::Mariadb(MariadbSettings {
            socket: Some(server.socket().to_owned()),
            host: None,
            port: server.port(),
            user: name.clone(),
            password: "secret \"quoted\\".into(),
            database: name,
            data_dir: None,
            game_users: Vec::new(),
        });
        let dir = tempfile::tempdir().unwrap();
        Self { settings, dir, server: Some(server), _postgres: None }
    }

    pub fn mariadb_settings_mut(&mut self) -> &mut MariadbSettings {
        match &mut self.settings {
            Settings::Mariadb(settings) => settings,
            other => panic!("a MariaDB test on {other:?}"),
        }
    }

    pub fn is_sqlite(&self) -> bool {
        matches!(self.settings, Settings::Sqlite(_))
    }

    pub fn is_mariadb(&self) -> bool {
        matches!(self.settings, Settings::Mariadb(_))
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self.settings, Settings::Postgres(_))
    }

    pub fn open(&self) -> Box<dyn Database> {
        open(&self.settings).unwrap()
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The script for the engine at hand.
    pub fn either<'a>(&self, sqlite: &'a str, mariadb: &'a str, postgres: &'a str) -> &'a str {
        match self.settings {
            Settings::Sqlite(_) => sqlite,
            Settings::Mariadb(_) => mariadb,
            Settings::Postgres(_) => postgres,
        }
    }

    /// Fills the database with a bit of everything.
    pub fn seeded(&self) -> Box<dyn Database> {
        let mut database = self.open();
        run(&mut *database, &[self.either(SEED_SQLITE, SEED_MARIADB, SEED_POSTGRES)]).unwrap();
        database
    }

    /// Executes SQL as the game would, in a session that is its own.
    pub fn as_the_game(&self) -> Game {
        match &self.settings {
            Settings::Sqlite(settings) => {
                Game::Sqlite(rusqlite::Connection::open(&settings.path).unwrap())
            }
            Settings::Mariadb(settings) => {
                let opts = mysql::OptsBuilder::new()
                    .socket(
                        settings.socket.as_ref().map(|path| path.to_string_lossy().into_owned()),
                    )
                    .user(Some(settings.user.as_str()))
                    .pass(Some(settings.password.reveal()))
                    .db_name(Some(settings.database.as_str()));
                Game::Mariadb(mysql::Conn::new(opts).unwrap())
            }
            Settings::Postgres(settings) => {
                let mut config = postgres::Config::new();
                config.host_path(settings.socket_dir.as_ref().unwrap()).port(settings.port);
                config.user(&settings.user).password(settings.password.reveal());
                let client = config.dbname(&settings.database).connect(postgres::NoTls);
                Game::Postgres(client.unwrap())
            }
        }
    }
}

/// A session of the game.
pub enum Game {
    Sqlite(rusqlite::Connection),
    Mariadb(mysql::Conn),
    Postgres(postgres::Client),
}

impl Game {
    /// One short write, if it is let.
    pub fn tick(&mut self) {
        let sql = "INSERT INTO ticks VALUES (1)";
        // Refused while the fence holds a lock, and tried again.
        match self {
            Game::Sqlite(connection) => drop(connection.execute_batch(sql)),
            Game::Mariadb(connection) => drop(connection.query_drop(sql)),
            Game::Postgres(client) => drop(client.batch_execute(sql)),
        }
    }

    /// The first value that a question is answered with.
    pub fn value(&mut self, sql: &str) -> String {
        match self {
            Game::Mariadb(connection) => {
                let row: mysql::Row = connection.query_first(sql).unwrap().unwrap();
                row.get(0).unwrap()
            }
            _ => unreachable!("asked of MariaDB only"),
        }
    }

    pub fn run(&mut self, sql: &str) {
        match self {
            Game::Sqlite(connection) => connection.execute_batch(sql).unwrap(),
            Game::Mariadb(connection) => connection.query_drop(sql).unwrap(),
            Game::Postgres(client) => client.batch_execute(sql).unwrap(),
        }
    }
}

/// What the journal was told, in one line each.
#[derive(Default)]
pub struct Log {
    pub lines: Vec<String>,
    pub ids: Vec<u64>,
    /// Refuses the intent of this statement.
    pub refuse: Option<u64>,
    /// Told when this statement is about to be executed.
    pub stop_at: Option<(u64, Arc<AtomicBool>)>,
}

impl StatementLog for Log {
    fn intent(&mut self, at: &StatementAt) -> Result<(), String> {
        if self.refuse == Some(at.number) {
            return Err("the disk is full".to_owned());
        }
        self.ids.extend(at.connection_id);
        self.lines.push(format!("intent {} {} {}", at.script, at.number, at.sql));
        if let Some((number, stop)) = &self.stop_at
            && *number == at.number
        {
            stop.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    fn done(&mut self, at: &StatementAt, rows: u64, warnings: &[String]) -> Result<(), String> {
        let warned = if warnings.is_empty() { "" } else { " warned" };
        self.lines.push(format!("done {} {} {rows} rows{warned}", at.script, at.number));
        Ok(())
    }

    fn failed(&mut self, at: &StatementAt, error: &str) -> Result<(), String> {
        assert!(!error.is_empty());
        self.lines.push(format!("failed {} {}", at.script, at.number));
        Ok(())
    }
}

pub fn scripts(texts: &[&str]) -> Vec<Script> {
    let script = |(number, text): (usize, &&str)| {
        Script::held(format!("{:03}.sql", number + 1), text.as_bytes())
    };
    texts.iter().enumerate().map(script).collect()
}

pub fn run(database: &mut dyn Database, texts: &[&str]) -> Result<ScriptsDone, DbError> {
    let stop = AtomicBool::new(false);
    database.run_scripts(&scripts(texts), &mut Log::default(), &stop, &mut |_| {})
}

/// Progress that nobody looks at.
pub fn quiet(_: Progress) {}

/// The error with all its causes, as a person would see it.
pub fn chain(error: &DbError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

const SEED_SQLITE: &str = "
CREATE TABLE players (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, gold REAL,
  doubled REAL GENERATED ALWAYS AS (gold * 2) VIRTUAL, picture BLOB);
CREATE TABLE items (owner INTEGER REFERENCES players(id) ON DELETE CASCADE, kind TEXT,
  PRIMARY KEY (owner, kind)) WITHOUT ROWID;
CREATE TABLE notes (line TEXT);
CREATE VIRTUAL TABLE search USING fts5(words);
CREATE INDEX players_gold ON players (gold);
CREATE VIEW rich AS SELECT name FROM players WHERE gold > 10;
CREATE TRIGGER gifts AFTER INSERT ON players BEGIN
  INSERT INTO items VALUES (NEW.id, CASE WHEN NEW.gold > 10 THEN 'sword' ELSE 'stick' END);
END;
INSERT INTO players (id, name, gold, picture) VALUES (0, 'zéro 🐉', 0.1, x'00ff00'),
  (1, 'it''s', 1e300, zeroblob(70000)), (7, 'seven', NULL, NULL), (40, 'gone', 3, NULL);
DELETE FROM items WHERE owner = 40;
DELETE FROM players WHERE id = 40;
INSERT INTO notes VALUES ('a'), ('b'), ('a'), (CAST(x'ff00' AS TEXT));
DELETE FROM notes WHERE rowid = 2;
INSERT INTO search VALUES ('the tavern'), ('the road');
PRAGMA user_version = 3;
";

const SEED_MARIADB: &str = "
CREATE TABLE players (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) NOT NULL UNIQUE,
  gold DOUBLE, doubled DOUBLE AS (gold * 2) VIRTUAL, tripled DOUBLE AS (gold * 3) STORED,
  born DATE NOT NULL DEFAULT '2000-01-01', seen TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
  picture LONGBLOB, rank ENUM('a','b'), KEY (doubled)) CHARACTER SET utf8mb4;
CREATE TABLE items (owner INT, kind VARCHAR(20), PRIMARY KEY (owner, kind),
  CONSTRAINT belongs FOREIGN KEY (owner) REFERENCES players (id) ON DELETE CASCADE);
CREATE TABLE `odd-name $` (a INT, `b c` TEXT CHARACTER SET latin1, CHECK (a < 100));
CREATE SEQUENCE tickets START WITH 100 INCREMENT BY 10 CACHE 5;
CREATE FUNCTION half(x DOUBLE) RETURNS DOUBLE DETERMINISTIC RETURN x / 2;
CREATE VIEW zrich AS SELECT name, gold FROM players WHERE gold > 10;
CREATE OR REPLACE VIEW arich AS SELECT name, half(gold) AS h FROM zrich;
CREATE TRIGGER gifts AFTER INSERT ON players FOR EACH ROW BEGIN
  -- a comment; with a semicolon
  INSERT INTO items VALUES (NEW.id, CASE WHEN NEW.gold > 10 THEN 'sword' ELSE 'stick' END);
END;
CREATE TRIGGER first_gifts AFTER INSERT ON players FOR EACH ROW PRECEDES gifts SET @given = 1;
CREATE PROCEDURE tidy(IN days INT) BEGIN IF days > 3 THEN DELETE FROM items; END IF; END;
CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY STARTS '2020-01-01 03:00:00' DISABLE DO CALL tidy(9);
SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO';
INSERT INTO players (id, name, gold, born, picture, rank) VALUES
  (0, 'zéro 🐉', 0.1, '0000-00-00', x'00ff00', 'a'), (1, 'it''s \\\\ \\'x\\'', 1e300, '2001-02-03',
  REPEAT(x'00', 70000), 'b'), (7, 'seven\\r\\nlines', NULL, '1999-12-31', NULL, NULL),
  (40, 'gone', 3, '2000-02-29', NULL, 'a');
DELETE FROM players WHERE id = 40;
INSERT INTO `odd-name $` VALUES (1, 'é'), (1, 'é'), (NULL, NULL);
SELECT NEXTVAL(tickets);
";

const SEED_POSTGRES: &str = r#"
CREATE EXTENSION citext;
CREATE TYPE rank AS ENUM ('a', 'b');
CREATE DOMAIN level AS int CHECK (VALUE >= 0);
CREATE TABLE players (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name citext NOT NULL UNIQUE,
  gold double precision, doubled double precision GENERATED ALWAYS AS (gold * 2) STORED,
  born timestamptz NOT NULL DEFAULT '2000-01-01 00:00:00+00', picture bytea, rank rank, tags text[],
  more jsonb DEFAULT '{"b": 1, "a": [2]}', level level DEFAULT 1);
CREATE TABLE items (owner int REFERENCES players (id) ON DELETE CASCADE DEFERRABLE, kind varchar(20),
  PRIMARY KEY (owner, kind));
CREATE TABLE "odd-name $$" (a int CHECK (a < 100), "b c" text);
CREATE TABLE events (at date, what text) PARTITION BY RANGE (at);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE SCHEMA archive;
CREATE TABLE archive.players (id bigserial PRIMARY KEY, name text);
CREATE UNLOGGED TABLE cache (k text, v text);
CREATE SEQUENCE tickets START WITH 100 INCREMENT BY 10 CACHE 5;
CREATE INDEX players_gold ON players (gold) WHERE gold > 1;
CREATE FUNCTION half(x double precision) RETURNS double precision LANGUAGE sql IMMUTABLE
  BEGIN ATOMIC SELECT CASE WHEN x > 0 THEN x / 2 ELSE x / 2 END; END;
CREATE FUNCTION gift() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN
  -- a comment; with a semicolon
  INSERT INTO items VALUES (NEW.id, CASE WHEN NEW.gold > 10 THEN 'sword' ELSE 'stick' END);
  RETURN NEW;
END $body$;
CREATE TRIGGER gifts AFTER INSERT ON players FOR EACH ROW EXECUTE FUNCTION gift();
CREATE PROCEDURE tidy(days int) LANGUAGE plpgsql AS $$ BEGIN
  IF days > 3 THEN DELETE FROM items; END IF; END $$;
CREATE VIEW zrich AS SELECT name, gold FROM players WHERE gold > 10;
CREATE VIEW arich AS SELECT name, half(gold) AS h FROM zrich;
CREATE MATERIALIZED VIEW counts AS SELECT count(*) AS n FROM players;
CREATE RULE keep AS ON DELETE TO cache DO INSTEAD (SELECT 1; SELECT 2);
ALTER TABLE archive.players ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON archive.players USING (name = current_user);
COMMENT ON TABLE players IS 'who plays; and how';
GRANT SELECT ON players TO PUBLIC;
INSERT INTO players (id, name, gold, born, picture, rank, tags) VALUES
  (0, 'zéro 🐉', 0.1, '-infinity', '\x00ff00', 'a', '{a,"b c"}'),
  (1, E'it''s \ \'x\'', 1e300, '2001-02-03', decode(repeat('00', 70000), 'hex'), 'b', NULL),
  (7, E'seven\r\nlines', NULL, '1999-12-31', NULL, NULL, '{}'), (40, 'gone', 3, now(), NULL, 'a', NULL);
SELECT setval('players_id_seq', 40);
DELETE FROM players WHERE id = 40;
INSERT INTO "odd-name $$" VALUES (1, 'é'), (1, 'é'), (NULL, NULL);
INSERT INTO events VALUES ('2026-05-01', 'spring');
INSERT INTO archive.players (name) VALUES ('old');
INSERT INTO cache VALUES ('a', 'b');
REFRESH MATERIALIZED VIEW counts;
SELECT nextval('tickets');
SELECT lo_from_bytea(0, '\x1234');
"#;
