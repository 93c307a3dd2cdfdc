//! The smallest parts of SQL, as both dialects write them.

use super::{Engine, QuoteMode};

/// What the engine takes for space between words.
pub(super) fn is_space(engine: Engine, byte: u8) -> bool {
    // The vertical tab: an error in SQLite, and in PostgreSQL before 16.
    byte.is_ascii_whitespace() || (engine == Engine::Mariadb && byte == 0x0b)
}

/// The text without such space at its end, and no more: a non-breaking one, say, the engines refuse.
pub(super) fn trimmed(engine: Engine, text: &str) -> &str {
    text.trim_end_matches(|c| u8::try_from(c).is_ok_and(|byte| is_space(engine, byte)))
}

/// Whether a backslash escapes within this kind of quotation.
pub(super) fn has_escapes(open: u8, engine: Engine, mode: QuoteMode) -> bool {
    engine == Engine::Mariadb
        && !mode.no_backslash_escapes
        && (open == b'\'' || (open == b'"' && !mode.ansi_quotes))
}

/// The length of the quotation at the start of `input` with both its quotes. Doubled quotes need
/// no care of their own where nothing escapes: they read as two quotations side by side.
pub(super) fn quoted_len(input: &[u8], escapes: bool) -> Option<usize> {
    let close = if input[0] == b'[' { b']' } else { input[0] };
    let mut at = 1;
    while let Some(byte) = input.get(at) {
        match *byte {
            b'\\' if escapes => at += 2,
            b if b == close && escapes && input.get(at + 1) == Some(&close) => at += 2,
            b if b == close => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// The length of the `/* */` comment at the start of `input`. PostgreSQL's are nested.
pub(super) fn comment_len(input: &[u8], engine: Engine) -> Option<usize> {
    if engine == Engine::Postgres {
        let (mut depth, mut at) = (1, 2);
        while let Some(pair) = input.get(at..at + 2) {
            match pair {
                b"/*" => depth += 1,
                b"*/" => depth -= 1,
                _ => {
                    at += 1;
                    continue;
                }
            }
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        }
        return None;
    }
    input[2..].windows(2).position(|pair| pair == b"*/").map(|at| at + 4)
}

/// `-- `, and `#` in MariaDB. There `5--1` is arithmetic.
pub(super) fn is_line_comment(here: &[u8], engine: Engine) -> bool {
    match engine {
        Engine::Sqlite | Engine::Postgres => here.starts_with(b"--"),
        Engine::Mariadb => {
            here[0] == b'#'
                || (here.starts_with(b"--")
                    && here.get(2).is_none_or(|b| b.is_ascii_whitespace() || b.is_ascii_control()))
        }
    }
}

/// A `/* */` that the server does not execute. The first line of MariaDB's newer dumps is a
/// command that only their own client takes for one, in the form of a version comment.
pub(super) fn is_plain_comment(here: &[u8], engine: Engine) -> bool {
    here.starts_with(b"/*")
        && (!opens_version_comment(here, engine)
            || here.starts_with(b"/*M!999999\\-")
            || here.starts_with(b"/*!999999\\-"))
}

/// Whether a byte may be in the tag of a dollar quotation.
pub(super) fn is_tag_part(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80
}

/// The length of the dollar quotation at the start of `input` (`$$...$$`, `$tag$...$tag$`), or its
/// tag where it has no end. None where it is no quotation.
pub(super) fn dollar_quoted_len(input: &[u8]) -> Option<Result<usize, &[u8]>> {
    let end = 1 + input[1..].iter().position(|b| !is_tag_part(b))?;
    if input[end] != b'$' || input[1].is_ascii_digit() {
        return None;
    }
    let tag = &input[..=end];
    let close = input[tag.len()..].windows(tag.len()).position(|at| at == tag);
    Some(close.map(|at| at + 2 * tag.len()).ok_or(tag))
}

pub(super) fn opens_version_comment(here: &[u8], engine: Engine) -> bool {
    engine == Engine::Mariadb && (here.starts_with(b"/*!") || here.starts_with(b"/*M!"))
}

/// The length of `/*!50003` or `/*M!100100` at the start of `here`.
pub(super) fn version_opener_len(here: &[u8]) -> usize {
    const VERSION_DIGITS_MAX: usize = 6;
    let opener = if here[2] == b'M' { 4 } else { 3 };
    let digits = here[opener..].iter().take(VERSION_DIGITS_MAX);
    opener + digits.take_while(|b| b.is_ascii_digit()).count()
}

/// What the client takes for the new delimiter, of the rest of the line behind `DELIMITER`.
pub(super) fn delimiter_argument(rest: &[u8]) -> &[u8] {
    let rest = rest.trim_ascii();
    if let Some(quote @ (b'\'' | b'"' | b'`')) = rest.first() {
        let inner = &rest[1..];
        return &inner[..inner.iter().position(|b| b == quote).unwrap_or(inner.len())];
    }
    &rest[..rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len())]
}

/// The word (or number) at the start of `input`; empty where there is none.
pub(super) fn word_at(input: &[u8]) -> &[u8] {
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b >= 0x80 || matches!(b, b'_' | b'$');
    // A word that begins with a dollar sign would swallow the delimiter `$$`.
    if input.first() == Some(&b'$') {
        return &input[..0];
    }
    &input[..input.iter().position(|b| !is_part(b)).unwrap_or(input.len())]
}
