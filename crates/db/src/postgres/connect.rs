//! Entering a server, and asking it things.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postgres::error::Severity;
use postgres::{CancelToken, Client, Config, NoTls, SimpleQueryMessage};

use crate::error::{DbError, EngineError};
use crate::settings::PostgresSettings;

/// Where the server is when neither a socket nor a host was configured.
pub(crate) const DEFAULT_HOST: &str = "127.0.0.1";
/// The name under which our sessions are seen on the server.
const APPLICATION: &str = "entracte";
const CONNECT_MS_MAX: u64 = 10_000;
/// A connection that carries an hour-long ALTER is kept alive through firewalls.
const KEEPALIVE_S: u64 = 30;
/// How long a statement waits for another session's lock. The server's own limit is none.
const LOCK_WAIT_S: u64 = 60;
/// The most warnings that are kept between two readings.
const WARNINGS_MAX: usize = 20;
/// Databases that may be entered to work on another one as a whole.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];

/// The codes (SQLSTATE) of the server's errors that are told apart.
pub(super) mod code {
    /// A right is missing.
    pub(crate) const DENIED: &str = "42501";
    /// Somebody is in the database.
    pub(crate) const IN_USE: &str = "55006";
    /// A lock was waited for in vain.
    pub(crate) const LOCK_WAIT: &str = "55P03";
    /// An object (a role) does not exist.
    pub(crate) const UNDEFINED_OBJECT: &str = "42704";
}

/// A row as text; `None` is NULL.
pub(super) type Row = Vec<Option<String>>;

/// A refused statement, with the server's code.
#[derive(Debug)]
pub(super) struct Refusal {
    state: String,
    error: EngineError,
}

impl Refusal {
    pub(super) fn is(&self, state: &str) -> bool {
        self.state == state
    }
}

impl From<Refusal> for EngineError {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

impl From<postgres::Error> for Refusal {
    fn from(error: postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            let message = format!("{error}{}", cause.unwrap_or_default());
            return Self { state: String::new(), error: EngineError { code: None, message } };
        };
        let mut message = format!("({}) {}", said.code().code(), said.message());
        for more in [said.detail(), said.hint(), said.where_()].into_iter().flatten() {
            message += &format!("; {more}");
        }
        Self { state: said.code().code().to_owned(), error: EngineError { code: None, message } }
    }
}

/// A connection.
pub(super) struct Server {
    client: Client,
    id: u64,
    warnings: Arc<Mutex<Vec<String>>>,
}

pub(super) fn place(settings: &PostgresSettings) -> String {
    match (&settings.socket_dir, &settings.host) {
        (Some(dir), _) => format!("{}:{}", dir.display(), settings.port),
        (None, host) => format!("{}:{}", host.as_deref().unwrap_or(DEFAULT_HOST), settings.port),
    }
}

pub(super) fn target(settings: &PostgresSettings) -> String {
    format!("postgres {} at {}", settings.database, place(settings))
}

/// A connection as any client would have it, without the limits that suit a game's pages.
pub(super) fn plain(settings: &PostgresSettings) -> Result<Server, DbError> {
    enter(settings, &settings.database)
        .map_err(|source| DbError::Unreachable { target: target(settings), source: source.into() })
}

/// A connection for our own work: texts are the same whatever the server's configuration says.
pub(super) fn admin(settings: &PostgresSettings) -> Result<Server, DbError> {
    let mut server = plain(settings)?;
    server.run_for(
        "SET search_path = pg_catalog; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres';
         SET TimeZone = 'UTC'; SET extra_float_digits = 1; SET bytea_output = 'hex';
         SET xmloption = content; SET row_security = off",
        "preparing a connection",
    )?;
    Ok(server)
}

/// A connection to another database of the server, to create, rename and drop databases.
pub(super) fn outside(settings: &PostgresSettings) -> Result<Server, DbError> {
    let mut last = None;
    for name in MAINTENANCE.iter().filter(|name| **name != settings.database) {
        match enter(settings, name) {
            Ok(server) => return Ok(server),
            Err(error) => last = Some(error),
        }
    }
    let source = last.expect("at most one of the two names is the game's").into();
    let target = format!("postgres {} at {}", MAINTENANCE[0], place(settings));
    Err(DbError::Unreachable { target, source })
}

fn enter(settings: &PostgresSettings, database: &str) -> Result<Server, Refusal> {
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&warnings);
    let mut config = Config::new();
    config
        .user(&settings.user)
        .dbname(database)
        .port(settings.port)
        .application_name(APPLICATION)
        .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
        .keepalives_idle(Duration::from_secs(KEEPALIVE_S))
        .options(&format!(
            "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 \
             -c lock_timeout={LOCK_WAIT_S}s"
        ))
        .notice_callback(move |said| {
            let mut kept = told.lock().unwrap_or_else(PoisonError::into_inner);
            if said.parsed_severity() == Some(Severity::Warning) && kept.len() < WARNINGS_MAX {
                kept.push(format!("{}: {}", said.code().code(), said.message()));
            }
        });
    if !settings.password.reveal().is_empty() {
        config.password(settings.password.reveal());
    }
    match &settings.socket_dir {
        Some(dir) => config.host_path::<&Path>(dir),
        None => config.host(settings.host.as_deref().unwrap_or(DEFAULT_HOST)),
    };
    let client = config.connect(NoTls)?;
    let mut server = Server { client, id: 0, warnings };
    server.id = server.text("SELECT pg_backend_pid()")?.parse().unwrap_or(0);
    Ok(server)
}

impl Server {
    /// The server's number of this connection.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Ends the statement at work from another thread.
    pub(super) fn canceller(&self) -> impl Fn() + Send + use<> {
        let token: CancelToken = self.client.cancel_token();
        // The statement may be over, or the server gone: the script's own connection says so.
        move || drop(token.cancel_query(NoTls))
    }

    /// Executes statements; the number of rows they changed.
    pub(super) fn run(&mut self, sql: &str) -> Result<u64, Refusal> {
        let mut rows = 0;
        let mut is_answer = false;
        for message in self.client.simple_query(sql)? {
            match message {
                SimpleQueryMessage::RowDescription(_) => is_answer = true,
                SimpleQueryMessage::CommandComplete(count) => {
                    rows += if std::mem::take(&mut is_answer) { 0 } else { count };
                }
                _ => {}
            }
        }
        Ok(rows)
    }

    /// As [`Server::run`], with what we are doing for the error.
    pub(super) fn run_for(&mut self, sql: &str, doing: &str) -> Result<u64, DbError> {
        self.run(sql).map_err(DbError::engine(doing))
    }

    /// What was warned of since the last call.
    pub(super) fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All rows of a question, as text.
    pub(super) fn rows(&mut self, sql: &str) -> Result<Vec<Row>, Refusal> {
        let messages = self.client.simple_query(sql)?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
                }
                _ => None,
            })
            .collect())
    }

    /// As [`Server::rows`], with what we are doing for the error.
    pub(super) fn rows_for(&mut self, sql: &str, doing: &str) -> Result<Vec<Row>, DbError> {
        self.rows(sql).map_err(DbError::engine(doing))
    }

    /// The first column of the first row; empty where there is none, or NULL.
    pub(super) fn text(&mut self, sql: &str) -> Result<String, Refusal> {
        let row = self.rows(sql)?.into_iter().next();
        Ok(row.and_then(|row| row.into_iter().next().flatten()).unwrap_or_default())
    }

    /// As [`Server::text`], with what we are doing for the error.
    pub(super) fn text_for(&mut self, sql: &str, doing: &str) -> Result<String, DbError> {
        self.text(sql).map_err(DbError::engine(doing))
    }

    /// The first column of every row.
    pub(super) fn list_for(&mut self, sql: &str, doing: &str) -> Result<Vec<String>, DbError> {
        let rows = self.rows_for(sql, doing)?;
        Ok(rows.iter().map(|row| column(row, 0)).collect())
    }
}

/// A column of a row that is text and never NULL.
pub(super) fn column(row: &Row, at: usize) -> String {
    row.get(at).cloned().flatten().unwrap_or_default()
}

/// A column of a row that is a number.
pub(super) fn number(row: &Row, at: usize) -> Option<u64> {
    row.get(at)?.as_deref()?.parse().ok()
}

/// A column of a row that is true or false.
pub(super) fn truth(row: &Row, at: usize) -> bool {
    column(row, at) == "t"
}

/// A name as SQL, whatever is in it.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL, whatever is in it and whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted_whatever_is_in_them() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }
}
