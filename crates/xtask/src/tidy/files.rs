//! The files of the repository, read once.

use std::collections::BTreeMap;
use std::path::Path;

/// Folders that hold nothing of ours, by name.
const SKIPPED: [&str; 2] = [".git", "target"];
/// Files larger than this are no text that a person wrote, in bytes.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Every text file below the root, by its path with `/`.
#[derive(Debug, Default)]
pub struct Files {
    texts: BTreeMap<String, String>,
    /// Everything that exists, texts or not, folders too.
    names: Vec<String>,
}

impl Files {
    /// Reads all files below `root` that git would keep.
    pub fn read(root: &Path) -> Result<Self, String> {
        let mut files = Self::default();
        files.walk(root, "")?;
        Ok(files)
    }

    fn walk(&mut self, dir: &Path, prefix: &str) -> Result<(), String> {
        let broken = |error: std::io::Error| format!("{}: {error}", dir.display());
        for entry in std::fs::read_dir(dir).map_err(broken)? {
            let entry = entry.map_err(broken)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if SKIPPED.contains(&name.as_str()) || name.ends_with(".log") {
                continue;
            }
            let path = format!("{prefix}{name}");
            let kind = entry.file_type().map_err(broken)?;
            self.names.push(path.clone());
            if kind.is_dir() {
                self.walk(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file() && entry.metadata().map_err(broken)?.len() <= TEXT_BYTES_MAX {
                // What is not UTF-8 is not text for these rules.
                if let Ok(text) = std::fs::read_to_string(entry.path()) {
                    self.texts.insert(path, text);
                }
            }
        }
        Ok(())
    }

    /// The text of one file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// All texts with their paths, in order.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The texts whose path ends so.
    pub fn ending<'a>(&'a self, end: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.texts().filter(move |(path, _)| path.ends_with(end))
    }

    /// Whether there is a file or a folder at this path.
    pub fn exists(&self, path: &str) -> bool {
        path.is_empty() || self.names.iter().any(|name| name == path)
    }

    /// Files as a test writes them down.
    #[cfg(test)]
    pub fn of(texts: &[(&str, &str)]) -> Self {
        let mut files = Self::default();
        for (path, text) in texts {
            files.texts.insert((*path).to_owned(), (*text).to_owned());
            files.names.push((*path).to_owned());
        }
        files
    }
}
