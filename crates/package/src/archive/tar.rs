//! The members of a tar stream, one by one: plain headers and GNU's long names, nothing else.

use std::io::{self, Read};
use std::path::Path;

use entracte_model::path::PATH_BYTES_MAX;
use tar::{EntryType, Header};

use super::BadArchive;
use super::reading::fault;
use crate::PackageError;
use crate::links::TARGET_BYTES_MAX;

const BLOCK_BYTES: u64 = 512;
/// Zeros behind the end: `tar` fills a record of 20 blocks, others up to a mebibyte.
const PADDING_BYTES_MAX: u64 = 1024 * 1024;
/// Room in a long name for the package's folders around a path.
const FOLDERS_BYTES_MAX: usize = 300;

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Dir,
    Link(String),
}

/// One member of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Its path as written, without a slash at its end.
    pub path: String,
    pub kind: Kind,
    /// The bytes that follow.
    pub size: u64,
}

/// A tar stream.
pub(super) struct Members<'a, R> {
    inner: R,
    /// What the current member has left, and its padding.
    left: u64,
    padding: u64,
    /// Where the stream is.
    at: u64,
    path: &'a Path,
}

impl<'a, R: Read> Members<'a, R> {
    /// `path` is for messages.
    pub(super) fn new(inner: R, path: &'a Path) -> Self {
        Self { inner, left: 0, padding: 0, at: 0, path }
    }

    /// The next member; `None` at the end, behind which there are only zeros.
    pub(super) fn next(&mut self) -> Result<Option<Member>, PackageError> {
        let mut long_path = None;
        let mut long_target = None;
        loop {
            let Some(header) = self.header()? else {
                return match (long_path, long_target) {
                    (None, None) => Ok(None),
                    _ => Err(BadArchive::Header(self.at).into()),
                };
            };
            let size = header.entry_size().map_err(|_| BadArchive::Header(self.at))?;
            self.left = size;
            self.padding = (BLOCK_BYTES - size % BLOCK_BYTES) % BLOCK_BYTES;
            match header.entry_type() {
                EntryType::GNULongName if long_path.is_none() => {
                    let max = PATH_BYTES_MAX + FOLDERS_BYTES_MAX;
                    long_path = Some(self.long("a long name", max)?);
                }
                EntryType::GNULongLink if long_target.is_none() => {
                    long_target = Some(self.long("a long link", TARGET_BYTES_MAX)?);
                }
                _ => return member(&header, size, long_path, long_target).map(Some),
            }
        }
    }

    /// Reads on to the end of the stream: only zeros may be there.
    pub(super) fn finish(mut self) -> Result<R, PackageError> {
        let mut buffer = [0; 4_096];
        let mut padding = 0;
        loop {
            let count = self.read_some(&mut buffer)?;
            if count == 0 {
                return Ok(self.inner);
            }
            padding += count as u64;
            if padding > PADDING_BYTES_MAX || buffer[..count].iter().any(|byte| *byte != 0) {
                return Err(BadArchive::Trailing.into());
            }
        }
    }

    /// Reads a member that must not be longer than `max` bytes.
    pub(super) fn small(&mut self, member: &Member, max: u64) -> Result<Vec<u8>, PackageError> {
        if member.size > max {
            let (name, size) = (member.path.clone(), member.size);
            return Err(BadArchive::TooLong { name, size, max }.into());
        }
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(|error| fault(error, self.path))?;
        Ok(bytes)
    }

    fn header(&mut self) -> Result<Option<Header>, PackageError> {
        self.skip()?;
        let mut header = Header::new_old();
        self.block(header.as_mut_bytes())?;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            // The end is two empty blocks; one alone is an archive that was cut.
            let mut second = [0; 512];
            self.block(&mut second)?;
            return match second.iter().all(|byte| *byte == 0) {
                true => Ok(None),
                false => Err(BadArchive::Header(self.at).into()),
            };
        }
        let bytes = header.as_bytes();
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum();
        if header.cksum().ok() != Some(sum + 8 * u32::from(b' ')) {
            return Err(BadArchive::Header(self.at).into());
        }
        Ok(Some(header))
    }

    /// A long name or target: text with one NUL at its end.
    fn long(&mut self, name: &'static str, max: usize) -> Result<Vec<u8>, PackageError> {
        let member = Member { path: name.to_owned(), kind: Kind::File, size: self.left };
        let mut bytes = self.small(&member, max as u64 + 1)?;
        if bytes.pop() != Some(0) {
            return Err(BadArchive::Header(self.at).into());
        }
        Ok(bytes)
    }

    fn skip(&mut self) -> Result<(), PackageError> {
        let left = self.left + self.padding;
        self.left = 0;
        self.padding = 0;
        let skipped = io::copy(&mut (&mut self.inner).take(left), &mut io::sink())
            .map_err(|error| fault(error, self.path))?;
        self.at += skipped;
        if skipped < left {
            return Err(BadArchive::Truncated.into());
        }
        Ok(())
    }

    fn block(&mut self, block: &mut [u8; 512]) -> Result<(), PackageError> {
        self.inner.read_exact(block).map_err(|error| fault(error, self.path))?;
        self.at += BLOCK_BYTES;
        Ok(())
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, PackageError> {
        loop {
            match self.inner.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(|error| fault(error, self.path)),
            }
        }
    }
}

/// The content of the current member.
impl<R: Read> Read for Members<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        self.at += count as u64;
        Ok(count)
    }
}

fn member(
    header: &Header,
    size: u64,
    long_path: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
) -> Result<Member, PackageError> {
    let path = text(long_path.unwrap_or_else(|| header.path_bytes().into_owned()))?;
    let kind = match header.entry_type() {
        EntryType::Regular => Kind::File,
        EntryType::Directory => Kind::Dir,
        EntryType::Symlink => {
            let short = || header.link_name_bytes().map(std::borrow::Cow::into_owned);
            Kind::Link(text(long_target.or_else(short).unwrap_or_default())?)
        }
        EntryType::Link => return Err(BadArchive::HardLink(path).into()),
        EntryType::Char | EntryType::Block => return Err(BadArchive::Device(path).into()),
        EntryType::Fifo => return Err(BadArchive::Fifo(path).into()),
        other => {
            return Err(BadArchive::Kind { path, kind: char::from(other.as_byte()) }.into());
        }
    };
    let mode = header.mode().map_err(|_| BadArchive::OtherKind(path.clone()))?;
    if mode & 0o7000 != 0 {
        return Err(BadArchive::SetUid { path, mode }.into());
    }
    if kind != Kind::File && size != 0 {
        return Err(BadArchive::Size { path, found: size, expected: 0 }.into());
    }
    let path = path.strip_suffix('/').unwrap_or(&path).to_owned();
    Ok(Member { path, kind, size })
}

fn text(bytes: Vec<u8>) -> Result<String, BadArchive> {
    String::from_utf8(bytes).map_err(|error| {
        BadArchive::NotUtf8(String::from_utf8_lossy(error.as_bytes()).escape_debug().to_string())
    })
}
