//! What alters one PostgreSQL type into another.

use super::parts::{Parts, find_phrase, leading_name};
use super::postgres_table::Table;
use super::proposal::Step;
use super::{Definition, Dialect, Kind, Snapshot};

const PG: Dialect = Dialect::Postgres;

enum Shape<'a> {
    Enum(Vec<&'a str>),
    Composite(Vec<&'a str>),
    Domain(Domain<'a>),
    Other,
}

#[derive(PartialEq, Eq)]
struct Domain<'a> {
    base: &'a str,
    default: Option<&'a str>,
    not_null: bool,
    checks: Vec<&'a str>,
}

fn shape(sql: &str) -> Shape<'_> {
    if sql.starts_with("CREATE DOMAIN ") {
        return domain(sql).map_or(Shape::Other, Shape::Domain);
    }
    match Parts::of(PG, sql) {
        Some(parts) if parts.head.ends_with(" AS ENUM") => Shape::Enum(parts.items),
        Some(parts) if parts.head.ends_with(" AS") => Shape::Composite(parts.items),
        _ => Shape::Other,
    }
}

fn domain(sql: &str) -> Option<Domain<'_>> {
    let sql = sql.trim_end().trim_end_matches(';');
    let mut lines = sql.split("\n\tCONSTRAINT ");
    let first = lines.next()?;
    let rest = &first[first.find(" AS ")? + " AS ".len()..];
    let (null, default) = (find_phrase(PG, rest, "NOT NULL"), find_phrase(PG, rest, "DEFAULT"));
    let begin = null.into_iter().chain(default).min().unwrap_or(rest.len());
    let default = default.map(|at| {
        let end = null.filter(|null| *null > at).unwrap_or(rest.len());
        rest[at + "DEFAULT".len()..end].trim()
    });
    let checks = lines.map(str::trim).collect();
    Some(Domain { base: rest[..begin].trim(), default, not_null: null.is_some(), checks })
}

/// A composite type with its attributes in the order of their names: new ones stand at the end.
pub(super) fn normalised(sql: &str) -> String {
    match (shape(sql), Parts::of(PG, sql)) {
        (Shape::Composite(mut items), Some(parts)) => {
            items.sort_unstable();
            format!("{} (\n\t{}\n)", parts.head, items.join(",\n\t"))
        }
        _ => sql.to_owned(),
    }
}

/// Whether there are statements that make one into the other.
pub(super) fn can_be_altered(found: &Definition, wanted: &Definition) -> bool {
    use Shape::{Composite, Domain, Enum};
    matches!(
        (shape(&found.create), shape(&wanted.create)),
        (Enum(_), Enum(_)) | (Composite(_), Composite(_)) | (Domain(_), Domain(_))
    )
}

/// Whether columns have to be moved to a new type of the same name.
pub(super) fn replaces(found: &Definition, wanted: &Definition) -> bool {
    match (shape(&found.create), shape(&wanted.create)) {
        (Shape::Enum(old), Shape::Enum(new)) => !is_within(&old, &new),
        (Shape::Domain(old), Shape::Domain(new)) => old.base != new.base,
        // An attribute keeps its type as long as a column is of the composite type.
        (Shape::Composite(old), Shape::Composite(new)) => old.iter().any(|item| {
            let (name, kind) = leading_name(item);
            new.iter().any(|other| leading_name(other).0 == name && leading_name(other).1 != kind)
        }),
        _ => false,
    }
}

/// Whether the labels are among the others, in the same order.
fn is_within(old: &[&str], new: &[&str]) -> bool {
    let mut rest = new.iter();
    old.iter().all(|label| rest.any(|other| other == label))
}

/// The tables that have columns of a type.
pub(super) fn tables_of<'a>(from: &'a Snapshot, name: &str) -> Vec<(&'a str, Table<'a>)> {
    let tables = from.objects.iter().filter(|(object, _)| object.kind == Kind::Table);
    let tables =
        tables.filter_map(|(_, found)| Some((found.name.as_str(), Table::of(&found.create)?)));
    tables
        .filter(|(_, table)| table.columns().iter().any(|column| is_of(column.kind, name)))
        .collect()
}

fn is_of(kind: &str, name: &str) -> bool {
    kind.trim_end_matches("[]") == name
}

pub(super) fn alter(from: &Snapshot, found: &Definition, wanted: &Definition) -> Vec<Step> {
    if replaces(found, wanted) {
        return vec![replaced(from, found, wanted)];
    }
    let name = &wanted.name;
    match (shape(&found.create), shape(&wanted.create)) {
        (Shape::Enum(old), Shape::Enum(new)) => labels(name, &old, &new),
        (Shape::Composite(old), Shape::Composite(new)) => attributes(name, &old, &new),
        (Shape::Domain(old), Shape::Domain(new)) => domain_steps(name, &old, &new),
        _ => Vec::new(),
    }
}

fn labels(name: &str, old: &[&str], new: &[&str]) -> Vec<Step> {
    let mut steps = Vec::new();
    for (at, label) in new.iter().enumerate().filter(|(_, label)| !old.contains(label)) {
        let place = match (at.checked_sub(1), old.first()) {
            (Some(before), _) => format!(" AFTER {}", new[before]),
            (None, Some(first)) => format!(" BEFORE {first}"),
            (None, None) => String::new(),
        };
        steps.push(Step::new(format!("ALTER TYPE {name} ADD VALUE {label}{place};")));
    }
    steps
}

fn attributes(name: &str, old: &[&str], new: &[&str]) -> Vec<Step> {
    let mut steps = Vec::new();
    let has = |list: &[&str], name: &str| list.iter().any(|item| leading_name(item).0 == name);
    for item in new.iter().filter(|item| !has(old, leading_name(item).0)) {
        steps.push(Step::new(format!("ALTER TYPE {name} ADD ATTRIBUTE {item};")));
    }
    for (attribute, _) in old.iter().map(|item| leading_name(item)) {
        if !has(new, attribute) {
            let step = Step::new(format!("ALTER TYPE {name} DROP ATTRIBUTE {attribute};"));
            steps.push(step.loses(format!("of the type {name}: {attribute}")));
        }
    }
    steps
}

fn domain_steps(name: &str, old: &Domain<'_>, new: &Domain<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut run = |clause: String| steps.push(Step::new(format!("ALTER DOMAIN {name} {clause};")));
    for check in old.checks.iter().filter(|check| !new.checks.contains(check)) {
        run(format!("DROP CONSTRAINT {}", leading_name(check).0));
    }
    if old.default != new.default {
        run(new.default.map_or("DROP DEFAULT".to_owned(), |text| format!("SET DEFAULT {text}")));
    }
    match (old.not_null, new.not_null) {
        (false, true) => run("SET NOT NULL".to_owned()),
        (true, false) => run("DROP NOT NULL".to_owned()),
        _ => {}
    }
    for check in new.checks.iter().filter(|check| !old.checks.contains(check)) {
        run(format!("ADD CONSTRAINT {check}"));
    }
    steps
}

/// A new type takes the place of the old one, in every column, in one transaction.
fn replaced(from: &Snapshot, found: &Definition, wanted: &Definition) -> Step {
    let word = &found.kind;
    let name = &found.name;
    let bare = name.rsplit_once('.').map_or(name.as_str(), |(_, bare)| bare).trim_matches('"');
    let old = format!("entracte_old_{}", bare.replace('"', ""));
    let schema = name.rsplit_once('.').map_or(String::new(), |(schema, _)| format!("{schema}."));
    let mut sql =
        format!("ALTER {word} {name} RENAME TO \"{old}\";\n{}\n", wanted.create.trim_end());
    for (table, parts) in tables_of(from, name) {
        for column in parts.columns().iter().filter(|column| is_of(column.kind, name)) {
            let clauses = column.retyped(column.kind, column.collation(), column.default());
            sql += &format!("ALTER TABLE {table} {};\n", clauses.join(", "));
        }
    }
    sql += &format!("DROP {word} {schema}\"{old}\";");
    Step::new(sql).warns("values that the new type does not have refuse it")
}
