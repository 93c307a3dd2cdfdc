//! The definitions of a SQLite database, for comparing it and for copying it without its rows.

use std::collections::BTreeMap;

use entracte_model::schema::{
    Definition, Dialect, Kind, Object, SeedTable, Snapshot, normalised_sqlite,
};
use rusqlite::{Connection, OptionalExtension};

use super::Sqlite;
use super::sums::quoted;
use crate::compare::{SEED_ROWS_MAX, too_many_rows};
use crate::error::DbError;
use crate::script::{Engine, squeeze};
use crate::settings::SqliteSettings;

const DOING: &str = "reading the definitions";

/// What the file itself is marked with; games keep their schema's number there.
const MARKS: [&str; 2] = ["user_version", "application_id"];

/// An object as `sqlite_schema` has it.
struct Entry {
    kind: String,
    name: String,
    table: String,
    sql: String,
}

/// All objects that a statement made, in the order of their making. Not the tables in which a virtual
/// one keeps what it shows.
fn entries(connection: &Connection) -> Result<Vec<Entry>, DbError> {
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema
               WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
               AND tbl_name NOT IN (SELECT name FROM pragma_table_list
                                    WHERE schema = 'main' AND type = 'shadow')
               ORDER BY CASE type WHEN 'table' THEN 0 WHEN 'index' THEN 1 WHEN 'view' THEN 2 ELSE 3 END,
               rowid";
    let read = || {
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([], |row| {
            let (kind, name, table, sql) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            Ok(Entry { kind, name, table, sql })
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(DbError::engine(DOING))
}

pub(crate) fn snapshot(settings: &SqliteSettings) -> Result<Snapshot, DbError> {
    let connection = Sqlite::open(settings)?.connect()?;
    let mut objects = BTreeMap::new();
    for (position, entry) in entries(&connection)?.into_iter().enumerate() {
        let (kind, full) = match entry.kind.as_str() {
            "table" => (Kind::Table, entry.name.clone()),
            "index" => (Kind::Index, format!("{}.{}", entry.table, entry.name)),
            "view" => (Kind::View, entry.name.clone()),
            _ => (Kind::Trigger, format!("{}.{}", entry.table, entry.name)),
        };
        let definition = Definition {
            text: normalised_sqlite(&squeeze(Engine::Sqlite, &entry.sql)),
            create: entry.sql,
            kind: entry.kind,
            table: (kind != Kind::Table && kind != Kind::View).then_some(entry.table),
            name: entry.name,
            position,
            ..Definition::default()
        };
        objects.insert(Object { kind, name: full }, definition);
    }
    for name in MARKS {
        let sql = format!("PRAGMA {name}");
        let value: i64 =
            connection.query_row(&sql, [], |row| row.get(0)).map_err(DbError::engine(DOING))?;
        let text = format!("PRAGMA {name} = {value}");
        let definition = Definition {
            text: text.clone(),
            create: text,
            kind: "pragma".to_owned(),
            name: name.to_owned(),
            ..Definition::default()
        };
        objects.insert(Object { kind: Kind::Other, name: name.to_owned() }, definition);
    }
    let uncovered = vec!["the rows of tables that are not listed as seed tables".to_owned()];
    Ok(Snapshot { dialect: Dialect::Sqlite, objects, uncovered })
}

pub(crate) fn seed_table(
    settings: &SqliteSettings,
    name: &str,
) -> Result<Option<SeedTable>, DbError> {
    let connection = Sqlite::open(settings)?.connect()?;
    let doing = || DbError::engine::<rusqlite::Error>(format!("reading the seed table {name}"));
    let find = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
    let there: Option<String> =
        connection.query_row(find, [name], |row| row.get(0)).optional().map_err(doing())?;
    let Some(there) = there else { return Ok(None) };
    let read = || {
        let sql = "SELECT name, pk FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid";
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([&there], |row| {
            Ok((quoted(&row.get::<_, String>(0)?), row.get::<_, i64>(1)?))
        })?;
        rows.collect::<rusqlite::Result<Vec<(String, i64)>>>()
    };
    let described = read().map_err(doing())?;
    let mut key: Vec<(i64, usize)> = described
        .iter()
        .enumerate()
        .filter(|(_, (_, pk))| *pk > 0)
        .map(|(at, (_, pk))| (*pk, at))
        .collect();
    key.sort_unstable();
    let columns: Vec<String> = described.into_iter().map(|(name, _)| name).collect();
    let list: Vec<String> = columns.iter().map(|name| format!("quote({name})")).collect();
    let sql =
        format!("SELECT {} FROM {} LIMIT {}", list.join(", "), quoted(&there), SEED_ROWS_MAX + 1);
    let read = || {
        let mut statement = connection.prepare(&sql)?;
        let width = list.len();
        let rows = statement.query_map([], |row| (0..width).map(|at| row.get(at)).collect())?;
        rows.collect::<rusqlite::Result<Vec<Vec<String>>>>()
    };
    let rows = read().map_err(doing())?;
    if rows.len() > SEED_ROWS_MAX {
        return Err(too_many_rows(name));
    }
    let key = key.into_iter().map(|(_, at)| at).collect();
    let sql_name = quoted(&there);
    Ok(Some(SeedTable { name: name.to_owned(), sql_name, columns, key, rows, overriding: "" }))
}

/// A crash leaves a part of it: the file is a scratch database.
pub(crate) fn copy_definitions(
    from: &SqliteSettings,
    to: &SqliteSettings,
    rows: &[SeedTable],
) -> Result<(), DbError> {
    let source = Sqlite::open(from)?.connect()?;
    for suffix in ["-journal", "-wal", "-shm"] {
        let mut beside = to.path.clone().into_os_string();
        beside.push(suffix);
        crate::files::remove_if_there(std::path::Path::new(&beside))?;
    }
    std::fs::write(&to.path, b"").map_err(DbError::io("empty", &to.path))?;
    let copy = Sqlite::open(to)?.connect()?;
    let doing = || DbError::engine::<rusqlite::Error>("copying the definitions");
    let all = copy.unchecked_transaction().map_err(doing())?;
    let entries = entries(&source)?;
    let (tables, others): (Vec<_>, Vec<_>) =
        entries.iter().partition(|entry| entry.kind == "table");
    for table in tables {
        copy.execute_batch(&table.sql).map_err(doing())?;
    }
    // Before the triggers, which would meddle.
    for sql in rows.iter().flat_map(SeedTable::inserts) {
        copy.execute_batch(&sql).map_err(doing())?;
    }
    for entry in others {
        copy.execute_batch(&entry.sql).map_err(doing())?;
    }
    for name in MARKS {
        let sql = format!("PRAGMA {name}");
        let value: i64 = source.query_row(&sql, [], |row| row.get(0)).map_err(doing())?;
        copy.pragma_update(None, name, value).map_err(doing())?;
    }
    all.commit().map_err(doing())
}
