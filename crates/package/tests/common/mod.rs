//! A game in two versions, a key, and the ways to pack and open.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use entracte_model::record::Base;
use entracte_model::{Manifest, RelPath, UnixMs, Version};
use entracte_package::archive::{self, Archive};
use entracte_package::scan::{self, Rules};
use entracte_package::{PackageError, Progress, keys, pack};

pub const CREATED: UnixMs = UnixMs(1_700_000_000_123);

pub struct Game {
    pub dir: tempfile::TempDir,
    pub live: PathBuf,
    pub dev: PathBuf,
    pub out: PathBuf,
    pub key: PathBuf,
    pub trusted: Vec<String>,
    pub scripts: Vec<PathBuf>,
}

/// 1.0 in `live`, 1.1 in `dev`: created, modified, deleted, renamed, linked, executable, empty.
pub fn game() -> Game {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (live, dev) = (at("live"), at("dev"));
    for root in [&live, &dev] {
        write(root, "index.php", "<?php // index");
        write(root, "lib/same.php", "<?php // the same in both");
        write(root, "lib/deep/er/kept.txt", "kept");
        write(root, "lib/empty.txt", "");
        fs::create_dir(root.join("cache")).unwrap();
        std::os::unix::fs::symlink("lib/same.php", root.join("alias.php")).unwrap();
    }
    write(&live, "old/gone.php", "gone in 1.1");
    write(&live, "moved-from.png", "an image that only moves");
    write(&dev, "moved/to.png", "an image that only moves");
    write(&dev, "index.php", "<?php // index, new");
    write(&dev, "bin/tick.sh", "#!/bin/sh\n");
    chmod(&dev.join("bin/tick.sh"), 0o755);
    write(&dev, "été/déjà vu.php", "accents and a space");
    let long = format!("{}/{}.php", "d".repeat(120), "f".repeat(200));
    write(&dev, &long, "a path that a plain tar header cannot hold");
    std::os::unix::fs::symlink("../index.php", dev.join("lib/up.php")).unwrap();
    write(&at("sql"), "10-second.sql", "ALTER TABLE a ADD b INT;\n");
    write(&at("sql"), "2-first.sql", "CREATE TABLE a (c INT);\n");
    write(&at("sql"), "2-first.down.sql", "DROP TABLE a;\n");
    let scripts = ["10-second.sql", "2-first.sql", "2-first.down.sql"];
    let scripts = scripts.iter().map(|name| at("sql").join(name)).collect();
    let key = at("secret.key");
    let trusted = vec![keys::generate(&key).unwrap().0];
    let out = at("out");
    Game { live, dev, out, key, trusted, scripts, dir }
}

/// What a test may want to be otherwise.
pub struct Variant {
    pub base: Option<Manifest>,
    pub tree: Manifest,
    pub out: PathBuf,
    pub project: &'static str,
    pub documents: Vec<(String, Vec<u8>)>,
}

impl Game {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Everything as usual, scanned now.
    pub fn variant(&self) -> Variant {
        Variant {
            base: Some(scanned(&self.live)),
            tree: scanned(&self.dev),
            out: self.out.clone(),
            project: "taverne",
            documents: vec![
                ("PATCHNOTES.en.md".into(), b"# 1.1\n\nA market.\n".to_vec()),
                ("INSTALL.md".into(), b"Steps.\n".to_vec()),
            ],
        }
    }

    pub fn pack(&self) -> pack::Packed {
        self.pack_as(&self.variant()).unwrap()
    }

    pub fn pack_as(&self, variant: &Variant) -> Result<pack::Packed, PackageError> {
        let base = variant.base.as_ref();
        let request = pack::Request {
            project: variant.project,
            environment: "production",
            version: &version("1.1"),
            sequence: 8,
            base: base.map(|tree| (Base { version: version("1.0"), manifest: tree.hash() }, tree)),
            tree: &variant.tree,
            root: &self.dev,
            scripts: self.scripts.clone(),
            documents: variant.documents.clone(),
            fragments: vec![],
            created: CREATED,
            expires: CREATED + 1_000_000,
            least_tool: version("0.1"),
            out_dir: &variant.out,
            secret_key: &self.key,
        };
        pack::write(&request, &mut quiet())
    }

    pub fn open(&self, path: &Path) -> Result<Archive, PackageError> {
        archive::open(path, &self.trusted)
    }
}

pub fn quiet() -> impl FnMut(Progress) {
    |_| {}
}

pub fn rel(text: &str) -> RelPath {
    text.parse().unwrap()
}

pub fn version(text: &str) -> Version {
    text.parse().unwrap()
}

pub fn production() -> Rules {
    Rules { ignore_files: false, skip: vec![], file_bytes_max: u64::MAX }
}

pub fn scanned(root: &Path) -> Manifest {
    scan::tree(root, &production(), None, &mut quiet()).unwrap().manifest
}

pub fn write(root: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

pub fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs a program of this machine; its absence is a failure of the test.
pub fn run(program: &str, args: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(program);
    for arg in args {
        command.arg(arg);
    }
    command.output().unwrap_or_else(|error| {
        panic!("`{program}` could not be run ({error}); run `cargo xtask setup`")
    })
}

pub fn run_ok(program: &str, args: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
    let output = run(program, args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs git in a folder, as somebody.
pub fn git_in(root: &Path, args: &[&str]) {
    let config =
        ["-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"];
    let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"-C", &root];
    all.extend(config.iter().map(|arg| arg as &dyn AsRef<std::ffi::OsStr>));
    all.extend(args.iter().map(|arg| arg as &dyn AsRef<std::ffi::OsStr>));
    run_ok("git", &all);
}
