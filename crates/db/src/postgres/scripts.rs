//! Executing scripts on PostgreSQL: all of them in one transaction where they allow it.

use std::sync::atomic::AtomicBool;

use super::connect::{self, Server, code};
use super::waiting::Outside;
use crate::database::{Progress, Script, ScriptsDone, StatementLog};
use crate::error::{DbError, EngineError};
use crate::script::run::{Executed, Executor, Failed, Run};
use crate::script::survey::{Surveyed, Unwanted, survey};
use crate::script::{self, Engine, QuoteMode, leading_words};
use crate::settings::PostgresSettings;

/// The words of a statement that decide how it is executed.
const WORDS: usize = 4;
/// What a script may have set in the session, undone inside of the transaction.
const RESET: &str = "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; SET CONSTRAINTS ALL IMMEDIATE;
    DEALLOCATE ALL; CLOSE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD TEMP;
    DISCARD SEQUENCES";
/// The transaction that is open, if it has a number; it gets one at its beginning.
const TRANSACTION: &str = "SELECT txid_current_if_assigned()";

pub(super) fn run(
    settings: &PostgresSettings,
    scripts: &[Script],
    log: &mut dyn StatementLog,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<ScriptsDone, DbError> {
    let dialect = (Engine::Postgres, QuoteMode::default());
    let mut together = true;
    let surveyed = survey(dialect.0, dialect.1, scripts, &mut |statement| {
        together = together && fits_into_a_transaction(&statement.text);
        leads_elsewhere(&statement.text).map(|what| Unwanted {
            what,
            hint: "the rollback point covers this one database, and our lexer reads strings as \
                   the standard says"
                .to_owned(),
        })
    })?;
    let mut server = connect::plain(settings)?;
    let doing = "reading how the server reads strings";
    if server.text_for("SHOW standard_conforming_strings", doing)? != "on" {
        return Err(DbError::Unsupported {
            what: "the server takes backslashes in strings for escapes".to_owned(),
            hint: "set standard_conforming_strings = on for the account".to_owned(),
        });
    }
    let mut run = Run::new(dialect, &surveyed, log, stop, progress);
    if together {
        in_one_transaction(&mut run, settings, server, &surveyed)
    } else {
        drop(server);
        one_by_one(&mut run, settings, &surveyed)
    }
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

/// A connection, and the transaction around all scripts where they are in one.
struct Client {
    server: Server,
    transaction: Option<String>,
}

impl Executor for Client {
    fn connection_id(&self) -> Option<u64> {
        Some(self.server.id())
    }

    fn execute(&mut self, sql: &str) -> Result<Executed, Failed> {
        match self.server.run(sql) {
            Ok(rows) => Ok(Executed { rows, warnings: self.server.warnings() }),
            Err(refusal) => {
                Err(Failed { waited_for_lock: refusal.is(code::LOCK_WAIT), error: refusal.into() })
            }
        }
    }

    /// A COMMIT that the lexer did not see (in a function of another language).
    fn stands(&mut self) -> Result<bool, EngineError> {
        let Some(number) = &self.transaction else { return Ok(true) };
        Ok(self.server.text(TRANSACTION)? == *number)
    }
}

/// Until the COMMIT a crash leaves the database as it was, but for sequences, which the server
/// advances outside of transactions.
fn in_one_transaction(
    run: &mut Run<'_>,
    settings: &PostgresSettings,
    mut server: Server,
    scripts: &[Surveyed<'_>],
) -> Result<ScriptsDone, DbError> {
    server.run_for("BEGIN", "beginning")?;
    let number = server.text_for("SELECT txid_current()", "beginning")?;
    let mut watcher = Outside::new(settings, &server);
    let mut client = Client { server, transaction: Some(number) };
    let mut all = || {
        let mut done = Vec::new();
        for script in scripts {
            done.push(run.script(script, &mut client, &mut watcher)?);
            client.server.run_for(RESET, "undoing what a script set in its session")?;
        }
        Ok(done)
    };
    match all() {
        Ok(scripts) => {
            client.server.run_for("COMMIT", "committing the scripts")?;
            Ok(ScriptsDone { scripts, one_transaction: true })
        }
        Err(error) => {
            // Whatever comes of it: a connection that ends undoes what it had not committed.
            drop(client.server.run("ROLLBACK"));
            Err(error)
        }
    }
}

/// Each statement stands for itself; what a failure leaves half done, the point takes back.
fn one_by_one(
    run: &mut Run<'_>,
    settings: &PostgresSettings,
    scripts: &[Surveyed<'_>],
) -> Result<ScriptsDone, DbError> {
    let mut done = ScriptsDone::default();
    for script in scripts {
        // A new connection each, so that nothing that one script sets reaches the next.
        let server = connect::plain(settings)?;
        let mut watcher = Outside::new(settings, &server);
        let mut client = Client { server, transaction: None };
        done.scripts.push(run.script(script, &mut client, &mut watcher)?);
        if is_in_transaction(&mut client.server)? {
            return Err(DbError::OpenTransaction { script: script.script.name.clone() });
        }
    }
    Ok(done)
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
