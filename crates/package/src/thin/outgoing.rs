//! What goes out: pieces, written by a thread of their own, and how hard to compress them.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::Level;
use super::wire::{self, PIECE_BYTES_MAX};

/// Pieces that wait for the connection: 512 KiB of them.
const WAITING_MAX: usize = 8;

/// Bytes on their way: one end takes them, the other is for [`write_all`].
pub(super) fn channel() -> (Out, Receiver<Vec<u8>>) {
    let (pieces, waiting) = sync_channel(WAITING_MAX);
    (Out { pieces, bytes: 0, waited: Duration::ZERO }, waiting)
}

/// Writes what comes, until the other end is gone.
pub(super) fn write_all(
    waiting: &Receiver<Vec<u8>>,
    out: &mut (dyn Write + Send),
) -> io::Result<()> {
    while let Ok(piece) = waiting.recv() {
        out.write_all(&piece)?;
    }
    out.flush()
}

/// Gives bytes to the thread that writes, and knows how long that kept it.
pub(super) struct Out {
    pieces: SyncSender<Vec<u8>>,
    pub bytes: u64,
    pub waited: Duration,
}

impl Out {
    pub(super) fn put(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        let before = Instant::now();
        let sent = self.pieces.send(bytes);
        self.waited += before.elapsed();
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Makes pieces of what an encoder writes.
pub(super) struct PieceWriter<'a> {
    out: &'a mut Out,
    buffer: Vec<u8>,
}

impl<'a> PieceWriter<'a> {
    pub(super) fn new(out: &'a mut Out) -> Self {
        Self { out, buffer: Vec::new() }
    }

    /// Says that no more pieces come.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.flush()?;
        self.out.put(vec![0])
    }
}

impl Write for PieceWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES_MAX - self.buffer.len();
        let count = bytes.len().min(room);
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PIECE_BYTES_MAX {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut piece = Vec::with_capacity(self.buffer.len() + 3);
        wire::put_number(&mut piece, self.buffer.len() as u64);
        piece.append(&mut self.buffer);
        self.out.put(piece)
    }
}

/// The level, as the connection calls for it.
pub(super) struct LevelNow {
    fixed: Option<i32>,
    now: i32,
    /// The highest that was used.
    pub highest: i32,
    since: Instant,
    waited: Duration,
}

impl LevelNow {
    const LOWEST: i32 = 3;
    pub(super) const HIGHEST: i32 = 17;
    /// For a large file: above it, compressing would take longer than sending what it saves.
    pub(super) const LARGE: i32 = 6;
    /// How long is measured before the level changes.
    const SPAN: Duration = Duration::from_millis(20);

    pub(super) fn new(level: Level) -> Self {
        let fixed = match level {
            Level::Fixed(level) => Some(level),
            Level::Measured => None,
        };
        let now = fixed.unwrap_or(Self::LOWEST);
        Self { fixed, now, highest: now, since: Instant::now(), waited: Duration::ZERO }
    }

    /// Where most of the time goes into waiting, harder; where hardly any, easier. At most `max`.
    pub(super) fn measure(&mut self, waited: Duration, max: i32) -> i32 {
        let span = self.since.elapsed();
        if self.fixed.is_none() && span >= Self::SPAN {
            let share = (waited - self.waited).as_secs_f64() / span.as_secs_f64();
            let step = match share {
                share if share > 0.5 => 2,
                share if share < 0.1 => -2,
                _ => 0,
            };
            self.now = (self.now + step).clamp(Self::LOWEST, Self::HIGHEST);
            (self.since, self.waited) = (Instant::now(), waited);
        }
        let level = self.fixed.unwrap_or(self.now.min(max));
        self.highest = self.highest.max(level);
        level
    }
}
