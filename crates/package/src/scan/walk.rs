//! Which entries a tree has, and which of its files are known already; no file is read.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use entracte_model::{Hash, RelPath};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, readlinkat, statat};
use rustix::io::Errno;

use super::cache::{Cache, Known, Stamp};
use super::levels::{Level, OWN_IGNORE};
use super::queue::Queue;
use super::{Reason, Refused, Rules};
use crate::error::At;
use crate::git::Tracked;
use crate::{GIT_DIR, PackageError, links};

/// Threads that look: two wait for the kernel beside each other.
const THREADS: usize = 2;
/// The bytes of folder entries that the kernel is asked for at a time.
const NAMES_BYTES: usize = 32 * 1024;

/// What a walk found.
#[derive(Default)]
pub(super) struct Walk {
    /// By folder, each sorted by name.
    folders: HashMap<String, Vec<Found>>,
    /// By folder, the hash of the ignore rules that count in it; no rules are not listed.
    pub rules: HashMap<String, Hash>,
    pub refused: Vec<Refused>,
    pub ignored: u64,
    /// Folders that hold exactly what the cache knew of them; an empty one is none.
    same: usize,
}

/// A file, folder or link of the tree.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub path: RelPath,
    pub kind: Kind,
    /// A `.gitignore` leaves it out, but git tracks it (or something below it).
    pub only_tracked: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Its hash, where it is known.
    File {
        stamp: Stamp,
        exec: bool,
        hash: Option<Hash>,
    },
    Dir,
    Link {
        stamp: Stamp,
        target: String,
    },
}

impl Found {
    /// The last name of its path.
    pub(super) fn name(&self) -> &str {
        self.path.name()
    }

    /// The path of the folder around it; empty at the top.
    pub(super) fn folder(&self) -> &str {
        self.path.as_str().rsplit_once('/').map_or("", |(folder, _)| folder)
    }
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

/// The names in a folder, sorted, each with the kind that the folder says it has.
#[derive(Default)]
struct Names {
    /// All of them, each with its NUL.
    text: Vec<u8>,
    entries: Vec<(usize, usize, FileType)>,
}

struct Walker<'a> {
    rules: &'a Rules,
    tracked: Option<&'a Tracked>,
    cache: &'a Cache<'a>,
    /// Folders that the one being read holds.
    below: Vec<Folder>,
    walk: Walk,
}

pub(super) fn walk(
    root: &Path,
    rules: &Rules,
    tracked: Option<&Tracked>,
    cache: &Cache<'_>,
) -> Result<Walk, PackageError> {
    let level = match tracked {
        Some(tracked) => Level::around(root, tracked)?,
        None => None,
    };
    let top = Folder { full: root.to_owned(), rel: String::new(), around: level, ignored: false };
    let queue = Queue::new(top);
    let work = || {
        let walk = Walk::default();
        let mut walker = Walker { rules, tracked, cache, below: Vec::new(), walk };
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
        self.folders.extend(other.folders);
        self.rules.extend(other.rules);
        self.refused.extend(other.refused);
        self.ignored += other.ignored;
        self.same += other.same;
    }

    /// Whether the tree holds exactly what `cache` knew, and nothing has to be read.
    pub(super) fn is_same(&self, cache: &Cache<'_>) -> bool {
        let held = self.folders.values().filter(|found| !found.is_empty()).count();
        self.same == held && held == cache.folders()
    }

    /// All that was found, sorted by path.
    pub(super) fn in_order(&mut self) -> Vec<Found> {
        let mut all = Vec::with_capacity(self.folders.values().map(Vec::len).sum());
        self.descend("", &mut all);
        all
    }

    /// Paths sort as texts: what lies in `lib` comes after `lib-old` and `lib.php`, as `/` sorts
    /// after `-` and `.`. So a folder is descended into when all such names have passed; the one
    /// that began last is due first.
    fn descend(&mut self, folder: &str, all: &mut Vec<Found>) {
        let mut due: Vec<RelPath> = Vec::new();
        for found in self.folders.remove(folder).unwrap_or_default() {
            let path = found.path.as_str().bytes();
            while due.last().is_some_and(|due| due.as_str().bytes().chain([b'/']).lt(path.clone()))
            {
                due.pop().into_iter().for_each(|below| self.descend(below.as_str(), all));
            }
            if matches!(found.kind, Kind::Dir) {
                due.push(found.path.clone());
            }
            all.push(found);
        }
        due.into_iter().rev().for_each(|below| self.descend(below.as_str(), all));
    }
}

impl Names {
    /// Reads the names in the folder `dir`.
    fn read(dir: &OwnedFd, path: &Path) -> Result<Self, PackageError> {
        let mut names = Names::default();
        let mut buffer = Vec::with_capacity(NAMES_BYTES);
        let mut raw = RawDir::new(dir, buffer.spare_capacity_mut());
        while let Some(entry) = raw.next() {
            let entry = entry.at("read the folder", path)?;
            let name = entry.file_name().to_bytes_with_nul();
            if name == b".\0" || name == b"..\0" {
                continue;
            }
            let from = names.text.len();
            names.text.extend_from_slice(name);
            names.entries.push((from, names.text.len(), entry.file_type()));
        }
        let text = &names.text;
        names.entries.sort_unstable_by_key(|(from, to, _)| &text[*from..*to]);
        Ok(names)
    }

    fn hold(&self, name: &str) -> bool {
        let of = |(from, to, _): &(usize, usize, FileType)| &self.text[*from..*to - 1];
        self.entries.binary_search_by_key(&name.as_bytes(), of).is_ok()
    }

    fn iter(&self) -> impl Iterator<Item = (&CStr, FileType)> {
        self.entries.iter().filter_map(|(from, to, kind)| {
            Some((CStr::from_bytes_with_nul(&self.text[*from..*to]).ok()?, *kind))
        })
    }
}

impl<'a> Walker<'a> {
    fn folder(&mut self, folder: Folder) -> Result<(), PackageError> {
        let Folder { full: path, rel, around, ignored } = folder;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(CWD, &path, flags, Mode::empty()).at("read the folder", &path)?;
        let names = Names::read(&dir, &path)?;
        let level = match self.rules.ignore_files {
            true => Level::of(&path, around, |name| names.hold(name))?,
            false => None,
        };
        let (rules, level_counts) = (Level::hash_of(level.as_deref()), level.is_some());
        let mut listing = Listing {
            dir,
            known: self.cache.folder(&rel, &rules),
            found: Vec::with_capacity(names.entries.len()),
            rel,
            level,
            ignored,
            path,
        };
        for (name, kind) in names.iter() {
            self.name(&mut listing, name, kind)?;
        }
        self.walk.same += usize::from(listing.known.is_some_and(|known| known.is_same()));
        if level_counts {
            self.walk.rules.insert(listing.rel.clone(), rules);
        }
        self.walk.folders.insert(listing.rel, listing.found);
        Ok(())
    }

    /// Decides whether an entry is part of the tree, and takes it.
    fn name(
        &mut self,
        listing: &mut Listing<'a>,
        name: &CStr,
        kind: FileType,
    ) -> Result<(), PackageError> {
        let bytes = name.to_bytes();
        if bytes == GIT_DIR.as_bytes()
            || (self.rules.ignore_files && bytes == OWN_IGNORE.as_bytes())
        {
            return Ok(());
        }
        let kind = match kind {
            // A file system that does not say it in the folder.
            FileType::Unknown => match listing.stat(name)? {
                Some(stat) => FileType::from_raw_mode(stat.st_mode),
                None => return Ok(()),
            },
            kind => kind,
        };
        let is_dir = kind == FileType::Directory;
        let verdict = listing.verdict(name, is_dir);
        let Ok(text) = name.to_str() else {
            if verdict == Verdict::In {
                let shown = listing.rel_of(&name.to_string_lossy());
                self.refuse(&shown, Reason::NotUtf8);
            }
            return Ok(());
        };
        let path = listing.rel_of(text);
        if self.skipped(&path) {
            return Ok(());
        }
        if verdict == Verdict::Out
            || (verdict == Verdict::Tracked && !self.tracks(&path, is_dir)?)
        {
            self.walk.ignored += 1;
            return Ok(());
        }
        match RelPath::try_from(path) {
            Ok(rel) => {
                let ignored = verdict == Verdict::Tracked;
                self.entry(listing, name, rel, kind, ignored)
            }
            Err(bad) => {
                self.refuse(&listing.rel_of(text), Reason::Name(bad));
                Ok(())
            }
        }
    }

    fn entry(
        &mut self,
        listing: &mut Listing<'a>,
        name: &CStr,
        path: RelPath,
        kind: FileType,
        ignored: bool,
    ) -> Result<(), PackageError> {
        let kind = match kind {
            FileType::Directory => {
                self.below.push(Folder {
                    full: listing.full(name),
                    rel: path.as_str().to_owned(),
                    around: listing.level.clone(),
                    ignored,
                });
                Some(Kind::Dir)
            }
            FileType::Symlink => self.link(listing, name, &path)?,
            FileType::RegularFile => self.file(listing, name, &path)?,
            other => {
                self.refuse(path.as_str(), Reason::Special(special(other)));
                None
            }
        };
        if let Some(kind) = kind {
            listing.take(Found { path, kind, only_tracked: ignored });
        }
        Ok(())
    }

    fn link(
        &mut self,
        listing: &Listing<'_>,
        name: &CStr,
        path: &RelPath,
    ) -> Result<Option<Kind>, PackageError> {
        let target = readlinkat(&listing.dir, name, Vec::new());
        let target = target.at("read the link", &listing.full(name))?;
        match target.to_str() {
            Ok(target) if links::stays_inside(path, target) => {
                let Some(stat) = listing.stat(name)? else { return Ok(None) };
                Ok(Some(Kind::Link { stamp: Stamp::of(&stat), target: target.to_owned() }))
            }
            _ => {
                let shown = target.to_string_lossy().into_owned();
                self.refuse(path.as_str(), Reason::LinkLeaves(shown));
                Ok(None)
            }
        }
    }

    fn file(
        &mut self,
        listing: &Listing<'_>,
        name: &CStr,
        path: &RelPath,
    ) -> Result<Option<Kind>, PackageError> {
        let Some(stat) = listing.stat(name)? else { return Ok(None) };
        let (stamp, max) = (Stamp::of(&stat), self.rules.file_bytes_max);
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            // Another kind of thing took its place since the folder was read.
            self.refuse(path.as_str(), Reason::Changing);
        } else if stat.st_mode & 0o6000 != 0 {
            self.refuse(path.as_str(), Reason::SetUid);
        } else if stamp.size > max {
            self.refuse(path.as_str(), Reason::TooLarge { size: stamp.size, max });
        } else {
            let exec = stat.st_mode & 0o100 != 0;
            return Ok(Some(Kind::File { stamp, exec, hash: None }));
        }
        Ok(None)
    }

    fn skipped(&self, path: &str) -> bool {
        self.rules.skip.iter().any(|skip| path == skip.as_str())
    }

    fn tracks(&self, path: &str, is_dir: bool) -> Result<bool, PackageError> {
        self.tracked.map_or(Ok(false), |git| git.holds(path, is_dir))
    }

    fn refuse(&mut self, path: &str, why: Reason) {
        self.walk.refused.push(Refused { path: path.to_owned(), why });
    }
}

/// A folder while it is looked at.
struct Listing<'a> {
    dir: OwnedFd,
    path: PathBuf,
    rel: String,
    level: Option<Arc<Level>>,
    /// A `.gitignore` leaves the folder out.
    ignored: bool,
    known: Option<Known<'a>>,
    found: Vec<Found>,
}

impl Listing<'_> {
    fn full(&self, name: &CStr) -> PathBuf {
        self.path.join(OsStr::from_bytes(name.to_bytes()))
    }

    fn rel_of(&self, name: &str) -> String {
        match self.rel.as_str() {
            "" => name.to_owned(),
            rel => [rel, "/", name].concat(),
        }
    }

    /// What stands at `name`; nothing where it is gone since the folder was read, and so is not in
    /// the tree.
    fn stat(&self, name: &CStr) -> Result<Option<rustix::fs::Stat>, PackageError> {
        match statat(self.dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).at("look at", &self.full(name)),
        }
    }

    /// Own rules first. A `.gitignore` has no say over what git tracks, and inside a folder that
    /// it leaves out, no other can bring anything back.
    fn verdict(&mut self, name: &CStr, is_dir: bool) -> Verdict {
        let Some(level) = self.level.as_deref() else { return Verdict::In };
        let known = self.known.as_mut().filter(|_| !self.ignored);
        if known.is_some_and(|known| known.is_in(name.to_bytes(), is_dir)) {
            return Verdict::In;
        }
        let full = self.full(name);
        let git = || self.ignored || level.git_ignores(&full, is_dir) == Some(true);
        match level.own_ignores(&full, is_dir) {
            Some(true) => Verdict::Out,
            Some(false) => Verdict::In,
            None if git() => Verdict::Tracked,
            None => Verdict::In,
        }
    }

    /// Takes an entry, with its hash where it is known. Names come in their order.
    fn take(&mut self, mut found: Found) {
        let known = self.known.as_mut().and_then(|known| known.hash_of(&found));
        if let Kind::File { hash, .. } = &mut found.kind {
            *hash = known;
        }
        self.found.push(found);
    }
}

fn special(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::BlockDevice => "block device",
        FileType::CharacterDevice => "character device",
        _ => "special file",
    }
}
