//! Executing scripts on MariaDB: statement by statement, for its DDL commits by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::connect::{self, Server, column};
use crate::database::{
    Progress, SQL_EXCERPT_CHARS_MAX, Script, ScriptDone, ScriptsDone, StatementAt, StatementLog,
};
use crate::error::{DbError, EngineError};
use crate::script::{self, Engine, QuoteMode, Statement, excerpt, leading_words};
use crate::settings::MariadbSettings;
use crate::stop::interruptible;

/// The most warnings of a statement that are read, and of a script that are told.
const WARNINGS_MAX: usize = 20;

struct Parsed<'a> {
    name: &'a str,
    statements: Vec<Statement>,
}

pub(super) fn run(
    settings: &MariadbSettings,
    scripts: &[Script],
    log: &mut dyn StatementLog,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<ScriptsDone, DbError> {
    let mut server = connect::plain(settings)?;
    let mode = server.text_for("SELECT @@GLOBAL.sql_mode", "reading the server's sql_mode")?;
    let mode = QuoteMode::of(&mode);
    drop(server);
    let parsed = scripts
        .iter()
        .map(|script| parse(script, mode, &settings.database))
        .collect::<Result<Vec<_>, _>>()?;
    let total = parsed.iter().map(|script| script.statements.len() as u64).sum();
    let mut run = Run { settings, log, stop, progress, done: 0, total };
    let scripts = parsed.iter().map(|script| run.script(script)).collect::<Result<Vec<_>, _>>()?;
    Ok(ScriptsDone { scripts, one_transaction: false })
}

fn parse<'a>(script: &'a Script, mode: QuoteMode, database: &str) -> Result<Parsed<'a>, DbError> {
    let statements = script::statements_in(Engine::Mariadb, mode, &script.bytes)
        .map_err(|source| DbError::Script { script: script.name.clone(), source })?;
    for statement in &statements {
        if let Some(what) = leads_elsewhere(&statement.text, database) {
            return Err(DbError::Refused {
                script: script.name.clone(),
                line: statement.line,
                what,
                hint: format!("the rollback point covers the database {database} only"),
            });
        }
    }
    Ok(Parsed { name: &script.name, statements })
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

struct Run<'a> {
    settings: &'a MariadbSettings,
    log: &'a mut dyn StatementLog,
    stop: &'a AtomicBool,
    progress: &'a mut dyn FnMut(Progress),
    done: u64,
    total: u64,
}

impl Run<'_> {
    fn script(&mut self, script: &Parsed<'_>) -> Result<ScriptDone, DbError> {
        // A new connection each, so that nothing that one script sets reaches the next.
        let mut server = connect::plain(self.settings)?;
        let id = server.id();
        let settings = self.settings.clone();
        let kill = move || {
            // The statement may be over, or the server gone: then there is nothing to end, and
            // the script's own connection says so.
            if let Ok(mut other) = connect::plain(&settings) {
                drop(other.run(&format!("KILL QUERY {id}")));
            }
        };
        interruptible(self.stop, kill, || self.statements(&mut server, script))
    }

    fn statements(
        &mut self,
        server: &mut Server,
        script: &Parsed<'_>,
    ) -> Result<ScriptDone, DbError> {
        let began = Instant::now();
        let mut done = ScriptDone {
            name: script.name.to_owned(),
            statements: script.statements.len() as u64,
            rows: 0,
            warnings: Vec::new(),
            duration_ms: 0,
        };
        for (number, statement) in (1..).zip(&script.statements) {
            let (rows, warnings) = self.statement(server, script.name, number, statement)?;
            done.rows += rows;
            let room = WARNINGS_MAX - done.warnings.len();
            let told = warnings.iter().take(room);
            done.warnings.extend(told.map(|said| format!("line {}: {said}", statement.line)));
            self.done += 1;
            (self.progress)(Progress {
                done: self.done,
                total: self.total,
                unit: "statements",
                note: script.name.to_owned(),
            });
        }
        if server.is_mariadb {
            let open = server.text_for("SELECT @@in_transaction", "looking at the transaction")?;
            if open == "1" {
                return Err(DbError::OpenTransaction { script: script.name.to_owned() });
            }
        }
        done.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(done)
    }

    /// A crash between the intent and what follows it leaves open whether the statement was
    /// executed: the point is restored, never the rest executed.
    fn statement(
        &mut self,
        server: &mut Server,
        script: &str,
        number: u64,
        statement: &Statement,
    ) -> Result<(u64, Vec<String>), DbError> {
        let stopped = || DbError::Stopped { script: script.to_owned(), line: statement.line };
        if self.stop.load(Ordering::SeqCst) {
            return Err(stopped());
        }
        let at = StatementAt {
            script: script.to_owned(),
            number,
            line: statement.line,
            offset: statement.offset,
            sql: excerpt(&statement.text, SQL_EXCERPT_CHARS_MAX),
            connection_id: Some(server.id()),
        };
        let logged = |result: Result<(), String>| result.map_err(|said| DbError::Log { said });
        logged(self.log.intent(&at))?;
        match server.run(&statement.text) {
            Ok(rows) => {
                let warnings = warnings(server);
                logged(self.log.done(&at, rows, &warnings))?;
                Ok((rows, warnings))
            }
            Err(source) => {
                logged(self.log.failed(&at, &source.to_string()))?;
                if self.stop.load(Ordering::SeqCst) {
                    return Err(stopped());
                }
                let StatementAt { script, line, number, sql, .. } = at;
                Err(DbError::Statement { script, line, number, sql, source })
            }
        }
    }
}

/// What the server warned of; that they cannot be read is no reason to fail a statement that
/// succeeded.
fn warnings(server: &mut Server) -> Vec<String> {
    if server.warnings() == 0 {
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
