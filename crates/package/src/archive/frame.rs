//! The header of a zstd frame (RFC 8878, section 3.1.1.1), read before any memory is given to it.

use super::BadArchive;

const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// The largest window, as the exponent of two: 128 MiB, what plain `zstd -d` gives too.
pub(super) const WINDOW_LOG_MAX: u32 = 27;
/// The longest header in bytes.
pub(crate) const HEADER_BYTES_MAX: usize = 18;

/// What the header of a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The window in bytes; none where the whole content is the window.
    pub window: Option<u64>,
    /// The dictionary that it needs; 0 is none.
    pub dictionary: u32,
    /// The size of the content, where it is said.
    pub content: Option<u64>,
}

impl Header {
    /// The bytes that decoding has to hold at once.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.window.or(self.content).unwrap_or(0)
    }
}

/// Refuses a frame that is none, or asks for too large a window or for a dictionary.
pub(super) fn check(bytes: &[u8]) -> Result<(), BadArchive> {
    let header = read(bytes)?;
    if header.dictionary != 0 {
        return Err(BadArchive::Dictionary(header.dictionary));
    }
    let (found, max) = (header.held_bytes(), 1 << WINDOW_LOG_MAX);
    if found > max {
        return Err(BadArchive::Window { found, max });
    }
    Ok(())
}

/// Reads the header at the beginning of `bytes`.
pub(crate) fn read(bytes: &[u8]) -> Result<Header, BadArchive> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or(BadArchive::NotZstd)?;
    let (&descriptor, rest) = rest.split_first().ok_or(BadArchive::Truncated)?;
    let single_segment = descriptor & 0b10_0000 != 0;
    let (window, rest) = match (single_segment, rest.split_first()) {
        (true, _) => (None, rest),
        (false, Some((&window, rest))) => (Some(window_bytes(window)), rest),
        (false, None) => return Err(BadArchive::Truncated),
    };
    let (dictionary, rest) = number(rest, [0, 1, 2, 4][usize::from(descriptor & 0b11)])?;
    let dictionary = u32::try_from(dictionary).unwrap_or(u32::MAX);
    let size_bytes = match (descriptor >> 6, single_segment) {
        (0, true) => 1,
        (0, false) => 0,
        (flag, _) => 1 << flag,
    };
    let (content, _) = number(rest, size_bytes)?;
    let content = if size_bytes == 2 { content + 256 } else { content };
    Ok(Header { window, dictionary, content: (size_bytes > 0).then_some(content) })
}

fn window_bytes(descriptor: u8) -> u64 {
    let base = 1_u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 0b111)
}

fn number(bytes: &[u8], length: usize) -> Result<(u64, &[u8]), BadArchive> {
    let (digits, rest) = bytes.split_at_checked(length).ok_or(BadArchive::Truncated)?;
    Ok((digits.iter().rev().fold(0, |sum, digit| sum << 8 | u64::from(*digit)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(rest: &[u8]) -> Result<(), BadArchive> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(rest);
        bytes.resize(HEADER_BYTES_MAX, 0);
        check(&bytes)
    }

    #[test]
    fn a_window_is_taken_up_to_its_limit() {
        assert!(frame(&[0, 17 << 3]).is_ok());
        let found = frame(&[0, 17 << 3 | 1]).unwrap_err();
        assert!(
            matches!(found, BadArchive::Window { found, .. } if found == (1 << 27) + (1 << 24))
        );
        assert!(matches!(frame(&[0, 0xFF]), Err(BadArchive::Window { .. })));
    }

    #[test]
    fn a_single_segment_is_as_large_as_its_content() {
        assert!(frame(&[0b1010_0000, 0, 0, 0, 8]).is_ok());
        assert!(matches!(frame(&[0b1010_0000, 1, 0, 0, 8]), Err(BadArchive::Window { .. })));
    }

    #[test]
    fn dictionaries_other_formats_and_short_headers_are_refused() {
        assert!(matches!(frame(&[0b01, 80, 7]), Err(BadArchive::Dictionary(7))));
        assert!(matches!(check(b"PK\x03\x04 a zip file"), Err(BadArchive::NotZstd)));
        assert!(matches!(check(&MAGIC), Err(BadArchive::Truncated)));
        assert!(matches!(check(&[0x28, 0xB5, 0x2F, 0xFD, 0]), Err(BadArchive::Truncated)));
    }
}
