//! Reading backups back.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use rustic_core::repofile::{Node, NodeType, SnapshotFile};
use rustic_core::{IndexedFullStatus, Repository as Restic};
use rustix::fs::{CWD, FileType, Mode, mknodat, syncfs};

use crate::archive::throttled;
use crate::neighbour::Sharing;
use crate::repository::{Part, Repository};
use crate::snapshot::{Kind, Progress, read_tags};
use crate::tree::from_go_mode;
use crate::{BackupError, lock};

impl Repository {
    /// Puts the tree of the snapshot `id` into the folder `into`, which must be empty or absent:
    /// contents, permissions, times, and (for root) owners. Sockets are left out; the programs that
    /// own them make them.
    ///
    /// Links are made last and nothing is written through one. The whole of it is synced at the
    /// end; after an error or a crash the folder holds a part, and is to be removed.
    ///
    /// # Errors
    /// Where the folder is not empty, the snapshot holds no tree or unsafe names, or something
    /// cannot be read or written.
    pub fn restore_tree(
        &self,
        id: &str,
        into: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), BackupError> {
        let _held = lock::read(&self.dir)?;
        let (part, file) = self.find(id)?;
        expect_kind(part, &file, Kind::Source)?;
        let _seen = part.announce(Sharing::Shared)?;
        make_empty(into)?;
        let index = part.with_index()?;
        let total = file.summary.as_ref().map_or(0, |all| all.total_bytes_processed);
        let mut heard = throttled(progress, total, "files");
        let mut restoring = Restoring {
            part,
            index: &index,
            done: 0,
            heard: &mut heard,
            folders: Vec::new(),
            links: Vec::new(),
        };
        restoring.tree(&file, into)?;
        restoring.finish(into)
    }

    /// Writes the dump of the snapshot `id` to `out`, and returns its size in bytes.
    ///
    /// # Errors
    /// Also where everything was written and its size or hash is not that of the dump: what went
    /// out must not be used then.
    pub fn restore_stream(
        &self,
        id: &str,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<u64, BackupError> {
        let _held = lock::read(&self.dir)?;
        let (part, file) = self.find(id)?;
        expect_kind(part, &file, Kind::Database)?;
        let _seen = part.announce(Sharing::Shared)?;
        let index = part.with_index()?;
        let node = single_file(&index, &file, part)?;
        let mut heard = throttled(progress, node.meta.size, "dump");
        let mut counted = Counted::new(out, &mut heard);
        let dumped = index.dump(&node, &mut counted);
        if let Some(error) = counted.failed {
            return Err(BackupError::io("write what is restored from", part.store.root(), error));
        }
        dumped.map_err(|error| part.failed("read the dump in", &error))?;
        let tags = read_tags(file.tags.iter());
        let hash = counted.hasher.finalize().to_hex();
        let bytes = counted.bytes;
        // Another program's snapshot has no such tags; its size still counts.
        if tags.get("blake3").is_some_and(|expected| *expected != *hash) || bytes != node.meta.size
        {
            let what = format!("{} came out different from how it was written", node.name);
            return Err(BackupError::Differs { what });
        }
        Ok(bytes)
    }
}

/// One restore of a tree on its way.
struct Restoring<'a> {
    part: &'a Part,
    index: &'a Restic<IndexedFullStatus>,
    done: u64,
    heard: &'a mut dyn FnMut(u64),
    /// Made with room to write; their own modes and times come last.
    folders: Vec<(PathBuf, Node)>,
    links: Vec<(PathBuf, Node)>,
}

impl Restoring<'_> {
    fn tree(&mut self, file: &SnapshotFile, into: &Path) -> Result<(), BackupError> {
        let mut pending = vec![(into.to_owned(), file.tree)];
        while let Some((folder, id)) = pending.pop() {
            let tree = self
                .index
                .get_tree(&id)
                .map_err(|error| self.part.failed("read a folder in", &error))?;
            for node in tree.nodes {
                let path = folder.join(safe_name(&node)?);
                let failed = |error| BackupError::io("restore", &path, error);
                match &node.node_type {
                    NodeType::Dir => {
                        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
                        pending.extend(node.subtree.map(|subtree| (path.clone(), subtree)));
                        self.folders.push((path, node));
                    }
                    NodeType::File => self.file(&path, &node)?,
                    NodeType::Symlink { .. } => self.links.push((path, node)),
                    NodeType::Fifo => {
                        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                            .map_err(|errno| failed(errno.into()))?;
                        set_meta(&path, &node).map_err(failed)?;
                    }
                    NodeType::Socket | NodeType::Dev { .. } | NodeType::Chardev { .. } => {}
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, node: &Node) -> Result<(), BackupError> {
        let failed = |error| BackupError::io("restore", path, error);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let before = self.done;
        let mut heard = |bytes| (self.heard)(before + bytes);
        let mut counted = Counted::new(&mut file, &mut heard);
        let dumped = self.index.dump(node, &mut counted);
        if let Some(error) = counted.failed {
            return Err(failed(error));
        }
        dumped.map_err(|error| self.part.failed("read a file in", &error))?;
        let bytes = counted.bytes;
        if bytes != node.meta.size {
            let what = format!(
                "{}: {} bytes are expected, {bytes} were found",
                path.display(),
                node.meta.size
            );
            return Err(BackupError::Differs { what });
        }
        self.done += bytes;
        set_meta(path, node).map_err(failed)
    }

    /// Links, then the folders' own times (the deepest first), then everything to the disk.
    fn finish(self, into: &Path) -> Result<(), BackupError> {
        for (path, node) in &self.links {
            symlink(node.node_type.to_link(), path)
                .and_then(|()| set_owner(path, node))
                .map_err(|error| BackupError::io("restore the link", path, error))?;
        }
        for (path, node) in self.folders.iter().rev() {
            set_meta(path, node).map_err(|error| BackupError::io("restore", path, error))?;
        }
        File::open(into)
            .and_then(|folder| syncfs(&folder).map_err(io::Error::from))
            .map_err(|error| BackupError::io("sync", into, error))
    }
}

/// Owner first: changing it takes setuid bits away.
fn set_meta(path: &Path, node: &Node) -> io::Result<()> {
    set_owner(path, node)?;
    if let Some(mode) = node.meta.mode {
        fs::set_permissions(path, Permissions::from_mode(from_go_mode(mode)))?;
    }
    if let (Some(modified), false) = (node.meta.mtime, node.node_type == NodeType::Fifo) {
        File::open(path)?.set_modified(SystemTime::from(modified)).or_else(|error| {
            // A file that its owner may not read is opened only by root; its time is not worth it.
            if error.kind() == io::ErrorKind::PermissionDenied { Ok(()) } else { Err(error) }
        })?;
    }
    Ok(())
}

/// Only root gives files away; for anybody else they are his own, as after any copy.
fn set_owner(path: &Path, node: &Node) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        lchown(path, node.meta.uid, node.meta.gid)?;
    }
    Ok(())
}

/// A name that stays in its folder. Whoever has the password can write snapshots with any name.
fn safe_name(node: &Node) -> Result<PathBuf, BackupError> {
    let name = PathBuf::from(node.name().into_owned());
    let mut parts = name.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(only)), None) if only == name.as_os_str() => Ok(name),
        _ => Err(BackupError::UnsafeName { name: node.name.clone() }),
    }
}

fn make_empty(into: &Path) -> Result<(), BackupError> {
    match fs::read_dir(into) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(BackupError::NotEmpty { path: into.to_owned() }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(into)
            .map_err(|error| BackupError::io("create", into, error)),
        Err(error) => Err(BackupError::io("open", into, error)),
    }
}

fn expect_kind(part: &Part, file: &SnapshotFile, expected: Kind) -> Result<(), BackupError> {
    if part.kind == expected {
        return Ok(());
    }
    Err(BackupError::WrongKind {
        id: file.id.to_hex().to_string(),
        found: part.kind.words(),
        expected: expected.words(),
    })
}

/// The one file that a dump's snapshot holds.
pub(crate) fn single_file(
    index: &Restic<IndexedFullStatus>,
    file: &SnapshotFile,
    part: &Part,
) -> Result<Node, BackupError> {
    let mut tree = index
        .get_tree(&file.tree)
        .map_err(|error| part.failed("read back a snapshot in", &error))?;
    match tree.nodes.pop() {
        Some(node) if tree.nodes.is_empty() && node.is_file() => Ok(node),
        Some(_) | None => Err(BackupError::Differs {
            what: "one file is expected in the snapshot of a dump, and something else was found"
                .to_owned(),
        }),
    }
}

/// How many bytes the pieces of a file have, by the index.
pub(crate) fn bytes_of(
    index: &Restic<IndexedFullStatus>,
    node: &Node,
    part: &Part,
) -> Result<u64, BackupError> {
    let mut bytes = 0;
    for id in node.content.iter().flatten() {
        let entry =
            index.get_index_entry(id).map_err(|error| part.failed("find a piece in", &error))?;
        bytes += u64::from(entry.data_length());
    }
    Ok(bytes)
}

/// Counts and hashes on the way, and keeps the real error of a write.
struct Counted<'a> {
    out: &'a mut dyn Write,
    heard: &'a mut dyn FnMut(u64),
    hasher: blake3::Hasher,
    bytes: u64,
    failed: Option<io::Error>,
}

impl<'a> Counted<'a> {
    fn new(out: &'a mut dyn Write, heard: &'a mut dyn FnMut(u64)) -> Self {
        Self { out, heard, hasher: blake3::Hasher::new(), bytes: 0, failed: None }
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.out.write_all(bytes) {
            let kind = error.kind();
            self.failed = Some(error);
            return Err(kind.into());
        }
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        (self.heard)(self.bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
