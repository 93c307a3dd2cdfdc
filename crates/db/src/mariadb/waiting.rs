//! Whom a statement waits for and how far it is, seen from another connection.

use super::connect::{self, Server, column, number};
use super::sessions;
use crate::error::Session;
use crate::script::run::{Seen, Watcher};
use crate::settings::MariadbSettings;

/// What the list of processes says of a statement that waits for a table.
const METADATA_LOCK: &str = "metadata lock";

/// Looks at one connection from another one, which is made when it is first needed.
pub(super) struct Outside {
    settings: MariadbSettings,
    /// The connection that is looked at.
    id: u64,
    server: Option<Server>,
}

impl Outside {
    pub(super) fn new(settings: &MariadbSettings, id: u64) -> Self {
        Self { settings: settings.clone(), id, server: None }
    }

    fn server(&mut self) -> Option<&mut Server> {
        if self.server.is_none() {
            // The server may be gone or full: then there is nothing to see, and the script's own
            // connection says what is wrong.
            self.server = connect::plain(&self.settings).ok();
        }
        self.server.as_mut()
    }
}

impl Watcher for Outside {
    fn interrupt(&mut self) {
        let kill = format!("KILL QUERY {}", self.id);
        // The statement may be over by now.
        if self.server().is_some_and(|server| server.run(&kill).is_err()) {
            self.server = None;
        }
    }

    fn look(&mut self) -> Seen {
        let (id, database) = (self.id, self.settings.database.clone());
        let Some(server) = self.server() else { return Seen::default() };
        let stages = if server.is_mariadb { "STAGE, MAX_STAGE, PROGRESS" } else { "0, 0, 0" };
        let sql =
            format!("SELECT STATE, {stages} FROM information_schema.PROCESSLIST WHERE ID = {id}");
        let Ok(rows) = server.rows(&sql) else {
            self.server = None;
            return Seen::default();
        };
        let Some(row) = rows.first() else { return Seen::default() };
        let state = column(row, 0);
        let holders = if state.contains(METADATA_LOCK) {
            table_holders(server, id, &database)
        } else {
            row_holders(server, id)
        };
        let stage = match (number(row, 1), number(row, 2), column(row, 3)) {
            (Some(stage), Some(of), percent) if of > 0 && percent != "0.000" => {
                Some(format!("{state}, stage {stage} of {of}, {percent} %"))
            }
            _ => None,
        };
        Seen { holders, stage }
    }
}

/// Who holds a table: told by the server where it keeps a list of such locks; else whoever is at
/// work in the database or has a transaction open there, one of whom it must be.
fn table_holders(server: &mut Server, id: u64, database: &str) -> Vec<Session> {
    const LISTS: [&str; 2] = [
        "SELECT THREAD_ID FROM information_schema.METADATA_LOCK_INFO
           WHERE TABLE_SCHEMA = DATABASE()",
        "SELECT t.PROCESSLIST_ID FROM performance_schema.metadata_locks m
           JOIN performance_schema.threads t ON t.THREAD_ID = m.OWNER_THREAD_ID
           WHERE m.OBJECT_SCHEMA = DATABASE() AND m.LOCK_STATUS = 'GRANTED'",
    ];
    let mut listed = Vec::new();
    for list in LISTS {
        listed
            .extend(server.rows(list).unwrap_or_default().iter().filter_map(|row| number(row, 0)));
    }
    let mut others = sessions::others(server).unwrap_or_default();
    others.retain(|other| other.session.id != id && other.database == database);
    if others.iter().any(|other| listed.contains(&other.session.id)) {
        others.retain(|other| listed.contains(&other.session.id));
    } else {
        others.retain(|other| other.in_transaction || other.is_executing);
    }
    others.into_iter().map(|other| other.session).collect()
}

/// Who holds a row.
fn row_holders(server: &mut Server, id: u64) -> Vec<Session> {
    let sql = if server.is_mariadb {
        format!(
            "SELECT b.trx_mysql_thread_id FROM information_schema.INNODB_LOCK_WAITS w
             JOIN information_schema.INNODB_TRX b ON b.trx_id = w.blocking_trx_id
             JOIN information_schema.INNODB_TRX r ON r.trx_id = w.requesting_trx_id
             WHERE r.trx_mysql_thread_id = {id}"
        )
    } else {
        format!("SELECT blocking_pid FROM sys.innodb_lock_waits WHERE waiting_pid = {id}")
    };
    // Without the right to see it, nobody is named.
    let blocking = server.rows(&sql).unwrap_or_default();
    let blocking: Vec<u64> = blocking.iter().filter_map(|row| number(row, 0)).collect();
    if blocking.is_empty() {
        return Vec::new();
    }
    let mut others = sessions::others(server).unwrap_or_default();
    others.retain(|other| blocking.contains(&other.session.id));
    others.into_iter().map(|other| other.session).collect()
}
