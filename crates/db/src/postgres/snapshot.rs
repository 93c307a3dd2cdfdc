//! The definitions of a PostgreSQL database, for comparing it and for copying it without its rows.

use std::collections::{BTreeMap, BTreeSet};

use entracte_model::schema::{
    Definition, Dialect, Kind, Object, SeedTable, Snapshot, normalised_postgres,
};

use super::connect::{self, column, ident, literal, number};
use super::definitions::{Definitions, Entry};
use super::dump;
use crate::compare::{SEED_ROWS_MAX, too_many_rows};
use crate::error::DbError;
use crate::settings::PostgresSettings;

pub(crate) fn snapshot(settings: &PostgresSettings) -> Result<Snapshot, DbError> {
    let definitions = Definitions::read(settings)?;
    let mut objects = BTreeMap::new();
    for (position, entry) in definitions.entries.iter().enumerate() {
        if matches!(entry.kind.as_str(), "ACL" | "DEFAULT ACL" | "DATABASE" | "ENCODING") {
            continue;
        }
        let (create, name) = without_owner(entry);
        if create.is_empty() {
            continue;
        }
        let definition = Definition {
            text: normalised_postgres(&entry.kind, &create),
            create,
            name,
            kind: entry.kind.clone(),
            position,
            ..Definition::default()
        };
        objects.insert(object(entry), definition);
    }
    let uncovered = [
        "owners and grants",
        "the order of columns, which the server cannot change",
        "accounts, tablespaces and settings of the database",
        "the rows of tables that are not listed as seed tables",
    ];
    let uncovered = uncovered.map(String::from).to_vec();
    Ok(Snapshot { dialect: Dialect::Postgres, objects, uncovered })
}

fn object(entry: &Entry) -> Object {
    let (kind, is_plain) = match entry.kind.as_str() {
        "TABLE" => (Kind::Table, true),
        "INDEX" => (Kind::Index, true),
        "VIEW" => (Kind::View, true),
        "TRIGGER" => (Kind::Trigger, true),
        "SEQUENCE" => (Kind::Sequence, true),
        "SCHEMA" => (Kind::Namespace, true),
        "EXTENSION" => (Kind::Extension, true),
        "TYPE" => (Kind::Type, true),
        "CONSTRAINT" => (Kind::Constraint, true),
        "COMMENT" => (Kind::Comment, true),
        "POLICY" => (Kind::Policy, true),
        "FUNCTION" => (Kind::Routine, true),
        "MATERIALIZED VIEW" | "RULE" => (Kind::View, false),
        "INDEX ATTACH" => (Kind::Index, false),
        "EVENT TRIGGER" => (Kind::Trigger, false),
        "SEQUENCE OWNED BY" => (Kind::Sequence, false),
        "DOMAIN" => (Kind::Type, false),
        "FK CONSTRAINT" | "CHECK CONSTRAINT" | "DEFAULT" | "TABLE ATTACH" => {
            (Kind::Constraint, false)
        }
        "ROW SECURITY" => (Kind::Policy, false),
        "PROCEDURE" | "AGGREGATE" => (Kind::Routine, false),
        _ => (Kind::Other, false),
    };
    let mut name = match entry.schema.as_str() {
        "public" | "-" => entry.name.clone(),
        schema => format!("{schema}.{}", entry.name),
    };
    if !is_plain {
        name += &format!(" ({})", entry.kind.to_lowercase());
    }
    Object { kind, name }
}

/// The statements of an entry without its owner, and its name as SQL: the line that gives it an
/// owner says it in full.
fn without_owner(entry: &Entry) -> (String, String) {
    let mut name = match entry.kind.as_str() {
        "EXTENSION" => ident(&entry.name),
        "INDEX" => format!("{}.{}", ident(&entry.schema), ident(&entry.name)),
        _ => String::new(),
    };
    let mut lines = Vec::new();
    for line in entry.sql.lines() {
        let owner = line.strip_prefix("ALTER ").and_then(|rest| rest.rsplit_once(" OWNER TO "));
        if let Some((named, _)) = owner.filter(|_| line.ends_with(';')) {
            let words = [entry.kind.as_str(), "TABLE"];
            let named = words.iter().find_map(|word| named.strip_prefix(&format!("{word} ")));
            named.unwrap_or("").clone_into(&mut name);
        } else if !(line == "SET default_table_access_method = heap;"
            || line == "SET default_tablespace = '';")
        {
            lines.push(line);
        }
    }
    (lines.join("\n").trim().to_owned(), name)
}

/// The rights that were granted on objects: an object that is dropped and made again has lost them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grants {
    /// The statements that grant them, by schema and object as `pg_dump` names it (`TABLE rich`).
    sql: BTreeMap<(String, String), String>,
    /// What is there, by schema and name.
    objects: BTreeSet<(String, String)>,
}

impl Grants {
    pub(crate) fn read(settings: &PostgresSettings) -> Result<Self, DbError> {
        let mut found = Self::default();
        for entry in Definitions::read(settings)?.entries {
            match entry.kind.as_str() {
                "ACL" => {
                    let grants = entry.sql.trim().to_owned();
                    found.sql.insert((entry.schema, entry.name), grants);
                }
                // Of objects that are made later; nothing drops them.
                "DEFAULT ACL" => {}
                _ => {
                    found.objects.insert((entry.schema, entry.name));
                }
            }
        }
        Ok(found)
    }

    /// The grants of this that `now` lacks on objects that are there, each as SQL.
    pub(crate) fn lost(&self, now: &Self) -> Vec<String> {
        let is_there = |schema: &str, named: &str| {
            let (kind, name) = named.split_once(' ').unwrap_or(("", named));
            // Of a column, its table; a schema stands in none.
            let name = if kind == "COLUMN" { name.split('.').next().unwrap_or(name) } else { name };
            now.objects.contains(&(schema.to_owned(), name.to_owned()))
        };
        self.sql
            .iter()
            .filter(|((schema, named), sql)| {
                let key = &(schema.clone(), named.clone());
                is_there(schema, named) && now.sql.get(key) != Some(*sql)
            })
            .map(|(_, sql)| sql.clone())
            .collect()
    }
}

pub(crate) fn seed_table(
    settings: &PostgresSettings,
    name: &str,
) -> Result<Option<SeedTable>, DbError> {
    let mut server = connect::admin(settings)?;
    let doing = format!("reading the seed table {name}");
    let (schema, table) = name.split_once('.').unwrap_or(("public", name));
    let sql = format!(
        "SELECT a.attname, coalesce(array_position(i.indkey::int2[], a.attnum), -1) + 1
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
         WHERE n.nspname = {} AND c.relname = {} AND c.relkind IN ('r', 'p')
         AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum",
        literal(schema),
        literal(table)
    );
    let described = server.rows_for(&sql, &doing)?;
    if described.is_empty() {
        return Ok(None);
    }
    let mut key: Vec<(u64, usize)> = described
        .iter()
        .enumerate()
        .filter_map(|(at, row)| Some((number(row, 1).filter(|place| *place > 0)?, at)))
        .collect();
    key.sort_unstable();
    // Columns stand in another order where one was added later: names bring them together.
    let columns: Vec<String> = described.iter().map(|row| ident(&column(row, 0))).collect();
    let list: Vec<String> =
        columns.iter().map(|name| format!("quote_nullable({name}::text)")).collect();
    let sql_name = format!("{}.{}", ident(schema), ident(table));
    let sql = format!("SELECT {} FROM {sql_name} LIMIT {}", list.join(", "), SEED_ROWS_MAX + 1);
    let rows = server.rows_for(&sql, &doing)?;
    if rows.len() > SEED_ROWS_MAX {
        return Err(too_many_rows(name));
    }
    let rows = rows
        .into_iter()
        .map(|row| row.into_iter().map(Option::unwrap_or_default).collect())
        .collect();
    Ok(Some(SeedTable {
        name: name.to_owned(),
        sql_name,
        columns,
        key: key.into_iter().map(|(_, at)| at).collect(),
        rows,
        overriding: " OVERRIDING SYSTEM VALUE",
    }))
}

/// One transaction of the client's; then the rows, without triggers and without asking whether what
/// they point to was copied too.
pub(crate) fn copy_definitions(
    from: &PostgresSettings,
    to: &PostgresSettings,
    rows: &[SeedTable],
) -> Result<(), DbError> {
    let mut listing = Vec::new();
    dump::write(from, dump::Scope::SchemaOnly, &mut listing, 0, &mut |_| {})?;
    dump::load(to, &mut listing.as_slice(), None, &mut |_| {})?;
    let mut server = connect::admin(to)?;
    server.run_for("SET session_replication_role = replica", "copying seed tables")?;
    for table in rows {
        for sql in table.inserts() {
            server.run_for(&sql, &format!("copying the rows of {}", table.name))?;
        }
    }
    Ok(())
}
