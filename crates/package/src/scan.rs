//! What a tree holds: every file hashed, every link read, everything else refused by name.

mod cache;
mod hashing;
mod queue;
mod walk;

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use entracte_model::manifest::Entry;
use entracte_model::{Manifest, RelPath};

use crate::error::At;
use crate::{PackageError, Progress};

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
    let (walk, known) = std::thread::scope(|scope| {
        let known =
            scope.spawn(|| cache.map(|path| cache::Cache::load(path, device)).unwrap_or_default());
        (walk::walk(&root, rules), known.join())
    });
    let walk = walk?;
    // A cache that could not be read knows nothing.
    let known = known.unwrap_or_default();
    let mut refused = walk.refused;
    if !refused.is_empty() {
        return Err(PackageError::Refused(refused));
    }
    let (fresh, stale): (Vec<_>, Vec<_>) = walk
        .files
        .into_iter()
        .map(|file| (known.hash_of(&file.path, &file.stamp), file))
        .partition(|(hash, _)| hash.is_some());
    let hashed = stale.len() as u64;
    let files: Vec<_> = stale.into_iter().map(|(_, file)| file).collect();
    let mut done: Vec<_> = fresh
        .into_iter()
        .filter_map(|(hash, file)| hash.map(|hash| hashing::Hashed { file, hash }))
        .collect();
    let unchanged = hashed == 0 && known.len() == done.len();
    done.extend(hashing::all(&root, files, &mut refused, progress)?);
    if !refused.is_empty() {
        return Err(PackageError::Refused(refused));
    }
    let cache_fault = match cache {
        Some(path) if !unchanged => cache::store(path, device, started, &done).err(),
        _ => None,
    };
    let files = done.into_iter().map(|hashing::Hashed { file, hash }| {
        (file.path, Entry::File { size: file.stamp.size, hash, exec: file.exec })
    });
    // All at once: sorted and built, instead of put in one by one.
    let mut manifest = Manifest { entries: walk.others.into_iter().chain(files).collect() };
    add_folders_around(&rules.skip, &mut manifest);
    Ok(Scan { manifest, ignored: walk.ignored, hashed, cache_fault })
}

fn add_folders_around(skip: &[RelPath], manifest: &mut Manifest) {
    for path in skip {
        let mut up = path.parent();
        while let Some(folder) = up {
            up = folder.parent();
            // Below another skipped path nothing is listed at all.
            if !skip.iter().any(|skipped| folder.is_within(skipped)) {
                manifest.entries.entry(folder).or_insert(Entry::Dir {});
            }
        }
    }
}
