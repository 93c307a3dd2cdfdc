//! What a person would want to know before a package is made: each finding can be mended, or
//! allowed once, or allowed for good in the configuration.

mod secrets;

use std::fmt;

use entracte_model::manifest::Delta;
use entracte_model::time::human_bytes;
use entracte_model::{Manifest, RelPath};

use crate::git::{Commit, GitView};
use crate::scan::{Reason, Refused};
use crate::scripts::ScriptFault;

pub use secrets::{FILE_BYTES_MAX as SECRET_FILE_BYTES_MAX, secrets};

/// Something that speaks against packing the tree as it is. Its `Display` is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// In the tree, but git does not track it and nothing ignores it.
    Untracked(RelPath),
    /// Other than what was committed.
    Uncommitted(RelPath),
    /// No text for the players in a language.
    NoPatchNotes {
        /// The language, as in `PATCHNOTES.<language>.md`.
        language: String,
    },
    /// Two names that are one where case or Unicode form do not count.
    Collision(RelPath, RelPath),
    /// A link that could lead out of the tree, and its target.
    LinkLeaves(RelPath, String),
    /// A file over the stated size; its size in bytes.
    TooLarge(RelPath, u64),
    /// Something that the tree holds and a package cannot.
    Unpackable {
        /// Where.
        path: String,
        /// Why.
        why: Reason,
    },
    /// What looks like a secret. The secret itself is never in a finding.
    LooksLikeSecret {
        /// The file.
        path: RelPath,
        /// The line, counted from 1.
        line: u64,
        /// What it looks like.
        what: &'static str,
    },
    /// A file that is likely to hold a secret and could not be looked at.
    Unreadable {
        /// The file.
        path: RelPath,
        /// What the system said.
        why: String,
    },
    /// A commit since the last release that no change fragment mentions.
    Unmentioned {
        /// The beginning of its hash.
        id: String,
        /// The first line of its message.
        subject: String,
    },
    /// Scripts without a clear order.
    ScriptName(ScriptFault),
}

impl Finding {
    /// A short name for the kind, by which it is allowed.
    pub fn code(&self) -> &'static str {
        match self {
            Finding::Untracked(_) => "untracked",
            Finding::Uncommitted(_) => "uncommitted",
            Finding::NoPatchNotes { .. } => "no-patch-notes",
            Finding::Collision(..) => "collision",
            Finding::LinkLeaves(..) => "link-leaves",
            Finding::TooLarge(..) => "too-large",
            Finding::Unpackable { .. } => "unpackable",
            Finding::LooksLikeSecret { .. } => "secret",
            Finding::Unreadable { .. } => "unreadable",
            Finding::Unmentioned { .. } => "unmentioned",
            Finding::ScriptName(_) => "script-name",
        }
    }

    /// Whether a package can be made all the same, if a person allows it.
    pub fn can_be_allowed(&self) -> bool {
        match self {
            Finding::Untracked(_)
            | Finding::Uncommitted(_)
            | Finding::NoPatchNotes { .. }
            | Finding::LooksLikeSecret { .. }
            | Finding::Unreadable { .. }
            | Finding::Unmentioned { .. } => true,
            Finding::Collision(..)
            | Finding::LinkLeaves(..)
            | Finding::TooLarge(..)
            | Finding::Unpackable { .. }
            | Finding::ScriptName(_) => false,
        }
    }

    /// How to mend it; where it can be allowed, also how to allow it once or for good.
    pub fn hint(&self) -> String {
        let mend = match self {
            Finding::Untracked(path) => format!(
                "`git add {path}` if the game needs it, else name it in .gitignore or .entracteignore"
            ),
            Finding::Uncommitted(path) => format!("commit {path}, or take the change back"),
            Finding::NoPatchNotes { language } => {
                format!(
                    "write it with `entracte note`, or as documentation/PATCHNOTES.{language}.md"
                )
            }
            Finding::Collision(..) => "rename one of the two".to_owned(),
            Finding::LinkLeaves(path, _) => format!(
                "let it point inside the tree, or name {path} under `persist` in entracte.toml"
            ),
            Finding::TooLarge(path, _) => {
                format!("name {path} in .entracteignore, or raise the limit in entracte.toml")
            }
            Finding::Unpackable { .. } => "mend it, or name it in .entracteignore".to_owned(),
            Finding::LooksLikeSecret { path, .. } => format!(
                "take it out of {path} and let the server's own configuration hold it; if it was \
                 ever committed, change it"
            ),
            Finding::Unreadable { .. } => "make it readable for you".to_owned(),
            Finding::Unmentioned { id, .. } => format!(
                "say what it changes with `entracte note --ref {id}` (for nobody but the team: \
                 `--audience none`)"
            ),
            Finding::ScriptName(_) => "rename the script".to_owned(),
        };
        if !self.can_be_allowed() {
            return mend;
        }
        let code = self.code();
        format!("{mend}; allow it once with `--allow {code}`, for good with `allow = [\"{code}\"]`")
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Untracked(path) => write!(f, "{path} is not tracked by git"),
            Finding::Uncommitted(path) => write!(f, "{path} is not as it was committed"),
            Finding::NoPatchNotes { language } => {
                write!(f, "there are no patch notes for the players in `{language}`")
            }
            Finding::Collision(a, b) => {
                write!(f, "{a} and {b} are the same where case or Unicode form do not count")
            }
            Finding::LinkLeaves(path, target) => {
                write!(f, "{path} links to {target:?}, which could lead out of the tree")
            }
            Finding::TooLarge(path, size) => {
                write!(f, "{path} is too large ({})", human_bytes(*size))
            }
            Finding::Unpackable { path, why } => write!(f, "{}: {why}", path.escape_debug()),
            Finding::LooksLikeSecret { path, line, what } => {
                write!(f, "{path}:{line} looks like {what}")
            }
            Finding::Unreadable { path, why } => {
                write!(f, "{path} could not be searched for secrets: {why}")
            }
            Finding::Unmentioned { id, subject } => {
                write!(f, "{id} {} is in no note", subject.escape_debug())
            }
            Finding::ScriptName(fault) => fault.fmt(f),
        }
    }
}

impl From<Refused> for Finding {
    fn from(Refused { path, why }: Refused) -> Self {
        match (path.parse(), why) {
            (Ok(path), Reason::LinkLeaves(target)) => Finding::LinkLeaves(path, target),
            (Ok(path), Reason::TooLarge { size, .. }) => Finding::TooLarge(path, size),
            (_, why) => Finding::Unpackable { path, why },
        }
    }
}

/// Two paths that collide.
impl From<(RelPath, RelPath)> for Finding {
    fn from((first, second): (RelPath, RelPath)) -> Self {
        Finding::Collision(first, second)
    }
}

impl From<&Commit> for Finding {
    fn from(commit: &Commit) -> Self {
        let id = commit.id.get(..8).unwrap_or(&commit.id).to_owned();
        Finding::Unmentioned { id, subject: commit.subject.clone() }
    }
}

impl From<ScriptFault> for Finding {
    fn from(fault: ScriptFault) -> Self {
        Finding::ScriptName(fault)
    }
}

/// What speaks against the state of a scanned tree under git. What an ignore file leaves
/// out of the tree is nobody's concern here.
pub fn git(tree: &Manifest, delta: &Delta, view: &GitView) -> Vec<Finding> {
    let in_tree = |path: &&RelPath| tree.entries.contains_key(*path);
    let untracked = view.untracked.iter().filter(in_tree).cloned().map(Finding::Untracked);
    let counts = |path: &&RelPath| in_tree(path) || delta.delete.contains(*path);
    let uncommitted = view.uncommitted.iter().filter(counts).cloned().map(Finding::Uncommitted);
    untracked.chain(uncommitted).collect()
}

/// A finding for each language without patch notes, or with empty ones, among `documents`
/// (file name, content).
pub fn patch_notes(documents: &[(String, Vec<u8>)], languages: &[String]) -> Vec<Finding> {
    let written = |language: &String| {
        let name = format!("PATCHNOTES.{language}.md");
        documents.iter().any(|(found, text)| *found == name && !text.trim_ascii().is_empty())
    };
    let missing = languages.iter().filter(|language| !written(language));
    missing.map(|language| Finding::NoPatchNotes { language: language.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use entracte_model::manifest::Entry;

    use super::*;

    fn rel(text: &str) -> RelPath {
        text.parse().unwrap()
    }

    #[test]
    fn git_counts_only_where_the_package_is_concerned() {
        let dirs = ["a.php", "new.php"].map(|path| (rel(path), Entry::Dir {}));
        let manifest = Manifest { entries: dirs.into() };
        let delta = Delta { delete: [rel("gone.php")].into(), ..Delta::default() };
        let view = GitView {
            untracked: vec![rel("new.php"), rel("left-out.txt")],
            uncommitted: vec![rel("a.php"), rel("gone.php"), rel("tests/x.php")],
            ..GitView::default()
        };
        assert_eq!(
            git(&manifest, &delta, &view),
            vec![
                Finding::Untracked(rel("new.php")),
                Finding::Uncommitted(rel("a.php")),
                Finding::Uncommitted(rel("gone.php")),
            ]
        );
    }

    #[test]
    fn empty_notes_are_no_notes() {
        let documents = [
            ("PATCHNOTES.en.md".to_owned(), b" \n".to_vec()),
            ("PATCHNOTES.fr.md".to_owned(), b"x".to_vec()),
        ];
        let languages = ["en".to_owned(), "fr".to_owned(), "de".to_owned()];
        let codes: Vec<_> =
            patch_notes(&documents, &languages).iter().map(ToString::to_string).collect();
        assert_eq!(codes.len(), 2);
        assert!(codes[0].contains("`en`") && codes[1].contains("`de`"));
    }

    #[test]
    fn a_finding_is_one_line_and_its_hint_says_how_to_allow_it_if_it_can_be() {
        let finding = Finding::Unpackable { path: "a\nb".into(), why: Reason::NotUtf8 };
        assert!(!finding.to_string().contains('\n'));
        assert!(!finding.hint().contains("--allow"));
        let finding = Finding::Untracked(rel("a"));
        assert!(finding.hint().contains("--allow untracked"));
    }
}
