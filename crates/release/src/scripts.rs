//! Which scripts of a package still have to run, and where they lie meanwhile.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use entracte_db::script::{QuoteMode, check};
use entracte_db::{Database, Engine, Script, ScriptHashes};
use entracte_model::journal::{Fault, Level};
use entracte_model::plan::ReleaseId;
use entracte_package::archive::Archive;

use crate::context::Context;
use crate::fault::{Doing, broken, refused};
use crate::store::Applied;
use crate::target::Target;

/// A script that production has not had.
pub(crate) struct Pending {
    pub(crate) script: Script,
    pub(crate) hashes: ScriptHashes,
}

/// The folder into which the scripts of releases are unpacked: they are read from there, so that
/// one of any length needs no memory.
fn folder(target: &Target) -> PathBuf {
    target.state.join("scripts")
}

/// Looks, while the game is still open, at what [`to_run`] will give: a script that cannot be read
/// as statements ends the release before anybody noticed it.
pub(crate) fn check_all(
    cx: &mut Context<'_>,
    archive: &Archive,
    database: &mut dyn Database,
) -> Result<(), Fault> {
    let pending = to_run(cx, archive)?;
    let Some(engine) = cx.target.database.as_ref().map(entracte_db::Settings::engine) else {
        return Ok(());
    };
    let scripts: Vec<Script> = pending.into_iter().map(|pending| pending.script).collect();
    let mode = quote_mode(engine, database)?;
    check(engine, mode, &scripts).map_err(|error| {
        broken("a script cannot be run", &error)
            .hint("production was not touched; mend the script and pack again")
    })?;
    Ok(())
}

/// How the server reads quotes in what it is sent.
pub(crate) fn quote_mode(engine: Engine, database: &mut dyn Database) -> Result<QuoteMode, Fault> {
    if engine != Engine::Mariadb {
        return Ok(QuoteMode::default());
    }
    let answer =
        database.query("SELECT @@GLOBAL.sql_mode").doing("reading the server's sql_mode")?;
    let mode = answer.into_iter().flatten().next().flatten().unwrap_or_default();
    Ok(QuoteMode::of(&mode))
}

/// The scripts of a package that production has not had, in order.
///
/// A script runs once. The same name with the same content is passed over and said; the same name
/// with another content is refused: somebody rewrote what production already ran.
pub(crate) fn to_run(cx: &mut Context<'_>, archive: &Archive) -> Result<Vec<Pending>, Fault> {
    let mut pending = Vec::new();
    for found in unpacked(cx.target, cx.plan.id, archive)? {
        let name = found.script.name.clone();
        match cx.store.script(&name).doing("reading the store")? {
            None => pending.push(found),
            Some(applied) => passed_over(cx, &name, &applied, &found.hashes)?,
        }
    }
    Ok(pending)
}

fn passed_over(
    cx: &mut Context<'_>,
    name: &str,
    applied: &Applied,
    found: &ScriptHashes,
) -> Result<(), Fault> {
    let ran = applied.when();
    if applied.hash != found.normalised {
        return Err(refused(format!(
            "{name} {ran} with another content (then {}, now {}); a script that ran is never \
             changed",
            applied.hash, found.normalised
        ))
        .hint("put the change into a new script with a higher number"));
    }
    if applied.raw_hash != found.raw {
        cx.say(
            Level::Warning,
            format!(
                "{name} differs from what it was when it {ran} by line ends or a BOM only \
                 (then {}, now {})",
                applied.raw_hash, found.raw
            ),
        );
    }
    cx.info(format!("{name} {ran} already and is passed over"));
    Ok(())
}

/// The scripts as files that are what was signed: those of an earlier look where it left them.
///
/// Nothing is synced: what a crash costs is unpacked again, for every look compares the hashes.
fn unpacked(target: &Target, id: ReleaseId, archive: &Archive) -> Result<Vec<Pending>, Fault> {
    if archive.record().scripts.is_empty() {
        return Ok(Vec::new());
    }
    let dir = folder(target).join(id.to_string());
    if let Some(found) = as_signed(target, &dir, archive) {
        return Ok(found);
    }
    // Also what releases left that did not come to their end.
    remove(target)?;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&dir).doing("making the folder of the scripts")?;
    archive.unpack_scripts(&dir).doing("unpacking the scripts")?;
    as_signed(target, &dir, archive)
        .ok_or_else(|| refused(format!("somebody writes into {}", dir.display())))
}

/// All scripts in `dir`, where each of them is what the record says.
fn as_signed(target: &Target, dir: &Path, archive: &Archive) -> Option<Vec<Pending>> {
    let each = archive.record().scripts.iter().map(|named| {
        let script = Script::file(named.name.as_str(), dir.join(named.name.as_str()));
        let hashes = script.hashes().ok()?;
        let script = script.with(&target.placeholders);
        (hashes.raw == named.hash).then_some(Pending { script, hashes })
    });
    each.collect()
}

/// Removes the unpacked scripts. Idempotent.
pub(crate) fn remove(target: &Target) -> Result<(), Fault> {
    match fs::remove_dir_all(folder(target)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).doing("removing unpacked scripts")
        }
        _ => Ok(()),
    }
}
