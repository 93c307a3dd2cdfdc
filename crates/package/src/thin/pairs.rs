//! Which old file each wanted content is like: by content, by path, by name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use entracte_model::manifest::{Delta, Entry};
use entracte_model::{Hash, Manifest, RelPath};

use super::BASE_BYTES_MAX;

/// The files of the base, numbered by path: both sides number them so.
pub(super) struct BaseFiles<'a> {
    list: Vec<BaseFile<'a>>,
    by_hash: HashMap<Hash, u32>,
}

/// One file of the base.
#[derive(Debug, Clone, Copy)]
pub(super) struct BaseFile<'a> {
    pub path: &'a RelPath,
    pub size: u64,
    pub hash: Hash,
}

impl<'a> BaseFiles<'a> {
    pub(super) fn of(base: &'a Manifest) -> Self {
        let files = base.entries.iter().filter_map(|(path, entry)| match entry {
            Entry::File { size, hash, .. } => Some(BaseFile { path, size: *size, hash: *hash }),
            Entry::Dir {} | Entry::Link { .. } => None,
        });
        let list: Vec<_> = files.collect();
        let mut by_hash = HashMap::with_capacity(list.len());
        for (number, file) in (0..).zip(&list) {
            by_hash.entry(file.hash).or_insert(number);
        }
        Self { list, by_hash }
    }

    pub(super) fn get(&self, number: u32) -> Option<BaseFile<'a>> {
        self.list.get(usize::try_from(number).ok()?).copied()
    }

    fn at(&self, path: &RelPath) -> Option<u32> {
        let at = self.list.binary_search_by(|file| file.path.cmp(path)).ok()?;
        u32::try_from(at).ok()
    }
}

/// How an object is best sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pair {
    /// The base holds it, under this number.
    Copy(u32),
    /// It may be like this base file.
    Patch(u32),
    /// It is new.
    Add,
}

/// Finds the pair of each content of the delta. Base files in `drifted` are no pair.
pub(super) fn find(
    delta: &Delta,
    base: &BaseFiles<'_>,
    drifted: &BTreeSet<u32>,
) -> BTreeMap<Hash, Pair> {
    // Moved and edited: a deleted file of the same name, the largest of them.
    let mut gone: HashMap<&str, u32> = HashMap::new();
    for path in &delta.delete {
        let Some(number) = base.at(path) else { continue };
        let larger = |other: &u32| size(base, *other) < size(base, number);
        if !drifted.contains(&number) && gone.get(path.name()).is_none_or(larger) {
            gone.insert(path.name(), number);
        }
    }
    let mut pairs = BTreeMap::new();
    for (path, entry) in &delta.put {
        let Entry::File { size, hash, .. } = entry else { continue };
        let usable = |number: &u32| !drifted.contains(number) && patchable(base, *number, *size);
        let same = base.by_hash.get(hash).filter(|number| !drifted.contains(number));
        let pair = match same {
            Some(number) => Pair::Copy(*number),
            None => base
                .at(path)
                .filter(usable)
                .or_else(|| gone.get(path.name()).copied().filter(usable))
                .map_or(Pair::Add, Pair::Patch),
        };
        let known = pairs.entry(*hash).or_insert(pair);
        if *known == Pair::Add {
            *known = pair;
        }
    }
    pairs
}

fn size(base: &BaseFiles<'_>, number: u32) -> u64 {
    base.get(number).map_or(0, |file| file.size)
}

/// Whether looking through the old file is worth it: a short content of a huge one is as quickly
/// sent.
fn patchable(base: &BaseFiles<'_>, number: u32, size: u64) -> bool {
    base.get(number)
        .is_some_and(|file| file.size > 0 && (file.size <= BASE_BYTES_MAX || file.size / 8 <= size))
}
