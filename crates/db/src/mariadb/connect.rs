//! Entering a server, and asking it things.

use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Value};

use crate::error::{DbError, EngineError};
use crate::settings::MariadbSettings;

/// Where the server is when neither a socket nor a host was configured.
pub(crate) const DEFAULT_HOST: &str = "127.0.0.1";
const CONNECT_MS_MAX: u64 = 10_000;
/// A connection that carries an hour-long ALTER is kept alive through firewalls.
const KEEPALIVE_MS: u32 = 30_000;
/// How long a statement waits for another session's table lock. The server's own limit is a day.
const LOCK_WAIT_S: u64 = 60;

/// The numbers of the server's errors that are told apart.
pub(super) mod code {
    /// The account may not enter the database, or lacks a right on it.
    pub(crate) const DATABASE_DENIED: i64 = 1044;
    /// The account lacks a right on a table.
    pub(crate) const TABLE_DENIED: i64 = 1142;
    /// The account lacks a right on the server.
    pub(crate) const DENIED: i64 = 1227;
    /// No such connection.
    pub(crate) const NO_SUCH_THREAD: i64 = 1094;
    /// A lock was waited for in vain.
    pub(crate) const LOCK_WAIT: i64 = 1205;
    /// An account does not exist.
    pub(crate) const NO_SUCH_ACCOUNT: i64 = 1396;
}

/// A row as text; `None` is NULL.
pub(super) type Row = Vec<Option<String>>;

/// A connection with the names of the server and the database for errors.
pub(super) struct Server {
    conn: Conn,
    /// MariaDB, not MySQL.
    pub(super) is_mariadb: bool,
}

pub(super) fn target(settings: &MariadbSettings) -> String {
    let place = match (&settings.socket, &settings.host) {
        (Some(socket), _) => socket.display().to_string(),
        (None, host) => format!("{}:{}", host.as_deref().unwrap_or(DEFAULT_HOST), settings.port),
    };
    format!("mariadb {} at {place}", settings.database)
}

/// A connection as any client would have it: with the server's own `sql_mode`.
pub(super) fn plain(settings: &MariadbSettings) -> Result<Server, DbError> {
    let mut opts = OptsBuilder::new()
        .user(Some(settings.user.as_str()))
        .pass(Some(settings.password.reveal()))
        .db_name(Some(settings.database.as_str()).filter(|name| !name.is_empty()))
        .prefer_socket(false)
        .tcp_connect_timeout(Some(Duration::from_millis(CONNECT_MS_MAX)))
        .tcp_keepalive_time_ms(Some(KEEPALIVE_MS));
    opts = match &settings.socket {
        Some(socket) => opts.socket(Some(socket.to_string_lossy().into_owned())),
        None => opts
            .ip_or_hostname(Some(settings.host.as_deref().unwrap_or(DEFAULT_HOST)))
            .tcp_port(settings.port),
    };
    let unreachable = |source| DbError::Unreachable { target: target(settings), source };
    let conn = Conn::new(opts).map_err(|error| unreachable(error.into()))?;
    let mut server = Server { conn, is_mariadb: true };
    let version = server.text("SELECT VERSION()").map_err(unreachable)?;
    server.is_mariadb = version.contains("MariaDB");
    // A limit on statements that suits a game's pages would end an ALTER.
    if server.is_mariadb {
        server.run("SET SESSION max_statement_time = 0").map_err(unreachable)?;
    } else {
        server.run("SET SESSION information_schema_stats_expiry = 0").map_err(unreachable)?;
    }
    let wait = format!("SET SESSION lock_wait_timeout = {LOCK_WAIT_S}");
    server.run(&wait).map_err(unreachable)?;
    Ok(server)
}

/// A connection for our own work: nothing that the server's configuration says changes how
/// definitions are written and read.
pub(super) fn admin(settings: &MariadbSettings) -> Result<Server, DbError> {
    let mut server = plain(settings)?;
    server
        .run_for("SET SESSION sql_mode = '', foreign_key_checks = 0", "preparing a connection")?;
    Ok(server)
}

impl Server {
    /// The server's number of this connection.
    pub(super) fn id(&self) -> u64 {
        u64::from(self.conn.connection_id())
    }

    /// Executes a statement to the end of all its results; the number of rows it changed.
    pub(super) fn run(&mut self, sql: &str) -> Result<u64, EngineError> {
        let mut result = self.conn.query_iter(sql)?;
        let mut rows = 0;
        loop {
            rows += result.affected_rows();
            let Some(set) = result.iter() else { return Ok(rows) };
            for row in set {
                row?;
            }
        }
    }

    /// As [`Server::run`], with what we are doing for the error.
    pub(super) fn run_for(&mut self, sql: &str, doing: &str) -> Result<u64, DbError> {
        self.run(sql).map_err(DbError::engine(doing))
    }

    /// How many warnings the last statement raised.
    pub(super) fn warnings(&self) -> u16 {
        self.conn.warnings()
    }

    /// All rows of a question, as text.
    pub(super) fn rows(&mut self, sql: &str) -> Result<Vec<Row>, EngineError> {
        let mut answer = Vec::new();
        self.each_row(sql, |row| {
            answer.push(row.iter().map(text).collect());
            Ok(())
        })?;
        Ok(answer)
    }

    /// As [`Server::rows`], with what we are doing for the error.
    pub(super) fn rows_for(&mut self, sql: &str, doing: &str) -> Result<Vec<Row>, DbError> {
        self.rows(sql).map_err(DbError::engine(doing))
    }

    /// Hands each row to `take`, as the server sent it.
    pub(super) fn each_row(
        &mut self,
        sql: &str,
        mut take: impl FnMut(&[Value]) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut result = self.conn.query_iter(sql)?;
        while let Some(set) = result.iter() {
            for row in set {
                take(&row?.unwrap())?;
            }
        }
        Ok(())
    }

    /// The first column of the first row; empty where there is none, or NULL.
    pub(super) fn text(&mut self, sql: &str) -> Result<String, EngineError> {
        let row = self.rows(sql)?.into_iter().next();
        Ok(row.and_then(|row| row.into_iter().next().flatten()).unwrap_or_default())
    }

    /// As [`Server::text`], with what we are doing for the error.
    pub(super) fn text_for(&mut self, sql: &str, doing: &str) -> Result<String, DbError> {
        self.text(sql).map_err(DbError::engine(doing))
    }
}

/// A value as the client program shows it.
pub(super) fn text(value: &Value) -> Option<String> {
    Some(match value {
        Value::NULL => return None,
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => other.as_sql(true).trim_matches('\'').to_owned(),
    })
}

/// A column of a row that is text and never NULL.
pub(super) fn column(row: &Row, at: usize) -> String {
    row.get(at).cloned().flatten().unwrap_or_default()
}

/// A column of a row that is a number.
pub(super) fn number(row: &Row, at: usize) -> Option<u64> {
    row.get(at)?.as_deref()?.parse().ok()
}

/// A name as SQL, whatever is in it.
pub(super) fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text as SQL, whatever is in it.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// `user@host` as SQL; without a host, `%`.
pub(super) fn account(name: &str) -> String {
    let (user, host) = split_account(name);
    format!("{}@{}", literal(user), literal(host))
}

/// User and host of `user@host`, `user` or `'user'@'host'`.
pub(super) fn split_account(name: &str) -> (&str, &str) {
    let (user, host) = name.rsplit_once('@').unwrap_or((name, "%"));
    (user.trim_matches(['\'', '`']), host.trim_matches(['\'', '`']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_and_names_are_quoted_whatever_is_in_them() {
        assert_eq!(account("taverne@localhost"), "'taverne'@'localhost'");
        assert_eq!(account("taverne"), "'taverne'@'%'");
        assert_eq!(account("`o'neil`@`10.%`"), "'o''neil'@'10.%'");
        assert_eq!(ident("a`b"), "`a``b`");
        assert_eq!(literal("a\\'b"), "'a\\\\''b'");
    }
}
