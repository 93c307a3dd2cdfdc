//! The switch between two versions: an atomic exchange of two folders, or of what a link holds.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::error::{Doing, kind_in_words};
use crate::op::Identity;
use crate::{HostError, durable, fault, tree};

/// Exchanges the folders at `a` and `b` in one step and makes that durable; returns what stands
/// at `a` and at `b` now.
///
/// Nobody ever sees either name missing. A crash before the sync of the parents costs at most the
/// exchange itself: each name then holds its old folder again, whole. An error that says `sync`
/// means that the exchange was made.
///
/// # Errors
/// A refusal that changed nothing (not two folders, two file systems, one inside the other, a
/// mount point, no such operation on this file system), or an error of the operating system.
pub fn exchange(a: &Path, b: &Path) -> Result<(Identity, Identity), HostError> {
    let (at_a, at_b) = (folder(a)?, folder(b)?);
    if at_a.device != at_b.device {
        return Err(HostError::OtherFileSystem { a: a.to_owned(), b: b.to_owned() });
    }
    refuse_nested(a, b)?;
    for path in [a, b] {
        tree::refuse_mount_at(path)?;
    }
    fault::check("exchange.swap").doing("exchange", a)?;
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).map_err(|errno| match errno {
        // The same device is no proof: a bind mount shares it and still cannot be crossed.
        Errno::XDEV => HostError::OtherFileSystem { a: a.to_owned(), b: b.to_owned() },
        Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => {
            HostError::NoExchange { path: a.to_owned() }
        }
        other => HostError::io("exchange", a, &other.into()),
    })?;
    fault::check("exchange.sync").doing("sync the folder around", a)?;
    durable::sync_parent(a).doing("sync the folder around", a)?;
    if durable::parent(a) != durable::parent(b) {
        durable::sync_parent(b).doing("sync the folder around", b)?;
    }
    Ok((at_b, at_a))
}

/// Lets the symbolic link `link` hold `to`, in one step, durably; returns what it held before.
///
/// The new link is made beside the old one and renamed over it. A crash between the two leaves
/// a link named `.<name>.entracte-new`, which the next call replaces and nothing ever follows.
///
/// # Errors
/// Where `link` is something else than a link (it is never removed), `to` is no folder, or the
/// operating system refuses.
pub fn point_link(link: &Path, to: &Path) -> Result<Option<PathBuf>, HostError> {
    let name = link.file_name().ok_or_else(|| HostError::BadPath { path: link.to_owned() })?;
    let previous = match fs::read_link(link) {
        Ok(held) => Some(held),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let found = kind_in_words(link)?.to_owned();
            return Err(HostError::NotALink { link: link.to_owned(), found });
        }
        Err(error) => return Err(HostError::io("read the link", link, &error)),
    };
    let parent = durable::parent(link);
    folder(&parent.join(to))?;
    if previous.as_deref() != Some(to) {
        let mut fresh = std::ffi::OsString::from(".");
        fresh.push(name);
        fresh.push(".entracte-new");
        let fresh = parent.join(fresh);
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(HostError::io("remove the leftover", &fresh, &error));
            }
            Ok(()) | Err(_) => {}
        }
        fault::check("link.create").doing("create the link", &fresh)?;
        symlink(to, &fresh).doing("create the link", &fresh)?;
        fault::check("link.rename").doing("put the new link over", link)?;
        fs::rename(&fresh, link).doing("put the new link over", link)?;
    }
    // Also where it held `to` already: an earlier call may have died before this sync.
    fault::check("link.sync").doing("sync the folder around", link)?;
    durable::sync_parent(link).doing("sync the folder around", link)?;
    Ok(previous)
}

/// The identity of the real folder at `path`.
fn folder(path: &Path) -> Result<Identity, HostError> {
    if path.file_name().is_none() {
        return Err(HostError::BadPath { path: path.to_owned() });
    }
    let found = kind_in_words(path)?;
    if found != "a folder" {
        let hint = match found {
            "a symbolic link" => "name the folder that it points to, or use `layout = \"symlink\"`",
            "missing" => "check the path in the configuration",
            _ => "move it away",
        };
        return Err(HostError::NotAFolder {
            path: path.to_owned(),
            found: found.to_owned(),
            hint: hint.to_owned(),
        });
    }
    let meta = fs::symlink_metadata(path).doing("look at", path)?;
    Ok(Identity { device: meta.dev(), inode: meta.ino() })
}

fn refuse_nested(a: &Path, b: &Path) -> Result<(), HostError> {
    let real = |path: &Path| path.canonicalize().doing("resolve", path);
    let (real_a, real_b) = (real(a)?, real(b)?);
    if real_a.starts_with(&real_b) {
        return Err(HostError::Nested { inner: a.to_owned(), outer: b.to_owned() });
    }
    if real_b.starts_with(&real_a) {
        return Err(HostError::Nested { inner: b.to_owned(), outer: a.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_trees() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("game"), dir.path().join("staged"));
        for (path, text) in [(&a, "old"), (&b, "new")] {
            fs::create_dir(path).unwrap();
            fs::write(path.join("index.php"), text).unwrap();
        }
        (dir, a, b)
    }

    fn text(tree: &Path) -> String {
        fs::read_to_string(tree.join("index.php")).unwrap()
    }

    #[test]
    fn an_exchange_swaps_the_trees_and_a_second_one_swaps_back() {
        let (_dir, a, b) = two_trees();
        let before = (folder(&a).unwrap(), folder(&b).unwrap());
        let after = exchange(&a, &b).unwrap();
        assert_eq!((text(&a), text(&b)), ("new".into(), "old".into()));
        assert_eq!(after, (before.1, before.0));
        assert_eq!(exchange(&a, &b).unwrap(), before);
        assert_eq!(text(&a), "old");
    }

    #[test]
    fn what_is_no_folder_is_refused_with_what_it_is() {
        let (dir, a, b) = two_trees();
        let link = dir.path().join("link");
        symlink(&b, &link).unwrap();
        let said = exchange(&a, &link).unwrap_err().to_string();
        assert!(said.contains("is a symbolic link"), "{said}");
        let said = exchange(&a, &dir.path().join("gone")).unwrap_err().to_string();
        assert!(said.contains("is missing"), "{said}");
        assert_eq!(text(&a), "old");
    }

    #[test]
    fn one_inside_the_other_is_refused() {
        let (_dir, a, _b) = two_trees();
        fs::create_dir(a.join("next")).unwrap();
        assert!(matches!(exchange(&a, &a.join("next")), Err(HostError::Nested { .. })));
        assert!(matches!(exchange(&a.join("next"), &a), Err(HostError::Nested { .. })));
    }

    #[test]
    fn a_fault_before_the_swap_changes_nothing_and_one_after_it_is_said() {
        let (_dir, a, b) = two_trees();
        {
            let _armed = fault::arm("exchange.swap=EIO");
            assert_eq!(exchange(&a, &b).unwrap_err().errno(), Some(5));
        }
        assert_eq!(text(&a), "old");
        let _armed = fault::arm("exchange.sync=EIO");
        assert!(exchange(&a, &b).unwrap_err().to_string().contains("sync"));
        assert_eq!(text(&a), "new");
    }

    #[test]
    fn a_link_is_created_moved_and_left_alone() {
        let (dir, _, _) = two_trees();
        let link = dir.path().join("current");
        assert_eq!(point_link(&link, Path::new("game")).unwrap(), None);
        assert_eq!(text(&link), "old");
        assert_eq!(point_link(&link, Path::new("staged")).unwrap(), Some("game".into()));
        assert_eq!(text(&link), "new");
        assert_eq!(point_link(&link, Path::new("staged")).unwrap(), Some("staged".into()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_leftover_of_a_killed_call_is_never_published() {
        let (dir, _, _) = two_trees();
        let link = dir.path().join("current");
        point_link(&link, Path::new("game")).unwrap();
        {
            let _armed = fault::arm("link.rename=EIO");
            point_link(&link, Path::new("staged")).unwrap_err();
        }
        assert_eq!(text(&link), "old");
        fs::create_dir(dir.path().join("third")).unwrap();
        fs::write(dir.path().join("third/index.php"), "third").unwrap();
        point_link(&link, Path::new("third")).unwrap();
        assert_eq!(text(&link), "third");
    }

    #[test]
    fn a_real_folder_at_the_link_is_never_removed() {
        let (_dir, a, b) = two_trees();
        let refused = point_link(&a, &b).unwrap_err();
        assert!(matches!(refused, HostError::NotALink { .. }), "{refused}");
        assert_eq!(text(&a), "old");
    }

    #[test]
    fn a_link_to_nothing_is_refused() {
        let (dir, _, _) = two_trees();
        let link = dir.path().join("current");
        assert!(matches!(point_link(&link, Path::new("gone")), Err(HostError::NotAFolder { .. })));
        assert!(fs::symlink_metadata(&link).is_err());
    }
}
