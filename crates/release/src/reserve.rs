//! Room kept free for the way back.
//!
//! A full disk is met in the middle of a release, when the journal, the gate's state or a hook need
//! some more bytes to take it back. A file of zeros lies ready in the state folder for that moment:
//! removing it needs no room, and gives room.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use entracte_host::{durable, fault};

/// Enough for the journal of a whole way back, many times over, in bytes.
pub(crate) const RESERVE_BYTES: u64 = 4 << 20;
/// How much is written at once, in bytes.
const BLOCK_BYTES: usize = 64 << 10;

/// Makes the reserve in `state`, or fills it up. A crash can cost a part of it, which the next
/// release fills up.
///
/// # Errors
/// Where there is no room: then a release must not begin.
pub(crate) fn keep(state: &Path) -> io::Result<()> {
    let path = place(state);
    fault::check("reserve.write")?;
    // Written, not only made that long: a file with holes keeps no room free.
    let mut file = File::options().append(true).create(true).mode(0o600).open(&path)?;
    let block = vec![0; BLOCK_BYTES];
    while file.metadata()?.len() < RESERVE_BYTES {
        if let Err(error) = file.write_all(&block) {
            give_up(state);
            return Err(error);
        }
    }
    file.sync_all()?;
    durable::sync_parent(&path)
}

/// Gives the room up. True where there was any.
pub(crate) fn give_up(state: &Path) -> bool {
    fs::remove_file(place(state)).is_ok()
}

fn place(state: &Path) -> PathBuf {
    state.join("reserve")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_whole_and_given_up_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(place(dir.path()), b"the beginning of one").unwrap();
        for _ in 0..2 {
            keep(dir.path()).unwrap();
            assert!(fs::metadata(place(dir.path())).unwrap().len() >= RESERVE_BYTES);
        }
        assert!(give_up(dir.path()));
        assert!(!give_up(dir.path()));
    }
}
