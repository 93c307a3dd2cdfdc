//! What alters one MariaDB table into another.

use std::collections::BTreeMap;

use super::Dialect;
use super::mariadb::ident;
use super::parts::{Parts, leading_name, unquoted};
use super::proposal::Step;

/// The parts of a table as `SHOW CREATE TABLE` prints them.
#[derive(Debug, Clone)]
pub(super) struct Table<'a> {
    head: &'a str,
    /// Name, as written, and definition behind it, in their order.
    columns: Vec<(&'a str, &'a str)>,
    /// Indexes by their clause, each with the name that drops it.
    indexes: BTreeMap<&'a str, String>,
    /// Foreign keys and checks by their clause, each with its name as written.
    foreign_keys: BTreeMap<&'a str, &'a str>,
    checks: BTreeMap<&'a str, &'a str>,
    /// `PERIOD FOR …` by its clause.
    periods: Vec<&'a str>,
    options: &'a str,
    partitions: Option<&'a str>,
}

const COMPUTED: &str = " GENERATED ALWAYS AS (";
const VERSIONED: &str = "WITH SYSTEM VERSIONING";

impl<'a> Table<'a> {
    pub(super) fn of(create: &'a str) -> Option<Self> {
        let parts = Parts::of(Dialect::Mariadb, create)?;
        let (options, partitions) = match parts.tail.find("\n PARTITION BY") {
            Some(at) => (parts.tail[..at].trim(), Some(parts.tail[at..].trim())),
            None if parts.tail.starts_with("PARTITION BY") => ("", Some(parts.tail)),
            None => (parts.tail, None),
        };
        let mut table = Self {
            head: parts.head,
            columns: Vec::new(),
            indexes: BTreeMap::new(),
            foreign_keys: BTreeMap::new(),
            checks: BTreeMap::new(),
            periods: Vec::new(),
            options,
            partitions,
        };
        for item in parts.items {
            table.take(item)?;
        }
        Some(table)
    }

    fn take(&mut self, item: &'a str) -> Option<()> {
        if item.starts_with('`') {
            self.columns.push(leading_name(item));
        } else if item.starts_with("PRIMARY KEY") {
            self.indexes.insert(item, "PRIMARY KEY".to_owned());
        } else if item.starts_with("PERIOD FOR") {
            self.periods.push(item);
        } else if let Some(rest) = item.strip_prefix("CONSTRAINT ") {
            let (name, rest) = leading_name(rest);
            let place = match rest.starts_with("FOREIGN KEY") {
                true => &mut self.foreign_keys,
                false => &mut self.checks,
            };
            place.insert(item, name);
        } else {
            let at = item.find("KEY ")? + "KEY ".len();
            self.indexes.insert(item, format!("INDEX {}", leading_name(&item[at..]).0));
        }
        Some(())
    }

    /// Name, as written, and clause of each foreign key.
    pub(super) fn foreign_keys(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.foreign_keys.iter().map(|(clause, name)| (*name, *clause))
    }

    pub(super) fn has_foreign_key(&self, clause: &str) -> bool {
        self.foreign_keys.contains_key(clause)
    }

    /// Whether more than new columns and new indexes stands between the two.
    pub(super) fn is_touched_by(&self, new: &Table<'_>) -> bool {
        let keeps_columns = self.columns.iter().all(|column| new.columns.contains(column));
        let keeps_indexes = self.indexes.keys().all(|clause| new.indexes.contains_key(clause));
        !(keeps_columns
            && keeps_indexes
            && self.options == new.options
            && self.partitions == new.partitions)
    }

    /// The definition, its foreign keys left for later.
    pub(super) fn create_without_foreign_keys(&self) -> String {
        let columns = self.columns.iter().map(|(name, rest)| format!("{name} {rest}"));
        let others = self.periods.iter().chain(self.indexes.keys()).chain(self.checks.keys());
        let items: Vec<String> = columns.chain(others.map(|item| (*item).to_owned())).collect();
        let partitions = self.partitions.map_or(String::new(), |text| format!("\n{text}"));
        format!("{} (\n  {}\n) {}{partitions}", self.head, items.join(",\n  "), self.options)
    }

    /// The definition with what has no order in one order.
    pub(super) fn normalised(&self) -> String {
        let keys = self.foreign_keys.keys().map(|item| format!(",\n  {item}"));
        let keys: String = keys.collect();
        let text = self.create_without_foreign_keys();
        match text.rfind("\n) ") {
            Some(at) => format!("{}{keys}{}", &text[..at], &text[at..]),
            None => text,
        }
    }

    fn is_versioned(&self) -> bool {
        self.options.contains(VERSIONED)
    }
}

/// A table's definition with indexes and constraints in one order.
pub fn normalised(create: &str) -> String {
    Table::of(create).map_or_else(|| create.to_owned(), |table| table.normalised())
}

/// The statements that make `old` into `new`; foreign keys are seen to elsewhere.
pub(super) fn alter(name: &str, old: &Table<'_>, new: &Table<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let table = ident(name);
    let run = |clauses: &[String]| format!("ALTER TABLE {table} {};", clauses.join(", "));
    let repartitioned = old.partitions != new.partitions;
    let keeps_history = old.is_versioned() && new.is_versioned();
    let versioned = |step: Step| match keeps_history {
        true => Step {
            sql: format!("SET SESSION system_versioning_alter_history = KEEP;\n{}", step.sql),
            ..step
        },
        false => step,
    };
    if old.is_versioned() && !new.is_versioned() {
        let lost = format!("what the rows of {name} were in the past");
        steps.push(Step::new(run(&["DROP SYSTEM VERSIONING".to_owned()])).loses(lost));
    }
    if repartitioned && old.partitions.is_some() && new.partitions.is_none() {
        steps.push(Step::new(run(&["REMOVE PARTITIONING".to_owned()])));
    }
    let (clauses, warning) = clauses(old, new);
    if !clauses.is_empty() {
        let step = Step::new(run(&clauses));
        steps.push(versioned(match warning {
            Some(warning) => step.warns(warning),
            None => step,
        }));
    }
    for (column, definition) in &old.columns {
        if !new.columns.iter().any(|(other, _)| other == column) {
            let step = Step::new(run(&[format!("DROP COLUMN {column}")]));
            let computed = definition.contains(COMPUTED);
            let lost = format!("of the table {name}: {}", unquoted(column));
            steps.push(versioned(if computed { step } else { step.loses(lost) }));
        }
    }
    if repartitioned && let Some(partitions) = new.partitions {
        let step = Step::new(format!("ALTER TABLE {table} {partitions};"));
        steps.push(step.warns("rows that fit into no partition refuse it"));
    }
    if new.is_versioned() && !old.is_versioned() {
        steps.push(Step::new(run(&["ADD SYSTEM VERSIONING".to_owned()])));
    }
    steps
}

fn clauses(old: &Table<'_>, new: &Table<'_>) -> (Vec<String>, Option<String>) {
    let mut clauses = Vec::new();
    let mut warning = None;
    // A column without a character set of its own follows the table's.
    let recoded = of_charset(old.options) != of_charset(new.options);
    let gone = |old: &BTreeMap<&str, String>, new: &BTreeMap<&str, String>| -> Vec<String> {
        let gone = old.iter().filter(|(clause, _)| !new.contains_key(*clause));
        gone.map(|(_, name)| format!("DROP {name}")).collect()
    };
    clauses.extend(gone(&old.indexes, &new.indexes));
    for (clause, name) in &old.checks {
        if !new.checks.contains_key(clause) {
            clauses.push(format!("DROP CONSTRAINT {name}"));
        }
    }
    for period in &old.periods {
        if !new.periods.contains(period) && !period.contains("SYSTEM_TIME") {
            let name = leading_name(period["PERIOD FOR".len()..].trim()).0;
            clauses.push(format!("DROP PERIOD FOR {name}"));
        }
    }
    columns(old, new, recoded, &mut clauses, &mut warning);
    for period in &new.periods {
        if !old.periods.contains(period) {
            clauses.push(format!("ADD {period}"));
        }
    }
    for clause in new.indexes.keys().filter(|clause| !old.indexes.contains_key(*clause)) {
        clauses.push(format!("ADD {clause}"));
        if clause.starts_with("UNIQUE") || clause.starts_with("PRIMARY") {
            warning.get_or_insert_with(|| "rows that are there twice refuse it".to_owned());
        }
    }
    for clause in new.checks.keys().filter(|clause| !old.checks.contains_key(*clause)) {
        clauses.push(format!("ADD {clause}"));
        warning.get_or_insert_with(|| "rows that break the check refuse it".to_owned());
    }
    if old.options != new.options {
        clauses.extend(options(old.options, new.options));
    }
    (clauses, warning)
}

/// New, changed and moved columns, each put behind the one that it is to follow.
fn columns(
    old: &Table<'_>,
    new: &Table<'_>,
    recoded: bool,
    clauses: &mut Vec<String>,
    warning: &mut Option<String>,
) {
    let mut order: Vec<&str> = old.columns.iter().map(|(name, _)| *name).collect();
    order.retain(|name| new.columns.iter().any(|(other, _)| other == name));
    for (at, (name, definition)) in new.columns.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| new.columns[at].0);
        let place = before.map_or("FIRST".to_owned(), |before| format!("AFTER {before}"));
        let place_anew = place.clone();
        let found = old.columns.iter().find(|(other, _)| other == name);
        let Some((_, was)) = found else {
            clauses.push(format!("ADD COLUMN {name} {definition} {place}"));
            order.insert(at, name);
            continue;
        };
        let moved = order.get(at) != Some(name);
        if moved {
            order.retain(|other| other != name);
            order.insert(at.min(order.len()), name);
        }
        let place = if moved { format!(" {place}") } else { String::new() };
        let changed = was != definition;
        if changed && was.contains(COMPUTED) {
            // The server refuses to turn a computed column into another in place.
            clauses.push(format!("DROP COLUMN {name}"));
            clauses.push(format!("ADD COLUMN {name} {definition} {place_anew}"));
            continue;
        }
        if changed || moved || recoded {
            clauses.push(format!("MODIFY COLUMN {name} {definition}{place}"));
        }
        if changed {
            let text = "values that do not fit the new definition are refused, or cut where the \
                        server is not strict";
            warning.get_or_insert_with(|| text.to_owned());
        }
    }
}

fn of_charset(options: &str) -> Vec<(&str, &str)> {
    let mut pairs = pairs(options);
    pairs.retain(|(key, _)| matches!(*key, "DEFAULT CHARSET" | "COLLATE"));
    pairs
}

/// `ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='x y'` as pairs.
fn pairs(options: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let text = options.find(VERSIONED).map_or(options, |at| &options[..at]);
    let mut text = text.trim();
    while let Some(at) = text.find('=') {
        let key = text[..at].trim();
        let value = text[at + 1..].trim_start();
        let value_len = if value.starts_with('\'') {
            quoted_len(value)
        } else if value.starts_with('(') {
            value.find(')').map_or(value.len(), |end| end + 1)
        } else {
            value.find(' ').unwrap_or(value.len())
        };
        found.push((key, &value[..value_len]));
        text = value[value_len..].trim_start();
    }
    found
}

fn quoted_len(value: &str) -> usize {
    let bytes = value.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 1,
            b'\'' => return at + 1,
            _ => {}
        }
        at += 1;
    }
    value.len()
}

/// The options of the new table, and the defaults of those that it has no more.
fn options(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (pairs(old), pairs(new));
    let mut clauses: Vec<String> = new
        .iter()
        .filter(|pair| !old.contains(pair) || pair.0 == "DEFAULT CHARSET" || pair.0 == "COLLATE")
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    for (key, _) in old.iter().filter(|(key, _)| !new.iter().any(|(other, _)| other == key)) {
        let default = match *key {
            "COMMENT" => "''",
            "ROW_FORMAT" | "PACK_KEYS" | "STATS_PERSISTENT" | "STATS_AUTO_RECALC"
            | "STATS_SAMPLE_PAGES" | "TRANSACTIONAL" | "`PAGE_COMPRESSED`" | "`ENCRYPTED`" => {
                "DEFAULT"
            }
            "INSERT_METHOD" => "NO",
            "PAGE_CHECKSUM" => "1",
            "COLLATE" | "DEFAULT CHARSET" | "ENGINE" => continue,
            _ => "0",
        };
        clauses.push(format!("{key}={default}"));
    }
    clauses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(old: &str, new: &str) -> Vec<String> {
        let (old, new) = (Table::of(old).unwrap(), Table::of(new).unwrap());
        alter("t", &old, &new).into_iter().map(|step| step.sql).collect()
    }

    #[test]
    fn columns_move_and_change_in_one_statement_and_go_in_their_own() {
        let old = "CREATE TABLE `t` (\n  `a` int(11),\n  `b` int(11),\n  `c` int(11),\n  PRIMARY KEY (`a`)\n) ENGINE=InnoDB COMMENT='it''s = x'";
        let new = "CREATE TABLE `t` (\n  `b` int(11),\n  `d` bigint(20),\n  `a` bigint(20),\n  PRIMARY KEY (`a`),\n  KEY `d` (`d`)\n) ENGINE=InnoDB";
        assert_eq!(
            said(old, new),
            [
                "ALTER TABLE `t` MODIFY COLUMN `b` int(11) FIRST, \
                 ADD COLUMN `d` bigint(20) AFTER `b`, \
                 MODIFY COLUMN `a` bigint(20), ADD KEY `d` (`d`), COMMENT='';",
                "ALTER TABLE `t` DROP COLUMN `c`;",
            ]
        );
        assert!(said(new, new).is_empty());
    }

    #[test]
    fn another_character_set_reaches_the_columns_that_follow_it() {
        let table = |set: &str| format!("CREATE TABLE `t` (\n  `a` text\n) DEFAULT CHARSET={set}");
        let said = said(&table("latin1"), &table("utf8mb4"));
        assert_eq!(said, ["ALTER TABLE `t` MODIFY COLUMN `a` text, DEFAULT CHARSET=utf8mb4;"]);
    }
}
