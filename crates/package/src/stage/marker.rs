//! What this program made, and so may remove: told by a marker file beside the tree.
//!
//! The marker names the tree's device and inode. After trees were exchanged, the live tree that
//! stands under the staged name is another inode, and is not taken for something to remove.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{StageFault, identity};
use crate::PackageError;
use crate::error::At;
use crate::files::{beside, sync_dir, write_whole};

const SUFFIX: &str = ".entracte-staging";

/// Makes an empty folder at `staged`, with its marker. What an interrupted run left goes first.
///
/// A crash between the two can cost an empty folder without a marker; an empty one is taken.
pub(super) fn prepare(staged: &Path) -> Result<(), PackageError> {
    remove(staged)?;
    fs::create_dir(staged).at("create the folder", staged)?;
    mark(staged)
}

/// Marks a tree as one that [`remove`] may remove: an old version that retention gives up.
pub fn mark(tree: &Path) -> Result<(), PackageError> {
    let (device, inode) = identity(tree).at("look at", tree)?;
    write_whole(&beside(tree, SUFFIX), format!("{device}:{inode}\n").as_bytes())
}

/// Removes a tree that [`super::build`] made or [`mark`] named, and its marker. Nothing there is
/// fine; anything else there is refused. Links are removed, not followed.
///
/// A crash can cost a partly removed tree with its marker: remove it again.
pub fn remove(staged: &Path) -> Result<(), PackageError> {
    let marker = beside(staged, SUFFIX);
    match fs::symlink_metadata(staged) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).at("look at", staged),
        Ok(meta) if !meta.is_dir() => return Err(StageFault::Foreign(staged.to_owned()).into()),
        Ok(_) => {
            if !is_ours(staged, &marker)? {
                return Err(StageFault::Foreign(staged.to_owned()).into());
            }
            refuse_mounts(staged)?;
            fs::remove_dir_all(staged).at("remove the tree", staged)?;
        }
    }
    match fs::remove_file(&marker) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).at("remove", &marker),
        Ok(()) => match staged.parent() {
            Some(parent) => sync_dir(parent),
            None => Ok(()),
        },
    }
}

fn is_ours(staged: &Path, marker: &Path) -> Result<bool, PackageError> {
    if fs::read_dir(staged).at("read the folder", staged)?.next().is_none() {
        return Ok(true);
    }
    let (device, inode) = identity(staged).at("look at", staged)?;
    match fs::read_to_string(marker) {
        Ok(text) => Ok(text == format!("{device}:{inode}\n")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at("read", marker),
    }
}

/// Removing would empty what is mounted below, before it fails at the mount itself.
fn refuse_mounts(tree: &Path) -> Result<(), PackageError> {
    let list = Path::new("/proc/self/mountinfo");
    let mounts = fs::read(list).at("read", list)?;
    let tree = tree.canonicalize().at("find", tree)?;
    for line in mounts.split(|byte| *byte == b'\n') {
        let Some(point) = line.split(|byte| *byte == b' ').nth(4) else { continue };
        let point = unescape(point);
        if point.starts_with(&tree) {
            return Err(StageFault::Mounted(point).into());
        }
    }
    Ok(())
}

/// The kernel writes spaces, tabs, newlines and backslashes as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\');
        let code = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// The real path of what may not be there yet: its folder is resolved, its name kept.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, PackageError> {
    let full = std::path::absolute(path).at("find", path)?;
    if let Ok(real) = full.canonicalize() {
        return Ok(real);
    }
    match (full.parent(), full.file_name()) {
        (Some(parent), Some(name)) => Ok(absolute(parent)?.join(name)),
        _ => Ok(full),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_with_a_space_is_read_as_it_is() {
        assert_eq!(unescape(br"/srv/my\040game\134x"), Path::new(r"/srv/my game\x"));
        assert_eq!(unescape(br"/a\9"), Path::new(r"/a\9"));
    }

    #[test]
    fn only_a_marked_or_empty_folder_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("file"), "x").unwrap();
        let refused = remove(&tree);
        assert!(matches!(refused, Err(PackageError::Stage(StageFault::Foreign(_)))));
        mark(&tree).unwrap();
        // Another folder under the same name, as after an exchange.
        fs::rename(&tree, dir.path().join("away")).unwrap();
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("file"), "live").unwrap();
        assert!(remove(&tree).is_err());
        assert_eq!(fs::read_to_string(tree.join("file")).unwrap(), "live");
        mark(&tree).unwrap();
        remove(&tree).unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists());
    }
}
