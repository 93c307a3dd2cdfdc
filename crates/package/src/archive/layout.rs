//! The names in a package: `documentation/`, `source/`, `SQL/`, the record and its signature.

use std::fs;
use std::path::Path;

use crate::PackageError;
use crate::error::At;
use crate::pack::PackFault;

/// The signed record.
pub(crate) const RECORD: &str = "release.json";
/// The signature over it.
pub(crate) const SIGNATURE: &str = "release.json.minisig";
/// Patch notes, procedure, list of changes.
pub(crate) const DOCUMENTATION: &str = "documentation";
/// New and changed files, in the server's own tree.
pub(crate) const SOURCE: &str = "source";
/// Database scripts.
pub(crate) const SQL: &str = "SQL";
/// The folders of a package.
pub(crate) const FOLDERS: [&str; 3] = [DOCUMENTATION, SQL, SOURCE];

/// Whether `folder` is not there, or holds nothing but what a package holds: then it may be
/// replaced.
pub(crate) fn check_ours(folder: &Path) -> Result<(), PackageError> {
    let foreign = |found: &str| {
        let (folder, found) = (folder.to_owned(), found.to_owned());
        PackageError::from(PackFault::ForeignFolder { folder, found })
    };
    match folder.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).at("look at", folder),
        Ok(meta) if !meta.is_dir() => return Err(foreign("something that is no folder")),
        Ok(_) => {}
    }
    for entry in fs::read_dir(folder).at("read the folder", folder)? {
        let name = entry.at("read the folder", folder)?.file_name();
        let name = name.to_string_lossy();
        if !FOLDERS.contains(&name.as_ref()) && name != RECORD && name != SIGNATURE {
            return Err(foreign(&name));
        }
    }
    Ok(())
}

/// A place in a package, by a path below its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// One of [`FOLDERS`] itself.
    Folder,
    /// The record or the signature.
    Head,
    /// A name below `documentation/`.
    Documentation(&'a str),
    /// A name below `SQL/`.
    Sql(&'a str),
    /// A path below `source/`.
    Source(&'a str),
    /// No place at all.
    Stray,
}

/// Which place `path` is.
pub(crate) fn place(path: &str) -> Place<'_> {
    if FOLDERS.contains(&path) {
        return Place::Folder;
    }
    if path == RECORD || path == SIGNATURE {
        return Place::Head;
    }
    match path.split_once('/') {
        Some((DOCUMENTATION, name)) => Place::Documentation(name),
        Some((SQL, name)) => Place::Sql(name),
        Some((SOURCE, path)) => Place::Source(path),
        _ => Place::Stray,
    }
}
