//! What tree and database hold while the game is closed, noted by the hooks of a release.

use std::path::{Path, PathBuf};

use entracte_db::{Settings, SqliteSettings, Sums};
use entracte_model::Hash;
use entracte_package::scan;
use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// Tree and tables at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The hash over every path, kind, mode and content of the tree.
    pub tree: Hash,
    /// How many files that are.
    pub files: u64,
    /// Rows and checksum of every table, and the hash of the schema.
    pub tables: Sums,
}

/// The game is closed, and nothing is changed yet.
pub const CLOSED: &str = "closed";
/// The game is about to open.
pub const OPENING: &str = "opening";
const UNDOING: &str = "undoing";

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// How many files.
    pub files: u64,
    /// How many tables.
    pub tables: usize,
    /// How many rows.
    pub rows: u64,
    /// What differs, in words; empty where nothing does.
    pub differences: Vec<String>,
    /// Rows that were gone while the release was in.
    pub rows_gone_between: u64,
}

impl Contents {
    /// Reads everything, now.
    pub fn of(root: &Path, database: &Path) -> Result<Self, Failure> {
        let rules = scan::Rules { ignore_files: false, skip: vec![], file_bytes_max: u64::MAX };
        let manifest = scan::tree(root, &rules, None, &mut |_| {})?.manifest;
        let settings = Settings::Sqlite(SqliteSettings { path: database.to_owned() });
        let tables = entracte_db::open(&settings)?.sums()?;
        Ok(Self { tree: manifest.hash(), files: manifest.files(), tables })
    }

    /// What differs in what was found later, in words.
    pub fn differences(&self, later: &Self) -> Vec<String> {
        let mut differences = self.tables.differences(&later.tables);
        if self.tree != later.tree {
            differences.insert(0, "the tree is not as it was".to_owned());
        }
        differences
    }

    fn rows(&self) -> u64 {
        self.tables.tables.values().map(|table| table.rows).sum()
    }
}

impl Noted {
    /// What the release left behind.
    pub fn compare(&self) -> Compared {
        Compared {
            files: self.closed.files,
            tables: self.closed.tables.tables.len(),
            rows: self.closed.rows(),
            differences: self.closed.differences(&self.opening),
            rows_gone_between: self.closed.rows().saturating_sub(self.undoing.rows()),
        }
    }
}

/// Writes what `root` and `database` hold into `dir`, for the release that runs this hook.
///
/// Workers are stopped when the game closes, and once more before a rollback point comes back: the
/// second note of `closed` is that of a release that is being undone, and called so.
pub fn note(dir: &Path, moment: &str, root: &Path, database: &Path) -> Result<(), Failure> {
    let release = std::env::var("ENTRACTE_RELEASE").unwrap_or_else(|_| "none".into());
    let text = serde_json::to_vec(&Contents::of(root, database)?)?;
    let mut path = file(dir, &release, moment);
    if moment == CLOSED && path.exists() {
        path = file(dir, &release, UNDOING);
    }
    Ok(std::fs::write(path, text)?)
}

/// The notes of a release that was taken back.
#[derive(Debug)]
pub struct Noted {
    /// The game was closed, and nothing was changed yet.
    pub closed: Contents,
    /// The release was in, and was about to be undone.
    pub undoing: Contents,
    /// The game was about to open again.
    pub opening: Contents,
}

/// What was noted for a release.
pub fn noted(dir: &Path, release: &str) -> Result<Noted, Failure> {
    let read = |moment: &str| -> Result<Contents, Failure> {
        let path = file(dir, release, moment);
        let text = std::fs::read(&path).map_err(|error| {
            Failure::broken(format!("no note of the closed window at {}: {error}", path.display()))
        })?;
        Ok(serde_json::from_slice(&text)?)
    };
    Ok(Noted { closed: read(CLOSED)?, undoing: read(UNDOING)?, opening: read(OPENING)? })
}

fn file(dir: &Path, release: &str, moment: &str) -> PathBuf {
    dir.join(format!("{release}-{moment}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::stage::Stage;

    #[test]
    fn one_row_or_one_file_makes_a_difference() {
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage::build(Some(&dir.path().join("demo"))).unwrap();
        let look = || Contents::of(&stage.root(), &stage.database()).unwrap();
        let before = look();
        assert_eq!(before.differences(&look()), Vec::<String>::new());
        assert!(before.rows() >= 2_000);
        let database = rusqlite::Connection::open(stage.database()).unwrap();
        database.execute("UPDATE players SET gold = gold + 1 WHERE id = 7", []).unwrap();
        drop(database);
        assert_eq!(before.differences(&look()).len(), 1);
        std::fs::write(stage.root().join("version.txt"), "9\n").unwrap();
        assert_eq!(before.differences(&look()).len(), 2);
    }

    #[test]
    fn the_second_note_of_a_closed_game_is_that_of_an_undo() {
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage::build(Some(&dir.path().join("demo"))).unwrap();
        let note = |moment| note(dir.path(), moment, &stage.root(), &stage.database()).unwrap();
        let database = rusqlite::Connection::open(stage.database()).unwrap();
        note(CLOSED);
        database.execute("DELETE FROM players WHERE id <= 10", []).unwrap();
        note(CLOSED);
        note(OPENING);
        let compared = noted(dir.path(), "none").unwrap().compare();
        assert_eq!(compared.rows_gone_between, 10);
        assert_eq!(compared.differences, ["table players: expected 2000 rows, found 1990"]);
    }
}
