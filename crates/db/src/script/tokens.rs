//! The smallest parts of SQL, as both dialects write them.

use super::{Engine, QuoteMode};

/// Whether a backslash escapes within this kind of quotation.
pub(super) fn has_escapes(open: u8, engine: Engine, mode: QuoteMode) -> bool {
    engine == Engine::Mariadb
        && !mode.no_backslash_escapes
        && (open == b'\'' || (open == b'"' && !mode.ansi_quotes))
}

/// The length of the quotation at the start of `input` with both its quotes. Doubled quotes need
/// no care of their own: they read as two quotations side by side.
pub(super) fn quoted_len(input: &[u8], escapes: bool) -> Option<usize> {
    let close = if input[0] == b'[' { b']' } else { input[0] };
    let mut at = 1;
    while let Some(byte) = input.get(at) {
        match *byte {
            b'\\' if escapes => at += 2,
            b if b == close => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// The length of the `/* */` comment at the start of `input`.
pub(super) fn comment_len(input: &[u8]) -> Option<usize> {
    input[2..].windows(2).position(|pair| pair == b"*/").map(|at| at + 4)
}

/// `-- `, and `#` in MariaDB. There `5--1` is arithmetic.
pub(super) fn is_line_comment(here: &[u8], engine: Engine) -> bool {
    match engine {
        Engine::Sqlite => here.starts_with(b"--"),
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

/// The word (or number) at the start of `input`; empty where there is none.
pub(super) fn word_at(input: &[u8]) -> &[u8] {
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b >= 0x80 || matches!(b, b'_' | b'$');
    // A word that begins with a dollar sign would swallow the delimiter `$$`.
    if input.first() == Some(&b'$') {
        return &input[..0];
    }
    &input[..input.iter().position(|b| !is_part(b)).unwrap_or(input.len())]
}
