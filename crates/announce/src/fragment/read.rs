//! Reading one fragment.

use std::collections::BTreeMap;
use std::path::Path;

use entracte_model::Hash;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Audience, Fragment, FragmentError, Kind};
use crate::language::is_tag;

/// The largest fragment that is read, in bytes: it is a paragraph or two, never a book.
pub const FRAGMENT_BYTES_MAX: usize = 64 * 1024;
/// The longest name of a fragment, in bytes.
pub const SLUG_BYTES_MAX: usize = 80;
/// The longest excerpt of a file that an error repeats, in characters.
const FOUND_CHARS_MAX: usize = 60;

const KEYS: [&str; 9] =
    ["kind", "audience", "reason", "area", "refs", "reverts", "smoke", "watch", "migration"];
const FENCE: &str = "+++";

/// Reads a fragment. `path_for_errors` names the file in errors, and its stem is the slug.
///
/// # Errors
/// The first place that is not as the module's documentation says.
pub fn parse(path_for_errors: &str, bytes: &[u8]) -> Result<Fragment, FragmentError> {
    let at = Place { file: path_for_errors };
    let slug = slug(&at)?;
    let text = decode(&at, bytes)?;
    let (front, front_line, body, body_line) = split(&at, &text)?;
    let head = Head::read(&at, front, front_line)?;
    let sections = sections(&at, body, body_line)?;
    if sections.is_empty() && !matches!(head.audience, Audience::None { .. }) {
        return Err(at.error(
            body_line,
            "a text in at least one language",
            "none",
            "add a section such as `## en` below the second `+++`",
        ));
    }
    Ok(Fragment {
        slug,
        kind: head.kind,
        audience: head.audience,
        area: head.area,
        refs: head.refs,
        reverts: head.reverts,
        smoke: head.smoke,
        watch: head.watch,
        reversible: head.reversible,
        text: sections,
        hash: Hash::of(bytes),
    })
}

/// Makes errors about one file.
pub(super) struct Place<'a> {
    pub(super) file: &'a str,
}

impl Place<'_> {
    pub(super) fn error(
        &self,
        line: usize,
        expected: &str,
        found: &str,
        hint: &str,
    ) -> FragmentError {
        let mut short: String = found.chars().take(FOUND_CHARS_MAX).collect();
        if short.len() < found.len() {
            short.push('…');
        }
        FragmentError {
            file: self.file.to_owned(),
            line,
            expected: expected.to_owned(),
            found: short,
            hint: hint.to_owned(),
        }
    }
}

fn slug(at: &Place) -> Result<String, FragmentError> {
    let stem = Path::new(at.file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if is_slug(stem) {
        return Ok(stem.to_owned());
    }
    Err(at.error(
        0,
        "a name of small letters, digits and hyphens, such as open-market.md",
        &format!("{stem:?}"),
        "rename the file",
    ))
}

fn is_slug(text: &str) -> bool {
    !text.starts_with('-')
        && (1..=SLUG_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The text without a byte order mark and with plain line ends, so that an editor's habits change nothing.
fn decode(at: &Place, bytes: &[u8]) -> Result<String, FragmentError> {
    if bytes.len() > FRAGMENT_BYTES_MAX {
        return Err(at.error(
            0,
            &format!("at most {FRAGMENT_BYTES_MAX} bytes"),
            &format!("{} bytes", bytes.len()),
            "keep the text to what a player wants to read",
        ));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        at.error(line, "UTF-8 text", "bytes that are none", "save the file as UTF-8")
    })?;
    Ok(text.trim_start_matches('\u{feff}').replace("\r\n", "\n"))
}

/// Front matter and body, each with the number of its first line.
fn split<'t>(at: &Place, text: &'t str) -> Result<(&'t str, usize, &'t str, usize), FragmentError> {
    let Some((first, rest)) = text.split_once('\n').filter(|(first, _)| first.trim_end() == FENCE)
    else {
        let found = text.lines().next().unwrap_or_default();
        return Err(at.error(
            1,
            "a line `+++`",
            &quote(found),
            "begin the file with `+++`, keys, `+++`",
        ));
    };
    let mut offset = 0;
    for (index, line) in rest.split_inclusive('\n').enumerate() {
        if line.trim_end() == FENCE {
            let front = &rest[..offset];
            let body = &rest[offset + line.len()..];
            return Ok((front, 2, body, index + 3));
        }
        offset += line.len();
    }
    let lines = 1 + first.lines().count() + rest.lines().count();
    Err(at.error(
        lines,
        "a second line `+++`",
        "the end of the file",
        "close the keys with a line `+++`",
    ))
}

/// The keys of the front matter.
struct Head {
    kind: Kind,
    audience: Audience,
    area: Option<String>,
    refs: Vec<String>,
    reverts: Option<String>,
    smoke: Vec<String>,
    watch: Vec<String>,
    reversible: Option<bool>,
}

impl Head {
    fn read(at: &Place, front: &str, first_line: usize) -> Result<Self, FragmentError> {
        let table = DeTable::parse(front).map_err(|error| {
            let line = first_line + error.span().map_or(0, |span| newlines(front, span.start));
            at.error(line, "TOML keys", error.message(), "write one `key = \"value\"` a line")
        })?;
        let keys = Keys { at, front, first_line, table: table.get_ref() };
        keys.refuse_unknown()?;
        let kind = keys.kind()?;
        let audience = keys.audience()?;
        if kind == Kind::Internal && audience == Audience::Players {
            return Err(at.error(
                keys.line_of("audience"),
                "`operators` or `none` for an internal change",
                "`players`",
                "choose another kind if players can see the change",
            ));
        }
        let reverts = keys.text("reverts")?;
        if let Some(other) = reverts.as_deref().filter(|other| !is_slug(other)) {
            return Err(at.error(
                keys.line_of("reverts"),
                "the slug of another fragment",
                &quote(other),
                "write its file name without `.md`",
            ));
        }
        Ok(Self {
            kind,
            audience,
            area: keys.text("area")?,
            refs: keys.list("refs")?,
            reverts,
            smoke: keys.list("smoke")?,
            watch: keys.list("watch")?,
            reversible: keys
                .word("migration", &["reversible", "irreversible"])?
                .map(|word| word == "reversible"),
        })
    }
}

struct Keys<'a> {
    at: &'a Place<'a>,
    front: &'a str,
    first_line: usize,
    table: &'a DeTable<'a>,
}

impl<'a> Keys<'a> {
    fn line(&self, offset: usize) -> usize {
        self.first_line + newlines(self.front, offset)
    }

    fn line_of(&self, key: &str) -> usize {
        let found = self.table.iter().find(|(name, _)| name.get_ref() == key);
        found.map_or(self.first_line, |(name, _)| self.line(name.span().start))
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn refuse_unknown(&self) -> Result<(), FragmentError> {
        for (name, _) in self.table {
            if !KEYS.contains(&name.get_ref().as_ref()) {
                let hint = nearest(name.get_ref(), &KEYS).map_or_else(
                    || "remove it".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                );
                let line = self.line(name.span().start);
                return Err(self.at.error(
                    line,
                    &format!("one of the keys {}", KEYS.join(", ")),
                    &quote(name.get_ref()),
                    &hint,
                ));
            }
        }
        Ok(())
    }

    /// One text, not empty and on one line: it may end in a heading, a link or a command.
    fn text(&self, key: &str) -> Result<Option<String>, FragmentError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        self.one(key, value).map(Some)
    }

    fn one(&self, key: &str, value: &Spanned<DeValue>) -> Result<String, FragmentError> {
        let line = self.line(value.span().start);
        let wrong = |found: &str| {
            self.at.error(
                line,
                &format!("`{key}` with text on one line"),
                found,
                "write it in quotes",
            )
        };
        match value.get_ref() {
            DeValue::String(text) if text.trim().is_empty() => Err(wrong("an empty text")),
            DeValue::String(text) if text.chars().any(char::is_control) => {
                Err(wrong("a control character"))
            }
            DeValue::String(text) => Ok(text.trim().to_owned()),
            other => Err(wrong(other.type_str())),
        }
    }

    fn list(&self, key: &str) -> Result<Vec<String>, FragmentError> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let DeValue::Array(items) = value.get_ref() else {
            return Err(self.at.error(
                self.line(value.span().start),
                &format!("`{key}` with a list of texts"),
                value.get_ref().type_str(),
                &format!("write {key} = [\"…\"]"),
            ));
        };
        items.iter().map(|item| self.one(key, item)).collect()
    }

    /// A text that must be one of `words`.
    fn word(&self, key: &str, words: &[&str]) -> Result<Option<String>, FragmentError> {
        let Some(word) = self.text(key)? else { return Ok(None) };
        if words.contains(&word.as_str()) {
            return Ok(Some(word));
        }
        let hint = nearest(&word, words).map_or_else(
            || "choose one of them".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        Err(self.at.error(
            self.line_of(key),
            &format!("`{key}` as one of {}", words.join(", ")),
            &quote(&word),
            &hint,
        ))
    }

    fn required(&self, key: &str, words: &[&str]) -> Result<String, FragmentError> {
        self.word(key, words)?.ok_or_else(|| {
            self.at.error(
                self.first_line,
                &format!("`{key}` as one of {}", words.join(", ")),
                "no such key",
                &format!("add {key} = \"{}\"", words[0]),
            )
        })
    }

    fn kind(&self) -> Result<Kind, FragmentError> {
        let words = Kind::ALL.map(Kind::word);
        let word = self.required("kind", &words)?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word);
        Ok(kind.expect("the word was compared with the words of all kinds"))
    }

    fn audience(&self) -> Result<Audience, FragmentError> {
        let word = self.required("audience", &["players", "operators", "none"])?;
        let reason = self.text("reason")?;
        match (word.as_str(), reason) {
            ("none", Some(reason)) => Ok(Audience::None { reason }),
            ("none", None) => Err(self.at.error(
                self.line_of("audience"),
                "a `reason` beside audience = \"none\"",
                "no such key",
                "say in one line why nobody is told",
            )),
            (_, Some(_)) => Err(self.at.error(
                self.line_of("reason"),
                "`reason` with audience = \"none\" only",
                &format!("audience = \"{word}\""),
                "remove it",
            )),
            ("players", None) => Ok(Audience::Players),
            _ => Ok(Audience::Operators),
        }
    }
}

/// The body by language.
fn sections(
    at: &Place,
    body: &str,
    first_line: usize,
) -> Result<BTreeMap<String, String>, FragmentError> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut open: Option<(String, usize, Vec<&str>)> = None;
    for (index, line) in body.lines().enumerate() {
        let number = first_line + index;
        if let Some(tag) = line.strip_prefix("## ").or(if line == "##" { Some("") } else { None }) {
            close(at, &mut found, open.take())?;
            let tag = tag.trim();
            if !is_tag(tag) {
                let hint = "use ### for a heading inside the text";
                return Err(at.error(number, "a language such as `## en`", &quote(line), hint));
            }
            if found.contains_key(tag) {
                let hint = "put both texts in one section";
                return Err(at.error(number, "each language once", &quote(line), hint));
            }
            open = Some((tag.to_owned(), number, Vec::new()));
        } else if let Some((_, _, lines)) = &mut open {
            lines.push(line);
        } else if !line.trim().is_empty() {
            let hint = "say which language the text is in";
            return Err(at.error(
                number,
                "a language such as `## en` before any text",
                &quote(line),
                hint,
            ));
        }
    }
    close(at, &mut found, open)?;
    Ok(found)
}

fn close(
    at: &Place,
    found: &mut BTreeMap<String, String>,
    open: Option<(String, usize, Vec<&str>)>,
) -> Result<(), FragmentError> {
    let Some((tag, line, lines)) = open else { return Ok(()) };
    let text = lines.join("\n").trim_matches('\n').trim_end().to_owned();
    if text.trim().is_empty() {
        let hint = "write the text, or remove the section";
        return Err(at.error(line, &format!("a text below `## {tag}`"), "nothing", hint));
    }
    found.insert(tag, text);
    Ok(())
}

fn newlines(text: &str, up_to: usize) -> usize {
    text.bytes().take(up_to).filter(|byte| *byte == b'\n').count()
}

fn quote(text: &str) -> String {
    format!("`{}`", text.chars().take(FOUND_CHARS_MAX).collect::<String>())
}

/// The most similar of `words`, where one is similar enough to have been meant.
fn nearest<'w>(text: &str, words: &[&'w str]) -> Option<&'w str> {
    const SIMILAR_MIN: f64 = 0.7;
    let score = |word: &str| strsim::jaro_winkler(&text.to_lowercase(), word);
    let best = words.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) >= SIMILAR_MIN).then_some(best)
}
