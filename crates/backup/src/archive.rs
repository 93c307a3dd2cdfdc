//! Storing trees and dumps.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use entracte_model::RelPath;
use rustic_core::jiff::{Timestamp, Zoned};
use rustic_core::repofile::{Metadata, Node, NodeType, SnapshotFile, Tree};
use rustic_core::{
    BackupOptions, IndexedFullStatus, ParentOptions, Repository as Restic, RusticError,
    SnapshotOptions,
};

use crate::neighbour::Sharing;
use crate::repository::{Part, Repository};
use crate::restore::{bytes_of, single_file};
use crate::snapshot::{PROGRESS_EVERY_MS, Progress, Snapshot, Tags, read_tags};
use crate::stream::{Content, StreamSource, pair};
use crate::tree::{Named, TreeSource, Walk};
use crate::{BackupError, lock};

/// How often a running tree backup looks whether it shall stop, in milliseconds.
const STOP_EVERY_MS: u64 = 50;
/// What a snapshot says that made it. The library's default is this process's command line, which
/// may hold secrets.
const COMMAND: &str = "entracte backup";

impl Repository {
    /// Stores the tree at `root` without what lies at or below the paths of `skip`; `stop` ends it.
    ///
    /// Files that did not change since the newest backup of the same project are not read again.
    /// Links are stored as links; extended attributes are not stored. A file that grows meanwhile
    /// is stored with the size it had when it was reached.
    ///
    /// The snapshot appears when all of it is durable and was compared with the tree's list; a
    /// crash before leaves no snapshot, and data that the next retention removes.
    ///
    /// # Errors
    /// [`BackupError::Unreadable`] names every file that could not be read; there is no snapshot
    /// then, nor after any other error.
    pub fn store_tree(
        &mut self,
        root: &Path,
        skip: &[RelPath],
        tags: &Tags,
        progress: &mut dyn FnMut(Progress),
        stop: &AtomicBool,
    ) -> Result<Snapshot, BackupError> {
        let _held = lock::write(&self.dir)?;
        let root = root.canonicalize().map_err(|error| BackupError::io("open", root, error))?;
        let part = &self.trees;
        let _seen = part.announce(Sharing::Shared)?;
        let parent = newest_of(part.snapshots()?, &tags.project);
        let options = BackupOptions::default().no_scan(true).parent_opts(match parent {
            Some(parent) => ParentOptions::default().parents(vec![parent.id.to_hex().to_string()]),
            None => ParentOptions::default().force(true),
        });
        let file = new_snapshot(&tags.to_strings()?, Zoned::now(), part)?;
        let walk = Arc::new(Walk::default());
        let skip = skip.iter().map(|path| PathBuf::from(path.as_str())).collect();
        let source = TreeSource::new(&root, skip, Arc::clone(&walk));

        part.store.begin();
        let repository = part.with_ids()?;
        let archived = std::thread::scope(|scope| {
            let (tell, ended) = sync_channel(1);
            let paths = [root.clone()];
            let archiving = scope.spawn(move || {
                let archived = repository.archive(&options, &source, file, &paths);
                // Nobody listening means that the other side has panicked: nothing to tell.
                let _ = tell.send(());
                archived
            });
            let mut told = Instant::now();
            while let Err(RecvTimeoutError::Timeout) =
                ended.recv_timeout(Duration::from_millis(STOP_EVERY_MS))
            {
                walk.stop.store(stop.load(Ordering::Relaxed), Ordering::Relaxed);
                if told.elapsed() >= Duration::from_millis(PROGRESS_EVERY_MS) {
                    told = Instant::now();
                    progress(Progress::bytes(walk.bytes.load(Ordering::Relaxed), 0, "files"));
                }
            }
            archiving.join()
        });
        let archived = settle(part, archived);
        if stop.load(Ordering::Relaxed) {
            return Err(BackupError::Stopped);
        }
        let unreadable = walk.unreadable();
        if unreadable.total > 0 {
            return Err(BackupError::Unreadable(unreadable));
        }
        let mut file = archived?;
        compare_tree(&part.with_index()?, &file, &walk, part)?;
        file.id = part.store.publish()?.into();
        let bytes = walk.bytes.load(Ordering::Relaxed);
        progress(Progress::bytes(bytes, bytes, "files"));
        self.describe(part.kind, &file)
    }

    /// Stores what `write` writes, as one file `name`. `write` returns how many bytes it wrote,
    /// or why it failed.
    ///
    /// The dump goes through twice: from its producer into the repository, then from the
    /// repository through the same way again, where its size and hash must come out equal. That
    /// second time stores nothing new; it proves that what was stored can be read, and it is the
    /// only way to give the file its size, which `restic restore` relies on.
    ///
    /// The snapshot appears after that; a crash before leaves no snapshot, and data that the next
    /// retention removes.
    ///
    /// # Errors
    /// [`BackupError::Producer`] with what `write` said (also where it wrote nothing at all). There
    /// is no snapshot then, nor after any other error.
    pub fn store_stream(
        &mut self,
        name: &str,
        tags: &Tags,
        write: &mut dyn FnMut(&mut dyn Write) -> Result<u64, String>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Snapshot, BackupError> {
        let _held = lock::write(&self.dir)?;
        check_name(name)?;
        let part = &self.dumps;
        let _seen = part.announce(Sharing::Shared)?;
        let begun = Zoned::now();
        let strings = tags.to_strings()?;

        let run = Run { part, name, tags: &strings, begun: &begun };
        let (first, content) = run.archive(0, write, &mut throttled(progress, 0, "dump"))?;
        let index = part.with_index()?;
        let stored = single_file(&index, &first, part)?;
        compare_bytes(name, content.bytes, bytes_of(&index, &stored, part)?)?;

        let mut read_back = |mut out: &mut dyn Write| {
            index.dump(&stored, &mut out).map_err(|error| crate::error::one_line(&error))?;
            Ok(content.bytes)
        };
        let mut strings = strings.clone();
        strings.push(format!("name={name}"));
        strings.push(format!("bytes={}", content.bytes));
        strings.push(format!("blake3={}", content.hash.to_hex()));
        let run = Run { part, name, tags: &strings, begun: &begun };
        let mut heard = throttled(progress, content.bytes, "reading back");
        let (mut second, again) = run.archive(content.bytes, &mut read_back, &mut heard)?;
        if again != content {
            let what = format!("{name} was read back with another content than it was written");
            return Err(BackupError::Differs { what });
        }
        let copy = single_file(&part.with_index()?, &second, part)?;
        compare_bytes(name, content.bytes, copy.meta.size)?;
        if copy.content != stored.content {
            let what = format!("the pieces of {name} are not those that were written");
            return Err(BackupError::Differs { what });
        }
        second.id = part.store.publish()?.into();
        self.describe(part.kind, &second)
    }
}

/// One way of a stream into the repository.
struct Run<'a> {
    part: &'a Part,
    name: &'a str,
    tags: &'a [String],
    begun: &'a Zoned,
}

impl Run<'_> {
    /// Stores what `write` writes as a file whose size is said to be `size`; the snapshot waits.
    fn archive(
        &self,
        size: u64,
        write: &mut dyn FnMut(&mut dyn Write) -> Result<u64, String>,
        heard: &mut dyn FnMut(u64),
    ) -> Result<(SnapshotFile, Content), BackupError> {
        let path = Path::new("/").join(self.name);
        let file = new_snapshot(self.tags, self.begun.clone(), self.part)?;
        // Forced: metadata that equals an earlier dump's would bring the earlier dump back.
        let options = BackupOptions::default()
            .no_scan(true)
            .parent_opts(ParentOptions::default().force(true));
        let node = dump_node(self.name, size, self.begun.timestamp());
        self.part.store.begin();
        let repository = self.part.with_ids()?;
        let (mut feed, intake) = pair(heard);
        let source = StreamSource::new(path.clone(), node, intake);
        let (archived, produced, cut) = std::thread::scope(|scope| {
            // The source moves in: when the library gives up, the producer must not wait for it.
            let archiving =
                scope.spawn(move || repository.archive(&options, &source, file, &[path]));
            let said = write(&mut feed);
            let cut = feed.is_cut();
            let produced = match said {
                Ok(said) => Ok((said, feed.finish())),
                Err(reason) => {
                    drop(feed);
                    Err(reason)
                }
            };
            (archiving.join(), produced, cut)
        });
        let archived = settle(self.part, archived);
        let failed = |reason| BackupError::Producer { name: self.name.to_owned(), reason };
        let (said, content) = match produced {
            // The producer failed because we did: ours is the reason.
            Err(reason) if cut => {
                return Err(self
                    .part
                    .store
                    .write_failure()
                    .or(archived.err())
                    .unwrap_or(failed(reason)));
            }
            Err(reason) => return Err(failed(reason)),
            Ok(produced) => produced,
        };
        if let Some(failure) = self.part.store.write_failure() {
            return Err(failure);
        }
        let archived = archived?;
        if content.bytes == 0 {
            return Err(failed("it wrote nothing".to_owned()));
        }
        compare_bytes(self.name, said, content.bytes)?;
        Ok((archived, content))
    }
}

/// What came of an archiving thread: a panic of the library is an error as well.
fn settle(
    part: &Part,
    archived: std::thread::Result<Result<SnapshotFile, Box<RusticError>>>,
) -> Result<SnapshotFile, BackupError> {
    match archived {
        Ok(Ok(file)) => match part.store.write_failure() {
            Some(failure) => Err(failure),
            None => Ok(file),
        },
        Ok(Err(error)) => Err(part.failed("store in", &error)),
        Err(_) => Err(part.store.write_failure().unwrap_or_else(|| BackupError::Differs {
            what: "the library that writes the repository broke off".to_owned(),
        })),
    }
}

fn new_snapshot(tags: &[String], at: Zoned, part: &Part) -> Result<SnapshotFile, BackupError> {
    let options = SnapshotOptions::default().command(COMMAND.to_owned()).time(at);
    let mut file = SnapshotFile::from_options(&options)
        .map_err(|error| part.failed("begin a snapshot in", &error))?;
    for tag in tags {
        file.tags.add(tag.clone());
    }
    Ok(file)
}

fn dump_node(name: &str, size: u64, at: Timestamp) -> Node {
    let meta = Metadata {
        mode: Some(0o600),
        mtime: Some(at),
        atime: Some(at),
        ctime: Some(at),
        uid: Some(rustix::process::getuid().as_raw()),
        gid: Some(rustix::process::getgid().as_raw()),
        size,
        links: 1,
        ..Metadata::default()
    };
    Node::new_node(OsStr::new(name), NodeType::File, meta)
}

fn newest_of(files: Vec<SnapshotFile>, project: &str) -> Option<SnapshotFile> {
    let ours = |file: &SnapshotFile| {
        read_tags(file.tags.iter()).get("project").is_some_and(|found| found == project)
    };
    files.into_iter().filter(ours).max_by(|a, b| a.time.cmp(&b.time))
}

/// A dump's name is one plain file name, here and wherever restic restores it.
fn check_name(name: &str) -> Result<(), BackupError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.starts_with('.') || name.len() > 200 || !name.chars().all(plain) {
        return Err(BackupError::BadTag { key: "name", value: name.to_owned() });
    }
    Ok(())
}

fn compare_bytes(name: &str, expected: u64, found: u64) -> Result<(), BackupError> {
    if expected == found {
        return Ok(());
    }
    let what = format!("{name}: {expected} bytes are expected, {found} were found");
    Err(BackupError::Differs { what })
}

/// Every file, folder and link that the walk named must be in the snapshot with its size or
/// target, and nothing else.
fn compare_tree(
    index: &Restic<IndexedFullStatus>,
    file: &SnapshotFile,
    walk: &Walk,
    part: &Part,
) -> Result<(), BackupError> {
    let mut expected = walk.named();
    let mut folders = vec![(PathBuf::from("/"), file.tree)];
    while let Some((folder, id)) = folders.pop() {
        let tree: Tree =
            index.get_tree(&id).map_err(|error| part.failed("read back a folder in", &error))?;
        for node in &tree.nodes {
            let path = folder.join(node.name());
            let stored = match &node.node_type {
                NodeType::File => Named::File { bytes: bytes_of(index, node, part)? },
                NodeType::Dir => Named::Dir,
                NodeType::Symlink { .. } => {
                    Named::Link { target: node.node_type.to_link().to_owned() }
                }
                NodeType::Dev { .. }
                | NodeType::Chardev { .. }
                | NodeType::Fifo
                | NodeType::Socket => Named::Other,
            };
            let named = expected.remove(&path);
            if named.as_ref() != Some(&stored) {
                let what =
                    format!("{}: {named:?} is expected, {stored:?} was stored", path.display());
                return Err(BackupError::Differs { what });
            }
            if let (NodeType::Dir, Some(subtree)) = (&node.node_type, node.subtree) {
                folders.push((path, subtree));
            }
        }
    }
    match expected.keys().next() {
        None => Ok(()),
        Some(path) => {
            let what = format!("{} and {} more are missing", path.display(), expected.len() - 1);
            Err(BackupError::Differs { what })
        }
    }
}

/// Passes progress on, but not more often than people can read.
pub(crate) fn throttled<'a>(
    progress: &'a mut dyn FnMut(Progress),
    total: u64,
    note: &'a str,
) -> impl FnMut(u64) + 'a {
    let mut told: Option<Instant> = None;
    move |done| {
        let every = Duration::from_millis(PROGRESS_EVERY_MS);
        if done == total || told.is_none_or(|told| told.elapsed() >= every) {
            told = Some(Instant::now());
            progress(Progress::bytes(done, total, note));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_has_a_plain_file_name() {
        for good in ["taverne.sql", "db-1_2.sqlite"] {
            check_name(good).unwrap();
        }
        for bad in ["", "..", ".hidden", "a/b", "a b", "a\\b", "é"] {
            assert!(check_name(bad).is_err(), "{bad:?} was taken");
        }
    }
}
