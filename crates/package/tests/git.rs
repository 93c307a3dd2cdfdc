//! What git says about a tree with the oddest names.
#![allow(clippy::unwrap_used, reason = "a test stops where something goes wrong")]

mod common;

use common::{git_in, rel, write};
use entracte_model::RelPath;
use entracte_package::{PackageError, git};

const ODD: [&str; 7] = [
    " leading and trailing ",
    "quo\"te's",
    "déjà vu.php",
    "-rf",
    ":(glob)*",
    "star*[x]?.php",
    "deadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
];

fn paths(names: &[&str]) -> Vec<RelPath> {
    let mut paths: Vec<_> = names.iter().map(|name| rel(name)).collect();
    paths.sort();
    paths
}

fn sorted(mut paths: Vec<RelPath>) -> Vec<RelPath> {
    paths.sort();
    paths
}

#[test]
fn a_tree_without_git_has_no_view() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(git::look(dir.path()).unwrap(), None);
    assert_eq!(git::commits_between(dir.path(), None).unwrap(), []);
}

#[test]
fn odd_names_come_through_every_question() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    git_in(root, &["init", "-q"]);
    for name in ODD {
        write(root, name, "1");
    }
    write(root, "new\nline", "no safe path");
    let view = git::look(root).unwrap().unwrap();
    assert_eq!(view.commit, None);
    assert_eq!(sorted(view.untracked), paths(&ODD));
    assert_eq!(view.unnameable, ["new\\nline"]);
    git_in(root, &["add", "-A"]);
    let view = git::look(root).unwrap().unwrap();
    assert_eq!(sorted(view.uncommitted), paths(&ODD));
    git_in(root, &["commit", "-qm", "All \x01 odd names"]);
    let view = git::look(root).unwrap().unwrap();
    assert!(view.untracked.is_empty() && view.uncommitted.is_empty());
    for name in ODD {
        write(root, name, "2");
    }
    let view = git::look(root).unwrap().unwrap();
    assert_eq!(sorted(view.uncommitted), paths(&ODD));
    let commits = git::commits_between(root, None).unwrap();
    assert_eq!(commits.len(), 1);
    assert_eq!(commits[0].subject, "All \x01 odd names");
    assert_eq!(sorted(commits[0].files.clone()), paths(&ODD));
    assert_eq!(Some(&commits[0].id), view.commit.as_ref());
}

#[test]
fn commits_are_those_since_the_release_that_touch_the_tree() {
    let dir = tempfile::tempdir().unwrap();
    let (top, root) = (dir.path(), dir.path().join("game"));
    git_in(top, &["init", "-q"]);
    write(&root, "a.php", "1");
    git_in(top, &["add", "-A"]);
    git_in(top, &["commit", "-qm", "first"]);
    let released = git::look(&root).unwrap().unwrap().commit.unwrap();
    write(top, "docs.md", "beside the game");
    git_in(top, &["add", "-A"]);
    git_in(top, &["commit", "-qm", "not about the game"]);
    write(&root, "a.php", "2");
    write(&root, "b.php", "new");
    git_in(top, &["add", "-A"]);
    git_in(top, &["commit", "-qm", "second\n\nwith a body"]);
    git_in(top, &["mv", "game/b.php", "game/c.php"]);
    git_in(top, &["commit", "-qm", "third"]);
    let commits = git::commits_between(&root, Some(&released)).unwrap();
    let subjects: Vec<_> = commits.iter().map(|commit| commit.subject.as_str()).collect();
    assert_eq!(subjects, ["third", "second"]);
    assert_eq!(commits[0].files, paths(&["b.php", "c.php"]));
    assert_eq!(commits[1].files, paths(&["a.php", "b.php"]));
    assert_eq!(git::commits_between(&root, None).unwrap().len(), 3);
}

#[test]
fn a_commit_that_is_not_there_is_an_error_and_no_option() {
    let dir = tempfile::tempdir().unwrap();
    git_in(dir.path(), &["init", "-q"]);
    write(dir.path(), "a", "1");
    git_in(dir.path(), &["add", "-A"]);
    git_in(dir.path(), &["commit", "-qm", "first"]);
    for from in ["0123456789", "--output=/tmp/never"] {
        let error = git::commits_between(dir.path(), Some(from)).unwrap_err();
        assert!(matches!(error, PackageError::Git(git::GitError::Failed { .. })), "{from}");
    }
}

#[test]
fn deleted_and_nested_things_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    git_in(root, &["init", "-q"]);
    write(root, "gone.php", "1");
    git_in(root, &["add", "-A"]);
    git_in(root, &["commit", "-qm", "first"]);
    std::fs::remove_file(root.join("gone.php")).unwrap();
    write(root, "inner/x.php", "1");
    git_in(&root.join("inner"), &["init", "-q"]);
    git_in(&root.join("inner"), &["add", "-A"]);
    git_in(&root.join("inner"), &["commit", "-qm", "inner"]);
    let view = git::look(root).unwrap().unwrap();
    assert_eq!(view.uncommitted, paths(&["gone.php"]));
    assert_eq!(view.untracked, paths(&["inner"]));
}
