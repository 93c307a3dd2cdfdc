//! What a scan sees, what it leaves out, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test stops where something goes wrong")]

mod common;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use common::{chmod, production, quiet, rel, run_ok, write};
use entracte_model::manifest::Entry;
use entracte_model::{Hash, Manifest};
use entracte_package::PackageError;
use entracte_package::scan::{self, Reason, Rules, Scan};

fn development() -> Rules {
    Rules { ignore_files: true, ..production() }
}

fn scan(root: &Path, rules: &Rules) -> Scan {
    scan::tree(root, rules, None, &mut quiet()).unwrap()
}

fn refusal(root: &Path, rules: &Rules) -> Vec<(String, Reason)> {
    match scan::tree(root, rules, None, &mut quiet()) {
        Err(PackageError::Refused(refused)) => {
            refused.into_iter().map(|one| (one.path, one.why)).collect()
        }
        other => panic!("expected a refusal, found {other:?}"),
    }
}

fn names(manifest: &Manifest) -> Vec<&str> {
    manifest.entries.keys().map(entracte_model::RelPath::as_str).collect()
}

#[test]
fn files_folders_links_and_modes_are_recorded() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.php", "hello");
    write(dir.path(), "b/run", "x");
    chmod(&dir.path().join("b/run"), 0o755);
    fs::create_dir(dir.path().join("empty")).unwrap();
    std::os::unix::fs::symlink("../a.php", dir.path().join("b/link")).unwrap();
    write(dir.path(), ".git/config", "never");
    write(dir.path(), "b/.git/config", "never");
    let found = scan(dir.path(), &production()).manifest;
    let file = |text: &str, exec| Entry::File {
        size: text.len() as u64,
        hash: Hash::of(text.as_bytes()),
        exec,
    };
    let expected = [
        (rel("a.php"), file("hello", false)),
        (rel("b"), Entry::Dir {}),
        (rel("b/link"), Entry::Link { target: "../a.php".into() }),
        (rel("b/run"), file("x", true)),
        (rel("empty"), Entry::Dir {}),
    ];
    assert_eq!(found, Manifest { entries: expected.into() });
}

#[test]
fn every_refusal_is_listed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write(dir.path(), "suid", "x");
    chmod(&at("suid"), 0o4755);
    write(dir.path(), "large", "0123456789");
    write(dir.path(), "line\nbreak", "x");
    write(dir.path(), "back\\slash", "x");
    fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"latin-\xe9")), "x").unwrap();
    run_ok("mkfifo", &[&at("fifo")]);
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at("absolute")).unwrap();
    std::os::unix::fs::symlink("../out", at("climbing")).unwrap();
    let rules = Rules { file_bytes_max: 9, ..production() };
    let found = refusal(dir.path(), &rules);
    let why = |name: &str| &found.iter().find(|(path, _)| path == name).expect(name).1;
    assert_eq!(found.len(), 9, "{found:?}");
    assert_eq!(why("suid"), &Reason::SetUid);
    assert_eq!(why("large"), &Reason::TooLarge { size: 10, max: 9 });
    assert!(matches!(why("line\nbreak"), Reason::Name(_)));
    assert!(matches!(why("back\\slash"), Reason::Name(_)));
    assert_eq!(why("latin-\u{fffd}"), &Reason::NotUtf8);
    assert_eq!(why("fifo"), &Reason::Special("FIFO"));
    assert_eq!(why("socket"), &Reason::Special("socket"));
    assert_eq!(why("absolute"), &Reason::LinkLeaves("/etc/passwd".into()));
    assert_eq!(why("climbing"), &Reason::LinkLeaves("../out".into()));
}

#[test]
fn ignore_files_count_in_development_and_never_in_production() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), ".gitignore", "*.log\n/build/\n");
    write(dir.path(), ".entracteignore", "tests\n!keep.log\n");
    write(dir.path(), "a.php", "x");
    write(dir.path(), "a.log", "x");
    write(dir.path(), "keep.log", "x");
    write(dir.path(), "build/out.js", "x");
    write(dir.path(), "sub/build/in.js", "x");
    write(dir.path(), "sub/.gitignore", "!b.log\n");
    write(dir.path(), "sub/b.log", "x");
    write(dir.path(), "tests/t.php", "x");
    let found = scan(dir.path(), &development());
    assert_eq!(
        names(&found.manifest),
        [
            ".gitignore",
            "a.php",
            "keep.log",
            "sub",
            "sub/.gitignore",
            "sub/b.log",
            "sub/build",
            "sub/build/in.js"
        ]
    );
    assert_eq!(found.ignored, 3);
    assert_eq!(scan(dir.path(), &production()).manifest.files(), 10);
}

#[test]
fn what_git_tracks_is_not_ignored_by_gitignore() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("repository");
    let root = top.join("game");
    write(&top, ".gitignore", "vendor/\n*.cache\n");
    write(&root, "vendor/forced.php", "tracked by force");
    write(&root, "vendor/other.php", "ignored");
    write(&root, "x.cache", "ignored");
    write(&root, "local.txt", "ignored by the repository's own exclude file");
    run_ok("git", &[&"-C", &top, &"init", &"-q"]);
    run_ok("git", &[&"-C", &top, &"add", &"-f", &"game/vendor/forced.php"]);
    write(&top, ".git/info/exclude", "local.txt\n");
    let found = scan(&root, &development());
    assert_eq!(names(&found.manifest), ["vendor", "vendor/forced.php"]);
    assert_eq!(found.ignored, 3);
}

#[test]
fn a_bad_pattern_of_our_own_is_told() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), ".entracteignore", "[z-a]\n");
    let refused = scan::tree(dir.path(), &development(), None, &mut quiet()).unwrap_err();
    assert!(matches!(refused, PackageError::IgnoreFile { .. }), "{refused}");
}

#[test]
fn skipped_paths_are_left_out_and_the_folders_around_them_always_listed() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.php", "x");
    let rules = Rules { skip: vec![rel("data/uploads"), rel("config.php")], ..production() };
    let without = scan(dir.path(), &rules).manifest;
    write(dir.path(), "data/uploads/a.png", "x");
    write(dir.path(), "config.php", "x");
    write(dir.path(), "config.php.dist", "x");
    let with = scan(dir.path(), &rules).manifest;
    assert_eq!(names(&without), ["a.php", "data"]);
    assert_eq!(names(&with), ["a.php", "config.php.dist", "data"]);
}

#[test]
fn the_cache_spares_reading_and_notices_every_change() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    let cache = dir.path().join("cache");
    for number in 0..50 {
        write(&root, &format!("f{number}"), format!("content {number}"));
    }
    let scan = || scan::tree(&root, &production(), Some(&cache), &mut quiet()).unwrap();
    let first = scan();
    assert_eq!(first.hashed, 50);
    assert!(first.cache_fault.is_none());
    // Files as young as the scan are racy; after the clock has moved on they are not.
    let deadline = Instant::now() + Duration::from_secs(20);
    while scan().hashed > 0 {
        assert!(Instant::now() < deadline, "files that nobody writes are still read again");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(scan().manifest, first.manifest);
    // The same size and mtime: only the ctime tells.
    let before = fs::metadata(root.join("f7")).unwrap().modified().unwrap();
    write(&root, "f7", "CONTENT 7");
    let file = fs::File::options().write(true).open(root.join("f7")).unwrap();
    file.set_modified(before).unwrap();
    fs::remove_file(root.join("f8")).unwrap();
    let second = scan();
    assert_eq!(second.hashed, 1);
    let f7 = second.manifest.entries.get(&rel("f7"));
    assert!(matches!(f7, Some(Entry::File { hash, .. }) if *hash == Hash::of(b"CONTENT 7")));
    assert!(!second.manifest.entries.contains_key(&rel("f8")));
    fs::write(&cache, "damaged").unwrap();
    assert_eq!(scan().hashed, 49);
}

#[test]
fn two_writes_within_one_tick_are_both_seen() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let root = dir.path().join("tree");
    for round in 0..200_u32 {
        write(&root, "f", format!("{round:04}"));
        let found = scan::tree(&root, &production(), Some(&cache), &mut quiet()).unwrap();
        let right = Hash::of(format!("{round:04}").as_bytes());
        let entry = found.manifest.entries.get(&rel("f"));
        assert!(matches!(entry, Some(Entry::File { hash, .. }) if *hash == right), "{round}");
    }
}

#[test]
fn a_cache_that_cannot_be_written_does_not_spoil_the_scan() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "tree/a", "x");
    let cache = dir.path().join("no-such-folder/cache");
    let root = dir.path().join("tree");
    let found = scan::tree(&root, &production(), Some(&cache), &mut quiet()).unwrap();
    assert!(found.cache_fault.is_some());
    assert_eq!(found.manifest.files(), 1);
}

#[test]
fn a_time_in_the_future_is_never_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    write(dir.path(), "tree/a", "x");
    let file = fs::File::options().write(true).open(dir.path().join("tree/a")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(3_600)).unwrap();
    let root = dir.path().join("tree");
    for _ in 0..3 {
        let found = scan::tree(&root, &production(), Some(&cache), &mut quiet()).unwrap();
        assert_eq!(found.hashed, 1);
    }
}

#[test]
fn names_that_differ_by_case_or_unicode_form_collide() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["A", "a", "b/É", "b/e\u{301}", "b/other"] {
        write(dir.path(), name, "1");
    }
    let pair = |one: &str, other: &str| (rel(one), rel(other));
    let expected = [pair("A", "a"), pair("b/e\u{301}", "b/É")];
    assert_eq!(scan(dir.path(), &production()).collisions, expected);
    // Also where all of it was seen before.
    let kept = tempfile::tempdir().unwrap();
    let cache = kept.path().join("cache");
    for _ in 0..3 {
        let again = scan::tree(dir.path(), &production(), Some(&cache), &mut quiet()).unwrap();
        assert_eq!(again.collisions, expected);
        assert_eq!(again.hash, Some(again.manifest.hash()));
    }
    std::fs::remove_file(dir.path().join("A")).unwrap();
    std::fs::remove_file(dir.path().join("b/É")).unwrap();
    assert_eq!(scan(dir.path(), &production()).collisions, []);
}
