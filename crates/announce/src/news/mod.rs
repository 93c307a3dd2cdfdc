//! The news: a page a release, an index a language, and feeds, as plain files.
//!
//! They are files so that the gate can serve them when the game is not there. Nothing in them
//! depends on the clock: the same items give the same bytes. Below `dir` stand
//!
//! ```text
//! index.html              the first language's news, and the way to the others
//! <lang>/index.html       all news of that language
//! <lang>/<version>.html   one release
//! <lang>/atom.xml         RFC 4287
//! <lang>/feed.json        JSON Feed 1.1
//! images/...              not ours: whatever images the notes name, put there by the caller
//! ```
//!
//! Pages of versions that are not among the items are left as they are, so that old links live.

mod feed;
mod page;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use entracte_model::{UnixMs, Version};

use crate::file;
use crate::language::is_tag;
use crate::markdown::{self, Doc};

pub use feed::FEED_ENTRIES_MAX;

/// One release, as the news tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its version: also its address, so two items must not share one.
    pub version: Version,
    /// When it was opened to the players.
    pub date: UnixMs,
    /// Its notes, Markdown by language.
    pub notes: BTreeMap<String, String>,
    /// How long the game was closed for it; nothing where it was not, or where that is not told.
    pub closed_ms: Option<u64>,
    /// Whether it was taken back.
    pub withdrawn: bool,
}

/// Why the news could not be written.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// No language was given.
    #[error("the news need at least one language, found none; list them under `languages`")]
    NoLanguage,
    /// A language whose tag would not be safe as a folder.
    #[error("expected language tags such as en or pt-BR, found {found:?}")]
    BadLanguage {
        /// What was given.
        found: String,
    },
    /// An address that pages and feeds cannot be reached by.
    #[error(
        "expected an address such as https://game.example/news/ that ends in a slash, found {found:?}"
    )]
    BadAddress {
        /// What was given.
        found: String,
    },
    /// A host name that cannot stand in the ids of a feed.
    #[error("expected a host name such as game.example, found {found:?}")]
    BadHost {
        /// What was given.
        found: String,
    },
    /// Two items of one version.
    #[error("version {version} is twice among the news; each version has one page")]
    Twice {
        /// The version.
        version: Version,
    },
    /// A date outside the calendar.
    #[error(
        "version {version} has the date {ms} ms, which is no date; correct the release's record"
    )]
    BadDate {
        /// The version.
        version: Version,
        /// Its date in milliseconds since 1970.
        ms: i64,
    },
    /// A file or folder that could not be written.
    #[error("cannot write {}; check the space and permissions there", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Everything that all pages and feeds of one site share.
struct Site<'a> {
    game: &'a str,
    base_url: &'a str,
    languages: &'a [String],
    host: &'a str,
    /// Newest first.
    items: Vec<Entry<'a>>,
}

/// An item with its date taken apart.
struct Entry<'a> {
    item: &'a Item,
    version: String,
    /// `2026-11-23T22:10:00Z`.
    rfc3339: String,
    day: (i16, i8, i8),
}

impl Entry<'_> {
    /// The notes in `lang`, or in the language that stands in for it, and which language that is.
    fn notes<'s>(&'s self, lang: &'s str, languages: &'s [String]) -> Option<(&'s str, Doc)> {
        std::iter::once(lang)
            .chain(languages.iter().map(String::as_str))
            .chain(self.item.notes.keys().map(String::as_str))
            .find_map(|tag| {
                self.item.notes.get(tag).map(|text| (tag, markdown::parse(text).without_title()))
            })
    }
}

/// Writes the news of `game` below `dir`, which is made where it is missing.
///
/// `base_url` is where `dir` is reached, ending in a slash; `host_for_tag` is the host name in the
/// ids of feed entries, which must never change, even where the address does.
///
/// Each file is replaced as a whole. A crash leaves some pages old and some new; an index never
/// names a page that is not there, and the next call completes the rest.
///
/// # Errors
/// Arguments that no site can be made of, found before anything is written, or a file that could
/// not be written.
pub fn write_site(
    dir: &Path,
    game: &str,
    base_url: &str,
    languages: &[String],
    items: &[Item],
    host_for_tag: &str,
) -> Result<(), AnnounceError> {
    let site = Site::check(game, base_url, languages, items, host_for_tag)?;
    for lang in languages {
        let folder = dir.join(lang);
        fs::create_dir_all(&folder)
            .map_err(|source| AnnounceError::Write { path: folder.clone(), source })?;
        for entry in &site.items {
            write(&folder, &format!("{}.html", entry.version), &page::release(&site, lang, entry))?;
        }
        sync(&folder)?;
        write(&folder, "atom.xml", &feed::atom(&site, lang))?;
        write(&folder, "feed.json", &feed::json(&site, lang))?;
        write(&folder, "index.html", &page::index(&site, lang, ""))?;
        sync(&folder)?;
    }
    let first = &languages[0];
    write(dir, "index.html", &page::index(&site, first, &format!("{first}/")))?;
    sync(dir)
}

impl<'a> Site<'a> {
    fn check(
        game: &'a str,
        base_url: &'a str,
        languages: &'a [String],
        items: &'a [Item],
        host: &'a str,
    ) -> Result<Self, AnnounceError> {
        if languages.is_empty() {
            return Err(AnnounceError::NoLanguage);
        }
        if let Some(bad) = languages.iter().find(|tag| !is_tag(tag)) {
            return Err(AnnounceError::BadLanguage { found: bad.clone() });
        }
        let web = base_url.starts_with("https://") || base_url.starts_with("http://");
        let plain =
            !base_url.chars().any(|c| c.is_whitespace() || c.is_control() || "\"<>?#".contains(c));
        if !(web && plain && base_url.ends_with('/')) {
            return Err(AnnounceError::BadAddress { found: base_url.to_owned() });
        }
        if host.is_empty()
            || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
        {
            return Err(AnnounceError::BadHost { found: host.to_owned() });
        }
        let mut entries = items.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        entries.sort_by(|a, b| {
            b.item.date.cmp(&a.item.date).then_with(|| b.item.version.cmp(&a.item.version))
        });
        let mut versions: Vec<&Version> = items.iter().map(|item| &item.version).collect();
        versions.sort();
        if let Some(pair) = versions.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(AnnounceError::Twice { version: pair[0].clone() });
        }
        Ok(Self { game, base_url, languages, host, items: entries })
    }
}

fn entry(item: &Item) -> Result<Entry<'_>, AnnounceError> {
    let bad = || AnnounceError::BadDate { version: item.version.clone(), ms: item.date.0 };
    // Whole seconds: that is all that a reader of news can use.
    let time = jiff::Timestamp::from_second(item.date.0.div_euclid(1_000)).map_err(|_| bad())?;
    let date = jiff::tz::TimeZone::UTC.to_datetime(time).date();
    // Atom (RFC 3339) has four digits for a year, and jiff writes others with six.
    if !(1970..=9999).contains(&date.year()) {
        return Err(bad());
    }
    Ok(Entry {
        item,
        version: item.version.to_string(),
        rfc3339: time.to_string(),
        day: (date.year(), date.month(), date.day()),
    })
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), AnnounceError> {
    let path = folder.join(name);
    match file::write(&path, text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(source) => Err(AnnounceError::Write { path, source }),
    }
}

fn sync(dir: &Path) -> Result<(), AnnounceError> {
    file::sync_dir(dir).map_err(|source| AnnounceError::Write { path: dir.to_owned(), source })
}
