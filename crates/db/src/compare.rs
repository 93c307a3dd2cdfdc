//! Comparing the schemas of two databases, and what would make one into the other.

use std::sync::atomic::AtomicBool;

use entracte_model::schema::{self, Difference, SeedTable, Snapshot, Step};
use serde::{Deserialize, Serialize};

use crate::database::{Nowhere, Script};
use crate::error::DbError;
use crate::postgres::Grants;
use crate::settings::Settings;
use crate::{mariadb, open, postgres, sqlite};

/// The most rows of a seed table: what is larger is no seed, but players' rows.
pub const SEED_ROWS_MAX: usize = 20_000;
/// How often it is looked again for what the statements of the last round did not mend.
const ROUNDS_MAX: usize = 5;

/// Every object of a database, with what is needed to make it again.
pub fn snapshot(settings: &Settings) -> Result<Snapshot, DbError> {
    let mut found = match settings {
        Settings::Sqlite(settings) => sqlite::snapshot(settings)?,
        Settings::Mariadb(settings) => mariadb::snapshot(settings)?,
        Settings::Postgres(settings) => postgres::snapshot(settings)?,
    };
    found.objects.retain(|object, _| !is_ours(&object.name));
    Ok(found)
}

/// Our own audit table, and what belongs to it.
fn is_ours(name: &str) -> bool {
    name.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| {
        let rest = word.strip_prefix(schema::HISTORY_TABLE);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    })
}

/// The named tables with their rows; those that are not there are left out.
///
/// # Errors
/// [`DbError::Unsupported`] where one has more than [`SEED_ROWS_MAX`] rows.
pub fn seed_tables(settings: &Settings, names: &[String]) -> Result<Vec<SeedTable>, DbError> {
    let mut found = Vec::new();
    for name in names {
        let table = match settings {
            Settings::Sqlite(settings) => sqlite::seed_table(settings, name)?,
            Settings::Mariadb(settings) => mariadb::seed_table(settings, name)?,
            Settings::Postgres(settings) => postgres::seed_table(settings, name)?,
        };
        found.extend(table);
    }
    Ok(found)
}

pub(crate) fn too_many_rows(name: &str) -> DbError {
    DbError::Unsupported {
        what: format!("the seed table {name} has more than {SEED_ROWS_MAX} rows"),
        hint: "list only tables whose rows come with the game, not with its players".to_owned(),
    }
}

/// Makes the scratch database `to` a copy of `from` without rows, but for those of `seeds`. What
/// was in it is gone.
pub fn copy_definitions(from: &Settings, to: &Settings, seeds: &[String]) -> Result<(), DbError> {
    let rows = seed_tables(from, seeds)?;
    match (from, to) {
        (Settings::Sqlite(from), Settings::Sqlite(to)) => sqlite::copy_definitions(from, to, &rows),
        (Settings::Mariadb(from), Settings::Mariadb(to)) => {
            mariadb::copy_definitions(from, to, &rows)
        }
        (Settings::Postgres(from), Settings::Postgres(to)) => {
            postgres::copy_definitions(from, to, &rows)
        }
        _ => Err(DbError::Unsupported {
            what: "the two databases are of different kinds".to_owned(),
            hint: "development and production need the same engine to be compared".to_owned(),
        }),
    }
}

/// What would make a database into another one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Proposal {
    /// The statements, in an order in which they ran.
    pub steps: Vec<Step>,
    /// What the database refused, and its words.
    pub refused: Vec<(Step, String)>,
    /// What still differs after all of them.
    pub left: Vec<Difference>,
}

/// Finds the statements that make the scratch database into `wanted`, whose seed tables are
/// `seeds`, by running them on it: what depends on what, the engine knows best. A statement that is
/// refused is tried again after the others.
pub fn propose(
    scratch: &Settings,
    wanted: &Snapshot,
    seeds: &[SeedTable],
) -> Result<Proposal, DbError> {
    let mut proposal = Proposal::default();
    let granted = grants(scratch)?;
    for _ in 0..ROUNDS_MAX {
        let steps = schema::propose(&snapshot(scratch)?, wanted);
        if !try_all(scratch, steps, &mut proposal)? {
            break;
        }
    }
    proposal.left = wanted.differences(&snapshot(scratch)?);
    // What was refused on the way does not matter where the end is right.
    if proposal.left.is_empty() {
        proposal.refused.clear();
    }
    give_grants_again(scratch, granted.as_ref(), &mut proposal)?;
    let names: Vec<String> = seeds.iter().map(|table| table.name.clone()).collect();
    let there = seed_tables(scratch, &names)?;
    let mut steps = Vec::new();
    for table in seeds {
        if let Some(found) = there.iter().find(|found| found.name == table.name) {
            steps.extend(table.propose(found));
        }
    }
    let refused = std::mem::take(&mut proposal.refused);
    try_all(scratch, steps, &mut proposal)?;
    proposal.refused.splice(0..0, refused);
    Ok(proposal)
}

fn grants(settings: &Settings) -> Result<Option<Grants>, DbError> {
    match settings {
        Settings::Postgres(settings) => Grants::read(settings).map(Some),
        // There they belong to names, and stay when an object goes.
        Settings::Sqlite(_) | Settings::Mariadb(_) => Ok(None),
    }
}

/// What was dropped and made again has the rights that were granted on it before. What cannot be
/// given back is said.
fn give_grants_again(
    scratch: &Settings,
    before: Option<&Grants>,
    proposal: &mut Proposal,
) -> Result<(), DbError> {
    let Some(before) = before else { return Ok(()) };
    let lost = |now: Option<Grants>| now.map_or_else(Vec::new, |now| before.lost(&now));
    let steps: Vec<Step> = lost(grants(scratch)?).into_iter().map(Step::of).collect();
    if steps.is_empty() {
        return Ok(());
    }
    let refused = std::mem::take(&mut proposal.refused);
    try_all(scratch, steps, proposal)?;
    proposal.refused.splice(0..0, refused);
    let said: Vec<String> = proposal.refused.iter().map(|(step, _)| step.sql.clone()).collect();
    for sql in lost(grants(scratch)?).into_iter().filter(|sql| !said.contains(sql)) {
        let why = "these rights are not there after it".to_owned();
        proposal.refused.push((Step::of(sql), why));
    }
    Ok(())
}

/// Runs what can be run, until nothing more can; whether anything could.
fn try_all(
    scratch: &Settings,
    mut steps: Vec<Step>,
    proposal: &mut Proposal,
) -> Result<bool, DbError> {
    let mut went_on = false;
    loop {
        let before = steps.len();
        let mut refused = Vec::new();
        for step in steps {
            match run(scratch, &step) {
                Ok(()) => proposal.steps.push(step),
                Err(error @ DbError::Unreachable { .. }) => return Err(error),
                Err(error) => refused.push((step, words(&error))),
            }
        }
        went_on |= refused.len() < before;
        if refused.is_empty() || refused.len() == before {
            proposal.refused = refused;
            return Ok(went_on);
        }
        steps = refused.into_iter().map(|(step, _)| step).collect();
    }
}

fn words(error: &DbError) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}

/// Runs SQL as a script of a release would run.
fn run(scratch: &Settings, step: &Step) -> Result<(), DbError> {
    let script = Script::held("proposal", step.sql.as_bytes());
    let stop = AtomicBool::new(false);
    open(scratch)?.run_scripts(&[script], &mut Nowhere, &stop, &mut |_| {}).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_table_is_known_by_its_name_and_nothing_else_is() {
        for ours in ["entracte_history", "entracte_history.audit", "entracte_history_id_seq"] {
            assert!(is_ours(ours), "{ours}");
        }
        for theirs in ["entracte_historyx", "history", "players.entracte"] {
            assert!(!is_ours(theirs), "{theirs}");
        }
    }
}
