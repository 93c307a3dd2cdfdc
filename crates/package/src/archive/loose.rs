//! A package as a folder, the form in which one arrives: record, signature, and each content once,
//! under its hash or among the small ones. What it holds is read as distrustfully as what a file
//! holds.

use std::io::{self, Read};
use std::path::Path;

use entracte_model::record::Record;
use entracte_model::{Hash, RelPath};

use super::small::{self, Small};
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

/// The contents in a folder.
pub(crate) struct Folder {
    root: Root,
    small: Option<Small>,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, PackageError> {
        let root = Root::open(path)?;
        let name: RelPath = small::NAME.parse().expect("the name is a path");
        let small = match root.stat(&name)? {
            Some(_) => Some(Small::of(root.read(&name)?, &root.full(&name))?),
            None => None,
        };
        Ok(Self { root, small })
    }

    /// A content, perhaps: whoever reads it compares its hash. At most one byte more than there
    /// should be: a file that is too long is seen, and not read to its end.
    pub(crate) fn content(
        &self,
        hash: &Hash,
        size: u64,
    ) -> Result<Box<dyn Read + '_>, PackageError> {
        if let Some(content) = self.small.as_ref().and_then(|small| small.content(hash)) {
            return Ok(Box::new(content));
        }
        let rel: RelPath = hash.to_string().parse().expect("a hash's digits are a path");
        Ok(Box::new(self.root.read(&rel)?.take(size.saturating_add(1))))
    }
}

/// Gives each thing that the record lists to `visit`, in the order of an archive.
pub(super) fn walk(
    path: &Path,
    verified: &Verified,
    visit: &mut Visit<'_>,
) -> Result<(), PackageError> {
    let folder = Folder::open(path)?;
    for item in items(&verified.record) {
        let mut content: Box<dyn Read> = match walk::expected(item) {
            Some((size, hash)) => folder.content(&hash, size)?,
            None => Box::new(io::empty()),
        };
        if walk::one(item, &mut content, path, &name(item), visit)? == Flow::Enough {
            break;
        }
    }
    Ok(())
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
