//! The first reading of all scripts, before the first statement of any is executed.

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

use super::source::Hasher;
use super::stream::{StatementReader, StreamError};
use super::{Engine, QuoteMode, Script, ScriptHashes, Statement};
use crate::error::DbError;

/// What the first reading told of a script.
pub(crate) struct Surveyed<'a> {
    pub(crate) script: &'a Script,
    pub(crate) statements: u64,
    pub(crate) hashes: ScriptHashes,
}

/// A statement that we do not execute, and what to do instead.
pub(crate) struct Unwanted {
    pub(crate) what: String,
    pub(crate) hint: String,
}

/// Reads every script to its end; `look` sees each statement and says what is wrong with it.
pub(crate) fn survey<'a>(
    engine: Engine,
    mode: QuoteMode,
    scripts: &'a [Script],
    look: &mut dyn FnMut(&Statement) -> Option<Unwanted>,
) -> Result<Vec<Surveyed<'a>>, DbError> {
    let mut surveyed = Vec::new();
    for script in scripts {
        let mut reader = ScriptReader::open(engine, mode, script)?;
        let mut statements = 0;
        while let Some(statement) = reader.next_statement()? {
            if let Some(Unwanted { what, hint }) = look(&statement) {
                let (script, line) = (script.name.clone(), statement.line);
                return Err(DbError::Refused { script, line, what, hint });
            }
            statements += 1;
        }
        surveyed.push(Surveyed { script, statements, hashes: reader.hashes() });
    }
    Ok(surveyed)
}

/// A script's statements one by one, with the hashes of what was read.
pub(crate) struct ScriptReader<'a> {
    script: &'a Script,
    statements: StatementReader<Hashing<'a>>,
    hasher: Rc<RefCell<Hasher>>,
}

impl<'a> ScriptReader<'a> {
    pub(crate) fn open(
        engine: Engine,
        mode: QuoteMode,
        script: &'a Script,
    ) -> Result<Self, DbError> {
        let input = script.open().map_err(DbError::io("open", script.path()))?;
        let hasher = Rc::new(RefCell::new(Hasher::default()));
        let input = Hashing { input, hasher: Rc::clone(&hasher) };
        Ok(Self { script, statements: StatementReader::new(engine, mode, input), hasher })
    }

    /// The next statement, its placeholders filled.
    pub(crate) fn next_statement(&mut self) -> Result<Option<Statement>, DbError> {
        match self.statements.next_statement() {
            Ok(Some(mut statement)) => {
                statement.text = self.script.placeholders.fill(statement.text);
                Ok(Some(statement))
            }
            Ok(None) => Ok(None),
            Err(StreamError::Script(source)) => {
                Err(DbError::Script { script: self.script.name.clone(), source })
            }
            Err(StreamError::Read(error)) => Err(DbError::io("read", self.script.path())(error)),
        }
    }

    /// The hashes of the whole script, once it was read to its end.
    pub(crate) fn hashes(self) -> ScriptHashes {
        self.hasher.take().finish()
    }
}

/// Hashes what passes.
struct Hashing<'a> {
    input: Box<dyn Read + 'a>,
    hasher: Rc<RefCell<Hasher>>,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.hasher.borrow_mut().update(&buffer[..read]);
        Ok(read)
    }
}
