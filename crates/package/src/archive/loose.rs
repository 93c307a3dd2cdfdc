//! A package as a folder, the form in which one arrives: record, signature, and each content once,
//! under its hash. What it holds is read as distrustfully as what a file holds.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use entracte_model::record::Record;
use entracte_model::{Hash, RelPath};

use super::walk::{self, Flow, Item, Visit};
use super::{BadArchive, RECORD_BYTES_MAX, Verified, layout, lies_in_sql};
use crate::beneath::Root;
use crate::error::At;
use crate::{PackageError, keys};

/// Record and signature of the folder at `path`, before anything is believed.
pub(super) fn head(path: &Path) -> Result<(Vec<u8>, String), PackageError> {
    let root = Root::open(path)?;
    let text = small(&root, layout::RECORD, RECORD_BYTES_MAX)?;
    let signature = small(&root, layout::SIGNATURE, keys::TEXT_BYTES_MAX as u64)?;
    Ok((text, String::from_utf8(signature).map_err(|_| keys::KeyError::Malformed)?))
}

fn small(root: &Root, name: &str, max: u64) -> Result<Vec<u8>, PackageError> {
    let rel: RelPath = name.parse().expect("names of a package are paths");
    let mut bytes = Vec::new();
    root.read(&rel)?.take(max + 1).read_to_end(&mut bytes).at("read", &root.full(&rel))?;
    match bytes.len() as u64 {
        size if size > max => Err(BadArchive::TooLong { name: name.to_owned(), size, max }.into()),
        _ => Ok(bytes),
    }
}

/// Where in `folder` a content lies.
pub(crate) fn place(folder: &Path, hash: &Hash) -> PathBuf {
    folder.join(hash.to_string())
}

/// Gives each thing that the record lists to `visit`, in the order of an archive.
pub(super) fn walk(
    folder: &Path,
    verified: &Verified,
    visit: &mut Visit<'_>,
) -> Result<(), PackageError> {
    let root = Root::open(folder)?;
    for item in items(&verified.record) {
        let flow = match walk::expected(item) {
            Some((size, hash)) => {
                let mut content = content(&root, &hash, size)?;
                walk::one(item, &mut content, &place(folder, &hash), &name(item), visit)?
            }
            None => walk::one(item, &mut std::io::empty(), folder, &name(item), visit)?,
        };
        if flow == Flow::Enough {
            break;
        }
    }
    Ok(())
}

/// One byte more than there should be: a file that is too long is seen, and not read to its end.
fn content(root: &Root, hash: &Hash, size: u64) -> Result<std::io::Take<File>, PackageError> {
    let rel: RelPath = hash.to_string().parse().expect("a hash in hexadecimal digits is a path");
    Ok(root.read(&rel)?.take(size.saturating_add(1)))
}

fn items(record: &Record) -> impl Iterator<Item = Item<'_>> {
    let documents = |in_sql| {
        let documents = record.documents.iter().filter(move |named| lies_in_sql(named) == in_sql);
        documents.map(Item::Document)
    };
    documents(false)
        .chain(record.scripts.iter().map(Item::Script))
        .chain(documents(true))
        .chain(record.delta.put.iter().map(|(path, entry)| Item::Source(path, entry)))
}

/// What a message calls it: its path in an archive.
fn name(item: Item<'_>) -> String {
    match item {
        Item::Document(named) if !lies_in_sql(named) => {
            format!("{}/{}", layout::DOCUMENTATION, named.name)
        }
        Item::Document(named) | Item::Script(named) => format!("{}/{}", layout::SQL, named.name),
        Item::Source(path, _) => format!("{}/{path}", layout::SOURCE),
    }
}
