//! The mirror of the script journal in the game's own database, for whoever looks there.
//!
//! It decides nothing for production: a restore erases what is inside of a database. It is left
//! out of the schema and of the sums, which say what the game has.

pub use entracte_model::schema::HISTORY_TABLE;

use crate::database::{Database, Nowhere, Script};
use crate::error::DbError;
use crate::script::Engine;
/// Its columns.
const COLUMNS: [(&str, &str); 9] = [
    ("release_id", "VARCHAR(20)"),
    ("version", "VARCHAR(100)"),
    ("script", "VARCHAR(255)"),
    ("hash", "VARCHAR(100)"),
    ("raw_hash", "VARCHAR(100)"),
    ("statements", "BIGINT"),
    ("row_count", "BIGINT"),
    ("duration_ms", "BIGINT"),
    ("at_ms", "BIGINT"),
];

/// One script that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The release that ran it, as in `r7`; empty for one that was run or declared by hand.
    pub release: String,
    /// The version that it belongs to; empty where that is not known.
    pub version: String,
    /// Its name.
    pub script: String,
    /// The hash of its content without BOM and CR.
    pub hash: String,
    /// The hash of its bytes.
    pub raw_hash: String,
    /// How many statements it had; 0 for one that was only declared as run.
    pub statements: u64,
    /// How many rows they changed.
    pub rows: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
}

/// Adds to the mirror, which is made where it is missing.
///
/// # Errors
/// Where the account may not create a table, or write into it.
pub fn add(
    database: &mut dyn Database,
    engine: Engine,
    entries: &[HistoryEntry],
) -> Result<(), DbError> {
    if entries.is_empty() {
        return Ok(());
    }
    // No key and no default: nothing but a table, which is easy to leave out of a comparison.
    let columns = COLUMNS.map(|(name, kind)| format!("{name} {kind} NOT NULL")).join(", ");
    let mut sql = format!("CREATE TABLE IF NOT EXISTS {HISTORY_TABLE} ({columns});\n");
    for entry in entries {
        let texts = [&entry.release, &entry.version, &entry.script, &entry.hash, &entry.raw_hash];
        let texts: Vec<String> = texts.iter().map(|text| literal(engine, text)).collect();
        sql += &format!(
            "INSERT INTO {HISTORY_TABLE} VALUES ({}, {}, {}, {}, {});\n",
            texts.join(", "),
            entry.statements,
            entry.rows,
            entry.duration_ms,
            entry.at_ms
        );
    }
    let script = Script::held(HISTORY_TABLE, sql);
    let stop = std::sync::atomic::AtomicBool::new(false);
    database.run_scripts(&[script], &mut Nowhere, &stop, &mut |_| {})?;
    Ok(())
}

/// What the mirror holds, oldest first; nothing where there is none.
///
/// # Errors
/// Where it cannot be read.
pub fn read(database: &mut dyn Database, engine: Engine) -> Result<Vec<HistoryEntry>, DbError> {
    let there = match engine {
        Engine::Sqlite => {
            format!("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '{HISTORY_TABLE}'")
        }
        Engine::Mariadb => format!(
            "SELECT 1 FROM information_schema.TABLES
             WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{HISTORY_TABLE}'"
        ),
        Engine::Postgres => {
            format!("SELECT 1 WHERE to_regclass('{HISTORY_TABLE}') IS NOT NULL")
        }
    };
    if database.query(&there)?.is_empty() {
        return Ok(Vec::new());
    }
    let names = COLUMNS.map(|(name, _)| name).join(", ");
    let sql = format!("SELECT {names} FROM {HISTORY_TABLE} ORDER BY at_ms, script");
    let rows = database.query(&sql)?;
    let entry = |row: &Vec<Option<String>>| {
        let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        let number = |at: usize| text(at).parse().unwrap_or(0);
        HistoryEntry {
            release: text(0),
            version: text(1),
            script: text(2),
            hash: text(3),
            raw_hash: text(4),
            statements: number(5),
            rows: number(6),
            duration_ms: number(7),
            at_ms: number(8),
        }
    };
    Ok(rows.iter().map(entry).collect())
}

/// A text as SQL, whatever is in it and however the server reads backslashes.
fn literal(engine: Engine, text: &str) -> String {
    let hex = || text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    match engine {
        Engine::Mariadb if !text.is_empty() => format!("CONVERT(x'{}' USING utf8mb4)", hex()),
        _ => format!("'{}'", text.replace('\'', "''")),
    }
}
