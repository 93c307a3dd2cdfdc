//! The game's database: its scripts, its rollback point, its dumps, and the proof that nobody
//! else writes.
//!
//! One trait, [`Database`], and one adapter a kind of engine. [`open`] gives the adapter for the
//! configured database. What a crash can cost is said beside each write.

pub mod compare;
pub mod script;

mod contents;
mod database;
mod error;
mod facts;
mod files;
pub mod history;
mod mariadb;
mod point;
mod postgres;
pub mod scratch;
mod settings;
mod sqlite;
mod tool;

pub use contents::{CONTENTS_FORMAT, Contents, TableContents};
pub use database::{
    Database, FenceProof, Nowhere, Progress, QUERY_ROWS_MAX, SQL_EXCERPT_CHARS_MAX, Script,
    ScriptDone, ScriptsDone, StatementAt, StatementLog,
};
pub use error::{DbError, EngineError, Session};
pub use facts::{Facts, Sums, TableFacts, TableSum};
pub use history::{HISTORY_TABLE, HistoryEntry};
pub use mariadb::MariadbPoint;
pub use point::{Point, PointWay};
pub use postgres::PostgresPoint;
pub use script::{BadPlaceholder, Placeholders, ScriptHashes, ScriptText, normalised_hash};
pub use settings::{Engine, MariadbSettings, PostgresSettings, Secret, Settings, SqliteSettings};

/// The database that `settings` name, entered once to see that it is there.
///
/// # Errors
/// [`DbError::Unreachable`] where it cannot be entered.
pub fn open(settings: &Settings) -> Result<Box<dyn Database>, DbError> {
    Ok(match settings {
        Settings::Sqlite(settings) => Box::new(sqlite::Sqlite::open(settings)?),
        Settings::Mariadb(settings) => Box::new(mariadb::Mariadb::open(settings)?),
        Settings::Postgres(settings) => Box::new(postgres::Postgres::open(settings)?),
    })
}
