//! What a machine has: room, file systems, clock, name.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use entracte_model::UnixMs;
use rustix::fs::statvfs;
use rustix::process::getuid;
use rustix::system::uname;
use serde::{Deserialize, Serialize};

use crate::HostError;
use crate::error::Doing;
use crate::op::Identity;

/// What a machine has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its name, as it gives it itself.
    pub hostname: String,
    /// The user that acts there.
    pub uid: u32,
    /// What its clock says.
    pub clock: UnixMs,
    /// The places that were asked about, in that order.
    pub paths: Vec<PathFacts>,
}

/// What is known of one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathFacts {
    /// The place that was asked about.
    pub path: PathBuf,
    /// What tells it from others; none where it does not exist (links are not followed).
    pub identity: Option<Identity>,
    /// The nearest folder that exists, which answers for the rest.
    pub answered_by: PathBuf,
    /// The file system (`st_dev`): two places can be exchanged, or share a file, only within one.
    pub device: u64,
    /// Room for this user, in bytes.
    pub free_bytes: u64,
    /// Files that can still be made; none where the file system has no such limit.
    pub free_inodes: Option<u64>,
    /// Whether the file system is mounted read-only.
    pub read_only: bool,
}

/// The facts of this machine.
///
/// # Errors
/// Where a place cannot be looked at.
pub fn facts(paths: &[PathBuf]) -> Result<Facts, HostError> {
    Ok(Facts {
        hostname: uname().nodename().to_string_lossy().into_owned(),
        uid: getuid().as_raw(),
        clock: clock(),
        paths: paths.iter().map(|path| path_facts(path)).collect::<Result<_, _>>()?,
    })
}

/// What this machine's clock says; 1970 where it stands before that.
pub fn clock() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn path_facts(path: &Path) -> Result<PathFacts, HostError> {
    if !path.is_absolute() {
        return Err(HostError::BadPath { path: path.to_owned() });
    }
    let identity = match std::fs::symlink_metadata(path) {
        Ok(meta) => Some(Identity { device: meta.dev(), inode: meta.ino() }),
        Err(error) if is_missing(&error) => None,
        Err(error) => return Err(HostError::io("look at", path, &error)),
    };
    let answered_by = nearest(path)?;
    let device = std::fs::metadata(&answered_by).doing("look at", &answered_by)?.dev();
    let room = statvfs(&answered_by).doing("ask for the room at", &answered_by)?;
    Ok(PathFacts {
        path: path.to_owned(),
        identity,
        device,
        free_bytes: room.f_bavail.saturating_mul(room.f_frsize),
        // Some file systems (btrfs) make inodes as they need them and report none in all.
        free_inodes: (room.f_files > 0).then_some(room.f_favail),
        read_only: room.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        answered_by,
    })
}

/// The nearest folder at or above `path` that exists.
fn nearest(path: &Path) -> Result<PathBuf, HostError> {
    for place in path.ancestors() {
        match std::fs::metadata(place) {
            Ok(meta) if meta.is_dir() => return Ok(place.to_owned()),
            Ok(_) => {}
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(HostError::io("look at", place, &error)),
        }
    }
    Err(HostError::BadPath { path: path.to_owned() })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_does_not_exist_is_answered_by_the_folder_above() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("game");
        std::fs::write(&there, "x").unwrap();
        let missing = dir.path().join("releases/v1.1");
        let found = facts(&[there.clone(), missing.clone()]).unwrap();
        assert!(found.paths[0].identity.is_some());
        assert_eq!(found.paths[1].identity, None);
        assert_eq!(found.paths[1].answered_by, dir.path());
        assert_eq!(found.paths[0].device, found.paths[1].device);
        assert!(found.paths[0].free_bytes > 0);
        assert!(!found.hostname.is_empty());
        assert!(found.clock > UnixMs(1_600_000_000_000));
    }

    #[test]
    fn a_relative_place_is_refused() {
        assert!(matches!(facts(&["game".into()]), Err(HostError::BadPath { .. })));
    }
}
