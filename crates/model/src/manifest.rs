//! What a tree holds, file by file, and the difference between two trees.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Hash, RelPath};

/// Every file, folder and link of one version of the game.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// By path, so that the same tree always has the same text and the same hash.
    pub entries: BTreeMap<RelPath, Entry>,
}

/// One file, folder or link. Modes keep only what git keeps: whether a file can be executed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Entry {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// The hash of its content.
        hash: Hash,
        /// Whether its owner may execute it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        exec: bool,
    },
    /// A folder (listed so that empty ones arrive too).
    Dir {},
    /// A symbolic link.
    Link {
        /// What it points to, as written in the link.
        target: String,
    },
}

/// The change from one manifest to the next.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delta {
    /// What is new or different, with its new entry.
    pub put: BTreeMap<RelPath, Entry>,
    /// What is gone.
    pub delete: BTreeSet<RelPath>,
}

/// How one path differs between an expected and a real tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Only the new tree has it.
    Created,
    /// Both have it, with another content, kind, mode or link target.
    Modified,
    /// Only the old tree has it.
    Deleted,
}

/// A delta that does not fit the manifest it is applied to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDelta {
    /// A deletion of something that the base does not hold.
    #[error("the delta deletes {0}, which the base version does not hold")]
    DeletesMissing(RelPath),
    /// The same path is deleted and put.
    #[error("the delta both deletes and writes {0}")]
    DeletesAndPuts(RelPath),
    /// A path lies below something that is not a folder.
    #[error("{child} lies below {parent}, which is not a folder")]
    NotAFolder {
        /// The path that cannot be.
        child: RelPath,
        /// What stands in its way.
        parent: RelPath,
    },
    /// Two paths would be one on a file system that folds case or Unicode form.
    #[error("{0} and {1} would be the same file where names ignore case or Unicode form")]
    Collides(RelPath, RelPath),
}

impl Manifest {
    /// The hash of the whole tree: of each path with its entry, in order.
    pub fn hash(&self) -> Hash {
        // In large pieces: the hash of many bytes at once is quicker than that of few.
        const PIECE_BYTES: usize = 64 * 1024;
        let mut hasher = blake3::Hasher::new();
        let mut piece = Vec::with_capacity(2 * PIECE_BYTES);
        for (path, entry) in &self.entries {
            // Length first, so that no two different trees can ever feed the same bytes.
            sized(&mut piece, |piece| piece.extend_from_slice(path.as_str().as_bytes()));
            sized(&mut piece, |piece| entry.canonical(piece));
            if piece.len() >= PIECE_BYTES {
                hasher.update(&piece);
                piece.clear();
            }
        }
        hasher.update(&piece);
        hasher.finalize().into()
    }

    /// The number of regular files.
    pub fn files(&self) -> u64 {
        self.entries.values().filter(|entry| matches!(entry, Entry::File { .. })).count() as u64
    }

    /// The size of all regular files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.entries.values().map(Entry::size).sum()
    }

    /// What turns `self` into `new`.
    pub fn delta_to(&self, new: &Manifest) -> Delta {
        let mut delta = Delta::default();
        let mut olds = self.entries.iter().peekable();
        // Both are sorted: side by side, nothing is searched for.
        for (path, entry) in &new.entries {
            while let Some((gone, _)) = olds.next_if(|(old, _)| *old < path) {
                delta.delete.insert(gone.clone());
            }
            let old = olds.next_if(|(old, _)| *old == path);
            if old.is_none_or(|(_, old)| old != entry) {
                delta.put.insert(path.clone(), entry.clone());
            }
        }
        delta.delete.extend(olds.map(|(gone, _)| gone.clone()));
        delta
    }

    /// The manifest that `delta` makes of this one, checked to be a possible tree.
    pub fn apply(&self, delta: &Delta) -> Result<Manifest, BadDelta> {
        let mut entries = self.entries.clone();
        for path in &delta.delete {
            if delta.put.contains_key(path) {
                return Err(BadDelta::DeletesAndPuts(path.clone()));
            }
            if entries.remove(path).is_none() {
                return Err(BadDelta::DeletesMissing(path.clone()));
            }
        }
        entries.extend(delta.put.iter().map(|(path, entry)| (path.clone(), entry.clone())));
        let new = Manifest { entries };
        new.check()?;
        Ok(new)
    }

    /// Whether a file system can hold this tree: nothing lies below a file or a link.
    pub fn check(&self) -> Result<(), BadDelta> {
        for path in self.entries.keys() {
            let mut up = path.parent();
            while let Some(parent) = up {
                if self.entries.get(&parent).is_some_and(|entry| *entry != Entry::Dir {}) {
                    return Err(BadDelta::NotAFolder { child: path.clone(), parent });
                }
                up = parent.parent();
            }
        }
        Ok(())
    }

    /// Each two paths that one file on a case-folding file system would have to share.
    pub fn collisions(&self) -> Vec<(RelPath, RelPath)> {
        let mut seen = BTreeMap::new();
        let pairs = self.entries.keys().filter_map(|path| {
            let first: &RelPath = seen.insert(path.folded(), path)?;
            Some((first.clone(), path.clone()))
        });
        pairs.collect()
    }

    /// Each path that differs between this (expected) tree and `real`.
    pub fn changes_to(&self, real: &Manifest) -> BTreeMap<RelPath, Change> {
        self.delta_to(real).changes(self)
    }
}

impl Entry {
    /// The size of a regular file in bytes, 0 for anything else.
    pub fn size(&self) -> u64 {
        match self {
            Entry::File { size, .. } => *size,
            Entry::Dir {} | Entry::Link { .. } => 0,
        }
    }

    fn canonical(&self, to: &mut Vec<u8>) {
        match self {
            Entry::File { size, hash, exec } => {
                let mut digits = [0; 64];
                to.extend_from_slice(b"file ");
                to.extend_from_slice(size.to_string().as_bytes());
                to.push(b' ');
                to.extend_from_slice(hash.hex(&mut digits).as_bytes());
                to.extend_from_slice(if *exec { b" 1" } else { b" 0" });
            }
            Entry::Dir {} => to.extend_from_slice(b"dir"),
            Entry::Link { target } => {
                to.extend_from_slice(b"link ");
                to.extend_from_slice(target.as_bytes());
            }
        }
    }
}

/// Adds what `write` writes, with its length before it.
fn sized(to: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = to.len();
    to.extend_from_slice(&[0; 8]);
    write(to);
    let length = (to.len() - at - 8) as u64;
    to[at..at + 8].copy_from_slice(&length.to_le_bytes());
}

impl Delta {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.delete.is_empty()
    }

    /// The size of all files to write, in bytes.
    pub fn bytes(&self) -> u64 {
        self.put.values().map(Entry::size).sum()
    }

    /// Each path that differs, and how, where `base` is what the delta was made against.
    pub fn changes(&self, base: &Manifest) -> BTreeMap<RelPath, Change> {
        let put = self.put.keys().map(|path| {
            let change = match base.entries.contains_key(path) {
                true => Change::Modified,
                false => Change::Created,
            };
            (path.clone(), change)
        });
        let gone = self.delete.iter().map(|path| (path.clone(), Change::Deleted));
        put.chain(gone).collect()
    }

    /// Files that were only renamed, as (old path, new path): same content, old name deleted.
    pub fn renames(&self, base: &Manifest) -> Vec<(RelPath, RelPath)> {
        let mut gone: BTreeMap<Hash, Vec<&RelPath>> = BTreeMap::new();
        for path in self.delete.iter().rev() {
            if let Some(Entry::File { hash, size, .. }) = base.entries.get(path)
                && *size > 0
            {
                gone.entry(*hash).or_default().push(path);
            }
        }
        self.put
            .iter()
            .filter(|(path, _)| !base.entries.contains_key(path))
            .filter_map(|(path, entry)| match entry {
                Entry::File { hash, .. } => {
                    let old = gone.get_mut(hash)?.pop()?;
                    Some((old.clone(), path.clone()))
                }
                Entry::Dir {} | Entry::Link { .. } => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> RelPath {
        text.parse().unwrap()
    }

    fn file(content: &str) -> Entry {
        Entry::File { size: content.len() as u64, hash: Hash::of(content.as_bytes()), exec: false }
    }

    fn tree(files: &[(&str, &str)]) -> Manifest {
        Manifest { entries: files.iter().map(|(p, c)| (path(p), file(c))).collect() }
    }

    #[test]
    fn a_rename_is_seen_as_one() {
        let old = tree(&[("a.php", "same"), ("b.php", "b")]);
        let new = tree(&[("lib.php", "same"), ("b.php", "b")]);
        let delta = old.delta_to(&new);
        assert_eq!(delta.renames(&old), vec![(path("a.php"), path("lib.php"))]);
    }

    #[test]
    fn a_delta_that_does_not_fit_is_refused() {
        let base = tree(&[("a", "1")]);
        let missing = Delta { delete: [path("b")].into(), ..Delta::default() };
        assert_eq!(base.apply(&missing), Err(BadDelta::DeletesMissing(path("b"))));
        let below = Delta { put: [(path("a/b"), file("x"))].into(), ..Delta::default() };
        assert!(matches!(base.apply(&below), Err(BadDelta::NotAFolder { .. })));
        let both = Delta { put: [(path("a"), file("x"))].into(), delete: [path("a")].into() };
        assert_eq!(base.apply(&both), Err(BadDelta::DeletesAndPuts(path("a"))));
    }

    #[test]
    fn mode_and_kind_are_part_of_the_hash() {
        let plain = tree(&[("run.sh", "x")]);
        let mut exec = plain.clone();
        if let Some(Entry::File { exec, .. }) = exec.entries.get_mut(&path("run.sh")) {
            *exec = true;
        }
        assert_ne!(plain.hash(), exec.hash());
        let folder = Manifest { entries: [(path("run.sh"), Entry::Dir {})].into() };
        assert_ne!(plain.hash(), folder.hash());
    }

    fn any_tree() -> impl Strategy<Value = Manifest> {
        prop::collection::btree_map("[a-c]{1,2}(/[a-c]{1,2})?", "[xy]{0,3}", 0..12).prop_map(
            |files| {
                let entries: BTreeMap<_, _> =
                    files.iter().map(|(p, c)| (path(p), file(c))).collect();
                let mut tree = Manifest { entries };
                while let Err(BadDelta::NotAFolder { child, .. }) = tree.check() {
                    tree.entries.remove(&child);
                }
                tree
            },
        )
    }

    proptest! {
        #[test]
        fn base_plus_delta_is_the_new_tree(old in any_tree(), new in any_tree()) {
            let delta = old.delta_to(&new);
            let rebuilt = old.apply(&delta).unwrap();
            prop_assert_eq!(rebuilt.hash(), new.hash());
            prop_assert_eq!(&rebuilt, &new);
            prop_assert_eq!(delta.is_empty(), old == new);
        }
    }
}
