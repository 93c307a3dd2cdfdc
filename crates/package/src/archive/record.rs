//! The text of a record, and whether a record is one that can be.

use std::collections::BTreeSet;

use entracte_model::manifest::{BadDelta, Entry};
use entracte_model::record::{FORMAT, Record};
use entracte_model::{Manifest, RelPath};

use super::{BadArchive, DOCUMENT_BYTES_MAX, SCRIPT_BYTES_MAX};
use crate::{GIT_DIR, links, scripts};

/// Names that this program uses for its own files beside or in a tree begin so.
pub(crate) const OWN_PREFIX: &str = ".entracte-";

/// The one text of a record. It is what is signed.
pub(crate) fn text(record: &Record) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(record)
        .expect("a record has only text keys, so that it always has a JSON form");
    text.push(b'\n');
    text
}

/// Reads a record; its text must be the one that [`text`] gives.
pub(crate) fn parse(bytes: &[u8]) -> Result<Record, BadArchive> {
    /// Read first, so that a newer format is called so and not a mistake.
    #[derive(serde::Deserialize)]
    struct Format {
        format: u64,
    }
    let format = serde_json::from_slice::<Format>(bytes).map_err(BadArchive::Record)?.format;
    if format > u64::from(FORMAT) {
        return Err(BadArchive::Format(format));
    }
    let record: Record = serde_json::from_slice(bytes).map_err(BadArchive::Record)?;
    if text(&record) != bytes {
        return Err(BadArchive::NotCanonical);
    }
    Ok(record)
}

/// Whether what the record lists can be, whatever production holds.
pub(crate) fn check(record: &Record) -> Result<(), BadArchive> {
    let delta = &record.delta;
    for (path, entry) in &delta.put {
        reserved(path)?;
        match entry {
            Entry::Link { target } if !links::stays_inside(path, target) => {
                let (path, target) = (path.to_string(), target.clone());
                return Err(BadArchive::LinkLeaves { path, target });
            }
            _ => {}
        }
        if delta.delete.contains(path) {
            return Err(BadDelta::DeletesAndPuts(path.clone()).into());
        }
    }
    let put = Manifest { entries: delta.put.clone() };
    put.check()?;
    if let Some((first, second)) = put.collisions().into_iter().next() {
        return Err(BadDelta::Collides(first, second).into());
    }
    listings(record)
}

/// Scripts run in the order of their numbers, whatever order the record lists them in: so it must
/// list them in that order, and everything once.
fn listings(record: &Record) -> Result<(), BadArchive> {
    let listing = |name: &RelPath| BadArchive::Listing(name.to_string());
    let mut seen = BTreeSet::new();
    for named in &record.scripts {
        if scripts::is_down(named.name.as_str()) || named.size > SCRIPT_BYTES_MAX {
            return Err(listing(&named.name));
        }
    }
    if let Some(long) = record.documents.iter().find(|named| named.size > DOCUMENT_BYTES_MAX) {
        return Err(listing(&long.name));
    }
    for named in record.scripts.iter().chain(&record.documents) {
        let name = &named.name;
        if name.as_str().contains('/') || !seen.insert(name) {
            return Err(listing(name));
        }
    }
    let paths = record.scripts.iter().map(|named| named.name.as_str().into()).collect();
    let ordered = scripts::order(paths).map_err(|bad| BadArchive::Listing(bad.to_string()))?;
    let wrong = ordered.up.iter().zip(&record.scripts).find(|(a, b)| a.name != b.name);
    wrong.map_or(Ok(()), |(_, named)| Err(listing(&named.name)))
}

fn reserved(path: &RelPath) -> Result<(), BadArchive> {
    let is_reserved = |name: &str| {
        let name = name.to_lowercase();
        name == GIT_DIR || name.starts_with(OWN_PREFIX)
    };
    if path.as_str().split('/').any(is_reserved) {
        return Err(BadArchive::Reserved(path.to_string()));
    }
    Ok(())
}
