//! A second database, in which the plain `sqlite3` does what the game and its releases must have done.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::game;

/// The second database.
pub struct Reference {
    path: PathBuf,
    scratch: PathBuf,
}

impl Reference {
    /// A copy of the game's database as it is now.
    pub fn new(dir: &Path, database: &Path) -> Self {
        let path = dir.join("reference.sqlite");
        std::fs::copy(database, &path).unwrap();
        Self { path, scratch: dir.join("reference.before") }
    }

    /// The purchase `id` was answered "ok".
    pub fn buy(&self, id: &str) {
        sqlite3(&self.path, &game::purchase(id));
    }

    /// A release brought the scripts of `version`. [`Reference::go_back`] forgets them again.
    pub fn migrate(&self, version: &str) {
        std::fs::copy(&self.path, &self.scratch).unwrap();
        sqlite3(&self.path, game::script(version));
    }

    /// The data came back as it was before the last migration.
    pub fn go_back(&self) {
        std::fs::rename(&self.scratch, &self.path).unwrap();
    }

    /// All of it as text.
    pub fn dump(&self) -> String {
        dump(&self.path)
    }
}

/// A whole database as text: every row in its order, every definition, but for the mirror of the
/// script journal.
pub fn dump(path: &Path) -> String {
    let dump = sqlite3(path, ".timeout 10000\n.dump\n");
    let of_the_game = dump.lines().filter(|line| !line.contains("entracte_history"));
    of_the_game.fold(String::new(), |text, line| text + line + "\n")
}

fn sqlite3(path: &Path, input: &str) -> String {
    use std::io::Write;
    let mut child = Command::new("sqlite3")
        .args(["-batch", "-bail"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("sqlite3: {error}; run `cargo xtask setup`"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{input}: {}",
        super::said(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}
