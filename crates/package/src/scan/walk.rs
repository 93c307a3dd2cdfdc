//! Which entries a tree has, without reading any file.

use std::fs::{self, DirEntry, FileType};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use entracte_model::RelPath;
use entracte_model::manifest::Entry;
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::cache::Stamp;
use super::queue::Queue;
use super::{Reason, Refused, Rules};
use crate::error::At;
use crate::git::Tracked;
use crate::{GIT_DIR, PackageError, links};

/// The ignore file of this program, in the syntax of `.gitignore`.
const OWN_IGNORE: &str = ".entracteignore";
const GIT_IGNORE: &str = ".gitignore";

/// Threads that look: two wait for the kernel beside each other.
const THREADS: usize = 2;

/// What a walk found.
#[derive(Default)]
pub(super) struct Walk {
    /// Folders and links; files join when they are hashed.
    pub others: Vec<(RelPath, Entry)>,
    pub files: Vec<Found>,
    pub refused: Vec<Refused>,
    pub ignored: u64,
}

/// A regular file that is to be hashed.
pub(super) struct Found {
    pub path: RelPath,
    pub stamp: Stamp,
    pub exec: bool,
}

/// The ignore files of one folder, and of those around it.
struct Level {
    own: Option<Gitignore>,
    git: Option<Gitignore>,
    around: Option<Arc<Level>>,
}

/// A folder that is still to be read.
struct Folder {
    full: PathBuf,
    rel: String,
    around: Option<Arc<Level>>,
    /// A `.gitignore` leaves it out: only what git tracks below it counts.
    ignored: bool,
}

/// What the ignore files say about an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    In,
    Out,
    /// In where git tracks it (or something below it).
    Tracked,
}

struct Walker<'a> {
    rules: &'a Rules,
    tracked: Option<&'a Tracked>,
    /// Folders that the one being read holds.
    below: Vec<Folder>,
    walk: Walk,
}

pub(super) fn walk(root: &Path, rules: &Rules) -> Result<Walk, PackageError> {
    let tracked = if rules.ignore_files { crate::git::tracked(root)? } else { None };
    let level = match &tracked {
        Some(tracked) => levels_around(root, tracked)?,
        None => None,
    };
    let top = Folder { full: root.to_owned(), rel: String::new(), around: level, ignored: false };
    let (queue, tracked) = (Queue::new(top), tracked.as_ref());
    let work = || {
        let mut walker = Walker { rules, tracked, below: Vec::new(), walk: Walk::default() };
        queue.work(|folder| {
            walker.folder(folder)?;
            Ok::<_, PackageError>(std::mem::take(&mut walker.below))
        })?;
        Ok::<_, PackageError>(walker.walk)
    };
    let mut whole = std::thread::scope(|scope| {
        let others: Vec<_> = (1..THREADS).map(|_| scope.spawn(work)).collect();
        let mut whole = work()?;
        for other in others {
            whole.add(other.join().expect("a walker panics only by a fault of its own")?);
        }
        Ok::<_, PackageError>(whole)
    })?;
    whole.refused.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(whole)
}

impl Walk {
    fn add(&mut self, other: Walk) {
        self.others.extend(other.others);
        self.files.extend(other.files);
        self.refused.extend(other.refused);
        self.ignored += other.ignored;
    }
}

/// What a repository says above the tree: its `info/exclude`, and the folders down to the tree.
fn levels_around(root: &Path, tracked: &Tracked) -> Result<Option<Arc<Level>>, PackageError> {
    let exclude = git_rules(&tracked.top, &tracked.exclude);
    let mut level = Arc::new(Level { own: None, git: exclude, around: None });
    let mut above: Vec<_> =
        root.ancestors().skip(1).take_while(|dir| dir.starts_with(&tracked.top)).collect();
    above.reverse();
    for dir in above {
        let own = own_rules(dir)?;
        let git = git_rules(dir, &dir.join(GIT_IGNORE));
        level = Arc::new(Level { own, git, around: Some(level) });
    }
    Ok(Some(level))
}

/// As git does, a pattern that cannot be read is passed over: it then leaves nothing out.
fn git_rules(dir: &Path, file: &Path) -> Option<Gitignore> {
    if !file.is_file() {
        return None;
    }
    let mut builder = GitignoreBuilder::new(dir);
    let _unreadable_patterns = builder.add(file);
    builder.build().ok()
}

fn own_rules(dir: &Path) -> Result<Option<Gitignore>, PackageError> {
    let path = dir.join(OWN_IGNORE);
    if !path.is_file() {
        return Ok(None);
    }
    let bad = |source| PackageError::IgnoreFile { path: path.clone(), source };
    let mut builder = GitignoreBuilder::new(dir);
    if let Some(error) = builder.add(&path) {
        return Err(bad(error));
    }
    builder.build().map(Some).map_err(bad)
}

impl Walker<'_> {
    fn folder(&mut self, folder: Folder) -> Result<(), PackageError> {
        let Folder { full: dir, rel, around, ignored } = folder;
        let level = if self.rules.ignore_files { level_of(&dir, around)? } else { None };
        for entry in fs::read_dir(&dir).at("read the folder", &dir)? {
            let entry = entry.at("read the folder", &dir)?;
            let name = entry.file_name();
            if name == GIT_DIR || (self.rules.ignore_files && name == OWN_IGNORE) {
                continue;
            }
            let kind = entry.file_type().at("look at", &entry.path())?;
            let verdict = self.verdict(level.as_deref(), &entry, kind.is_dir(), ignored);
            let Some(name) = name.to_str() else {
                if verdict == Verdict::In {
                    let shown = format!("{rel}{}{}", slash(&rel), name.to_string_lossy());
                    self.refuse(&shown, Reason::NotUtf8);
                }
                continue;
            };
            let path = format!("{rel}{}{name}", slash(&rel));
            if self.skipped(&path) {
                continue;
            }
            if verdict == Verdict::Out
                || (verdict == Verdict::Tracked && !self.tracks(&path, kind.is_dir())?)
            {
                self.walk.ignored += 1;
                continue;
            }
            let ignored = verdict == Verdict::Tracked;
            self.entry(&entry, path, kind, level.clone(), ignored)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        entry: &DirEntry,
        path: String,
        kind: FileType,
        level: Option<Arc<Level>>,
        ignored: bool,
    ) -> Result<(), PackageError> {
        let full = entry.path();
        let rel: RelPath = match path.parse() {
            Ok(rel) => rel,
            Err(bad) => {
                self.refuse(&path, Reason::Name(bad));
                return Ok(());
            }
        };
        if kind.is_dir() {
            self.walk.others.push((rel, Entry::Dir {}));
            self.below.push(Folder { full, rel: path, around: level, ignored });
        } else if kind.is_symlink() {
            let target = fs::read_link(&full).at("read the link", &full)?;
            match target.to_str() {
                Some(target) if links::stays_inside(&rel, target) => {
                    let link = Entry::Link { target: target.to_owned() };
                    self.walk.others.push((rel, link));
                }
                _ => {
                    let shown = target.to_string_lossy().into_owned();
                    self.refuse(&path, Reason::LinkLeaves(shown));
                }
            }
        } else if kind.is_file() {
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                // Gone since the folder was read: then it is not in the tree.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error).at("look at", &full),
            };
            self.file(rel, &meta);
        } else {
            self.refuse(&path, Reason::Special(special(kind)));
        }
        Ok(())
    }

    fn file(&mut self, path: RelPath, meta: &fs::Metadata) {
        let max = self.rules.file_bytes_max;
        if meta.mode() & 0o6000 != 0 {
            self.refuse(path.as_str(), Reason::SetUid);
        } else if meta.size() > max {
            self.refuse(path.as_str(), Reason::TooLarge { size: meta.size(), max });
        } else {
            let exec = meta.mode() & 0o100 != 0;
            self.walk.files.push(Found { path, stamp: Stamp::of(meta), exec });
        }
    }

    fn skipped(&self, path: &str) -> bool {
        self.rules.skip.iter().any(|skip| path == skip.as_str())
    }

    /// Own rules first. A `.gitignore` has no say over what git tracks, and inside a folder that
    /// it leaves out, no other can bring anything back.
    fn verdict(
        &self,
        level: Option<&Level>,
        entry: &DirEntry,
        is_dir: bool,
        ignored: bool,
    ) -> Verdict {
        let Some(level) = level else { return Verdict::In };
        let full = entry.path();
        let git =
            || ignored || level.first(|level| level.git.as_ref(), &full, is_dir) == Some(true);
        match level.first(|level| level.own.as_ref(), &full, is_dir) {
            Some(true) => Verdict::Out,
            Some(false) => Verdict::In,
            None if git() => Verdict::Tracked,
            None => Verdict::In,
        }
    }

    fn tracks(&self, path: &str, is_dir: bool) -> Result<bool, PackageError> {
        self.tracked.map_or(Ok(false), |git| git.holds(path, is_dir))
    }

    fn refuse(&mut self, path: &str, why: Reason) {
        self.walk.refused.push(Refused { path: path.to_owned(), why });
    }
}

impl Level {
    /// What the innermost ignore file that says something about `path` says.
    fn first<'a>(
        &'a self,
        which: impl Fn(&'a Level) -> Option<&'a Gitignore>,
        path: &Path,
        is_dir: bool,
    ) -> Option<bool> {
        let mut level = Some(self);
        while let Some(here) = level {
            match which(here).map(|rules| rules.matched(path, is_dir)) {
                Some(Match::Ignore(_)) => return Some(true),
                Some(Match::Whitelist(_)) => return Some(false),
                Some(Match::None) | None => level = here.around.as_deref(),
            }
        }
        None
    }
}

/// The level of one folder; the one around it where it says nothing itself.
fn level_of(dir: &Path, around: Option<Arc<Level>>) -> Result<Option<Arc<Level>>, PackageError> {
    let own = own_rules(dir)?;
    let git = git_rules(dir, &dir.join(GIT_IGNORE));
    if own.is_none() && git.is_none() {
        return Ok(around);
    }
    Ok(Some(Arc::new(Level { own, git, around })))
}

fn slash(rel: &str) -> &'static str {
    if rel.is_empty() { "" } else { "/" }
}

fn special(kind: FileType) -> &'static str {
    if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_block_device() {
        "block device"
    } else if kind.is_char_device() {
        "character device"
    } else {
        "special file"
    }
}
