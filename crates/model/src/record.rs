//! The signed record of a release: what is signed is content, never an encoding of it.

use serde::{Deserialize, Serialize};

use crate::manifest::Delta;
use crate::{Hash, RelPath, UnixMs, Version};

/// The format of records that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// `release.json`: everything a production machine needs in order to judge a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The format of this record; a newer one than [`FORMAT`] is refused.
    pub format: u32,
    /// The game it belongs to. A record for another game is refused even where its key is trusted.
    pub project: String,
    /// The environment it is meant for, such as `production`.
    pub environment: String,
    /// The version that it installs.
    pub version: Version,
    /// Grows with every record of this project and environment, so that an old one cannot be replayed.
    pub sequence: u64,
    /// What production must hold before; nothing for a first installation.
    pub base: Option<Base>,
    /// The hash of the whole new tree: base + delta must give exactly it.
    pub manifest: Hash,
    /// What changes in the tree.
    pub delta: Delta,
    /// The database scripts, in the order in which they run.
    pub scripts: Vec<Named>,
    /// The files of `documentation/`.
    pub documents: Vec<Named>,
    /// Change fragments that this release announces, so that one that comes back is noticed.
    pub fragments: Vec<Named>,
    /// Regular files in the new tree.
    pub files: u64,
    /// Bytes of all regular files in the new tree.
    pub bytes: u64,
    /// When it was packed.
    pub created: UnixMs,
    /// After this it is refused.
    pub expires: UnixMs,
    /// The oldest Entracte that can install it.
    pub least_tool: Version,
}

/// The version that a record builds upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Its version.
    pub version: Version,
    /// The hash of its whole tree.
    pub manifest: Hash,
}

/// A file that is known by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Its name within its folder of the package.
    pub name: RelPath,
    /// Its length in bytes.
    pub size: u64,
    /// The hash of its content.
    pub hash: Hash,
}

/// Why production does not take a record whose signature is good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Written by a newer Entracte.
    #[error("the package has format {found}; this program reads up to {FORMAT}")]
    Format {
        /// The format of the record.
        found: u32,
    },
    /// It needs a newer Entracte.
    #[error("the package needs Entracte {needed} or newer; this one is {tool}")]
    Tool {
        /// What it asks for.
        needed: Version,
        /// What is running.
        tool: Version,
    },
    /// Signed for something else.
    #[error("the package is for {found}, this target is {expected}")]
    Elsewhere {
        /// `project/environment` of the record.
        found: String,
        /// `project/environment` of the target.
        expected: String,
    },
    /// Its time is over.
    #[error("the package expired {0} ms ago; pack it again")]
    Expired(u64),
    /// Created in the future: one of the two clocks is wrong.
    #[error("the package was made {0} ms in the future; one of the two clocks is wrong")]
    FromTheFuture(u64),
    /// An old record again.
    #[error(
        "the package has sequence {found}, production already had {last}; an old package cannot be replayed, pack it again"
    )]
    Replayed {
        /// The sequence of the record.
        found: u64,
        /// The last that production took.
        last: u64,
    },
    /// A jump that would leave no room for any later release.
    #[error(
        "the package has sequence {found}, far beyond production's {last}; it would block every later release"
    )]
    FastForward {
        /// The sequence of the record.
        found: u64,
        /// The last that production took.
        last: u64,
    },
    /// Not newer than what is there.
    #[error(
        "the package is version {found}, production has {current}; versions do not go backwards (to go back: `entracte rollback`)"
    )]
    Backwards {
        /// The version of the record.
        found: Version,
        /// The version in production.
        current: Version,
    },
    /// Made for another starting point.
    #[error(
        "the package builds upon {found}, production has {current}; pack again against what production holds"
    )]
    WrongBase {
        /// What the record builds upon.
        found: String,
        /// What production holds.
        current: String,
    },
}

/// What production knows of itself when a record arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its project.
    pub project: String,
    /// Its environment.
    pub environment: String,
    /// The last release, none before the first.
    pub current: Option<Base>,
    /// The highest sequence that was ever taken, 0 before the first.
    pub sequence: u64,
    /// The version of the program that judges.
    pub tool: Version,
    /// Its clock.
    pub now: UnixMs,
}

/// How far ahead of production a sequence may be: failed and withdrawn packages leave gaps.
pub const SEQUENCE_GAP_MAX: u64 = 1_000_000;
/// How far two clocks may differ before a package counts as made in the future, in milliseconds.
pub const CLOCK_SKEW_MS_MAX: u64 = 10 * 60 * 1_000;

impl Record {
    /// Judges a record whose signature was already verified. `Ok` says nothing about its payload.
    pub fn judge(&self, at: &Standing) -> Result<(), Refusal> {
        if self.format > FORMAT {
            return Err(Refusal::Format { found: self.format });
        }
        if self.least_tool > at.tool {
            return Err(Refusal::Tool { needed: self.least_tool.clone(), tool: at.tool.clone() });
        }
        if (&self.project, &self.environment) != (&at.project, &at.environment) {
            return Err(Refusal::Elsewhere {
                found: format!("{}/{}", self.project, self.environment),
                expected: format!("{}/{}", at.project, at.environment),
            });
        }
        if at.now > self.expires {
            return Err(Refusal::Expired(at.now.since(self.expires)));
        }
        if self.created.since(at.now) > CLOCK_SKEW_MS_MAX {
            return Err(Refusal::FromTheFuture(self.created.since(at.now)));
        }
        self.judge_order(at)
    }

    fn judge_order(&self, at: &Standing) -> Result<(), Refusal> {
        if self.sequence <= at.sequence {
            return Err(Refusal::Replayed { found: self.sequence, last: at.sequence });
        }
        if self.sequence - at.sequence > SEQUENCE_GAP_MAX {
            return Err(Refusal::FastForward { found: self.sequence, last: at.sequence });
        }
        let name = |base: &Option<Base>| match base {
            Some(base) => format!("{} ({})", base.version, base.manifest.short()),
            None => "an empty production".to_owned(),
        };
        if let Some(current) = &at.current
            && self.version <= current.version
        {
            return Err(Refusal::Backwards {
                found: self.version.clone(),
                current: current.version.clone(),
            });
        }
        if self.base != at.current {
            return Err(Refusal::WrongBase { found: name(&self.base), current: name(&at.current) });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Base {
        Base { version: "1.0".parse().unwrap(), manifest: Hash::of(b"1.0") }
    }

    fn record() -> Record {
        Record {
            format: FORMAT,
            project: "taverne".into(),
            environment: "production".into(),
            version: "1.1".parse().unwrap(),
            sequence: 8,
            base: Some(base()),
            manifest: Hash::of(b"1.1"),
            delta: Delta::default(),
            scripts: vec![],
            documents: vec![],
            fragments: vec![],
            files: 0,
            bytes: 0,
            created: UnixMs(1_000_000),
            expires: UnixMs(9_000_000),
            least_tool: "0.1".parse().unwrap(),
        }
    }

    fn standing() -> Standing {
        Standing {
            project: "taverne".into(),
            environment: "production".into(),
            current: Some(base()),
            sequence: 7,
            tool: "0.1".parse().unwrap(),
            now: UnixMs(2_000_000),
        }
    }

    #[test]
    fn a_fitting_record_is_taken() {
        assert_eq!(record().judge(&standing()), Ok(()));
    }

    #[test]
    fn each_way_of_not_fitting_has_its_own_refusal() {
        let case = |edit: &dyn Fn(&mut Record)| {
            let mut record = record();
            edit(&mut record);
            record.judge(&standing()).unwrap_err()
        };
        assert!(matches!(case(&|r| r.format = 2), Refusal::Format { found: 2 }));
        assert!(matches!(case(&|r| r.least_tool = "9".parse().unwrap()), Refusal::Tool { .. }));
        assert!(matches!(case(&|r| r.project = "other".into()), Refusal::Elsewhere { .. }));
        assert!(matches!(case(&|r| r.environment = "test".into()), Refusal::Elsewhere { .. }));
        assert!(matches!(case(&|r| r.expires = UnixMs(1_999_999)), Refusal::Expired(1)));
        assert!(matches!(case(&|r| r.created = UnixMs(4_000_000)), Refusal::FromTheFuture(_)));
        assert!(matches!(case(&|r| r.sequence = 7), Refusal::Replayed { .. }));
        assert!(matches!(case(&|r| r.sequence = u64::MAX), Refusal::FastForward { .. }));
        assert!(matches!(case(&|r| r.version = "1.0".parse().unwrap()), Refusal::Backwards { .. }));
        assert!(matches!(case(&|r| r.base = None), Refusal::WrongBase { .. }));
    }
}
