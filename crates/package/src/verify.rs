//! A tree against its manifest, and its repair from packages.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::UNIX_EPOCH;

use entracte_model::manifest::{Change, Entry};
use entracte_model::{Hash, Manifest, RelPath, UnixMs};
use rustix::fs::FileType;

use crate::archive::{Archive, BadArchive, Flow, Item};
use crate::beneath::Root;
use crate::error::At;
use crate::scan::{self, Rules};
use crate::stage::copying::Likeness;
use crate::{PackageError, Progress, archive};

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Healed {
    /// Files, folders and links that are right again.
    pub repaired: Vec<RelPath>,
    /// What is still wrong: extra things (never removed), what no archive holds, and what another
    /// kind of thing stands in the way of.
    pub left: BTreeMap<RelPath, Change>,
}

/// How the tree at `root` differs from what is expected. Paths in `skip` do not count.
pub fn tree(
    root: &Path,
    expected: &Manifest,
    skip: &[RelPath],
    cache: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<BTreeMap<RelPath, Change>, PackageError> {
    let rules = Rules { ignore_files: false, skip: skip.to_vec(), file_bytes_max: u64::MAX };
    let real = scan::tree(root, &rules, cache, progress)?.manifest;
    let mut changes = expected.changes_to(&real);
    changes.retain(|path, change| {
        let skipped = skip.iter().any(|skip| path.is_within(skip));
        // A folder that is there for a persistent path's sake.
        let around = *change == Change::Created
            && real.entries.get(path) == Some(&Entry::Dir {})
            && skip.iter().any(|skip| skip.is_within(path));
        !skipped && !around
    });
    Ok(changes)
}

/// A tree that was released, and what it holds: the one that a release replaced, for one.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a> {
    /// Where it is. It is only read.
    pub root: &'a Path,
    /// What it should hold. What it does not hold (any more) is not taken from it.
    pub manifest: &'a Manifest,
}

/// Repairs modified and missing things below `root`: from the live tree itself where the same
/// content stands elsewhere in it, then from `trees`, then from the archives that hold them.
///
/// Each file is written under another name, synced and renamed over the wrong one: a crash can
/// cost a left-over whose name begins with `.entracte-heal`, and the repairs still to come.
pub fn heal(
    root: &Path,
    expected: &Manifest,
    archives: &[&Archive],
    trees: &[Tree<'_>],
    skip: &[RelPath],
) -> Result<Healed, PackageError> {
    let mut left = tree(root, expected, skip, None, &mut |_| {})?;
    let handle = Root::open(root)?;
    let likeness = Likeness::of(root)?;
    let mut healed = Healed::default();
    let wrong: Vec<_> = left
        .iter()
        .filter(|(_, change)| **change != Change::Created)
        .filter_map(|(path, _)| Some((path.clone(), expected.entries.get(path)?)))
        .collect();
    let mut contents: BTreeMap<(u64, Hash), Vec<&RelPath>> = BTreeMap::new();
    for (path, entry) in &wrong {
        if !free_for(&handle, path, entry)? {
            continue;
        }
        match entry {
            Entry::File { size, hash, .. } => {
                contents.entry((*size, *hash)).or_default().push(path);
                continue;
            }
            Entry::Dir {} => {
                handle.mkdir_above(path)?;
                handle.mkdir(path, 0o755)?;
                likeness.folder(&handle, path, None)?;
            }
            Entry::Link { target } => {
                let part = part_of(path);
                handle.mkdir_above(path)?;
                remove_file(&handle, &part)?;
                handle.symlink(&part, Path::new(target))?;
                likeness.link(&handle, &part)?;
                handle.rename(&part, path)?;
            }
        }
        healed.repaired.push(path.clone());
    }
    let mut repair = Repair { root: &handle, likeness, expected, contents, repaired: Vec::new() };
    for tree in [Tree { root, manifest: expected }].iter().chain(trees) {
        repair.take_from_tree(*tree)?;
    }
    for archive in archives {
        repair.take_from(archive)?;
    }
    healed.repaired.append(&mut repair.repaired);
    rustix::fs::syncfs(handle.handle()).at("sync the file system of", root)?;
    left.retain(|path, _| !healed.repaired.contains(path));
    healed.left = left;
    Ok(healed)
}

/// Whether the right thing can be put at `path` without removing a folder.
fn free_for(root: &Root, path: &RelPath, entry: &Entry) -> Result<bool, PackageError> {
    let mut up = path.parent();
    while let Some(folder) = up {
        if kind(root, &folder)?.is_some_and(|kind| kind != FileType::Directory) {
            return Ok(false);
        }
        up = folder.parent();
    }
    match (kind(root, path)?, entry) {
        (None, _) => Ok(true),
        (Some(_), Entry::Dir {}) => Ok(false),
        (Some(kind), Entry::File { .. } | Entry::Link { .. }) => Ok(kind != FileType::Directory),
    }
}

fn kind(root: &Root, path: &RelPath) -> Result<Option<FileType>, PackageError> {
    Ok(root.stat(path)?.map(|stat| FileType::from_raw_mode(stat.st_mode)))
}

/// The files that are still to be repaired, and how.
struct Repair<'a> {
    root: &'a Root,
    likeness: Likeness,
    expected: &'a Manifest,
    /// By content: another path's file, or another version's, is as good.
    contents: BTreeMap<(u64, Hash), Vec<&'a RelPath>>,
    repaired: Vec<RelPath>,
}

impl Repair<'_> {
    fn take_from(&mut self, archive: &Archive) -> Result<(), PackageError> {
        if self.contents.is_empty() {
            return Ok(());
        }
        let made = archive.record().created;
        archive.walk(&mut |item, reader| {
            let Item::Source(_, entry @ Entry::File { size, hash, .. }) = item else {
                return Ok(Flow::Next);
            };
            let Some(paths) = self.contents.remove(&(*size, *hash)) else {
                return Ok(Flow::Next);
            };
            let mut first: Option<&RelPath> = None;
            for path in paths {
                match first {
                    None => self.put(path, entry, made, reader)?,
                    Some(first) => self.put(path, entry, made, &mut self.root.read(first)?)?,
                }
                first = first.or(Some(path));
                self.repaired.push(path.clone());
            }
            Ok(if self.contents.is_empty() { Flow::Enough } else { Flow::Next })
        })
    }

    /// Takes what the tree still holds as its manifest says. A tree that is not there any more, or
    /// was changed, gives less.
    fn take_from_tree(&mut self, tree: Tree<'_>) -> Result<(), PackageError> {
        let Ok(source) = Root::open(tree.root) else { return Ok(()) };
        for (from, entry) in &tree.manifest.entries {
            let Entry::File { size, hash, .. } = entry else { continue };
            let Some(paths) = self.contents.get(&(*size, *hash)).cloned() else { continue };
            if kind(&source, from)? != Some(FileType::RegularFile) {
                continue;
            }
            for path in paths {
                let mut file = source.read(from)?;
                let made = file.metadata().at("look at", &source.full(from))?.modified();
                let made = made.ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                let made = made.and_then(|since| i64::try_from(since.as_millis()).ok());
                match self.put(path, entry, UnixMs(made.unwrap_or(0)), &mut file) {
                    Ok(()) => self.repaired.push(path.clone()),
                    Err(PackageError::Archive(BadArchive::Content(_))) => break,
                    Err(error) => return Err(error),
                }
                let left = self.contents.get_mut(&(*size, *hash));
                let done = left.is_none_or(|left| {
                    left.retain(|other| *other != path);
                    left.is_empty()
                });
                if done {
                    self.contents.remove(&(*size, *hash));
                }
            }
        }
        Ok(())
    }

    fn put(
        &self,
        path: &RelPath,
        content: &Entry,
        made: UnixMs,
        reader: &mut dyn Read,
    ) -> Result<(), PackageError> {
        self.root.mkdir_above(path)?;
        let part = part_of(path);
        remove_file(self.root, &part)?;
        let old = self.root.stat(path)?;
        let file = archive::write_new(self.root, &part, content, reader)?;
        let exec = matches!(self.expected.entries.get(path), Some(Entry::File { exec: true, .. }));
        let full = self.root.full(path);
        self.likeness.new_file(&file, old.as_ref(), exec, made, &full)?;
        file.sync_all().at("sync", &full)?;
        self.root.rename(&part, path)
    }
}

fn remove_file(root: &Root, path: &RelPath) -> Result<(), PackageError> {
    match root.stat(path)? {
        Some(_) => root.unlink(path),
        None => Ok(()),
    }
}

fn part_of(path: &RelPath) -> RelPath {
    let name = format!("{}heal", archive::record::OWN_PREFIX);
    let text = path.parent().map_or_else(|| name.clone(), |parent| format!("{parent}/{name}"));
    text.parse().expect("a short plain name beside a good path is a good path")
}
