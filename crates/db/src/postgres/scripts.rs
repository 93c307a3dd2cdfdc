//! Executing scripts on PostgreSQL: all of them in one transaction where they allow it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::connect::{self, Server};
use crate::database::{
    Progress, SQL_EXCERPT_CHARS_MAX, Script, ScriptDone, ScriptsDone, StatementAt, StatementLog,
};
use crate::error::DbError;
use crate::script::{self, Engine, Statement, excerpt, leading_words};
use crate::settings::PostgresSettings;
use crate::stop::interruptible;

/// The most warnings of a script that are told.
const WARNINGS_MAX: usize = 20;
/// The words of a statement that decide how it is executed.
const WORDS: usize = 4;
/// What a script may have set in the session, undone inside of the transaction.
const RESET: &str = "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; SET CONSTRAINTS ALL IMMEDIATE;
    DEALLOCATE ALL; CLOSE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD TEMP;
    DISCARD SEQUENCES";
/// The transaction that is open, if it has a number; it gets one at its beginning.
const TRANSACTION: &str = "SELECT txid_current_if_assigned()";

struct Parsed<'a> {
    name: &'a str,
    statements: Vec<Statement>,
}

pub(super) fn run(
    settings: &PostgresSettings,
    scripts: &[Script],
    log: &mut dyn StatementLog,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<ScriptsDone, DbError> {
    let parsed = scripts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let mut server = connect::plain(settings)?;
    let doing = "reading how the server reads strings";
    if server.text_for("SHOW standard_conforming_strings", doing)? != "on" {
        return Err(DbError::Unsupported {
            what: "the server takes backslashes in strings for escapes".to_owned(),
            hint: "set standard_conforming_strings = on for the account".to_owned(),
        });
    }
    drop(server);
    let total = parsed.iter().map(|script| script.statements.len() as u64).sum();
    let mut run = Run { log, stop, progress, done: 0, total };
    let mut all = parsed.iter().flat_map(|script| &script.statements);
    if all.all(|statement| fits_into_a_transaction(&statement.text)) {
        run.in_one_transaction(settings, &parsed)
    } else {
        run.one_by_one(settings, &parsed)
    }
}

fn parse(script: &Script) -> Result<Parsed<'_>, DbError> {
    let statements = script::statements(Engine::Postgres, &script.bytes)
        .map_err(|source| DbError::Script { script: script.name.clone(), source })?;
    for statement in &statements {
        if let Some(what) = leads_elsewhere(&statement.text) {
            return Err(DbError::Refused {
                script: script.name.clone(),
                line: statement.line,
                what,
                hint: "the rollback point covers this one database, and our lexer reads strings \
                       as the standard says"
                    .to_owned(),
            });
        }
    }
    Ok(Parsed { name: &script.name, statements })
}

/// What would be out of the rollback point's reach, or change how the rest is read.
fn leads_elsewhere(sql: &str) -> Option<String> {
    let words = leading_words(Engine::Postgres, sql, WORDS);
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    match (word(0), word(1)) {
        ("CREATE" | "DROP" | "ALTER", what @ ("DATABASE" | "TABLESPACE" | "ROLE" | "USER"))
            if word(2) != "MAPPING" =>
        {
            Some(format!("{} {what} changes the whole server", word(0)))
        }
        ("CREATE" | "DROP" | "ALTER", "GROUP" | "SYSTEM") => {
            Some(format!("{} {} changes the whole server", word(0), word(1)))
        }
        ("SET", _) if words.iter().any(|word| word == "STANDARD_CONFORMING_STRINGS") => {
            words.iter().any(|word| word == "OFF").then(|| format!("{} OFF", word(1)))
        }
        _ => None,
    }
}

/// False for what the server refuses inside a transaction, and for what can end one.
fn fits_into_a_transaction(sql: &str) -> bool {
    let words = leading_words(Engine::Postgres, sql, WORDS);
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let has = |wanted: &[&str]| {
        script::squeeze(Engine::Postgres, sql)
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .any(|word| wanted.iter().any(|wanted| word.eq_ignore_ascii_case(wanted)))
    };
    match word(0) {
        "BEGIN" | "COMMIT" | "END" | "ABORT" | "START" | "VACUUM" | "CALL" => false,
        "ROLLBACK" => word(1) == "TO",
        "PREPARE" => word(1) != "TRANSACTION",
        "DISCARD" => word(1) != "ALL",
        "REINDEX" | "CLUSTER" => false,
        "DO" => !has(&["COMMIT", "ROLLBACK"]),
        "CREATE" | "DROP" | "ALTER" if matches!(word(1), "SUBSCRIPTION") => false,
        // A new value cannot be used in the transaction that adds it.
        "ALTER" if word(1) == "TYPE" => !has(&["ADD"]),
        "CREATE" | "DROP" | "ALTER" => !has(&["CONCURRENTLY"]),
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
    /// Until the COMMIT a crash leaves the database as it was, but for sequences, which the
    /// server advances outside of transactions.
    fn in_one_transaction(
        &mut self,
        settings: &PostgresSettings,
        scripts: &[Parsed<'_>],
    ) -> Result<ScriptsDone, DbError> {
        let mut server = connect::plain(settings)?;
        server.run_for("BEGIN", "beginning")?;
        let number = server.text_for("SELECT txid_current()", "beginning")?;
        let result = scripts
            .iter()
            .map(|script| {
                let done = self.script(&mut server, script, Some(&number))?;
                server.run_for(RESET, "undoing what a script set in its session")?;
                Ok(done)
            })
            .collect::<Result<Vec<_>, DbError>>();
        match result {
            Ok(scripts) => {
                server.run_for("COMMIT", "committing the scripts")?;
                Ok(ScriptsDone { scripts, one_transaction: true })
            }
            Err(error) => {
                // Whatever comes of it: a connection that ends undoes what it had not committed.
                drop(server.run("ROLLBACK"));
                Err(error)
            }
        }
    }

    /// Each statement stands for itself; what a failure leaves half done, the point takes back.
    fn one_by_one(
        &mut self,
        settings: &PostgresSettings,
        scripts: &[Parsed<'_>],
    ) -> Result<ScriptsDone, DbError> {
        let mut done = ScriptsDone::default();
        for script in scripts {
            // A new connection each, so that nothing that one script sets reaches the next.
            let mut server = connect::plain(settings)?;
            done.scripts.push(self.script(&mut server, script, None)?);
            if is_in_transaction(&mut server)? {
                return Err(DbError::OpenTransaction { script: script.name.to_owned() });
            }
        }
        Ok(done)
    }

    fn script(
        &mut self,
        server: &mut Server,
        script: &Parsed<'_>,
        transaction: Option<&str>,
    ) -> Result<ScriptDone, DbError> {
        let cancel = server.canceller();
        interruptible(self.stop, cancel, || self.statements(server, script, transaction))
    }

    fn statements(
        &mut self,
        server: &mut Server,
        script: &Parsed<'_>,
        transaction: Option<&str>,
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
            if let Some(number) = transaction {
                // A COMMIT that the lexer did not see (in a function of another language).
                let now = server.text_for(TRANSACTION, "looking at the transaction");
                if now.as_deref().ok() != Some(number) {
                    return Err(self.ended(script, statement, now.err()));
                }
            }
            self.done += 1;
            (self.progress)(Progress {
                done: self.done,
                total: self.total,
                unit: "statements",
                note: script.name.to_owned(),
            });
        }
        done.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(done)
    }

    /// Why the transaction around the scripts is no more.
    fn ended(&self, script: &Parsed<'_>, statement: &Statement, why: Option<DbError>) -> DbError {
        if self.stop.load(Ordering::SeqCst) {
            return DbError::Stopped { script: script.name.to_owned(), line: statement.line };
        }
        why.unwrap_or_else(|| DbError::Refused {
            script: script.name.to_owned(),
            line: statement.line,
            what: "the statement ended the transaction around the scripts".to_owned(),
            hint: "do without COMMIT and ROLLBACK in programs".to_owned(),
        })
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
                let warnings = server.warnings();
                logged(self.log.done(&at, rows, &warnings))?;
                Ok((rows, warnings))
            }
            Err(source) => {
                let source = crate::error::EngineError::from(source);
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

/// Outside of a transaction every statement has a time of its own.
fn is_in_transaction(server: &mut Server) -> Result<bool, DbError> {
    const DOING: &str = "looking at the transaction";
    let first = server.text_for("SELECT extract(epoch FROM transaction_timestamp())", DOING)?;
    Ok(first == server.text_for("SELECT extract(epoch FROM transaction_timestamp())", DOING)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_in_a_transaction_is_known() {
        for fits in [
            "CREATE TABLE t (a int)",
            "ALTER TYPE mood RENAME TO humour",
            "DO $$ BEGIN PERFORM 1; END $$",
            "ROLLBACK TO SAVEPOINT a",
            "INSERT INTO t VALUES ('VACUUM')",
            "CREATE INDEX i ON t (a) /* not CONCURRENTLY */",
        ] {
            assert!(fits_into_a_transaction(fits), "{fits}");
        }
        for alone in [
            "VACUUM",
            "create unique index concurrently i on t (a)",
            "ALTER TYPE mood ADD VALUE 'x'",
            "DO $$ BEGIN COMMIT; END $$",
            "CALL p()",
            "/* x */ begin",
            "ROLLBACK",
            "DISCARD ALL",
        ] {
            assert!(!fits_into_a_transaction(alone), "{alone}");
        }
    }

    #[test]
    fn what_the_point_does_not_cover_is_refused() {
        assert!(leads_elsewhere("drop database game").is_some());
        assert!(leads_elsewhere("ALTER SYSTEM SET x = 1").is_some());
        assert!(leads_elsewhere("CREATE ROLE x").is_some());
        assert!(leads_elsewhere("SET standard_conforming_strings = off").is_some());
        assert_eq!(leads_elsewhere("SET standard_conforming_strings = on"), None);
        assert_eq!(leads_elsewhere("CREATE TABLE database (a int)"), None);
    }
}
