//! Change fragments: one small file a change, written while it is developed.
//!
//! `changes/<slug>.md` is TOML between two `+++` lines, then one section a language:
//!
//! ```text
//! +++
//! kind = "added"             # added, changed, fixed, balance, removed, security, internal
//! audience = "players"       # players, operators, none
//! reason = "…"               # with audience = "none" only: why nobody is told
//! area = "market"            # optional: the part of the game
//! refs = ["a1b2c3d"]         # optional: commits or issues
//! reverts = "other-slug"     # optional: the change that this one takes back
//! smoke = ["GET /market"]    # optional: checks to run before the players come back
//! watch = ["/market"]        # optional: routes to watch closely afterwards
//! migration = "reversible"   # optional: reversible, irreversible
//! +++
//!
//! ## en
//! The market opens at dawn.
//!
//! ## fr
//! Le marché ouvre à l'aube.
//! ```
//!
//! Every line that begins with `## ` opens a language; headings inside a text are `###` and
//! `####`. Whatever is not understood is refused with its line: a fragment that is silently left
//! out is worse than none.

mod folder;
mod read;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use entracte_model::Hash;
use serde::{Deserialize, Serialize};

pub use folder::{FRAGMENTS_MAX, read_folder};
pub use read::{FRAGMENT_BYTES_MAX, SLUG_BYTES_MAX, parse};

/// What sort of change it is: the heading under which players read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Something new.
    Added,
    /// Something works in another way.
    Changed,
    /// A fault is gone.
    Fixed,
    /// Numbers of the game moved: prices, strengths, odds.
    Balance,
    /// Something is gone.
    Removed,
    /// A hole is closed.
    Security,
    /// Nothing that a player can see.
    Internal,
}

impl Kind {
    /// Every kind, in the order in which notes list them.
    pub const ALL: [Kind; 7] = [
        Kind::Security,
        Kind::Added,
        Kind::Changed,
        Kind::Balance,
        Kind::Fixed,
        Kind::Removed,
        Kind::Internal,
    ];

    /// The word in a fragment's `kind`.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Added => "added",
            Kind::Changed => "changed",
            Kind::Fixed => "fixed",
            Kind::Balance => "balance",
            Kind::Removed => "removed",
            Kind::Security => "security",
            Kind::Internal => "internal",
        }
    }
}

/// Whom a change is told to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    /// Everybody who plays: the patch notes.
    Players,
    /// The people who run the game.
    Operators,
    /// Nobody.
    None {
        /// Why nobody is told, for whoever reads the history later.
        reason: String,
    },
}

impl Audience {
    /// The word in a fragment's `audience`.
    pub fn word(&self) -> &'static str {
        match self {
            Audience::Players => "players",
            Audience::Operators => "operators",
            Audience::None { .. } => "none",
        }
    }
}

/// One change, as its file tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragment {
    /// The name of the file without `.md`.
    pub slug: String,
    /// What sort of change it is.
    pub kind: Kind,
    /// Whom it is told to.
    pub audience: Audience,
    /// The part of the game, such as `market`.
    pub area: Option<String>,
    /// Commits or issues that it stands for.
    pub refs: Vec<String>,
    /// The slug of the change that this one takes back.
    pub reverts: Option<String>,
    /// Checks to run before the players come back.
    pub smoke: Vec<String>,
    /// Routes to watch closely after the release.
    pub watch: Vec<String>,
    /// Whether its database change can be undone by a script; nothing where it has none.
    pub reversible: Option<bool>,
    /// Markdown by language tag; empty only where nobody is told.
    pub text: BTreeMap<String, String>,
    /// The hash of the file's bytes, as they are on the disk.
    pub hash: Hash,
}

/// A place in a fragment (or a file that is none) that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: expected {expected}, found {found}; {hint}")]
pub struct FragmentError {
    /// The file, as the caller named it.
    pub file: String,
    /// The line, from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// What would be right.
    pub expected: String,
    /// What stands there, shortened.
    pub found: String,
    /// What to do about it.
    pub hint: String,
}

/// The text of a new fragment, for a person to complete: what `entracte note` writes.
///
/// An empty text leaves the section of its language open; [`parse`] refuses it until it is filled.
pub fn render_new(
    kind: Kind,
    audience: &Audience,
    area: Option<&str>,
    refs: &[String],
    text: &BTreeMap<String, String>,
) -> String {
    let quoted = |value: &str| toml::Value::String(value.to_owned()).to_string();
    let mut out = format!("+++\nkind = \"{}\"\naudience = \"{}\"\n", kind.word(), audience.word());
    let mut line = |key: &str, value: &str| {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{key} = {value}");
    };
    if let Audience::None { reason } = audience {
        line("reason", &quoted(reason));
    }
    if let Some(area) = area {
        line("area", &quoted(area));
    }
    if !refs.is_empty() {
        let list: Vec<String> = refs.iter().map(|one| quoted(one)).collect();
        line("refs", &format!("[{}]", list.join(", ")));
    }
    out.push_str("# smoke = [\"GET /\"]\n# watch = [\"/\"]\n# migration = \"reversible\"\n+++\n");
    for (lang, markdown) in text {
        let _ = write!(out, "\n## {lang}\n{}\n", markdown.trim());
    }
    out
}
