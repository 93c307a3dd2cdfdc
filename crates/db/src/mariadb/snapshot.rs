//! The definitions of a MariaDB database, for comparing it and for copying it without its rows.

use std::collections::BTreeMap;

use entracte_model::schema::{
    Definition, Dialect, Kind, Object, SeedTable, Snapshot, normalised_mariadb_table, words_of_code,
};

use super::connect::{self, Server, account, column, ident, literal, number};
use super::definitions::{Definitions, Program, without_definer, without_next_value};
use super::exact_floats::as_double;
use super::rebuild;
use crate::compare::{SEED_ROWS_MAX, too_many_rows};
use crate::error::DbError;
use crate::settings::MariadbSettings;

const DOING: &str = "reading the definitions";

pub(crate) fn snapshot(settings: &MariadbSettings) -> Result<Snapshot, DbError> {
    let mut server = connect::admin(settings)?;
    let definitions = Definitions::read(&mut server)?;
    let moments = moments(&mut server)?;
    let here = format!("{}.", ident(&settings.database));
    let mut objects = BTreeMap::new();
    for (position, table) in definitions.tables.iter().enumerate() {
        let create = without_default(&without_next_value(&table.create));
        let create = without_qualifier(&create, &here);
        let definition = Definition {
            text: normalised_mariadb_table(&create),
            create,
            kind: "TABLE".to_owned(),
            name: table.name.clone(),
            position,
            ..Definition::default()
        };
        objects.insert(Object { kind: Kind::Table, name: table.name.clone() }, definition);
    }
    for (position, sequence) in definitions.sequences.iter().enumerate() {
        let definition = Definition {
            text: sequence.create.clone(),
            create: sequence.create.clone(),
            kind: "SEQUENCE".to_owned(),
            name: sequence.name.clone(),
            position,
            ..Definition::default()
        };
        objects.insert(Object { kind: Kind::Sequence, name: sequence.name.clone() }, definition);
    }
    for (position, program) in definitions.programs.iter().enumerate() {
        let (object, mut definition) = of_program(program, &here, &moments);
        definition.position = position;
        objects.insert(object, definition);
    }
    let uncovered = [
        "grants, and whose rights programs run with",
        "the database's own default character set",
        "when events begin",
        "the rows of tables that are not listed as seed tables",
    ];
    let uncovered = uncovered.map(String::from).to_vec();
    Ok(Snapshot { dialect: Dialect::Mariadb, objects, uncovered })
}

/// When each trigger fires: its moment, and its place among those that fire then, if there are
/// others.
type Moments = BTreeMap<String, (String, Option<u64>)>;

fn moments(server: &mut Server) -> Result<Moments, DbError> {
    let sql = "SELECT TRIGGER_NAME, CONCAT(ACTION_TIMING, ' ', EVENT_MANIPULATION), ACTION_ORDER,
               COUNT(*) OVER (PARTITION BY EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION)
               FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()";
    let rows = server.rows_for(sql, DOING)?;
    let moment = |row: &connect::Row| {
        let others = number(row, 3).is_some_and(|count| count > 1);
        (column(row, 0), (column(row, 1), number(row, 2).filter(|_| others)))
    };
    Ok(rows.iter().map(moment).collect())
}

fn of_program(program: &Program, here: &str, moments: &Moments) -> (Object, Definition) {
    let object = program.object();
    let mut text = without_qualifier(&program.normalised(), here);
    let mut kind = program.kind.clone();
    let mut session = Vec::new();
    if let Some((moment, order)) = moments.get(&program.name).filter(|_| kind == "TRIGGER") {
        kind.clone_from(moment);
        if let Some(order) = order {
            text += &format!("\n-- fires as number {order} of its moment");
        }
    }
    if let Some(mode) = &program.sql_mode {
        session.push(("sql_mode".to_owned(), literal(mode)));
    }
    if let Some(zone) = program.time_zone.as_ref().filter(|zone| *zone != "SYSTEM") {
        text += &format!("\n-- time_zone {zone}");
        session.push(("time_zone".to_owned(), literal(zone)));
    }
    let definition = Definition {
        text,
        create: without_qualifier(&without_definer(&program.create), here),
        kind,
        name: program.name.clone(),
        table: program.table.clone(),
        position: 0,
        definer: Some(account(&program.definer)),
        session,
    };
    (object, definition)
}

/// `CREATE TABLE` without the option that Aria writes out though it is the default, and not always.
fn without_default(create: &str) -> String {
    let options = create.rfind("\n)").unwrap_or(0);
    let (definition, options) = create.split_at(options);
    format!("{definition}{}", options.replacen(" PAGE_CHECKSUM=1", "", 1))
}

/// The text without the database's own name before its objects: it may have another name elsewhere.
fn without_qualifier(text: &str, here: &str) -> String {
    if !text.contains(here) {
        return text.to_owned();
    }
    // Names are quoted, so they are no code; their surroundings are.
    let code = words_of_code(Dialect::Mariadb, text);
    let is_name = |at: usize| {
        let dot = at + here.len() - 1;
        code.binary_search_by_key(&dot, |(at, _)| *at).is_ok()
    };
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, _) in text.match_indices(here).filter(|(at, _)| is_name(*at)) {
        out += &text[from..at];
        from = at + here.len();
    }
    out + &text[from..]
}

pub(crate) fn seed_table(
    settings: &MariadbSettings,
    name: &str,
) -> Result<Option<SeedTable>, DbError> {
    let mut server = connect::admin(settings)?;
    let doing = format!("reading the seed table {name}");
    let sql = format!(
        "SELECT c.COLUMN_NAME, c.DATA_TYPE, COALESCE(k.ORDINAL_POSITION, 0)
         FROM information_schema.COLUMNS c LEFT JOIN information_schema.KEY_COLUMN_USAGE k
         ON k.TABLE_SCHEMA = c.TABLE_SCHEMA AND k.TABLE_NAME = c.TABLE_NAME
         AND k.COLUMN_NAME = c.COLUMN_NAME AND k.CONSTRAINT_NAME = 'PRIMARY'
         WHERE c.TABLE_SCHEMA = DATABASE() AND c.TABLE_NAME = {}
         AND c.EXTRA NOT LIKE '%GENERATED%' ORDER BY c.ORDINAL_POSITION",
        literal(name)
    );
    let described = server.rows_for(&sql, &doing)?;
    if described.is_empty() {
        return Ok(None);
    }
    let mut key: Vec<(u64, usize)> = described
        .iter()
        .enumerate()
        .filter_map(|(at, row)| Some((number(row, 2).filter(|place| *place > 0)?, at)))
        .collect();
    key.sort_unstable();
    let columns: Vec<String> = described.iter().map(|row| ident(&column(row, 0))).collect();
    let kinds: Vec<String> = described.iter().map(|row| column(row, 1)).collect();
    let list: Vec<String> = described
        .iter()
        .map(|row| match (column(row, 0), column(row, 1).as_str()) {
            (name, kind) if is_binary(kind) => format!("HEX({})", ident(&name)),
            // As it is, not rounded to six digits.
            (name, "float") => as_double(&name),
            (name, _) => ident(&name),
        })
        .collect();
    let sql_name = ident(name);
    let sql = format!("SELECT {} FROM {sql_name} LIMIT {}", list.join(", "), SEED_ROWS_MAX + 1);
    let rows = server.rows_for(&sql, &doing)?;
    if rows.len() > SEED_ROWS_MAX {
        return Err(too_many_rows(name));
    }
    let value = |value: Option<String>, kind: &String| match value {
        None => "NULL".to_owned(),
        Some(hex) if is_binary(kind) => format!("X'{hex}'"),
        Some(number) if is_number(kind) => number,
        Some(text) => literal(&text),
    };
    let rows = rows
        .into_iter()
        .map(|row| row.into_iter().zip(&kinds).map(|(cell, kind)| value(cell, kind)).collect())
        .collect();
    let key = key.into_iter().map(|(_, at)| at).collect();
    Ok(Some(SeedTable { name: name.to_owned(), sql_name, columns, key, rows, overriding: "" }))
}

fn is_binary(kind: &str) -> bool {
    const OTHERS: [&str; 8] = [
        "bit",
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
    ];
    kind.ends_with("blob") || kind.ends_with("binary") || OTHERS.contains(&kind)
}

fn is_number(kind: &str) -> bool {
    kind.ends_with("int") || matches!(kind, "decimal" | "float" | "double" | "year")
}

/// A crash leaves a part of it: the server is a scratch server.
pub(crate) fn copy_definitions(
    from: &MariadbSettings,
    to: &MariadbSettings,
    rows: &[SeedTable],
) -> Result<(), DbError> {
    let definitions = Definitions::read(&mut connect::admin(from)?)?;
    let mut server = connect::admin(to)?;
    rebuild::empty(&mut server, &[])?;
    rebuild::sequences(&mut server, &definitions.sequences)?;
    for table in &definitions.tables {
        let doing = format!("making the table {}", table.name);
        server.run_for(&table.create, &doing)?;
    }
    // Before the triggers, which would meddle.
    server.run_for("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'", DOING)?;
    for table in rows {
        for sql in table.inserts() {
            server.run_for(&sql, &format!("copying the rows of {}", table.name))?;
        }
    }
    server.run_for("SET SESSION sql_mode = ''", DOING)?;
    rebuild::programs(&mut server, &definitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_database_goes_where_it_is_a_name() {
        let sql = "DEFAULT nextval(`a`.`sq`) COMMENT '`a`.`b`'";
        assert_eq!(without_qualifier(sql, "`a`."), "DEFAULT nextval(`sq`) COMMENT '`a`.`b`'");
    }
}
