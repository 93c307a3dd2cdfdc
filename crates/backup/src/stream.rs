//! A dump on its way from its producer into the repository.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::vec;

use rustic_core::{ReadSource, ReadSourceEntry, RusticResult};

use rustic_core::repofile::Node;

/// The size of the pieces that are handed over, in bytes.
const PIECE_BYTES: usize = 256 * 1024;
/// Pieces that wait between the two sides; then the producer waits.
const PIECES_MAX: usize = 16;

enum Piece {
    Bytes(Vec<u8>),
    /// The producer said that this was all. Without it the stream is cut.
    End,
}

/// The producer's side: counts and hashes what goes through.
pub(crate) struct Feed<'a> {
    pieces: SyncSender<Piece>,
    waiting: Vec<u8>,
    hasher: blake3::Hasher,
    bytes: u64,
    cut: bool,
    heard: &'a mut dyn FnMut(u64),
}

/// The repository's side.
pub(crate) struct Intake {
    pieces: Receiver<Piece>,
    current: vec::IntoIter<u8>,
    ended: bool,
}

/// What went through a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) bytes: u64,
    pub(crate) hash: blake3::Hash,
}

/// Two ends of one stream; `heard` is told the bytes so far after each piece.
pub(crate) fn pair(heard: &mut dyn FnMut(u64)) -> (Feed<'_>, Intake) {
    let (sender, receiver) = sync_channel(PIECES_MAX);
    let feed = Feed {
        pieces: sender,
        waiting: Vec::with_capacity(PIECE_BYTES),
        hasher: blake3::Hasher::new(),
        bytes: 0,
        cut: false,
        heard,
    };
    let intake = Intake { pieces: receiver, current: Vec::new().into_iter(), ended: false };
    (feed, intake)
}

impl Feed<'_> {
    /// Whether the other side went away: its reason is then the one that counts.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Says that this was all.
    pub(crate) fn finish(mut self) -> Content {
        if self.hand_over().is_ok() {
            // Where the other side is gone, its own error tells.
            let _ = self.pieces.send(Piece::End);
        }
        Content { bytes: self.bytes, hash: self.hasher.finalize() }
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.waiting, Vec::with_capacity(PIECE_BYTES));
        self.pieces.send(Piece::Bytes(piece)).map_err(|_| {
            self.cut = true;
            io::Error::new(io::ErrorKind::BrokenPipe, "the backup repository takes no more")
        })?;
        (self.heard)(self.bytes);
        Ok(())
    }
}

impl Write for Feed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..taken]);
        self.hasher.update(&bytes[..taken]);
        self.bytes += taken as u64;
        if self.waiting.len() == PIECE_BYTES {
            self.hand_over()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()
    }
}

impl Read for Intake {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.as_slice().is_empty() {
            if self.ended {
                return Ok(0);
            }
            match self.pieces.recv() {
                Ok(Piece::Bytes(bytes)) => self.current = bytes.into_iter(),
                Ok(Piece::End) => self.ended = true,
                // A cut stream must never look like a short one.
                Err(_) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "cut")),
            }
        }
        let rest = self.current.as_slice();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.current.nth(count.saturating_sub(1));
        Ok(count)
    }
}

/// A source with one file in it, read from a stream.
pub(crate) struct StreamSource {
    entry: Mutex<Option<ReadSourceEntry<Intake>>>,
}

impl StreamSource {
    pub(crate) fn new(path: PathBuf, node: Node, intake: Intake) -> Self {
        let entry = ReadSourceEntry { path, node, open: Some(intake) };
        Self { entry: Mutex::new(Some(entry)) }
    }
}

impl ReadSource for StreamSource {
    type Open = Intake;
    type Iter = std::option::IntoIter<RusticResult<ReadSourceEntry<Intake>>>;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Self::Iter {
        let entry = self.entry.lock().unwrap_or_else(PoisonError::into_inner).take();
        entry.map(Ok).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(bytes: &[u8]) -> (Content, Vec<u8>) {
        let mut heard = |_: u64| {};
        let (mut feed, mut intake) = pair(&mut heard);
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut read = Vec::new();
                intake.read_to_end(&mut read).map(|_| read)
            });
            feed.write_all(bytes).unwrap();
            (feed.finish(), reader.join().unwrap().unwrap())
        })
    }

    #[test]
    fn what_goes_in_comes_out_counted_and_hashed() {
        for size in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, 3 * PIECE_BYTES + 7] {
            let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
            let (content, read) = through(&bytes);
            assert!(read == bytes, "{size}");
            assert_eq!(content, Content { bytes: size as u64, hash: blake3::hash(&bytes) });
        }
    }

    #[test]
    fn a_producer_that_dies_is_an_error_and_no_end() {
        let mut heard = |_: u64| {};
        let (mut feed, mut intake) = pair(&mut heard);
        feed.write_all(b"half a dump").unwrap();
        feed.flush().unwrap();
        drop(feed);
        let error = intake.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_repository_that_stops_reading_frees_the_producer() {
        let mut heard = |_: u64| {};
        let (mut feed, intake) = pair(&mut heard);
        drop(intake);
        let error = feed.write_all(&vec![0; 2 * PIECE_BYTES]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(feed.is_cut());
    }
}
