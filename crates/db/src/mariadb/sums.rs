//! What is in a MariaDB database.

use std::collections::BTreeMap;

use mysql::Value;

use super::connect::{Server, column, ident, number};
use super::definitions::{Definitions, Sequence, Table};
use super::exact_floats::as_double;
use super::rights::Rights;
use crate::error::{DbError, EngineError};
use crate::facts::{Facts, Sums, TableFacts, TableSum, schema_hash};
use crate::history::HISTORY_TABLE;
use crate::settings::MariadbSettings;

pub(super) fn facts(server: &mut Server, settings: &MariadbSettings) -> Result<Facts, DbError> {
    let rights = Rights::read(server, &settings.database)?;
    let version = server.text_for("SELECT VERSION()", "reading the version")?;
    let number = version.split('-').next().unwrap_or(&version).to_owned();
    let kind = if server.is_mariadb { "mariadb" } else { "mysql" };
    let tables = super::definitions::tables(server)?;
    let mut notes = notes_on_tables(&tables);
    notes.extend(notes_on_rights(&rights, settings));
    notes.extend(notes_on_tools());
    if let Err(error) = super::definitions::programs(server) {
        notes.push(error.to_string());
    }
    let fact = |table: Table| TableFacts {
        name: table.name,
        engine: table.engine,
        rows_estimate: table.rows,
        bytes: table.bytes,
    };
    let told: u64 = tables.iter().map(|table| table.bytes).sum();
    Ok(Facts {
        engine: format!("{kind} {number}"),
        bytes: told.max(bytes_of_files(server)),
        tables: tables.into_iter().map(fact).collect(),
        notes,
    })
}

/// The size of the table files, which hold room that rows left behind: a copy needs it too. Zero
/// where the server does not show it (without PROCESS, and on MySQL).
fn bytes_of_files(server: &mut Server) -> u64 {
    let sql = "SELECT COALESCE(SUM(FILE_SIZE), 0) FROM information_schema.INNODB_SYS_TABLESPACES
               WHERE NAME LIKE CONCAT(REPLACE(DATABASE(), '_', '\\_'), '/%')";
    server.text(sql).ok().and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

fn notes_on_tables(tables: &[Table]) -> Vec<String> {
    let others: Vec<String> = tables
        .iter()
        .filter(|table| table.engine != "InnoDB")
        .map(|table| format!("{} ({})", table.name, table.engine))
        .collect();
    if others.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "no transaction protects these tables, so a dump locks all tables while it runs: {}",
        others.join(", ")
    )]
}

fn notes_on_rights(rights: &Rights, settings: &MariadbSettings) -> Vec<String> {
    let mut notes = Vec::new();
    let mut lacks = |right: &str, cost: &str| {
        if !rights.global(right) {
            notes.push(format!("the account {} lacks {right}: {cost}", rights.account));
        }
    };
    lacks("PROCESS", "open transactions of other accounts cannot be named");
    if !settings.game_users.is_empty() {
        lacks("CREATE USER", "the game's accounts cannot be locked while the game is closed");
        lacks("CONNECTION ADMIN", "the game's sessions cannot be ended");
    }
    lacks("SET USER", "objects that other accounts defined cannot be restored");
    lacks("SUPER", "the event scheduler cannot be switched off while the game is closed");
    if settings.data_dir.is_some() {
        lacks("RELOAD", "the rollback point is a dump instead of a copy of files");
    }
    for (right, cost) in [
        ("LOCK TABLES", "a dump of tables without transactions fails, and the fence proves less"),
        ("TRIGGER", "triggers are neither seen nor restored"),
        ("EVENT", "events are neither seen nor restored"),
        ("CREATE ROUTINE", "routines cannot be restored"),
        ("CREATE VIEW", "views cannot be restored"),
    ] {
        if !rights.on_database(right) {
            notes.push(format!("the account {} lacks {right}: {cost}", rights.account));
        }
    }
    notes
}

fn notes_on_tools() -> Vec<String> {
    [super::dump::DUMP_TOOLS, super::dump::CLIENT_TOOLS]
        .iter()
        .filter_map(|names| crate::tool::find(names).err())
        .map(|error| error.to_string())
        .collect()
}

pub(super) fn sums(server: &mut Server) -> Result<Sums, DbError> {
    let definitions = Definitions::read(server)?;
    let mut tables = BTreeMap::new();
    for table in definitions.tables.iter().filter(|table| table.name != HISTORY_TABLE) {
        tables.insert(table.name.clone(), table_sum(server, table)?);
    }
    for sequence in &definitions.sequences {
        tables.insert(sequence.name.clone(), sequence_sum(sequence));
    }
    let settings = [definitions.charset.clone(), definitions.collation.clone()];
    Ok(Sums { tables, schema_hash: schema_hash(&definitions.schema(), &settings) })
}

fn table_sum(server: &mut Server, table: &Table) -> Result<TableSum, DbError> {
    let name = ident(&table.name);
    let doing = format!("summing up the table {}", table.name);
    let checksum = server.rows_for(&format!("CHECKSUM TABLE {name} EXTENDED"), &doing)?;
    let mut checksum = checksum.first().map_or_else(String::new, |row| column(row, 1));
    if checksum.is_empty() {
        // NULL: the table cannot be read. Equal sums of two broken tables would say nothing.
        return Err(DbError::Unsupported {
            what: format!("the table {} cannot be read", table.name),
            hint: "repair it first (CHECK TABLE says more)".to_owned(),
        });
    }
    let by_rows = if table.versioned {
        Some(history_sum(server, &table.name))
    } else if has_stored_columns(server, &table.name).map_err(DbError::engine(doing.clone()))? {
        let columns = columns(server, &table.name).map_err(DbError::engine(doing.clone()))?;
        Some(row_sum(server, &format!("SELECT {columns} FROM {name}")))
    } else {
        None
    };
    let rows = match by_rows {
        Some(summed) => {
            let (rows, sum) = summed.map_err(DbError::engine(doing))?;
            checksum = sum;
            rows
        }
        None => {
            let count = server.rows_for(&format!("SELECT COUNT(*) FROM {name}"), &doing)?;
            count.first().and_then(|row| number(row, 0)).unwrap_or(0)
        }
    };
    Ok(TableSum { rows, checksum, auto_increment: table.auto_increment })
}

/// All rows of a system-versioned table with those of the past, whatever their order: the
/// server's own checksum sees the present only.
fn history_sum(server: &mut Server, table: &str) -> Result<(u64, String), EngineError> {
    let sql = format!(
        "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()
         AND TABLE_NAME = {} AND GENERATION_EXPRESSION = 'ROW START'",
        super::connect::literal(table)
    );
    // Periods without columns of their own have hidden ones of these names.
    let hidden = if server.rows(&sql)?.is_empty() { ", row_start, row_end" } else { "" };
    let columns = columns(server, table)?;
    row_sum(server, &format!("SELECT {columns}{hidden} FROM {} FOR SYSTEM_TIME ALL", ident(table)))
}

/// All columns of a table for a question, the invisible ones too, and each FLOAT as what it is
/// instead of rounded to six digits.
fn columns(server: &mut Server, table: &str) -> Result<String, EngineError> {
    let sql = format!(
        "SELECT COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = {} ORDER BY ORDINAL_POSITION",
        super::connect::literal(table)
    );
    let columns = server.rows(&sql)?;
    let asked = columns.iter().map(|row| match column(row, 1).as_str() {
        "float" => as_double(&column(row, 0)),
        _ => ident(&column(row, 0)),
    });
    Ok(asked.collect::<Vec<_>>().join(", "))
}

/// Whether the table has generated columns that are stored: `CHECKSUM TABLE` of MariaDB 10.11
/// gives different sums for equal rows of such tables.
fn has_stored_columns(server: &mut Server, table: &str) -> Result<bool, EngineError> {
    let sql = format!(
        "SELECT 1 FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()
         AND TABLE_NAME = {} AND EXTRA LIKE '%STORED GENERATED%' LIMIT 1",
        super::connect::literal(table)
    );
    Ok(!server.rows(&sql)?.is_empty())
}

/// The number of rows that `sql` gives, and a sum of their hashes, whatever their order.
fn row_sum(server: &mut Server, sql: &str) -> Result<(u64, String), EngineError> {
    let (mut count, mut sum) = (0_u64, 0_u128);
    server.each_row(sql, |row| {
        let mut hasher = blake3::Hasher::new();
        for value in row {
            let (tag, bytes): (u8, &[u8]) = match value {
                Value::Bytes(bytes) => (1, bytes),
                // Answers in text hold nothing else.
                _ => (0, &[]),
            };
            hasher.update(&[tag]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        }
        let mut half = [0; 16];
        half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        sum = sum.wrapping_add(u128::from_le_bytes(half));
        count += 1;
        Ok(())
    })?;
    Ok((count, format!("{sum:032x}")))
}

fn sequence_sum(sequence: &Sequence) -> TableSum {
    let state = format!("{} {}", sequence.next, sequence.cycles);
    TableSum { rows: 1, checksum: state, auto_increment: None }
}
