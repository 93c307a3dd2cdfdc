//! Versions of the game, compared as versions and never as text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A version in the order of Semantic Versioning 2.0.0 (<https://semver.org>), read leniently:
/// `1.1`, `v1.1` and `1.1.0` are the same version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(semver::Version);

impl Version {
    /// The folder of this version in a package: `v1.1.0`.
    pub fn folder(&self) -> String {
        format!("v{self}")
    }

    /// The next minor version: 1.1.3 gives 1.2.0.
    pub fn next_minor(&self) -> Self {
        Self(semver::Version::new(self.0.major, self.0.minor + 1, 0))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not a version: expected numbers like 1.1 or 1.1.0, optionally with -rc.1 behind"
)]
pub struct BadVersion {
    /// What stood there instead.
    pub found: String,
}

impl FromStr for Version {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let bad = || BadVersion { found: text.chars().take(80).collect() };
        let bare = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let (numbers, rest) = match bare.find(['-', '+']) {
            Some(at) => bare.split_at(at),
            None => (bare, ""),
        };
        let full = match numbers.matches('.').count() {
            0 => format!("{numbers}.0.0{rest}"),
            1 => format!("{numbers}.0{rest}"),
            _ => bare.to_owned(),
        };
        semver::Version::parse(&full).map(Self).map_err(|_| bad())
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn short_and_prefixed_forms_are_the_same_version() {
        assert_eq!(version("1.1"), version("v1.1.0"));
        assert_eq!(version("v2").to_string(), "2.0.0");
        assert_eq!(version("1.2-rc.1").to_string(), "1.2.0-rc.1");
    }

    #[test]
    fn ten_comes_after_nine_and_a_candidate_before_its_release() {
        assert!(version("1.10") > version("1.9"));
        assert!(version("1.2-rc.1") < version("1.2"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "v", "one", "1.2.3.4", "1..2", "-1", "1.1 "] {
            assert!(text.parse::<Version>().is_err(), "{text:?} was taken");
        }
    }
}
