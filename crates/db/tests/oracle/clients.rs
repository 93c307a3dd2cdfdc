//! Two databases of one kind, one for us and one for the engine's own client.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use entracte_db::{
    Database, DbError, Engine, MariadbSettings, Nowhere, PostgresSettings, Script, Secret,
    Settings, SqliteSettings,
};
use entracte_testbed::mariadb::Mariadb;
use entracte_testbed::postgres::{Postgres, server_program};
use entracte_testbed::process::program;

/// The two sides.
pub trait Both {
    /// How the scripts of this kind begin in the corpus.
    fn prefix(&self) -> &'static str;
    fn engine(&self) -> Engine;
    /// Two new empty databases, ours first.
    fn fresh(&mut self) -> (Settings, Settings);
    /// Feeds a script to the client, into the second of the newest two.
    fn client(&self, script: &Path) -> Output;
}

pub fn by_us(database: &mut dyn Database, script: Script) -> Result<(), DbError> {
    let stop = AtomicBool::new(false);
    database.run_scripts(&[script], &mut Nowhere, &stop, &mut |_| {}).map(drop)
}

pub struct Mariadbs {
    server: Mariadb,
    number: u32,
}

impl Mariadbs {
    pub fn start(options: &[&str]) -> Self {
        Self { server: Mariadb::start_with(options), number: 0 }
    }
}

impl Both for Mariadbs {
    fn prefix(&self) -> &'static str {
        "mariadb-"
    }

    fn engine(&self) -> Engine {
        Engine::Mariadb
    }

    fn fresh(&mut self) -> (Settings, Settings) {
        self.number += 1;
        let [ours, theirs] = ["us", "client"].map(|who| {
            let name = format!("{who}_{}", self.number);
            self.server.create_database(&name, &name, "");
            Settings::Mariadb(MariadbSettings {
                socket: Some(self.server.socket().to_owned()),
                host: None,
                port: 0,
                user: "root".to_owned(),
                password: Secret::default(),
                database: name,
                data_dir: None,
                game_users: Vec::new(),
            })
        });
        (ours, theirs)
    }

    fn client(&self, script: &Path) -> Output {
        Command::new(program(&["mariadb", "mysql"]))
            .arg("--no-defaults")
            .arg(format!("--socket={}", self.server.socket().display()))
            .args(["--user=root", "--default-character-set=utf8mb4", "--max-allowed-packet=1G"])
            .arg(format!("client_{}", self.number))
            .stdin(File::open(script).unwrap())
            .output()
            .unwrap()
    }
}

pub struct Sqlites {
    dir: tempfile::TempDir,
    number: u32,
}

impl Sqlites {
    pub fn start() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), number: 0 }
    }
}

impl Both for Sqlites {
    fn prefix(&self) -> &'static str {
        "sqlite-"
    }

    fn engine(&self) -> Engine {
        Engine::Sqlite
    }

    fn fresh(&mut self) -> (Settings, Settings) {
        self.number += 1;
        let [ours, theirs] = ["us", "client"].map(|who| {
            let path = self.dir.path().join(format!("{who}_{}", self.number));
            File::create(&path).unwrap();
            Settings::Sqlite(SqliteSettings { path })
        });
        (ours, theirs)
    }

    fn client(&self, script: &Path) -> Output {
        Command::new(program(&["sqlite3"]))
            .args(["-batch", "-bail"])
            .arg(self.dir.path().join(format!("client_{}", self.number)))
            .stdin(File::open(script).unwrap())
            .output()
            .unwrap()
    }
}

pub struct Postgreses {
    server: Postgres,
    number: u32,
}

impl Postgreses {
    pub fn start() -> Self {
        Self { server: Postgres::start(), number: 0 }
    }
}

impl Both for Postgreses {
    fn prefix(&self) -> &'static str {
        "postgres-"
    }

    fn engine(&self) -> Engine {
        Engine::Postgres
    }

    fn fresh(&mut self) -> (Settings, Settings) {
        self.number += 1;
        let [ours, theirs] = ["us", "client"].map(|who| {
            let name = format!("{who}_{}", self.number);
            // The same owner: whom an object belongs to is part of the sums.
            self.server.root("postgres").batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
            Settings::Postgres(PostgresSettings {
                socket_dir: Some(self.server.socket_dir().to_owned()),
                host: None,
                port: self.server.port(),
                user: "postgres".to_owned(),
                password: Secret::default(),
                database: name,
                game_users: Vec::new(),
            })
        });
        (ours, theirs)
    }

    fn client(&self, script: &Path) -> Output {
        Command::new(server_program("psql"))
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--username=postgres"])
            .arg(format!("--host={}", self.server.socket_dir().display()))
            .arg(format!("--port={}", self.server.port()))
            .arg(format!("client_{}", self.number))
            .env("PGCLIENTENCODING", "UTF8")
            .stdin(File::open(script).unwrap())
            .output()
            .unwrap()
    }
}
