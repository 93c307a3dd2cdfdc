//! One folder with two restic repositories, under one password.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use entracte_model::UnixMs;
use rustic_core::repofile::{MasterKey, SnapshotFile, SnapshotId};
use rustic_core::{
    CheckOptions, ConfigOptions, Credentials, FileType, IndexedFullStatus, IndexedIdsStatus,
    KeyOptions, OpenStatus, PruneOptions, ReadBackend, Repository as Restic, RepositoryBackends,
    RepositoryOptions, RusticError,
};

use crate::neighbour::{self, Announced, Sharing};
use crate::snapshot::read_tags;
use crate::store::Store;
use crate::{BackupError, Kind, Retention, Snapshot, lock, password, retention};

/// The sizes of the pieces that dumps are cut into: on average 12 KiB. A row that changed stores its
/// piece anew, and the longer a piece, the likelier it holds such a row.
const DUMP_CHUNK: [(&str, Chunk); 3] =
    [("8 KiB", Chunk::Mask), ("4 KiB", Chunk::Least), ("64 KiB", Chunk::Most)];
/// Faults of a repository that are named.
const FAULTS_MAX: usize = 20;
/// The digits of an id that `restic` shows.
const SHORT_DIGITS: usize = 8;
/// The fewest digits that name a snapshot.
const ID_DIGITS_MIN: usize = 4;

enum Chunk {
    Mask,
    Least,
    Most,
}

/// Backups of one or more games: a folder on a local disk.
///
/// Each call takes the locks that it needs and gives them back; [`BackupError::Busy`] says that
/// another process has them. A call reads the state of the repository afresh, so a long-lived
/// value sees what other processes did.
#[derive(Debug)]
pub struct Repository {
    pub(crate) dir: PathBuf,
    pub(crate) trees: Part,
    pub(crate) dumps: Part,
}

/// One of the two restic repositories.
pub(crate) struct Part {
    pub(crate) kind: Kind,
    pub(crate) store: Arc<Store>,
    /// Found once with the password, which is slow on purpose.
    key: MasterKey,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Repository {
    /// Opens the repository at `dir`, or makes a new one. A new one gets the password in
    /// `password_file`, which is made (mode 0600, 256 random bits) where it is missing.
    ///
    /// A crash in the middle leaves a folder that the next call completes.
    ///
    /// # Errors
    /// [`BackupError::PasswordMissing`] where the repository exists and the file does not, and
    /// those of [`Repository::open`].
    pub fn open_or_init(dir: &Path, password_file: &Path) -> Result<Repository, BackupError> {
        fs::create_dir_all(dir).map_err(|error| BackupError::io("create", dir, error))?;
        let parts = Parts::new(dir);
        // In this order: somebody else may be making both, and a password is there first.
        let password = if parts.any_exists()? {
            let missing = || password_missing(dir, password_file);
            password::read(password_file)?.ok_or_else(missing)?
        } else {
            password::read_or_create(password_file)?
        };
        if !parts.all_exist()? {
            let _held = lock::write(dir)?;
            for (store, kind) in [(&parts.trees, Kind::Source), (&parts.dumps, Kind::Database)] {
                if !store.exists()? {
                    init(store, kind, &password)?;
                }
            }
        }
        parts.open(dir, &password, password_file)
    }

    /// Opens the repository at `dir`.
    ///
    /// # Errors
    /// Where there is none, it is incomplete, or its password is missing or another one.
    pub fn open(dir: &Path, password_file: &Path) -> Result<Repository, BackupError> {
        let parts = Parts::new(dir);
        if !parts.all_exist()? {
            return Err(BackupError::Missing { path: dir.to_owned() });
        }
        match password::read(password_file)? {
            Some(password) => parts.open(dir, &password, password_file),
            None => Err(password_missing(dir, password_file)),
        }
    }

    /// Every snapshot, oldest first.
    ///
    /// # Errors
    /// Where one cannot be read: an incomplete list would be taken for a complete one.
    pub fn list(&self) -> Result<Vec<Snapshot>, BackupError> {
        let _held = lock::read(&self.dir)?;
        self.list_held()
    }

    /// Looks for damage: that everything the snapshots need is there, and with `read_data` that
    /// every byte of it is what was written (which reads the whole repository).
    ///
    /// # Errors
    /// [`BackupError::Faults`] with what was found.
    pub fn check(&self, read_data: bool) -> Result<(), BackupError> {
        let _held = lock::read(&self.dir)?;
        for part in [&self.trees, &self.dumps] {
            let _seen = part.announce(Sharing::Shared)?;
            let root = part.store.root();
            let results = part
                .open()?
                .check(CheckOptions::default().read_data(read_data))
                .map_err(|error| part.failed("check", &error))?;
            // Asked of the library as a whole first: what counts as an error is its decision.
            if results.is_ok().is_err() {
                let faults = results.0.iter().take(FAULTS_MAX).map(|(_, fault)| fault.to_string());
                return Err(BackupError::Faults {
                    path: root.to_owned(),
                    faults: faults.collect(),
                });
            }
        }
        Ok(())
    }

    /// Removes the snapshots that `retention` and `protect` (ids) do not keep, and the data that
    /// only they needed; returns the ids of what was removed. See [`retention::keep`].
    ///
    /// A crash in the middle costs no kept snapshot; the next call removes what was left.
    ///
    /// # Errors
    /// Where somebody else uses the repository, or it cannot be read completely: then nothing
    /// was removed.
    pub fn apply_retention(
        &mut self,
        retention: Retention,
        protect: &[String],
        now: UnixMs,
    ) -> Result<Vec<String>, BackupError> {
        let _held = lock::prune(&self.dir)?;
        let _seen = [self.trees.announce(Sharing::Alone)?, self.dumps.announce(Sharing::Alone)?];
        let snapshots = self.list_held()?;
        let kept = retention::keep(&snapshots, retention, protect, now);
        let gone: Vec<&Snapshot> =
            snapshots.iter().filter(|snapshot| !kept.contains(&snapshot.id)).collect();
        for part in [&self.trees, &self.dumps] {
            let ids = gone.iter().filter(|snapshot| snapshot.kind == part.kind);
            let ids: Vec<SnapshotId> = ids
                .map(|snapshot| snapshot.id.parse())
                .collect::<Result<_, _>>()
                .map_err(|error: Box<RusticError>| part.failed("read an id in", &error))?;
            part.forget(&ids)?;
            part.prune()?;
        }
        for snapshot in &gone {
            self.drop_notes(&snapshot.id);
        }
        Ok(gone.into_iter().map(|snapshot| snapshot.id.clone()).collect())
    }

    /// The snapshot whose id is or begins with `id`, and where it is.
    pub(crate) fn find(&self, id: &str) -> Result<(&Part, SnapshotFile), BackupError> {
        let mut found = Vec::new();
        if id.len() >= ID_DIGITS_MIN {
            for part in [&self.trees, &self.dumps] {
                let all = part.snapshots()?.into_iter();
                found.extend(
                    all.filter(|file| file.id.to_hex().starts_with(id)).map(|file| (part, file)),
                );
            }
        }
        let count = found.len();
        match found.pop() {
            Some(one) if count == 1 => Ok(one),
            Some(_) | None => Err(BackupError::NoSuchSnapshot { id: id.to_owned(), found: count }),
        }
    }

    fn list_held(&self) -> Result<Vec<Snapshot>, BackupError> {
        let mut all = Vec::new();
        for part in [&self.trees, &self.dumps] {
            for file in part.snapshots()? {
                all.push(self.describe(part.kind, &file)?);
            }
        }
        all.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
        Ok(all)
    }

    /// The snapshot `file` in our own terms.
    pub(crate) fn describe(
        &self,
        kind: Kind,
        file: &SnapshotFile,
    ) -> Result<Snapshot, BackupError> {
        let mut tags = read_tags(file.tags.iter());
        let name = tags.remove("name");
        let bytes = tags.remove("bytes").and_then(|bytes| bytes.parse().ok());
        tags.remove("blake3");
        let path = || file.paths.iter().next().cloned().unwrap_or_default();
        let summary = || file.summary.as_ref().map_or(0, |all| all.total_bytes_processed);
        let id = file.id.to_hex().to_string();
        let (restored, restore_ms) = self.restored(&id)?;
        Ok(Snapshot {
            short: id[..SHORT_DIGITS].to_owned(),
            time: UnixMs(file.time.timestamp().as_millisecond()),
            kind,
            name: name.unwrap_or_else(path),
            bytes: bytes.unwrap_or_else(summary),
            tags,
            restored,
            restore_ms,
            id,
        })
    }
}

impl Part {
    fn open(&self) -> Result<Restic<OpenStatus>, BackupError> {
        closed(&self.store)?
            .open(&Credentials::Masterkey(self.key.clone()))
            .map_err(|error| self.failed("open", &error))
    }

    /// Tells `restic` that we are at work, and asks whether it is.
    pub(crate) fn announce(&self, sharing: Sharing) -> Result<Announced, BackupError> {
        neighbour::announce(self.store.root(), &self.key, sharing)
    }

    /// With the ids of everything that is stored: what a writer needs.
    pub(crate) fn with_ids(&self) -> Result<Restic<IndexedIdsStatus>, BackupError> {
        self.open()?.to_indexed_ids().map_err(|error| self.failed("read the index of", &error))
    }

    /// With the places of everything that is stored: what a reader needs.
    pub(crate) fn with_index(&self) -> Result<Restic<IndexedFullStatus>, BackupError> {
        self.open()?.to_indexed().map_err(|error| self.failed("read the index of", &error))
    }

    pub(crate) fn snapshots(&self) -> Result<Vec<SnapshotFile>, BackupError> {
        self.open()?
            .get_all_snapshots()
            .map_err(|error| self.failed("read the snapshots of", &error))
    }

    /// What failed, by its real reason where that was a write.
    pub(crate) fn failed(&self, doing: &'static str, error: &RusticError) -> BackupError {
        self.store
            .write_failure()
            .unwrap_or_else(|| BackupError::format(doing, self.store.root(), error))
    }

    fn forget(&self, ids: &[SnapshotId]) -> Result<(), BackupError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.store.begin();
        self.open()?
            .delete_snapshots(ids)
            .map_err(|error| self.failed("remove snapshots from", &error))?;
        self.store.sync_names().map_err(|error| BackupError::io("sync", self.store.root(), error))
    }

    fn prune(&self) -> Result<(), BackupError> {
        self.store.begin();
        // At once: the lock says that nobody else is reading.
        let options = PruneOptions::default().instant_delete(true);
        let failed = |error: Box<RusticError>| self.failed("prune", &error);
        let open = self.open()?;
        let plan = open.prune_plan(&options).map_err(failed)?;
        open.prune(&options, plan).map_err(failed)?;
        self.store.sync_names().map_err(|error| BackupError::io("sync", self.store.root(), error))
    }
}

struct Parts {
    trees: Arc<Store>,
    dumps: Arc<Store>,
}

impl Parts {
    fn new(dir: &Path) -> Self {
        let part = |name| Arc::new(Store::new(&dir.join(name)));
        Self { trees: part("trees"), dumps: part("dumps") }
    }

    fn any_exists(&self) -> Result<bool, BackupError> {
        Ok(self.trees.exists()? || self.dumps.exists()?)
    }

    fn all_exist(&self) -> Result<bool, BackupError> {
        Ok(self.trees.exists()? && self.dumps.exists()?)
    }

    fn open(
        self,
        dir: &Path,
        password: &str,
        password_file: &Path,
    ) -> Result<Repository, BackupError> {
        let _held = lock::read(dir)?;
        let part = |store: Arc<Store>, kind| {
            let open = closed(&store)?.open(&Credentials::password(password)).map_err(|error| {
                if error.is_incorrect_password() {
                    return BackupError::WrongPassword {
                        password_file: password_file.to_owned(),
                        repository: dir.to_owned(),
                    };
                }
                BackupError::format("open", store.root(), &error)
            })?;
            Ok(Part { kind, store, key: open.key() })
        };
        Ok(Repository {
            dir: dir.to_owned(),
            trees: part(self.trees, Kind::Source)?,
            dumps: part(self.dumps, Kind::Database)?,
        })
    }
}

fn closed(store: &Arc<Store>) -> Result<Restic<()>, BackupError> {
    let backends = RepositoryBackends::new(Arc::clone(store) as _, None);
    // No cache in the user's home folder: the repository is local already.
    Restic::new(&RepositoryOptions::default().no_cache(true), &backends)
        .map_err(|error| BackupError::format("use the repository", store.root(), &error))
}

fn init(store: &Arc<Store>, kind: Kind, password: &str) -> Result<(), BackupError> {
    let failed = |error: Box<RusticError>| {
        store.write_failure().unwrap_or_else(|| BackupError::format("make", store.root(), &error))
    };
    remove_dead_keys(store)?;
    store.begin();
    let mut config = ConfigOptions::default();
    if kind == Kind::Database {
        for (size, which) in DUMP_CHUNK {
            let size = Some(size.parse().expect("the sizes above are sizes"));
            match which {
                Chunk::Mask => config.set_chunk_size = size,
                Chunk::Least => config.set_chunk_min_size = size,
                Chunk::Most => config.set_chunk_max_size = size,
            }
        }
        // Each dump is read back as a whole before it counts: once is enough.
        config.set_extra_verify = Some(false);
    }
    closed(store)?
        .init(&Credentials::password(password), &KeyOptions::default(), &config)
        .map_err(failed)?;
    Ok(())
}

/// Removes the keys of a repository that a crash kept from being made: they open nothing, and the
/// library would try them first.
fn remove_dead_keys(store: &Store) -> Result<(), BackupError> {
    if !store.root().exists() {
        return Ok(());
    }
    let list = |tpe| match store.list(tpe) {
        Ok(ids) => Ok(ids),
        Err(_) if !store.root().join(FileType::dirname(tpe)).exists() => Ok(Vec::new()),
        Err(error) => Err(BackupError::format("look into", store.root(), &error)),
    };
    for tpe in [FileType::Snapshot, FileType::Index, FileType::Pack] {
        if !list(tpe)?.is_empty() {
            let what = "it holds data and its file `config` is missing; put that back".to_owned();
            return Err(BackupError::Faults { path: store.root().to_owned(), faults: vec![what] });
        }
    }
    for key in list(FileType::Key)? {
        let path = store.root().join("keys").join(&*key.to_hex());
        fs::remove_file(&path).map_err(|error| BackupError::io("remove", &path, error))?;
    }
    Ok(())
}

fn password_missing(dir: &Path, password_file: &Path) -> BackupError {
    BackupError::PasswordMissing {
        password_file: password_file.to_owned(),
        repository: dir.to_owned(),
    }
}
