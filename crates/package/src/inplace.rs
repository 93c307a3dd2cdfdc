//! A switch file by file, for places where a folder can neither be exchanged nor be a link: the live
//! tree is a mount of its own, for one. With a durable list of what to undo, so that a crash
//! anywhere ends in the old tree or in the new one.
//!
//! As with an exchange, the staged tree and the live one have changed their contents afterwards:
//! what was staged holds the old version, and the same switch leads back.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use entracte_model::manifest::{Delta, Entry};
use entracte_model::{Hash, Manifest, RelPath};
use rustix::fs::FileType;

use crate::PackageError;
use crate::archive::record::OWN_PREFIX;
use crate::beneath::Root;
use crate::error::At;
use crate::files::{beside, hash_into, write_whole};
use crate::stage::StageFault;
use crate::stage::copying::Likeness;

/// Asked before each effect: an error stops the switch there.
pub type Tick<'a> = dyn Fn() -> Result<(), PackageError> + 'a;

/// A switch from one version to another.
pub struct Swap<'a> {
    /// The live tree.
    pub root: &'a Path,
    /// Before the switch it holds the new version, afterwards the old one.
    pub slot: &'a Path,
    /// What the live tree holds before.
    pub old: &'a Manifest,
    /// What it is to hold.
    pub new: &'a Manifest,
}

/// What the live tree holds of the files that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// The old version.
    Old,
    /// The new version.
    New,
    /// Some of both, or something else.
    Neither,
}

/// How far a switch has come, as its durable note says.
enum Phase {
    /// Nothing is noted: not begun, or done.
    None,
    /// The old files are kept; the live tree is some of both.
    Kept,
    /// The live tree is new; the slot is some of both.
    Applied,
    /// Another switch is under way: the way back.
    Other,
}

impl Swap<'_> {
    /// Switches. Takes up what an earlier call began, and finds nothing to do after a whole one.
    ///
    /// The old files are copied beside the slot first, durably; then each file is written under
    /// another name, synced, and renamed over the live one. A crash can cost a left-over whose
    /// name begins with `.entracte-`, which the next call replaces.
    pub fn forward(&self, tick: &Tick<'_>) -> Result<(), PackageError> {
        match self.phase()? {
            Phase::Other => {
                self.reverse().forward(tick)?;
                return self.forward(tick);
            }
            Phase::None => match self.holds()? {
                Holds::New => return self.clean(),
                Holds::Old => self.keep_old(tick)?,
                Holds::Neither => return Err(self.changed()?),
            },
            Phase::Kept | Phase::Applied => {}
        }
        if !matches!(self.phase()?, Phase::Applied) {
            bring(self.slot, self.root, &self.delta(), tick)?;
            tick()?;
            self.note("applied")?;
        }
        bring(&self.kept(), self.slot, &self.new.delta_to(self.old), tick)?;
        tick()?;
        self.clean()
    }

    /// Takes the switch back, from wherever it stands. Repeated, it goes on.
    pub fn back(&self, tick: &Tick<'_>) -> Result<(), PackageError> {
        match self.phase()? {
            Phase::Other => self.reverse().forward(tick),
            Phase::Kept => {
                bring(&self.kept(), self.root, &self.new.delta_to(self.old), tick)?;
                tick()?;
                self.clean()
            }
            Phase::Applied => {
                self.forward(tick)?;
                self.reverse().forward(tick)
            }
            Phase::None => match self.holds()? {
                Holds::Old => self.clean(),
                Holds::New => self.reverse().forward(tick),
                Holds::Neither => Err(self.changed()?),
            },
        }
    }

    /// What the live tree holds now.
    pub fn holds(&self) -> Result<Holds, PackageError> {
        let root = Root::open(self.root)?;
        let (mut old, mut new) = (true, true);
        for path in self.paths() {
            let found = entry(&root, path)?;
            old &= found.as_ref() == self.old.entries.get(path);
            new &= found.as_ref() == self.new.entries.get(path);
        }
        Ok(match (old, new) {
            (true, _) => Holds::Old,
            (false, true) => Holds::New,
            (false, false) => Holds::Neither,
        })
    }

    fn reverse(&self) -> Swap<'_> {
        Swap { root: self.root, slot: self.slot, old: self.new, new: self.old }
    }

    fn delta(&self) -> Delta {
        self.old.delta_to(self.new)
    }

    fn paths(&self) -> Vec<&RelPath> {
        let differs = |path: &&RelPath| self.old.entries.get(*path) != self.new.entries.get(*path);
        let only_old = self.old.entries.keys().filter(|path| !self.new.entries.contains_key(*path));
        self.new.entries.keys().chain(only_old).filter(differs).collect()
    }

    /// The first path that is of neither version.
    fn changed(&self) -> Result<PackageError, PackageError> {
        let root = Root::open(self.root)?;
        for path in self.paths() {
            let found = entry(&root, path)?;
            if found.as_ref() != self.old.entries.get(path) {
                return Ok(StageFault::LiveChanged(path.clone()).into());
            }
        }
        Ok(StageFault::OtherManifest.into())
    }

    fn work(&self) -> PathBuf {
        beside(self.slot, ".switching")
    }

    fn kept(&self) -> PathBuf {
        self.work().join("old")
    }

    fn note_path(&self) -> PathBuf {
        self.work().join("note")
    }

    /// The note names both trees: one of another switch is never taken for this one's.
    fn note(&self, phase: &str) -> Result<(), PackageError> {
        let text = format!("{phase} {} {}\n", self.old.hash(), self.new.hash());
        write_whole(&self.note_path(), text.as_bytes())
    }

    fn phase(&self) -> Result<Phase, PackageError> {
        let path = self.note_path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Phase::None),
            Err(error) => return Err(error).at("read", &path),
        };
        let is = |phase: &str, old: &Manifest, new: &Manifest| {
            text == format!("{phase} {} {}\n", old.hash(), new.hash())
        };
        Ok(if is("kept", self.old, self.new) {
            Phase::Kept
        } else if is("applied", self.old, self.new) {
            Phase::Applied
        } else if is("kept", self.new, self.old) || is("applied", self.new, self.old) {
            Phase::Other
        } else {
            return Err(StageFault::Foreign(self.work()).into());
        })
    }

    /// Copies what will be replaced or removed. The note is written when all of it is durable.
    fn keep_old(&self, tick: &Tick<'_>) -> Result<(), PackageError> {
        tick()?;
        self.clean()?;
        let (work, kept) = (self.work(), self.kept());
        fs::create_dir(&work).at("create the folder", &work)?;
        fs::create_dir(&kept).at("create the folder", &kept)?;
        let differing = Manifest {
            entries: self
                .paths()
                .into_iter()
                .filter_map(|path| Some((path.clone(), self.old.entries.get(path)?.clone())))
                .collect(),
        };
        let all = Manifest::default().delta_to(&differing);
        bring(self.root, &kept, &all, tick)?;
        tick()?;
        self.note("kept")
    }

    /// Removes the note first: without it, the rest is a left-over.
    fn clean(&self) -> Result<(), PackageError> {
        for path in [self.note_path(), self.work()] {
            let removed = match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path).and_then(|()| {
                    fs::File::open(self.work()).and_then(|folder| folder.sync_all())
                }),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            };
            removed.at("remove", &path)?;
        }
        Ok(())
    }
}

/// Brings what `delta` puts from `from` to `to`, and removes there what it deletes. Repeated, it
/// gives the same. All of it is synced at its end.
fn bring(from: &Path, to: &Path, delta: &Delta, tick: &Tick<'_>) -> Result<(), PackageError> {
    let (source, target) = (Root::open(from)?, Root::open(to)?);
    let likeness = Likeness::of(from)?;
    for path in delta.delete.iter().rev() {
        tick()?;
        clear(&target, path)?;
    }
    for (path, entry) in &delta.put {
        tick()?;
        match entry {
            Entry::Dir {} => folder(&source, &target, &likeness, path)?,
            Entry::Link { target: text } => {
                make_room(&target, path)?;
                let part = part_of(path);
                clear(&target, &part)?;
                target.symlink(&part, Path::new(text))?;
                likeness.link(&target, &part)?;
                target.rename(&part, path)?;
            }
            Entry::File { size, hash, exec } => {
                file(&source, &target, &likeness, path, (*size, *hash), *exec)?;
            }
        }
    }
    rustix::fs::syncfs(target.handle()).at("sync the file system of", to)
}

fn folder(
    source: &Root,
    target: &Root,
    likeness: &Likeness,
    path: &RelPath,
) -> Result<(), PackageError> {
    if kind(target, path)? != Some(FileType::Directory) {
        clear(target, path)?;
        target.mkdir_above(path)?;
        target.mkdir(path, 0o755)?;
        likeness.folder(target, path, source.stat(path)?.as_ref())?;
    }
    Ok(())
}

fn file(
    source: &Root,
    target: &Root,
    likeness: &Likeness,
    path: &RelPath,
    right: (u64, Hash),
    exec: bool,
) -> Result<(), PackageError> {
    let mut from = source.read(path)?;
    let meta = from.metadata().at("look at", &source.full(path))?;
    make_room(target, path)?;
    let part = part_of(path);
    clear(target, &part)?;
    let (mut to, full) = (target.create(&part)?, target.full(&part));
    let copied = hash_into(
        &mut from,
        |chunk| std::io::Write::write_all(&mut to, chunk).at("write", &full),
        &source.full(path),
    )?;
    if copied != right {
        clear(target, &part)?;
        return Err(StageFault::LiveChanged(path.clone()).into());
    }
    likeness.same_as(&to, &meta, exec).at("set owner, mode and times of", &full)?;
    to.sync_all().at("sync", &full)?;
    target.rename(&part, path)
}

/// Lets a file or link be renamed to `path`: the folders above are there, and no folder is at it.
fn make_room(target: &Root, path: &RelPath) -> Result<(), PackageError> {
    target.mkdir_above(path)?;
    match kind(target, path)? {
        Some(FileType::Directory) => clear(target, path),
        Some(_) | None => Ok(()),
    }
}

/// Removes what is at `path`. A folder that holds what belongs to no version stays.
fn clear(root: &Root, path: &RelPath) -> Result<(), PackageError> {
    match kind(root, path)? {
        None => Ok(()),
        Some(FileType::Directory) => root.rmdir(path),
        Some(_) => root.unlink(path),
    }
}

fn kind(root: &Root, path: &RelPath) -> Result<Option<FileType>, PackageError> {
    Ok(root.stat(path)?.map(|stat| FileType::from_raw_mode(stat.st_mode)))
}

/// What is at `path`, as a manifest has it.
fn entry(root: &Root, path: &RelPath) -> Result<Option<Entry>, PackageError> {
    Ok(match kind(root, path)? {
        None => None,
        Some(FileType::Directory) => Some(Entry::Dir {}),
        Some(FileType::Symlink) => {
            let target = root.read_link(path)?.to_string_lossy().into_owned();
            Some(Entry::Link { target })
        }
        Some(_) => {
            let mut file = root.read(path)?;
            let exec = file.metadata().at("look at", &root.full(path))?.mode() & 0o100 != 0;
            let (size, hash) = hash_into(&mut file, |_| Ok(()), &root.full(path))?;
            Some(Entry::File { size, hash, exec })
        }
    })
}

fn part_of(path: &RelPath) -> RelPath {
    let name = format!("{OWN_PREFIX}switch");
    let text = path.parent().map_or_else(|| name.clone(), |parent| format!("{parent}/{name}"));
    text.parse().expect("a short plain name beside a good path is a good path")
}

#[cfg(test)]
mod tests;
