//! Paths inside a game's tree, in the one form that is safe to join to a root.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use unicode_normalization::UnicodeNormalization;

/// The longest name of one file or folder, in bytes (NAME_MAX of Linux file systems).
pub const NAME_BYTES_MAX: usize = 255;
/// The longest path in bytes: PATH_MAX (4,096), less room for the root it is joined to.
pub const PATH_BYTES_MAX: usize = 3_072;

/// A relative path with `/` between its names: never absolute, never `..`, never empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(String);

/// Why a text is not a safe relative path. Each attack of its kind has its own error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Nothing at all.
    #[error("the path is empty")]
    Empty,
    /// It starts at the root of the file system.
    #[error("{0:?} is an absolute path; a path inside the game's tree is expected")]
    Absolute(String),
    /// It climbs out, or names the folder it stands in.
    #[error("{0:?} contains the name {1:?}, which could leave the game's tree")]
    Climbs(String, &'static str),
    /// Two slashes in a row, or one at the end.
    #[error("{0:?} contains an empty name")]
    EmptyName(String),
    /// A NUL byte or another control character.
    #[error("{0:?} contains a control character")]
    Control(String),
    /// A backslash: a separator on other systems, and in archives made there.
    #[error("{0:?} contains a backslash")]
    Backslash(String),
    /// A name longer than [`NAME_BYTES_MAX`], or a path longer than [`PATH_BYTES_MAX`].
    #[error("{0:?}… is too long ({1} bytes)")]
    TooLong(String, usize),
}

impl RelPath {
    /// The path as text, with `/` between the names.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of the folder around this one; none for a name at the top.
    pub fn parent(&self) -> Option<RelPath> {
        self.0.rfind('/').map(|at| RelPath(self.0[..at].to_owned()))
    }

    /// The last name of the path.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Whether this path is `folder` itself or lies below it.
    pub fn is_within(&self, folder: &RelPath) -> bool {
        self.0.strip_prefix(&folder.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The form under which two names collide on a file system that folds case or Unicode form.
    pub fn folded(&self) -> String {
        self.0.nfc().collect::<String>().to_lowercase()
    }

    /// A short hash (FNV-1a, 64 bits) of the folded form: the same for two names that collide, and
    /// now and then for two that do not.
    pub fn folded_hash(&self) -> u64 {
        let add = |hash: u64, byte: u8| {
            (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
        };
        // ASCII folds letter by letter; anything else needs the tables.
        match self.0.is_ascii() {
            true => self.0.bytes().fold(0xcbf2_9ce4_8422_2325, add),
            false => self.folded().bytes().fold(0xcbf2_9ce4_8422_2325, add),
        }
    }
}

/// Why `text` is no safe relative path, if it is none.
fn check(text: &str) -> Result<(), BadPath> {
    let shown = || text.chars().take(120).collect::<String>();
    if text.is_empty() {
        return Err(BadPath::Empty);
    }
    if text.len() > PATH_BYTES_MAX {
        return Err(BadPath::TooLong(shown(), text.len()));
    }
    if text.starts_with('/') {
        return Err(BadPath::Absolute(shown()));
    }
    if text.chars().any(char::is_control) {
        return Err(BadPath::Control(shown()));
    }
    if text.contains('\\') {
        return Err(BadPath::Backslash(shown()));
    }
    for name in text.split('/') {
        match name {
            "" => return Err(BadPath::EmptyName(shown())),
            "." => return Err(BadPath::Climbs(shown(), ".")),
            ".." => return Err(BadPath::Climbs(shown(), "..")),
            long if long.len() > NAME_BYTES_MAX => {
                return Err(BadPath::TooLong(shown(), long.len()));
            }
            _ => {}
        }
    }
    Ok(())
}

impl FromStr for RelPath {
    type Err = BadPath;

    fn from_str(text: &str) -> Result<Self, BadPath> {
        check(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for RelPath {
    type Error = BadPath;

    fn try_from(text: String) -> Result<Self, BadPath> {
        check(&text)?;
        Ok(Self(text))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<std::path::Path> for RelPath {
    fn as_ref(&self) -> &std::path::Path {
        std::path::Path::new(&self.0)
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::try_from(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(text: &str) -> BadPath {
        text.parse::<RelPath>().unwrap_err()
    }

    #[test]
    fn each_way_out_of_the_tree_has_its_own_error() {
        assert_eq!(bad(""), BadPath::Empty);
        assert!(matches!(bad("/etc/passwd"), BadPath::Absolute(_)));
        assert!(matches!(bad("a/../../b"), BadPath::Climbs(_, "..")));
        assert!(matches!(bad("./a"), BadPath::Climbs(_, ".")));
        assert!(matches!(bad("a//b"), BadPath::EmptyName(_)));
        assert!(matches!(bad("a/"), BadPath::EmptyName(_)));
        assert!(matches!(bad("a\0b"), BadPath::Control(_)));
        assert!(matches!(bad("a\\b"), BadPath::Backslash(_)));
        assert!(matches!(bad(&"x".repeat(256)), BadPath::TooLong(_, 256)));
    }

    #[test]
    fn within_asks_for_whole_names() {
        let path = |text: &str| text.parse::<RelPath>().unwrap();
        assert!(path("uploads/a.png").is_within(&path("uploads")));
        assert!(path("uploads").is_within(&path("uploads")));
        assert!(!path("uploads-old/a.png").is_within(&path("uploads")));
    }

    #[test]
    fn names_that_differ_by_case_or_unicode_form_fold_together() {
        let path = |text: &str| text.parse::<RelPath>().unwrap();
        for (one, other) in [("École.php", "e\u{301}cole.PHP"), ("A/b", "a/B"), ("\u{212a}", "k")]
        {
            assert_eq!(path(one).folded(), path(other).folded());
            assert_eq!(path(one).folded_hash(), path(other).folded_hash());
        }
        assert_ne!(path("a").folded_hash(), path("b").folded_hash());
    }
}
