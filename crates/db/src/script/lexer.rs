//! Where a statement ends.
//!
//! The lexer works on a window of bytes and keeps between two statements only the delimiter, the
//! quoting mode and the position: a script of any size is read with memory for its longest
//! statement.

use super::compound::{Blocks, MariadbBlocks, PostgresBlocks, SqliteTrigger};
use super::tokens::{
    comment_len, delimiter_argument, dollar_quoted_len, has_escapes, is_line_comment,
    is_plain_comment, is_space, is_tag_part, opens_version_comment, quoted_len, trimmed,
    version_opener_len, word_at,
};
use super::{Engine, QuoteMode, ScriptError, Statement};

/// The byte order mark of UTF-8.
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";
/// The client's command that changes what ends a statement.
const DELIMITER: &[u8] = b"delimiter";
/// The longest delimiter that the MariaDB client knows.
const DELIMITER_BYTES_MAX: usize = 16;
/// How much of a `SET` statement is looked at.
const SET_CHARS_MAX: usize = 2_000;
/// Every decision looks at no more bytes than this, save for those that look for an end.
const LOOK_AHEAD_BYTES: usize = 32;

/// Splits a script into statements.
#[derive(Debug, Clone)]
pub struct Splitter {
    engine: Engine,
    default_mode: QuoteMode,
    mode: QuoteMode,
    delimiter: Vec<u8>,
    offset: u64,
    line: u64,
}

/// What the next bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A statement; the window is to be moved on by `consumed` bytes.
    Statement {
        /// The statement.
        statement: Statement,
        /// How many bytes of the window are done with.
        consumed: usize,
    },
    /// The window ends before the statement does: call again with a longer one.
    NeedMore,
    /// Nothing but spaces and comments is left.
    End,
}

/// Why the lexer stopped early.
enum Halt {
    NeedMore,
    Bad(ScriptError),
}

impl Splitter {
    /// A splitter at the beginning of a script.
    pub fn new(engine: Engine, mode: QuoteMode) -> Self {
        Self { engine, default_mode: mode, mode, delimiter: b";".to_vec(), offset: 0, line: 1 }
    }

    /// The next statement in `window`, which begins where the last one ended. `at_end` says that
    /// nothing follows the window.
    ///
    /// # Errors
    /// As [`super::statements`].
    pub fn next(&mut self, window: &[u8], at_end: bool) -> Result<Found, ScriptError> {
        // A window that turns out too short must leave no trace: the scan works on a copy.
        let mut scan = Scan {
            engine: self.engine,
            mode: self.mode,
            delimiter: self.delimiter.clone(),
            input: window,
            at_end,
            pos: 0,
            line: self.line,
            offset: self.offset,
        };
        let statement = match scan.statement() {
            Ok(Some(statement)) => statement,
            Ok(None) => return Ok(Found::End),
            Err(Halt::NeedMore) => return Ok(Found::NeedMore),
            Err(Halt::Bad(error)) => return Err(error),
        };
        if self.engine == Engine::Postgres && reads_from_client(&statement.text) {
            return Err(ScriptError {
                line: statement.line,
                expected: "an SQL statement".to_owned(),
                found: "COPY with rows behind it, which only the psql program reads".to_owned(),
                hint: "write the rows as INSERT (pg_dump --inserts)".to_owned(),
            });
        }
        let consumed = scan.pos;
        self.delimiter = scan.delimiter;
        self.line = scan.line;
        self.offset += consumed as u64;
        self.follow_sql_mode(&statement.text);
        Ok(Found::Statement { statement, consumed })
    }

    /// The error for a statement whose end is not found within `bytes_max`.
    pub(super) fn endless(&self, bytes_max: usize) -> ScriptError {
        ScriptError {
            line: self.line,
            expected: format!("the end of a statement within {bytes_max} bytes"),
            found: "more of it".to_owned(),
            hint: "look for a missing delimiter, or write it as several statements".to_owned(),
        }
    }

    /// A script that changes `sql_mode` changes how the server reads the rest of it.
    fn follow_sql_mode(&mut self, text: &str) {
        if self.engine != Engine::Mariadb {
            return;
        }
        let sets = text.get(..3).is_some_and(|head| head.eq_ignore_ascii_case("SET"));
        if !sets && !text.starts_with("/*!") {
            return;
        }
        let upper: String = text.chars().take(SET_CHARS_MAX).collect::<String>().to_uppercase();
        let assigned = upper.match_indices("SQL_MODE").filter_map(|(at, name)| {
            let is_name_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let rest = upper[at + name.len()..].trim_start();
            let rest = rest.strip_prefix(':').unwrap_or(rest).strip_prefix('=')?;
            (!upper[..at].ends_with(is_name_part)).then(|| rest.trim_start())
        });
        let Some(value) = assigned.last() else { return };
        // A saved value (`@OLD_SQL_MODE`) is taken for the one that the server began with.
        let is_saved = value.starts_with('@') || value.starts_with("DEFAULT");
        self.mode = if is_saved { self.default_mode } else { QuoteMode::of(value) };
    }
}

/// One look for a statement's end.
struct Scan<'a> {
    engine: Engine,
    mode: QuoteMode,
    delimiter: Vec<u8>,
    input: &'a [u8],
    at_end: bool,
    pos: usize,
    line: u64,
    offset: u64,
}

impl Scan<'_> {
    fn statement(&mut self) -> Result<Option<Statement>, Halt> {
        if self.offset == 0 {
            self.encoding()?;
        }
        loop {
            if !self.leading()? {
                return Ok(None);
            }
            let (start, line) = (self.pos, self.line);
            let end = self.body(start)?;
            let raw = &self.input[start..end];
            if raw.iter().all(|byte| is_space(self.engine, *byte)) {
                continue;
            }
            let text = self.text(raw, line)?;
            return Ok(Some(Statement { offset: self.offset + start as u64, line, text }));
        }
    }

    /// Refuses UTF-16 and skips the BOM.
    fn encoding(&mut self) -> Result<(), Halt> {
        if self.input.len() < 4 && !self.at_end {
            return Err(Halt::NeedMore);
        }
        let utf16 = matches!(self.input, [0xff, 0xfe, ..] | [0xfe, 0xff, ..])
            || matches!(self.input, [0, b, ..] | [b, 0, ..] if *b != 0);
        if utf16 {
            return Err(self.bad(1, "UTF-8 text", "UTF-16", "save the script as UTF-8"));
        }
        if self.input.starts_with(BOM) {
            self.pos = BOM.len();
        }
        Ok(())
    }

    /// Skips what may stand before a statement, and obeys commands of the client that stand
    /// there. False where nothing is left.
    fn leading(&mut self) -> Result<bool, Halt> {
        loop {
            if self.pos >= self.input.len() {
                return if self.at_end { Ok(false) } else { Err(Halt::NeedMore) };
            }
            self.look_ahead()?;
            let here = &self.input[self.pos..];
            if is_space(self.engine, here[0]) {
                self.advance(1);
            } else if here.starts_with(&self.delimiter) {
                self.advance(self.delimiter.len());
            } else if here.starts_with(b"--") || (here[0] == b'#' && self.hash_is_comment()) {
                // Before a statement both clients take `--` for a comment even without a space.
                self.skip_line()?;
            } else if is_plain_comment(here, self.engine) {
                self.skip_comment()?;
            } else if !self.client_command()? {
                return Ok(true);
            }
        }
    }

    /// In MariaDB `#` begins a comment everywhere; sqlite3 knows it at the start of a line.
    fn hash_is_comment(&self) -> bool {
        match self.engine {
            Engine::Mariadb => true,
            Engine::Sqlite => self.at_line_start(),
            Engine::Postgres => false,
        }
    }

    fn at_line_start(&self) -> bool {
        let script_start = self.offset == 0 && matches!(&self.input[..self.pos], [] | BOM);
        script_start || (self.pos > 0 && self.input[self.pos - 1] == b'\n')
    }

    /// Obeys `DELIMITER`, refuses what only the client can do. False where it is a statement.
    fn client_command(&mut self) -> Result<bool, Halt> {
        let line = self.line;
        let here = &self.input[self.pos..];
        let first = word_at(here);
        if self.engine == Engine::Sqlite {
            if here[0] == b'.' && self.at_line_start() {
                let found = shown(here);
                return Err(self.bad(
                    line,
                    "an SQL statement",
                    &format!("the command `{found}` of the sqlite3 program"),
                    "write it as SQL, or run it by hand",
                ));
            }
            return Ok(false);
        }
        if self.engine == Engine::Postgres {
            // Elsewhere than at the start, too, a backslash is the client's.
            return Ok(false);
        }
        let spaced = here.get(first.len()).is_none_or(u8::is_ascii_whitespace);
        // `DELIMITER;` is refused by the client, too: nothing follows that it could take.
        let ended = here[first.len()..].starts_with(&self.delimiter);
        if (spaced || ended) && first.eq_ignore_ascii_case(DELIMITER) {
            self.change_delimiter()?;
            return Ok(true);
        }
        let only_client = [&b"source"[..], b"system"].iter().any(|w| first.eq_ignore_ascii_case(w));
        if (spaced && only_client) || here.starts_with(b"\\.") || here.starts_with(b"\\!") {
            let found = shown(here);
            return Err(self.bad(
                line,
                "an SQL statement",
                &format!("the command `{found}` of the mariadb program"),
                "put the other file's statements here, or make it a script of its own",
            ));
        }
        Ok(false)
    }

    /// `DELIMITER //`: up to the line's end.
    fn change_delimiter(&mut self) -> Result<(), Halt> {
        let line = self.line;
        let here = &self.input[self.pos..];
        let end = match here.iter().position(|b| *b == b'\n') {
            Some(end) => end,
            None if self.at_end => here.len(),
            None => return Err(Halt::NeedMore),
        };
        let behind = &here[DELIMITER.len()..end];
        let is_spaced = behind.first().is_none_or(u8::is_ascii_whitespace);
        let argument = if is_spaced { delimiter_argument(behind) } else { &[] };
        if argument.is_empty() || argument.len() > DELIMITER_BYTES_MAX || argument.contains(&b'\\')
        {
            let found = String::from_utf8_lossy(argument).into_owned();
            return Err(self.bad(
                line,
                "1 to 16 characters without a backslash after DELIMITER",
                &format!("`{found}`"),
                "write for example `DELIMITER //`",
            ));
        }
        self.delimiter = argument.to_vec();
        self.advance(end);
        Ok(())
    }

    /// The end of the statement that begins at `start`; moves behind its delimiter.
    fn body(&mut self, start: usize) -> Result<usize, Halt> {
        let mut blocks = match self.engine {
            Engine::Sqlite => Blocks::Sqlite(SqliteTrigger::default()),
            Engine::Mariadb if self.delimiter == b";" => Blocks::Mariadb(MariadbBlocks::default()),
            Engine::Mariadb => Blocks::Untracked,
            Engine::Postgres => Blocks::Postgres(PostgresBlocks::default()),
        };
        let mut version_comment: Option<u64> = None;
        while self.pos < self.input.len() {
            self.look_ahead()?;
            let here = &self.input[self.pos..];
            if here.starts_with(&self.delimiter) {
                let inside = blocks.delimiter_is_inside();
                if version_comment.is_none() && !inside {
                    let end = self.pos;
                    self.advance(self.delimiter.len());
                    return Ok(end);
                }
                self.advance(1);
            } else if self.delimiter_command_follows()? {
                return Ok(self.pos);
            } else if self.is_comment(here) {
                self.skip_any_comment()?;
            } else if version_comment.is_none() && opens_version_comment(here, self.engine) {
                version_comment = Some(self.line);
                self.skip_version_number();
            } else if version_comment.is_some() && here.starts_with(b"*/") {
                version_comment = None;
                self.advance(2);
            } else if self.is_quote(here[0]) {
                blocks.quoted();
                self.skip_quoted()?;
            } else if here[0] == b'$' && self.engine == Engine::Postgres {
                blocks.quoted();
                self.dollar()?;
            } else if here[0] == b'\\' && self.engine != Engine::Sqlite {
                if let Some(end) = self.backslash(start)? {
                    return Ok(end);
                }
            } else {
                self.token(&mut blocks)?;
            }
        }
        if !self.at_end {
            return Err(Halt::NeedMore);
        }
        if let Some(line) = version_comment {
            return Err(self.bad(line, "`*/`", "the end of the script", "end the comment"));
        }
        if let Some((what, line)) = blocks.open() {
            let hint = "end the block, or check the END before it";
            return Err(self.bad(
                line,
                &format!("the END of this {what}"),
                "the end of the script",
                hint,
            ));
        }
        Ok(self.pos)
    }

    /// A word, a number, a space or a symbol.
    fn token(&mut self, blocks: &mut Blocks) -> Result<(), Halt> {
        let here = &self.input[self.pos..];
        let word = word_at(here);
        // `END$$`: the client looks for its delimiter at every byte.
        let delimiter = word.windows(self.delimiter.len()).position(|at| at == self.delimiter);
        let word = &word[..delimiter.unwrap_or(word.len())];
        if word.is_empty() {
            if !is_space(self.engine, here[0]) {
                blocks.symbol(here[0], here.get(1).copied());
            }
            self.advance(1);
            return Ok(());
        }
        if word.len() == here.len() && !self.at_end {
            return Err(Halt::NeedMore);
        }
        blocks.word(word, self.line);
        let is_escape = self.engine == Engine::Postgres && word.eq_ignore_ascii_case(b"e");
        self.advance(word.len());
        if is_escape && self.input.get(self.pos) == Some(&b'\'') {
            return self.skip_quotation(true);
        }
        Ok(())
    }

    /// A dollar quotation, or a dollar sign that is none (`$1`).
    fn dollar(&mut self) -> Result<(), Halt> {
        let line = self.line;
        match dollar_quoted_len(&self.input[self.pos..]) {
            Some(Ok(length)) => self.advance(length),
            // The tag may go on behind the window.
            None if !self.at_end && self.input[self.pos + 1..].iter().all(is_tag_part) => {
                return Err(Halt::NeedMore);
            }
            None => self.advance(1),
            Some(Err(_)) if !self.at_end => return Err(Halt::NeedMore),
            Some(Err(tag)) => {
                let tag = String::from_utf8_lossy(tag).into_owned();
                let hint = "close the quotation";
                return Err(self.bad(
                    line,
                    &format!("the closing {tag}"),
                    "the end of the script",
                    hint,
                ));
            }
        }
        Ok(())
    }

    fn client(&self) -> &'static str {
        match self.engine {
            Engine::Sqlite => "sqlite3",
            Engine::Mariadb => "mariadb",
            Engine::Postgres => "psql",
        }
    }

    /// `\N` is a value, `\g` and `\G` end the statement; nothing else is ours to execute.
    fn backslash(&mut self, start: usize) -> Result<Option<usize>, Halt> {
        match self.input.get(self.pos + 1) {
            Some(b'N') if self.engine == Engine::Mariadb => {
                self.advance(2);
                Ok(None)
            }
            Some(b'g' | b'G') if self.pos > start && self.engine == Engine::Mariadb => {
                let end = self.pos;
                self.advance(2);
                Ok(Some(end))
            }
            _ => {
                let found = shown(&self.input[self.pos..]);
                Err(self.bad(
                    self.line,
                    "SQL",
                    &format!("the command `{found}` of the {} program", self.client()),
                    "write it as SQL, or run it by hand",
                ))
            }
        }
    }

    /// The client obeys `DELIMITER` at the start of a line even inside a statement, and so ends
    /// that. A column of this name is told apart by what follows.
    fn delimiter_command_follows(&self) -> Result<bool, Halt> {
        let here = &self.input[self.pos..];
        if self.engine != Engine::Mariadb
            || !matches!(here[0], b'd' | b'D')
            || !word_at(here).eq_ignore_ascii_case(DELIMITER)
            || !here.get(DELIMITER.len()).is_none_or(u8::is_ascii_whitespace)
        {
            return Ok(false);
        }
        let mut before = self.input[..self.pos].iter().rev();
        if before.find(|b| !matches!(b, b' ' | b'\t')) != Some(&b'\n') {
            return Ok(false);
        }
        let line_end = match here.iter().position(|b| *b == b'\n') {
            Some(end) => end,
            None if self.at_end => here.len(),
            None => return Err(Halt::NeedMore),
        };
        let argument = delimiter_argument(&here[DELIMITER.len()..line_end]);
        let of_a_column = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'`' | b',' | b'(');
        Ok((1..=DELIMITER_BYTES_MAX).contains(&argument.len()) && !argument.iter().any(of_a_column))
    }

    fn is_quote(&self, byte: u8) -> bool {
        match byte {
            b'\'' | b'"' => true,
            b'`' => self.engine != Engine::Postgres,
            b'[' => self.engine == Engine::Sqlite,
            _ => false,
        }
    }

    fn skip_quoted(&mut self) -> Result<(), Halt> {
        let escapes = has_escapes(self.input[self.pos], self.engine, self.mode);
        self.skip_quotation(escapes)
    }

    fn skip_quotation(&mut self, escapes: bool) -> Result<(), Halt> {
        let line = self.line;
        let open = self.input[self.pos];
        match quoted_len(&self.input[self.pos..], escapes) {
            // The next window may begin with the other half of a doubled quote.
            Some(length) if !self.at_end && self.pos + length == self.input.len() => {
                Err(Halt::NeedMore)
            }
            Some(length) => {
                self.advance(length);
                Ok(())
            }
            None if !self.at_end => Err(Halt::NeedMore),
            None => {
                let close = if open == b'[' { ']' } else { open as char };
                let expected = format!("the closing {close}");
                Err(self.bad(line, &expected, "the end of the script", "close the quotation"))
            }
        }
    }

    fn is_comment(&self, here: &[u8]) -> bool {
        is_line_comment(here, self.engine) || is_plain_comment(here, self.engine)
    }

    fn skip_any_comment(&mut self) -> Result<(), Halt> {
        if self.input[self.pos] == b'/' { self.skip_comment() } else { self.skip_line() }
    }

    fn skip_line(&mut self) -> Result<(), Halt> {
        match self.input[self.pos..].iter().position(|b| *b == b'\n') {
            Some(end) => self.advance(end),
            None if self.at_end => self.advance(self.input.len() - self.pos),
            None => return Err(Halt::NeedMore),
        }
        Ok(())
    }

    fn skip_comment(&mut self) -> Result<(), Halt> {
        let line = self.line;
        match comment_len(&self.input[self.pos..], self.engine) {
            Some(length) => {
                self.advance(length);
                Ok(())
            }
            None if !self.at_end => Err(Halt::NeedMore),
            None => Err(self.bad(line, "`*/`", "the end of the script", "end the comment")),
        }
    }

    fn skip_version_number(&mut self) {
        self.advance(version_opener_len(&self.input[self.pos..]));
    }

    /// A decision near the window's end waits for a longer window.
    fn look_ahead(&self) -> Result<(), Halt> {
        if !self.at_end && self.input.len() - self.pos < LOOK_AHEAD_BYTES {
            return Err(Halt::NeedMore);
        }
        Ok(())
    }

    fn advance(&mut self, by: usize) {
        let passed = &self.input[self.pos..self.pos + by];
        self.line += passed.iter().filter(|b| **b == b'\n').count() as u64;
        self.pos += by;
    }

    /// The text as the clients send it: no space at the end; LF line ends, save for psql, which
    /// leaves them as they are.
    fn text(&self, raw: &[u8], line: u64) -> Result<String, Halt> {
        let line_of = |at: usize| line + raw[..at].iter().filter(|b| **b == b'\n').count() as u64;
        if let Some(at) = raw.iter().position(|b| *b == 0) {
            let hint = "save the script as UTF-8 text (binary values as hexadecimal literals)";
            return Err(self.bad(line_of(at), "text", "a NUL byte (UTF-16 or binary data)", hint));
        }
        match std::str::from_utf8(raw) {
            Ok(text) if self.engine == Engine::Postgres => {
                Ok(trimmed(self.engine, text).to_owned())
            }
            Ok(text) => Ok(trimmed(self.engine, text).replace("\r\n", "\n")),
            Err(error) => {
                let hint = "save the script as UTF-8 (and dump binary columns with --hex-blob)";
                let at = line_of(error.valid_up_to());
                Err(self.bad(at, "UTF-8 text", "bytes that are not UTF-8", hint))
            }
        }
    }

    fn bad(&self, line: u64, expected: &str, found: &str, hint: &str) -> Halt {
        Halt::Bad(ScriptError {
            line,
            expected: expected.to_owned(),
            found: found.to_owned(),
            hint: hint.to_owned(),
        })
    }
}

/// `COPY ... FROM STDIN`: what follows it in a script is no SQL.
fn reads_from_client(sql: &str) -> bool {
    let head = sql.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("copy"));
    if !head && !sql.starts_with(['/', '-']) {
        return false;
    }
    let text = super::squeeze(Engine::Postgres, sql).to_ascii_uppercase();
    let mut words = text.split_ascii_whitespace();
    words.next() == Some("COPY")
        && words
            .zip(text.split_ascii_whitespace().skip(2))
            .any(|(from, stdin)| from.ends_with("FROM") && stdin.trim_end_matches(';') == "STDIN")
}

fn shown(here: &[u8]) -> String {
    let line = here.split(|b| *b == b'\n').next().unwrap_or(here);
    String::from_utf8_lossy(&line[..line.len().min(60)]).trim_end().to_owned()
}
