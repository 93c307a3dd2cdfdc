//! Reading all fragments of a folder.

use std::fs;
use std::io::Read;
use std::path::Path;

use super::read::{FRAGMENT_BYTES_MAX, Place, parse};
use super::{Fragment, FragmentError};

/// The most entries that a folder of fragments may have.
pub const FRAGMENTS_MAX: usize = 5_000;

/// Every fragment of the folder `dir`, sorted by slug. Only `*.md` files may be there, and a `README.md`,
/// which is not read. A folder that does not exist holds no fragment.
///
/// # Errors
/// Every file that is not a good fragment and every entry that does not belong there, sorted by name.
pub fn read_folder(dir: &Path) -> Result<Vec<Fragment>, Vec<FragmentError>> {
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for entry in entries(dir).map_err(|error| vec![error])? {
        match read_entry(&entry) {
            Ok(Some(fragment)) => good.push(fragment),
            Ok(None) => {}
            Err(error) => bad.push(error),
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(bad) }
}

fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>, FragmentError> {
    let name = dir.display().to_string();
    let at = Place { file: &name };
    let unreadable = |error: &std::io::Error| {
        at.error(0, "a folder that can be read", &error.to_string(), "check its permissions")
    };
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&error)),
    };
    let mut all = Vec::new();
    for entry in listing {
        all.push(entry.map_err(|error| unreadable(&error))?);
        if all.len() > FRAGMENTS_MAX {
            let hint = "remove fragments that releases have used";
            return Err(at.error(0, &format!("at most {FRAGMENTS_MAX} files"), "more", hint));
        }
    }
    all.sort_by_key(fs::DirEntry::file_name);
    Ok(all)
}

fn read_entry(entry: &fs::DirEntry) -> Result<Option<Fragment>, FragmentError> {
    let path = entry.path().display().to_string();
    let at = Place { file: &path };
    let unreadable = |error: &std::io::Error| {
        at.error(0, "a file that can be read", &error.to_string(), "check its permissions")
    };
    // Not followed: a link could name any file of the machine, and its text would be published.
    if !entry.file_type().map_err(|error| unreadable(&error))?.is_file() {
        return Err(at.error(
            0,
            "only files",
            "a folder, a link or something else",
            "move it elsewhere",
        ));
    }
    let name = entry.file_name();
    if name == "README.md" {
        return Ok(None);
    }
    if Path::new(&name).extension().is_none_or(|extension| extension != "md") {
        let found = format!("{}", name.display());
        return Err(at.error(
            0,
            "only fragments, named *.md",
            &found,
            "rename it or move it elsewhere",
        ));
    }
    let limit = u64::try_from(FRAGMENT_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    let mut bytes = Vec::new();
    fs::File::open(entry.path())
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| unreadable(&error))?;
    parse(&path, &bytes).map(Some)
}
