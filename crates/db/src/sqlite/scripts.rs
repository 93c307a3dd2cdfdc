//! Executing scripts on SQLite: all of them in one transaction where they allow it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rusqlite::Connection;
use rusqlite::fallible_iterator::FallibleIterator;

use super::Sqlite;
use crate::database::{
    Progress, SQL_EXCERPT_CHARS_MAX, Script, ScriptDone, ScriptsDone, StatementAt, StatementLog,
};
use crate::error::DbError;
use crate::script::{self, Engine, Statement, excerpt, leading_words};
use crate::stop::interruptible;

/// The most broken foreign keys that are told.
const VIOLATIONS_SHOWN_MAX: usize = 100;

/// A script with its statements.
struct Parsed<'a> {
    name: &'a str,
    statements: Vec<Statement>,
}

pub(super) fn run(
    sqlite: &Sqlite,
    scripts: &[Script],
    log: &mut dyn StatementLog,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<ScriptsDone, DbError> {
    let parsed = scripts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let total = parsed.iter().map(|script| script.statements.len() as u64).sum();
    let mut run = Run { log, stop, progress, done: 0, total };
    let together =
        parsed.iter().all(|script| script.statements.iter().all(fits_into_a_transaction));
    if together {
        run.in_one_transaction(&sqlite.connect()?, &parsed)
    } else {
        run.one_by_one(sqlite, &parsed)
    }
}

fn parse(script: &Script) -> Result<Parsed<'_>, DbError> {
    let statements = script::statements(Engine::Sqlite, &script.bytes)
        .map_err(|source| DbError::Script { script: script.name.clone(), source })?;
    for statement in &statements {
        let word = leading_words(Engine::Sqlite, &statement.text, 1).pop().unwrap_or_default();
        if matches!(word.as_str(), "ATTACH" | "DETACH") {
            return Err(DbError::Refused {
                script: script.name.clone(),
                line: statement.line,
                what: format!("{word} reaches a file that the rollback point does not hold"),
                hint: "change that database with a release of its own".to_owned(),
            });
        }
    }
    Ok(Parsed { name: &script.name, statements })
}

/// False for what the engine refuses or ignores inside a transaction, and for what ends one.
fn fits_into_a_transaction(statement: &Statement) -> bool {
    const HARMLESS_PRAGMAS: [&str; 10] = [
        "USER_VERSION",
        "APPLICATION_ID",
        "TABLE_INFO",
        "TABLE_XINFO",
        "INDEX_LIST",
        "INDEX_INFO",
        "FOREIGN_KEY_CHECK",
        "FOREIGN_KEY_LIST",
        "INTEGRITY_CHECK",
        "QUICK_CHECK",
    ];
    let words = leading_words(Engine::Sqlite, &statement.text, 2);
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    match word(0) {
        "BEGIN" | "COMMIT" | "END" | "ROLLBACK" | "VACUUM" => {
            word(0) == "ROLLBACK" && word(1) == "TO"
        }
        "PRAGMA" => HARMLESS_PRAGMAS.contains(&word(1)),
        _ => true,
    }
}

struct Run<'a> {
    log: &'a mut dyn StatementLog,
    stop: &'a AtomicBool,
    progress: &'a mut dyn FnMut(Progress),
    done: u64,
    total: u64,
}

impl Run<'_> {
    /// Until the COMMIT a crash leaves the database as it was, by its own journal.
    fn in_one_transaction(
        &mut self,
        connection: &Connection,
        scripts: &[Parsed<'_>],
    ) -> Result<ScriptsDone, DbError> {
        let doing = |what: &str| DbError::engine::<rusqlite::Error>(what.to_owned());
        connection.execute_batch("BEGIN IMMEDIATE").map_err(doing("beginning"))?;
        let result = self.all(connection, scripts);
        let checked = result.and_then(|(done, broken_before)| {
            check_foreign_keys(connection, &broken_before).map(|()| done)
        });
        match checked {
            Ok(scripts) => {
                connection.execute_batch("COMMIT").map_err(doing("committing the scripts"))?;
                Ok(ScriptsDone { scripts, one_transaction: true })
            }
            Err(error) => {
                if !connection.is_autocommit() {
                    connection.execute_batch("ROLLBACK").map_err(doing("undoing the scripts"))?;
                }
                Err(error)
            }
        }
    }

    fn all(
        &mut self,
        connection: &Connection,
        scripts: &[Parsed<'_>],
    ) -> Result<(Vec<ScriptDone>, BTreeSet<String>), DbError> {
        let broken_before = broken_foreign_keys(connection)?;
        let mut done = Vec::new();
        for script in scripts {
            done.push(self.script(connection, script, true)?);
        }
        Ok((done, broken_before))
    }

    /// Each statement stands for itself; what a failure leaves half done, the point takes back.
    fn one_by_one(
        &mut self,
        sqlite: &Sqlite,
        scripts: &[Parsed<'_>],
    ) -> Result<ScriptsDone, DbError> {
        let broken_before = broken_foreign_keys(&sqlite.connect()?)?;
        let mut done = ScriptsDone::default();
        for script in scripts {
            // A new connection each, so that no setting of one script reaches the next.
            let connection = sqlite.connect()?;
            done.scripts.push(self.script(&connection, script, false)?);
            if !connection.is_autocommit() {
                return Err(DbError::OpenTransaction { script: script.name.to_owned() });
            }
        }
        check_foreign_keys(&sqlite.connect()?, &broken_before)?;
        Ok(done)
    }

    fn script(
        &mut self,
        connection: &Connection,
        script: &Parsed<'_>,
        in_transaction: bool,
    ) -> Result<ScriptDone, DbError> {
        let handle = connection.get_interrupt_handle();
        let stop = self.stop;
        interruptible(
            stop,
            move || handle.interrupt(),
            || self.statements(connection, script, in_transaction),
        )
    }

    fn statements(
        &mut self,
        connection: &Connection,
        script: &Parsed<'_>,
        in_transaction: bool,
    ) -> Result<ScriptDone, DbError> {
        let began = Instant::now();
        let mut rows = 0;
        for (number, statement) in (1..).zip(&script.statements) {
            let stopped =
                || DbError::Stopped { script: script.name.to_owned(), line: statement.line };
            if self.stop.load(Ordering::SeqCst) {
                return Err(stopped());
            }
            let at = StatementAt {
                script: script.name.to_owned(),
                number,
                line: statement.line,
                offset: statement.offset,
                sql: excerpt(&statement.text, SQL_EXCERPT_CHARS_MAX),
                connection_id: None,
            };
            let logged = |result: Result<(), String>| result.map_err(|said| DbError::Log { said });
            logged(self.log.intent(&at))?;
            match execute(connection, &statement.text) {
                Ok(changed) => {
                    rows += changed;
                    logged(self.log.done(&at, changed, &[]))?;
                }
                Err(source) => {
                    let source = crate::error::EngineError::from(source);
                    logged(self.log.failed(&at, &source.to_string()))?;
                    if self.stop.load(Ordering::SeqCst) {
                        return Err(stopped());
                    }
                    let StatementAt { script, line, number, sql, .. } = at;
                    return Err(DbError::Statement { script, line, number, sql, source });
                }
            }
            // ON CONFLICT ROLLBACK and RAISE(ROLLBACK) end a transaction without an error.
            if in_transaction && connection.is_autocommit() {
                return Err(DbError::Refused {
                    script: script.name.to_owned(),
                    line: statement.line,
                    what: "the statement ended the transaction around the scripts".to_owned(),
                    hint: "do without ROLLBACK in conflict clauses".to_owned(),
                });
            }
            self.done += 1;
            (self.progress)(Progress {
                done: self.done,
                total: self.total,
                unit: "statements",
                note: script.name.to_owned(),
            });
        }
        Ok(ScriptDone {
            name: script.name.to_owned(),
            statements: script.statements.len() as u64,
            rows,
            warnings: Vec::new(),
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// Executes a statement to its end; the number of rows it changed.
fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<u64> {
    let before = connection.total_changes();
    // Whatever else the engine finds in the text is executed too, never left out.
    let mut batch = rusqlite::Batch::new(connection, sql);
    while let Some(mut statement) = batch.next()? {
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(connection.total_changes() - before)
}

fn check_foreign_keys(connection: &Connection, before: &BTreeSet<String>) -> Result<(), DbError> {
    let after = broken_foreign_keys(connection)?;
    let violations: Vec<String> =
        after.difference(before).take(VIOLATIONS_SHOWN_MAX).cloned().collect();
    if violations.is_empty() { Ok(()) } else { Err(DbError::ForeignKeys { violations }) }
}

/// Each broken foreign key in words. Those of before are no fault of the scripts.
fn broken_foreign_keys(connection: &Connection) -> Result<BTreeSet<String>, DbError> {
    let doing = || DbError::engine::<rusqlite::Error>("checking the foreign keys");
    let mut statement = connection.prepare("PRAGMA foreign_key_check").map_err(doing())?;
    let rows = statement.query_map([], |row| {
        let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
        Ok(match row.get::<_, Option<i64>>(1)? {
            Some(rowid) => format!("{table} row {rowid} points to no row of {parent}"),
            None => format!("a row of {table} points to no row of {parent}"),
        })
    });
    rows.and_then(Iterator::collect).map_err(doing())
}
