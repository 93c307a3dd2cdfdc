//! What alters one PostgreSQL table into another.

use super::Dialect;
use super::parts::{Parts, find_phrase, leading_name};
use super::proposal::Step;

const PG: Dialect = Dialect::Postgres;

/// The parts of a table as `pg_dump` prints them.
#[derive(Debug, Clone)]
pub(super) struct Table<'a> {
    head: &'a str,
    columns: Vec<Column<'a>>,
    /// Checks: name as written, clause.
    checks: Vec<(&'a str, &'a str)>,
    /// `INHERITS (…)`, `PARTITION BY …`, `WITH (…)`.
    tail: &'a str,
    /// Statements behind the definition.
    after: Vec<&'a str>,
}

/// A column, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column<'a> {
    pub(super) name: &'a str,
    pub(super) kind: &'a str,
    text: &'a str,
    default: Option<&'a str>,
    computed: bool,
    not_null: bool,
    collation: Option<&'a str>,
}

impl<'a> Table<'a> {
    pub(super) fn of(sql: &'a str) -> Option<Self> {
        let parts = Parts::of(PG, sql)?;
        let mut pieces = parts.tail.split(';').map(str::trim);
        // A statement behind the definition holds no semicolon but in a text.
        let tail = pieces.next().unwrap_or("");
        let after = pieces.filter(|piece| piece.starts_with("ALTER ")).collect();
        let is_check = |item: &&&str| item.starts_with("CONSTRAINT ") || item.starts_with("CHECK ");
        let checks = parts.items.iter().filter(|item| is_check(item));
        let checks = checks
            .map(|item| (leading_name(item.strip_prefix("CONSTRAINT ").unwrap_or(item)).0, *item));
        let columns = parts.items.iter().filter(|item| !is_check(item) && !item.is_empty());
        Some(Self {
            head: parts.head,
            columns: columns.map(|item| Column::of(item)).collect(),
            checks: checks.collect(),
            tail,
            after,
        })
    }

    pub(super) fn columns(&self) -> &[Column<'a>] {
        &self.columns
    }

    pub(super) fn partition_by(&self) -> Option<&str> {
        self.tail.lines().find(|line| line.starts_with("PARTITION BY"))
    }

    /// Whether a column changes its type, is computed anew, or goes.
    pub(super) fn is_retyped_by(&self, new: &Table<'_>) -> bool {
        self.columns.iter().any(|column| {
            new.columns.iter().find(|other| other.name == column.name).is_none_or(|other| {
                (other.kind, other.collation) != (column.kind, column.collation)
                    || ((other.computed || column.computed) && other.text != column.text)
            })
        })
    }
}

/// A table with its columns and checks in the order of their names: the server adds columns only at
/// the end, so their order is no difference that could be mended.
pub(super) fn normalised(sql: &str) -> String {
    let Some(table) = Table::of(sql) else { return sql.to_owned() };
    let mut items: Vec<&str> = table.columns.iter().map(|column| column.text).collect();
    items.sort_unstable();
    let mut checks: Vec<&str> = table.checks.iter().map(|(_, clause)| *clause).collect();
    checks.sort_unstable();
    items.extend(checks);
    let mut after = table.after.clone();
    after.sort_unstable();
    let mut text = format!("{} (\n    {}\n)\n{}", table.head, items.join(",\n    "), table.tail);
    for statement in after {
        text += &format!("\n{statement}");
    }
    text.trim_end().to_owned()
}

impl<'a> Column<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let (name, rest) = leading_name(text);
        let at = |phrase: &str| find_phrase(PG, rest, phrase);
        let marks = [
            ("DEFAULT", at("DEFAULT")),
            ("GENERATED ALWAYS AS", at("GENERATED ALWAYS AS")),
            ("NOT NULL", at("NOT NULL")),
            ("COLLATE", at("COLLATE")),
        ];
        let end_of = |begin: usize| {
            let ends = marks.iter().filter_map(|(_, at)| *at).filter(|at| *at > begin);
            ends.min().unwrap_or(rest.len())
        };
        let part = |index: usize| {
            let (phrase, at) = marks[index];
            at.map(|at| rest[at + phrase.len()..end_of(at)].trim())
        };
        let kind_end = marks.iter().filter_map(|(_, at)| *at).min().unwrap_or(rest.len());
        Self {
            name,
            text,
            kind: rest[..kind_end].trim(),
            default: part(0),
            computed: marks[1].1.is_some(),
            not_null: marks[2].1.is_some(),
            collation: part(3),
        }
    }

    /// The clauses that give the column another type.
    pub(super) fn retyped(
        &self,
        kind: &str,
        collation: Option<&str>,
        default: Option<&str>,
    ) -> Vec<String> {
        let name = self.name;
        let mut clauses = Vec::new();
        if self.default.is_some() {
            clauses.push(format!("ALTER COLUMN {name} DROP DEFAULT"));
        }
        let collation = collation.map_or(String::new(), |name| format!(" COLLATE {name}"));
        let using = match casts(self.kind, kind) {
            true => format!("{name}::{kind}"),
            false => format!("{name}::text::{kind}"),
        };
        clauses.push(format!("ALTER COLUMN {name} TYPE {kind}{collation} USING {using}"));
        if let Some(default) = default {
            clauses.push(format!("ALTER COLUMN {name} SET DEFAULT {default}"));
        }
        clauses
    }

    pub(super) fn default(&self) -> Option<&'a str> {
        self.default
    }

    pub(super) fn collation(&self) -> Option<&'a str> {
        self.collation
    }
}

/// Whether the server turns one type into the other without a detour by text.
fn casts(old: &str, new: &str) -> bool {
    let family = |kind: &str| {
        let word = kind.split(['(', ' ']).next().unwrap_or("");
        match word {
            "smallint" | "integer" | "bigint" | "numeric" | "real" | "double" => 1,
            "character" | "text" => 2,
            "date" | "timestamp" => 3,
            _ => 0,
        }
    };
    let is_array = |kind: &str| kind.ends_with("[]");
    let same = family(old) == family(new) && family(old) != 0;
    is_array(old) == is_array(new) && (same || family(new) == 2)
}

/// The statements that make `old` into `new`.
pub(super) fn alter(name: &str, old: &Table<'_>, new: &Table<'_>, is_partition: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let one = |clauses: &[String]| Step::new(format!("ALTER TABLE {name} {};", clauses.join(", ")));
    for (check, clause) in &old.checks {
        if !new.checks.iter().any(|(_, other)| other == clause) {
            steps.push(one(&[format!("DROP CONSTRAINT IF EXISTS {check}")]));
        }
    }
    if !is_partition {
        columns(name, old, new, &mut steps);
    }
    for (_, clause) in &new.checks {
        if !old.checks.iter().any(|(_, other)| other == clause) {
            steps
                .push(one(&[format!("ADD {clause}")]).warns("rows that break the check refuse it"));
        }
    }
    let unlogged = |table: &Table<'_>| table.head.starts_with("CREATE UNLOGGED");
    match (unlogged(old), unlogged(new)) {
        (true, false) => steps.push(one(&["SET LOGGED".to_owned()])),
        (false, true) => steps.push(one(&["SET UNLOGGED".to_owned()])),
        _ => {}
    }
    steps.extend(tail(old.tail, new.tail).into_iter().map(|clause| one(&[clause])));
    let after = new.after.iter().filter(|statement| !old.after.contains(statement));
    let back = old.after.iter().filter(|statement| !new.after.contains(statement));
    steps.extend(back.filter_map(|statement| undone(statement)).map(Step::new));
    steps.extend(after.map(|statement| Step::new(format!("{statement};"))));
    steps
}

fn columns(name: &str, old: &Table<'_>, new: &Table<'_>, steps: &mut Vec<Step>) {
    let run = |clauses: &[String]| Step::new(format!("ALTER TABLE {name} {};", clauses.join(", ")));
    let lost = |column: &Column<'_>| format!("of the table {name}: {}", column.name);
    for column in old.columns.iter().filter(|column| column.computed) {
        // Computed columns go first: they are in the way of those that they are computed from.
        let same = new.columns.iter().find(|other| other.name == column.name);
        let touched = old.is_retyped_by(new);
        if touched || same.is_none_or(|other| other.text != column.text) {
            steps.push(run(&[format!("DROP COLUMN IF EXISTS {}", column.name)]));
        }
    }
    for wanted in &new.columns {
        let found = old.columns.iter().find(|other| other.name == wanted.name);
        match found {
            Some(found) if found.computed => {
                let touched = old.is_retyped_by(new) || found.text != wanted.text;
                if touched {
                    steps.push(run(&[format!("ADD COLUMN IF NOT EXISTS {}", wanted.text)]));
                }
            }
            Some(found) if wanted.computed => {
                steps.push(run(&[format!("DROP COLUMN {}", wanted.name)]).loses(lost(found)));
                steps.push(run(&[format!("ADD COLUMN {}", wanted.text)]));
            }
            Some(found) => steps.extend(changed(found, wanted, &run)),
            None => {
                let step = run(&[format!("ADD COLUMN {}", wanted.text)]);
                let bare = wanted.not_null && wanted.default.is_none() && !wanted.computed;
                steps.push(match bare {
                    true => step.warns("refused where the table has rows: give it a DEFAULT"),
                    false => step,
                });
            }
        }
    }
    for column in old.columns.iter().filter(|column| !column.computed) {
        if !new.columns.iter().any(|other| other.name == column.name) {
            steps.push(run(&[format!("DROP COLUMN {}", column.name)]).loses(lost(column)));
        }
    }
}

fn changed(
    found: &Column<'_>,
    wanted: &Column<'_>,
    run: &dyn Fn(&[String]) -> Step,
) -> Option<Step> {
    let name = wanted.name;
    let mut clauses = Vec::new();
    let mut warning = None;
    if (found.kind, found.collation) != (wanted.kind, wanted.collation) {
        clauses.extend(found.retyped(wanted.kind, wanted.collation, wanted.default));
        warning = Some("values that do not fit the new type refuse it");
    } else if found.default != wanted.default {
        clauses.push(match wanted.default {
            Some(default) => format!("ALTER COLUMN {name} SET DEFAULT {default}"),
            None => format!("ALTER COLUMN {name} DROP DEFAULT"),
        });
    }
    match (found.not_null, wanted.not_null) {
        (false, true) => {
            clauses.push(format!("ALTER COLUMN {name} SET NOT NULL"));
            warning = warning.or(Some("rows without a value refuse it"));
        }
        (true, false) => clauses.push(format!("ALTER COLUMN {name} DROP NOT NULL")),
        _ => {}
    }
    if clauses.is_empty() {
        return None;
    }
    let step = run(&clauses);
    Some(match warning {
        Some(warning) => step.warns(warning),
        None => step,
    })
}

/// The names in `INHERITS (a, b)` or the settings in `WITH (a='1', b='2')`.
fn listed<'a>(tail: &'a str, word: &str) -> Vec<&'a str> {
    let line = tail.lines().find_map(|line| line.trim().strip_prefix(word));
    let Some(inner) = line.and_then(|line| line.trim().strip_prefix('(')) else {
        return Vec::new();
    };
    let inner = inner.trim_end_matches(')');
    inner.split(", ").map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn tail(old: &str, new: &str) -> Vec<String> {
    let mut clauses = Vec::new();
    let (parents_old, parents_new) = (listed(old, "INHERITS"), listed(new, "INHERITS"));
    for parent in parents_old.iter().filter(|parent| !parents_new.contains(parent)) {
        clauses.push(format!("NO INHERIT {parent}"));
    }
    for parent in parents_new.iter().filter(|parent| !parents_old.contains(parent)) {
        clauses.push(format!("INHERIT {parent}"));
    }
    let (set_old, set_new) = (listed(old, "WITH"), listed(new, "WITH"));
    let key = |setting: &str| setting.split('=').next().unwrap_or("").to_owned();
    for setting in &set_old {
        if !set_new.iter().any(|other| key(other) == key(setting)) {
            clauses.push(format!("RESET ({})", key(setting)));
        }
    }
    for setting in set_new.iter().filter(|setting| !set_old.contains(setting)) {
        clauses.push(format!("SET ({setting})"));
    }
    clauses
}

/// What takes a statement behind a definition back, where there is such a thing.
fn undone(statement: &str) -> Option<String> {
    let until = |word: &str| statement.find(word).map(|at| &statement[..at]);
    if let Some(head) = until(" SET STATISTICS ") {
        return Some(format!("{head} SET STATISTICS -1;"));
    }
    if let Some(head) = until(" REPLICA IDENTITY ") {
        return Some(format!("{head} REPLICA IDENTITY DEFAULT;"));
    }
    if let Some(head) = until(" FORCE ROW LEVEL SECURITY") {
        return Some(format!("{head} NO FORCE ROW LEVEL SECURITY;"));
    }
    if let Some(head) = until(" CLUSTER ON ") {
        return Some(format!("{head} SET WITHOUT CLUSTER;"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_taken_apart() {
        let text = "n character varying(10) DEFAULT 'a NOT NULL'::character varying NOT NULL COLLATE pg_catalog.\"C\"";
        let column = Column::of(text);
        assert_eq!((column.name, column.kind), ("n", "character varying(10)"));
        assert_eq!(column.default, Some("'a NOT NULL'::character varying"));
        assert_eq!((column.not_null, column.collation), (true, Some("pg_catalog.\"C\"")));
        assert!(Column::of("g integer GENERATED ALWAYS AS ((a * 2)) STORED").computed);
    }

    #[test]
    fn settings_and_parents_are_told_apart() {
        assert_eq!(
            tail(
                "INHERITS (public.a)\nWITH (fillfactor='70', x='1')",
                "INHERITS (public.b)\nWITH (fillfactor='80')"
            ),
            ["NO INHERIT public.a", "INHERIT public.b", "RESET (x)", "SET (fillfactor='80')"]
        );
    }
}
