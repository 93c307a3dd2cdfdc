//! The messages: what the development machine asks, and what the agent tells.

use entracte_model::Hash;
use entracte_model::journal::Entry;
use entracte_model::plan::{Plan, ReleaseId};
use serde::{Deserialize, Serialize};

/// A question or a wish of the development machine. They never carry a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// The first one: who asks, in which protocol, about what.
    Hello {
        /// The protocol that is spoken from here on.
        protocol: u32,
        /// The version of the program.
        tool: String,
        /// The game.
        project: String,
    },
    /// Takes the configuration whose text follows as data.
    Configure {
        /// Its length.
        bytes: u64,
    },
    /// What production holds, as a store with nothing in it but what a development machine needs.
    Excerpt {
        /// A manifest that needs not be sent: the development machine has it.
        have: Option<Hash>,
    },
    /// Keeps a note with production (of which commit a tree was packed).
    Remember {
        /// Its name.
        name: String,
        /// What is to be remembered.
        value: String,
    },
    /// Compares production's database, with the scripts that wait run on a private copy of it, with
    /// what development has: the question follows as data. The answer is a [`Tell::Blob`].
    Compare {
        /// Its length.
        bytes: u64,
    },
    /// How production's tree differs from what it is known to hold. The answer are two
    /// [`Tell::Blob`]: the differences, and the contents of the files that differ.
    Edits {},
    /// Takes production's tree as it stands for what the next release builds upon.
    Adopt {
        /// What it is known to hold.
        base: Hash,
        /// What it holds.
        manifest: Hash,
    },
    /// Declares scripts as run without running them.
    Declare {
        /// The scripts.
        scripts: Vec<Declared>,
    },
    /// Offers a package: its signed record, which follows as data, is judged before anything of its
    /// content is taken. The answer is [`Tell::Received`], or a [`Tell::Blob`] that lists what is
    /// lacking; then a stream with that is awaited, as data.
    Offer {
        /// The length of the offer.
        bytes: u64,
    },
    /// Starts a command that starts a release: `deploy`, `rollback`, `resume`, `abort`.
    Begin {
        /// The command with its arguments.
        args: Vec<String>,
        /// What must come of it, so that the same wish on a second connection starts nothing twice.
        expects: Option<Expected>,
    },
    /// Runs a command and passes on what it prints.
    Run {
        /// The command with its arguments.
        args: Vec<String>,
        /// Whether it may print colours.
        colour: bool,
    },
    /// Follows a release to its end.
    Follow {
        /// Which one; the last where none is named.
        release: Option<ReleaseId>,
        /// The last entry of its journal that was seen already.
        after: u64,
        /// The process that was started for it just now, and may not hold its lock yet.
        runner: Option<u32>,
    },
    /// Asks the release that is followed to stop at its next safe point, or the command that runs
    /// to end.
    Stop {},
}

/// A script that is to count as run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// The hash of its text, whatever its line ends.
    pub normalised: Hash,
    /// The hash of its bytes.
    pub raw: Hash,
}

/// The release that a wish must lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Its number, or a later one.
    pub at_least: ReleaseId,
    /// The sequence of its package.
    pub sequence: u64,
    /// The tree that it brings.
    pub manifest: Hash,
}

/// An answer of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Tell {
    /// To [`Ask::Hello`].
    Welcome {
        /// The hash of the configuration that it works with; nothing where there is none yet.
        config: Option<Hash>,
        /// Whether it keeps its configuration, whatever the connection says.
        fixed: bool,
        /// The machine's name.
        host: String,
    },
    /// It was done.
    Done {
        /// What is worth saying about it.
        note: Option<String>,
    },
    /// So many bytes follow as data.
    Blob {
        /// Their number.
        bytes: u64,
    },
    /// The whole package is there, and is what was signed.
    Received {
        /// Where.
        path: String,
    },
    /// To [`Ask::Begin`]: it was begun before, by an earlier connection; what it would have said.
    Said {
        /// What it said.
        value: serde_json::Value,
    },
    /// To [`Ask::Follow`]: the release that is followed.
    Following {
        /// Its plan.
        plan: Box<Plan>,
    },
    /// The next entry of its journal.
    Entry {
        /// The entry.
        entry: Box<Entry>,
    },
    /// Nothing new, and the connection lives.
    Still {},
    /// The process of the release has ended, and all entries were told.
    Over {
        /// The last line of its log.
        last: String,
    },
    /// So many bytes of what a command prints follow as data.
    Output {
        /// Whether they went to standard error.
        error: bool,
    },
    /// The command ended.
    Exited {
        /// With this code.
        code: u8,
    },
    /// It was refused, or failed.
    Failed {
        /// The exit code that says how.
        exit: u8,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}

impl Tell {
    /// Its name, for messages about one that was not awaited.
    pub fn name(&self) -> &'static str {
        match self {
            Tell::Welcome { .. } => "welcome",
            Tell::Done { .. } => "done",
            Tell::Blob { .. } => "blob",
            Tell::Received { .. } => "received",
            Tell::Said { .. } => "said",
            Tell::Following { .. } => "following",
            Tell::Entry { .. } => "entry",
            Tell::Still {} => "still",
            Tell::Over { .. } => "over",
            Tell::Output { .. } => "output",
            Tell::Exited { .. } => "exited",
            Tell::Failed { .. } => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_written_form() {
        let ask = Ask::Follow { release: Some(ReleaseId(7)), after: 12, runner: None };
        let text = serde_json::to_string(&ask).unwrap();
        assert_eq!(text, r#"{"ask":"follow","release":"r7","after":12,"runner":null}"#);
        assert_eq!(serde_json::from_str::<Ask>(&text).unwrap(), ask);
    }

    #[test]
    fn an_unknown_message_or_field_is_refused_rather_than_ignored() {
        assert!(serde_json::from_str::<Ask>(r#"{"ask":"shell","args":[]}"#).is_err());
        assert!(serde_json::from_str::<Ask>(r#"{"ask":"stop","force":true}"#).is_err());
    }
}
