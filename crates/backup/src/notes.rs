//! What is known of a snapshot beside what it holds: small files in the repository's folder, by the
//! snapshot's id. A crash costs a note, never a backup.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use entracte_model::UnixMs;

use crate::repository::Repository;
use crate::{BackupError, lock};

/// Which snapshots were restored: when, and how long it took.
const RESTORED: &str = "restored";
/// What was in a snapshot by the word of whoever made it.
const CONTENTS: &str = "contents";

impl Repository {
    /// Notes that the snapshot `id` was restored and found good at `now`, in `took_ms`.
    ///
    /// # Errors
    /// Where there is no such snapshot, or the note cannot be written.
    pub fn mark_restored(&self, id: &str, now: UnixMs, took_ms: u64) -> Result<(), BackupError> {
        self.write_note(RESTORED, id, format!("{}\n{took_ms}\n", now.0).as_bytes())
    }

    /// Keeps what was in the snapshot `id` when it was made, in the words of its maker.
    ///
    /// # Errors
    /// Where there is no such snapshot, or the note cannot be written.
    pub fn keep_contents(&self, id: &str, words: &[u8]) -> Result<(), BackupError> {
        self.write_note(CONTENTS, id, words)
    }

    /// What [`Repository::keep_contents`] kept of the snapshot with the whole id `id`.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn contents(&self, id: &str) -> Result<Option<Vec<u8>>, BackupError> {
        self.read_note(CONTENTS, id)
    }

    /// When the snapshot was last restored, and how long that took.
    pub(crate) fn restored(&self, id: &str) -> Result<(Option<UnixMs>, Option<u64>), BackupError> {
        let note = self.read_note(RESTORED, id)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&note);
        let mut lines = text.lines();
        // A note that cannot be read as one proves nothing, so it is none.
        let at = lines.next().and_then(|line| line.trim().parse().ok()).map(UnixMs);
        let took_ms = lines.next().and_then(|line| line.trim().parse().ok());
        Ok((at, at.and(took_ms)))
    }

    /// A note about a snapshot that is gone says nothing to anybody; best effort.
    pub(crate) fn drop_notes(&self, id: &str) {
        for folder in [RESTORED, CONTENTS] {
            drop(fs::remove_file(self.dir.join(folder).join(id)));
        }
    }

    fn read_note(&self, folder: &str, id: &str) -> Result<Option<Vec<u8>>, BackupError> {
        let note = self.dir.join(folder).join(id);
        match fs::read(&note) {
            Ok(words) => Ok(Some(words)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(BackupError::io("read", &note, error)),
        }
    }

    fn write_note(&self, folder: &str, id: &str, words: &[u8]) -> Result<(), BackupError> {
        let _held = lock::read(&self.dir)?;
        let (_, file) = self.find(id)?;
        let folder = self.dir.join(folder);
        fs::create_dir_all(&folder).map_err(|error| BackupError::io("create", &folder, error))?;
        let note: PathBuf = folder.join(&*file.id.to_hex());
        let temporary = note.with_extension("part");
        let write = || {
            let mut file = fs::File::create(&temporary)?;
            file.write_all(words)?;
            file.sync_all()?;
            fs::rename(&temporary, &note)?;
            fs::File::open(&folder)?.sync_all()
        };
        write().map_err(|error| BackupError::io("write", &note, error))
    }
}
