//! Migrate: the SQL scripts run, once, in order, known to the statement.

use entracte_db::{
    Database, DbError, HISTORY_TABLE, HistoryEntry, Script, ScriptDone, ScriptsDone, StatementAt,
    StatementLog, history,
};
use entracte_model::journal::{Fault, FaultKind, Level};
use entracte_model::plan::{ReleaseId, Step};
use entracte_model::progress::Probe;
use entracte_model::time::human_ms;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

use super::close::fence_again;
use super::window_copy::come_back;
use super::{Act, keep};
use crate::clock::now;
use crate::context::Context;
use crate::fault::{Doing, broken, refused};
use crate::gate_goal;
use crate::scripts::{self, Pending};
use crate::store::{Store, StoreError};

/// How long a statement that outlived its client may take to end, in milliseconds.
const ORPHAN_MS_MAX: u64 = 60_000;
/// The longest time for which notes on statements that only change rows lie in memory of the
/// system before they are on the disk, in milliseconds.
const UNSYNCED_MS_MAX: u64 = 200;
/// Behind so many statements of a script, one that only changes rows takes the place of the one
/// before it in the journal: a script of ten million `INSERT`s must not fill the store.
const KEPT_ROW_STATEMENTS: u64 = 1_000;

pub(crate) struct Migrate;

impl Act for Migrate {
    fn before(&self, cx: &mut Context<'_>) -> Result<Value, Fault> {
        Ok(json!({ "point": cx.target.point(cx.plan.id) }))
    }

    fn run(&self, cx: &mut Context<'_>, _: &Value) -> Result<Value, Fault> {
        gate_goal::show_progress(cx, Step::Migrate {});
        let archive = cx.archive()?.ok_or_else(|| refused("the plan has no package"))?;
        let pending = scripts::to_run(cx, &archive)?;
        let Some(mut database) = cx.database()? else { return Ok(Value::Null) };
        let log_store = Store::open_existing(&cx.target.store()).doing("opening the store")?;
        let mut log = Log::new(log_store, cx.plan.id);
        let stop = cx.stop.clone();
        let scripts: Vec<Script> = pending.iter().map(|pending| pending.script.clone()).collect();
        let done = database
            .run_scripts(&scripts, &mut log, &stop, &mut |p| {
                cx.progress(p.done, p.total, p.unit, &p.note);
            })
            .map_err(|error| match error {
                DbError::Stopped { .. } => Fault::new(FaultKind::Stopped, error.to_string()),
                error => broken("running the scripts", &error),
            })?;
        write_down(cx, &mut *database, &pending, &done)?;
        for script in &done.scripts {
            for warning in &script.warnings {
                cx.say(Level::Warning, format!("{}: {warning}", script.name));
            }
            cx.info(format!(
                "{}: {} statements, {} rows, {}",
                script.name,
                script.statements,
                script.rows,
                human_ms(script.duration_ms)
            ));
        }
        scripts::remove(cx.target)?;
        keep(&done)
    }

    fn probe(&self, cx: &mut Context<'_>, _: &Value) -> Probe {
        match cx.store.statements(cx.plan.id) {
            Ok((0, _)) => Probe::NotDone,
            // Never on from the middle: the way back is exact, the way on would be a guess.
            Ok((begun, done)) => {
                Probe::Partial(format!("{done} of {begun} begun statements ended"))
            }
            Err(error) => Probe::Unclear(crate::fault::chain(&error)),
        }
    }

    fn undo(&self, cx: &mut Context<'_>, _: &Value) -> Result<(), Fault> {
        end_orphans(cx)?;
        fence_again(cx)?;
        come_back(cx, cx.plan.id)?;
        cx.store.statements_undone(cx.plan.id).doing("writing down that the scripts are undone")?;
        scripts::remove(cx.target)
    }
}

/// Writes down which scripts ran: in the mirror for people, then in the store, which decides.
fn write_down(
    cx: &mut Context<'_>,
    database: &mut dyn Database,
    pending: &[Pending],
    done: &ScriptsDone,
) -> Result<(), Fault> {
    let at = now();
    let entry = |(pending, done): (&Pending, &ScriptDone)| HistoryEntry {
        release: cx.plan.id.to_string(),
        version: cx.plan.to.version.to_string(),
        script: done.name.clone(),
        hash: pending.hashes.normalised.to_string(),
        raw_hash: pending.hashes.raw.to_string(),
        statements: done.statements,
        rows: done.rows,
        duration_ms: done.duration_ms,
        at_ms: u64::try_from(at.0).unwrap_or(0),
    };
    let entries: Vec<HistoryEntry> = pending.iter().zip(&done.scripts).map(entry).collect();
    if let Some(settings) = &cx.target.database {
        history::add(database, settings.engine(), &entries)
            .doing(&format!("writing the mirror {HISTORY_TABLE} in the game's database"))?;
    }
    for Pending { script, hashes } in pending {
        cx.store
            .script_applied(cx.plan.id, &script.name, &hashes.normalised, &hashes.raw, at)
            .doing("writing down that a script ran")?;
    }
    Ok(())
}

/// A statement goes on for seconds after its client died; until it is gone nothing is restored.
fn end_orphans(cx: &mut Context<'_>) -> Result<(), Fault> {
    let unfinished =
        cx.store.unfinished_statements(cx.plan.id).doing("reading the statement journal")?;
    let connections: Vec<u64> =
        unfinished.iter().filter_map(|statement| statement.connection_id).collect();
    if connections.is_empty() {
        return Ok(());
    }
    let Some(mut database) = cx.database()? else { return Ok(()) };
    database
        .end_orphans(&connections, Duration::from_millis(ORPHAN_MS_MAX))
        .doing("ending statements that outlived their client")
}

/// The statement journal, on a connection of its own to the store.
///
/// Every note survives the death of this process. A power cut can cost the notes of the last
/// [`UNSYNCED_MS_MAX`] where one statement that only changes rows follows another: a script of a
/// million `INSERT`s would otherwise wait for the disk two million times. What such a note would
/// have said decides nothing: a script that was begun is taken back, never gone on with, and its
/// connection is known from its first statement.
struct Log {
    store: Store,
    id: ReleaseId,
    /// The script whose last statement only changed rows, and the number of that statement.
    in_rows_of: Option<(String, u64)>,
    synced: Instant,
    is_full: bool,
}

impl Log {
    fn new(store: Store, id: ReleaseId) -> Self {
        Self { store, id, in_rows_of: None, synced: Instant::now(), is_full: true }
    }

    /// Decides whether the next note waits for the disk.
    fn sync(&mut self, must: bool) -> Result<(), StoreError> {
        let full = must || self.synced.elapsed() >= Duration::from_millis(UNSYNCED_MS_MAX);
        if full {
            self.synced = Instant::now();
        }
        if full != self.is_full {
            self.store.wait_for_disk(full)?;
            self.is_full = full;
        }
        Ok(())
    }

    fn intend(&mut self, at: &StatementAt) -> Result<(), StoreError> {
        let only_rows = changes_only_rows(&at.sql);
        let here = only_rows.then(|| (at.script.clone(), at.number));
        let before = std::mem::replace(&mut self.in_rows_of, here);
        let before = before.filter(|(script, _)| only_rows && *script == at.script);
        self.sync(before.is_none())?;
        match before {
            Some((_, number)) if number > KEPT_ROW_STATEMENTS => {
                self.store.statement_moves_on(self.id, number, at)
            }
            _ => self.store.statement_intent(self.id, at),
        }
    }

    fn end(
        &mut self,
        at: &StatementAt,
        done: bool,
        rows: u64,
        note: &str,
    ) -> Result<(), StoreError> {
        self.sync(!done || self.in_rows_of.is_none())?;
        self.store.statement_end(self.id, at, done, rows, note)
    }
}

/// Whether a statement is of those of which there are millions in a script.
fn changes_only_rows(sql: &str) -> bool {
    let word = sql.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    ["INSERT", "REPLACE", "UPDATE", "DELETE"].iter().any(|w| word.eq_ignore_ascii_case(w))
}

impl StatementLog for Log {
    fn intent(&mut self, at: &StatementAt) -> Result<(), String> {
        self.intend(at).map_err(|error| crate::fault::chain(&error))
    }

    fn done(&mut self, at: &StatementAt, rows: u64, warnings: &[String]) -> Result<(), String> {
        self.end(at, true, rows, &warnings.join("; ")).map_err(|error| crate::fault::chain(&error))
    }

    fn failed(&mut self, at: &StatementAt, error: &str) -> Result<(), String> {
        self.end(at, false, 0, error).map_err(|error| crate::fault::chain(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statements_that_change_rows_may_wait_for_the_disk_together() {
        for rows in ["INSERT INTO a", "insert\tinto a", "Update a", "REPLACE INTO", "DELETE FROM a"]
        {
            assert!(changes_only_rows(rows), "{rows}");
        }
        for other in
            ["ALTER TABLE a", "CREATE TABLE insert_it", "SET x = 1", "CALL p()", "", "/*!1 x"]
        {
            assert!(!changes_only_rows(other), "{other}");
        }
    }
}
