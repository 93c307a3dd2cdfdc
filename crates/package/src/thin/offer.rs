//! A record and its signature, as they travel before anything else.

use std::io::{Read, Write};

use super::BadThin;
use crate::archive::{RECORD_BYTES_MAX, Verified, verify_record};
use crate::{PackageError, keys};

const MAGIC: &[u8; 8] = b"entroffr";
/// The most that an offer holds, in bytes: length of the signature, signature, record.
const BYTES_MAX: u64 = RECORD_BYTES_MAX + keys::TEXT_BYTES_MAX as u64 + 2;
/// Compression: records are small, and the connection may be slow.
const LEVEL: i32 = 12;
/// A record is read as a whole, its window need not be larger than what `zstd -d` gives.
const WINDOW_LOG_MAX: u32 = 27;

/// A record that is offered to a machine. Nothing of it is believed before [`Offer::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The text of the record: the very bytes that were signed.
    pub text: Vec<u8>,
    /// The signature over them.
    pub signature: String,
}

impl Offer {
    /// What a verified package offers.
    pub fn of(verified: &Verified) -> Self {
        Self { text: verified.text.clone(), signature: verified.signature.clone() }
    }

    /// The bytes that travel, compressed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let signature = self.signature.as_bytes();
        let length = u16::try_from(signature.len()).unwrap_or(u16::MAX);
        let mut plain = length.to_le_bytes().to_vec();
        plain.extend_from_slice(&signature[..usize::from(length)]);
        plain.extend_from_slice(&self.text);
        let mut encoder = zstd::Encoder::new(MAGIC.to_vec(), LEVEL)
            .expect("the level is one that zstd knows, and memory is all that it asks for");
        encoder
            .write_all(&plain)
            .and_then(|()| encoder.finish())
            .expect("writing into memory cannot fail")
    }

    /// Reads what [`Offer::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadThin> {
        let frame = bytes.strip_prefix(MAGIC).ok_or(BadThin::Offer)?;
        let mut decoder = zstd::Decoder::new(frame).map_err(|_| BadThin::Offer)?;
        decoder.window_log_max(WINDOW_LOG_MAX).map_err(|_| BadThin::Offer)?;
        let mut plain = Vec::new();
        decoder.take(BYTES_MAX + 1).read_to_end(&mut plain).map_err(|_| BadThin::Offer)?;
        if plain.len() as u64 > BYTES_MAX {
            return Err(BadThin::OfferTooLong(BYTES_MAX));
        }
        let (length, rest) = plain.split_first_chunk::<2>().ok_or(BadThin::Offer)?;
        let length = usize::from(u16::from_le_bytes(*length));
        if length > keys::TEXT_BYTES_MAX {
            return Err(BadThin::Offer);
        }
        let (signature, text) = rest.split_at_checked(length).ok_or(BadThin::Offer)?;
        let signature = String::from_utf8(signature.to_vec()).map_err(|_| BadThin::Offer)?;
        Ok(Self { text: text.to_vec(), signature })
    }

    /// Verifies signature and form against the `trusted` public keys.
    pub fn verify(&self, trusted: &[String]) -> Result<Verified, PackageError> {
        verify_record(&self.text, &self.signature, trusted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_comes_back_and_a_damaged_one_never_panics() {
        let offer = Offer { text: b"{\"format\": 1}\n".repeat(50), signature: "RW...".into() };
        let bytes = offer.to_bytes();
        assert_eq!(Offer::from_bytes(&bytes).unwrap(), offer);
        for at in 0..bytes.len() {
            assert!(Offer::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            // Without a checksum a flipped bit may give another text; its signature will not fit.
            let _ = Offer::from_bytes(&bad);
        }
    }

    #[test]
    fn an_offer_that_unpacks_without_end_is_cut_off() {
        let mut bomb = zstd::Encoder::new(MAGIC.to_vec(), 1).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..=(BYTES_MAX >> 20) {
            bomb.write_all(&zeros).unwrap();
        }
        let refused = Offer::from_bytes(&bomb.finish().unwrap());
        assert!(matches!(refused, Err(BadThin::OfferTooLong(_))));
    }
}
