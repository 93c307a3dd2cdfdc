//! What a database is, and the sums by which two states of it are compared.

use std::collections::BTreeMap;

use entracte_model::Hash;
use entracte_model::schema::Schema;
use serde::{Deserialize, Serialize};

/// What a database is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Kind and version, as in `mariadb 10.11.6` or `sqlite 3.50.4`.
    pub engine: String,
    /// Its tables, by name.
    pub tables: Vec<TableFacts>,
    /// Its size on disk in bytes, as the engine estimates it.
    pub bytes: u64,
    /// What should be known before a release: missing rights and what they cost, tables that
    /// no transaction protects.
    pub notes: Vec<String>,
}

/// What a table is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFacts {
    /// Its name.
    pub name: String,
    /// What keeps it (`InnoDB`, `MyISAM`, `rowid`, `virtual`).
    pub engine: String,
    /// About how many rows it has.
    pub rows_estimate: u64,
    /// Its size on disk in bytes, with its indexes; 0 where the engine cannot say.
    pub bytes: u64,
}

/// The contents of a database in short: equal sums mean equal contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Every table by name.
    pub tables: BTreeMap<String, TableSum>,
    /// A hash of the normalised schema and of settings kept inside the database.
    pub schema_hash: Hash,
}

/// The contents of a table in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSum {
    /// How many rows it has.
    pub rows: u64,
    /// A checksum of all rows; only to be compared with one by the same kind of engine.
    pub checksum: String,
    /// The next automatic value, where it has one.
    pub auto_increment: Option<u64>,
}

impl Sums {
    /// What differs, in words; empty where nothing does. `self` is what is expected.
    pub fn differences(&self, found: &Sums) -> Vec<String> {
        let mut said = Vec::new();
        for (name, expected) in &self.tables {
            match found.tables.get(name) {
                None => said.push(format!("table {name} is missing ({} rows)", expected.rows)),
                Some(found) => said.extend(expected.difference(name, found)),
            }
        }
        let extra = found.tables.keys().filter(|name| !self.tables.contains_key(*name));
        said.extend(extra.map(|name| format!("table {name} is not expected")));
        if self.schema_hash != found.schema_hash {
            said.push(format!(
                "the schema differs: expected {}, found {}",
                self.schema_hash.short(),
                found.schema_hash.short()
            ));
        }
        said
    }
}

impl TableSum {
    fn difference(&self, name: &str, found: &TableSum) -> Option<String> {
        if self.rows != found.rows {
            return Some(format!(
                "table {name}: expected {} rows, found {}",
                self.rows, found.rows
            ));
        }
        if self.checksum != found.checksum {
            return Some(format!("table {name}: the same number of rows, other contents"));
        }
        let shown = |value: Option<u64>| value.map_or("none".to_owned(), |v| v.to_string());
        (self.auto_increment != found.auto_increment).then(|| {
            format!(
                "table {name}: expected the next automatic value {}, found {}",
                shown(self.auto_increment),
                shown(found.auto_increment)
            )
        })
    }
}

/// A hash of every definition, and of `extra` (settings that live in the database).
pub(crate) fn schema_hash(schema: &Schema, extra: &[String]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: &str| {
        // The length in front keeps "a" + "bc" from being "ab" + "c".
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    for (object, definition) in &schema.objects {
        add(&object.to_string());
        add(definition);
    }
    extra.iter().for_each(|text| add(text));
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(rows: u64, checksum: &str, next: Option<u64>) -> Sums {
        let sum = TableSum { rows, checksum: checksum.into(), auto_increment: next };
        Sums { tables: [("players".to_owned(), sum)].into(), schema_hash: Hash::of(b"") }
    }

    #[test]
    fn each_kind_of_difference_is_named() {
        let expected = sums(2, "aa", Some(7));
        assert!(expected.differences(&expected).is_empty());
        let said = |found: &Sums| expected.differences(found).join("; ");
        assert_eq!(said(&sums(1, "aa", Some(7))), "table players: expected 2 rows, found 1");
        assert!(said(&sums(2, "ab", Some(7))).contains("other contents"));
        assert!(said(&sums(2, "aa", Some(3))).contains("next automatic value 7, found 3"));
        let empty = Sums { tables: BTreeMap::new(), schema_hash: Hash::of(b"x") };
        assert!(said(&empty).contains("players is missing (2 rows); the schema differs"));
        assert_eq!(empty.differences(&expected)[0], "table players is not expected");
    }
}
