//! The ignore files that count in a folder: its own, and those of the folders around it.

use std::path::Path;
use std::sync::Arc;

use entracte_model::Hash;
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::PackageError;
use crate::git::Tracked;

/// The ignore file of this program, in the syntax of `.gitignore`.
pub(super) const OWN_IGNORE: &str = ".entracteignore";
const GIT_IGNORE: &str = ".gitignore";

/// The ignore files of one folder, and of those around it.
pub(super) struct Level {
    own: Option<Gitignore>,
    git: Option<Gitignore>,
    around: Option<Arc<Level>>,
    /// Of the texts of all these files.
    hash: Hash,
}

impl Level {
    /// What a repository says above the tree: its `info/exclude`, and the folders down to the
    /// tree.
    pub(super) fn around(
        root: &Path,
        tracked: &Tracked,
    ) -> Result<Option<Arc<Level>>, PackageError> {
        let exclude = git_rules(&tracked.top, &tracked.exclude);
        let hash = hash(&[&tracked.exclude], None);
        let mut level =
            exclude.map(|git| Arc::new(Level { own: None, git: Some(git), around: None, hash }));
        let mut above: Vec<_> =
            root.ancestors().skip(1).take_while(|dir| dir.starts_with(&tracked.top)).collect();
        above.reverse();
        for dir in above {
            level = Self::of(dir, level, |name| dir.join(name).is_file())?;
        }
        Ok(level)
    }

    /// The level of one folder, of which `has` says whether it holds a name; the one around it where
    /// it says nothing itself.
    pub(super) fn of(
        dir: &Path,
        around: Option<Arc<Level>>,
        has: impl Fn(&str) -> bool,
    ) -> Result<Option<Arc<Level>>, PackageError> {
        if !has(OWN_IGNORE) && !has(GIT_IGNORE) {
            return Ok(around);
        }
        // Hashed before it is understood: what changes meanwhile has another hash the next time.
        let hash = hash(&[&dir.join(OWN_IGNORE), &dir.join(GIT_IGNORE)], around.as_deref());
        let own = if has(OWN_IGNORE) { own_rules(dir)? } else { None };
        let git = if has(GIT_IGNORE) { git_rules(dir, &dir.join(GIT_IGNORE)) } else { None };
        if own.is_none() && git.is_none() {
            return Ok(around);
        }
        Ok(Some(Arc::new(Level { own, git, around, hash })))
    }

    /// The hash of the rules, by which they are known to be the same: zeros where there are none.
    pub(super) fn hash_of(level: Option<&Level>) -> Hash {
        level.map_or(Hash([0; 32]), |level| level.hash)
    }

    /// What the innermost `.entracteignore` that says something about `path` says.
    pub(super) fn own_ignores(&self, path: &Path, is_dir: bool) -> Option<bool> {
        self.first(|level| level.own.as_ref(), path, is_dir)
    }

    /// What the innermost `.gitignore` that says something about `path` says.
    pub(super) fn git_ignores(&self, path: &Path, is_dir: bool) -> Option<bool> {
        self.first(|level| level.git.as_ref(), path, is_dir)
    }

    fn first<'a>(
        &'a self,
        which: impl Fn(&'a Level) -> Option<&'a Gitignore>,
        path: &Path,
        is_dir: bool,
    ) -> Option<bool> {
        let mut level = Some(self);
        while let Some(here) = level {
            match which(here).map(|rules| rules.matched(path, is_dir)) {
                Some(Match::Ignore(_)) => return Some(true),
                Some(Match::Whitelist(_)) => return Some(false),
                Some(Match::None) | None => level = here.around.as_deref(),
            }
        }
        None
    }
}

/// The hash of some ignore files and of the rules around them.
fn hash(files: &[&Path], around: Option<&Level>) -> Hash {
    let mut all = Level::hash_of(around).0.to_vec();
    for file in files {
        // What cannot be read is told, or passed over, where it is understood.
        let text = std::fs::read(file).unwrap_or_default();
        all.extend_from_slice(&Hash::of(&text).0);
        all.extend_from_slice(file.as_os_str().as_encoded_bytes());
    }
    Hash::of(&all)
}

/// As git does, a pattern that cannot be read is passed over: it then leaves nothing out.
fn git_rules(dir: &Path, file: &Path) -> Option<Gitignore> {
    if !file.is_file() {
        return None;
    }
    let mut builder = GitignoreBuilder::new(dir);
    let _unreadable_patterns = builder.add(file);
    builder.build().ok().filter(|rules| !rules.is_empty())
}

fn own_rules(dir: &Path) -> Result<Option<Gitignore>, PackageError> {
    let path = dir.join(OWN_IGNORE);
    if !path.is_file() {
        return Ok(None);
    }
    let bad = |source| PackageError::IgnoreFile { path: path.clone(), source };
    let mut builder = GitignoreBuilder::new(dir);
    if let Some(error) = builder.add(&path) {
        return Err(bad(error));
    }
    builder.build().map(Some).map_err(bad)
}
