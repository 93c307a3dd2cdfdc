//! The pure core of Entracte: what a release is, what may happen to it, and what is to be done next.
//!
//! Nothing here reads a file, a clock, an environment variable or a socket. That is what lets
//! every decision be tested by value, and replayed from a journal years later.

pub mod gate;
pub mod hash;
pub mod html;
pub mod journal;
pub mod manifest;
pub mod path;
pub mod plan;
pub mod progress;
pub mod quiet;
pub mod record;
pub mod schema;
pub mod time;
pub mod verdict;
pub mod version;
pub mod way;

pub use hash::Hash;
pub use manifest::Manifest;
pub use path::RelPath;
pub use time::UnixMs;
pub use version::Version;
