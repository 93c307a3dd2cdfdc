//! Frames: a kind, a length, and so many bytes. Nothing is longer than [`FRAME_BYTES_MAX`].

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most bytes that one frame carries.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// How many bytes of a file go into one frame: enough to fill a line, little enough to show progress.
pub const DATA_BYTES: usize = 128 << 10;

const MESSAGE: u8 = b'm';
const DATA: u8 = b'd';

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A message, in JSON.
    Message(Vec<u8>),
    /// A piece of what the last message announced.
    Data(Vec<u8>),
}

/// What arrived is not what this protocol says, or the connection broke.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Reading or writing failed: the connection is gone.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// It ended in the middle of a frame.
    #[error("the connection ended in the middle of a message")]
    Cut,
    /// A kind of frame that there is not.
    #[error(
        "expected a frame, found one of kind {0:#04x}: the two ends do not understand each other"
    )]
    Kind(u8),
    /// A frame longer than any may be.
    #[error("a frame announces {found} bytes; at most {FRAME_BYTES_MAX} are taken")]
    TooLong {
        /// What it announces.
        found: usize,
    },
    /// A message that is none.
    #[error("a message cannot be understood")]
    Message(#[source] serde_json::Error),
    /// Another message or more bytes than what must come now.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What had to come.
        expected: &'static str,
        /// What came.
        found: String,
    },
}

impl WireError {
    /// Whether the connection is gone, which another one may mend; not so with nonsense.
    pub fn is_lost(&self) -> bool {
        matches!(self, WireError::Io(_) | WireError::Cut)
    }
}

/// Reads the next frame; nothing where the other side ended in order, between two frames.
///
/// # Errors
/// A connection that broke, and everything that is no frame.
pub fn read(from: &mut impl Read) -> Result<Option<Frame>, WireError> {
    let mut head = [0; 5];
    match fill(from, &mut head)? {
        0 => return Ok(None),
        5 => {}
        _ => return Err(WireError::Cut),
    }
    let [kind, length @ ..] = head;
    if kind != MESSAGE && kind != DATA {
        return Err(WireError::Kind(kind));
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(WireError::TooLong { found: length });
    }
    let mut bytes = vec![0; length];
    if fill(from, &mut bytes)? != length {
        return Err(WireError::Cut);
    }
    Ok(Some(if kind == MESSAGE { Frame::Message(bytes) } else { Frame::Data(bytes) }))
}

/// As much as there is, up to the whole buffer.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes a message.
///
/// # Errors
/// A connection that broke; a message that is too long to be one.
pub fn write(into: &mut impl Write, message: &impl Serialize) -> Result<(), WireError> {
    let bytes = serde_json::to_vec(message).map_err(WireError::Message)?;
    write_frame(into, MESSAGE, &bytes)?;
    into.flush()?;
    Ok(())
}

/// Writes bytes, as many frames as they need, and does not flush.
///
/// # Errors
/// A connection that broke.
pub fn write_data(into: &mut impl Write, bytes: &[u8]) -> Result<(), WireError> {
    bytes.chunks(DATA_BYTES).try_for_each(|piece| write_frame(into, DATA, piece))
}

fn write_frame(into: &mut impl Write, kind: u8, bytes: &[u8]) -> Result<(), WireError> {
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(WireError::TooLong { found: bytes.len() });
    }
    let length = u32::try_from(bytes.len()).expect("a frame is shorter than that").to_be_bytes();
    let [a, b, c, d] = length;
    into.write_all(&[kind, a, b, c, d])?;
    into.write_all(bytes)?;
    Ok(())
}

/// The message in a frame that must be one.
///
/// # Errors
/// Bytes where a message must come, and what is no message.
pub fn message<T: DeserializeOwned>(frame: &Frame) -> Result<T, WireError> {
    match frame {
        Frame::Message(bytes) => serde_json::from_slice(bytes).map_err(WireError::Message),
        Frame::Data(bytes) => Err(WireError::Unexpected {
            expected: "a message",
            found: format!("{} bytes of data", bytes.len()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8]) -> Vec<Result<Option<Frame>, WireError>> {
        let mut from = bytes;
        let mut found = Vec::new();
        loop {
            let frame = read(&mut from);
            let is_last = !matches!(frame, Ok(Some(_)));
            found.push(frame);
            if is_last {
                return found;
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        write(&mut bytes, &serde_json::json!({ "ask": "stop" })).unwrap();
        let long = vec![7; DATA_BYTES + 1];
        write_data(&mut bytes, &long).unwrap();
        let found: Vec<Frame> = read_all(&bytes).into_iter().map_while(Result::unwrap).collect();
        assert_eq!(found[0], Frame::Message(br#"{"ask":"stop"}"#.to_vec()));
        assert_eq!(found[1], Frame::Data(vec![7; DATA_BYTES]));
        assert_eq!(found[2], Frame::Data(vec![7]));
    }

    #[test]
    fn a_cut_at_any_byte_is_a_cut_or_an_end() {
        let mut bytes = Vec::new();
        write(&mut bytes, &"hello").unwrap();
        for cut in 0..bytes.len() {
            let last = read_all(&bytes[..cut]).pop().unwrap();
            match (cut, last) {
                (0, Ok(None)) | (1.., Err(WireError::Cut)) => {}
                (cut, other) => panic!("cut at {cut}: {other:?}"),
            }
        }
    }

    #[test]
    fn lengths_and_kinds_of_an_enemy_are_refused_before_anything_is_kept() {
        let too_long = [b'd', 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(read(&mut &too_long[..]), Err(WireError::TooLong { .. })));
        assert!(matches!(read(&mut &b"SSH-2.0"[..]), Err(WireError::Kind(b'S'))));
    }
}
