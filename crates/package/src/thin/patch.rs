//! A patch: the instructions that make a content of an old one, which lies in a file.
//!
//! ```text
//! instruction  count of new bytes, these bytes, count of bytes to copy, and, unless that is 0, from
//!              which byte of the old content on; not both counts 0
//! ```
//!
//! Numbers are those of the stream. There are as many instructions as the content takes; how long it
//! is, is known from the record.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::FileExt;

use entracte_model::Hash;

use super::{BadThin, wire};

/// Writes one instruction: new bytes, then what is copied (how much, from where).
pub(super) fn put(out: &mut dyn Write, new: &[u8], copied: Option<(u64, u64)>) -> io::Result<()> {
    literal(out, new)?;
    let (length, from) = copied.unwrap_or_default();
    copy(out, length, from)
}

/// The first half of an instruction.
pub(super) fn literal(out: &mut dyn Write, new: &[u8]) -> io::Result<()> {
    let mut count = Vec::with_capacity(10);
    wire::put_number(&mut count, new.len() as u64);
    out.write_all(&count)?;
    out.write_all(new)
}

/// The second half.
pub(super) fn copy(out: &mut dyn Write, length: u64, from: u64) -> io::Result<()> {
    let mut numbers = Vec::with_capacity(20);
    wire::put_number(&mut numbers, length);
    if length > 0 {
        wire::put_number(&mut numbers, from);
    }
    out.write_all(&numbers)
}

/// Why a patch gave no content.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is not one that a sender writes.
    Bad(BadThin),
    /// The old content ends too early: it is another one than was meant.
    OtherOld,
    /// The old content cannot be read.
    Unreadable(io::Error),
}

/// What an instruction still has to give.
enum State {
    /// The next instruction comes.
    Begin,
    New(u64),
    /// Its second half comes.
    Half,
    Copy {
        left: u64,
        at: u64,
    },
}

/// The content that a patch makes, as a reader. What went wrong is kept apart as `fault`.
pub(super) struct Patched<'a, R> {
    instructions: R,
    old: &'a File,
    old_size: u64,
    hash: Hash,
    /// The bytes that the content still lacks.
    left: u64,
    state: State,
    /// Whether the instruction has given anything.
    useful: bool,
    pub fault: Option<Fault>,
}

impl<'a, R: BufRead> Patched<'a, R> {
    /// The last `left` bytes of the content `hash`, made of the old one in `old`.
    pub(super) fn new(
        instructions: R,
        (old, old_size): (&'a File, u64),
        hash: Hash,
        left: u64,
    ) -> Self {
        let (state, useful, fault) = (State::Begin, false, None);
        Self { instructions, old, old_size, hash, left, state, useful, fault }
    }

    /// Refuses what follows a complete content; gives the instructions back.
    pub(super) fn end(mut self) -> Result<R, BadThin> {
        let damaged = |error| BadThin::Damaged(self.hash, error);
        if matches!(self.state, State::Half | State::New(0)) {
            let mut byte = [0];
            self.instructions.read_exact(&mut byte).map_err(damaged)?;
            if byte != [0] {
                return Err(BadThin::Instruction(self.hash));
            }
        }
        match self.instructions.fill_buf() {
            Ok([]) => Ok(self.instructions),
            Ok(_) => Err(BadThin::Trailing(self.hash)),
            Err(error) => Err(damaged(error)),
        }
    }

    fn bad(&mut self, bad: BadThin) -> io::Error {
        self.fault = Some(Fault::Bad(bad));
        io::ErrorKind::InvalidData.into()
    }

    fn number(&mut self) -> io::Result<u64> {
        let found = wire::number_of(|| {
            let mut byte = [0];
            self.instructions.read_exact(&mut byte)?;
            Ok::<u8, io::Error>(byte[0])
        })?;
        found.ok_or_else(|| self.bad(BadThin::Number))
    }

    /// Reads half an instruction; `false` where there is none any more.
    fn next(&mut self) -> io::Result<bool> {
        let begins = matches!(self.state, State::Begin);
        if begins && self.instructions.fill_buf()?.is_empty() {
            return Ok(false);
        }
        let count = self.number()?;
        if count > self.left || (!begins && !self.useful && count == 0) {
            return Err(self.bad(BadThin::Instruction(self.hash)));
        }
        self.useful = count > 0;
        self.state = match (begins, count) {
            (true, 0) => State::Half,
            (true, count) => State::New(count),
            (false, 0) => State::Begin,
            (false, left) => {
                let (at, size) = (self.number()?, self.old_size);
                if at.checked_add(left).is_none_or(|end| end > size) {
                    let hash = self.hash;
                    return Err(self.bad(BadThin::Beyond { hash, from: at, count: left, size }));
                }
                State::Copy { left, at }
            }
        };
        Ok(true)
    }
}

impl<R: BufRead> Read for Patched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        let fits = |left: u64| room.min(usize::try_from(left).unwrap_or(usize::MAX));
        if buffer.is_empty() || self.left == 0 {
            return Ok(0);
        }
        let count = loop {
            match self.state {
                State::Begin | State::Half => {
                    if !self.next()? {
                        return Ok(0);
                    }
                }
                State::New(0) => self.state = State::Half,
                State::Copy { left: 0, .. } => self.state = State::Begin,
                State::New(left) => {
                    let want = fits(left);
                    let count = self.instructions.read(&mut buffer[..want])?;
                    if count == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.state = State::New(left - count as u64);
                    break count;
                }
                State::Copy { left, at } => {
                    let want = fits(left);
                    let count = match self.old.read_at(&mut buffer[..want], at) {
                        Ok(0) => {
                            self.fault = Some(Fault::OtherOld);
                            return Err(io::ErrorKind::UnexpectedEof.into());
                        }
                        Ok(count) => count,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                        Err(error) => {
                            self.fault = Some(Fault::Unreadable(error));
                            return Err(io::ErrorKind::Other.into());
                        }
                    };
                    let (left, at) = (left - count as u64, at + count as u64);
                    self.state = State::Copy { left, at };
                    break count;
                }
            }
        };
        self.left -= count as u64;
        Ok(count)
    }
}
