//! Copying into a package's folder: what is hashed is what is copied.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use entracte_model::manifest::{Delta, Entry};
use entracte_model::record::{Named, Record};
use entracte_model::{Hash, RelPath};

use super::PackFault;
use crate::archive::layout;
use crate::beneath::Root;
use crate::error::At;
use crate::files::{Sparse, hash_into};
use crate::scripts::{self, Script};
use crate::{PackageError, Progress};

/// Copies what the delta puts from `root` into `into`. What is no longer what the scan saw is
/// refused.
pub(super) fn copy(
    root: &Path,
    delta: &Delta,
    into: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), PackageError> {
    let from = Root::open(root)?;
    let to = Root::open(into)?;
    let total = delta.bytes();
    let mut done = 0;
    for (path, entry) in &delta.put {
        to.mkdir_above(path)?;
        let same = match entry {
            Entry::File { size, hash, exec } => {
                let copied = copy_file(&from, &to, path)?;
                copied == (*size, *hash, *exec)
            }
            Entry::Dir {} => {
                if to.stat(path)?.is_none() {
                    to.mkdir(path, 0o755)?;
                }
                is_dir(&from, path)?
            }
            Entry::Link { target } => {
                to.symlink(path, Path::new(target))?;
                from.stat(path)?.is_some() && from.read_link(path)? == Path::new(target)
            }
        };
        if !same {
            return Err(PackFault::Changed(path.clone()).into());
        }
        done += entry.size();
        progress(Progress { done, total, unit: "bytes", note: format!("copying {path}") });
    }
    Ok(())
}

fn is_dir(from: &Root, path: &RelPath) -> Result<bool, PackageError> {
    // The folder around a persistent path is listed whether it is there or not.
    Ok(from.stat(path)?.is_none_or(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory
    }))
}

fn copy_file(from: &Root, to: &Root, path: &RelPath) -> Result<(u64, Hash, bool), PackageError> {
    let gone = from.stat(path)?.is_none_or(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile
    });
    if gone {
        return Err(PackFault::Changed(path.clone()).into());
    }
    let mut source = from.read(path)?;
    let meta = source.metadata().at("look at", &from.full(path))?;
    let exec = meta.mode() & 0o100 != 0;
    let mut target = to.create(path)?;
    let full = to.full(path);
    let mut sparse = Sparse::new(&mut target);
    let sink = |chunk: &[u8]| sparse.put(chunk).at("write", &full);
    let (size, hash) = hash_into(&mut source, sink, &from.full(path))?;
    sparse.end().at("write", &full)?;
    let mode = if exec { 0o755 } else { 0o644 };
    target.set_permissions(fs::Permissions::from_mode(mode)).at("change the mode of", &full)?;
    Ok((size, hash, exec))
}

/// Copies scripts, in their order.
pub(super) fn copy_scripts(scripts: &[Script], into: &Path) -> Result<Vec<Named>, PackageError> {
    let copy = |script: &Script| {
        let to = into.join(&script.name);
        let mut source = File::open(&script.path).at("open", &script.path)?;
        let mut target = File::create_new(&to).at("create", &to)?;
        let sink = |chunk: &[u8]| target.write_all(chunk).at("write", &to);
        let (size, hash) = hash_into(&mut source, sink, &script.path)?;
        Ok(Named { name: script.name.clone(), size, hash })
    };
    scripts.iter().map(copy).collect()
}

/// Writes one document.
pub(super) fn document(into: &Path, name: &str, bytes: &[u8]) -> Result<Named, PackageError> {
    let bad = || PackFault::DocumentName(name.to_owned());
    let rel: RelPath = name.parse().map_err(|_| bad())?;
    if name.contains('/') || scripts::is_down(name) || into.join(&rel).exists() {
        return Err(bad().into());
    }
    put(into, name, bytes)?;
    Ok(Named { name: rel, size: bytes.len() as u64, hash: Hash::of(bytes) })
}

/// Refuses if an earlier package's documents hold what neither it nor this one wrote: a person's
/// text is never overwritten.
pub(super) fn check_unedited(
    folder: &Path,
    documents: &[(String, Vec<u8>)],
) -> Result<(), PackageError> {
    let earlier = fs::read(folder.join(layout::RECORD)).unwrap_or_default();
    let earlier: Option<Record> = serde_json::from_slice(&earlier).ok();
    let listed = earlier.map(|record| record.documents).unwrap_or_default();
    let Ok(entries) = fs::read_dir(folder.join(layout::DOCUMENTATION)) else { return Ok(()) };
    for entry in entries {
        let path = entry.at("read the folder", folder)?.path();
        let bytes = fs::read(&path).at("read", &path)?;
        let named = |name: &str| path.file_name().is_some_and(|found| found == name);
        let written =
            listed.iter().any(|old| named(old.name.as_str()) && old.hash == Hash::of(&bytes))
                || documents.iter().any(|(name, text)| named(name) && *text == bytes);
        if !written {
            return Err(PackFault::Edited(path).into());
        }
    }
    Ok(())
}

/// Writes a file that was not there.
pub(super) fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), PackageError> {
    let path = folder.join(name);
    let mut file = File::create_new(&path).at("create", &path)?;
    file.write_all(bytes).at("write", &path)
}

/// Removes what an interrupted run left.
pub(super) fn remove_left_over(path: &Path) -> Result<(), PackageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at("remove", path),
        _ => Ok(()),
    }
}

/// Makes everything in `folder` durable: one call for the file system, instead of one a file.
pub(super) fn sync_all(folder: &Path) -> Result<(), PackageError> {
    let handle = File::open(folder).at("open the folder", folder)?;
    rustix::fs::syncfs(handle).at("sync the file system of", folder)
}
