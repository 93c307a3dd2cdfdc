//! Backups of the game's source tree and of its database, in the restic format
//! (<https://restic.readthedocs.io/en/stable/100_references.html>): encrypted, deduplicated, and
//! readable by the ordinary `restic` on the day that this program is not there.
//!
//! One [`Repository`] is a folder with two restic repositories in it, under one password: `trees`
//! for source trees, and `dumps` for database dumps, cut into much smaller pieces, because a day
//! changes single rows all over a dump. A snapshot appears only when everything it holds was
//! written, synced and compared with what was to be stored; until then there is none.

mod archive;
mod error;
mod lock;
mod neighbour;
mod notes;
mod password;
mod repository;
mod restore;
pub mod retention;
mod snapshot;
mod store;
mod stream;
mod tree;

pub use error::BackupError;
pub use repository::Repository;
pub use retention::Retention;
pub use snapshot::{Kind, Progress, Reason, Snapshot, Tags};
