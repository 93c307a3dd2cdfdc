//! What is known of one backup.

use std::collections::BTreeMap;

use entracte_model::UnixMs;
use serde::{Deserialize, Serialize};

use crate::BackupError;

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The source tree of the game.
    Source,
    /// A dump of its database.
    Database,
}

impl Kind {
    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Source => "a source tree",
            Self::Database => "a database dump",
        }
    }
}

/// Why a backup was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// By the daily schedule.
    Daily,
    /// Before a release.
    Release,
    /// By hand.
    Manual,
}

/// What a backup belongs to. Stored as tags of the form `key=value`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags {
    /// The game.
    pub project: String,
    /// The target machine or environment.
    pub target: String,
    /// The version that is live, where there is one.
    pub version: Option<String>,
    /// The release that asked for it, where there was one.
    pub release: Option<String>,
    /// Why it was made.
    pub reason: Reason,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// The first eight of them, as `restic` shows it.
    pub short: String,
    /// When it was begun.
    pub time: UnixMs,
    /// What it holds.
    pub kind: Kind,
    /// The folder that was stored, or the name of the dump.
    pub name: String,
    /// How much it holds, in bytes before compression.
    pub bytes: u64,
    /// What it belongs to.
    pub tags: BTreeMap<String, String>,
    /// When it was last restored and found good, if ever.
    pub restored: Option<UnixMs>,
    /// How long that took, in milliseconds.
    pub restore_ms: Option<u64>,
}

impl Snapshot {
    /// The game that it belongs to; empty where another program made it.
    pub fn project(&self) -> &str {
        self.tags.get("project").map_or("", String::as_str)
    }
}

/// How far a backup or a restore has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; 0 where that is not known.
    pub total: u64,
    /// What is counted.
    pub unit: &'static str,
    /// What is being done.
    pub note: String,
}

impl Progress {
    pub(crate) fn bytes(done: u64, total: u64, note: &str) -> Self {
        Self { done, total, unit: "bytes", note: note.to_owned() }
    }
}

/// Between two calls of a progress function, in milliseconds.
pub(crate) const PROGRESS_EVERY_MS: u64 = 200;

impl Tags {
    /// As tags, `key=value`, sorted.
    pub(crate) fn to_strings(&self) -> Result<Vec<String>, BackupError> {
        let reason = match self.reason {
            Reason::Daily => "daily",
            Reason::Release => "release",
            Reason::Manual => "manual",
        };
        let pairs = [
            ("project", Some(self.project.as_str())),
            ("target", Some(self.target.as_str())),
            ("version", self.version.as_deref()),
            ("release", self.release.as_deref()),
            ("reason", Some(reason)),
        ];
        pairs
            .into_iter()
            .filter_map(|(key, value)| value.map(|value| (key, value)))
            .map(|(key, value)| {
                // restic's command line separates tags by commas.
                if value.chars().any(|c| c.is_control() || c == ',') {
                    return Err(BackupError::BadTag { key, value: value.to_owned() });
                }
                Ok(format!("{key}={value}"))
            })
            .collect()
    }
}

/// Reads tags back; one without `=` (somebody else's) becomes a key with an empty value.
pub(crate) fn read_tags<'a>(tags: impl Iterator<Item = &'a String>) -> BTreeMap<String, String> {
    tags.map(|tag| match tag.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (tag.clone(), String::new()),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags() -> Tags {
        Tags {
            project: "taverne".into(),
            target: "production".into(),
            version: Some("1.0.0".into()),
            release: None,
            reason: Reason::Daily,
        }
    }

    #[test]
    fn tags_survive_the_way_through_their_strings() {
        let strings = tags().to_strings().unwrap();
        assert_eq!(
            strings,
            ["project=taverne", "target=production", "version=1.0.0", "reason=daily"]
        );
        let read = read_tags(strings.iter());
        assert_eq!(read["version"], "1.0.0");
        assert_eq!(read_tags(["by hand".to_owned()].iter())["by hand"], "");
    }

    #[test]
    fn a_tag_that_would_split_in_two_is_refused() {
        let bad = Tags { project: "a,b".into(), ..tags() };
        assert!(matches!(bad.to_strings(), Err(BackupError::BadTag { key: "project", .. })));
    }
}
