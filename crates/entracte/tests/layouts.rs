//! The layouts beside `exchange`: a link that is pointed elsewhere, and files replaced in place. The
//! same release, the same ways back, and deaths of the runner around the switch.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

mod small;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use small::{Small, step};

/// A site in a layout, with `version` packed.
fn site(layout: &str, version: &str) -> Small {
    let site = Small::start(version);
    let config = site.dev.join("entracte.toml");
    let text = fs::read_to_string(&config).unwrap();
    let section = "[target.production]\n";
    assert!(text.contains(section));
    let with = format!("{section}layout = {layout:?}\n");
    fs::write(&config, text.replacen(section, &with, 1)).unwrap();
    if layout == "symlink" {
        let said = site.exits(3, &["deploy", version, "--yes"]);
        assert!(said.contains("is a real folder"), "{said}");
        let releases = site.root.with_file_name("releases");
        fs::create_dir(&releases).unwrap();
        fs::rename(&site.root, releases.join("first")).unwrap();
        symlink("releases/first", &site.root).unwrap();
    }
    site
}

fn there_and_back(layout: &str) {
    let mut site = site(layout, "1.1");
    assert!(site.buy());
    let before = fs::symlink_metadata(&site.root).unwrap();
    site.ok(&["deploy", "1.1", "--yes"]);
    site.reference.migrate("1.1");
    site.assert_holds("1.1", layout);
    let after = fs::symlink_metadata(&site.root).unwrap();
    match layout {
        "symlink" => {
            let tree = fs::read_link(&site.root).unwrap();
            let name = tree.file_name().unwrap().to_string_lossy().into_owned();
            assert!(after.is_symlink() && name.starts_with("1.1.0-r"), "{name}");
        }
        _ => assert_eq!((before.dev(), before.ino()), (after.dev(), after.ino())),
    }
    site.ok(&["rollback", "--with-data", "--yes"]);
    site.reference.go_back();
    site.assert_holds("1.0", layout);
    // The same version again, and then there is nothing that stands in its way.
    site.pack("1.1");
    site.ok(&["deploy", "1.1", "--yes"]);
    site.reference.migrate("1.1");
    site.assert_holds("1.1", layout);
}

/// A smoke test fails: the files are taken back.
fn taken_back(layout: &str) {
    let mut site = site(layout, "1.3");
    assert!(site.buy());
    site.exits(4, &["deploy", "1.3", "--yes"]);
    site.assert_holds("1.0", layout);
}

/// The runner dies at a moment of the switch, and again on the way back where there is one.
fn deaths(layout: &str) {
    for (version, moment) in [
        ("1.1", "started"),
        ("1.1", "effect"),
        ("1.1", "done"),
        ("1.3", "undo-started"),
        ("1.3", "undo-effect"),
    ] {
        let case = format!("{layout}: {version} dies at {moment}");
        let mut site = site(layout, version);
        assert!(site.buy(), "{case}");
        let mut deploy = site.command(&["deploy", version, "--yes"]);
        deploy.env("ENTRACTE_CRASH", format!("{moment}:{}", step("switch")));
        let output = deploy.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{case}: {}", small::said(&output));
        if version == "1.1" {
            site.exits(0, &["resume"]);
            site.reference.migrate("1.1");
            site.assert_holds("1.1", &case);
        } else {
            site.exits(4, &["resume"]);
            site.assert_holds("1.0", &case);
        }
    }
}

#[test]
fn a_link_is_pointed_there_and_back() {
    there_and_back("symlink");
    taken_back("symlink");
}

#[test]
fn files_are_replaced_in_place_there_and_back() {
    there_and_back("inplace");
    taken_back("inplace");
}

#[test]
fn a_runner_that_dies_while_it_points_the_link_leaves_one_version() {
    deaths("symlink");
}

#[test]
fn a_runner_that_dies_while_it_replaces_files_leaves_one_version() {
    deaths("inplace");
}
