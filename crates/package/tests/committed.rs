//! That a scan says "all is as committed" only where git itself would say nothing, and says it where
//! it can: the index is read without git, and git is the oracle.
#![allow(clippy::unwrap_used, reason = "a test stops where something goes wrong")]

mod common;

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::{chmod, git_in, production, quiet, rel, run_ok, write};
use entracte_package::git::{self, GitView};
use entracte_package::scan::{self, Rules};

fn rules() -> Rules {
    Rules { ignore_files: true, skip: vec![rel("SQL")], ..production() }
}

/// The commit that the scan is sure of.
fn committed(root: &Path) -> Option<String> {
    scan::tree(root, &rules(), None, &mut quiet()).unwrap().committed
}

/// Makes the index younger than all files, so that what it says of them counts.
fn settle(top: &Path) {
    let index = File::options().append(true).open(top.join(".git/index")).unwrap();
    index.set_modified(SystemTime::now() + Duration::from_secs(2)).unwrap();
}

/// A repository of all kinds of things, whose game lies in `game`.
fn repository(format: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path();
    git_in(top, &[&["init", "-q"], format].concat());
    write(top, "README.md", "beside the game");
    write(top, ".gitignore", "*.log\n");
    for name in ["a.php", "lib/b.php", "lib.php", "lib-old/c.php", "lib/deep/er/d.php", "é/ü.txt"]
    {
        write(&top.join("game"), name, name);
    }
    write(&top.join("game"), "run.sh", "#!/bin/sh\n");
    chmod(&top.join("game/run.sh"), 0o755);
    std::os::unix::fs::symlink("a.php", top.join("game/link")).unwrap();
    write(&top.join("game"), "SQL/010.sql", "SELECT 1;");
    write(&top.join("game"), "error.log", "ignored");
    run_ok("find", &[&top, &"-type", &"f", &"-exec", &"touch", &"-d", &"1 hour ago", &"{}", &"+"]);
    git_in(top, &["add", "-A"]);
    git_in(top, &["commit", "-qm", "all"]);
    settle(top);
    dir
}

#[test]
fn a_tree_as_it_was_committed_is_known_in_every_version_of_the_index() {
    for version in ["2", "3", "4"] {
        for format in [&[][..], &["--object-format=sha256"]] {
            let dir = repository(format);
            let root = dir.path().join("game");
            git_in(dir.path(), &["update-index", "--index-version", version]);
            settle(dir.path());
            let view = git::look(&root).unwrap().unwrap();
            assert!(view.commit.is_some());
            assert_eq!(committed(&root), view.commit, "version {version}, {format:?}");
        }
    }
}

/// The index is compared in two halves: wherever it is parted, nothing is forgotten.
#[test]
fn the_border_between_the_halves_may_be_anywhere() {
    for (before, after) in [(0, 30), (0, 12), (0, 8), (0, 4), (4, 0), (8, 0), (12, 0), (30, 0)] {
        let dir = repository(&[]);
        let (top, root) = (dir.path(), dir.path().join("game"));
        for number in 0..before {
            write(top, &format!("a/{number}"), "1");
        }
        for number in 0..after {
            write(top, &format!("z/{number}"), "1");
        }
        git_in(top, &["add", "-A"]);
        git_in(top, &["commit", "-qm", "beside"]);
        settle(top);
        let commit = git::look(&root).unwrap().unwrap().commit;
        assert!(commit.is_some());
        assert_eq!(committed(&root), commit, "{before} before, {after} after");
        for name in ["0.php", "lib/c.php", "zz.php"] {
            write(&root, name, "1");
            assert_eq!(committed(&root), None, "{name}: {before} before, {after} after");
            fs::remove_file(root.join(name)).unwrap();
        }
        for name in ["a.php", "lib.php", "run.sh", "é/ü.txt"] {
            let kept = fs::read(root.join(name)).unwrap();
            write(&root, name, "edited");
            assert_eq!(committed(&root), None, "{name}: {before} before, {after} after");
            fs::write(root.join(name), kept).unwrap();
            git_in(top, &["update-index", "-q", "--refresh"]);
            settle(top);
            assert_eq!(committed(&root), commit, "{name}: {before} before, {after} after");
        }
    }
}

/// What is done to the repository, and whether git then has something to say about the game's tree,
/// its skipped paths too.
type Change = (&'static str, fn(&Path), bool);

const CHANGES: &[Change] = &[
    ("edited", |top| write(&top.join("game"), "a.php", "other"), true),
    ("edited, of the same length", |top| write(&top.join("game"), "a.php", "A.php"), true),
    ("new", |top| write(&top.join("game"), "new.php", "1"), true),
    ("new before all others", |top| write(&top.join("game"), "0.php", "1"), true),
    ("new in a new folder", |top| write(&top.join("game"), "x/y.php", "1"), true),
    ("deleted", |top| fs::remove_file(top.join("game/lib.php")).unwrap(), true),
    (
        "deleted where the tree has no part",
        |top| {
            fs::remove_file(top.join("game/SQL/010.sql")).unwrap();
        },
        true,
    ),
    ("no longer executable", |top| chmod(&top.join("game/run.sh"), 0o644), true),
    (
        "a link elsewhere",
        |top| {
            fs::remove_file(top.join("game/link")).unwrap();
            std::os::unix::fs::symlink("lib.php", top.join("game/link")).unwrap();
        },
        true,
    ),
    (
        "a file for a link",
        |top| {
            fs::remove_file(top.join("game/link")).unwrap();
            write(&top.join("game"), "link", "a.php");
        },
        true,
    ),
    (
        "staged",
        |top| {
            write(&top.join("game"), "a.php", "staged");
            git_in(top, &["add", "-A"]);
        },
        true,
    ),
    (
        "staged, and its file put back",
        |top| {
            write(&top.join("game"), "a.php", "staged");
            git_in(top, &["add", "-A"]);
            write(&top.join("game"), "a.php", "a.php");
        },
        false,
    ),
    (
        "removed from the index only",
        |top| git_in(top, &["rm", "-q", "--cached", "game/a.php"]),
        true,
    ),
    (
        "intended to be added",
        |top| {
            write(&top.join("game"), "new.php", "1");
            git_in(top, &["add", "-N", "game/new.php"]);
        },
        true,
    ),
    (
        "another commit checked out, softly",
        |top| {
            write(&top.join("game"), "a.php", "second");
            git_in(top, &["commit", "-qam", "second"]);
            git_in(top, &["reset", "-q", "--soft", "HEAD~1"]);
        },
        true,
    ),
    (
        "a repository within",
        |top| {
            write(&top.join("game"), "inner/x.php", "1");
            git_in(&top.join("game/inner"), &["init", "-q"]);
        },
        true,
    ),
    ("ignored", |top| write(&top.join("game"), "other.log", "1"), false),
    ("new beside the game", |top| write(top, "notes.txt", "1"), false),
];

#[test]
fn where_git_has_something_to_say_the_scan_is_not_sure() {
    for (what, change, told) in CHANGES {
        let dir = repository(&[]);
        let root = dir.path().join("game");
        change(dir.path());
        settle(dir.path());
        let view = git::look(&root).unwrap().unwrap();
        let silent = GitView { commit: view.commit.clone(), ..GitView::default() };
        assert_eq!(view != silent, *told, "{what}: {view:?}");
        // Where it is not sure, git is asked: that is never wrong.
        if let Some(commit) = committed(&root) {
            assert_eq!(view, GitView { commit: Some(commit), ..silent }, "{what}");
        }
    }
}

#[test]
fn files_that_git_was_told_not_to_look_at_are_left_to_git() {
    let flags = [
        &["--assume-unchanged", "game/a.php"][..],
        &["--skip-worktree", "game/a.php"],
        // Half of the index lies elsewhere.
        &["--split-index"],
    ];
    for flags in flags {
        let dir = repository(&[]);
        let root = dir.path().join("game");
        assert!(committed(&root).is_some());
        git_in(dir.path(), &[&["update-index"], flags].concat());
        settle(dir.path());
        assert_eq!(committed(&root), None, "{flags:?}");
    }
}

#[test]
fn an_index_as_young_as_its_files_is_not_believed() {
    let dir = repository(&[]);
    let root = dir.path().join("game");
    let young = fs::metadata(root.join("é/ü.txt")).unwrap().modified().unwrap();
    let index = File::options().append(true).open(dir.path().join(".git/index")).unwrap();
    index.set_modified(young).unwrap();
    assert_eq!(committed(&root), None);
}

#[test]
fn a_damaged_index_is_left_to_git() {
    let dir = repository(&[]);
    let root = dir.path().join("game");
    let path = dir.path().join(".git/index");
    let whole = fs::read(&path).unwrap();
    assert!(committed(&root).is_some());
    for length in (0..whole.len()).step_by(17) {
        fs::write(&path, &whole[..length]).unwrap();
        settle(dir.path());
        // Where git itself is asked and cannot read it, that is the answer.
        let scan = scan::tree(&root, &rules(), None, &mut quiet());
        assert_eq!(scan.ok().and_then(|scan| scan.committed), None, "cut at {length}");
    }
}

#[test]
fn before_the_first_commit_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    git_in(dir.path(), &["init", "-q"]);
    write(dir.path(), "a.php", "1");
    assert_eq!(committed(dir.path()), None);
    git_in(dir.path(), &["add", "-A"]);
    settle(dir.path());
    assert_eq!(committed(dir.path()), None);
}
