//! Executing scripts on MariaDB: statement by statement, for its DDL commits by itself.

use std::sync::atomic::AtomicBool;

use super::connect::{self, Server, code, column};
use super::waiting::Outside;
use crate::database::{Progress, Script, ScriptDone, ScriptsDone, StatementLog};
use crate::error::{DbError, EngineError};
use crate::script::run::{Executed, Executor, Failed, Run};
use crate::script::survey::{Surveyed, Unwanted, survey};
use crate::script::{self, Engine, QuoteMode, Statement, leading_words};
use crate::settings::MariadbSettings;

/// The most warnings of a statement that are read.
const WARNINGS_MAX: usize = 20;

pub(super) fn run(
    settings: &MariadbSettings,
    scripts: &[Script],
    log: &mut dyn StatementLog,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<ScriptsDone, DbError> {
    let limits = Limits::read(&mut connect::plain(settings)?)?;
    let dialect = (Engine::Mariadb, limits.mode);
    let surveyed = survey(dialect.0, dialect.1, scripts, &mut |statement| {
        limits.too_long(statement).or_else(|| {
            leads_elsewhere(&statement.text, &settings.database).map(|what| Unwanted {
                what,
                hint: format!("the rollback point covers the database {} only", settings.database),
            })
        })
    })?;
    let mut run = Run::new(dialect, &surveyed, log, stop, progress);
    let scripts = surveyed.iter().map(|surveyed| script(settings, &mut run, surveyed));
    Ok(ScriptsDone { scripts: scripts.collect::<Result<_, _>>()?, one_transaction: false })
}

/// What the server takes, and how it reads it.
struct Limits {
    mode: QuoteMode,
    packet_bytes_max: u64,
}

impl Limits {
    fn read(server: &mut Server) -> Result<Self, DbError> {
        let mode = server.text_for("SELECT @@GLOBAL.sql_mode", "reading the server's sql_mode")?;
        let doing = "reading the server's max_allowed_packet";
        let packet = server.text_for("SELECT @@max_allowed_packet", doing)?;
        let packet_bytes_max = packet.parse().unwrap_or(u64::MAX);
        Ok(Self { mode: QuoteMode::of(&mode), packet_bytes_max })
    }

    /// A longer one would cost the connection in the middle of the script.
    fn too_long(&self, statement: &Statement) -> Option<Unwanted> {
        let bytes = statement.text.len() as u64 + 1;
        (bytes > self.packet_bytes_max).then(|| Unwanted {
            what: format!(
                "a statement of {bytes} bytes, and the server takes {} at most",
                self.packet_bytes_max
            ),
            hint: "raise max_allowed_packet, or write it as several statements".to_owned(),
        })
    }
}

/// What would be out of the rollback point's reach.
fn leads_elsewhere(sql: &str, database: &str) -> Option<String> {
    let words = leading_words(Engine::Mariadb, sql, 2);
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    match (word(0), word(1)) {
        ("USE", _) => {
            let name = script::squeeze(Engine::Mariadb, sql);
            let name = name.get(3..).unwrap_or("").trim().trim_matches('`').to_owned();
            (name != database).then(|| format!("USE of another database ({name})"))
        }
        ("DROP", "DATABASE" | "SCHEMA") => Some("DROP DATABASE".to_owned()),
        _ => None,
    }
}

fn script(
    settings: &MariadbSettings,
    run: &mut Run<'_>,
    surveyed: &Surveyed<'_>,
) -> Result<ScriptDone, DbError> {
    // A new connection each, so that nothing that one script sets reaches the next.
    let mut server = connect::plain(settings)?;
    let mut watcher = Outside::new(settings, server.id());
    let done = run.script(surveyed, &mut server, &mut watcher)?;
    if server.is_mariadb {
        let open = server.text_for("SELECT @@in_transaction", "looking at the transaction")?;
        if open == "1" {
            return Err(DbError::OpenTransaction { script: done.name });
        }
    }
    Ok(done)
}

impl Executor for Server {
    fn connection_id(&self) -> Option<u64> {
        Some(self.id())
    }

    fn execute(&mut self, sql: &str) -> Result<Executed, Failed> {
        match self.run(sql) {
            Ok(rows) => Ok(Executed { rows, warnings: warnings(self) }),
            Err(error) => {
                Err(Failed { waited_for_lock: error.code == Some(code::LOCK_WAIT), error })
            }
        }
    }

    /// There is no transaction around all scripts.
    fn stands(&mut self) -> Result<bool, EngineError> {
        Ok(true)
    }
}

/// What the server warned of; that they cannot be read is no reason to fail a statement that
/// succeeded.
fn warnings(server: &mut Server) -> Vec<String> {
    if Server::warnings(server) == 0 {
        return Vec::new();
    }
    let shown: Result<_, EngineError> = server.rows(&format!("SHOW WARNINGS LIMIT {WARNINGS_MAX}"));
    let rows = shown.unwrap_or_default();
    rows.iter()
        .map(|row| format!("{} {}: {}", column(row, 0), column(row, 1), column(row, 2)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_point_does_not_cover_is_refused() {
        assert_eq!(leads_elsewhere("USE `game`", "game"), None);
        assert!(leads_elsewhere("use /* x */ other", "game").is_some());
        assert!(leads_elsewhere("/*!40000 DROP DATABASE IF EXISTS game*/", "game").is_some());
        assert_eq!(leads_elsewhere("DROP TABLE game", "game"), None);
    }
}
