//! Executing scripts on SQLite: all of them in one transaction where they allow it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::{Connection, InterruptHandle};

use super::{Sqlite, fence};
use crate::database::{Progress, Script, ScriptDone, ScriptsDone, StatementLog};
use crate::error::{DbError, EngineError, Session as Holder};
use crate::script::run::{Executed, Executor, Failed, Run, Seen, Watcher};
use crate::script::survey::{Surveyed, Unwanted, survey};
use crate::script::{Engine, QuoteMode, Statement, leading_words};

/// The most broken foreign keys that are told.
const VIOLATIONS_SHOWN_MAX: usize = 100;

pub(super) fn run(
    sqlite: &Sqlite,
    scripts: &[Script],
    log: &mut dyn StatementLog,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<ScriptsDone, DbError> {
    let dialect = (Engine::Sqlite, QuoteMode::default());
    let mut together = true;
    let surveyed = survey(dialect.0, dialect.1, scripts, &mut |statement| {
        together &= fits_into_a_transaction(statement);
        leads_elsewhere(statement)
    })?;
    let mut run = Run::new(dialect, &surveyed, log, stop, progress);
    if together {
        in_one_transaction(&mut run, sqlite, &surveyed)
    } else {
        one_by_one(&mut run, sqlite, &surveyed)
    }
}

fn leads_elsewhere(statement: &Statement) -> Option<Unwanted> {
    let word = leading_words(Engine::Sqlite, &statement.text, 1).pop().unwrap_or_default();
    matches!(word.as_str(), "ATTACH" | "DETACH").then(|| Unwanted {
        what: format!("{word} reaches a file that the rollback point does not hold"),
        hint: "change that database with a release of its own".to_owned(),
    })
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

/// Until the COMMIT a crash leaves the database as it was, by its own journal.
fn in_one_transaction(
    run: &mut Run<'_>,
    sqlite: &Sqlite,
    scripts: &[Surveyed<'_>],
) -> Result<ScriptsDone, DbError> {
    let doing = |what: &str| DbError::engine::<rusqlite::Error>(what.to_owned());
    let mut session = Session { connection: sqlite.connect()?, in_transaction: true };
    session.connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| {
        if !fence::is_locked(&error) {
            return doing("beginning")(error);
        }
        let hint = "end them, and begin again".to_owned();
        DbError::StillWriting { sessions: fence::holders(&sqlite.path), hint }
    })?;
    let result = all(run, sqlite, &mut session, scripts);
    let connection = &session.connection;
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
    run: &mut Run<'_>,
    sqlite: &Sqlite,
    session: &mut Session,
    scripts: &[Surveyed<'_>],
) -> Result<(Vec<ScriptDone>, BTreeSet<String>), DbError> {
    let broken_before = broken_foreign_keys(&session.connection)?;
    let mut done = Vec::new();
    for script in scripts {
        let mut watcher = session.watcher(sqlite);
        done.push(run.script(script, session, &mut watcher)?);
    }
    Ok((done, broken_before))
}

/// Each statement stands for itself; what a failure leaves half done, the point takes back.
fn one_by_one(
    run: &mut Run<'_>,
    sqlite: &Sqlite,
    scripts: &[Surveyed<'_>],
) -> Result<ScriptsDone, DbError> {
    let broken_before = broken_foreign_keys(&sqlite.connect()?)?;
    let mut done = ScriptsDone::default();
    for script in scripts {
        // A new connection each, so that no setting of one script reaches the next.
        let mut session = Session { connection: sqlite.connect()?, in_transaction: false };
        let mut watcher = session.watcher(sqlite);
        done.scripts.push(run.script(script, &mut session, &mut watcher)?);
        if !session.connection.is_autocommit() {
            return Err(DbError::OpenTransaction { script: script.script.name.clone() });
        }
    }
    check_foreign_keys(&sqlite.connect()?, &broken_before)?;
    Ok(done)
}

struct Session {
    connection: Connection,
    /// All scripts are in one transaction.
    in_transaction: bool,
}

impl Session {
    fn watcher<'a>(&self, sqlite: &'a Sqlite) -> Interrupter<'a> {
        Interrupter { handle: self.connection.get_interrupt_handle(), path: &sqlite.path }
    }
}

impl Executor for Session {
    fn connection_id(&self) -> Option<u64> {
        None
    }

    fn execute(&mut self, sql: &str) -> Result<Executed, Failed> {
        let connection = &self.connection;
        let before = connection.total_changes();
        let all = || {
            // Whatever else the engine finds in the text is executed too, never left out.
            let mut batch = rusqlite::Batch::new(connection, sql);
            while let Some(mut statement) = batch.next()? {
                let mut rows = statement.query([])?;
                while rows.next()?.is_some() {}
            }
            Ok(())
        };
        let executed: rusqlite::Result<()> = all();
        executed.map_err(|error| Failed {
            waited_for_lock: fence::is_locked(&error),
            error: error.into(),
        })?;
        Ok(Executed { rows: connection.total_changes() - before, warnings: Vec::new() })
    }

    /// ON CONFLICT ROLLBACK and RAISE(ROLLBACK) end a transaction without an error.
    fn stands(&mut self) -> Result<bool, EngineError> {
        Ok(!(self.in_transaction && self.connection.is_autocommit()))
    }
}

struct Interrupter<'a> {
    handle: InterruptHandle,
    path: &'a Path,
}

impl Watcher for Interrupter<'_> {
    fn interrupt(&mut self) {
        self.handle.interrupt();
    }

    fn look(&mut self) -> Seen {
        // A file that is open is not locked: nobody is named until a lock was waited for in vain.
        Seen::default()
    }

    fn holders(&mut self) -> Vec<Holder> {
        fence::holders(self.path)
    }
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
