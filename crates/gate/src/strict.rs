//! What a client's bytes must look like, looked at before anything parses them.
//!
//! A parser that forgives can be made to see another border between two requests than the server
//! behind it. So what the standards let a server forgive is refused here: a bare line feed, a
//! folded line, a space before the colon, a length that is repeated, signed or stands beside
//! chunks, an encoding that is not exactly `chunked`, and chunks with odd sizes. This follows the
//! borders by itself; the parser behind it never sees a byte after the first wrong one.

/// The longest chunk size with its extensions, and the longest trailer section, in bytes.
const CHUNK_LINE_BYTES_MAX: usize = 1_024;
const TRAILERS_BYTES_MAX: usize = 8 * 1_024;

/// Where in the stream the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before or in the first line of a request.
    First,
    /// In its fields.
    Fields,
    /// In a body of known length.
    Fixed(u64),
    /// Before or in a line with a chunk's size.
    Size,
    /// In a chunk.
    Chunk(u64),
    /// In the line end behind a chunk.
    ChunkEnd,
    /// In the fields behind the last chunk.
    Trailers,
    /// Bytes that are no HTTP: a tunnel, or a head too long, which the parser refuses.
    Raw,
}

/// The borders of one client's requests.
#[derive(Debug)]
pub(crate) struct Strict {
    at: At,
    /// The present line, where it came in pieces.
    line: Vec<u8>,
    line_bytes_max: usize,
    trailer_bytes: usize,
    is_old: bool,
    length: Option<u64>,
    chunked: bool,
}

/// The bytes from here on are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WrongFrom(pub(crate) usize);

impl Strict {
    pub(crate) fn new(line_bytes_max: usize) -> Self {
        Self {
            at: At::First,
            line: Vec::new(),
            line_bytes_max,
            trailer_bytes: 0,
            is_old: false,
            length: None,
            chunked: false,
        }
    }

    /// From now on the bytes belong to a tunnel.
    pub(crate) fn raw(&mut self) {
        self.at = At::Raw;
    }

    /// Looks at the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), WrongFrom> {
        let mut from = 0;
        while from < bytes.len() {
            let rest = &bytes[from..];
            let taken = match self.at {
                At::Raw => rest.len(),
                At::Fixed(left) => {
                    let (step, left) = step(rest, left);
                    self.at = if left == 0 { At::First } else { At::Fixed(left) };
                    step
                }
                At::Chunk(left) => {
                    let (step, left) = step(rest, left);
                    self.at = if left == 0 { At::ChunkEnd } else { At::Chunk(left) };
                    step
                }
                At::First | At::Fields | At::Size | At::ChunkEnd | At::Trailers => {
                    self.lines(rest).ok_or(WrongFrom(from))?
                }
            };
            from += taken;
        }
        Ok(())
    }

    /// One line, or the beginning of one. How many bytes that was; nothing where it is refused.
    fn lines(&mut self, rest: &[u8]) -> Option<usize> {
        let end = memchr::memchr(b'\n', rest);
        let length = self.line.len() + end.unwrap_or(rest.len());
        if length > self.line_max() {
            // A head that is too long has an answer of its own; a chunk line has none.
            let in_head = matches!(self.at, At::First | At::Fields);
            self.at = At::Raw;
            self.line = Vec::new();
            return in_head.then_some(rest.len());
        }
        let Some(end) = end else {
            self.line.extend_from_slice(rest);
            return Some(rest.len());
        };
        if self.line.is_empty() {
            self.line_done(&rest[..end])?;
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(&rest[..end]);
            self.line_done(&line)?;
        }
        Some(end + 1)
    }

    fn line_max(&self) -> usize {
        match self.at {
            At::First | At::Fields => self.line_bytes_max,
            _ => CHUNK_LINE_BYTES_MAX,
        }
    }

    fn line_done(&mut self, line: &[u8]) -> Option<()> {
        let line = line.strip_suffix(b"\r")?;
        self.at = match self.at {
            // Some clients end a body with one line too many.
            At::First if line.is_empty() => At::First,
            At::First => {
                self.first(line)?;
                At::Fields
            }
            At::Fields if line.is_empty() => self.body()?,
            At::Fields => {
                self.field(line)?;
                At::Fields
            }
            At::Size => match chunk_size(line)? {
                0 => At::Trailers,
                size => At::Chunk(size),
            },
            At::ChunkEnd if line.is_empty() => At::Size,
            At::Trailers if line.is_empty() => At::First,
            At::Trailers => {
                self.trailer_bytes += line.len();
                let (name, _) = split_field(line)?;
                let framing = [&b"content-length"[..], b"transfer-encoding", b"host"];
                if self.trailer_bytes > TRAILERS_BYTES_MAX || framing.iter().any(|f| is(name, f)) {
                    return None;
                }
                At::Trailers
            }
            At::ChunkEnd | At::Fixed(_) | At::Chunk(_) | At::Raw => return None,
        };
        Some(())
    }

    /// `METHOD target HTTP/1.x`, with one space each.
    fn first(&mut self, line: &[u8]) -> Option<()> {
        let mut words = line.split(|byte| *byte == b' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        let shaped = words.next().is_none()
            && !method.is_empty()
            && all(method, is_token)
            && !target.is_empty()
            && all(target, |byte| (byte > b' ') & (byte != 0x7f));
        self.is_old = version == b"HTTP/1.0";
        self.length = None;
        self.chunked = false;
        self.trailer_bytes = 0;
        (shaped && (self.is_old || version == b"HTTP/1.1")).then_some(())
    }

    fn field(&mut self, line: &[u8]) -> Option<()> {
        let (name, value) = split_field(line)?;
        if is(name, b"content-length") {
            // Digits only: a sign, a list or nothing is read differently by different servers.
            let text = std::str::from_utf8(value).ok()?;
            let plain = (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            if name[7] == b'_' || self.length.is_some() || !plain {
                return None;
            }
            self.length = Some(text.parse().ok()?);
        } else if is(name, b"transfer-encoding") {
            let plain = value.eq_ignore_ascii_case(b"chunked");
            if name[8] == b'_' || self.chunked || !plain || self.is_old {
                return None;
            }
            self.chunked = true;
        }
        Some(())
    }

    fn body(&mut self) -> Option<At> {
        match (self.chunked, self.length) {
            (true, Some(_)) => None,
            (true, None) => Some(At::Size),
            (false, None | Some(0)) => Some(At::First),
            (false, Some(length)) => Some(At::Fixed(length)),
        }
    }
}

fn step(rest: &[u8], left: u64) -> (usize, u64) {
    let step = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
    (step, left - u64::try_from(step).unwrap_or(left))
}

/// Without an early end: nearly all bytes are good, and so the compiler looks at many at a time.
fn all(bytes: &[u8], good: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |all, byte| all & good(*byte))
}

/// RFC 9110, 5.6.2.
const TOKENS: [bool; 256] = {
    let mut tokens = [false; 256];
    let others = b"!#$%&'*+-.^_`|~";
    let mut n = 0;
    while n < others.len() {
        tokens[others[n] as usize] = true;
        n += 1;
    }
    let mut byte = 0u8;
    while byte < 0x80 {
        tokens[byte as usize] |= byte.is_ascii_alphanumeric();
        byte += 1;
    }
    tokens
};

fn is_token(byte: u8) -> bool {
    TOKENS[usize::from(byte)]
}

/// The same name, where `_` counts as `-`: CGI makes no difference between them.
fn is(name: &[u8], wanted: &[u8]) -> bool {
    name.len() == wanted.len()
        && name.iter().zip(wanted).all(|(found, wanted)| {
            found.eq_ignore_ascii_case(wanted) || (*found == b'_' && *wanted == b'-')
        })
}

/// A field's name and value. Nothing for a folded line, a space before the colon, a control byte.
fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let named = !name.is_empty() && all(name, is_token);
    let plain = all(value, |byte| ((byte >= b' ') & (byte != 0x7f)) | (byte == b'\t'));
    (named && plain).then(|| (name, value.trim_ascii()))
}

/// `1a` or `1a;extension`: hexadecimal digits only, and few enough to fit.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().position(|byte| *byte == b';').unwrap_or(line.len());
    let (digits, extension) = line.split_at(digits);
    let plain = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let printable = extension.iter().all(|byte| *byte >= b' ' && *byte != 0x7f);
    let text = std::str::from_utf8(digits).ok().filter(|_| plain && printable)?;
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Result<(), WrongFrom> {
        Strict::new(1_000).feed(text.as_bytes())
    }

    /// In pieces of every size, the same bytes give the same verdict.
    fn refused(text: &str) -> bool {
        let verdict = whole(text).is_err();
        for size in [1, 2, 3, 7, 16] {
            let mut strict = Strict::new(1_000);
            let pieces = text.as_bytes().chunks(size).map(|piece| strict.feed(piece));
            let found = pieces.take_while(Result::is_ok).count() < text.len().div_ceil(size);
            assert_eq!(found, verdict, "{text:?} in pieces of {size}");
        }
        verdict
    }

    #[test]
    fn ordinary_requests_one_after_another_are_fine() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b?c=%20 HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\na\nb\nGET / HTTP/1.1\r\nHost:a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\n\n\n\n\r\n0\r\nX-T: 1\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nEmpty:\r\nX: a\tb\u{e9}\r\n\r\n",
        ] {
            assert!(!refused(text), "{text:?}");
        }
    }

    #[test]
    fn whatever_can_be_read_in_two_ways_is_refused() {
        for text in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\r\nHost: a\r\rX: b\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET / x HTTP/1.1\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET /\u{1} HTTP/1.1\r\n\r\n",
            "G(T / HTTP/1.1\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\r\n\tfolded\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "GET / HTTP/1.1\r\n: a\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: 0x1\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length:\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\na",
            "POST / HTTP/1.1\r\nContent_Length: 1\r\n\r\na",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ] {
            assert!(refused(text), "{text:?}");
        }
        for body in [
            "-1\r\na\r\n0\r\n\r\n",
            "+1\r\na\r\n0\r\n\r\n",
            "0x1\r\na\r\n0\r\n\r\n",
            " 1\r\na\r\n0\r\n\r\n",
            "1 \r\na\r\n0\r\n\r\n",
            "1\na\r\n0\r\n\r\n",
            "1\r\nab\r\n0\r\n\r\n",
            "1\r\na\n0\r\n\r\n",
            "1\r\na0\r\n\r\n",
            "\r\n\r\n",
            "g\r\n",
            "ffffffffffffffffff\r\na",
            "1;\0\r\na\r\n0\r\n\r\n",
            "0\r\nContent-Length: 3\r\n\r\n",
            "0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "0\r\n folded\r\n\r\n",
        ] {
            let text = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
            assert!(refused(&text), "{text:?}");
        }
        let long =
            format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;{}", "x".repeat(2_000));
        assert!(refused(&long));
    }

    #[test]
    fn a_name_is_made_of_exactly_the_bytes_that_the_standard_lists() {
        for byte in 0..=u8::MAX {
            let listed = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_token(byte), listed, "{byte:#x}");
        }
    }

    #[test]
    fn the_second_request_is_looked_at_as_the_first_and_the_border_is_exact() {
        let first = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n\n\n";
        let second = "GET / HTTP/1.1\r\n";
        assert_eq!(
            whole(&format!("{first}{second}X : 1\r\n\r\n")),
            Err(WrongFrom(first.len() + second.len()))
        );
    }

    #[test]
    fn a_tunnel_carries_anything_and_a_head_too_long_is_left_to_the_parser() {
        let mut strict = Strict::new(1_000);
        strict.feed(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n").unwrap();
        strict.raw();
        strict.feed(b"\x81\x85\n\n\n\n").unwrap();
        assert!(whole(&format!("GET /{}", "x".repeat(2_000))).is_ok());
    }
}
