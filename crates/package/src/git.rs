//! What the `git` program says about a tree: what it tracks, what was forgotten, what was done.
//!
//! Every list is read NUL-separated, so that no file name can be mistaken for two.

mod index;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use entracte_model::RelPath;

use crate::PackageError;
use crate::scan::Found;
use index::Index;

/// The most commits that one question answers; a game with more since its last release does not
/// read them one by one.
pub const COMMITS_MAX: u32 = 10_000;

/// The state of a tree that is under git.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GitView {
    /// The commit that is checked out; none before the first.
    pub commit: Option<String>,
    /// Files that git does not track and no ignore file of the repository leaves out.
    pub untracked: Vec<RelPath>,
    /// Tracked files that differ from the commit, deleted ones too.
    pub uncommitted: Vec<RelPath>,
    /// Names in either list that no safe path can hold, with unprintable parts escaped.
    pub unnameable: Vec<String>,
}

/// One commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its full hash.
    pub id: String,
    /// The first line of its message.
    pub subject: String,
    /// The files that it changes below the tree; none for a merge.
    pub files: Vec<RelPath>,
}

/// Why git gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The program is not there, or could not be started.
    #[error("could not run `git`, which {} needs (it is a git repository); install git", root.display())]
    Missing {
        /// The tree.
        root: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It ended with an error.
    #[error("`git {command}` failed in {}: {said}", root.display())]
    Failed {
        /// What was asked.
        command: String,
        /// The tree.
        root: PathBuf,
        /// What it said.
        said: String,
    },
    /// Its answer does not have the form that it documents.
    #[error("`git {command}` gave an answer of an unknown form; is this git newer than 2.5?")]
    Unreadable {
        /// What was asked.
        command: &'static str,
    },
}

/// What git tracks below a tree, and where the repository begins.
pub(crate) struct Tracked {
    /// The top of the repository.
    pub top: PathBuf,
    /// Its own file of ignore rules, outside the tree.
    pub exclude: PathBuf,
    root: PathBuf,
    index: PathBuf,
    /// The commit that is checked out, and its tree; none before the first.
    head: Option<(String, String)>,
    /// Asked for by the first question: where nothing is ignored there is none.
    files: Mutex<Option<BTreeSet<Vec<u8>>>>,
}

impl Tracked {
    /// Whether git tracks `path`, or anything below it where it is a folder.
    pub(crate) fn holds(&self, path: &str, is_dir: bool) -> Result<bool, PackageError> {
        let mut known = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let files = match &mut *known {
            Some(files) => files,
            unknown => {
                let list = run(&self.root, &["ls-files", "-z"], &[])?;
                unknown.insert(names(&list).map(<[u8]>::to_vec).collect())
            }
        };
        if !is_dir {
            return Ok(files.contains(path.as_bytes()));
        }
        let below = format!("{path}/").into_bytes();
        let first = files.range(below.clone()..).next();
        Ok(first.is_some_and(|first| first.starts_with(&below)) || files.contains(path.as_bytes()))
    }

    /// Reads the index, for [`Tracked::committed`].
    pub(crate) fn index(&self) -> Option<Index> {
        Index::read(&self.index)
    }

    /// The commit that is checked out, if what was found (sorted by path) surely is what it holds
    /// below the tree, no more and no less. What git itself would say of such a tree is nothing;
    /// in every doubt the answer is `None`, and git is to be asked.
    pub(crate) fn committed(&self, index: &Index, found: &[Found]) -> Option<String> {
        let (commit, tree) = self.head.as_ref()?;
        let prefix = self.root.strip_prefix(&self.top).ok()?;
        index.holds_exactly(tree, prefix, &self.root, found).then(|| commit.clone())
    }
}

/// What git tracks below `root`; `None` where it is not in a repository.
pub(crate) fn tracked(root: &Path) -> Result<Option<Tracked>, PackageError> {
    if !in_repository(root) {
        return Ok(None);
    }
    let places =
        ["rev-parse", "--show-toplevel", "--git-path", "info/exclude", "--git-path", "index"];
    let all = [&places[..], &["HEAD^{commit}", "HEAD^{tree}", "--"]].concat();
    let said = match run(root, &all, &[]) {
        Ok(said) => said,
        // Before the first commit there is none to name.
        Err(GitError::Failed { .. }) => run(root, &places, &[])?,
        Err(error) => return Err(error.into()),
    };
    let mut lines = said.split(|byte| *byte == b'\n');
    let mut place = || {
        use std::os::unix::ffi::OsStrExt;
        let line = lines.next().ok_or(GitError::Unreadable { command: "rev-parse" })?;
        Ok::<_, GitError>(PathBuf::from(std::ffi::OsStr::from_bytes(line)))
    };
    let (top, exclude, index) = (place()?, root.join(place()?), root.join(place()?));
    let id = |line: Option<&[u8]>| {
        let line = std::str::from_utf8(line?).ok()?;
        line.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| line.to_owned())
    };
    let head = id(lines.next()).zip(id(lines.next())).filter(|(commit, _)| !commit.is_empty());
    Ok(Some(Tracked { top, exclude, root: root.to_owned(), index, head, files: Mutex::new(None) }))
}

/// Looks at the tree; `None` where it is not under git.
///
/// Only the repository's own ignore files count, not those of the person's account: what one
/// person's machine hides, the release would lack.
pub fn look(root: &Path) -> Result<Option<GitView>, PackageError> {
    if !in_repository(root) {
        return Ok(None);
    }
    let commit = head(root)?;
    let mut view = GitView::default();
    let untracked = run(root, &["ls-files", "-z", "--others", "--exclude-standard"], &[])?;
    let uncommitted = match commit {
        Some(_) => {
            run(root, &["diff", "-z", "--name-only", "--no-renames", "--relative", "HEAD"], &[])?
        }
        None => run(root, &["ls-files", "-z"], &[])?,
    };
    view.untracked = paths(&untracked, &mut view.unnameable);
    view.uncommitted = paths(&uncommitted, &mut view.unnameable);
    view.commit = commit;
    Ok(Some(view))
}

/// The commits after `from` (all of them without one) that touch the tree, newest first, at most
/// [`COMMITS_MAX`].
pub fn commits_between(root: &Path, from: Option<&str>) -> Result<Vec<Commit>, PackageError> {
    if !in_repository(root) || head(root)?.is_none() {
        return Ok(Vec::new());
    }
    let range = from.map_or_else(|| "HEAD".to_owned(), |from| format!("{from}..HEAD"));
    let count = format!("--max-count={COMMITS_MAX}");
    let log = ["log", "-z", "--format=%H%n%s", &count, "--end-of-options", &range, "--", "."];
    let unreadable = || GitError::Unreadable { command: "log" };
    let mut commits = Vec::new();
    for record in names(&run(root, &log, &[])?) {
        let text = String::from_utf8_lossy(record);
        let (id, subject) = text.split_once('\n').ok_or_else(unreadable)?;
        commits.push(Commit { id: id.to_owned(), subject: subject.to_owned(), files: Vec::new() });
    }
    add_files(root, &mut commits)?;
    Ok(commits)
}

/// Asks for the files of all commits at once; each answer begins with the commit's own id.
fn add_files(root: &Path, commits: &mut [Commit]) -> Result<(), PackageError> {
    let ids: String = commits.iter().map(|commit| format!("{}\n", commit.id)).collect();
    let ask = [
        "diff-tree",
        "--stdin",
        "--always",
        "-r",
        "-z",
        "--name-only",
        "--no-renames",
        "--root",
        "--relative",
    ];
    let answer = run(root, &ask, ids.as_bytes())?;
    let mut next = 0;
    let mut unnameable = Vec::new();
    for token in names(&answer) {
        if commits.get(next).is_some_and(|commit| commit.id.as_bytes() == token) {
            next += 1;
            continue;
        }
        let current = next.checked_sub(1).ok_or(GitError::Unreadable { command: "diff-tree" })?;
        commits[current].files.extend(path(token, &mut unnameable));
    }
    Ok(())
}

fn head(root: &Path) -> Result<Option<String>, PackageError> {
    // An answer without an id is a repository before its first commit, and no failure.
    match run(root, &["rev-list", "--max-count=1", "--all", "--"], &[])?.is_empty() {
        true => Ok(None),
        false => {
            let id = run(root, &["rev-parse", "--verify", "HEAD^{commit}"], &[])?;
            Ok(Some(String::from_utf8_lossy(&id).trim().to_owned()))
        }
    }
}

fn in_repository(root: &Path) -> bool {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    root.ancestors().any(|dir| dir.join(crate::GIT_DIR).exists())
}

fn names(answer: &[u8]) -> impl Iterator<Item = &[u8]> {
    answer.split(|byte| *byte == 0).filter(|name| !name.is_empty())
}

fn paths(answer: &[u8], unnameable: &mut Vec<String>) -> Vec<RelPath> {
    names(answer).filter_map(|name| path(name, unnameable)).collect()
}

fn path(name: &[u8], unnameable: &mut Vec<String>) -> Option<RelPath> {
    // A repository within the repository is listed as one name with a slash behind it.
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let parsed = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
    if parsed.is_none() {
        unnameable.push(String::from_utf8_lossy(name).escape_debug().to_string());
    }
    parsed
}

fn run(root: &Path, args: &[&str], input: &[u8]) -> Result<Vec<u8>, GitError> {
    let missing = |source| GitError::Missing { root: root.to_owned(), source };
    let mut child = Command::new("git")
        .arg("-C")
        .arg(root)
        // No monitor is started, nothing is locked for a mere question, and no message translated.
        .args(["-c", "core.fsmonitor=false", "-c", "core.excludesFile=", "-c", "color.ui=false"])
        .args(args)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("LC_ALL", "C")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // Written beside the reading: with both pipes full, each side would wait for the other.
        scope.spawn(move || {
            if let Some(mut stdin) = stdin {
                // A git that ends early says why by its status.
                let _ = stdin.write_all(input);
            }
        });
        child.wait_with_output()
    })
    .map_err(missing)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(GitError::Failed { command: args.join(" "), root: root.to_owned(), said })
}
