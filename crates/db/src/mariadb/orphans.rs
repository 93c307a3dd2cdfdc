//! Ending connections that a crashed process left behind.

use std::thread;
use std::time::{Duration, Instant};

use super::connect::{self, Server, code};
use super::sessions;
use crate::error::{DbError, Session};
use crate::settings::MariadbSettings;

const POLL_MS: u64 = 20;

/// Ends the connections and waits until they are gone. A number that by now belongs to another
/// account (the server was restarted) is left alone.
pub(super) fn end(
    settings: &MariadbSettings,
    ids: &[u64],
    patience: Duration,
) -> Result<(), DbError> {
    let mut server = connect::admin(settings)?;
    let began = Instant::now();
    for session in ours(&mut server, ids)? {
        kill(&mut server, session.id)?;
    }
    loop {
        let left = ours(&mut server, ids)?;
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

fn ours(server: &mut Server, ids: &[u64]) -> Result<Vec<Session>, DbError> {
    let own = server.text_for("SELECT USER()", "looking for connections")?;
    let own = own.rsplit_once('@').map_or(own.as_str(), |(user, _)| user).to_owned();
    let mut sessions = sessions::others(server)?;
    sessions.retain(|session| ids.contains(&session.session.id) && session.session.user == own);
    Ok(sessions.into_iter().map(|other| other.session).collect())
}

/// Ends a connection; one that is gone already is fine.
pub(super) fn kill(server: &mut Server, id: u64) -> Result<(), DbError> {
    match server.run(&format!("KILL {id}")) {
        Ok(_) => Ok(()),
        Err(error) if error.code == Some(code::NO_SUCH_THREAD) => Ok(()),
        Err(error) => Err(DbError::engine(format!("ending the connection {id}"))(error)),
    }
}
