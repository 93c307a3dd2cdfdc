//! Proposals for SQLite, which alters little: other tables are made anew around their rows.

use std::collections::BTreeSet;

use super::parts::{Parts, leading_name, unquoted, words_of_code};
use super::proposal::Step;
use super::{Definition, Dialect, Kind, Object, Snapshot};

/// Where a table's rows wait while it is made anew.
const KEPT: &str = "temp.entracte_kept";

pub(super) fn propose(from: &Snapshot, to: &Snapshot) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut anew: BTreeSet<&str> = BTreeSet::new();
    let mut tables = Vec::new();
    for (object, wanted) in to.not_as_in(from) {
        if object.kind != Kind::Table {
            continue;
        }
        match from.objects.get(object) {
            None => tables.push(Step::new(statement(&wanted.create))),
            Some(found) => match added_columns(found, wanted) {
                Some(added) => tables.extend(added),
                None => {
                    anew.insert(&wanted.name);
                    tables.push(rebuilt(found, wanted));
                }
            },
        }
    }
    for (object, wanted) in to.not_as_in(from) {
        if object.kind == Kind::Other {
            tables.push(Step::new(format!("{};", wanted.create)));
        }
    }
    let gone = |definition: &Definition| {
        definition.table.as_deref().is_some_and(|table| anew.contains(table))
    };
    // What hangs on a table goes with it.
    for (object, found) in from.not_as_in(to).into_iter().rev() {
        if !matches!(object.kind, Kind::Table | Kind::Other) && !gone(found) {
            let sql =
                format!("DROP {} IF EXISTS {};", found.kind.to_uppercase(), quoted(&found.name));
            steps.push(Step::new(sql));
        }
    }
    for (object, found) in from.not_as_in(to) {
        if object.kind == Kind::Table && !to.objects.contains_key(object) {
            let sql = format!("DROP TABLE {};", quoted(&found.name));
            steps.push(Step::new(sql).loses(format!("the table {} with its rows", found.name)));
        }
    }
    steps.extend(tables);
    for kind in [Kind::Index, Kind::View, Kind::Trigger] {
        for (object, wanted) in to.in_order() {
            let same = |object: &Object| {
                from.objects.get(object).is_some_and(|found| found.text == wanted.text)
            };
            if object.kind == kind && (gone(wanted) || !same(object)) {
                steps.push(Step::new(statement(&wanted.create)));
            }
        }
    }
    steps
}

/// A definition, squeezed already, with the same quotation and spacing whoever wrote it: a table that
/// was renamed, or a column that was added, is written by SQLite itself.
pub fn normalised(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let code: BTreeSet<usize> =
        words_of_code(Dialect::Sqlite, sql).into_iter().map(|(at, _)| at).collect();
    let bytes = sql.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let mut end = at + 1;
        while end < bytes.len() && code.contains(&at) == code.contains(&end) {
            end += 1;
        }
        out += &match code.contains(&at) {
            true => sql[at..end].to_owned(),
            false => plain(&sql[at..end]),
        };
        at = end;
    }
    let Some(parts) = Parts::of(Dialect::Sqlite, &out).filter(|_| out.starts_with("CREATE TABLE"))
    else {
        return out;
    };
    format!("{}(\n  {}\n) {}", parts.head, parts.items.join(",\n  "), parts.tail)
        .trim_end()
        .to_owned()
}

/// A quoted name that needs no quotation, without it.
fn plain(quoted: &str) -> String {
    let name = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let is_plain = |name: &&str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    name.filter(is_plain).unwrap_or(quoted).to_owned()
}

fn statement(create: &str) -> String {
    format!("{};", create.trim_end_matches([';', ' ', '\n']))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Where the wanted table is the found one with columns behind its own that SQLite can add in
/// place: those statements.
fn added_columns(found: &Definition, wanted: &Definition) -> Option<Vec<Step>> {
    if is_virtual(found) || is_virtual(wanted) {
        return None;
    }
    let (old, new) =
        (Parts::of(Dialect::Sqlite, &found.text)?, Parts::of(Dialect::Sqlite, &wanted.text)?);
    if old.head != new.head || old.tail != new.tail || old.items.len() >= new.items.len() {
        return None;
    }
    let columns = |parts: &Parts<'_>| parts.items.iter().take_while(|item| is_column(item)).count();
    let (had, has) = (columns(&old), columns(&new));
    if old.items[..had] != new.items[..had] || old.items[had..] != new.items[has..] {
        return None;
    }
    let added = &new.items[had..has];
    let steps = added.iter().map(|item| {
        can_be_added(item)
            .then(|| Step::new(format!("ALTER TABLE {} ADD COLUMN {item};", quoted(&found.name))))
    });
    steps.collect()
}

fn is_column(item: &str) -> bool {
    const OTHERS: [&str; 5] = ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"];
    let word = leading_name(item).0;
    !OTHERS.iter().any(|other| word.eq_ignore_ascii_case(other))
}

/// Conservative: what is doubtful is a reason to make the table anew.
fn can_be_added(item: &str) -> bool {
    let upper = item.to_ascii_uppercase();
    let has = |word: &str| upper.contains(word);
    let refused =
        ["PRIMARY", "UNIQUE", "GENERATED", " AS ", "AS(", "CURRENT_", "CHECK", "REFERENCES"];
    !refused.iter().any(|word| has(word))
        && !has("DEFAULT (")
        && (!has("NOT NULL") || (has("DEFAULT ") && !has("DEFAULT NULL")))
}

fn names(parts: &Parts<'_>) -> Vec<String> {
    let columns = parts.items.iter().take_while(|item| is_column(item));
    columns.map(|item| unquoted(leading_name(item).0)).collect()
}

/// The names of the columns whose values are stored because somebody gave them.
fn given(parts: &Parts<'_>) -> Vec<String> {
    let columns = parts.items.iter().take_while(|item| is_column(item));
    let given = columns.filter(|item| {
        let upper = item.to_ascii_uppercase();
        !(upper.contains("GENERATED ALWAYS") || upper.contains(" AS ("))
    });
    given.map(|item| unquoted(leading_name(item).0)).collect()
}

/// The table made anew around its rows.
fn rebuilt(found: &Definition, wanted: &Definition) -> Step {
    let name = quoted(&wanted.name);
    let parts = (Parts::of(Dialect::Sqlite, &found.text), Parts::of(Dialect::Sqlite, &wanted.text));
    let (Some(old), Some(new), false) =
        (&parts.0, &parts.1, is_virtual(found) || is_virtual(wanted))
    else {
        let sql = format!("DROP TABLE {name};\n{}", statement(&wanted.create));
        return Step::new(sql).loses(format!("what the table {} holds", wanted.name));
    };
    let same = |a: &String, b: &String| a.eq_ignore_ascii_case(b);
    let (before, after) = (names(old), given(new));
    let kept: Vec<&String> =
        after.iter().filter(|name| before.iter().any(|had| same(had, name))).collect();
    let all = names(new);
    let lost: Vec<&str> = given(old)
        .iter()
        .filter(|name| !all.iter().any(|has| same(has, name)))
        .map(|name| before.iter().find(|had| same(had, name)).map_or("", String::as_str))
        .collect();
    let list = kept.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let counts =
        |definition: &Definition| definition.text.to_ascii_uppercase().contains("AUTOINCREMENT");
    let mut sql = format!("CREATE TEMP TABLE entracte_kept AS SELECT {list} FROM main.{name};\n");
    // The numbers of deleted rows are not given again.
    if counts(found) && counts(wanted) {
        sql += &format!(
            "CREATE TEMP TABLE entracte_next AS SELECT * FROM sqlite_sequence WHERE name = {};\n",
            literal(&wanted.name)
        );
    }
    sql += &format!("DROP TABLE main.{name};\n{}\n", statement(&wanted.create));
    sql += &format!("INSERT INTO main.{name} ({list}) SELECT {list} FROM {KEPT};\n");
    if counts(found) && counts(wanted) {
        let of_table = format!("name = {}", literal(&wanted.name));
        sql += &format!(
            "DELETE FROM main.sqlite_sequence WHERE {of_table} AND EXISTS (SELECT 1 FROM temp.entracte_next);\n\
             INSERT INTO main.sqlite_sequence (name, seq) SELECT name, seq FROM temp.entracte_next;\n\
             DROP TABLE temp.entracte_next;\n"
        );
    }
    sql += &format!("DROP TABLE {KEPT};");
    if kept.is_empty() {
        sql = format!("DROP TABLE main.{name};\n{}", statement(&wanted.create));
    }
    let step = Step::new(sql);
    match lost.as_slice() {
        [] if kept.is_empty() => step.loses(format!("the rows of the table {}", wanted.name)),
        [] => step.warns(
            "the table is written anew; rows that the new definition refuses end the script",
        ),
        lost => step.loses(format!("of the table {}: {}", wanted.name, lost.join(", "))),
    }
}

fn is_virtual(definition: &Definition) -> bool {
    definition.text.to_ascii_uppercase().starts_with("CREATE VIRTUAL")
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
