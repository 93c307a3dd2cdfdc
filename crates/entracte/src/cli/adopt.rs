//! `entracte adopt`: what somebody changed in production by hand, as a patch for development.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use entracte_model::manifest::{Change, Entry};
use entracte_model::record::Base;
use entracte_model::{Hash, Manifest, RelPath};
use entracte_package::{Progress, scan, verify};
use entracte_release::{Store, Target};
use serde_json::json;

use super::App;
use super::draft::commit_of;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::remote;
use crate::report::out;

/// Bring what was changed in production by hand into the development tree
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte adopt                      (the changes, as a patch to read)
  entracte adopt --out hotfix.patch
  entracte adopt --apply              (into the development tree; production counts as it stands)
  entracte adopt --apply --merged lib/trade.php

Production itself is never written to. `entracte verify --heal` does the opposite: it takes the
changes back.")]
pub struct Args {
    /// Put the patch into a file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Change the development tree, and take production as it stands for what the next release
    /// builds upon
    #[arg(long)]
    apply: bool,
    /// Development has this file as it is to be already: the change was merged by hand
    #[arg(long, value_name = "PATH", requires = "apply")]
    merged: Vec<RelPath>,
}

/// What one changed path means for development.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Development has what the release had: production's takes its place.
    Take,
    /// Development has what production has.
    There,
    /// Development has something else: a person merges.
    Conflict,
}

/// What was found changed in production.
pub struct Seen {
    /// What counts as a change.
    pub changes: BTreeMap<RelPath, Change>,
    /// All that stands there.
    pub production: Manifest,
    /// Where what was changed can be read.
    pub root: PathBuf,
}

/// The changes, and what they are between.
struct Edits {
    changes: BTreeMap<RelPath, Change>,
    ways: BTreeMap<RelPath, Way>,
    production: Manifest,
    dev: PathBuf,
    root: PathBuf,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let (config, target, mut store) = app.production()?;
    let held =
        store.production()?.ok_or_else(|| Failure::refused("production is not known yet"))?;
    let base = store.manifest(&held.base.manifest)?;
    let seen = match remote::edits(app, &config, &base)? {
        Some(seen) => seen,
        None => look_at(&target, &base, &mut app.meter().of("reading"))?,
    };
    let edits = judge(&config, seen, &base)?;
    if edits.changes.is_empty() {
        let text = format!("Production is exactly {}: nothing to adopt.", held.base.version);
        app.print(text, &json!({ "changes": {}, "patch": "", "adopted": false }));
        return Ok(Exit::Done);
    }
    let patch = edits.patch()?;
    if let Some(file) = &args.out {
        fs::write(file, &patch)?;
    }
    if !args.apply {
        show(app, args, &edits, &patch);
        return Ok(Exit::Done);
    }
    let unmerged = edits.of(Way::Conflict).filter(|path| !args.merged.contains(path));
    let unmerged: Vec<String> = unmerged.map(ToString::to_string).collect();
    if !unmerged.is_empty() {
        return Err(Failure::refused(format!(
            "development changed {} too: {}",
            out::count(unmerged.len(), "of these files"),
            unmerged.join(", ")
        ))
        .hint("merge them by hand (`entracte adopt` shows both), then name them with --merged"));
    }
    super::deploy::nothing_under_way(&mut store, &target)?;
    edits.apply()?;
    if !remote::adopt(app, &config, &held.base.manifest, &edits.production.hash())? {
        take_as_it_stands(&mut store, &held.base, &edits.production)?;
    }
    let taken = edits.of(Way::Take).count();
    app.print(
        format!(
            "{} {} into {}; look at it (`git diff`) and commit it.\n  What production holds now \
             counts as {}: the next package builds upon it.",
            app.paint.good("Adopted"),
            out::count(taken, "change"),
            edits.dev.display(),
            held.base.version
        ),
        &json!({ "changes": edits.changes, "patch": patch, "adopted": true, "taken": taken }),
    );
    Ok(Exit::Done)
}

/// What differs in the production of this machine from what it is known to hold.
pub fn look_at(
    target: &Target,
    base: &Manifest,
    progress: &mut dyn FnMut(Progress),
) -> Result<Seen, Failure> {
    let (outside, cache) = (target.outside(), target.scan_cache());
    let changes = verify::tree(&target.root, base, &outside, Some(&cache), progress)?;
    let rules = scan::Rules { ignore_files: false, skip: outside, file_bytes_max: u64::MAX };
    let production = scan::tree(&target.root, &rules, Some(&cache), progress)?.manifest;
    Ok(Seen { changes, production, root: target.root.clone() })
}

/// What each change means for development.
fn judge(config: &Config, seen: Seen, base: &Manifest) -> Result<Edits, Failure> {
    let Seen { changes, production, root } = seen;
    let dev = config.source_dir();
    let mut ways = BTreeMap::new();
    for path in changes.keys() {
        let (here, there) = (entry(&dev.join(path))?, production.entries.get(path));
        let way = if here.as_ref() == there {
            Way::There
        } else if here.as_ref() == base.entries.get(path) {
            Way::Take
        } else {
            Way::Conflict
        };
        ways.insert(path.clone(), way);
    }
    Ok(Edits { changes, ways, production, dev, root })
}

/// What stands at `path`, as a manifest has it.
fn entry(path: &Path) -> Result<Option<Entry>, Failure> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(None) };
    if meta.is_dir() {
        return Ok(Some(Entry::Dir {}));
    }
    if meta.is_symlink() {
        let target = fs::read_link(path)?.to_string_lossy().into_owned();
        return Ok(Some(Entry::Link { target }));
    }
    let bytes = fs::read(path)?;
    let exec = meta.permissions().mode() & 0o100 != 0;
    Ok(Some(Entry::File { size: bytes.len() as u64, hash: Hash::of(&bytes), exec }))
}

fn show(app: &App, args: &Args, edits: &Edits, patch: &str) {
    for (path, change) in &edits.changes {
        let sign = match change {
            Change::Created => app.paint.good("+"),
            Change::Modified => app.paint.warn("~"),
            Change::Deleted => app.paint.bad("-"),
        };
        let note = match edits.ways.get(path) {
            Some(Way::There) => " (development has it already)",
            Some(Way::Conflict) => " (development changed it too)",
            Some(Way::Take) | None => "",
        };
        app.say(format!("  {sign} {path}{}", app.paint.dim(note)));
    }
    match &args.out {
        Some(file) => app.say(format!("The patch is in {}.", file.display())),
        None => app.say(format!("\n{patch}")),
    }
    app.say("`entracte adopt --apply` brings it into the development tree.");
    let conflicts: Vec<_> = edits.of(Way::Conflict).collect();
    app.document(&json!({
        "changes": edits.changes, "conflicts": conflicts, "patch": patch, "adopted": false,
    }));
}

impl Edits {
    fn of(&self, wanted: Way) -> impl Iterator<Item = &RelPath> {
        self.ways.iter().filter(move |(_, way)| **way == wanted).map(|(path, _)| path)
    }

    /// From what development has to what production has, as `git apply` takes it.
    fn patch(&self) -> Result<String, Failure> {
        let dir = tempfile::tempdir()?;
        for (side, root) in [("a", &self.dev), ("b", &self.root)] {
            fs::create_dir(dir.path().join(side))?;
            for path in self.changes.keys() {
                copy(&root.join(path), &dir.path().join(side).join(path))?;
            }
        }
        let output = Command::new("git")
            .args(["diff", "--no-index", "--no-color", "--no-ext-diff", "--no-prefix", "--binary"])
            .args(["--", "a", "b"])
            .current_dir(dir.path())
            .output()
            .map_err(|error| Failure::broken(format!("`git` could not be run: {error}")))?;
        // 1 says that there are differences.
        if !matches!(output.status.code(), Some(0 | 1)) {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Failure::broken(format!("`git diff` failed: {said}")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Brings production's things into the development tree: folders come first and go last.
    fn apply(&self) -> Result<(), Failure> {
        let taken: Vec<&RelPath> = self.of(Way::Take).collect();
        let (kept, gone): (Vec<_>, Vec<_>) =
            taken.into_iter().partition(|path| self.production.entries.contains_key(*path));
        for path in gone.into_iter().rev() {
            let place = self.dev.join(path);
            match fs::symlink_metadata(&place)?.is_dir() {
                // What development has in it besides stays.
                true => drop(fs::remove_dir(&place)),
                false => fs::remove_file(&place)?,
            }
        }
        for path in kept {
            let place = self.dev.join(path);
            if fs::symlink_metadata(&place).is_ok_and(|meta| !meta.is_dir()) {
                fs::remove_file(&place)?;
            }
            copy(&self.root.join(path), &place)?;
        }
        Ok(())
    }
}

/// Copies a file, link or folder (without what is in it); nothing where there is nothing.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let Ok(meta) = fs::symlink_metadata(from) else { return Ok(()) };
    if meta.is_dir() {
        return Ok(fs::create_dir_all(to)?);
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if meta.is_symlink() {
        return Ok(symlink(fs::read_link(from)?, to)?);
    }
    fs::copy(from, to)?;
    let mode = if meta.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

/// From now on production's manifest is what it really holds.
pub fn take_as_it_stands(store: &mut Store, base: &Base, real: &Manifest) -> Result<(), Failure> {
    let commit = store.setting(&commit_of(&base.manifest))?;
    let new = Base { version: base.version.clone(), manifest: real.hash() };
    store.adopt(&new, real)?;
    Ok(store.set_setting(&commit_of(&new.manifest), commit.as_deref())?)
}
