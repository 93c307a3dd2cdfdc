//! zstd with an old content as reference: sizes, windows and memory are stated on both sides.

use std::io::{self, BufReader, Read, Write};

use super::{BadThin, WINDOW_LOG_MAX};
use crate::archive::frame;
use entracte_model::Hash;

/// The window, as the exponent of two, up to which data without a base may go: what plain `zstd -d`
/// gives too.
const PLAIN_LOG_MAX: u32 = 27;
/// Above this size a match far back is found by the long-distance matcher only.
const LONG_BYTES: u64 = 256 * 1024;

/// The window that holds base and content together, as the exponent of two.
fn window_log(bytes: u64) -> u32 {
    (u64::BITS - bytes.saturating_sub(1).leading_zeros()).clamp(10, WINDOW_LOG_MAX)
}

/// An encoder without a base, of content whose length is not known yet.
pub(super) fn plain<W: Write>(
    out: W,
    level: i32,
) -> io::Result<zstd::stream::write::Encoder<'static, W>> {
    let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
    encoder.include_checksum(false)?;
    Ok(encoder)
}

/// An encoder of `size` bytes that may refer to `base`, into `out`.
pub(super) fn encoder<'a, W: Write>(
    out: W,
    level: i32,
    base: &'a [u8],
    size: u64,
) -> io::Result<zstd::stream::write::Encoder<'a, W>> {
    let mut encoder = if base.is_empty() {
        zstd::stream::write::Encoder::new(out, level)?
    } else {
        let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(out, level, base)?;
        let all = base.len() as u64 + size;
        encoder.window_log(window_log(all))?;
        encoder.long_distance_matching(all > LONG_BYTES)?;
        encoder
    };
    // The size in the header bounds the memory of the other side; the hash is checked there, so
    // that a checksum would say nothing.
    encoder.set_pledged_src_size(Some(size))?;
    encoder.include_contentsize(true)?;
    encoder.include_checksum(false)?;
    Ok(encoder)
}

/// `content` as one frame.
pub(super) fn compress(level: i32, base: &[u8], content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = encoder(Vec::new(), level, base, content.len() as u64)?;
    encoder.write_all(content)?;
    encoder.finish()
}

/// The header of a frame and the rest behind it, put together again.
type Frame<R> = io::Chain<io::Cursor<Vec<u8>>, R>;
/// A decoder of one frame.
pub(super) type Decoder<'a, R> = zstd::stream::read::Decoder<'a, BufReader<Frame<R>>>;

/// A decoder of the frame in `from`, which must hold exactly `size` bytes (where it has to be known)
/// and need no more memory than `base` and they do. `hash` names it in errors.
pub(super) fn decoder<'a, R: Read>(
    mut from: R,
    base: &'a [u8],
    size: Option<u64>,
    hash: Hash,
) -> Result<Decoder<'a, R>, BadThin> {
    let damaged = |error| BadThin::Damaged(hash, error);
    let mut start = Vec::with_capacity(frame::HEADER_BYTES_MAX);
    from.by_ref().take(frame::HEADER_BYTES_MAX as u64).read_to_end(&mut start).map_err(damaged)?;
    let header = frame::read(&start).map_err(|bad| damaged(io::Error::other(bad)))?;
    if header.dictionary != 0 {
        return Err(BadThin::Dictionary(header.dictionary));
    }
    if let Some(expected) = size.filter(|size| header.content != Some(*size)) {
        return Err(BadThin::Size { hash, found: header.content.unwrap_or(0), expected });
    }
    let log = match base.len() as u64 {
        0 => PLAIN_LOG_MAX,
        base => window_log(base + size.unwrap_or(0)).max(PLAIN_LOG_MAX),
    };
    let (found, max) = (header.held_bytes(), 1 << log);
    if found > max {
        return Err(BadThin::Window { found, max });
    }
    let whole = BufReader::new(io::Cursor::new(start).chain(from));
    let mut decoder = if base.is_empty() {
        zstd::stream::read::Decoder::with_buffer(whole)
    } else {
        zstd::stream::read::Decoder::with_ref_prefix(whole, base)
    }
    .map_err(damaged)?;
    decoder.window_log_max(log).map_err(damaged)?;
    Ok(decoder.single_frame())
}
