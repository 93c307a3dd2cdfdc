//! The bytes of the stream: a header, then units, then the end.
//!
//! ```text
//! header  "entrthin", version (u16), tree (32 bytes), base tree (32 bytes)
//! copy    1, object, base file
//! data    2, count of objects, each object, offset, count of base files, each base file, pieces
//! patch   4, object, offset, base file, pieces: the instructions of `patch.rs`, without a base
//! pieces  length (1 to PIECE_BYTES_MAX), so many bytes; again and again; 0. Together one zstd frame
//! end     3
//! ```
//!
//! Numbers are LEB128: seven bits a byte, the lowest first.

use std::io::{self, Read};
use std::path::Path;

use entracte_model::Hash;

use super::{BadThin, FORMAT};
use crate::PackageError;

pub(super) const MAGIC: &[u8; 8] = b"entrthin";
pub(super) const COPY: u8 = 1;
pub(super) const DATA: u8 = 2;
pub(super) const END: u8 = 3;
pub(super) const PATCH: u8 = 4;
/// The longest piece in bytes.
pub(super) const PIECE_BYTES_MAX: usize = 64 * 1024;
/// The most objects, and the most base files, of one unit.
pub(super) const GROUP_MAX: u64 = 4_096;

/// What a message calls the other end of the stream.
pub(super) const CONNECTION: &str = "the connection";

pub(super) fn header(tree: &Hash, base: &Hash) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&tree.0);
    bytes.extend_from_slice(&base.0);
    bytes
}

pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7F).expect("seven bits fit a byte");
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Reads a number byte by byte; `None` where it is over its limit.
pub(super) fn number_of<E>(mut byte: impl FnMut() -> Result<u8, E>) -> Result<Option<u64>, E> {
    let mut number = 0_u64;
    for shift in (0..63).step_by(7) {
        let byte = byte()?;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// What an error of reading the stream means.
pub(super) fn cut(error: io::Error) -> PackageError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => BadThin::Truncated.into(),
        _ => PackageError::Io {
            doing: "read from",
            path: Path::new(CONNECTION).to_owned(),
            source: error,
        },
    }
}

/// Reads the parts of a stream, and not a byte beyond its end.
pub(super) struct Reader<'a> {
    inner: &'a mut dyn Read,
    /// The bytes that were read so far.
    pub count: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(inner: &'a mut dyn Read) -> Self {
        Self { inner, count: 0 }
    }

    pub(super) fn exact<const N: usize>(&mut self) -> Result<[u8; N], PackageError> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(cut)?;
        self.count += N as u64;
        Ok(bytes)
    }

    /// Refuses a stream that is none, of another version, or for another release.
    pub(super) fn header(&mut self, tree: &Hash, base: &Hash) -> Result<(), PackageError> {
        if self.exact::<8>()? != *MAGIC {
            return Err(BadThin::NotThin.into());
        }
        let format = u16::from_le_bytes(self.exact()?);
        if format != FORMAT {
            return Err(BadThin::Format(format).into());
        }
        let found = Hash(self.exact()?);
        if found != *tree {
            return Err(BadThin::OtherTree { found, expected: *tree }.into());
        }
        let found = Hash(self.exact()?);
        if found != *base {
            return Err(BadThin::OtherBase { found, expected: *base }.into());
        }
        Ok(())
    }

    pub(super) fn byte(&mut self) -> Result<u8, PackageError> {
        self.exact::<1>().map(|[byte]| byte)
    }

    pub(super) fn number(&mut self) -> Result<u64, PackageError> {
        number_of(|| self.byte())?.ok_or_else(|| BadThin::Number.into())
    }

    pub(super) fn index(&mut self) -> Result<u32, PackageError> {
        u32::try_from(self.number()?).map_err(|_| BadThin::Number.into())
    }

    /// The pieces of one unit, as one reader.
    pub(super) fn pieces(&mut self) -> Pieces<'_, 'a> {
        Pieces { from: self, left: 0, ended: false, fault: None }
    }
}

/// The pieces of one unit. An error of the stream itself is kept apart: whoever decodes what is
/// in the pieces must not take it for one of the data.
pub(super) struct Pieces<'r, 'a> {
    from: &'r mut Reader<'a>,
    left: usize,
    ended: bool,
    pub fault: Option<PackageError>,
}

impl Pieces<'_, '_> {
    /// Reads what is left, and says whether there was anything.
    pub(super) fn drain(&mut self) -> Result<bool, PackageError> {
        let mut buffer = [0; 4_096];
        let mut any = false;
        loop {
            match self.next(&mut buffer)? {
                0 => return Ok(any),
                _ => any = true,
            }
        }
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, PackageError> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            let found = self.from.number()?;
            let max = PIECE_BYTES_MAX as u64;
            self.left = usize::try_from(found).unwrap_or(usize::MAX);
            if found > max {
                return Err(BadThin::Piece { found, max }.into());
            }
            if self.left == 0 {
                self.ended = true;
                return Ok(0);
            }
        }
        let want = buffer.len().min(self.left);
        let count = loop {
            match self.from.inner.read(&mut buffer[..want]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(cut)?,
            }
        };
        if count == 0 {
            return Err(BadThin::Truncated.into());
        }
        self.left -= count;
        self.from.count += count as u64;
        Ok(count)
    }
}

impl Read for Pieces<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(|fault| {
            self.fault = Some(fault);
            io::Error::other("the stream failed")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back_and_an_endless_one_is_refused() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX >> 1] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            let mut from = bytes.as_slice();
            assert_eq!(Reader::new(&mut from).number().unwrap(), number);
            assert!(from.is_empty());
        }
        let mut endless = io::repeat(0xFF);
        let refused = Reader::new(&mut endless).number().unwrap_err();
        assert!(matches!(refused, PackageError::Thin(BadThin::Number)));
    }

    #[test]
    fn pieces_end_where_they_say_and_nothing_behind_them_is_read() {
        let bytes = [3, b'a', b'b', b'c', 1, b'd', 0, 9, 9];
        let mut from = bytes.as_slice();
        let mut reader = Reader::new(&mut from);
        let mut text = String::new();
        reader.pieces().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), reader.count), ("abcd", 7));
        assert_eq!(from, [9, 9]);
    }
}
