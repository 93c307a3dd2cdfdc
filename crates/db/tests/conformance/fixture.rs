//! A database of each kind, filled like a small game's.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use entracte_db::{
    Database, DbError, MariadbSettings, Progress, Script, ScriptsDone, Settings, SqliteSettings,
    StatementAt, StatementLog, open,
};
use entracte_testbed::mariadb::Mariadb;
use mysql::prelude::Queryable;
use tempfile::TempDir;

pub struct Fixture {
    pub settings: Settings,
    pub dir: TempDir,
    pub server: Option<Arc<Mariadb>>,
}

/// One server for all tests that run at the same time; it ends with the last of them.
static SERVER: Mutex<Weak<Mariadb>> = Mutex::new(Weak::new());
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

impl Fixture {
    pub fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("game.sqlite");
        std::fs::write(&path, b"").unwrap();
        Self { settings: Settings::Sqlite(SqliteSettings { path }), dir, server: None }
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
        Self { settings, dir: tempfile::tempdir().unwrap(), server: Some(server) }
    }

    pub fn mariadb_settings_mut(&mut self) -> &mut MariadbSettings {
        match &mut self.settings {
            Settings::Mariadb(settings) => settings,
            Settings::Sqlite(_) => panic!("a MariaDB test on SQLite"),
        }
    }

    pub fn is_sqlite(&self) -> bool {
        matches!(self.settings, Settings::Sqlite(_))
    }

    pub fn open(&self) -> Box<dyn Database> {
        open(&self.settings).unwrap()
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The script for the engine at hand.
    pub fn either<'a>(&self, sqlite: &'a str, mariadb: &'a str) -> &'a str {
        if self.is_sqlite() { sqlite } else { mariadb }
    }

    /// Fills the database with a bit of everything.
    pub fn seeded(&self) -> Box<dyn Database> {
        let mut database = self.open();
        run(&mut *database, &[self.either(SEED_SQLITE, SEED_MARIADB)]).unwrap();
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
        }
    }
}

/// A session of the game.
pub enum Game {
    Sqlite(rusqlite::Connection),
    Mariadb(mysql::Conn),
}

impl Game {
    pub fn run(&mut self, sql: &str) {
        match self {
            Game::Sqlite(connection) => connection.execute_batch(sql).unwrap(),
            Game::Mariadb(connection) => connection.query_drop(sql).unwrap(),
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
    let script = |(number, text): (usize, &&str)| Script {
        name: format!("{:03}.sql", number + 1),
        bytes: text.as_bytes().to_vec(),
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
