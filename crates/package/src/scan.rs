//! What a tree holds: every file hashed, every link read, everything else refused by name.

mod cache;
mod hashing;
mod levels;
mod queue;
mod walk;

use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

use entracte_model::manifest::Entry;
use entracte_model::{Hash, Manifest, RelPath};

pub(crate) use cache::{Stamp, Time};
pub(crate) use walk::{Found, Kind};

use crate::error::At;
use crate::{PackageError, Progress, git};

/// What a scan looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whether `.gitignore` and `.entracteignore` leave files out: in development trees, never in
    /// production. What git tracks is not left out by a `.gitignore`, as in git itself.
    pub ignore_files: bool,
    /// Left out with everything below: persistent paths, and what else the configuration names.
    pub skip: Vec<RelPath>,
    /// Files over this size, in bytes, are refused.
    pub file_bytes_max: u64,
}

/// The result of a scan.
#[derive(Debug)]
pub struct Scan {
    /// What the tree holds. The folders around skipped paths are listed whether they are there or
    /// not, so that a tree where they were made for a persistent path is still the same tree.
    pub manifest: Manifest,
    /// The hash of the manifest, where it is known: with a cache.
    pub hash: Option<Hash>,
    /// The commit that every file of a development tree surely is as in, and that holds no other;
    /// none where only git itself can tell ([`git::look`]).
    pub committed: Option<String>,
    /// Each two paths that one file on a case-folding file system would have to share.
    pub collisions: Vec<(RelPath, RelPath)>,
    /// How many files and folders the ignore files left out (a folder counts once).
    pub ignored: u64,
    /// How many files had to be read; the others were known from the cache.
    pub hashed: u64,
    /// Why the cache could not be written. The next scan is slower, this one is right.
    pub cache_fault: Option<PackageError>,
}

/// Something that cannot be part of a game's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Where; not always a name that a [`RelPath`] could hold.
    pub path: String,
    /// Why.
    pub why: Reason,
}

/// Why something cannot be part of a game's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A name that is not UTF-8.
    NotUtf8,
    /// A name that no safe path can hold.
    Name(entracte_model::path::BadPath),
    /// A device, FIFO or socket.
    Special(&'static str),
    /// A link that leads out of the tree.
    LinkLeaves(String),
    /// A file with the setuid or setgid bit.
    SetUid,
    /// A file over the stated size.
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// What is allowed, in bytes.
        max: u64,
    },
    /// A file that was written to whenever it was read.
    Changing,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.escape_debug(), self.why)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotUtf8 => f.write_str("its name is not UTF-8; rename it"),
            Reason::Name(bad) => write!(f, "{bad}; rename it"),
            Reason::Special(kind) => {
                write!(f, "is a {kind}; remove it or name it among the paths to leave out")
            }
            Reason::LinkLeaves(target) => write!(
                f,
                "links to {target:?}, which could lead out of the tree; link inside it (`..` only at \
                 the beginning), or make it a persistent path"
            ),
            Reason::SetUid => f.write_str("has the setuid or setgid bit; run `chmod ug-s` on it"),
            Reason::TooLarge { size, max } => write!(
                f,
                "has {}, over the limit of {}; leave it out or raise the limit",
                entracte_model::time::human_bytes(*size),
                entracte_model::time::human_bytes(*max)
            ),
            Reason::Changing => {
                f.write_str("was written to each time it was read; stop its writer")
            }
        }
    }
}

/// The refusals as one message, the first of them by name.
pub(crate) fn list(refused: &[Refused]) -> String {
    const SHOWN_MAX: usize = 20;
    let mut text = format!("{} entries of the tree cannot be taken:", refused.len());
    for one in refused.iter().take(SHOWN_MAX) {
        text.push_str(&format!("\n  {one}"));
    }
    if refused.len() > SHOWN_MAX {
        text.push_str(&format!("\n  and {} more", refused.len() - SHOWN_MAX));
    }
    text
}

/// Scans the tree at `root`. With a `cache` file, only what changed since is read again.
///
/// `.git` is never part of it. Links are recorded, not followed. A crash costs at most the cache,
/// which is written whole or not at all and is believed only where its checksum fits.
pub fn tree(
    root: &Path,
    rules: &Rules,
    cache: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Scan, PackageError> {
    let started = SystemTime::now();
    let root = root.canonicalize().at("find the tree", root)?;
    let device = root.metadata().at("look at", &root)?.dev();
    let bytes = OnceLock::new();
    let read = || cache.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    let (tracked, known) = std::thread::scope(|scope| {
        let known = scope.spawn(|| cache::Cache::parse(bytes.get_or_init(read), device));
        let tracked = if rules.ignore_files { git::tracked(&root) } else { Ok(None) };
        (tracked, known.join())
    });
    // A cache that could not be read knows nothing.
    let (tracked, known) = (tracked?, known.unwrap_or_default());
    let mut walk = walk::walk(&root, rules, tracked.as_ref(), &known)?;
    if !walk.refused.is_empty() {
        return Err(PackageError::Refused(walk.refused));
    }
    let same = walk.is_same(&known);
    let (mut found, index) = std::thread::scope(|scope| {
        let index = scope.spawn(|| tracked.as_ref().and_then(git::Tracked::index));
        (walk.in_order(), index.join().ok().flatten())
    });
    let hashed = hash_the_rest(&root, &mut found, progress)?;
    let around = folders_around(&rules.skip);
    let around_hash = Hash::of(format!("{around:?}").as_bytes());
    let mut hash = known.manifest(&around_hash).filter(|_| same);
    // The hash is kept of trees without collisions only.
    let may_collide = hash.is_none() && may_collide(&found);
    // In doubt, git is asked.
    let committed =
        tracked.as_ref().zip(index).and_then(|(git, index)| git.committed(&index, &found));
    let keep = cache.filter(|_| hash.is_none()).map(|path| (path, found.clone()));
    let mut manifest = manifest_of(found);
    for folder in around {
        manifest.entries.entry(folder).or_insert(Entry::Dir {});
    }
    let collisions = if may_collide { manifest.collisions() } else { Vec::new() };
    let mut cache_fault = None;
    if let Some((path, found)) = keep {
        let whole = manifest.hash();
        let rules = |folder: &str| walk.rules.get(folder).copied().unwrap_or(Hash([0; 32]));
        let manifest = Some(whole).filter(|_| collisions.is_empty());
        let head = cache::Head { device, started, manifest, around: around_hash };
        cache_fault = cache::store(path, &head, &found, rules).err();
        hash = Some(whole);
    }
    Ok(Scan { manifest, hash, committed, collisions, ignored: walk.ignored, hashed, cache_fault })
}

/// Hashes the files whose hash is not known; says how many they were.
fn hash_the_rest(
    root: &Path,
    found: &mut [Found],
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, PackageError> {
    let stale: Vec<_> = found
        .iter()
        .filter_map(|found| match &found.kind {
            Kind::File { stamp, hash: None, .. } => Some((&found.path, stamp.size)),
            _ => None,
        })
        .collect();
    let mut hashed = hashing::all(root, &stale, progress)?.into_iter();
    let (count, mut refused) = (stale.len() as u64, Vec::new());
    for found in found {
        let Kind::File { stamp, hash: hash @ None, .. } = &mut found.kind else { continue };
        match hashed.next().flatten() {
            Some((now, content)) => (*stamp, *hash) = (now, Some(content)),
            None => {
                refused.push(Refused { path: found.path.to_string(), why: Reason::Changing });
            }
        }
    }
    if refused.is_empty() { Ok(count) } else { Err(PackageError::Refused(refused)) }
}

/// Whether two paths may be one where case or Unicode form do not count. Where no two short hashes
/// are the same, no two paths are: that is quick to see.
fn may_collide(found: &[Found]) -> bool {
    let mut short: Vec<u64> = found.iter().map(|found| found.path.folded_hash()).collect();
    short.sort_unstable();
    !short.is_sorted_by(|a, b| a < b)
}

/// The manifest of what was found and hashed, sorted by path.
fn manifest_of(found: Vec<Found>) -> Manifest {
    let entries = found.into_iter().filter_map(|Found { path, kind, .. }| {
        let entry = match kind {
            Kind::File { stamp, exec, hash } => Entry::File { size: stamp.size, hash: hash?, exec },
            Kind::Dir => Entry::Dir {},
            Kind::Link { target, .. } => Entry::Link { target },
        };
        Some((path, entry))
    });
    // All at once, in order, instead of put in one by one.
    Manifest { entries: entries.collect() }
}

/// The folders that lead to skipped paths.
fn folders_around(skip: &[RelPath]) -> BTreeSet<RelPath> {
    let mut around = BTreeSet::new();
    for path in skip {
        let mut up = path.parent();
        while let Some(folder) = up {
            up = folder.parent();
            // Below another skipped path nothing is listed at all.
            if !skip.iter().any(|skipped| folder.is_within(skipped)) {
                around.insert(folder);
            }
        }
    }
    around
}
