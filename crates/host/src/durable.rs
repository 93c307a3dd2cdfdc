//! Writes that a crash cannot tear: a file has its old content or its new one.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fault;

/// Puts `bytes` into the file at `path` with `mode` (permission bits, whatever the umask is): a
/// temporary file in the same folder, synced, renamed over `path`, and the folder synced.
///
/// A crash before the rename costs the new content and can leave the temporary file (its name
/// begins with a dot and ends in `.part`); a crash after it costs nothing. Where the last sync
/// fails, the new content is visible already and may be lost by a power failure.
///
/// # Errors
/// Any step's error of the operating system. `path` is then untouched, unless it was the last sync.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_from(path, &mut &bytes[..], mode)
}

/// As [`write`], with all that `from` gives: what is too long for memory.
///
/// # Errors
/// As [`write`], and those of reading.
fn write_from(path: &Path, from: &mut dyn Read, mode: u32) -> io::Result<()> {
    let temporary = temporary_beside(path)?;
    let written = write_new(&temporary, from, mode).and_then(|()| {
        fault::check("durable.rename")?;
        fs::rename(&temporary, path)
    });
    if let Err(error) = written {
        // Best effort: what matters to the caller is why the write failed.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_parent(path)
}

/// Makes the names in the folder `dir` durable.
///
/// # Errors
/// Those of opening and syncing the folder.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    fault::check("durable.sync-dir")?;
    File::open(dir)?.sync_all()
}

/// Makes the name `path` itself durable, by syncing the folder that it stands in.
///
/// # Errors
/// Those of opening and syncing the folder.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    sync_dir(parent(path))
}

/// The folder that `path` stands in; `.` for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

fn write_new(path: &Path, from: &mut dyn Read, mode: u32) -> io::Result<()> {
    fault::check("durable.create")?;
    // Created for the owner alone: a secret must not be readable for the moment before `mode`.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    fault::check("durable.write")?;
    io::copy(from, &mut file)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    fault::check("durable.sync")?;
    file.sync_all()
}

fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a file name")
    })?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    temporary.push(format!(".{}-{number}.part", std::process::id()));
    Ok(parent(path).join(temporary))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_exact_and_nothing_is_left_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        write(&path, b"one", 0o640).unwrap();
        write(&path, b"two", 0o664).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o664);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn each_broken_effect_leaves_the_old_content_and_no_rest() {
        for label in ["durable.create", "durable.write", "durable.sync", "durable.rename"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state.json");
            write(&path, b"old", 0o600).unwrap();
            let _armed = fault::arm(&format!("{label}=ENOSPC"));
            assert_eq!(write(&path, b"new", 0o600).unwrap_err().raw_os_error(), Some(28));
            assert_eq!(fs::read(&path).unwrap(), b"old", "{label}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{label}");
        }
    }

    #[test]
    fn a_failed_sync_of_the_folder_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let _armed = fault::arm("durable.sync-dir=EIO");
        assert_eq!(write(&path, b"new", 0o600).unwrap_err().raw_os_error(), Some(5));
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_path_without_a_name_is_refused() {
        assert_eq!(
            write(Path::new("/"), b"", 0o600).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
