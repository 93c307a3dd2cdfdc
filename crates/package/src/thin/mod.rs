//! The thin stream: only what the other side lacks, as patches of what it has.
//!
//! How a package travels, from the side that packed it (sender) to the machine of the game
//! (receiver), over any pair of byte streams:
//!
//! 1. The sender gives its [`Offer`]: record and signature. The receiver verifies it
//!    ([`crate::archive::verify_record`]) and judges it before anything else is read.
//! 2. The receiver opens an [`Inbox`] for the record and answers with what it lacks: [`Wants`].
//! 3. The sender calls [`send()`]: one stream of units, each a `copy` of a file that the receiver
//!    holds, data (whole, or compressed with files that the receiver holds as reference), or a
//!    `patch`: what to copy from where in one such file, and what is new between it.
//! 4. The receiver takes it by [`Inbox::receive`]: each object is written as `<hash>.part` and
//!    gets its name when its hash is right. After a cut, 2 to 4 are done again: complete objects
//!    are not sent again, a part goes on where it ended.
//! 5. When nothing is wanted any more, [`Inbox::finish`] makes it durable, and it is a package like
//!    any other: [`crate::archive::open`] opens it, [`crate::archive::Archive::save`] makes the one
//!    file of it again, to the byte.
//!
//! Both sides number the objects of the record and the files of the base in the same way, so that
//! the stream names them in a byte or two. The receiver takes the stream for an enemy's file: it
//! has numbers and sizes only from the signed record and from its own base manifest, and every
//! allocation has a bound.

mod ahead;
mod bad;
mod inbox;
mod matches;
mod objects;
mod offer;
mod olds;
mod outgoing;
mod pairs;
mod patch;
mod receive;
mod send;
mod wire;
mod zip;

pub use bad::BadThin;
pub use inbox::{Inbox, Received};
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use matches::fuzz as fuzz_patch;
pub use objects::{Object, Objects, Wants};
pub use offer::Offer;
pub use olds::Olds;
pub use send::{Level, Parcel, Sent, send};

/// The version of the stream that this program writes, and the only one that it reads.
pub const FORMAT: u16 = 2;
/// The most of old files that data refer to, in bytes: both sides hold them in memory. Patches are
/// for files of any length.
pub const BASE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// The largest window, as the exponent of two, that a patch may need for its decoding.
pub const WINDOW_LOG_MAX: u32 = 30;
