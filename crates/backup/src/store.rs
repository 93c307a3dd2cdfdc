//! The files of a repository on disk, as the library sees them.
//!
//! Four things decide whether a backup can be trusted, and the library leaves them open. Here: names are synced and not only contents; an index is written only when the packs
//! that it names are durable (a later backup would build on packs that never were); a folder that
//! cannot be listed is an error (a prune that sees no snapshots removes everything); and a new
//! snapshot is held back until what it names was compared with what was to be stored.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustic_core::{
    BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend,
};

use crate::BackupError;
use crate::error::is_full;

/// The folders of a repository. `locks` is for the real restic, which expects it.
const FOLDERS: [&str; 5] = ["data", "index", "keys", "locks", "snapshots"];

/// One restic repository on disk.
pub(crate) struct Store {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Folders with names that are not durable yet.
    unsynced: BTreeSet<PathBuf>,
    /// The snapshot that waits for its publication.
    held: Option<(Id, BytesList)>,
    /// The first write that failed since [`Store::begin`].
    failed: Option<(PathBuf, io::ErrorKind)>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Store {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), state: Mutex::default() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the repository was completely made.
    pub(crate) fn exists(&self) -> Result<bool, BackupError> {
        let config = self.root.join("config");
        config.try_exists().map_err(|error| BackupError::io("look at", &config, error))
    }

    /// Begins one backup: forgets what an earlier one left waiting.
    pub(crate) fn begin(&self) {
        let mut state = self.state();
        state.held = None;
        state.failed = None;
    }

    /// The error behind whatever the library said, if it was a write that failed.
    pub(crate) fn write_failure(&self) -> Option<BackupError> {
        let (path, kind) = self.state().failed.clone()?;
        Some(BackupError::io("write", &path, io::Error::from(kind)))
    }

    /// Makes the snapshot that waits visible, durably. A crash before its end costs the snapshot,
    /// and nothing that was there before.
    pub(crate) fn publish(&self) -> Result<Id, BackupError> {
        let held = self.state().held.take();
        let (id, content) = held.ok_or_else(|| BackupError::Differs {
            what: "the library wrote no snapshot".to_owned(),
        })?;
        let failed = |error| BackupError::io("publish the snapshot in", &self.root, error);
        self.sync_names().map_err(failed)?;
        self.write_file(FileType::Snapshot, &id, content).map_err(failed)?;
        self.sync_names().map_err(failed)?;
        Ok(id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves each field whole; the worst is one sync too many.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, tpe: FileType, id: &Id) -> PathBuf {
        match tpe {
            FileType::Config => self.root.clone(),
            FileType::Pack => self.root.join("data").join(&id.to_hex()[0..2]),
            FileType::Index | FileType::Key | FileType::Snapshot => self.root.join(tpe.dirname()),
        }
    }

    fn path(&self, tpe: FileType, id: &Id) -> PathBuf {
        let folder = self.folder(tpe, id);
        if tpe == FileType::Config { folder.join("config") } else { folder.join(&*id.to_hex()) }
    }

    /// Writes beside, syncs, renames; the name is made durable by [`Store::sync_names`].
    fn write_file(&self, tpe: FileType, id: &Id, content: BytesList) -> io::Result<()> {
        let path = self.path(tpe, id);
        let folder = self.folder(tpe, id);
        if !folder.is_dir() {
            fs::create_dir_all(&folder)?;
            self.state().unsynced.extend(folder.parent().map(Path::to_owned));
        }
        let mut name = path.clone().into_os_string();
        name.push(format!(".{}.part", std::process::id()));
        let temporary = PathBuf::from(name);
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| {
                io::copy(&mut content.reader(), &mut file)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&temporary, &path));
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        self.state().unsynced.insert(folder);
        Ok(())
    }

    /// Makes the names of everything written so far durable.
    pub(crate) fn sync_names(&self) -> io::Result<()> {
        let folders = std::mem::take(&mut self.state().unsynced);
        for folder in &folders {
            if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
                self.state().unsynced.extend(folders.iter().cloned());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Every file of one type with its size; what cannot be looked at is an error.
    fn files(&self, tpe: FileType) -> io::Result<Vec<(Id, u64)>> {
        let top = self.root.join(tpe.dirname());
        if tpe == FileType::Config {
            return match fs::metadata(&top) {
                Ok(meta) => Ok(vec![(Id::default(), meta.len())]),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(error),
            };
        }
        let mut folders = vec![top];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let meta = match entry.metadata() {
                    Ok(meta) => meta,
                    // A temporary file that was renamed meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                if meta.is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                if let Some(id) = entry.file_name().to_str().and_then(full_id) {
                    found.push((id, meta.len()));
                }
            }
        }
        Ok(found)
    }
}

/// A full id; temporary files have other names.
fn full_id(name: &str) -> Option<Id> {
    (name.len() == 64).then(|| name.parse().ok()).flatten()
}

fn refused(doing: &str, path: &Path, error: io::Error) -> Box<RusticError> {
    let kind = ErrorKind::InputOutput;
    RusticError::with_source(kind, format!("cannot {doing} `{{path}}`"), error)
        .attach_context("path", path.display().to_string())
}

impl ReadBackend for Store {
    fn location(&self) -> String {
        format!("local:{}", self.root.display())
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        let files = self.files(tpe).map_err(|error| refused("list", &self.root, error))?;
        files
            .into_iter()
            .map(|(id, size)| {
                let size = u32::try_from(size).map_err(|_| {
                    let error = io::Error::new(io::ErrorKind::InvalidData, "larger than 4 GiB");
                    refused("use", &self.path(tpe, &id), error)
                })?;
                Ok((id, size))
            })
            .collect()
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        let path = self.path(tpe, id);
        fs::read(&path).map(Bytes::from).map_err(|error| refused("read", &path, error))
    }

    fn read_partial(
        &self,
        tpe: FileType,
        id: &Id,
        _cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        let path = self.path(tpe, id);
        let read = || {
            let file = File::open(&path)?;
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, u64::from(offset))?;
            Ok(Bytes::from(bytes))
        };
        read().map_err(|error| refused("read", &path, error))
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        self.path(tpe, id).display().to_string()
    }
}

impl WriteBackend for Store {
    fn create(&self) -> RusticResult<()> {
        for folder in FOLDERS {
            let path = self.root.join(folder);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|error| refused("create", &path, error))?;
        }
        let mut state = self.state();
        state.unsynced.insert(self.root.clone());
        state.unsynced.extend(self.root.parent().map(Path::to_owned));
        Ok(())
    }

    fn write_bytes(
        &self,
        tpe: FileType,
        id: &Id,
        _cacheable: bool,
        content: BytesList,
    ) -> RusticResult<()> {
        if tpe == FileType::Snapshot {
            self.state().held = Some((*id, content));
            return Ok(());
        }
        // Packs wait for the next index: until then nothing names them.
        let synced = if tpe == FileType::Pack { Ok(()) } else { self.sync_names() };
        let written = synced.and_then(|()| self.write_file(tpe, id, content));
        let durable = match tpe {
            FileType::Config | FileType::Key => written.and_then(|()| self.sync_names()),
            FileType::Index | FileType::Pack | FileType::Snapshot => written,
        };
        durable.map_err(|error| {
            let path = self.path(tpe, id);
            let mut state = self.state();
            // A full disk explains the others: it wins.
            if state.failed.is_none() || is_full(&error) {
                state.failed = Some((path.clone(), error.kind()));
            }
            drop(state);
            refused("write", &path, error)
        })
    }

    fn remove(&self, tpe: FileType, id: &Id, _cacheable: bool) -> RusticResult<()> {
        let path = self.path(tpe, id);
        // Whatever replaces it must be durable before it goes (an index before its packs).
        self.sync_names()
            .and_then(|()| fs::remove_file(&path))
            .map_err(|error| refused("remove", &path, error))?;
        // A pack that comes back after a crash is garbage; an index that comes back names packs
        // that are gone, so its removal is synced before the next file goes.
        if tpe != FileType::Pack {
            self.state().unsynced.insert(self.folder(tpe, id));
        }
        Ok(())
    }
}
