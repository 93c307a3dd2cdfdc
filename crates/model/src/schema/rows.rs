//! The rows of seed tables: what the game itself brings along, as items, levels and settings.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::proposal::Step;

/// A row, each value as SQL (`NULL`, `3`, `'sword'`).
pub type Row = Vec<String>;

/// Words of ours in a statement. They are never somebody else's.
pub type Overriding = &'static str;

/// Rows that one proposed statement inserts.
const INSERTED_MAX: usize = 100;

/// A table with all its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedTable {
    /// Its name, as it was asked for.
    pub name: String,
    /// Its name as SQL.
    pub sql_name: String,
    /// Its columns as SQL, without those that are computed.
    pub columns: Vec<String>,
    /// Where the columns of the primary key stand in `columns`; empty where it has none.
    pub key: Vec<usize>,
    /// Its rows.
    pub rows: Vec<Row>,
    /// What an `INSERT` says between its columns and its values (`OVERRIDING SYSTEM VALUE`).
    #[serde(deserialize_with = "overriding")]
    pub overriding: Overriding,
}

/// Which of the words there are was written: nothing else becomes a part of a statement.
fn overriding<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Overriding, D::Error> {
    const ALL: [Overriding; 2] = ["", " OVERRIDING SYSTEM VALUE"];
    let text = String::deserialize(from)?;
    ALL.into_iter()
        .find(|known| *known == text)
        .ok_or_else(|| serde::de::Error::custom(format!("expected one of {ALL:?}, found {text:?}")))
}

/// A row that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "difference", rename_all = "lowercase")]
pub enum RowDifference {
    /// Expected, and not there.
    Missing {
        /// The table.
        table: String,
        /// Which row.
        row: String,
    },
    /// There, and not expected.
    Extra {
        /// The table.
        table: String,
        /// Which row.
        row: String,
    },
    /// There, with other values.
    Changed {
        /// The table.
        table: String,
        /// Which row.
        row: String,
        /// `column: expected, found` of each that differs.
        values: Vec<String>,
    },
}

impl fmt::Display for RowDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowDifference::Missing { table, row } => write!(f, "row {row} of {table} is missing"),
            RowDifference::Extra { table, row } => {
                write!(f, "row {row} of {table} is not expected")
            }
            RowDifference::Changed { table, row, values } => {
                write!(f, "row {row} of {table} differs: {}", values.join("; "))
            }
        }
    }
}

impl SeedTable {
    fn key_of<'a>(&self, row: &'a Row) -> Vec<(usize, &'a str)> {
        // Numbers in the order of their size, which is the order of people.
        let part = |value: &'a String| (value.len(), value.as_str());
        match self.key.as_slice() {
            [] => row.iter().map(part).collect(),
            key => key.iter().filter_map(|at| row.get(*at)).map(part).collect(),
        }
    }

    fn condition(&self, row: &Row) -> String {
        let all: Vec<usize> = (0..self.columns.len()).collect();
        let places = if self.key.is_empty() { &all } else { &self.key };
        let parts = places.iter().map(|at| match row[*at].as_str() {
            "NULL" => format!("{} IS NULL", self.columns[*at]),
            value => format!("{} = {value}", self.columns[*at]),
        });
        parts.collect::<Vec<_>>().join(" AND ")
    }

    fn by_key(&self) -> BTreeMap<Vec<(usize, &str)>, &Row> {
        self.rows.iter().map(|row| (self.key_of(row), row)).collect()
    }

    /// The columns that both have: where they stand here and there.
    fn shared(&self, other: &SeedTable) -> Vec<(usize, usize)> {
        let places = self.columns.iter().enumerate().filter_map(|(at, column)| {
            Some((at, other.columns.iter().position(|name| name == column)?))
        });
        places.collect()
    }

    /// What differs in `found` from these (expected) rows, in the columns that both have.
    pub fn differences(&self, found: &SeedTable) -> Vec<RowDifference> {
        let (wanted, there) = (self.by_key(), found.by_key());
        let shared = self.shared(found);
        let table = || self.name.clone();
        let mut all = Vec::new();
        for (key, row) in &wanted {
            match there.get(key) {
                None => {
                    all.push(RowDifference::Missing { table: table(), row: self.condition(row) });
                }
                Some(other) => {
                    let differs = shared.iter().filter(|(a, b)| row[*a] != other[*b]);
                    let values: Vec<String> = differs
                        .map(|(a, b)| {
                            format!(
                                "{}: expected {}, found {}",
                                self.columns[*a], row[*a], other[*b]
                            )
                        })
                        .collect();
                    if !values.is_empty() {
                        let row = self.condition(row);
                        all.push(RowDifference::Changed { table: table(), row, values });
                    }
                }
            }
        }
        let extra = there.iter().filter(|(key, _)| !wanted.contains_key(*key));
        all.extend(
            extra
                .map(|(_, row)| RowDifference::Extra { table: table(), row: found.condition(row) }),
        );
        all
    }

    /// The statements that make the rows of `found` into these.
    pub fn propose(&self, found: &SeedTable) -> Vec<Step> {
        let (wanted, there) = (self.by_key(), found.by_key());
        let shared = self.shared(found);
        let name = &self.sql_name;
        let mut deletes = Vec::new();
        for (key, row) in &there {
            if !wanted.contains_key(key) {
                deletes.push(format!("DELETE FROM {name} WHERE {};", found.condition(row)));
            }
        }
        let mut updates = Vec::new();
        let mut inserts = Vec::new();
        for (key, row) in &wanted {
            let Some(other) = there.get(key) else {
                inserts.push(format!("({})", row.join(", ")));
                continue;
            };
            let sets = shared.iter().filter(|(a, b)| row[*a] != other[*b]);
            let sets: Vec<String> =
                sets.map(|(a, _)| format!("{} = {}", self.columns[*a], row[*a])).collect();
            if !sets.is_empty() {
                let condition = self.condition(row);
                updates.push(format!("UPDATE {name} SET {} WHERE {condition};", sets.join(", ")));
            }
        }
        let mut steps = Vec::new();
        for chunk in deletes.chunks(INSERTED_MAX) {
            let lost = format!("{} of {}", count(chunk.len()), self.name);
            steps.push(Step::new(chunk.join("\n")).loses(lost));
        }
        steps.extend(updates.chunks(INSERTED_MAX).map(|chunk| Step::new(chunk.join("\n"))));
        steps.extend(inserts.chunks(INSERTED_MAX).map(|chunk| Step::new(self.insert(chunk))));
        steps
    }

    /// One `INSERT` of rows that are values in parentheses.
    fn insert(&self, rows: &[String]) -> String {
        let columns = self.columns.join(", ");
        let overriding = self.overriding;
        format!(
            "INSERT INTO {} ({columns}){overriding} VALUES\n  {};",
            self.sql_name,
            rows.join(",\n  ")
        )
    }

    /// Statements that insert all its rows.
    pub fn inserts(&self) -> Vec<String> {
        let rows: Vec<String> =
            self.rows.iter().map(|row| format!("({})", row.join(", "))).collect();
        rows.chunks(INSERTED_MAX).map(|chunk| self.insert(chunk)).collect()
    }
}

fn count(rows: usize) -> String {
    if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(rows: &[[&str; 3]]) -> SeedTable {
        SeedTable {
            name: "items".into(),
            sql_name: "`items`".into(),
            columns: ["`id`", "`name`", "`price`"].map(String::from).to_vec(),
            key: vec![0],
            rows: rows.iter().map(|row| row.map(String::from).to_vec()).collect(),
            overriding: "",
        }
    }

    #[test]
    fn rows_are_told_by_their_key_and_mended() {
        let wanted = items(&[["2", "'sword'", "5"], ["10", "'ale'", "NULL"]]);
        let found = items(&[["2", "'sword'", "4"], ["11", "'rum'", "1"]]);
        let said: Vec<String> =
            wanted.differences(&found).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "row `id` = 2 of items differs: `price`: expected 5, found 4",
                "row `id` = 10 of items is missing",
                "row `id` = 11 of items is not expected",
            ]
        );
        let steps = wanted.propose(&found);
        let sql: Vec<&str> = steps.iter().map(|step| step.sql.as_str()).collect();
        assert_eq!(
            sql,
            [
                "DELETE FROM `items` WHERE `id` = 11;",
                "UPDATE `items` SET `price` = 5 WHERE `id` = 2;",
                "INSERT INTO `items` (`id`, `name`, `price`) VALUES\n  (10, 'ale', NULL);",
            ]
        );
        assert_eq!(steps[0].loses.as_deref(), Some("1 row of items"));
        assert!(wanted.differences(&wanted).is_empty() && wanted.propose(&wanted).is_empty());
    }

    #[test]
    fn without_a_key_the_whole_row_counts() {
        let mut wanted = items(&[["1", "NULL", "1"]]);
        wanted.key = vec![];
        let mut found = items(&[]);
        found.key = vec![];
        let said = found.differences(&wanted)[0].to_string();
        assert_eq!(
            said,
            "row `id` = 1 AND `name` IS NULL AND `price` = 1 of items is not expected"
        );
    }
}
