//! What was changed by hand in a production that is on another machine: looked at there, judged here.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use entracte_host::wire::{Ask, Tell};
use entracte_model::manifest::{Change, Delta, Entry};
use entracte_model::{Hash, Manifest, RelPath};
use entracte_package::links;
use serde::{Deserialize, Serialize};

use super::Remote;
use crate::cli::adopt::Seen;
use crate::exit::Failure;

/// The most bytes of changed files that are brought.
pub const EDITS_BYTES_MAX: u64 = 512 << 20;
/// The longest list of changes.
const LIST_BYTES_MAX: u64 = 64 << 20;

/// What differs from what production is known to hold.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edits {
    /// What it is known to hold.
    pub base: Hash,
    /// From that to what stands there.
    pub delta: Delta,
    /// What of it counts as a change by hand.
    pub changes: BTreeMap<RelPath, Change>,
}

impl Edits {
    /// The files whose contents follow, in the order in which they do.
    pub fn files(&self) -> impl Iterator<Item = &RelPath> {
        self.changes
            .keys()
            .filter(|path| matches!(self.delta.put.get(*path), Some(Entry::File { .. })))
    }

    /// How many bytes these contents have.
    pub fn bytes(&self) -> u64 {
        self.files().filter_map(|path| self.delta.put.get(path)).map(Entry::size).sum()
    }
}

impl Remote {
    /// What was changed by hand, with the contents in a folder here.
    pub fn edits(&mut self, base: &Manifest) -> Result<Seen, Failure> {
        self.ask(&Ask::Edits {})?;
        let list = self.hear_blob(LIST_BYTES_MAX)?;
        let nonsense = |what: String| Failure::broken(format!("what was changed there: {what}"));
        let edits: Edits =
            serde_json::from_slice(&list).map_err(|error| nonsense(error.to_string()))?;
        if edits.base != base.hash() {
            return Err(Failure::refused("a release changed production meanwhile")
                .hint("`entracte adopt` again"));
        }
        let production = base.apply(&edits.delta).map_err(|error| nonsense(error.to_string()))?;
        check_links(&edits)?;
        let bytes = edits.bytes();
        let contents = self.hear_blob(EDITS_BYTES_MAX)?;
        if contents.len() as u64 != bytes {
            return Err(nonsense(format!("{bytes} bytes expected, {} came", contents.len())));
        }
        let root = self.dir.path().join("edits");
        fs::create_dir_all(&root)?;
        lay_out(&root, &edits, &contents)?;
        Ok(Seen { changes: edits.changes, production, root })
    }

    /// Makes production there count as it stands.
    pub fn adopt(&mut self, base: &Hash, manifest: &Hash) -> Result<(), Failure> {
        self.ask(&Ask::Adopt { base: *base, manifest: *manifest })?;
        match self.hear()? {
            Tell::Done { .. } => Ok(()),
            other => Err(self.wrong("done", &other)),
        }
    }
}

/// No link that leads out of the tree comes into development's: a later change could be written
/// through it.
fn check_links(edits: &Edits) -> Result<(), Failure> {
    for path in edits.changes.keys() {
        if let Some(Entry::Link { target }) = edits.delta.put.get(path)
            && !links::stays_inside(path, target)
        {
            return Err(Failure::refused(format!(
                "{path} is a link to {target} there, which leads out of the tree"
            ))
            .hint("replace it there, or list it in `persist` or `volatile`"));
        }
    }
    Ok(())
}

/// Makes a tree of what was changed. Nothing lies below a link in it: the delta was judged.
fn lay_out(root: &Path, edits: &Edits, contents: &[u8]) -> Result<(), Failure> {
    let mut rest = contents;
    for path in edits.changes.keys() {
        let place = root.join(path);
        let Some(entry) = edits.delta.put.get(path) else { continue };
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        match entry {
            Entry::Dir {} => fs::create_dir_all(&place)?,
            Entry::Link { target } => symlink(target, &place)?,
            Entry::File { size, hash, exec } => {
                let size = usize::try_from(*size).unwrap_or(usize::MAX);
                let content;
                (content, rest) = rest.split_at_checked(size).unwrap_or((rest, &[]));
                if Hash::of(content) != *hash {
                    return Err(Failure::refused(format!("{path} was changed while it was read"))
                        .hint("`entracte adopt` again"));
                }
                fs::write(&place, content)?;
                let mode = if *exec { 0o755 } else { 0o644 };
                fs::set_permissions(&place, fs::Permissions::from_mode(mode))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(entries: &[(&str, Entry)]) -> Edits {
        let put: BTreeMap<RelPath, Entry> =
            entries.iter().map(|(path, entry)| (path.parse().unwrap(), entry.clone())).collect();
        let changes = put.keys().map(|path| (path.clone(), Change::Created)).collect();
        Edits {
            base: Manifest::default().hash(),
            delta: Delta { put, ..Delta::default() },
            changes,
        }
    }

    fn file(content: &[u8]) -> Entry {
        Entry::File { size: content.len() as u64, hash: Hash::of(content), exec: false }
    }

    #[test]
    fn contents_find_their_files_and_a_changed_one_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let two = edits(&[("a/x", file(b"one")), ("b", file(b"second"))]);
        lay_out(dir.path(), &two, b"onesecond").unwrap();
        assert_eq!(fs::read(dir.path().join("a/x")).unwrap(), b"one");
        assert_eq!(fs::read(dir.path().join("b")).unwrap(), b"second");
        let failure = lay_out(dir.path(), &two, b"onesecoXd").unwrap_err();
        assert!(failure.message.contains("b was changed while"), "{}", failure.message);
    }

    #[test]
    fn a_link_that_leads_out_of_the_tree_is_not_brought() {
        let link = |target: &str| edits(&[("a/l", Entry::Link { target: target.to_owned() })]);
        assert!(check_links(&link("../b")).is_ok());
        let failure = check_links(&link("../../b")).unwrap_err();
        assert!(failure.message.contains("leads out of the tree"), "{}", failure.message);
    }
}
