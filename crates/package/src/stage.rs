//! The new tree beside the live one: complete, verified and durable before anybody uses it.

pub(crate) mod copying;
mod marker;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use entracte_model::manifest::Entry;
use entracte_model::{Manifest, RelPath};

use crate::archive::{Archive, Flow, Item};
use crate::beneath::Root;
use crate::error::At;
use crate::files::sync_dir;
use crate::scan::{self, Rules};
use crate::{PackageError, Progress};

pub use marker::{mark, remove};

/// What is to be staged.
#[derive(Debug)]
pub struct Request<'a> {
    /// The tree in use. It is only read.
    pub live: &'a Path,
    /// Where the new tree is made: on the same file system, beside the live one.
    pub staged: &'a Path,
    /// What the live tree holds.
    pub base: &'a Manifest,
    /// What the new one is to hold; must be the base with the archive's delta.
    pub new: &'a Manifest,
    /// Where new and changed files come from.
    pub archive: &'a Archive,
    /// Paths that belong to no version: each becomes a link to its place in `persist_from`.
    pub persist: &'a [RelPath],
    /// The folder in which they live, outside every version (see [`crate::persist`]).
    pub persist_from: &'a Path,
    /// Whether unchanged files may be hard links: only where the game cannot write into them.
    pub hardlink: bool,
}

/// How the files of a staged tree came there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Staged {
    /// Unchanged files that share their inode with the live tree.
    pub linked: u64,
    /// Unchanged files that share their blocks with the live tree.
    pub reflinked: u64,
    /// Unchanged files that were copied.
    pub copied: u64,
    /// Files from the archive, new inodes all.
    pub written: u64,
    /// Persistent paths that are not in `persist_from` (yet): their links lead nowhere.
    pub missing: Vec<RelPath>,
}

/// Why a tree cannot be staged, or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StageFault {
    /// Something is where the staged tree is to be, and this program did not put it there.
    #[error("{} is not a staged tree of this program; move it away or stage elsewhere", .0.display())]
    Foreign(PathBuf),
    /// A file system is mounted below.
    #[error("{} is mounted below the tree that is to be removed; unmount it first", .0.display())]
    Mounted(PathBuf),
    /// Trees within each other.
    #[error("{} lies within {}; they must lie beside each other", inner.display(), outer.display())]
    Nested {
        /// The inner one.
        inner: PathBuf,
        /// The outer one.
        outer: PathBuf,
    },
    /// The manifest is not what base and archive give.
    #[error("the manifest to stage is not the base with the archive's changes")]
    OtherManifest,
    /// The package touches what belongs to no version.
    #[error(
        "the package holds {path}, but {persist} is a persistent path; leave it out of the package or out of `persist`"
    )]
    Persistent {
        /// What the package holds.
        path: RelPath,
        /// The persistent path.
        persist: RelPath,
    },
    /// The live tree is not the base.
    #[error("{0} in the live tree is not what the base version holds; see `entracte verify`")]
    LiveChanged(RelPath),
}

/// Builds the staged tree. What an interrupted run left there is removed first; what somebody else
/// put there is not.
///
/// Everything is synced before `Ok`. A crash, a stop or an error can cost a partial tree at
/// `staged`, with a marker beside it by which [`remove`] and the next `build` know it.
pub fn build(
    request: &Request<'_>,
    progress: &mut dyn FnMut(Progress),
    stop: &AtomicBool,
) -> Result<Staged, PackageError> {
    check(request)?;
    marker::prepare(request.staged)?;
    let live = match request.base.entries.is_empty() && !request.live.exists() {
        true => None,
        false => Some(Root::open(request.live)?),
    };
    let staged = Root::open(request.staged)?;
    let mut builder = Builder {
        request,
        live: live.as_ref(),
        staged: &staged,
        likeness: copying::Likeness::of(request.live)?,
        reflink: true,
        done: 0,
        total: request.new.bytes(),
        counts: Staged::default(),
    };
    builder.folders()?;
    builder.unchanged(progress, stop)?;
    builder.changed(progress, stop)?;
    builder.persistent()?;
    builder.finish_folders()?;
    let counts = builder.counts;
    // One call for the whole file system, instead of one for each of thousands of files.
    rustix::fs::syncfs(staged.handle()).at("sync the file system of", request.staged)?;
    if let Some(parent) = request.staged.parent() {
        sync_dir(parent)?;
    }
    Ok(counts)
}

/// Whether `staged` holds exactly the new tree; paths in `skip` (the persistent ones) do not count.
pub fn probe(staged: &Path, new: &Manifest, skip: &[RelPath]) -> Result<bool, PackageError> {
    if staged.symlink_metadata().is_err() {
        return Ok(false);
    }
    let rules = Rules { ignore_files: false, skip: skip.to_vec(), file_bytes_max: u64::MAX };
    match scan::tree(staged, &rules, None, &mut |_| {}) {
        Ok(scan) => Ok(scan.manifest == *new),
        Err(PackageError::Refused(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn check(request: &Request<'_>) -> Result<(), PackageError> {
    if request.archive.new_manifest(request.base)? != *request.new {
        return Err(StageFault::OtherManifest.into());
    }
    for (inner, outer) in [
        (request.staged, request.live),
        (request.live, request.staged),
        (request.persist_from, request.live),
        (request.persist_from, request.staged),
    ] {
        let (inner, outer) = (marker::absolute(inner)?, marker::absolute(outer)?);
        if inner.starts_with(&outer) {
            return Err(StageFault::Nested { inner, outer }.into());
        }
    }
    for persist in request.persist {
        for (path, entry) in &request.new.entries {
            let in_the_way = persist.is_within(path) && *entry != Entry::Dir {};
            if path.is_within(persist) || in_the_way {
                let (path, persist) = (path.clone(), persist.clone());
                return Err(StageFault::Persistent { path, persist }.into());
            }
        }
    }
    Ok(())
}

struct Builder<'a> {
    request: &'a Request<'a>,
    live: Option<&'a Root>,
    staged: &'a Root,
    likeness: copying::Likeness,
    /// Until the file system says that it cannot.
    reflink: bool,
    /// Bytes so far, and in all.
    done: u64,
    total: u64,
    counts: Staged,
}

impl Builder<'_> {
    /// Makes all folders, for their owner only until they are filled.
    fn folders(&self) -> Result<(), PackageError> {
        for (path, entry) in &self.request.new.entries {
            if *entry == (Entry::Dir {}) {
                self.staged.mkdir_above(path)?;
                self.staged.mkdir(path, 0o700)?;
            }
        }
        Ok(())
    }

    /// Brings over what stays as it is.
    fn unchanged(
        &mut self,
        progress: &mut dyn FnMut(Progress),
        stop: &AtomicBool,
    ) -> Result<(), PackageError> {
        let Some(live) = self.live else { return Ok(()) };
        let put = &self.request.archive.record().delta.put;
        for (path, entry) in &self.request.new.entries {
            if put.contains_key(path) {
                continue;
            }
            go_on(stop)?;
            let same = match entry {
                Entry::Dir {} => true,
                Entry::File { size, hash, exec } => {
                    self.staged.mkdir_above(path)?;
                    self.bring(live, path, *exec)? == Some((*size, *hash))
                }
                Entry::Link { target } => {
                    self.staged.mkdir_above(path)?;
                    self.staged.symlink(path, Path::new(target))?;
                    self.likeness.link(self.staged, path)?;
                    copying::is_link_to(live, path, target)?
                }
            };
            if !same {
                return Err(StageFault::LiveChanged(path.clone()).into());
            }
            self.report(path, entry, progress);
        }
        Ok(())
    }

    /// Links, clones or copies one file; gives the size and hash of what is staged now. `None`
    /// where the live tree holds no such file.
    fn bring(
        &mut self,
        live: &Root,
        path: &RelPath,
        exec: bool,
    ) -> Result<Option<(u64, entracte_model::Hash)>, PackageError> {
        if !copying::is_file(live, path)? {
            return Ok(None);
        }
        if self.request.hardlink && copying::hard_link(self.staged, live, path)? {
            self.counts.linked += 1;
            return copying::hash_of(self.staged, path).map(Some);
        }
        let (content, cloned) =
            copying::copy(self.staged, live, path, &mut self.reflink, |file, meta| {
                self.likeness.same_as(file, meta, exec)
            })?;
        if cloned {
            self.counts.reflinked += 1;
        } else {
            self.counts.copied += 1;
        }
        Ok(Some(content))
    }

    /// Writes what the archive brings.
    fn changed(
        &mut self,
        progress: &mut dyn FnMut(Progress),
        stop: &AtomicBool,
    ) -> Result<(), PackageError> {
        let archive = self.request.archive;
        let made_ms = archive.record().created;
        archive.walk(&mut |item, reader| {
            let Item::Source(path, entry) = item else { return Ok(Flow::Next) };
            go_on(stop)?;
            match entry {
                Entry::Dir {} => {}
                Entry::Link { target } => {
                    self.staged.mkdir_above(path)?;
                    self.staged.symlink(path, Path::new(target))?;
                    self.likeness.link(self.staged, path)?;
                }
                Entry::File { exec, .. } => {
                    self.staged.mkdir_above(path)?;
                    let file = crate::archive::write_new(self.staged, path, entry, reader)?;
                    let full = self.staged.full(path);
                    let old = self.live.map(|live| live.stat(path)).transpose()?.flatten();
                    self.likeness.new_file(&file, old.as_ref(), *exec, made_ms, &full)?;
                    self.counts.written += 1;
                }
            }
            self.report(path, entry, progress);
            Ok(Flow::Next)
        })
    }

    /// Links each persistent path to its place.
    fn persistent(&mut self) -> Result<(), PackageError> {
        let from = marker::absolute(self.request.persist_from)?;
        for path in self.request.persist {
            let place = from.join(path);
            if place.symlink_metadata().is_err() {
                self.counts.missing.push(path.clone());
            }
            self.staged.mkdir_above(path)?;
            self.staged.symlink(path, &place)?;
            self.likeness.link(self.staged, path)?;
        }
        Ok(())
    }

    /// Gives the folders their owners and modes, the innermost first: they may forbid writing.
    fn finish_folders(&self) -> Result<(), PackageError> {
        for (path, entry) in self.request.new.entries.iter().rev() {
            if *entry == (Entry::Dir {}) {
                let old = self.live.map(|live| live.stat(path)).transpose()?.flatten();
                self.likeness.folder(self.staged, path, old.as_ref())?;
            }
        }
        self.staged.forget();
        self.likeness.root(self.request.staged)
    }

    fn report(&mut self, path: &RelPath, entry: &Entry, progress: &mut dyn FnMut(Progress)) {
        self.done += entry.size();
        let (done, total) = (self.done, self.total);
        progress(Progress { done, total, unit: "bytes", note: format!("staging {path}") });
    }
}

fn go_on(stop: &AtomicBool) -> Result<(), PackageError> {
    if stop.load(Ordering::Relaxed) { Err(PackageError::Stopped) } else { Ok(()) }
}

/// The identity of a folder that outlives its renaming.
fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}
