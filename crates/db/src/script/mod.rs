//! SQL scripts as the database's own client would read them: a byte lexer that finds where each
//! statement ends, and refuses what it would have to guess.

mod compound;
mod lexer;
pub(crate) mod run;
mod source;
mod squeeze;
mod stream;
pub(crate) mod survey;
mod tokens;

use crate::error::DbError;
pub use crate::settings::Engine;
pub use lexer::{Found, Splitter};
pub use source::{BadPlaceholder, Placeholders, Script, ScriptHashes, ScriptText, normalised_hash};
pub use squeeze::squeeze;
pub use stream::{StatementReader, StreamError};

/// One statement of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The byte of the script at which it begins, from 0.
    pub offset: u64,
    /// The line in which it begins, from 1.
    pub line: u64,
    /// Its text, without its delimiter, with LF line ends (as the engines' own clients send it).
    pub text: String,
}

/// A script that cannot be read as a list of statements.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected {expected}, found {found}; {hint}")]
pub struct ScriptError {
    /// The line where it was noticed (for something unterminated: where that begins), from 1.
    pub line: u64,
    /// What should stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
    /// What to do.
    pub hint: String,
}

/// How a MariaDB server reads quotes, as its `sql_mode` says. Irrelevant for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuoteMode {
    /// `NO_BACKSLASH_ESCAPES`: a backslash in a string is an ordinary character.
    pub no_backslash_escapes: bool,
    /// `ANSI_QUOTES`: double quotes enclose names.
    pub ansi_quotes: bool,
}

impl QuoteMode {
    /// What a server's `sql_mode` means for quotes.
    pub fn of(sql_mode: &str) -> Self {
        let upper = sql_mode.to_ascii_uppercase();
        Self {
            no_backslash_escapes: upper.contains("NO_BACKSLASH_ESCAPES"),
            ansi_quotes: upper.contains("ANSI"),
        }
    }
}

/// The statements of a script, for a server with the usual `sql_mode`.
///
/// # Errors
/// [`ScriptError`] where the script is not UTF-8 text, ends inside a string, a comment or a
/// block, or contains a command of the engine's own client that only that client can execute.
pub fn statements(engine: Engine, bytes: &[u8]) -> Result<Vec<Statement>, ScriptError> {
    statements_in(engine, QuoteMode::default(), bytes)
}

/// The statements of a script, for a server that reads quotes as `mode` says.
///
/// # Errors
/// As [`statements`].
pub fn statements_in(
    engine: Engine,
    mode: QuoteMode,
    bytes: &[u8],
) -> Result<Vec<Statement>, ScriptError> {
    let mut splitter = Splitter::new(engine, mode);
    let mut found = Vec::new();
    let mut rest = bytes;
    loop {
        match splitter.next(rest, true)? {
            Found::Statement { statement, consumed } => {
                found.push(statement);
                rest = &rest[consumed..];
            }
            Found::NeedMore | Found::End => return Ok(found),
        }
    }
}

/// Reads scripts to their ends as `engine` would, executing nothing.
///
/// # Errors
/// [`DbError::Script`] for the first that cannot be read as a list of statements.
pub fn check(engine: Engine, mode: QuoteMode, scripts: &[Script]) -> Result<(), DbError> {
    survey::survey(engine, mode, scripts, &mut |_| None).map(drop)
}

/// The first `max` characters of a statement on one line, for journals and errors.
pub(crate) fn excerpt(sql: &str, max: usize) -> String {
    let mut text = String::new();
    // A word is at least one character long, so no more of them can matter.
    for word in sql.split_whitespace().take(max) {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
        if text.len() / 4 > max {
            break;
        }
    }
    match text.char_indices().nth(max) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}

/// The leading words of a statement in upper case, comments skipped (`CREATE TABLE`), at most
/// `count`. Version comments (`/*!50003 CREATE*/`) are read as the server reads them.
pub(crate) fn leading_words(engine: Engine, sql: &str, count: usize) -> Vec<String> {
    const HEAD_CHARS_MAX: usize = 4_096;
    let head = sql.char_indices().nth(HEAD_CHARS_MAX).map_or(sql, |(at, _)| &sql[..at]);
    squeeze(engine, head)
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$'))
        .filter(|word| !word.is_empty() && !word.bytes().all(|b| b.is_ascii_digit()))
        .take(count)
        .map(str::to_ascii_uppercase)
        .collect()
}

#[cfg(test)]
mod tests;
