//! What the database is, and the sums of its contents.

use std::collections::BTreeMap;

use super::connect::{self, Server, column, ident, number, truth};
use super::definitions::Definitions;
use super::rights::Rights;
use super::{dump, properties, ways};
use crate::error::DbError;
use crate::facts::{Facts, Sums, TableFacts, TableSum, schema_hash};
use crate::history::HISTORY_TABLE;
use crate::settings::PostgresSettings;

/// Schemas of the server itself.
pub(super) const OURS: &str = "n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'";
/// What keeps rows of its own. A partitioned table has those of its partitions.
const WITH_ROWS: &str = "c.relkind IN ('r', 'm')";

pub(super) fn facts(settings: &PostgresSettings) -> Result<Facts, DbError> {
    const DOING: &str = "looking at the tables";
    let mut server = connect::admin(settings)?;
    let version = server.text_for("SHOW server_version", DOING)?;
    let version = version.split(' ').next().unwrap_or("").to_owned();
    let sql = format!(
        "SELECT n.nspname, c.relname, coalesce(a.amname, c.relkind::text), \
         greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_am a ON a.oid = c.relam \
         WHERE {OURS} AND {WITH_ROWS} ORDER BY 1, 2"
    );
    let tables: Vec<TableFacts> = server
        .rows_for(&sql, DOING)?
        .iter()
        .map(|row| TableFacts {
            name: shown(&column(row, 0), &column(row, 1)),
            engine: column(row, 2),
            rows_estimate: number(row, 3).unwrap_or(0),
            bytes: number(row, 4).unwrap_or(0),
        })
        .collect();
    let bytes = server.text_for("SELECT pg_database_size(current_database())", DOING)?;
    let rights = Rights::read(&mut server)?;
    let mut notes = rights.notes(settings);
    if let Err(why) = ways::data_directory(&mut server, settings) {
        notes.push(format!("the room on the server's disk is not looked at: {why}"));
    }
    notes.extend(
        dump::TOOLS.iter().filter_map(|name| {
            crate::tool::find_postgres(name).err().map(|error| error.to_string())
        }),
    );
    let foreign = format!(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE {OURS} AND c.relkind = 'f' ORDER BY 1"
    );
    let foreign = server.list_for(&foreign, DOING)?;
    if !foreign.is_empty() {
        notes.push(format!(
            "the rows of these tables are kept by another server, so no point holds them: {}",
            foreign.join(", ")
        ));
    }
    let unlogged = format!(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE {OURS} AND c.relkind = 'r' AND c.relpersistence = 'u' ORDER BY 1"
    );
    let unlogged = server.list_for(&unlogged, DOING)?;
    if !unlogged.is_empty() {
        notes.push(format!(
            "a crash of the server empties these tables (UNLOGGED), in a rollback point too: {}",
            unlogged.join(", ")
        ));
    }
    if settings.host.is_some() && settings.socket_dir.is_none() {
        notes.push(
            "the connection to the server is not encrypted (TLS is not supported yet)".into(),
        );
    }
    Ok(Facts {
        engine: format!("postgres {version}"),
        tables,
        bytes: bytes.parse().unwrap_or(0),
        notes,
    })
}

pub(super) fn sums(settings: &PostgresSettings) -> Result<Sums, DbError> {
    let definitions = Definitions::read(settings)?;
    let mut server = connect::admin(settings)?;
    let mut tables = BTreeMap::new();
    let sql = format!(
        "SELECT n.nspname, c.relname, c.relispopulated FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS} AND {WITH_ROWS}
         AND c.relname <> '{HISTORY_TABLE}'"
    );
    for row in server.rows_for(&sql, "listing the tables")? {
        let (schema, name) = (column(&row, 0), column(&row, 1));
        let from = format!("ONLY {}.{}", ident(&schema), ident(&name));
        let sum = if truth(&row, 2) {
            row_sum(&mut server, &from, "(t.*)::text", &name)?
        } else {
            TableSum { rows: 0, checksum: "not filled".to_owned(), auto_increment: None }
        };
        tables.insert(shown(&schema, &name), sum);
    }
    sequences(&mut server, &mut tables)?;
    let objects = "SELECT count(*) FROM pg_largeobject_metadata";
    if server.text_for(objects, "counting the large objects")? != "0" {
        let row = "t.oid::text || lomowner::regrole || coalesce(lomacl::text, '') \
                   || md5(lo_get(t.oid))";
        let sum = row_sum(&mut server, "pg_largeobject_metadata", row, "large objects")?;
        tables.insert("(large objects)".to_owned(), sum);
    }
    let mut extra = definitions.rights();
    // Its name is no content: a copy elsewhere may have another.
    let name = format!("DATABASE {}", ident(&settings.database));
    let set = properties::of_database(&mut server, settings)?;
    extra.extend(set.iter().map(|sql| sql.replacen(&name, "DATABASE", 1)));
    Ok(Sums { tables, schema_hash: schema_hash(&definitions.schema(), &extra) })
}

/// The number of rows, and a sum of their hashes, whatever their order. Computed by the server:
/// nothing but the result travels.
fn row_sum(server: &mut Server, from: &str, row: &str, name: &str) -> Result<TableSum, DbError> {
    let half = |start: u8| {
        format!("coalesce(sum(('x' || substr(h, {start}, 16))::bit(64)::bigint), 0)::text")
    };
    let sql = format!(
        "SELECT count(*), {} || ' ' || {} FROM (SELECT md5({row}) AS h FROM {from} AS t) AS s",
        half(1),
        half(17)
    );
    let rows = server.rows_for(&sql, &format!("summing up the table {name}"))?;
    let first = rows.first().cloned().unwrap_or_default();
    Ok(TableSum {
        rows: number(&first, 0).unwrap_or(0),
        checksum: column(&first, 1),
        auto_increment: None,
    })
}

/// The state of every sequence, and the next value of the table that owns it.
fn sequences(server: &mut Server, sums: &mut BTreeMap<String, TableSum>) -> Result<(), DbError> {
    let sql = format!(
        "SELECT n.nspname, c.relname, s.seqincrement, tn.nspname, tc.relname
         FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid
         JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
           AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
         LEFT JOIN pg_class tc ON tc.oid = d.refobjid
         LEFT JOIN pg_namespace tn ON tn.oid = tc.relnamespace
         WHERE {OURS} AND c.relpersistence <> 't' ORDER BY c.oid"
    );
    for row in server.rows_for(&sql, "listing the sequences")? {
        let (schema, name) = (column(&row, 0), column(&row, 1));
        let sql = format!("SELECT last_value, is_called FROM {}.{}", ident(&schema), ident(&name));
        let state = server.rows_for(&sql, &format!("reading the sequence {name}"))?;
        let state = state.first().cloned().unwrap_or_default();
        let (last, called) = (column(&state, 0), truth(&state, 1));
        let step: i128 = column(&row, 2).parse().unwrap_or(1);
        let next = last.parse::<i128>().ok().map(|last| if called { last + step } else { last });
        if let Some(table) = sums.get_mut(&shown(&column(&row, 3), &column(&row, 4)))
            && table.auto_increment.is_none()
        {
            table.auto_increment = next.and_then(|next| u64::try_from(next).ok());
        }
        let checksum = format!("{last} {}", if called { "called" } else { "not called" });
        let sum = TableSum { rows: 1, checksum, auto_increment: None };
        sums.insert(shown(&schema, &name), sum);
    }
    Ok(())
}

/// A table's name for people: with its schema where that is not the usual one.
fn shown(schema: &str, name: &str) -> String {
    let is_plain = |text: &str| text.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric());
    let part = |text: &str| if is_plain(text) { text.to_owned() } else { ident(text) };
    if schema == "public" { part(name) } else { format!("{}.{}", part(schema), part(name)) }
}
