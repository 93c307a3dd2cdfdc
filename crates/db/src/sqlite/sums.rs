//! What is in a SQLite database.

use std::collections::BTreeMap;

use entracte_model::schema::{Kind, Object, Schema};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use crate::error::DbError;
use crate::facts::{Facts, Sums, TableFacts, TableSum, schema_hash};
use crate::history::HISTORY_TABLE;
use crate::script::{Engine, squeeze};

/// A table as `PRAGMA table_list` has it.
struct Table {
    name: String,
    kind: String,
    without_rowid: bool,
}

pub(super) fn facts(connection: &Connection) -> Result<Facts, DbError> {
    let doing = || DbError::engine::<rusqlite::Error>("looking at the database");
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let pages = number("PRAGMA page_count").map_err(doing())?;
    let page_bytes = number("PRAGMA page_size").map_err(doing())?;
    let mut facts = Facts {
        engine: format!("sqlite {}", rusqlite::version()),
        tables: Vec::new(),
        bytes: pages.saturating_mul(page_bytes).unsigned_abs(),
        notes: Vec::new(),
    };
    for table in tables(connection)? {
        // Counting reads the whole table; the largest rowid is at hand and says enough.
        let largest = format!("SELECT max(rowid) FROM {}", quoted(&table.name));
        let rows = match (table.kind.as_str(), table.without_rowid) {
            ("table", false) => number(&largest).unwrap_or(0),
            _ => 0,
        };
        let engine = match (table.kind.as_str(), table.without_rowid) {
            ("table", false) => "rowid",
            ("table", true) => "without rowid",
            (other, _) => other,
        };
        facts.tables.push(TableFacts {
            engine: engine.to_owned(),
            name: table.name,
            rows_estimate: rows.unsigned_abs(),
            bytes: 0,
        });
    }
    let broken: Option<String> = connection
        .query_row("PRAGMA foreign_key_check", [], |row| row.get(0))
        .optional()
        .map_err(doing())?;
    if let Some(table) = broken {
        facts.notes.push(format!("rows of {table} already point to rows that do not exist"));
    }
    Ok(facts)
}

pub(super) fn schema(connection: &Connection) -> Result<Schema, DbError> {
    let doing = || DbError::engine::<rusqlite::Error>("reading the schema");
    let mut statement = connection
        .prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
        .map_err(doing())?;
    let mut rows = statement.query([]).map_err(doing())?;
    let mut schema = Schema::default();
    while let Some(row) = rows.next().map_err(doing())? {
        let text = |at: usize| row.get::<_, String>(at).map_err(doing());
        let (name, table) = (text(1)?, text(2)?);
        if name.starts_with("sqlite_") || name == HISTORY_TABLE {
            continue;
        }
        let (kind, name) = match text(0)?.as_str() {
            "table" => (Kind::Table, name),
            "index" => (Kind::Index, format!("{table}.{name}")),
            "view" => (Kind::View, name),
            _ => (Kind::Trigger, format!("{table}.{name}")),
        };
        schema.objects.insert(Object { kind, name }, squeeze(Engine::Sqlite, &text(3)?));
    }
    Ok(schema)
}

pub(super) fn sums(connection: &Connection) -> Result<Sums, DbError> {
    let doing = || DbError::engine::<rusqlite::Error>("summing up the tables");
    // One read transaction: all tables as of one moment.
    let snapshot = connection.unchecked_transaction().map_err(doing())?;
    let mut sums = BTreeMap::new();
    for table in tables(&snapshot)? {
        // What a virtual table shows lies in its shadow tables.
        if table.kind != "virtual" && table.name != HISTORY_TABLE {
            sums.insert(table.name.clone(), table_sum(&snapshot, &table)?);
        }
    }
    let setting = |name: &str| {
        snapshot.query_row(&format!("PRAGMA {name}"), [], |row| {
            Ok(format!("{name} {}", row.get::<_, i64>(0)?))
        })
    };
    let settings =
        [setting("user_version").map_err(doing())?, setting("application_id").map_err(doing())?];
    let schema_hash = schema_hash(&schema(&snapshot)?, &settings);
    Ok(Sums { tables: sums, schema_hash })
}

fn tables(connection: &Connection) -> Result<Vec<Table>, DbError> {
    let doing = || DbError::engine::<rusqlite::Error>("listing the tables");
    let sql = "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main'
               AND type <> 'view' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let mut statement = connection.prepare(sql).map_err(doing())?;
    let rows = statement.query_map([], |row| {
        Ok(Table { name: row.get(0)?, kind: row.get(1)?, without_rowid: row.get(2)? })
    });
    rows.and_then(Iterator::collect).map_err(doing())
}

fn table_sum(connection: &Connection, table: &Table) -> Result<TableSum, DbError> {
    let doing = || DbError::engine::<rusqlite::Error>(format!("reading the table {}", table.name));
    let name = quoted(&table.name);
    let columns = column_names(connection, &table.name).map_err(doing())?;
    let sql = if table.without_rowid {
        format!(
            "SELECT * FROM {name} ORDER BY {}",
            primary_key(connection, &table.name).map_err(doing())?
        )
    } else {
        match ["rowid", "_rowid_", "oid"]
            .into_iter()
            .find(|alias| !columns.iter().any(|c| c.eq_ignore_ascii_case(alias)))
        {
            Some(rowid) => format!("SELECT {rowid}, * FROM {name} ORDER BY {rowid}"),
            None => format!("SELECT * FROM {name}"),
        }
    };
    let mut statement = connection.prepare(&sql).map_err(doing())?;
    let width = statement.column_count();
    let mut rows = statement.query([]).map_err(doing())?;
    let mut hasher = blake3::Hasher::new();
    let mut count = 0;
    while let Some(row) = rows.next().map_err(doing())? {
        count += 1;
        for at in 0..width {
            add_value(&mut hasher, row.get_ref(at).map_err(doing())?);
        }
    }
    Ok(TableSum {
        rows: count,
        checksum: hasher.finalize().to_hex().to_string(),
        auto_increment: next_automatic(connection, &table.name).map_err(doing())?,
    })
}

/// Type, length and bytes: `1` and `'1'` are not the same, nor are `'a','bc'` and `'ab','c'`.
fn add_value(hasher: &mut blake3::Hasher, value: ValueRef<'_>) {
    let (tag, bytes): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(number) => {
            hasher.update(&[1]).update(&number.to_le_bytes());
            return;
        }
        ValueRef::Real(number) => {
            hasher.update(&[2]).update(&number.to_bits().to_le_bytes());
            return;
        }
        ValueRef::Text(bytes) => (3, bytes),
        ValueRef::Blob(bytes) => (4, bytes),
    };
    hasher.update(&[tag]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}

fn next_automatic(connection: &Connection, table: &str) -> rusqlite::Result<Option<u64>> {
    let has = "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'";
    if !connection.prepare(has)?.exists([])? {
        return Ok(None);
    }
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = ?1";
    let last: Option<i64> = connection.query_row(sql, [table], |row| row.get(0)).optional()?;
    Ok(last.map(|last| last.saturating_add(1).unsigned_abs()))
}

fn column_names(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_xinfo(?1)")?;
    statement.query_map([table], |row| row.get(0))?.collect()
}

/// The columns of the primary key in their order, quoted, for `ORDER BY`.
fn primary_key(connection: &Connection, table: &str) -> rusqlite::Result<String> {
    let sql = "SELECT name FROM pragma_table_xinfo(?1) WHERE pk > 0 ORDER BY pk";
    let mut statement = connection.prepare(sql)?;
    let names: Vec<String> = statement
        .query_map([table], |row| Ok(quoted(&row.get::<_, String>(0)?)))?
        .collect::<Result<_, _>>()?;
    Ok(names.join(", "))
}

/// A name as SQL, whatever is in it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
