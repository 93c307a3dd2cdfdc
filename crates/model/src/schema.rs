//! What a database is made of, and what differs between two of them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

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
        let kind = match self.kind {
            Kind::Table => "table",
            Kind::Index => "index",
            Kind::View => "view",
            Kind::Trigger => "trigger",
            Kind::Routine => "routine",
            Kind::Event => "event",
            Kind::Sequence => "sequence",
        };
        write!(f, "{kind} {}", self.name)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing { object, .. } => write!(f, "{object} is missing"),
            Difference::Extra { object } => write!(f, "{object} is not expected"),
            Difference::Changed { object, expected, found } => {
                let (line, wanted, got) = first_difference(expected, found);
                write!(f, "{object} differs in line {line}: expected `{wanted}`, found `{got}`")
            }
        }
    }
}

/// The number (from 1) and both texts of the first line that differs.
fn first_difference<'a>(expected: &'a str, found: &'a str) -> (usize, &'a str, &'a str) {
    let mut left = expected.lines();
    let mut right = found.lines();
    let mut number = 1;
    loop {
        match (left.next(), right.next()) {
            (Some(a), Some(b)) if a == b => number += 1,
            (a, b) => return (number, a.unwrap_or("").trim(), b.unwrap_or("").trim()),
        }
    }
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
                "table players differs in line 2: expected `id int,`, found `id int`",
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
