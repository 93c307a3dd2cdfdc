//! What a database is made of, and what differs between two of them.

mod mariadb;
mod mariadb_table;
mod parts;
mod postgres;
mod postgres_table;
mod postgres_type;
mod proposal;
mod rows;
mod snapshot;
mod sqlite;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use mariadb_table::normalised as normalised_mariadb_table;
pub use parts::words_of_code;
pub use postgres::normalised as normalised_postgres;
pub use proposal::{Step, propose};
pub use rows::{Row, RowDifference, SeedTable};
pub use snapshot::{Definition, Dialect, Snapshot};
pub use sqlite::normalised as normalised_sqlite;

/// The audit table that a release writes in the game's database: it is ours and not the game's, so
/// it is never compared.
pub const HISTORY_TABLE: &str = "entracte_history";

/// Every object of a database with its definition, in a form that two servers of one kind share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema {
    /// The definition of each object, as normalised by the adapter that read it.
    pub objects: BTreeMap<Object, String>,
}

/// What an object is and what it is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its name, with its table's in front where it belongs to one (`players.name_length`).
    pub name: String,
}

/// The kinds of objects that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A table with its columns, keys, checks and options.
    Table,
    /// An index, where the engine keeps it apart from its table.
    Index,
    /// A view.
    View,
    /// A trigger.
    Trigger,
    /// A stored procedure or function.
    Routine,
    /// A scheduled event.
    Event,
    /// A sequence.
    Sequence,
    /// A schema within the database.
    Namespace,
    /// An extension of the server that the database uses.
    Extension,
    /// A type or a domain.
    Type,
    /// A constraint, a default or a partition's bounds, where the engine keeps them apart.
    Constraint,
    /// A comment on another object.
    Comment,
    /// A policy, or the switch that makes a table heed its policies.
    Policy,
    /// Whatever else the engine lists, by the engine's own name for it.
    Other,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Table => "table",
            Kind::Index => "index",
            Kind::View => "view",
            Kind::Trigger => "trigger",
            Kind::Routine => "routine",
            Kind::Event => "event",
            Kind::Sequence => "sequence",
            Kind::Namespace => "schema",
            Kind::Extension => "extension",
            Kind::Type => "type",
            Kind::Constraint => "constraint",
            Kind::Comment => "comment",
            Kind::Policy => "policy",
            Kind::Other => "object",
        }
    }
}

/// One difference between the schema that is expected and the one that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "difference", rename_all = "lowercase")]
pub enum Difference {
    /// Expected, and not there.
    Missing {
        /// What is missing.
        object: Object,
        /// Its definition where it exists.
        definition: String,
    },
    /// There, and not expected.
    Extra {
        /// What is too much.
        object: Object,
    },
    /// There, but not the same.
    Changed {
        /// What differs.
        object: Object,
        /// How it is expected to be.
        expected: String,
        /// How it is.
        found: String,
    },
}

impl Schema {
    /// What differs in `found` from this (expected) schema.
    pub fn differences(&self, found: &Schema) -> Vec<Difference> {
        let missing_or_changed =
            self.objects.iter().filter_map(|(object, expected)| match found.objects.get(object) {
                None => Some(Difference::Missing {
                    object: object.clone(),
                    definition: expected.clone(),
                }),
                Some(found) if found != expected => Some(Difference::Changed {
                    object: object.clone(),
                    expected: expected.clone(),
                    found: found.clone(),
                }),
                Some(_) => None,
            });
        let extra = found
            .objects
            .keys()
            .filter(|object| !self.objects.contains_key(object))
            .map(|object| Difference::Extra { object: object.clone() });
        missing_or_changed.chain(extra).collect()
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.word(), self.name)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing { object, .. } => write!(f, "{object} is missing"),
            Difference::Extra { object } => write!(f, "{object} is not expected"),
            Difference::Changed { object, expected, found } => {
                let (wanted, got) = differing_lines(expected, found);
                let shown = |lines: &[&str]| match lines {
                    [] => "nothing".to_owned(),
                    [first] => format!("`{first}`"),
                    [first, rest @ ..] => format!("`{first}` and {} more lines", rest.len()),
                };
                write!(f, "{object} differs: expected {}, found {}", shown(&wanted), shown(&got))
            }
        }
    }
}

impl Difference {
    /// The object that it is about.
    pub fn object(&self) -> &Object {
        match self {
            Difference::Missing { object, .. }
            | Difference::Extra { object }
            | Difference::Changed { object, .. } => object,
        }
    }

    /// The lines that only the expected or only the found definition has, where both exist.
    pub fn lines(&self) -> (Vec<&str>, Vec<&str>) {
        match self {
            Difference::Changed { expected, found, .. } => differing_lines(expected, found),
            _ => (Vec::new(), Vec::new()),
        }
    }
}

/// The lines that only the first or only the second text has; where only their order differs, the
/// first two that stand at the same place.
fn differing_lines<'a>(expected: &'a str, found: &'a str) -> (Vec<&'a str>, Vec<&'a str>) {
    let bare = |line: &'a str| line.trim().trim_end_matches(',');
    let left: Vec<&str> = expected.lines().map(bare).collect();
    let right: Vec<&str> = found.lines().map(bare).collect();
    let only = |these: &[&'a str], those: &[&'a str]| -> Vec<&'a str> {
        these.iter().filter(|line| !those.contains(line)).copied().collect()
    };
    let (wanted, got) = (only(&left, &right), only(&right, &left));
    if wanted.is_empty() && got.is_empty() {
        let pair = left.iter().zip(&right).find(|(a, b)| a != b);
        return pair.map_or((wanted, got), |(a, b)| (vec![*a], vec![*b]));
    }
    (wanted, got)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(objects: &[(Kind, &str, &str)]) -> Schema {
        let objects = objects
            .iter()
            .map(|(kind, name, text)| {
                (Object { kind: *kind, name: (*name).to_owned() }, (*text).to_owned())
            })
            .collect();
        Schema { objects }
    }

    #[test]
    fn a_forgotten_trigger_and_a_forgotten_column_are_both_named() {
        let expected = schema(&[
            (Kind::Table, "players", "CREATE TABLE players (\n  id int,\n  gold int\n)"),
            (Kind::Trigger, "players.audit", "CREATE TRIGGER audit ..."),
        ]);
        let found = schema(&[
            (Kind::Table, "players", "CREATE TABLE players (\n  id int\n)"),
            (Kind::Table, "old", "CREATE TABLE old (id int)"),
        ]);
        let said: Vec<String> =
            expected.differences(&found).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "table players differs: expected `gold int`, found nothing",
                "trigger players.audit is missing",
                "table old is not expected",
            ]
        );
    }

    #[test]
    fn equal_schemas_do_not_differ() {
        let one = schema(&[(Kind::View, "top", "SELECT 1")]);
        assert!(one.differences(&one.clone()).is_empty());
    }
}
