//! What our account may do.

use super::connect::{Server, column, literal, truth};
use crate::error::DbError;
use crate::settings::PostgresSettings;

#[derive(Debug, Clone)]
pub(super) struct Rights {
    pub(super) account: String,
    pub(super) superuser: bool,
    pub(super) may_create_roles: bool,
    pub(super) may_create_databases: bool,
    /// May see what others do.
    pub(super) monitors: bool,
    /// May end the sessions of accounts that are not superusers.
    pub(super) signals: bool,
    pub(super) owns_database: bool,
}

impl Rights {
    pub(super) fn read(server: &mut Server) -> Result<Self, DbError> {
        let sql = "SELECT r.rolname, r.rolsuper, r.rolcreaterole, r.rolcreatedb,
             pg_has_role(r.oid, 'pg_read_all_stats', 'USAGE'),
             pg_has_role(r.oid, 'pg_signal_backend', 'USAGE'),
             (SELECT pg_has_role(r.oid, d.datdba, 'USAGE') FROM pg_database d
              WHERE d.datname = current_database())
           FROM pg_roles r WHERE r.rolname = current_user";
        let rows = server.rows_for(sql, "reading our rights")?;
        let row = rows.first().cloned().unwrap_or_default();
        Ok(Self {
            account: column(&row, 0),
            superuser: truth(&row, 1),
            may_create_roles: truth(&row, 1) || truth(&row, 2),
            may_create_databases: truth(&row, 1) || truth(&row, 3),
            monitors: truth(&row, 1) || truth(&row, 4),
            signals: truth(&row, 1) || truth(&row, 5),
            owns_database: truth(&row, 1) || truth(&row, 6),
        })
    }

    /// What is missing, and what that costs.
    pub(super) fn notes(&self, settings: &PostgresSettings) -> Vec<String> {
        let mut notes = Vec::new();
        let mut lacks = |has: bool, right: &str, cost: &str| {
            if !has {
                notes.push(format!("the account {} lacks {right}: {cost}", self.account));
            }
        };
        lacks(self.monitors, "pg_read_all_stats", "what other accounts do cannot be named");
        lacks(
            self.may_create_databases,
            "CREATEDB",
            "the rollback point is a dump instead of a clone of the database",
        );
        lacks(
            self.owns_database,
            "ownership of the database",
            "the database cannot be brought back to a rollback point",
        );
        if !settings.game_users.is_empty() {
            let cost = "the game's accounts cannot be locked while the game is closed";
            lacks(self.may_create_roles, "CREATEROLE", cost);
            lacks(self.signals, "pg_signal_backend", "the game's sessions cannot be ended");
        }
        notes
    }
}

/// Extensions that are not ours: a dump gives them comments that only their owner may set.
pub(super) fn extensions_of_others(
    server: &mut Server,
    rights: &Rights,
) -> Result<Vec<String>, DbError> {
    if rights.superuser {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT e.extname FROM pg_extension e JOIN pg_roles r ON r.oid = e.extowner
         WHERE e.oid >= 16384 AND NOT pg_has_role({}, r.oid, 'USAGE') ORDER BY 1",
        literal(&rights.account)
    );
    server.list_for(&sql, "looking at the extensions")
}
