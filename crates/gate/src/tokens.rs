//! Everything that the gate signs: tickets, testers' passes, places in the waiting room.
//!
//! A token is `1.` and the base64url of: key number (1 byte), payload, HMAC-SHA256 (32 bytes)
//! over the token's kind, the key number and the payload. Two keys can be valid at a time, so
//! that one can be replaced without turning players away.

use std::fs;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entracte_model::UnixMs;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::error::GateError;
use crate::files;

/// The longest token that is looked at, in bytes of text.
const TOKEN_BYTES_MAX: usize = 1_024;
/// A ticket is believed so long after it was given.
const TICKET_VALID_MS: u64 = 24 * 3_600_000;
/// A ticket older than this is replaced by a fresh one.
pub(crate) const TICKET_RENEWED_MS: u64 = 3_600_000;

/// A session, as the gate knows it: a keyed hash, so that a stolen file holds no cookie.
pub(crate) type SessionKey = [u8; 16];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    format: u32,
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    id: u8,
    secret: String,
}

/// The signing keys. The first one signs, all of them verify.
pub(crate) struct Keys {
    keys: Vec<(u8, Hmac<Sha256>)>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({} keys)", self.keys.len())
    }
}

/// A ticket that was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) id: SessionKey,
    pub(crate) issued: UnixMs,
}

impl Ticket {
    /// It is not too old to be believed.
    pub(crate) fn is_valid(&self, now: UnixMs) -> bool {
        now.since(self.issued) <= TICKET_VALID_MS
    }
}

/// A place in the waiting room that was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) epoch: u64,
    pub(crate) number: u64,
}

impl Keys {
    /// Reads the keys of `state_dir`, making them at the first start.
    pub(crate) fn load_or_make(state_dir: &Path) -> Result<Self, GateError> {
        let path = state_dir.join("keys.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secret = URL_SAFE_NO_PAD.encode(random::<32>()?);
                let file = KeyFile { format: 1, keys: vec![StoredKey { id: 1, secret }] };
                let text = serde_json::to_string_pretty(&file)
                    .expect("a key file has only texts and numbers");
                files::replace(&path, text.as_bytes())?;
                text
            }
            Err(error) => return Err(GateError::file("read", &path)(error)),
        };
        // The parser's own message could quote a secret, so it is not passed on.
        let bad =
            |problem: &str| GateError::Keys { path: path.clone(), problem: problem.to_owned() };
        let file: KeyFile =
            serde_json::from_str(&text).map_err(|_| bad("not the expected JSON"))?;
        if file.format != 1 || file.keys.is_empty() {
            return Err(bad("unknown format, or no key"));
        }
        let keys = file.keys.iter().map(|stored| {
            let secret = URL_SAFE_NO_PAD
                .decode(&stored.secret)
                .map_err(|_| bad("a secret is not base64url"))?;
            if secret.len() < 32 {
                return Err(bad("a secret is shorter than 32 bytes"));
            }
            let mac = Hmac::new_from_slice(&secret).map_err(|_| bad("a secret cannot be used"))?;
            Ok((stored.id, mac))
        });
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }

    /// Keys that nobody uses.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn for_fuzzing() -> Self {
        let key = Hmac::new_from_slice(&[7; 32]).expect("any length is a key");
        Self { keys: vec![(1, key)] }
    }

    fn mac(mac: &Hmac<Sha256>, kind: &str, id: u8, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = mac.clone();
        mac.update(kind.as_bytes());
        mac.update(&[0, id]);
        mac.update(payload);
        mac
    }

    fn seal(&self, kind: &str, payload: &[u8]) -> String {
        let (id, key) = &self.keys[0];
        let mut bytes = Vec::with_capacity(payload.len() + 33);
        bytes.push(*id);
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(&Self::mac(key, kind, *id, payload).finalize().into_bytes());
        format!("1.{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    fn open(&self, kind: &str, token: &str) -> Option<Vec<u8>> {
        let text = token.strip_prefix("1.").filter(|t| t.len() <= TOKEN_BYTES_MAX)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&id, rest) = bytes.split_first()?;
        let (payload, mac) = rest.split_at_checked(rest.len().checked_sub(32)?)?;
        let (_, key) = self.keys.iter().find(|(known, _)| *known == id)?;
        Self::mac(key, kind, id, payload).verify_slice(mac).ok()?;
        Some(payload.to_vec())
    }

    /// What the gate remembers of the session cookie `name=value`.
    pub(crate) fn session(&self, name: &str, value: &str) -> SessionKey {
        self.keyed("session", name, value)
    }

    /// What the gate counts a client by that carries no cookie. Never makes anybody "in".
    pub(crate) fn anonymous(&self, address: &str, agent: &str) -> SessionKey {
        self.keyed("anonymous", address, agent)
    }

    fn keyed(&self, kind: &str, first: &str, second: &str) -> SessionKey {
        // The last key, so that a new key in front does not forget everybody.
        let (id, key) = &self.keys[self.keys.len() - 1];
        let mut mac = Self::mac(key, kind, *id, first.as_bytes());
        mac.update(&[0]);
        mac.update(second.as_bytes());
        let mut out = [0; 16];
        out.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        out
    }

    pub(crate) fn ticket(&self, id: SessionKey, now: UnixMs) -> String {
        let mut payload = now.0.to_be_bytes().to_vec();
        payload.extend_from_slice(&id);
        self.seal("ticket", &payload)
    }

    pub(crate) fn read_ticket(&self, token: &str, now: UnixMs) -> Option<Ticket> {
        let payload = self.open("ticket", token)?;
        let (issued, id) = payload.split_first_chunk::<8>()?;
        let issued = UnixMs(i64::from_be_bytes(*issued));
        let id = id.try_into().ok()?;
        Some(Ticket { id, issued }).filter(|ticket| ticket.is_valid(now))
    }

    /// A tester's pass until `expires`, for one host name or for all (`*`).
    pub(crate) fn pass(&self, expires: UnixMs, scope: &str) -> Result<String, GateError> {
        let mut payload = expires.0.to_be_bytes().to_vec();
        payload.extend_from_slice(&random::<16>()?);
        payload.extend_from_slice(scope.as_bytes());
        Ok(self.seal("pass", &payload))
    }

    /// True for a pass that is valid now, on `host` (without its port).
    pub(crate) fn is_pass(&self, token: &str, host: &str, now: UnixMs) -> bool {
        let Some(payload) = self.open("pass", token) else { return false };
        let Some((expires, rest)) = payload.split_first_chunk::<8>() else { return false };
        let Some((_nonce, scope)) = rest.split_first_chunk::<16>() else { return false };
        let in_scope = scope == b"*" || scope.eq_ignore_ascii_case(host.as_bytes());
        in_scope && now < UnixMs(i64::from_be_bytes(*expires))
    }

    pub(crate) fn place(&self, place: Place) -> String {
        let mut payload = place.epoch.to_be_bytes().to_vec();
        payload.extend_from_slice(&place.number.to_be_bytes());
        self.seal("place", &payload)
    }

    pub(crate) fn read_place(&self, token: &str) -> Option<Place> {
        let payload = self.open("place", token)?;
        let (epoch, number) = payload.split_first_chunk::<8>()?;
        Some(Place {
            epoch: u64::from_be_bytes(*epoch),
            number: u64::from_be_bytes(number.try_into().ok()?),
        })
    }
}

/// `N` bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], GateError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| GateError::Random(io::Error::other(error)))?;
    Ok(bytes)
}

/// A number from 0 to 1 for spreading clients out. Where the system has no randomness, the middle.
pub(crate) fn jitter01() -> f64 {
    getrandom::u32().map_or(0.5, |n| f64::from(n) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn keys() -> Keys {
        let dir = tempfile::tempdir().unwrap();
        let first = Keys::load_or_make(dir.path()).unwrap();
        let again = Keys::load_or_make(dir.path()).unwrap();
        assert_eq!(
            first.session("a", "b"),
            again.session("a", "b"),
            "keys do not survive a restart"
        );
        again
    }

    #[test]
    fn a_ticket_is_believed_until_it_is_old_and_never_when_changed() {
        let keys = keys();
        let token = keys.ticket([7; 16], NOW);
        assert_eq!(keys.read_ticket(&token, NOW + 5), Some(Ticket { id: [7; 16], issued: NOW }));
        assert_eq!(keys.read_ticket(&token, NOW + TICKET_VALID_MS + 1), None);
        for at in 2..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(bytes).unwrap();
            if URL_SAFE_NO_PAD.decode(&forged[2..]).ok() != URL_SAFE_NO_PAD.decode(&token[2..]).ok()
            {
                assert_eq!(keys.read_ticket(&forged, NOW), None, "byte {at}");
            }
        }
        assert_eq!(
            super::Keys::read_ticket(&self::keys(), &token, NOW),
            None,
            "another gate's ticket"
        );
    }

    #[test]
    fn a_pass_has_an_end_and_a_scope_and_no_other_token_is_one() {
        let keys = keys();
        let pass = keys.pass(NOW + 1_000, "game.example").unwrap();
        assert!(keys.is_pass(&pass, "GAME.example", NOW));
        assert!(!keys.is_pass(&pass, "other.example", NOW));
        assert!(!keys.is_pass(&pass, "game.example", NOW + 1_000));
        assert!(keys.is_pass(&keys.pass(NOW + 1, "*").unwrap(), "any", NOW));
        assert!(!keys.is_pass(&keys.ticket([0; 16], NOW), "any", NOW));
        for junk in ["", "1.", "1.AAAA", "2.xyz", "1.****", &"1.".repeat(2_000)] {
            assert!(!keys.is_pass(junk, "any", NOW), "{junk:.20}");
        }
    }

    #[test]
    fn damaged_keys_are_refused_without_showing_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        fs::write(&path, r#"{"format":1,"keys":[{"id":1,"secret":"c2VjcmV0"}]}"#).unwrap();
        let error = Keys::load_or_make(dir.path()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("c2VjcmV0"));
    }

    #[test]
    fn a_place_comes_back() {
        let keys = keys();
        let place = Place { epoch: 3, number: 41 };
        assert_eq!(keys.read_place(&keys.place(place)), Some(place));
        assert_eq!(keys.read_place("1.nonsense"), None);
    }
}
