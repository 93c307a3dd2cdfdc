//! Who else is connected, what they are doing, and the ending of connections that a crashed
//! process left behind.

use std::thread;
use std::time::{Duration, Instant};

use super::connect::{self, Refusal, Server, code, column, literal, number, truth};
use crate::error::{DbError, Session};
use crate::script::excerpt;
use crate::settings::PostgresSettings;

const EXCERPT_CHARS_MAX: usize = 120;
const POLL_MS: u64 = 20;

/// Another connection to the database.
#[derive(Debug, Clone)]
pub(super) struct Other {
    pub(super) session: Session,
    /// It executes something or has a transaction open.
    pub(super) is_busy: bool,
}

/// Everybody in the database but `server`'s own session. That a transaction is open is seen in
/// the locks, which every account may read; what it does only with `pg_monitor`.
pub(super) fn others(server: &mut Server, database: &str) -> Result<Vec<Other>, DbError> {
    let sql = format!(
        "SELECT a.pid, coalesce(a.usename, a.backend_type, ''), coalesce(host(a.client_addr), ''),
           coalesce(a.state, ''), coalesce(a.query, ''),
           floor(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.state_change)))::text,
           coalesce(to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SS TZ'), ''),
           EXISTS (SELECT 1 FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'virtualxid'
             AND l.granted AND l.mode = 'ExclusiveLock')
         FROM pg_stat_activity a
         WHERE a.datname = {} AND a.pid <> pg_backend_pid()
           AND coalesce(a.backend_type, '') NOT IN
             ('autovacuum worker', 'parallel worker', 'walsender')
         ORDER BY a.pid",
        literal(database)
    );
    let rows = server.rows_for(&sql, "looking at the sessions")?;
    Ok(rows
        .iter()
        .map(|row| {
            let (state, query) = (column(row, 3), column(row, 4));
            let in_transaction = truth(row, 7);
            let mut doing = match (state.as_str(), in_transaction) {
                ("", false) => "connected".to_owned(),
                ("", true) => "a transaction open".to_owned(),
                _ => format!("{state}: {}", excerpt(&query, EXCERPT_CHARS_MAX)),
            };
            let since = column(row, 6);
            if in_transaction && !since.is_empty() {
                doing = format!("{doing} (a transaction open since {since})");
            }
            let host = column(row, 2);
            Other {
                session: Session {
                    id: number(row, 0).unwrap_or(0),
                    user: column(row, 1),
                    host: if host.is_empty() { "this machine".to_owned() } else { host },
                    doing,
                    since_s: number(row, 5),
                },
                is_busy: in_transaction || !matches!(state.as_str(), "" | "idle"),
            }
        })
        .collect())
}

/// Ends a connection; one that is gone already is fine. False where we may not.
pub(super) fn terminate(server: &mut Server, id: u64) -> Result<bool, DbError> {
    match server.text(&format!("SELECT pg_terminate_backend({id})")) {
        Ok(_) => Ok(true),
        Err(error) if error.is(code::DENIED) => Ok(false),
        Err(error) => Err(DbError::engine::<Refusal>(format!("ending the connection {id}"))(error)),
    }
}

/// Ends the connections and waits until they are gone. A number that by now belongs to another
/// account (the server was restarted) is left alone.
pub(super) fn end_orphans(
    settings: &PostgresSettings,
    ids: &[u64],
    patience: Duration,
) -> Result<(), DbError> {
    let mut server = connect::admin(settings)?;
    let began = Instant::now();
    for session in ours(&mut server, settings, ids)? {
        terminate(&mut server, session.id)?;
    }
    loop {
        let left = ours(&mut server, settings, ids)?;
        if left.is_empty() {
            return Ok(());
        }
        if began.elapsed() >= patience {
            return Err(DbError::StillRunning {
                sessions: left,
                waited_s: began.elapsed().as_secs(),
            });
        }
        thread::sleep(Duration::from_millis(POLL_MS));
    }
}

fn ours(
    server: &mut Server,
    settings: &PostgresSettings,
    ids: &[u64],
) -> Result<Vec<Session>, DbError> {
    let own = server.text_for("SELECT session_user", "looking for connections")?;
    let mut found = others(server, &settings.database)?;
    found.retain(|other| ids.contains(&other.session.id) && other.session.user == own);
    Ok(found.into_iter().map(|other| other.session).collect())
}
