//! `entracte key` and `entracte adopt`, as their users run them; the ordinary `minisign` and `git`
//! verify what they make.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod site;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;
use site::{Site, said};

fn minisign(site: &Site, public: &str, signed: &str) -> bool {
    let done = Command::new("minisign")
        .args(["-V", "-p", public, "-m", signed])
        .current_dir(site.at(""))
        .output()
        .unwrap();
    done.status.success()
}

#[test]
fn keys_are_made_listed_trusted_and_rotated() {
    let site = Site::new();
    let listed = site.json(0, &["key", "list"]);
    assert_eq!((&listed["good"], listed["trusted"].as_array().unwrap().len()), (&json!(true), 1));
    let old = listed["id"].as_str().unwrap().to_owned();
    fs::write(
        site.at("old.pub"),
        format!("untrusted comment: old\n{}\n", listed["signs"].as_str().unwrap()),
    )
    .unwrap();

    // A second signer: refused without a trusted signature, taken on a person's word.
    let other = site.at("other.key").display().to_string();
    let made = site.json(0, &["key", "new", "--out", &other]);
    assert_eq!(fs::metadata(&other).unwrap().permissions().mode() & 0o777, 0o600);
    site.says(1, &["key", "new", "--out", &other], &["never overwritten"]);
    let public = site.at("other.pub").display().to_string();
    site.says(3, &["key", "trust", &public], &["other.pub.minisig"]);
    site.says(3, &["key", "trust", made["public"].as_str().unwrap()], &["expected"]);
    site.says(1, &["key", "trust", "RWnonsense"], &["not a minisign public key"]);
    // Signed, but by itself.
    let itself =
        entracte_package::keys::vouch(&site.at("other.key"), &fs::read_to_string(&public).unwrap());
    fs::write(site.at("other.pub.minisig"), itself.unwrap()).unwrap();
    site.says(3, &["key", "trust", &public], &["is not signed by a key that is trusted here"]);
    // Signed by a trusted key, with another key's name in the file.
    let vouched =
        entracte_package::keys::vouch(&site.at("sign.key"), &fs::read_to_string(&public).unwrap());
    fs::write(site.at("other.pub.minisig"), vouched.unwrap()).unwrap();
    let text = fs::read_to_string(&public).unwrap();
    fs::write(&public, text.replace("minisign public key", "another public key")).unwrap();
    site.says(3, &["key", "trust", &public], &["was changed after it was signed"]);
    fs::write(&public, text).unwrap();
    site.says(0, &["key", "trust", &public], &["takes packages of key"]);
    site.says(0, &["key", "trust", &public], &["trusted already"]);

    // Rotation: the new key signs, both are trusted, and anybody can verify it.
    let rotated = site.json(0, &["key", "rotate"]);
    assert_eq!(rotated["old"].as_str().unwrap(), old);
    let new = rotated["file"].as_str().unwrap();
    assert!(minisign(&site, "old.pub", new));
    assert!(!minisign(&site, &public, new));
    let listed = site.json(0, &["key", "list"]);
    assert_eq!(listed["id"], rotated["new"]);
    assert_eq!((&listed["good"], listed["trusted"].as_array().unwrap().len()), (&json!(true), 3));
    site.develop("1.1");
    site.ok(&["pack", "1.1"]);
    assert!(minisign(&site, new, &site.at("dev/dist/v1.1.0/release.json").display().to_string()));
    site.ok(&["verify", "dist/inn-1.1.0.tar.zst"]);
    // A production that does not know the new key yet takes it by the old one's signature.
    let config = fs::read_to_string(site.dev.join("entracte.toml")).unwrap();
    let line = rotated["public"].as_str().unwrap();
    fs::write(site.dev.join("entracte.toml"), config.replace(&format!(", {line:?}"), "")).unwrap();
    site.says(3, &["verify", "dist/inn-1.1.0.tar.zst"], &["which is not trusted here"]);
    site.ok(&["key", "trust", new]);
    site.ok(&["verify", "dist/inn-1.1.0.tar.zst"]);
}

#[test]
fn hand_edits_of_production_come_into_development_and_are_not_lost() {
    let site = Site::new();
    site.git(&["init", "-q"]);
    site.git(&["add", "-A"]);
    site.git(&["commit", "-qm", "1.0"]);
    assert_eq!(site.json(0, &["adopt"])["changes"], json!({}));
    let version = fs::read_to_string(site.root.join("version.txt")).unwrap();
    fs::write(site.root.join("version.txt"), format!("{version}a hotfix at night\n")).unwrap();
    fs::create_dir(site.root.join("new folder")).unwrap();
    fs::write(site.root.join("new folder/été.sh"), "#!/bin/sh\n").unwrap();
    let exec = fs::Permissions::from_mode(0o755);
    fs::set_permissions(site.root.join("new folder/été.sh"), exec).unwrap();
    std::os::unix::fs::symlink("version.txt", site.root.join("alias.txt")).unwrap();

    let shown = site.says(0, &["adopt"], &["+a hotfix at night", "--apply"]);
    assert!(shown.contains("été.sh") || shown.contains("\\303\\251t\\303\\251.sh"), "{shown}");
    let patch = site.at("fix.patch").display().to_string();
    site.ok(&["adopt", "--out", &patch]);
    // The patch is one that git takes.
    let done = Command::new("git")
        .args(["apply", "--check", "-p1", "--directory=source", &patch])
        .current_dir(&site.dev)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", said(&done));

    // Development changed the same file: nothing is applied.
    fs::write(site.dev.join("source/version.txt"), "version 1.0\nanother change\n").unwrap();
    site.says(3, &["adopt", "--apply"], &["version.txt", "--merged"]);
    assert!(!site.dev.join("source/alias.txt").exists());
    let merged = "version 1.0\nanother change\na hotfix at night\n";
    fs::write(site.dev.join("source/version.txt"), merged).unwrap();
    site.says(0, &["adopt", "--apply", "--merged", "version.txt"], &["counts as 1.0"]);
    assert_eq!(fs::read_to_string(site.dev.join("source/version.txt")).unwrap(), merged);
    let script = site.dev.join("source/new folder/été.sh");
    assert_eq!(fs::metadata(&script).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(site.dev.join("source/alias.txt").symlink_metadata().unwrap().is_symlink());

    // Production is known as it stands: the next package holds only what is merged.
    site.says(0, &["verify"], &["Production is exactly 1.0"]);
    // Nothing of it is committed yet: that is told.
    let status = site.json(3, &["status"]);
    assert_eq!(status["changes"], json!({ "version.txt": "modified" }));
}
