//! Where a sender has the contents of old versions from.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use entracte_model::manifest::Entry;
use entracte_model::{Hash, RelPath};

use super::matches::{Old, Stored};
use super::pairs::BaseFile;
use crate::PackageError;
use crate::archive::{Archive, Flow, Item};
use crate::beneath::Root;
use crate::error::At;
use crate::files::hash_into;

/// What was found in archives: one file without a name, and where in it each content begins and how
/// long it is.
type Spool = (File, HashMap<Hash, (u64, u64)>);

/// Old contents that the sender can make patches of. What it does not have is sent whole: nothing
/// depends upon it but the number of bytes that travel.
#[derive(Default)]
pub struct Olds {
    trees: Vec<PathBuf>,
    archives: Vec<Archive>,
    spool: Option<Spool>,
}

impl Olds {
    /// Nothing: everything is sent whole.
    pub fn none() -> Self {
        Self::default()
    }

    /// Also looks in a tree that holds the base version, or something like it.
    #[must_use]
    pub fn tree(mut self, root: &Path) -> Self {
        self.trees.push(root.to_owned());
        self
    }

    /// Also looks in the package of an earlier version.
    #[must_use]
    pub fn archive(mut self, archive: Archive) -> Self {
        self.archives.push(archive);
        self
    }

    /// Looks for all of `wanted` in the archives, in one pass over each.
    pub(super) fn prepare<'a, 'f: 'a>(
        &mut self,
        wanted: impl Iterator<Item = &'a BaseFile<'f>>,
    ) -> Result<(), PackageError> {
        let in_trees =
            |file: &BaseFile<'_>| self.trees.iter().any(|tree| has(tree, file.path, file.size));
        let mut missing: HashSet<Hash> =
            wanted.filter(|file| !in_trees(file)).map(|file| file.hash).collect();
        if missing.is_empty() || self.archives.is_empty() {
            return Ok(());
        }
        let place = std::env::temp_dir();
        let mut file = tempfile::tempfile().at("create a file in", &place)?;
        let mut index = HashMap::new();
        let mut end = 0;
        for archive in &self.archives {
            archive.walk(&mut |item, reader| {
                let Item::Source(_, Entry::File { size, hash, .. }) = item else {
                    return Ok(Flow::Next);
                };
                if !missing.remove(hash) {
                    return Ok(Flow::Next);
                }
                let sink = |chunk: &[u8]| file.write_all(chunk).at("write in", &place);
                hash_into(reader, sink, archive.path())?;
                index.insert(*hash, (end, *size));
                end += size;
                Ok(if missing.is_empty() { Flow::Enough } else { Flow::Next })
            })?;
        }
        file.seek(SeekFrom::Start(0)).at("read in", &place)?;
        self.spool = Some((file, index));
        Ok(())
    }

    /// Where the old content of `path` may be read from, piece by piece: whoever does must look
    /// whether it is that.
    pub(super) fn stored(&self, path: &RelPath, size: u64, hash: &Hash) -> Vec<Stored> {
        let in_trees = self.trees.iter().filter_map(|tree| {
            let file = Root::open(tree).ok()?.read(path).ok()?;
            let meta = file.metadata().ok()?;
            (meta.is_file() && meta.len() == size).then_some(Stored { file, from: 0, size })
        });
        let in_spool = self.spool.as_ref().and_then(|(file, index)| {
            let (from, size) = *index.get(hash)?;
            Some(Stored { file: file.try_clone().ok()?, from, size })
        });
        in_trees.chain(in_spool).collect()
    }

    /// The old content of `path`; `None` where it is nowhere as it was.
    pub(super) fn read(&self, path: &RelPath, size: u64, hash: &Hash) -> Option<Vec<u8>> {
        self.stored(path, size, hash).into_iter().find_map(|stored| {
            let mut bytes = vec![0; usize::try_from(size).ok()?];
            let count = stored.read_at(0, &mut bytes).ok()?;
            (count == bytes.len() && Hash::of(&bytes) == *hash).then_some(bytes)
        })
    }
}

fn has(tree: &Path, path: &RelPath, size: u64) -> bool {
    std::fs::symlink_metadata(tree.join(path)).is_ok_and(|meta| meta.len() == size)
}
