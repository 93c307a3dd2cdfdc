//! A repository in a folder of its own, and the real restic beside it.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use entracte_backup::{BackupError, Progress, Reason, Repository, Snapshot, Tags};

pub struct Place {
    pub dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn repository(&self) -> PathBuf {
        self.path("backups")
    }

    pub fn password(&self) -> PathBuf {
        self.path("password")
    }

    pub fn open(&self) -> Repository {
        Repository::open_or_init(&self.repository(), &self.password()).unwrap()
    }

    /// Runs the real restic on one of the two repositories; it must succeed.
    pub fn restic(&self, part: &str, arguments: &[&str]) -> String {
        let output = self.try_restic(part, arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "restic {arguments:?}: {text}{errors}");
        text
    }

    pub fn try_restic(&self, part: &str, arguments: &[&str]) -> Output {
        Command::new("restic")
            .arg("--repo")
            .arg(self.repository().join(part))
            .arg("--password-file")
            .arg(self.password())
            .arg("--no-cache")
            .args(arguments)
            .output()
            .expect("restic is needed: run cargo xtask setup")
    }

    /// Both repositories are whole, for us and for the real restic.
    pub fn assert_whole(&self) {
        self.open().check(true).unwrap();
        for part in ["trees", "dumps"] {
            self.restic(part, &["check", "--read-data"]);
        }
    }

    /// The bytes of all packs of one repository.
    pub fn packed(&self, part: &str) -> u64 {
        sizes(&self.repository().join(part).join("data"))
    }
}

fn sizes(folder: &Path) -> u64 {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if meta.is_dir() { sizes(&entry.path()) } else { meta.len() }
        })
        .sum()
}

pub fn tags() -> Tags {
    Tags {
        project: "taverne".into(),
        target: "production".into(),
        version: Some("1.0.0".into()),
        release: None,
        reason: Reason::Daily,
    }
}

pub fn silent() -> impl FnMut(Progress) {
    |_| {}
}

pub fn store_tree(repository: &mut Repository, root: &Path) -> Result<Snapshot, BackupError> {
    repository.store_tree(root, &[], &tags(), &mut silent(), &AtomicBool::new(false))
}

pub fn store_dump(repository: &mut Repository, dump: &[u8]) -> Result<Snapshot, BackupError> {
    let mut write = |out: &mut dyn Write| {
        out.write_all(dump).map_err(|error| error.to_string())?;
        Ok(dump.len() as u64)
    };
    repository.store_stream("taverne.sql", &tags(), &mut write, &mut silent())
}

pub fn restore_dump(repository: &Repository, id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let bytes = repository.restore_stream(id, &mut out, &mut silent()).unwrap();
    assert_eq!(bytes, out.len() as u64);
    out
}

/// Bytes that do not compress, always the same ones.
pub fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2) + 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(count)
    .collect()
}
