//! Removing whole trees, and only those that are ours.
//!
//! A tree is ours where a marker stands beside it: a small file that names it. It stands beside
//! the tree and not inside it, so that it belongs to the place and not to a version of the game,
//! and an exchange of two trees does not move it.

use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::Doing;
use crate::{HostError, durable, fault};

/// What a marker's first line begins with; the name of the tree follows.
const MARKER_TITLE: &str = "entracte may remove ";
/// The largest file that is read as a marker, in bytes.
const MARKER_BYTES_MAX: u64 = 4_096;

/// Where the marker of the tree at `path` stands: `.<name>.entracte` beside it.
///
/// # Errors
/// Where `path` does not end in a name.
pub fn marker_of(path: &Path) -> Result<PathBuf, HostError> {
    beside(path, ".entracte")
}

/// Declares the place `path` ours, durably. Idempotent. To be called before the tree is made.
///
/// # Errors
/// Where `path` does not end in a name, or the marker cannot be written.
pub fn mark(path: &Path) -> Result<PathBuf, HostError> {
    let marker = marker_of(path)?;
    durable::write(&marker, title(path)?.as_bytes(), 0o600).doing("write the marker", &marker)?;
    Ok(marker)
}

/// Removes the tree at `path`, then its marker; returns whether there was anything.
///
/// The tree is renamed first (`.<name>.entracte-removing`), so that no name ever shows half of
/// it; a call that died is taken up by the next one. Links are removed, never followed.
///
/// # Errors
/// Where the marker is missing or names something else, or a mount lies in the tree (players'
/// uploads may be bound into it): then nothing was changed. Or an error of the operating system.
pub fn remove(path: &Path, marker: &Path) -> Result<bool, HostError> {
    let removing = beside(path, ".entracte-removing")?;
    let (tree, rest) = (present(path)?, present(&removing)?);
    if !tree && !rest && !present(marker)? {
        return Ok(false);
    }
    check_marker(path, marker)?;
    for place in [path, &removing] {
        refuse_mounts_in(place)?;
    }
    if rest {
        remove_all(&removing)?;
    }
    if tree {
        fault::check("remove.rename").doing("rename", path)?;
        fs::rename(path, &removing).doing("rename", path)?;
        durable::sync_parent(path).doing("sync the folder around", path)?;
        remove_all(&removing)?;
    }
    // The marker goes last: while anything is left, it must be provable that it may go.
    fault::check("remove.marker").doing("remove the marker", marker)?;
    fs::remove_file(marker).doing("remove the marker", marker)?;
    durable::sync_parent(path).doing("sync the folder around", path)?;
    Ok(tree || rest)
}

/// Refuses where `path` itself is a mount point.
pub(crate) fn refuse_mount_at(path: &Path) -> Result<(), HostError> {
    let real = path.canonicalize().doing("resolve", path)?;
    match mounts()?.into_iter().find(|mount| *mount == real) {
        Some(mount) => Err(HostError::MountPoint { path: path.to_owned(), mount }),
        None => Ok(()),
    }
}

/// Refuses where `path` is a mount point or has one inside. A path that is missing has none.
fn refuse_mounts_in(path: &Path) -> Result<(), HostError> {
    if !present(path)? {
        return Ok(());
    }
    let parent = durable::parent(path);
    let real = parent.canonicalize().doing("resolve", parent)?;
    let real = real.join(path.file_name().unwrap_or_default());
    match mounts()?.into_iter().find(|mount| mount.starts_with(&real)) {
        Some(mount) => Err(HostError::MountPoint { path: path.to_owned(), mount }),
        None => Ok(()),
    }
}

fn remove_all(path: &Path) -> Result<(), HostError> {
    fault::check("remove.tree").doing("remove", path)?;
    let meta = fs::symlink_metadata(path).doing("look at", path)?;
    if meta.is_dir() {
        fs::remove_dir_all(path).doing("remove", path)
    } else {
        fs::remove_file(path).doing("remove", path)
    }
}

fn check_marker(path: &Path, marker: &Path) -> Result<(), HostError> {
    let not_ours = || HostError::NotOurs { path: path.to_owned(), marker: marker.to_owned() };
    if marker != marker_of(path)? {
        return Err(not_ours());
    }
    let meta = match fs::symlink_metadata(marker) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_ours()),
        Err(error) => return Err(HostError::io("look at", marker, &error)),
    };
    if !meta.is_file() || meta.len() > MARKER_BYTES_MAX {
        return Err(not_ours());
    }
    let text = fs::read(marker).doing("read", marker)?;
    if text == title(path)?.as_bytes() { Ok(()) } else { Err(not_ours()) }
}

fn title(path: &Path) -> Result<String, HostError> {
    let name = path.file_name().ok_or_else(|| HostError::BadPath { path: path.to_owned() })?;
    // Debug form: a name may hold a line break, and the marker is one line.
    Ok(format!("{MARKER_TITLE}{name:?}\n"))
}

fn beside(path: &Path, suffix: &str) -> Result<PathBuf, HostError> {
    let name = path.file_name().ok_or_else(|| HostError::BadPath { path: path.to_owned() })?;
    let mut other = std::ffi::OsString::from(".");
    other.push(name);
    other.push(suffix);
    Ok(durable::parent(path).join(other))
}

fn present(path: &Path) -> Result<bool, HostError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(HostError::io("look at", path, &error)),
    }
}

/// Every mount point that this process sees (field 5 of `/proc/self/mountinfo`, proc(5)).
fn mounts() -> Result<Vec<PathBuf>, HostError> {
    let table = Path::new("/proc/self/mountinfo");
    let bytes = fs::read(table).doing("read", table)?;
    Ok(mount_points(&bytes))
}

fn mount_points(table: &[u8]) -> Vec<PathBuf> {
    table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
        .collect()
}

/// Undoes the octal escapes (`\040` for a blank) of the mount table.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after.first_chunk::<3>().filter(|_| *first == b'\\').and_then(octal);
        match code {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

fn octal(digits: &[u8; 3]) -> Option<u8> {
    let text = std::ffi::OsStr::from_bytes(digits).to_str()?;
    u8::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn marked_tree() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v1.0");
        let marker = mark(&path).unwrap();
        fs::create_dir_all(path.join("assets/a [1]")).unwrap();
        fs::write(path.join("assets/a [1]/x.png"), "x").unwrap();
        (dir, path, marker)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_marked_tree_goes_and_a_second_removal_finds_nothing() {
        let (dir, path, marker) = marked_tree();
        assert!(remove(&path, &marker).unwrap());
        assert!(names(dir.path()).is_empty());
        assert!(!remove(&path, &marker).unwrap());
    }

    #[test]
    fn a_tree_without_its_own_marker_stays() {
        let (dir, path, marker) = marked_tree();
        let other = dir.path().join("players");
        fs::create_dir(&other).unwrap();
        for wrong in [marker.clone(), marker_of(&other).unwrap()] {
            let refused = remove(&other, &wrong).unwrap_err();
            assert!(matches!(refused, HostError::NotOurs { .. }), "{refused}");
        }
        // A copied marker names the other tree, and proves nothing.
        fs::copy(&marker, marker_of(&other).unwrap()).unwrap();
        assert!(remove(&other, &marker_of(&other).unwrap()).is_err());
        assert!(other.is_dir() && path.is_dir());
    }

    #[test]
    fn links_are_removed_and_never_followed() {
        let (dir, path, marker) = marked_tree();
        let uploads = dir.path().join("uploads");
        fs::create_dir(&uploads).unwrap();
        fs::write(uploads.join("avatar.png"), "a").unwrap();
        symlink(&uploads, path.join("uploads")).unwrap();
        remove(&path, &marker).unwrap();
        assert_eq!(names(&uploads), ["avatar.png"]);
    }

    #[test]
    fn a_removal_that_died_anywhere_is_taken_up_again() {
        for label in ["remove.rename", "remove.tree", "remove.marker"] {
            let (dir, path, marker) = marked_tree();
            {
                let _armed = fault::arm(&format!("{label}=EIO"));
                assert_eq!(remove(&path, &marker).unwrap_err().errno(), Some(5), "{label}");
            }
            remove(&path, &marker).unwrap();
            assert!(names(dir.path()).is_empty(), "{label}: {:?}", names(dir.path()));
        }
    }

    #[test]
    fn mount_points_with_blanks_are_read() {
        let table = b"36 35 98:0 / /srv/my\\040game rw - ext4 /dev/x rw\n1 0 0:1 / / rw - a b c\n";
        assert_eq!(mount_points(table), [Path::new("/srv/my game"), Path::new("/")]);
    }
}
