//! A schema with what is needed to make its objects again elsewhere.

use std::collections::BTreeMap;

use super::{Difference, Object, Schema};

/// Whose SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// MariaDB and MySQL.
    Mariadb,
    /// PostgreSQL.
    Postgres,
}

/// Every object of a database, comparable with another database of the same engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose SQL the definitions are.
    pub dialect: Dialect,
    /// The objects.
    pub objects: BTreeMap<Object, Definition>,
    /// What this comparison does not see, in words.
    pub uncovered: Vec<String>,
}

/// An object as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
