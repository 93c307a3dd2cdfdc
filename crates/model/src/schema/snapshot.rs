//! A schema with what is needed to make its objects again elsewhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Difference, Object, Schema};

/// Whose SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// MariaDB and MySQL.
    Mariadb,
    /// PostgreSQL.
    Postgres,
}

/// Every object of a database, comparable with another database of the same engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Whose SQL the definitions are.
    pub dialect: Dialect,
    /// The objects.
    #[serde(with = "pairs")]
    pub objects: BTreeMap<Object, Definition>,
    /// What this comparison does not see, in words.
    pub uncovered: Vec<String>,
}

/// An object as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// What is compared: the definition without what differs between two servers by nature.
    pub text: String,
    /// The statement or statements that make it, without a delimiter of the client's.
    pub create: String,
    /// The engine's word for its kind (`PROCEDURE`, `FK CONSTRAINT`).
    pub kind: String,
    /// Its own name.
    pub name: String,
    /// The table that it belongs to, where it belongs to one.
    pub table: Option<String>,
    /// Where it stands in an order in which all can be made.
    pub position: usize,
    /// Whose rights it runs with, as SQL.
    pub definer: Option<String>,
    /// Settings of the session in which it was made, as name and SQL value.
    pub session: Vec<(String, String)>,
}

impl Snapshot {
    /// The compared texts.
    pub fn schema(&self) -> Schema {
        let texts = self.objects.iter();
        Schema {
            objects: texts
                .map(|(object, definition)| (object.clone(), definition.text.clone()))
                .collect(),
        }
    }

    /// What differs in `found` from this (expected) database.
    pub fn differences(&self, found: &Snapshot) -> Vec<Difference> {
        self.schema().differences(&found.schema())
    }

    /// The objects in an order in which they can be made.
    pub(super) fn in_order(&self) -> Vec<(&Object, &Definition)> {
        let mut all: Vec<_> = self.objects.iter().collect();
        all.sort_by_key(|(_, definition)| definition.position);
        all
    }

    /// Those of `self` in the order of their making that `other` lacks or has differently.
    pub(super) fn not_as_in<'a>(&'a self, other: &Snapshot) -> Vec<(&'a Object, &'a Definition)> {
        let mut all = self.in_order();
        all.retain(|(object, definition)| {
            other.objects.get(object).is_none_or(|other| other.text != definition.text)
        });
        all
    }
}

/// A map as a list of pairs: JSON knows no keys but texts.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Definition, Object};

    pub fn serialize<S: Serializer>(
        objects: &BTreeMap<Object, Definition>,
        into: S,
    ) -> Result<S::Ok, S::Error> {
        into.collect_seq(objects)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<Object, Definition>, D::Error> {
        Ok(Vec::<(Object, Definition)>::deserialize(from)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Kind;

    #[test]
    fn a_snapshot_travels_as_text() {
        let object = Object { kind: Kind::Table, name: "players".to_owned() };
        let definition = Definition {
            text: "CREATE TABLE players (id)".to_owned(),
            session: vec![("sql_mode".to_owned(), "''".to_owned())],
            ..Definition::default()
        };
        let found = Snapshot {
            dialect: Dialect::Mariadb,
            objects: [(object, definition)].into(),
            uncovered: vec!["grants".to_owned()],
        };
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), found);
    }
}
