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

    /// Compares with what was found later.
    pub fn compare(&self, later: &Self) -> Compared {
        let mut differences = self.tables.differences(&later.tables);
        if self.tree != later.tree {
            differences.insert(0, "the tree is not as it was".to_owned());
        }
        Compared {
            files: self.files,
            tables: self.tables.tables.len(),
            rows: self.tables.tables.values().map(|table| table.rows).sum(),
            differences,
        }
    }
}

/// Writes what `root` and `database` hold into `dir`, for the release that runs this hook.
pub fn note(dir: &Path, moment: &str, root: &Path, database: &Path) -> Result<(), Failure> {
    let release = std::env::var("ENTRACTE_RELEASE").unwrap_or_else(|_| "none".into());
    let text = serde_json::to_vec(&Contents::of(root, database)?)?;
    Ok(std::fs::write(file(dir, &release, moment), text)?)
}

/// What was noted for a release while the game was closed, and what just before it opened.
pub fn noted(dir: &Path, release: &str) -> Result<(Contents, Contents), Failure> {
    let read = |moment: &str| -> Result<Contents, Failure> {
        let path = file(dir, release, moment);
        let text = std::fs::read(&path).map_err(|error| {
            Failure::broken(format!("no note of the closed window at {}: {error}", path.display()))
        })?;
        Ok(serde_json::from_slice(&text)?)
    };
    Ok((read("closed")?, read("opening")?))
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
        assert_eq!(before.compare(&look()).differences, Vec::<String>::new());
        assert!(before.compare(&look()).rows >= 2_000);
        let database = rusqlite::Connection::open(stage.database()).unwrap();
        database.execute("UPDATE players SET gold = gold + 1 WHERE id = 7", []).unwrap();
        drop(database);
        assert_eq!(before.compare(&look()).differences.len(), 1);
        std::fs::write(stage.root().join("version.txt"), "9\n").unwrap();
        assert_eq!(before.compare(&look()).differences.len(), 2);
    }
}
