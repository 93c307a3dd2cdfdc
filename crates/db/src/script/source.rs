//! A script, wherever its text lies: it is read through a window, never held as a whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use entracte_model::Hash;

use super::lexer::BOM;

/// How much of a script is read at a time.
const READ_BYTES: usize = 64 << 10;

/// Where the text of a script lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptText {
    /// In memory: a script that is known to be small.
    Held(Arc<[u8]>),
    /// In a file, which nobody may change until the script ran.
    File(PathBuf),
}

/// A SQL script of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Its name, for people (`010-add-market.sql`).
    pub name: String,
    /// Its text as it was signed.
    pub text: ScriptText,
    /// What stands for what in it.
    pub placeholders: Placeholders,
}

impl Script {
    /// A script whose text is in memory.
    pub fn held(name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        let text = ScriptText::Held(text.into().into());
        Self { name: name.into(), text, placeholders: Placeholders::default() }
    }

    /// A script whose text is in a file.
    pub fn file(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        let text = ScriptText::File(path.into());
        Self { name: name.into(), text, placeholders: Placeholders::default() }
    }

    /// The same script with placeholders.
    pub fn with(mut self, placeholders: &Placeholders) -> Self {
        self.placeholders = placeholders.clone();
        self
    }

    /// A reader at its beginning.
    pub fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match &self.text {
            ScriptText::Held(bytes) => Box::new(&bytes[..]),
            ScriptText::File(path) => Box::new(File::open(path)?),
        })
    }

    /// The file that it is read from, for errors.
    pub fn path(&self) -> PathBuf {
        match &self.text {
            ScriptText::Held(_) => PathBuf::from(&self.name),
            ScriptText::File(path) => path.clone(),
        }
    }

    /// Its hashes and its length.
    pub fn hashes(&self) -> io::Result<ScriptHashes> {
        let mut hasher = Hasher::default();
        let mut reader = self.open()?;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(read) => hasher.update(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What a script is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptHashes {
    /// The hash of its bytes.
    pub raw: Hash,
    /// The hash without a BOM and with LF line ends: what stays equal when an editor or a version
    /// control system rewrites line ends.
    pub normalised: Hash,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Makes the hashes of a script from pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Hasher {
    raw: blake3::Hasher,
    normalised: blake3::Hasher,
    bytes: u64,
    /// The first bytes, until it is clear whether they are a BOM.
    head: Vec<u8>,
    /// A CR that is left out if LF follows.
    cr: bool,
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.raw.update(bytes);
        let at_head = self.bytes < BOM.len() as u64;
        self.bytes += bytes.len() as u64;
        if !at_head {
            return self.text(bytes);
        }
        self.head.extend_from_slice(bytes);
        if self.head.len() >= BOM.len() {
            self.headless();
        }
    }

    fn headless(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.text(head.strip_prefix(BOM).unwrap_or(&head));
    }

    fn text(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.cr) && *first != b'\n' {
                self.normalised.update(b"\r");
            }
            let end = bytes.iter().position(|b| *b == b'\r').unwrap_or(bytes.len());
            self.normalised.update(&bytes[..end]);
            self.cr = end < bytes.len();
            bytes = &bytes[(end + 1).min(bytes.len())..];
        }
    }

    pub(crate) fn finish(mut self) -> ScriptHashes {
        self.headless();
        if self.cr {
            self.normalised.update(b"\r");
        }
        ScriptHashes {
            raw: self.raw.finalize().into(),
            normalised: self.normalised.finalize().into(),
            bytes: self.bytes,
        }
    }
}

/// The hash of a script without its BOM and with LF line ends.
pub fn normalised_hash(bytes: &[u8]) -> Hash {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish().normalised
}

/// Names between percent signs (`%PREFIX%`), and what a target has in their place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placeholders(Arc<BTreeMap<String, String>>);

/// A placeholder that could change where a statement ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPlaceholder {
    /// The name.
    #[error("`{0}` cannot be a placeholder: expected capitals, digits and `_`, a capital first")]
    Name(String),
    /// The value.
    #[error(
        "`{value}` cannot stand for %{name}%: expected letters, digits, `_`, `-` or `.` only, so \
         that it cannot change what a statement is"
    )]
    Value {
        /// The name.
        name: String,
        /// What was configured.
        value: String,
    },
}

impl Placeholders {
    /// Placeholders by name, without their percent signs.
    ///
    /// # Errors
    /// [`BadPlaceholder`] where a name or a value is more than a plain word.
    pub fn new(values: BTreeMap<String, String>) -> Result<Self, BadPlaceholder> {
        for (name, value) in &values {
            let in_name = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
            if !name.bytes().all(in_name) || !name.starts_with(|c: char| c.is_ascii_uppercase()) {
                return Err(BadPlaceholder::Name(name.clone()));
            }
            // Two minus signs would begin a comment.
            let in_value = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            if !value.bytes().all(in_value) || value.contains("--") {
                return Err(BadPlaceholder::Value { name: name.clone(), value: value.clone() });
            }
        }
        Ok(Self(Arc::new(values)))
    }

    /// `sql` with the values in the place of their names. A percent sign that begins none of the
    /// names is left alone (`LIKE '%x%'`).
    pub fn fill(&self, sql: String) -> String {
        if self.0.is_empty() || !sql.contains('%') {
            return sql;
        }
        let mut filled = String::with_capacity(sql.len());
        let mut rest = sql.as_str();
        while let Some(at) = rest.find('%') {
            filled.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let known = self.0.iter().find_map(|(name, value)| {
                Some((value, rest.strip_prefix(name.as_str())?.strip_prefix('%')?))
            });
            match known {
                Some((value, behind)) => {
                    filled.push_str(value);
                    rest = behind;
                }
                None => filled.push('%'),
            }
        }
        filled.push_str(rest);
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_same_however_the_bytes_arrive() {
        let text = b"\xef\xbb\xbfSELECT 1;\r\n\r\r\nSELECT '\r';\n\r";
        let plain = b"SELECT 1;\n\r\nSELECT '\r';\n\r";
        let whole = Script::held("x", *text).hashes().unwrap();
        assert_eq!(whole.normalised, Hash::of(plain));
        assert_eq!((whole.raw, whole.bytes), (Hash::of(text), text.len() as u64));
        for step in 1..text.len() {
            let mut hasher = Hasher::default();
            text.chunks(step).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.finish(), whole, "{step}");
        }
        for short in [&b""[..], b"\xef", b"\xef\xbb", b"\r", b"x"] {
            assert_eq!(normalised_hash(short), Hash::of(short), "{short:?}");
        }
        assert_eq!(normalised_hash(BOM), Hash::of(b""));
    }

    fn placeholders(name: &str, value: &str) -> Result<Placeholders, BadPlaceholder> {
        Placeholders::new([(name.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn placeholders_are_filled_and_other_percent_signs_stay() {
        let prefix = placeholders("PREFIX", "game_").unwrap();
        let filled = prefix.fill("SELECT '%x%PREFIX%%' FROM %PREFIX%a % 5, %PREFIX".to_owned());
        assert_eq!(filled, "SELECT '%xgame_%' FROM game_a % 5, %PREFIX");
    }

    #[test]
    fn a_placeholder_cannot_change_what_a_statement_is() {
        for value in ["a;b", "a'b", "a b", "a--b", "/*", "é"] {
            assert!(
                matches!(placeholders("P", value), Err(BadPlaceholder::Value { .. })),
                "{value}"
            );
        }
        for name in ["", "prefix", "1P", "P-Q"] {
            assert!(matches!(placeholders(name, "a"), Err(BadPlaceholder::Name(_))), "{name}");
        }
    }
}
