//! One-time tokens that a browser exchanges for a tester's pass. They live in memory only: after
//! a restart of the gate, ask for a new one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entracte_model::UnixMs;
use sha2::{Digest, Sha256};

use crate::error::GateError;
use crate::tokens::random;

/// How long a token can be used, in milliseconds.
const VALID_MS: u64 = 15 * 60_000;

/// The tokens that were given and not used, by their hash.
#[derive(Debug)]
pub(crate) struct PassTokens {
    max: usize,
    unused: Mutex<HashMap<[u8; 32], Unused>>,
}

#[derive(Debug, Clone, Copy)]
struct Unused {
    until: UnixMs,
    pass_expires: UnixMs,
}

impl PassTokens {
    pub(crate) fn new(max: usize) -> Self {
        Self { max: max.max(1), unused: Mutex::new(HashMap::new()) }
    }

    /// A new token. Where too many are unused, the one that ends first makes room.
    pub(crate) fn give(&self, pass_expires: UnixMs, now: UnixMs) -> Result<String, GateError> {
        let token = URL_SAFE_NO_PAD.encode(random::<24>()?);
        let mut unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        unused.retain(|_, entry| now < entry.until);
        if unused.len() >= self.max
            && let Some(oldest) =
                unused.iter().min_by_key(|(_, entry)| entry.until).map(|(hash, _)| *hash)
        {
            unused.remove(&oldest);
        }
        unused.insert(hash(&token), Unused { until: now + VALID_MS, pass_expires });
        Ok(token)
    }

    /// Uses a token up. Gives until when the pass is valid.
    pub(crate) fn take(&self, token: &str, now: UnixMs) -> Option<UnixMs> {
        let entry =
            self.unused.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash(token))?;
        (now < entry.until && now < entry.pass_expires).then_some(entry.pass_expires)
    }
}

/// Looking a token up by its hash takes the same time whatever its first letters are.
fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_works_once_and_not_for_long() {
        let tokens = PassTokens::new(2);
        let token = tokens.give(UnixMs(9_000_000), UnixMs(0)).unwrap();
        assert_eq!(tokens.take("guess", UnixMs(1)), None);
        assert_eq!(tokens.take(&token, UnixMs(1)), Some(UnixMs(9_000_000)));
        assert_eq!(tokens.take(&token, UnixMs(2)), None);
        let late = tokens.give(UnixMs(9_000_000), UnixMs(0)).unwrap();
        assert_eq!(tokens.take(&late, UnixMs(900_000)), None);
    }

    #[test]
    fn unused_tokens_are_bounded() {
        let tokens = PassTokens::new(2);
        let all: Vec<String> =
            (0..3).map(|n| tokens.give(UnixMs(9_000), UnixMs(n)).unwrap()).collect();
        let usable = all.iter().filter(|token| tokens.take(token, UnixMs(5)).is_some()).count();
        assert_eq!(usable, 2);
    }
}
