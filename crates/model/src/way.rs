//! The ways to a rollback point: what each costs, and which is taken.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::{human_bytes, human_ms};

/// How a rollback point is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// A copy of the database's file, made ahead and made equal inside the window (SQLite).
    Copy,
    /// Copies of the tables' files, made ahead and brought up to date inside the window (MariaDB).
    Files,
    /// A dump made ahead, and the server's log from there to the fence (MariaDB).
    Binlog,
    /// A clone beside the database on its server (PostgreSQL).
    Clone,
    /// A dump inside the window.
    Dump,
}

impl Way {
    /// Every way, the one that is usually quicker inside the window first.
    pub const ALL: [Way; 5] = [Way::Copy, Way::Files, Way::Binlog, Way::Clone, Way::Dump];

    /// The word for it in the configuration and in plans.
    pub fn name(self) -> &'static str {
        match self {
            Way::Copy => "copy",
            Way::Files => "files",
            Way::Binlog => "binlog",
            Way::Clone => "clone",
            Way::Dump => "dump",
        }
    }

    /// What is done, for people.
    pub fn what(self) -> &'static str {
        match self {
            Way::Copy => "a copy of the database's file",
            Way::Files => "copies of the tables' files",
            Way::Binlog => "a dump made ahead and the binary log since",
            Way::Clone => "a clone of the database on its server",
            Way::Dump => "a dump of the tables",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no way to a rollback point: expected copy, files, binlog, clone or dump")]
pub struct BadWay(String);

impl FromStr for Way {
    type Err = BadWay;

    fn from_str(text: &str) -> Result<Self, BadWay> {
        let named = Way::ALL.into_iter().find(|way| way.name() == text);
        named.ok_or_else(|| BadWay(text.chars().take(40).collect()))
    }
}

/// Which way is wished for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// The best that is open.
    #[default]
    Any,
    /// This one; where it cannot be taken after all, one that comes behind it.
    Prefer(Way),
    /// This one and no other.
    Only(Way),
}

impl Wish {
    /// Whether `way` may be taken.
    pub fn allows(self, way: Way) -> bool {
        match self {
            Wish::Any => true,
            Wish::Prefer(preferred) => preferred <= way,
            Wish::Only(only) => only == way,
        }
    }
}

/// What one way would have to move, told by the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Which way.
    pub way: Way,
    /// Why it is not open on this server; nothing where it is.
    pub obstacle: Option<String>,
    /// Bytes that are written while the game runs.
    pub ahead_bytes: u64,
    /// Bytes that are read inside the window.
    pub read_bytes: u64,
    /// Bytes that are written inside the window.
    pub window_bytes: u64,
    /// Bytes that the way back has to bring into the database.
    pub back_bytes: u64,
    /// Bytes of disk that the point takes.
    pub disk_bytes: u64,
    /// Bytes that are free where it will lie; nothing where that cannot be seen.
    pub free_bytes: Option<u64>,
}

/// What was measured of a way: in a rehearsal, or in earlier releases.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Milliseconds ahead of the window.
    pub ahead_ms: Option<u64>,
    /// Milliseconds inside the window.
    pub window_ms: Option<u64>,
    /// Milliseconds of the way back.
    pub back_ms: Option<u64>,
    /// The size that the point had then.
    pub bytes: Option<u64>,
}

/// A way with what it should cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costed {
    /// Which way.
    pub way: Way,
    /// Why it is not taken: not open, no room, slower than the one that is. Nothing for that one.
    pub why_not: Option<String>,
    /// Milliseconds ahead of the window, while the game runs.
    pub ahead_ms: u64,
    /// Milliseconds of the closed time.
    pub window_ms: u64,
    /// Milliseconds of the way back.
    pub back_ms: u64,
    /// Bytes that are written inside the window.
    pub window_bytes: u64,
    /// Bytes of disk.
    pub disk_bytes: u64,
    /// Whether the times come from a measurement and not from the sizes alone.
    pub is_measured: bool,
}

/// The way that is taken, and the others with the reason why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Which way is taken; nothing where none is possible.
    pub way: Option<Way>,
    /// The way that the configuration asks for: then no other is taken.
    pub forced: Option<Way>,
    /// Every way of the engine, in the order of [`Way::ALL`].
    pub ways: Vec<Costed>,
}

/// What a machine moves in a millisecond, in bytes, where nothing was measured: a small server's
/// disk, and the figures that the engines showed on one.
mod rate {
    /// Written and synced.
    pub(super) const WRITE: u64 = 200_000;
    /// Read and compared.
    pub(super) const READ: u64 = 800_000;
    /// Written by a dump.
    pub(super) const DUMP: u64 = 100_000;
    /// Loaded from a dump, indexes built.
    pub(super) const LOAD: u64 = 12_000;
    /// Taken back as files or pages.
    pub(super) const TAKE_BACK: u64 = 100_000;
}

/// What every way takes, however small the database is.
const BASE_MS: u64 = 50;

impl Offer {
    /// Times from the sizes, and from what was measured where that is known.
    pub fn cost(&self, measured: Option<&Measured>) -> Costed {
        let scaled = |ms: Option<u64>| {
            let ms = ms?;
            // A database that grew takes longer in proportion; one that shrank is not relied on.
            match measured.and_then(|measured| measured.bytes).filter(|bytes| *bytes > 0) {
                Some(then) if self.disk_bytes > then => {
                    let grown = u128::from(ms) * u128::from(self.disk_bytes) / u128::from(then);
                    Some(u64::try_from(grown).unwrap_or(u64::MAX))
                }
                _ => Some(ms),
            }
        };
        let known = |pick: fn(&Measured) -> Option<u64>| measured.and_then(pick);
        let dumps = matches!(self.way, Way::Dump | Way::Binlog);
        let ahead = self.ahead_bytes / if dumps { rate::DUMP } else { rate::WRITE };
        let written = if self.way == Way::Dump { rate::DUMP } else { rate::WRITE };
        let window = BASE_MS + self.read_bytes / rate::READ + self.window_bytes / written;
        let back = BASE_MS + self.back_bytes / if dumps { rate::LOAD } else { rate::TAKE_BACK };
        let window_known = known(|measured| measured.window_ms);
        Costed {
            way: self.way,
            why_not: self.obstacle.clone(),
            ahead_ms: scaled(known(|measured| measured.ahead_ms)).unwrap_or(ahead),
            window_ms: scaled(window_known).unwrap_or(window),
            back_ms: scaled(known(|measured| measured.back_ms)).unwrap_or(back),
            window_bytes: self.window_bytes,
            disk_bytes: self.disk_bytes,
            is_measured: window_known.is_some(),
        }
    }
}

/// Takes the way with the shortest closed time of those that are open and for which there is
/// room, or the one that is `forced`.
pub fn choose(
    offers: &[Offer],
    forced: Option<Way>,
    measured: impl Fn(Way) -> Option<Measured>,
) -> Choice {
    let mut ways: Vec<Costed> =
        offers.iter().map(|offer| offer.cost(measured(offer.way).as_ref())).collect();
    ways.sort_by_key(|costed| costed.way);
    for costed in &mut ways {
        let offer = offers.iter().find(|offer| offer.way == costed.way);
        let free = offer.and_then(|offer| offer.free_bytes);
        if let (None, Some(free)) = (&costed.why_not, free)
            && free < costed.disk_bytes
        {
            let (needs, free) = (human_bytes(costed.disk_bytes), human_bytes(free));
            costed.why_not =
                Some(format!("no room left for it: it needs {needs} of disk, {free} are free"));
        }
    }
    let mut open = ways.iter().filter(|costed| costed.why_not.is_none());
    let best = match forced {
        Some(forced) => open.find(|costed| costed.way == forced),
        None => open.min_by_key(|costed| (costed.window_ms, costed.way)),
    };
    let best = best.map(|costed| (costed.way, costed.window_ms));
    for costed in ways.iter_mut().filter(|costed| costed.why_not.is_none()) {
        costed.why_not = match (best, forced) {
            (Some((way, _)), _) if way == costed.way => None,
            (_, Some(forced)) => Some(format!("the configuration asks for {forced}")),
            (Some((way, ms)), None) if costed.window_ms > ms => {
                Some(format!("{} longer closed than {way}", human_ms(costed.window_ms - ms)))
            }
            (Some((way, _)), None) => Some(format!("no quicker than {way}")),
            (None, None) => None,
        };
    }
    Choice { way: best.map(|(way, _)| way), forced, ways }
}

impl Choice {
    /// The way that is taken, with its costs.
    pub fn taken(&self) -> Option<&Costed> {
        self.ways.iter().find(|costed| Some(costed.way) == self.way)
    }

    /// The others.
    pub fn others(&self) -> impl Iterator<Item = &Costed> {
        self.ways.iter().filter(|costed| Some(costed.way) != self.way)
    }

    /// What the database is told.
    pub fn wish(&self) -> Wish {
        match (self.forced, self.way) {
            (Some(way), _) => Wish::Only(way),
            (None, Some(way)) => Wish::Prefer(way),
            (None, None) => Wish::Any,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1 << 30;

    fn offer(way: Way, window_bytes: u64, disk_bytes: u64, free_bytes: Option<u64>) -> Offer {
        Offer {
            way,
            obstacle: None,
            ahead_bytes: disk_bytes - window_bytes,
            read_bytes: 0,
            window_bytes,
            back_bytes: disk_bytes,
            disk_bytes,
            free_bytes,
        }
    }

    fn mariadb(free: u64) -> [Offer; 3] {
        [
            offer(Way::Dump, GB / 2, GB / 2, Some(free)),
            offer(Way::Binlog, GB / 100, GB / 2, Some(free)),
            offer(Way::Files, GB / 200, GB, Some(free)),
        ]
    }

    fn unmeasured(_: Way) -> Option<Measured> {
        None
    }

    #[test]
    fn the_shortest_closed_time_that_fits_the_disk_is_taken() {
        let with = |free| choose(&mariadb(free), None, unmeasured);
        assert_eq!(with(2 * GB).way, Some(Way::Files));
        let tight = with(GB / 2);
        assert_eq!(tight.way, Some(Way::Binlog));
        assert!(tight.ways[0].why_not.as_deref().unwrap_or("").contains("of disk"), "{tight:?}");
        assert!(tight.ways[2].why_not.as_deref().unwrap_or("").contains("longer closed"));
        assert_eq!(tight.wish(), Wish::Prefer(Way::Binlog));
        let none = with(0);
        assert_eq!((none.way, none.taken()), (None, None));
        assert_eq!(none.others().count(), 3);
        // Where the disk cannot be seen, it is not what decides.
        assert_eq!(
            choose(&[offer(Way::Clone, GB, GB, None)], None, unmeasured).way,
            Some(Way::Clone)
        );
    }

    #[test]
    fn what_is_not_open_keeps_its_reason_and_what_is_forced_is_the_only_one() {
        let mut offers = mariadb(2 * GB);
        offers[2].obstacle = Some("no data directory is configured".to_owned());
        let choice = choose(&offers, None, unmeasured);
        assert_eq!(choice.way, Some(Way::Binlog));
        assert_eq!(choice.ways[0].why_not.as_deref(), Some("no data directory is configured"));
        let forced = choose(&offers, Some(Way::Dump), unmeasured);
        assert_eq!((forced.way, forced.wish()), (Some(Way::Dump), Wish::Only(Way::Dump)));
        assert!(forced.ways[1].why_not.as_deref().unwrap_or("").contains("asks for dump"));
        let closed = choose(&offers, Some(Way::Files), unmeasured);
        assert_eq!((closed.way, closed.wish()), (None, Wish::Only(Way::Files)));
    }

    #[test]
    fn a_measurement_counts_more_than_a_guess_and_grows_with_the_database() {
        let slow_files = |way| {
            (way == Way::Files).then_some(Measured {
                window_ms: Some(20_000),
                bytes: Some(GB / 2),
                ..Measured::default()
            })
        };
        let choice = choose(&mariadb(2 * GB), None, slow_files);
        assert_eq!(choice.way, Some(Way::Binlog));
        assert_eq!((choice.ways[0].window_ms, choice.ways[0].is_measured), (40_000, true));
        assert!(!choice.ways[1].is_measured);
    }

    #[test]
    fn wishes_allow_what_comes_behind() {
        assert!(Wish::Prefer(Way::Binlog).allows(Way::Dump));
        assert!(!Wish::Prefer(Way::Binlog).allows(Way::Files));
        assert!(Wish::Only(Way::Files).allows(Way::Files));
        assert!(!Wish::Only(Way::Files).allows(Way::Dump));
        assert!(Way::ALL.is_sorted());
        for way in Way::ALL {
            assert_eq!(way.name().parse(), Ok(way));
        }
        assert!("fast".parse::<Way>().is_err());
    }
}
