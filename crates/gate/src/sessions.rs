//! Who is in: sessions that were seen while the gate was open.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use entracte_model::UnixMs;

use crate::error::GateError;
use crate::files;
use crate::tokens::SessionKey;

/// One written session: its key, and when it was last seen.
const RECORD_BYTES: usize = 16 + 8;
const MAGIC: &[u8; 8] = b"ENTRSES1";
/// How many of the longest unseen make room at once, as a share of all: 1/16.
const MAKE_ROOM_SHARE: usize = 16;

/// The known sessions, bounded.
#[derive(Debug)]
pub(crate) struct Sessions {
    seen: HashMap<SessionKey, UnixMs>,
    max: usize,
    kept_ms: u64,
    /// A session was added or forgotten since the last writing.
    changed: bool,
}

impl Sessions {
    pub(crate) fn new(max: usize, kept_ms: u64) -> Self {
        Self { seen: HashMap::new(), max: max.max(1), kept_ms, changed: false }
    }

    pub(crate) fn knows(&self, key: &SessionKey) -> bool {
        self.seen.contains_key(key)
    }

    /// Notes a request of a session that may become known. True where it is new.
    pub(crate) fn learn(&mut self, key: SessionKey, now: UnixMs) -> bool {
        if self.touch(&key, now) {
            return false;
        }
        if self.seen.len() >= self.max {
            self.make_room();
        }
        self.seen.insert(key, now);
        self.changed = true;
        true
    }

    /// Notes a request of a session that has to be known already. False where it is not.
    pub(crate) fn touch(&mut self, key: &SessionKey, now: UnixMs) -> bool {
        match self.seen.get_mut(key) {
            Some(last) => {
                *last = now;
                true
            }
            None => false,
        }
    }

    /// Forgets one session.
    pub(crate) fn forget(&mut self, key: &SessionKey) {
        self.changed |= self.seen.remove(key).is_some();
    }

    fn make_room(&mut self) {
        let count = (self.max / MAKE_ROOM_SHARE).max(1);
        let mut by_age: Vec<(UnixMs, SessionKey)> =
            self.seen.iter().map(|(key, last)| (*last, *key)).collect();
        if count < by_age.len() {
            by_age.select_nth_unstable(count);
            by_age.truncate(count);
        }
        for (_, key) in by_age {
            self.seen.remove(&key);
        }
    }

    /// Sessions seen within `window_ms` before `now`.
    pub(crate) fn within(&self, window_ms: u64, now: UnixMs) -> u64 {
        let count = self.seen.values().filter(|last| now.since(**last) < window_ms).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// Forgets who was not seen for long.
    pub(crate) fn forget_old(&mut self, now: UnixMs) {
        let before = self.seen.len();
        self.seen.retain(|_, last| now.since(*last) <= self.kept_ms);
        self.changed |= self.seen.len() != before;
    }

    /// The written form, if somebody came or went since the last call (or `always`).
    pub(crate) fn take_written(&mut self, always: bool) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.changed) && !always {
            return None;
        }
        let mut bytes = Vec::with_capacity(MAGIC.len() + self.seen.len() * RECORD_BYTES);
        bytes.extend_from_slice(MAGIC);
        for (key, last) in &self.seen {
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(&last.0.to_be_bytes());
        }
        Some(bytes)
    }

    /// Takes in the written form. What cannot be read is left out: those players log in again.
    pub(crate) fn read(&mut self, bytes: &[u8], now: UnixMs) {
        let Some(records) = bytes.strip_prefix(MAGIC) else { return };
        for record in records.chunks_exact(RECORD_BYTES).take(self.max) {
            let (key, last) = record.split_at(16);
            let (Ok(key), Ok(last)) = (key.try_into(), last.try_into()) else { continue };
            // A moment in the future comes from a clock that was set back since.
            self.seen.insert(key, UnixMs(i64::from_be_bytes(last)).min(now));
        }
        self.forget_old(now);
    }
}

/// Where the sessions are kept. A crash costs the sessions that came in the last seconds: if the
/// gate is drained right after, those players see the page instead of the game.
#[derive(Debug, Clone)]
pub(crate) struct SessionFile(PathBuf);

impl SessionFile {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self(state_dir.join("sessions"))
    }

    pub(crate) fn load(&self) -> Vec<u8> {
        fs::read(&self.0).unwrap_or_default()
    }

    pub(crate) fn save(&self, bytes: &[u8]) -> Result<(), GateError> {
        files::replace(&self.0, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> SessionKey {
        [n; 16]
    }

    #[test]
    fn only_a_learnt_session_is_known_and_it_survives_being_written() {
        let mut sessions = Sessions::new(10, 1_000);
        assert!(!sessions.touch(&key(1), UnixMs(5)));
        assert!(sessions.learn(key(1), UnixMs(5)));
        assert!(!sessions.learn(key(1), UnixMs(7)));
        let bytes = sessions.take_written(false).unwrap();
        assert_eq!(sessions.take_written(false), None);
        let mut again = Sessions::new(10, 1_000);
        again.read(&bytes, UnixMs(100));
        assert!(again.knows(&key(1)) && !again.knows(&key(2)));
        assert_eq!(again.within(94, UnixMs(100)), 1);
        assert_eq!(again.within(93, UnixMs(100)), 0);
    }

    #[test]
    fn the_longest_unseen_make_room() {
        let mut sessions = Sessions::new(3, 1_000);
        for n in 1..=3 {
            sessions.learn(key(n), UnixMs(i64::from(n)));
        }
        sessions.touch(&key(1), UnixMs(9));
        sessions.learn(key(4), UnixMs(10));
        assert!(sessions.knows(&key(1)) && !sessions.knows(&key(2)));
        assert!(sessions.knows(&key(3)) && sessions.knows(&key(4)));
    }

    #[test]
    fn old_and_damaged_records_are_left_out() {
        let mut sessions = Sessions::new(10, 1_000);
        sessions.learn(key(1), UnixMs(0));
        sessions.learn(key(2), UnixMs(5_000));
        let mut bytes = sessions.take_written(true).unwrap();
        bytes.extend_from_slice(b"torn");
        let mut again = Sessions::new(10, 1_000);
        again.read(&bytes, UnixMs(5_500));
        assert!(!again.knows(&key(1)) && again.knows(&key(2)));
        again.read(b"something else", UnixMs(5_500));
        assert!(again.knows(&key(2)));
    }
}
