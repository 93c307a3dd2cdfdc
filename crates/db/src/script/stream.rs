//! Statements from a stream, with memory for the longest one.

use std::io::{self, Read};

use super::{Engine, Found, QuoteMode, ScriptError, Splitter, Statement};

/// What is read from the stream at a time at least.
const READ_BYTES: usize = 256 << 10;
/// The most room that is kept for the next statement.
const KEPT_BYTES: usize = 4 << 20;
/// The longest statement: the most that a server can be told to accept.
const STATEMENT_BYTES_MAX: usize = 1 << 30;

/// Reads statements one by one.
pub struct StatementReader<R> {
    input: R,
    splitter: Splitter,
    buffer: Vec<u8>,
    start: usize,
    at_end: bool,
    statement_bytes_max: usize,
}

/// A stream that could not be read, or what was read is no script.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The stream failed.
    #[error("the script's stream failed")]
    Read(#[from] io::Error),
    /// It is no script.
    #[error(transparent)]
    Script(#[from] ScriptError),
}

impl<R: Read> StatementReader<R> {
    /// A reader at the beginning of a script.
    pub fn new(engine: Engine, mode: QuoteMode, input: R) -> Self {
        let splitter = Splitter::new(engine, mode);
        let statement_bytes_max = STATEMENT_BYTES_MAX;
        Self { input, splitter, buffer: Vec::new(), start: 0, at_end: false, statement_bytes_max }
    }

    /// The same with another bound on a statement's length.
    #[cfg(test)]
    pub(super) fn with_bound(mut self, bytes: usize) -> Self {
        self.statement_bytes_max = bytes;
        self
    }

    /// The next statement; `None` at the end.
    ///
    /// # Errors
    /// Where the stream fails, or what it brings is refused by [`Splitter`].
    pub fn next_statement(&mut self) -> Result<Option<Statement>, StreamError> {
        loop {
            match self.splitter.next(&self.buffer[self.start..], self.at_end)? {
                Found::Statement { statement, consumed } => {
                    self.start += consumed;
                    return Ok(Some(statement));
                }
                Found::End => return Ok(None),
                Found::NeedMore => self.fill()?,
            }
        }
    }

    /// Doubles what is at hand, so that a long statement is scanned a constant number of times.
    fn fill(&mut self) -> Result<(), StreamError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        // A long statement's room is not kept for the short ones behind it.
        if self.buffer.len() < READ_BYTES && self.buffer.capacity() > KEPT_BYTES {
            self.buffer.shrink_to(READ_BYTES);
        }
        let held = self.buffer.len();
        if held >= self.statement_bytes_max {
            return Err(StreamError::Script(self.splitter.endless(self.statement_bytes_max)));
        }
        let wanted = held.max(READ_BYTES);
        let read = (&mut self.input).take(wanted as u64).read_to_end(&mut self.buffer)?;
        self.at_end = read < wanted;
        Ok(())
    }
}
