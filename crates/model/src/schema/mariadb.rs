//! Proposals for MariaDB and MySQL, from the definitions that `SHOW CREATE` prints.

use std::collections::BTreeSet;

use super::mariadb_table::{Table, alter};
use super::proposal::Step;
use super::{Definition, Kind, Object, Snapshot};

/// Delimiters for bodies that hold semicolons; the first that a body does not hold is taken.
const DELIMITERS: [&str; 4] = ["$$", "//", ";;", "@@@@"];

pub(super) fn propose(from: &Snapshot, to: &Snapshot) -> Vec<Step> {
    let mut steps = Vec::new();
    let changes = Changes::between(from, to);
    drop_foreign_keys(&changes, from, to, &mut steps);
    drop_programs(from, to, &mut steps);
    for (object, found) in from.not_as_in(to) {
        let there = to.objects.contains_key(object);
        match object.kind {
            Kind::Table if !there => {
                let sql = format!("DROP TABLE {};", ident(&found.name));
                let lost = format!("the table {} with its rows", found.name);
                steps.push(Step::new(sql).loses(lost));
            }
            Kind::Sequence if !there => {
                steps.push(Step::new(format!("DROP SEQUENCE {};", ident(&found.name))));
            }
            _ => {}
        }
    }
    sequences(from, to, &mut steps);
    for (name, old, new) in &changes.tables {
        match old {
            Some(old) => steps.extend(alter(name, old, new)),
            None => steps.push(Step::new(format!("{};", new.create_without_foreign_keys()))),
        }
    }
    add_foreign_keys(&changes, from, to, &mut steps);
    make_programs(from, to, &mut steps);
    steps
}

pub(super) fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The tables of the wanted database that are missing or differ.
struct Changes<'a> {
    tables: Vec<(&'a str, Option<Table<'a>>, Table<'a>)>,
    /// Those whose columns or keys are touched in a way that foreign keys can be in the way of.
    touched: BTreeSet<&'a str>,
}

impl<'a> Changes<'a> {
    fn between(from: &'a Snapshot, to: &'a Snapshot) -> Self {
        let mut tables = Vec::new();
        let mut touched = BTreeSet::new();
        for (object, wanted) in to.not_as_in(from) {
            let (Kind::Table, Some(new)) = (object.kind, Table::of(&wanted.create)) else {
                continue;
            };
            let old = from.objects.get(object).and_then(|found| Table::of(&found.create));
            if old.as_ref().is_some_and(|old| old.is_touched_by(&new)) {
                touched.insert(wanted.name.as_str());
            }
            tables.push((wanted.name.as_str(), old, new));
        }
        Self { tables, touched }
    }

    /// Whether a foreign key has to go while its table, or the one that it leads to, changes.
    fn is_in_the_way(&self, table: &str, clause: &str) -> bool {
        self.touched.contains(table)
            || self
                .touched
                .iter()
                .any(|name| clause.contains(&format!("REFERENCES {} ", ident(name))))
    }
}

fn tables_of(snapshot: &Snapshot) -> impl Iterator<Item = (&Object, &Definition, Table<'_>)> {
    let tables = snapshot.objects.iter().filter(|(object, _)| object.kind == Kind::Table);
    tables.filter_map(|(object, definition)| {
        Some((object, definition, Table::of(&definition.create)?))
    })
}

fn drop_foreign_keys(changes: &Changes<'_>, from: &Snapshot, to: &Snapshot, steps: &mut Vec<Step>) {
    for (object, found, table) in tables_of(from) {
        let wanted = to.objects.get(object).and_then(|wanted| Table::of(&wanted.create));
        for (name, clause) in table.foreign_keys() {
            let stays = wanted.as_ref().is_some_and(|wanted| wanted.has_foreign_key(clause));
            if !stays || changes.is_in_the_way(&found.name, clause) {
                let table = ident(&found.name);
                steps.push(Step::new(format!("ALTER TABLE {table} DROP FOREIGN KEY {name};")));
            }
        }
    }
}

fn add_foreign_keys(changes: &Changes<'_>, from: &Snapshot, to: &Snapshot, steps: &mut Vec<Step>) {
    for (object, wanted, table) in tables_of(to) {
        let found = from.objects.get(object).and_then(|found| Table::of(&found.create));
        for (_, clause) in table.foreign_keys() {
            let stood = found.as_ref().is_some_and(|found| found.has_foreign_key(clause));
            if !stood || changes.is_in_the_way(&wanted.name, clause) {
                let sql = format!("ALTER TABLE {} ADD {clause};", ident(&wanted.name));
                let step = Step::new(sql);
                steps.push(match stood {
                    true => step,
                    false => step.warns("rows that point to nothing refuse it"),
                });
            }
        }
    }
}

/// Triggers that fire at the same moment fire in the order of their making: where one of them
/// changes, all are made again.
fn moments(from: &Snapshot, to: &Snapshot) -> BTreeSet<String> {
    let mut touched = BTreeSet::new();
    for snapshot in [(from, to), (to, from)] {
        for (object, trigger) in snapshot.0.not_as_in(snapshot.1) {
            if object.kind == Kind::Trigger {
                touched.insert(moment(trigger));
            }
        }
    }
    touched
}

/// `players BEFORE INSERT`: the reader puts it into the kind.
fn moment(trigger: &Definition) -> String {
    format!("{} {}", trigger.table.as_deref().unwrap_or(""), trigger.kind)
}

fn drop_programs(from: &Snapshot, to: &Snapshot, steps: &mut Vec<Step>) {
    let moments = moments(from, to);
    for (object, found) in from.in_order().into_iter().rev() {
        let wanted = to.objects.get(object);
        let name = ident(&found.name);
        match object.kind {
            Kind::Trigger if moments.contains(&moment(found)) => {
                steps.push(Step::new(format!("DROP TRIGGER IF EXISTS {name};")));
            }
            Kind::View | Kind::Event | Kind::Routine if wanted.is_none() => {
                steps.push(Step::new(format!("DROP {} IF EXISTS {name};", found.kind)));
            }
            _ => {}
        }
    }
}

fn make_programs(from: &Snapshot, to: &Snapshot, steps: &mut Vec<Step>) {
    let moments = moments(from, to);
    for (object, wanted) in to.in_order() {
        let found = from.objects.get(object);
        let differs = found.is_none_or(|found| found.text != wanted.text);
        let is_program = matches!(object.kind, Kind::View | Kind::Event | Kind::Routine);
        let again = object.kind == Kind::Trigger && moments.contains(&moment(wanted));
        if (is_program && differs) || again {
            steps.push(program(wanted, found));
        }
    }
}

fn program(wanted: &Definition, found: Option<&Definition>) -> Step {
    // Rights that were granted on it stay where it is replaced and not dropped.
    let mut create = wanted.create.trim_end_matches([';', ' ', '\n']).to_owned();
    if found.is_some() && !create.to_ascii_uppercase().starts_with("CREATE OR REPLACE") {
        create = format!("CREATE OR REPLACE{}", &create["CREATE".len()..]);
    }
    // Development's account may not exist in production; the one that was there does.
    if let (Some(definer), Some(at)) =
        (found.and_then(|found| found.definer.as_ref()), place_of_definer(&create))
    {
        create.insert_str(at, &format!(" DEFINER={definer}"));
    }
    let mut sql = String::new();
    for (name, value) in &wanted.session {
        sql += &format!("SET SESSION {name} = {value};\n");
    }
    if create.contains(';') {
        let delimiter = DELIMITERS.into_iter().find(|delimiter| !create.contains(delimiter));
        let delimiter = delimiter.unwrap_or("@@@@@@@@");
        sql += &format!("DELIMITER {delimiter}\n{create}\n{delimiter}\nDELIMITER ;");
    } else {
        sql += &format!("{create};");
    }
    for (name, _) in &wanted.session {
        sql += &format!("\nSET SESSION {name} = @@GLOBAL.{name};");
    }
    Step::new(sql)
}

/// Behind `CREATE`, `OR REPLACE` and `ALGORITHM=…`.
fn place_of_definer(create: &str) -> Option<usize> {
    let upper = create.to_ascii_uppercase();
    let mut at = "CREATE".len();
    if let Some(rest) = upper[at..].strip_prefix(" OR REPLACE") {
        at = upper.len() - rest.len();
    }
    if let Some(rest) = upper[at..].strip_prefix(" ALGORITHM=") {
        at = upper.len() - rest.len() + rest.find(' ')?;
    }
    upper.starts_with("CREATE").then_some(at)
}

fn sequences(from: &Snapshot, to: &Snapshot, steps: &mut Vec<Step>) {
    for (object, wanted) in to.not_as_in(from) {
        if object.kind != Kind::Sequence {
            continue;
        }
        let create = wanted.create.trim();
        let Some(found) = from.objects.get(object) else {
            steps.push(Step::new(format!("{create};")));
            continue;
        };
        let options = |definition: &Definition| {
            let text = definition.create.split(" start with ").nth(1).unwrap_or("").to_owned();
            let (options, engine) = text.split_once(" ENGINE=").unwrap_or((&text, ""));
            (format!("start with {options}"), engine.to_owned())
        };
        let ((wanted_options, engine), (_, old_engine)) = (options(wanted), options(found));
        let name = ident(&wanted.name);
        // It goes on counting from where it stands.
        steps.push(Step::new(format!("ALTER SEQUENCE {name} {wanted_options};")));
        if engine != old_engine {
            steps.push(Step::new(format!("ALTER TABLE {name} ENGINE={engine};")));
        }
    }
}
