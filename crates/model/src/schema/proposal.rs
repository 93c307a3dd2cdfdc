//! What would turn one schema into another.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Dialect, Snapshot, mariadb, postgres, sqlite};

/// A statement, or several that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Step {
    /// The SQL, ready for the engine's own client.
    pub sql: String,
    /// What it would lose for good: rows, or a column's values.
    pub loses: Option<String>,
    /// What may refuse it, or what it costs.
    pub warning: Option<String>,
}

impl Step {
    /// Statements that somebody else found.
    pub fn of(sql: String) -> Self {
        Self::new(sql)
    }

    pub(super) fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), ..Self::default() }
    }

    pub(super) fn loses(mut self, what: impl Into<String>) -> Self {
        self.loses = Some(what.into());
        self
    }

    pub(super) fn warns(mut self, what: impl Into<String>) -> Self {
        self.warning = Some(what.into());
        self
    }
}

/// What turns `from` into `to`, in an order that is right but for dependencies that the texts do
/// not show: whoever executes it tries a refused step again after the others.
pub fn propose(from: &Snapshot, to: &Snapshot) -> Vec<Step> {
    let steps = match to.dialect {
        Dialect::Sqlite => sqlite::propose(from, to),
        Dialect::Mariadb => mariadb::propose(from, to),
        Dialect::Postgres => postgres::propose(from, to),
    };
    let mut seen = BTreeSet::new();
    steps.into_iter().filter(|step| seen.insert(step.sql.clone())).collect()
}
