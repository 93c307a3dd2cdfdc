//! Comparing databases where production's is on another machine: the question travels, not the rows.
//!
//! The private copy is made there, by the server program that production runs. What players own does
//! not leave the machine, and nothing that comes from it is executed here.

use std::io::Read;

use entracte_db::Script;
use entracte_host::wire::Ask;
use entracte_release::Target;
use entracte_release::drift::{Drift, Mended, Wanted};
use serde::{Deserialize, Serialize};

use super::Remote;
use crate::exit::Failure;

/// The longest question, as it is sent.
pub const QUESTION_BYTES_MAX: u64 = 64 << 20;
/// The longest question, as it is.
pub const QUESTION_BYTES_UNPACKED_MAX: u64 = 256 << 20;
/// The longest answer.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// The compression of the question: its line is slow more often than its machine.
const LEVEL: i32 = 3;

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// What development has.
    pub wanted: Wanted,
    /// Tables whose rows are compared, too.
    pub seed_tables: Vec<String>,
    /// The scripts that wait, in their order, each with its length: their texts follow.
    pub scripts: Vec<(String, u64)>,
    /// Whether statements that mend it are looked for, and then whether those that lose data are run.
    pub mend: Option<bool>,
}

/// What was found.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// What differs.
    pub drift: Drift,
    /// What would mend it, where that was asked.
    pub mended: Option<Mended>,
}

/// What came of asking.
pub enum Asked {
    /// The answer.
    Answered(Box<Answer>),
    /// Why it could not be asked.
    Not(String),
}

impl Question {
    /// The question with the texts of `scripts`, as it is sent; nothing where it is too long.
    fn pack(&self, scripts: &[Script]) -> Result<Option<Vec<u8>>, Failure> {
        let (mut texts, mut lengths) = (Vec::new(), Vec::new());
        for script in scripts {
            let before = texts.len() as u64;
            let left = QUESTION_BYTES_UNPACKED_MAX.saturating_sub(before);
            script.open()?.take(left + 1).read_to_end(&mut texts)?;
            lengths.push((script.name.clone(), texts.len() as u64 - before));
        }
        let whole = Question { scripts: lengths, ..self.clone() };
        let mut plain = serde_json::to_vec(&whole).map_err(std::io::Error::from)?;
        plain.push(b'\n');
        plain.append(&mut texts);
        if plain.len() as u64 > QUESTION_BYTES_UNPACKED_MAX {
            return Ok(None);
        }
        let packed = zstd::encode_all(&plain[..], LEVEL)?;
        Ok((packed.len() as u64 <= QUESTION_BYTES_MAX).then_some(packed))
    }

    /// A question that came, with its scripts.
    pub fn unpack(packed: &[u8], target: &Target) -> Result<(Self, Vec<Script>), Failure> {
        let wrong = |what: &str| Failure::usage(format!("a comparison that {what}"));
        let mut plain = Vec::new();
        let unpacked = zstd::Decoder::new(packed)?;
        unpacked.take(QUESTION_BYTES_UNPACKED_MAX + 1).read_to_end(&mut plain)?;
        if plain.len() as u64 > QUESTION_BYTES_UNPACKED_MAX {
            return Err(wrong("is too long"));
        }
        let end = plain.iter().position(|byte| *byte == b'\n');
        let (head, mut texts) = plain.split_at(end.ok_or_else(|| wrong("has no end"))?);
        texts = &texts[1..];
        let question: Self = serde_json::from_slice(head)
            .map_err(|error| wrong(&format!("cannot be understood: {error}")))?;
        let mut scripts = Vec::new();
        for (name, bytes) in &question.scripts {
            let bytes = usize::try_from(*bytes).unwrap_or(usize::MAX);
            let (text, rest) =
                texts.split_at_checked(bytes).ok_or_else(|| wrong("lacks a part of a script"))?;
            scripts.push(Script::held(name.as_str(), text).with(&target.placeholders));
            texts = rest;
        }
        Ok((question, scripts))
    }
}

impl Remote {
    /// Asks how production, with `scripts` run, would differ from what is wanted.
    pub fn compare(&mut self, question: &Question, scripts: &[Script]) -> Result<Asked, Failure> {
        if self.is_fixed() {
            let why = format!("{} takes releases and no questions (`agent --fixed`)", self.host());
            return Ok(Asked::Not(why));
        }
        let Some(packed) = question.pack(scripts)? else {
            return Ok(Asked::Not("the scripts that wait are too long to be sent".to_owned()));
        };
        self.ask(&Ask::Compare { bytes: packed.len() as u64 })?;
        self.send(&packed)?;
        let answer = self.hear_blob(ANSWER_BYTES_MAX)?;
        let answer = serde_json::from_slice(&answer).map_err(|error| {
            Failure::broken(format!("{} answers what cannot be understood: {error}", self.host()))
        })?;
        Ok(Asked::Answered(Box::new(answer)))
    }
}

#[cfg(test)]
mod tests {
    use entracte_model::schema::{Dialect, Snapshot};

    use super::*;

    fn question() -> Question {
        let schema = Snapshot {
            dialect: Dialect::Sqlite,
            objects: Default::default(),
            uncovered: Vec::new(),
        };
        let wanted = Wanted { schema, seeds: Vec::new() };
        Question { wanted, seed_tables: Vec::new(), scripts: Vec::new(), mend: Some(true) }
    }

    #[test]
    fn scripts_arrive_as_they_are_and_with_the_placeholders_of_the_machine() {
        let scripts = [
            Script::held("1.sql", "SELECT '\u{e9}';\n\nSELECT 2".as_bytes()),
            Script::held("2.sql", &b"\xff;"[..]),
        ];
        let packed = question().pack(&scripts).unwrap().unwrap();
        let mut plain = Vec::new();
        zstd::Decoder::new(&packed[..]).unwrap().read_to_end(&mut plain).unwrap();
        assert!(plain.ends_with(b"SELECT 2\xff;"));
        let text = String::from_utf8_lossy(&plain).into_owned();
        assert!(text.contains(r#""scripts":[["1.sql",22],["2.sql",2]]"#), "{text}");
    }
}
