//! From a development tree to a package, and from the package to a staged tree.
#![allow(clippy::unwrap_used, reason = "a test stops where something goes wrong")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicBool;

use common::{Game, Variant, chmod, game, quiet, rel, run, run_ok, scanned, write};
use entracte_model::RelPath;
use entracte_model::manifest::Change;
use entracte_package::archive::Archive;
use entracte_package::pack::PackFault;
use entracte_package::stage::{self, StageFault, Staged};
use entracte_package::{PackageError, keys, verify};

static GO: AtomicBool = AtomicBool::new(false);

struct Stage<'a> {
    game: &'a Game,
    archive: &'a Archive,
    persist: Vec<RelPath>,
    hardlink: bool,
    stop: AtomicBool,
}

impl Stage<'_> {
    fn build(&self) -> Result<Staged, PackageError> {
        let base = base_of(self.game, &self.persist);
        let new = self.archive.new_manifest(&base).unwrap();
        let request = stage::Request {
            live: &self.game.live,
            staged: &self.game.path("staged"),
            base: &base,
            new: &new,
            archive: self.archive,
            persist: &self.persist,
            persist_from: &self.game.path("shared"),
            hardlink: self.hardlink,
        };
        stage::build(&request, &mut quiet(), &self.stop)
    }
}

fn base_of(game: &Game, persist: &[RelPath]) -> entracte_model::Manifest {
    let rules = entracte_package::scan::Rules { skip: persist.to_vec(), ..common::production() };
    entracte_package::scan::tree(&game.live, &rules, None, &mut quiet()).unwrap().manifest
}

fn plain<'a>(game: &'a Game, archive: &'a Archive) -> Stage<'a> {
    Stage { game, archive, persist: vec![], hardlink: false, stop: AtomicBool::new(false) }
}

#[test]
fn what_was_packed_is_what_is_staged() {
    let game = game();
    let packed = game.pack();
    let archive = game.open(&packed.archive).unwrap();
    assert_eq!(archive.record(), &packed.record);
    archive.verify_all(&mut quiet()).unwrap();
    let staged = plain(&game, &archive).build().unwrap();
    assert_eq!(scanned(&game.path("staged")), scanned(&game.dev));
    assert_eq!(staged.linked, 0);
    assert_eq!(staged.copied + staged.reflinked, 3);
    assert_eq!(staged.written, 5);
    assert!(stage::probe(&game.path("staged"), &scanned(&game.dev), &[]).unwrap());
    write(&game.path("staged"), "index.php", "edited");
    assert!(!stage::probe(&game.path("staged"), &scanned(&game.dev), &[]).unwrap());
    stage::remove(&game.path("staged")).unwrap();
    assert!(!game.path("staged").exists());
    assert!(!stage::probe(&game.path("staged"), &scanned(&game.dev), &[]).unwrap());
}

#[test]
fn a_first_installation_needs_no_live_tree() {
    let game = game();
    let packed = game.pack_as(&Variant { base: None, ..game.variant() }).unwrap();
    let archive = game.open(&packed.archive).unwrap();
    let nothing = entracte_model::Manifest::default();
    let new = archive.new_manifest(&nothing).unwrap();
    let request = stage::Request {
        live: &game.path("nowhere"),
        staged: &game.path("staged"),
        base: &nothing,
        new: &new,
        archive: &archive,
        persist: &[],
        persist_from: &game.path("shared"),
        hardlink: false,
    };
    stage::build(&request, &mut quiet(), &GO).unwrap();
    assert_eq!(scanned(&game.path("staged")), scanned(&game.dev));
}

#[test]
fn the_folder_has_the_structure_of_every_version() {
    let game = game();
    let packed = game.pack();
    let listed = run_ok("tar", &[&"--zstd", &"-tf", &packed.archive]);
    let names: Vec<_> = listed.lines().collect();
    assert_eq!(names[..3], ["v1.1.0/", "v1.1.0/release.json", "v1.1.0/release.json.minisig"]);
    for name in [
        "v1.1.0/documentation/CHANGES.md",
        "v1.1.0/documentation/INSTALL.md",
        "v1.1.0/documentation/PATCHNOTES.en.md",
        "v1.1.0/SQL/2-first.sql",
        "v1.1.0/SQL/2-first.down.sql",
        "v1.1.0/source/index.php",
    ] {
        assert!(names.contains(&name), "{name} is missing in {listed}");
    }
    assert!(!names.contains(&"v1.1.0/source/lib/same.php"), "an unchanged file was packed");
    let changes = fs::read_to_string(packed.folder.join("documentation/CHANGES.md")).unwrap();
    assert!(changes.contains("`moved-from.png` to `moved/to.png`"), "{changes}");
}

#[test]
fn plain_tar_and_minisign_read_what_was_written() {
    let game = game();
    let packed = game.pack();
    let into = game.path("by-tar");
    fs::create_dir(&into).unwrap();
    run_ok("tar", &[&"--zstd", &"-xf", &packed.archive, &"-C", &into]);
    run_ok("diff", &[&"-r", &"--no-dereference", &packed.folder, &into.join("v1.1.0")]);
    let record = into.join("v1.1.0/release.json");
    let said = run_ok("minisign", &[&"-V", &"-P", &game.trusted[0], &"-m", &record]);
    assert!(said.contains("entracte taverne production 1.1.0 sequence 8"), "{said}");
    write(&into, "v1.1.0/release.json", "{}");
    let refused = run("minisign", &[&"-V", &"-P", &game.trusted[0], &"-m", &record]);
    assert!(!refused.status.success());
}

#[test]
fn the_real_minisign_signs_what_is_taken_and_its_key_and_ours_are_exchangeable() {
    let game = game();
    let (public, secret) = (game.path("m.pub"), game.path("m.key"));
    run_ok("minisign", &[&"-G", &"-W", &"-p", &public, &"-s", &secret]);
    chmod(&secret, 0o600);
    write(game.dir.path(), "data", "content");
    let data = game.path("data");
    run_ok("minisign", &[&"-S", &"-W", &"-s", &secret, &"-m", &data]);
    let signature = fs::read_to_string(game.path("data.minisig")).unwrap();
    let trusted = vec![game.trusted[0].clone(), fs::read_to_string(&public).unwrap()];
    keys::verify(&trusted, b"content", &signature).unwrap();
    let ours = keys::sign(&secret, b"content", "ours").unwrap();
    write(game.dir.path(), "data.minisig", &ours);
    run_ok("minisign", &[&"-V", &"-p", &public, &"-m", &data]);
    run_ok("minisign", &[&"-S", &"-W", &"-s", &game.key, &"-m", &data]);
    let theirs = fs::read_to_string(game.path("data.minisig")).unwrap();
    keys::verify(&trusted, b"content", &theirs).unwrap();
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let game = game();
    let first = fs::read(game.pack().archive).unwrap();
    let second = fs::read(game.pack().archive).unwrap();
    assert!(first == second, "two archives of the same input differ");
    // Elsewhere, and from files with other times and owners' bits: only the signature may differ.
    let elsewhere = game.path("elsewhere");
    fs::create_dir_all(elsewhere.join("v1.1.0")).unwrap();
    for name in ["release.json", "release.json.minisig"] {
        fs::copy(game.out.join("v1.1.0").join(name), elsewhere.join("v1.1.0").join(name)).unwrap();
    }
    chmod(&game.dev.join("index.php"), 0o640);
    let third = game.pack_as(&Variant { out: elsewhere, ..game.variant() }).unwrap();
    assert!(first == fs::read(third.archive).unwrap(), "an archive made elsewhere differs");
}

#[test]
fn scripts_and_documents_are_read_back() {
    let game = game();
    let archive = game.open(&game.pack().archive).unwrap();
    let into = game.path("scripts");
    fs::create_dir(&into).unwrap();
    let unpacked = archive.unpack_scripts(&into).unwrap();
    let names: Vec<_> = unpacked.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["2-first.sql", "10-second.sql"]);
    assert_eq!(fs::read(&unpacked[1].1).unwrap(), b"ALTER TABLE a ADD b INT;\n");
    assert_eq!(archive.script("10-second.sql").unwrap(), b"ALTER TABLE a ADD b INT;\n");
    assert_eq!(archive.down("2-first.sql").unwrap().unwrap(), b"DROP TABLE a;\n");
    assert_eq!(archive.down("10-second.sql").unwrap(), None);
    assert_eq!(archive.document("PATCHNOTES.en.md").unwrap(), b"# 1.1\n\nA market.\n");
    assert!(archive.script("3-none.sql").is_err());
    assert!(archive.document("2-first.sql").is_err());
}

#[test]
fn a_file_that_changes_between_scan_and_copy_is_refused() {
    let game = game();
    let scanned_before = game.variant();
    write(&game.dev, "index.php", "<?php // index, NEW");
    let refused = game.pack_as(&scanned_before);
    let changed = |path| PackFault::Changed(rel(path));
    assert!(matches!(refused, Err(PackageError::Pack(fault)) if fault == changed("index.php")));
    assert_eq!(fs::read_dir(&game.out).unwrap().count(), 0, "something was left behind");
}

#[test]
fn an_output_folder_of_somebody_else_is_not_touched() {
    let game = game();
    write(&game.out, "v1.1.0/my-notes.txt", "mine");
    let refused = game.pack_as(&game.variant()).unwrap_err();
    assert!(matches!(refused, PackageError::Pack(PackFault::ForeignFolder { .. })));
    assert_eq!(fs::read_to_string(game.out.join("v1.1.0/my-notes.txt")).unwrap(), "mine");
}

#[test]
fn a_person_s_edit_of_a_packed_document_is_never_overwritten() {
    let game = game();
    let notes = game.pack().folder.join("documentation/PATCHNOTES.en.md");
    fs::write(&notes, "# 1.1, in better words\n").unwrap();
    let refused = game.pack_as(&game.variant()).unwrap_err();
    assert!(matches!(refused, PackageError::Pack(PackFault::Edited(path)) if path == notes));
    let mut taken_over = game.variant();
    taken_over.documents[0].1 = fs::read(&notes).unwrap();
    let packed = game.pack_as(&taken_over).unwrap();
    let archive = game.open(&packed.archive).unwrap();
    assert_eq!(archive.document("PATCHNOTES.en.md").unwrap(), b"# 1.1, in better words\n");
}

#[test]
fn hard_links_are_made_only_when_allowed_and_never_for_changed_files() {
    let game = game();
    let archive = game.open(&game.pack().archive).unwrap();
    let inode = |path: &str| fs::metadata(game.path(path)).unwrap().ino();
    let counts = plain(&game, &archive).build().unwrap();
    assert_eq!(counts.linked, 0);
    assert_ne!(inode("live/lib/same.php"), inode("staged/lib/same.php"));
    let counts = Stage { hardlink: true, ..plain(&game, &archive) }.build().unwrap();
    assert_eq!(counts.linked, 3);
    assert_eq!(inode("live/lib/same.php"), inode("staged/lib/same.php"));
    assert_ne!(inode("live/index.php"), inode("staged/index.php"));
    assert_eq!(scanned(&game.path("staged")), scanned(&game.dev));
}

#[test]
fn modes_and_times_of_what_stays_are_kept() {
    let game = game();
    chmod(&game.live.join("index.php"), 0o640);
    chmod(&game.live.join("lib/same.php"), 0o600);
    chmod(&game.live.join("cache"), 0o2775);
    let archive = game.open(&game.pack().archive).unwrap();
    plain(&game, &archive).build().unwrap();
    let meta = |path: &str| fs::metadata(game.path(path)).unwrap();
    assert_eq!(meta("staged/index.php").mode() & 0o7777, 0o640);
    assert_eq!(meta("staged/lib/same.php").mode() & 0o7777, 0o600);
    assert_eq!(meta("staged/cache").mode() & 0o7777, 0o2775);
    assert_eq!(meta("staged/bin/tick.sh").mode() & 0o7777, 0o755);
    assert_eq!(
        meta("staged/lib/same.php").modified().unwrap(),
        meta("live/lib/same.php").modified().unwrap()
    );
    assert_eq!(meta("staged/index.php").mtime(), common::CREATED.0 / 1_000);
}

#[test]
fn persistent_paths_become_links_and_no_package_may_hold_them() {
    let game = game();
    write(&game.live, "data/uploads/a.png", "a player's");
    write(&game.live, "config.php", "secret");
    let persist = vec![rel("config.php"), rel("data/uploads")];
    let shared = game.path("shared");
    entracte_package::persist::adopt(&game.live, &shared, &persist).unwrap();
    let base = base_of(&game, &persist);
    let rules = entracte_package::scan::Rules { skip: persist.clone(), ..common::production() };
    let new = entracte_package::scan::tree(&game.dev, &rules, None, &mut quiet()).unwrap().manifest;
    let packed = game
        .pack_as(&Variant {
            base: Some(base),
            tree: new.clone(),
            out: game.out.clone(),
            project: "taverne",
            documents: vec![],
        })
        .unwrap();
    let archive = game.open(&packed.archive).unwrap();
    let staging = Stage { persist: persist.clone(), ..plain(&game, &archive) };
    assert_eq!(staging.build().unwrap().missing, []);
    let staged = game.path("staged");
    assert_eq!(fs::read_to_string(staged.join("data/uploads/a.png")).unwrap(), "a player's");
    assert!(stage::probe(&staged, &new, &persist).unwrap());
    assert!(verify::tree(&staged, &new, &persist, None, &mut quiet()).unwrap().is_empty());
    stage::remove(&staged).unwrap();
    assert_eq!(fs::read_to_string(shared.join("data/uploads/a.png")).unwrap(), "a player's");

    let greedy = Stage { persist: vec![rel("bin")], ..plain(&game, &archive) };
    let base = base_of(&game, &persist);
    let new = archive.new_manifest(&base).unwrap();
    let request = stage::Request {
        live: &game.live,
        staged: &staged,
        base: &base,
        new: &new,
        archive: &archive,
        persist: &greedy.persist,
        persist_from: &shared,
        hardlink: false,
    };
    let refused = stage::build(&request, &mut quiet(), &GO).unwrap_err();
    assert!(matches!(refused, PackageError::Stage(StageFault::Persistent { .. })));
}

#[test]
fn a_live_file_that_is_not_the_base_is_found_while_staging() {
    let game = game();
    let archive = game.open(&game.pack().archive).unwrap();
    let base = scanned(&game.live);
    let new = archive.new_manifest(&base).unwrap();
    write(&game.live, "lib/same.php", "<?php // a quick fix at night");
    let request = stage::Request {
        live: &game.live,
        staged: &game.path("staged"),
        base: &base,
        new: &new,
        archive: &archive,
        persist: &[],
        persist_from: &game.path("shared"),
        hardlink: true,
    };
    let refused = stage::build(&request, &mut quiet(), &GO).unwrap_err();
    assert!(
        matches!(refused, PackageError::Stage(StageFault::LiveChanged(p)) if p == rel("lib/same.php"))
    );
}

#[test]
fn a_stopped_staging_is_begun_again_and_a_foreign_folder_is_not_touched() {
    let game = game();
    let archive = game.open(&game.pack().archive).unwrap();
    let staging = plain(&game, &archive);
    staging.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(staging.build(), Err(PackageError::Stopped)));
    assert!(game.path("staged/lib").exists(), "nothing was begun");
    plain(&game, &archive).build().unwrap();
    assert_eq!(scanned(&game.path("staged")), scanned(&game.dev));

    // After an exchange the old live tree has the staged name: it is not to be removed.
    let swap = |a: &str, b: &str| {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        let (a, b) = (game.path(a), game.path(b));
        rustix::fs::renameat_with(rustix::fs::CWD, a, rustix::fs::CWD, b, flags).unwrap();
    };
    swap("live", "staged");
    let refused = stage::remove(&game.path("staged")).unwrap_err();
    assert!(matches!(refused, PackageError::Stage(StageFault::Foreign(_))));
    assert!(game.path("staged/old/gone.php").exists());
    stage::mark(&game.path("staged")).unwrap();
    stage::remove(&game.path("staged")).unwrap();
    assert!(!game.path("staged").exists());
}

#[test]
fn unpacking_gives_the_changed_files_only() {
    let game = game();
    let archive = game.open(&game.pack().archive).unwrap();
    let into = game.path("into");
    fs::create_dir(&into).unwrap();
    archive.unpack_source(&into, &mut quiet()).unwrap();
    let unpacked = scanned(&into);
    for (path, entry) in &archive.record().delta.put {
        assert_eq!(unpacked.entries.get(path), Some(entry), "{path}");
    }
    assert!(!into.join("lib/same.php").exists());
    assert!(archive.unpack_source(&into, &mut quiet()).is_err(), "unpacked over what was there");
}

#[test]
fn a_tree_is_healed_from_its_packages_and_extra_files_are_only_told() {
    let game = game();
    let update = game.open(&game.pack().archive).unwrap();
    let full = game.path("full");
    let packed = game.pack_as(&Variant { base: None, out: full, ..game.variant() });
    let full = game.open(&packed.unwrap().archive).unwrap();
    let expected = scanned(&game.dev);
    write(&game.dev, "index.php", "hacked");
    chmod(&game.dev.join("index.php"), 0o600);
    chmod(&game.dev.join("bin/tick.sh"), 0o644);
    fs::remove_file(game.dev.join("lib/up.php")).unwrap();
    fs::remove_file(game.dev.join("lib/same.php")).unwrap();
    fs::remove_dir_all(game.dev.join("moved")).unwrap();
    write(&game.dev, "shell.php", "extra");
    let changes = verify::tree(&game.dev, &expected, &[], None, &mut quiet()).unwrap();
    assert_eq!(changes.len(), 7, "{changes:?}");
    let healed = verify::heal(&game.dev, &expected, &[&update], &[], &[]).unwrap();
    assert_eq!(healed.left.len(), 2, "{:?}", healed.left);
    assert_eq!(healed.left.get(&rel("lib/same.php")), Some(&Change::Deleted));
    let healed = verify::heal(&game.dev, &expected, &[&update, &full], &[], &[]).unwrap();
    assert_eq!(healed.left, [(rel("shell.php"), Change::Created)].into());
    fs::remove_file(game.dev.join("shell.php")).unwrap();
    assert_eq!(scanned(&game.dev), expected);
    assert_eq!(fs::metadata(game.dev.join("index.php")).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_tree_is_healed_from_what_is_whole_elsewhere() {
    let game = game();
    let (expected, old) = (scanned(&game.dev), scanned(&game.live));
    write(&game.dev, "copy.php", "<?php // the same in both");
    let with_copy = scanned(&game.dev);
    fs::remove_file(game.dev.join("copy.php")).unwrap();
    write(&game.dev, "moved/to.png", "hacked");
    fs::remove_file(game.dev.join("lib/deep/er/kept.txt")).unwrap();
    // From the tree itself, where the same content stands under another name.
    let healed = verify::heal(&game.dev, &with_copy, &[], &[], &[]).unwrap();
    assert_eq!(healed.repaired, [rel("copy.php")]);
    fs::remove_file(game.dev.join("copy.php")).unwrap();
    // From the tree that a release replaced; what was changed there is not taken.
    write(&game.live, "lib/deep/er/kept.txt", "changed there, too");
    let kept = [verify::Tree { root: &game.live, manifest: &old }];
    let healed = verify::heal(&game.dev, &expected, &[], &kept, &[]).unwrap();
    assert_eq!(healed.repaired, [rel("moved/to.png")]);
    assert_eq!(healed.left, [(rel("lib/deep/er/kept.txt"), Change::Deleted)].into());
    write(&game.live, "lib/deep/er/kept.txt", "kept");
    let healed = verify::heal(&game.dev, &expected, &[], &kept, &[]).unwrap();
    assert!(healed.left.is_empty(), "{:?}", healed.left);
    assert_eq!(scanned(&game.dev), expected);
}

#[test]
fn trees_within_each_other_are_refused() {
    let game = game();
    let archive = game.open(&game.pack().archive).unwrap();
    let base = scanned(&game.live);
    let new = archive.new_manifest(&base).unwrap();
    for (staged, shared) in
        [("live/staged", "shared"), ("staged", "live/shared"), ("staged", "staged/x")]
    {
        let request = stage::Request {
            live: &game.live,
            staged: &game.path(staged),
            base: &base,
            new: &new,
            archive: &archive,
            persist: &[],
            persist_from: &game.path(shared),
            hardlink: false,
        };
        let refused = stage::build(&request, &mut quiet(), &GO).unwrap_err();
        assert!(matches!(refused, PackageError::Stage(StageFault::Nested { .. })), "{staged}");
    }
}

#[test]
fn a_key_is_never_overwritten_nor_used_when_others_can_read_it() {
    let game = game();
    let again = keys::generate(&game.key).unwrap_err();
    assert!(matches!(again, PackageError::Key(keys::KeyError::Exists(_))));
    assert_eq!(fs::metadata(&game.key).unwrap().mode() & 0o777, 0o600);
    chmod(&game.key, 0o640);
    let exposed = game.pack_as(&game.variant()).unwrap_err();
    assert!(matches!(exposed, PackageError::Key(keys::KeyError::Exposed { mode: 0o640, .. })));
}

#[test]
fn nothing_is_packed_that_no_reader_would_take() {
    let game = game();
    write(&game.dev, "a/Case.php", "1");
    write(&game.dev, "a/case.php", "2");
    let refused = game.pack_as(&game.variant()).unwrap_err();
    assert!(matches!(refused, PackageError::Pack(PackFault::Unacceptable(_))), "{refused}");
    let climbing = Variant { project: "../x", ..game.variant() };
    let refused = game.pack_as(&climbing).unwrap_err();
    assert!(matches!(refused, PackageError::Pack(PackFault::ProjectName(_))));
}
