//! Preflight: everything that can be known beforehand, looked at while nothing is changed.

use std::collections::BTreeMap;

use entracte_gate::external::Kind;
use entracte_host::op::{Op, Reply};
use entracte_model::gate::Phase;
use entracte_model::journal::Fault;
use entracte_model::manifest::Change;
use entracte_model::plan::Source;
use entracte_model::progress::Probe;
use entracte_model::record::Standing;
use entracte_model::time::human_bytes;
use entracte_model::{Manifest, RelPath, Version};
use entracte_package::archive::Archive;
use entracte_package::{Progress, verify};
use serde_json::{Value, json};

use super::Act;
use crate::clock::now;
use crate::context::Context;
use crate::fault::{Doing, refused};
use crate::reserve::{self, RESERVE_BYTES};
use crate::scripts;

/// Files that a list of differences names before it only counts the rest.
const SHOWN_MAX: usize = 12;
/// Room that must stay free beyond what the release itself needs, in bytes.
const ROOM_SPARE_BYTES: u64 = 16 << 20;

pub(crate) struct Preflight;

impl Act for Preflight {
    fn before(&self, _: &mut Context<'_>) -> Result<Value, Fault> {
        Ok(Value::Null)
    }

    fn run(&self, cx: &mut Context<'_>, _: &Value) -> Result<Value, Fault> {
        if let Some(why) = cx.store.setting("freeze").doing("reading the store")? {
            return Err(refused(format!("releases are frozen: {why}"))
                .hint("`entracte history --unfreeze` ends the freeze"));
        }
        let archive = cx.archive()?;
        if let Some(archive) = &archive {
            package(cx, archive)?;
        }
        super::stage::is_a_link(cx)?;
        tree(cx)?;
        gate(cx)?;
        let database_bytes = database(cx, archive.as_ref())?;
        backups(cx)?;
        room(cx, archive.as_ref(), database_bytes)?;
        Ok(json!({ "database_bytes": database_bytes }))
    }

    fn probe(&self, _: &mut Context<'_>, _: &Value) -> Probe {
        Probe::NotDone
    }
}

/// The signature is good by now; this asks whether the package belongs here, and is whole.
fn package(cx: &mut Context<'_>, archive: &Archive) -> Result<(), Fault> {
    let production = cx.store.production().doing("reading the store")?;
    let standing = Standing {
        project: cx.target.project.clone(),
        environment: cx.target.environment.clone(),
        current: production.as_ref().map(|production| production.base.clone()),
        sequence: production.map_or(0, |production| production.sequence),
        tool: tool_version(),
        now: now(),
    };
    archive.record().judge(&standing).map_err(|refusal| refused(refusal.to_string()))?;
    let record = archive.record();
    for path in record.delta.put.keys().chain(&record.delta.delete) {
        let outside = cx.target.outside();
        if let Some(folder) = outside.iter().find(|folder| path.is_within(folder)) {
            return Err(refused(format!(
                "the package writes {path}, but {folder} belongs to production"
            ))
            .hint("take it out of the development tree, or out of `persist` and `volatile`"));
        }
    }
    let archive = cx.archive()?.ok_or_else(|| refused("the plan has no package"))?;
    archive
        .verify_all(&mut |p| cx.progress(p.done, p.total, p.unit, &p.note))
        .doing("verifying the package")?;
    cx.info(format!(
        "package {} of {}: signature good, {} files, {}",
        record.version,
        record.project,
        record.files,
        human_bytes(record.bytes)
    ));
    Ok(())
}

/// The live tree must be the base version, file by file.
fn tree(cx: &mut Context<'_>) -> Result<(), Fault> {
    let Some(from) = cx.plan.from.clone() else { return first_installation(cx) };
    let expected = cx.store.manifest(&from.manifest).doing("reading the store")?;
    let outside = cx.target.outside();
    let (root, cache) = (cx.target.root.clone(), cx.target.scan_cache());
    let mut reading =
        |p: Progress| cx.progress(p.done, p.total, p.unit, "reading the production tree");
    let changes = verify::tree(&root, &expected, &outside, Some(&cache), &mut reading)
        .doing("reading the production tree")?;
    if changes.is_empty() {
        cx.info(format!("production is {} to the byte ({} files)", from.version, expected.files()));
        return Ok(());
    }
    Err(refused(format!(
        "production is not {} any more, {} paths were changed by hand: {}",
        from.version,
        changes.len(),
        list(&changes)
    ))
    .hint(
        "take the edits into the development tree, or put the files back \
         (`entracte verify` shows them); nothing was changed",
    ))
}

fn first_installation(cx: &Context<'_>) -> Result<(), Fault> {
    let root = &cx.target.root;
    let there =
        std::fs::read_dir(root).map(|mut entries| entries.next().is_some()).unwrap_or(false);
    if there {
        return Err(refused(format!("{} holds files that Entracte does not know", root.display()))
            .hint("`entracte init --production-version 1.0` takes production as it stands"));
    }
    Ok(())
}

/// Paths with how they differ, the first few by name.
pub(crate) fn list(changes: &BTreeMap<RelPath, Change>) -> String {
    let mut names: Vec<String> = changes
        .iter()
        .take(SHOWN_MAX)
        .map(|(path, change)| {
            let sign = match change {
                Change::Created => '+',
                Change::Modified => '~',
                Change::Deleted => '-',
            };
            format!("{sign}{path}")
        })
        .collect();
    if changes.len() > SHOWN_MAX {
        names.push(format!("and {} more", changes.len() - SHOWN_MAX));
    }
    names.join(" ")
}

fn gate(cx: &mut Context<'_>) -> Result<(), Fault> {
    let kind = crate::front::kind(cx.target);
    let status = cx.gate().status().map_err(|error| {
        let why = crate::fault::chain(&error);
        if kind != Kind::Entracte {
            return refused(why).hint("`entracte doctor` looks at it");
        }
        let socket = cx.target.gate_socket.display();
        refused(format!("the gate does not answer at {socket}: {why}"))
            .hint("start it with `entracte up` (or `systemctl start entracte-gate`)")
    })?;
    if let Some(settings) = &cx.target.front {
        // Found out now, it costs nobody anything.
        let included = crate::front::server(settings).included();
        included.map_err(|error| {
            refused(crate::fault::chain(&error))
                .hint("`entracte doctor` asks again once its configuration is mended")
        })?;
        for text in kind.capabilities().shortcomings() {
            cx.info(format!("{kind}: {text}"));
        }
    }
    match status.phase {
        Phase::Open | Phase::Announced => {}
        phase => {
            return Err(refused(format!("the gate is {phase}, not open"))
                .hint("`entracte gate status` says why; `entracte gate open` opens it"));
        }
    }
    if !status.upstream_ok {
        return Err(refused("the game does not answer behind the gate")
            .hint("a release cannot tell a broken new version from a game that was down before"));
    }
    Ok(())
}

/// Reachable, and without a script that ended in the middle. Returns its size in bytes.
fn database(cx: &mut Context<'_>, archive: Option<&Archive>) -> Result<u64, Fault> {
    let Some(mut database) = cx.database()? else {
        if archive.is_some_and(|archive| !archive.record().scripts.is_empty()) {
            return Err(refused("the package has SQL scripts, but the target has no database")
                .hint("add [target.database] to entracte.toml"));
        }
        return Ok(0);
    };
    let facts = database.facts().doing("looking at the database")?;
    cx.info(format!(
        "{}: {} tables, {}",
        facts.engine,
        facts.tables.len(),
        human_bytes(facts.bytes)
    ));
    for note in &facts.notes {
        cx.info(note.clone());
    }
    crate::ways::check(cx, &mut *database)?;
    if let Some(archive) = archive {
        scripts::check_all(cx, archive, &mut *database)?;
    }
    Ok(facts.bytes)
}

fn backups(cx: &mut Context<'_>) -> Result<(), Fault> {
    let repository = super::backup::open(cx)?;
    cx.repository = Some(repository);
    Ok(())
}

/// Room for everything to come, on each file system that will need it.
fn room(cx: &mut Context<'_>, archive: Option<&Archive>, database_bytes: u64) -> Result<(), Fault> {
    let tree = match (archive, &cx.plan.source) {
        (Some(archive), _) => archive.record().bytes,
        (None, Source::Kept { .. } | Source::Package { .. }) => 0,
    };
    let mut needs = vec![
        (cx.target.beside().parent().unwrap_or(&cx.target.root).to_owned(), tree),
        // The rollback point, the journal, and what is kept free for the way back.
        (cx.target.state.clone(), database_bytes + RESERVE_BYTES),
        // Deduplicated, but the first backup is not: count it whole.
        (cx.target.backup.repository.clone(), tree + database_bytes),
    ];
    for (path, _) in &mut needs {
        while !path.exists() && path.pop() {}
    }
    let op = Op::Facts { paths: needs.iter().map(|(path, _)| path.clone()).collect() };
    let Reply::Facts { facts } = cx.host.call(&op, &mut |_| {}).doing("asking for free space")?
    else {
        return Err(refused("the host answered something else than its facts"));
    };
    let mut by_device: BTreeMap<u64, (u64, u64, String)> = BTreeMap::new();
    for ((path, need), free) in needs.iter().zip(&facts.paths) {
        let device = by_device
            .entry(free.device)
            .or_insert_with(|| (0, free.free_bytes, path.display().to_string()));
        device.0 += need;
    }
    for (need, free, path) in by_device.values() {
        let need = need + ROOM_SPARE_BYTES;
        if need > *free {
            return Err(refused(format!(
                "the file system of {path} has {} free, the release needs {}",
                human_bytes(*free),
                human_bytes(need)
            ))
            .hint("make room, or lower `keep` and the backup retention"));
        }
    }
    reserve::keep(&cx.target.state).doing(&format!(
        "keeping {} free in {} for the way back",
        human_bytes(RESERVE_BYTES),
        cx.target.state.display()
    ))
}

/// The version of this program.
pub(crate) fn tool_version() -> Version {
    env!("CARGO_PKG_VERSION").parse().expect("cargo only takes a version for a version")
}

/// The manifest of the new tree, rebuilt from the base and the signed delta, and checked.
pub(crate) fn new_manifest(cx: &Context<'_>, archive: &Archive) -> Result<Manifest, Fault> {
    let record = archive.record();
    let base = match &record.base {
        Some(base) => cx.store.manifest(&base.manifest).doing("reading the store")?,
        None => Manifest::default(),
    };
    manifest_of(archive, &base)
}

/// The tree that the package makes of `base`, which is the one that was signed.
pub(crate) fn manifest_of(archive: &Archive, base: &Manifest) -> Result<Manifest, Fault> {
    let record = archive.record();
    let new = base.apply(&record.delta).map_err(|error| refused(error.to_string()))?;
    if new.hash() != record.manifest {
        return Err(refused("the signed change does not lead to the signed tree"));
    }
    Ok(new)
}
