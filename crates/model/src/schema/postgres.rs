//! Proposals for PostgreSQL, from the entries that `pg_dump` lists. What an entry is called in SQL
//! is read from the entry itself.

use std::collections::BTreeSet;

use super::parts::{find_phrase, leading_name};
use super::postgres_table::{Table, alter as alter_table, normalised as normalised_table};
use super::postgres_type as types;
use super::proposal::Step;
use super::{Definition, Dialect, Kind, Snapshot};

/// An entry's SQL with what has no order in one order.
pub fn normalised(kind: &str, sql: &str) -> String {
    match kind {
        "TABLE" => normalised_table(sql),
        "TYPE" => types::normalised(sql),
        _ => sql.to_owned(),
    }
}

pub(super) fn propose(from: &Snapshot, to: &Snapshot) -> Vec<Step> {
    let mut steps = Vec::new();
    free_columns(from, to, &mut steps);
    for (object, found) in from.not_as_in(to).into_iter().rev() {
        let wanted = to.objects.get(object);
        if wanted.is_some_and(|wanted| changes_in_place(found, wanted)) {
            continue;
        }
        steps.extend(dropped(found));
    }
    for (object, wanted) in to.not_as_in(from) {
        match from.objects.get(object) {
            Some(found) if changes_in_place(found, wanted) => {
                steps.extend(altered(from, to, found, wanted));
            }
            found => steps.extend(made(from, found, wanted)),
        }
    }
    steps
}

/// Whether the object stays and is altered, instead of being dropped and made again.
fn changes_in_place(found: &Definition, wanted: &Definition) -> bool {
    match wanted.kind.as_str() {
        "TABLE" => !needs_another_table(found, wanted),
        "SEQUENCE" => !is_identity(found) && !is_identity(wanted),
        "TYPE" | "DOMAIN" => types::can_be_altered(found, wanted),
        "FUNCTION" | "PROCEDURE" => header(found) == header(wanted),
        "COMMENT" | "DEFAULT" | "SEQUENCE OWNED BY" => true,
        _ => false,
    }
}

fn needs_another_table(found: &Definition, wanted: &Definition) -> bool {
    let parts = (Table::of(&found.create), Table::of(&wanted.create));
    let (Some(old), Some(new)) = parts else { return true };
    old.partition_by() != new.partition_by()
}

fn is_identity(definition: &Definition) -> bool {
    definition.create.starts_with("ALTER TABLE ")
}

/// What `CREATE OR REPLACE` must not change: everything before the language.
fn header(definition: &Definition) -> &str {
    definition.create.split("\n    LANGUAGE ").next().unwrap_or("")
}

/// Drops what would be in the way of columns that change their type or go; the next round finds it
/// missing and makes it again.
fn free_columns(from: &Snapshot, to: &Snapshot, steps: &mut Vec<Step>) {
    let mut touched = BTreeSet::new();
    for (object, wanted) in to.not_as_in(from) {
        let Some(found) = from.objects.get(object) else { continue };
        match wanted.kind.as_str() {
            "TABLE" => {
                let parts = (Table::of(&found.create), Table::of(&wanted.create));
                if let (Some(old), Some(new)) = parts
                    && old.is_retyped_by(&new)
                {
                    touched.insert(found.name.as_str());
                }
            }
            "TYPE" | "DOMAIN" if types::replaces(found, wanted) => {
                touched
                    .extend(types::tables_of(from, &found.name).into_iter().map(|(name, _)| name));
            }
            _ => {}
        }
    }
    if touched.is_empty() {
        return;
    }
    for (object, found) in from.in_order().into_iter().rev() {
        let names_one = touched.iter().any(|table| mentions(&found.create, table));
        let is_above = matches!(object.kind, Kind::View | Kind::Policy | Kind::Trigger)
            && found.kind != "ROW SECURITY"
            && found.kind != "EVENT TRIGGER";
        if is_above && names_one {
            steps.extend(dropped(found));
        }
    }
}

/// Whether the name stands in the text as a whole.
pub(super) fn mentions(text: &str, name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'"';
    text.match_indices(name).any(|(at, _)| {
        let before = at.checked_sub(1).map(|at| text.as_bytes()[at]);
        let after = text.as_bytes().get(at + name.len());
        before.is_none_or(|byte| !is_part(byte)) && after.is_none_or(|byte| !is_part(*byte))
    })
}

/// The first words of an entry up to one of `ends`, without `start`.
fn between<'a>(sql: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let rest = sql.strip_prefix(start)?;
    let at = find_phrase(Dialect::Postgres, rest, end)?;
    Some(rest[..at].trim())
}

/// The statement that drops an entry; nothing for what goes with another.
fn dropped(found: &Definition) -> Option<Step> {
    let (sql, name) = (found.create.as_str(), found.name.as_str());
    let step = match found.kind.as_str() {
        "TABLE" => Step::new(format!("DROP TABLE {name};"))
            .loses(format!("the table {name} with its rows")),
        "VIEW" | "MATERIALIZED VIEW" => {
            Step::new(format!("DROP {} IF EXISTS {name} CASCADE;", found.kind))
        }
        "INDEX" => Step::new(format!("DROP INDEX IF EXISTS {name};")),
        "INDEX ATTACH" | "ACL" => return None,
        "FUNCTION" | "PROCEDURE" | "AGGREGATE" => {
            Step::new(format!("DROP {} IF EXISTS {name} CASCADE;", found.kind))
        }
        "SEQUENCE" if is_identity(found) => {
            let head = sql.split(" ADD GENERATED ").next()?;
            Step::new(format!("{head} DROP IDENTITY IF EXISTS;"))
        }
        "SEQUENCE OWNED BY" => {
            let head = sql.split(" OWNED BY ").next()?.replace("SEQUENCE ", "SEQUENCE IF EXISTS ");
            Step::new(format!("{head} OWNED BY NONE;"))
        }
        "SEQUENCE" => Step::new(format!("DROP SEQUENCE IF EXISTS {name};")),
        "DEFAULT" => Step::new(format!("{} DROP DEFAULT;", sql.split(" SET DEFAULT ").next()?)),
        "CONSTRAINT" | "FK CONSTRAINT" | "CHECK CONSTRAINT" => {
            let (head, rest) = sql.split_once("ADD CONSTRAINT ")?;
            let constraint = leading_name(rest).0;
            let head = head.split_whitespace().collect::<Vec<_>>().join(" ");
            Step::new(format!("{head} DROP CONSTRAINT IF EXISTS {constraint};"))
        }
        "TABLE ATTACH" => {
            let (head, rest) = sql.split_once(" ATTACH PARTITION ")?;
            let child = rest.split([' ', '\n']).next()?;
            let head = head.replace("ALTER TABLE ONLY ", "ALTER TABLE ");
            Step::new(format!("{head} DETACH PARTITION {child};"))
        }
        "TRIGGER" => {
            let head = sql.strip_prefix("CREATE CONSTRAINT TRIGGER ");
            let head = head.or_else(|| sql.strip_prefix("CREATE TRIGGER "))?;
            let table = head[find_phrase(Dialect::Postgres, head, "ON")? + 2..].trim_start();
            let table = table.split([' ', '\n']).next()?;
            Step::new(format!("DROP TRIGGER IF EXISTS {} ON {table};", leading_name(head).0))
        }
        "RULE" => {
            let head = sql.strip_prefix("CREATE RULE ")?;
            let table = head[find_phrase(Dialect::Postgres, head, "TO")? + 2..].trim_start();
            let table = table.split([' ', '\n', ';']).next()?;
            Step::new(format!("DROP RULE IF EXISTS {} ON {table};", leading_name(head).0))
        }
        "POLICY" => {
            let policy = between(sql, "CREATE POLICY ", "ON")?;
            let rest = &sql["CREATE POLICY ".len() + policy.len()..];
            let table = rest.trim_start().strip_prefix("ON ")?.split([' ', '\n', ';']).next()?;
            Step::new(format!("DROP POLICY IF EXISTS {policy} ON {table};"))
        }
        "ROW SECURITY" => Step::new(sql.replace(" ENABLE ROW LEVEL", " DISABLE ROW LEVEL")),
        "COMMENT" => {
            let at = find_phrase(Dialect::Postgres, sql, "IS")?;
            Step::new(format!("{} IS NULL;", sql[..at].trim_end()))
        }
        "EXTENSION" => Step::new(format!("DROP EXTENSION IF EXISTS {name};")),
        kind if name.is_empty() => return Some(unknown(kind, sql)),
        kind => Step::new(format!("DROP {kind} IF EXISTS {name};")),
    };
    Some(step)
}

/// A kind for which nothing is proposed: said, and not run.
fn unknown(kind: &str, sql: &str) -> Step {
    let first = sql.lines().next().unwrap_or("");
    Step::new(format!("-- by hand, no proposal for this {}: {first}", kind.to_lowercase()))
}

/// The statements that make an entry.
fn made(from: &Snapshot, found: Option<&Definition>, wanted: &Definition) -> Vec<Step> {
    let mut sql = wanted.create.trim_end().to_owned();
    if wanted.kind == "MATERIALIZED VIEW" {
        sql = sql.replace("\n  WITH NO DATA;", ";");
    }
    let step = Step::new(sql);
    let step = match wanted.kind.as_str() {
        "CONSTRAINT" | "FK CONSTRAINT" | "CHECK CONSTRAINT" if found.is_none() => {
            step.warns("rows that break it refuse it")
        }
        "INDEX" if wanted.create.starts_with("CREATE UNIQUE") => {
            step.warns("rows that are there twice refuse it")
        }
        _ => step,
    };
    let mut steps = vec![step];
    if wanted.kind == "SEQUENCE" && is_identity(wanted) {
        steps.extend(position(from, wanted));
    }
    steps
}

/// An identity that is new to a table goes on behind the numbers that are there.
fn position(from: &Snapshot, identity: &Definition) -> Option<Step> {
    let table = between(&identity.create, "ALTER TABLE ", "ALTER COLUMN")?;
    let rest = identity.create.split(" ALTER COLUMN ").nth(1)?;
    let column = leading_name(rest).0;
    let is_there = from.objects.values().any(|found| found.kind == "TABLE" && found.name == table);
    let sequence = identity.create.split("SEQUENCE NAME ").nth(1)?.lines().next()?.trim();
    is_there.then(|| {
        Step::new(format!(
            "SELECT pg_catalog.setval('{}', coalesce((SELECT max({column}) + 1 FROM {table}), 1), false)\n    \
             WHERE EXISTS (SELECT 1 FROM {table});",
            sequence.replace('\'', "''")
        ))
    })
}

fn altered(from: &Snapshot, to: &Snapshot, found: &Definition, wanted: &Definition) -> Vec<Step> {
    match wanted.kind.as_str() {
        "TABLE" => {
            let parts = (Table::of(&found.create), Table::of(&wanted.create));
            let (Some(old), Some(new)) = parts else { return Vec::new() };
            // A partition's columns are its parent's.
            let is_partition = is_attached(from, &found.name) && is_attached(to, &wanted.name);
            alter_table(&wanted.name, &old, &new, is_partition)
        }
        "TYPE" | "DOMAIN" => types::alter(from, found, wanted),
        "SEQUENCE" => vec![Step::new(sequence(wanted))],
        "FUNCTION" | "PROCEDURE" => {
            let rest = wanted.create.strip_prefix("CREATE ").unwrap_or(&wanted.create);
            vec![Step::new(format!("CREATE OR REPLACE {rest}"))]
        }
        _ => vec![Step::new(wanted.create.trim_end())],
    }
}

fn is_attached(snapshot: &Snapshot, table: &str) -> bool {
    let child = format!(" ATTACH PARTITION {table} ");
    snapshot.objects.values().any(|one| one.kind == "TABLE ATTACH" && one.create.contains(&child))
}

/// The options of a sequence, said in full; it goes on counting from where it stands.
fn sequence(wanted: &Definition) -> String {
    let options = wanted.create.split_once('\n').map_or("", |(_, rest)| rest);
    let mut words = options.trim_end_matches([';', '\n']).split_whitespace().collect::<Vec<_>>();
    if !words.contains(&"AS") {
        words.splice(0..0, ["AS", "bigint"]);
    }
    if !words.contains(&"CYCLE") {
        words.extend(["NO", "CYCLE"]);
    }
    format!("ALTER SEQUENCE {} {};", wanted.name, words.join(" "))
}
