//! Migrate: the SQL scripts run, once, in order, known to the statement.

use entracte_db::{DbError, StatementAt, StatementLog, normalised_hash};
use entracte_model::Hash;
use entracte_model::journal::{Fault, FaultKind, Level};
use entracte_model::plan::{ReleaseId, Step};
use entracte_model::progress::Probe;
use entracte_model::time::human_ms;
use serde_json::{Value, json};
use std::time::Duration;

use super::close::fence_again;
use super::window_copy::come_back;
use super::{Act, keep};
use crate::clock::now;
use crate::context::Context;
use crate::fault::{Doing, broken, refused};
use crate::gate_goal;
use crate::scripts;
use crate::store::Store;

/// How long a statement that outlived its client may take to end, in milliseconds.
const ORPHAN_MS_MAX: u64 = 60_000;

pub(crate) struct Migrate;

impl Act for Migrate {
    fn before(&self, cx: &mut Context<'_>) -> Result<Value, Fault> {
        Ok(json!({ "point": cx.target.point(cx.plan.id) }))
    }

    fn run(&self, cx: &mut Context<'_>, _: &Value) -> Result<Value, Fault> {
        gate_goal::show_progress(cx, Step::Migrate {});
        let archive = cx.archive()?.ok_or_else(|| refused("the plan has no package"))?;
        let scripts = scripts::to_run(cx, &archive)?;
        let Some(mut database) = cx.database()? else { return Ok(Value::Null) };
        let log_store = Store::open_existing(&cx.target.store()).doing("opening the store")?;
        let mut log = Log { store: log_store, id: cx.plan.id };
        let stop = cx.stop.clone();
        let done = database
            .run_scripts(&scripts, &mut log, &stop, &mut |p| {
                cx.progress(p.done, p.total, p.unit, &p.note);
            })
            .map_err(|error| match error {
                DbError::Stopped { .. } => Fault::new(FaultKind::Stopped, error.to_string()),
                error => broken("running the scripts", &error),
            })?;
        for script in &scripts {
            cx.store
                .script_applied(
                    cx.plan.id,
                    &script.name,
                    &normalised_hash(&script.bytes),
                    &Hash::of(&script.bytes),
                    now(),
                )
                .doing("writing down that a script ran")?;
        }
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
        cx.store.statements_undone(cx.plan.id).doing("writing down that the scripts are undone")
    }
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
struct Log {
    store: Store,
    id: ReleaseId,
}

impl StatementLog for Log {
    fn intent(&mut self, at: &StatementAt) -> Result<(), String> {
        self.store.statement_intent(self.id, at).map_err(|error| crate::fault::chain(&error))
    }

    fn done(&mut self, at: &StatementAt, rows: u64, warnings: &[String]) -> Result<(), String> {
        self.store
            .statement_end(self.id, at, true, rows, &warnings.join("; "))
            .map_err(|error| crate::fault::chain(&error))
    }

    fn failed(&mut self, at: &StatementAt, error: &str) -> Result<(), String> {
        self.store
            .statement_end(self.id, at, false, 0, error)
            .map_err(|error| crate::fault::chain(&error))
    }
}
