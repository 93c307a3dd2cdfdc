//! Who else is connected, and what they are doing.

use std::collections::BTreeMap;

use super::connect::{Server, code, column, number};
use crate::error::{DbError, Session};
use crate::script::excerpt;

/// Another connection.
#[derive(Debug, Clone)]
pub(super) struct Other {
    pub(super) session: Session,
    /// The database it is in; empty where it is in none.
    pub(super) database: String,
    /// It executes something at this moment.
    pub(super) is_executing: bool,
    /// It has a transaction open. False, too, where we may not see it.
    pub(super) in_transaction: bool,
}

const EXCERPT_CHARS_MAX: usize = 120;

/// Every connection but this one, save for the server's own threads: those that the account may
/// see (all with PROCESS, else its own).
pub(super) fn others(server: &mut Server) -> Result<Vec<Other>, DbError> {
    let transactions = transactions(server)?;
    let sql = "SELECT ID, USER, HOST, COALESCE(DB, ''), COMMAND, COALESCE(TIME, 0),
               COALESCE(INFO, '') FROM information_schema.PROCESSLIST
               WHERE ID <> CONNECTION_ID() AND USER <> 'system user' AND USER <> 'event_scheduler'
               AND COMMAND NOT IN ('Daemon', 'Binlog Dump', 'Binlog Dump GTID')";
    let rows = server.rows_for(sql, "looking at the sessions")?;
    Ok(rows
        .iter()
        .map(|row| {
            let id = number(row, 0).unwrap_or(0);
            let (command, sql) = (column(row, 4), column(row, 6));
            let transaction = transactions.get(&id);
            let mut doing =
                if sql.is_empty() { command.clone() } else { excerpt(&sql, EXCERPT_CHARS_MAX) };
            if let Some(since) = transaction {
                doing = format!("{doing} (a transaction open since {since})");
            }
            Other {
                session: Session {
                    id,
                    user: column(row, 1),
                    host: column(row, 2),
                    doing,
                    since_s: number(row, 5),
                },
                database: column(row, 3),
                is_executing: !matches!(command.as_str(), "Sleep" | "Connect"),
                in_transaction: transaction.is_some(),
            }
        })
        .collect())
}

/// The connections that have a transaction open, with its beginning; empty without PROCESS.
fn transactions(server: &mut Server) -> Result<BTreeMap<u64, String>, DbError> {
    let sql = "SELECT trx_mysql_thread_id, trx_started FROM information_schema.INNODB_TRX
               WHERE trx_mysql_thread_id > 0";
    match server.rows(sql) {
        Ok(rows) => {
            Ok(rows.iter().filter_map(|row| Some((number(row, 0)?, column(row, 1)))).collect())
        }
        Err(error) if matches!(error.code, Some(code::DENIED | code::TABLE_DENIED)) => {
            Ok(BTreeMap::new())
        }
        Err(error) => Err(DbError::engine("looking at the transactions")(error)),
    }
}
