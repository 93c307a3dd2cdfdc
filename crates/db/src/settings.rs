//! Where a database is, and with what right it is entered.

use std::fmt;
use std::path::PathBuf;

/// Which database, and how to reach it.
#[derive(Clone, Debug)]
pub enum Settings {
    /// A SQLite file.
    Sqlite(SqliteSettings),
    /// A MariaDB (or MySQL) server.
    Mariadb(MariadbSettings),
    /// A PostgreSQL server.
    Postgres(PostgresSettings),
}

impl Settings {
    /// The kind of database.
    pub fn engine(&self) -> Engine {
        match self {
            Settings::Sqlite(_) => Engine::Sqlite,
            Settings::Mariadb(_) => Engine::Mariadb,
            Settings::Postgres(_) => Engine::Postgres,
        }
    }
}

/// The dialects that the script lexer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// SQLite 3.
    Sqlite,
    /// MariaDB and MySQL.
    Mariadb,
    /// PostgreSQL.
    Postgres,
}

/// A SQLite database.
#[derive(Clone, Debug)]
pub struct SqliteSettings {
    /// The database file. It has to exist: a mistyped path must not create an empty game.
    pub path: PathBuf,
}

/// A database on a MariaDB (or MySQL) server.
#[derive(Clone, Debug)]
pub struct MariadbSettings {
    /// The server's unix socket; preferred over `host` where both are given.
    pub socket: Option<PathBuf>,
    /// The server's host name or address.
    pub host: Option<String>,
    /// The server's TCP port (3306 where nothing else was configured).
    pub port: u16,
    /// The account that Entracte uses.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// The game's database.
    pub database: String,
    /// The server's data directory, where it lies on this machine and may be read and written
    /// by us: makes the rollback point a copy of files instead of a dump.
    pub data_dir: Option<PathBuf>,
    /// The accounts that the game uses (`taverne@localhost`; without a host, `%`). May be empty:
    /// then nobody is locked out, only waited for.
    pub game_users: Vec<String>,
}

/// A database on a PostgreSQL server.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// The directory of the server's unix socket; preferred over `host` where both are given.
    pub socket_dir: Option<PathBuf>,
    /// The server's host name or address. The connection is not encrypted.
    pub host: Option<String>,
    /// The server's port, which names its socket too (5432 where nothing else was configured).
    pub port: u16,
    /// The account that Entracte uses: the owner of the database, or a superuser.
    pub user: String,
    /// Its password; empty where the server asks for none.
    pub password: Secret,
    /// The game's database.
    pub database: String,
    /// The accounts that the game uses. May be empty: then nobody is locked out, only waited for.
    pub game_users: Vec<String>,
}

/// A password: shown by nothing but [`Secret::reveal`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself, for the driver and for files of mode 0600 only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown_with_the_settings_around_it() {
        let settings = Settings::Mariadb(MariadbSettings {
            socket: None,
            host: Some("db".into()),
            port: 3306,
            user: "taverne".into(),
            password: "hunter2".into(),
            database: "taverne".into(),
            data_dir: None,
            game_users: Vec::new(),
        });
        let shown = format!("{settings:?}");
        assert!(shown.contains("***") && !shown.contains("hunter2"), "{shown}");
    }
}
