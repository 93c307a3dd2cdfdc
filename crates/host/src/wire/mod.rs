//! What travels between a development machine and the same program on the machine of the game.
//!
//! One `ssh host entracte agent` carries it, for a whole release: [`greeting`] says which protocols
//! the far program speaks, then [`frame`]s go both ways, with [`message`]s or plain bytes in them.
//! Whatever arrives is read as what it may be, an enemy's: every length has a bound, and nothing
//! is kept in memory because the other side said so.

pub mod frame;
pub mod greeting;
pub mod message;
pub mod script;
pub mod ssh;

pub use frame::{Frame, WireError};
pub use greeting::Greeting;
pub use message::{Ask, Tell};
pub use ssh::{Connection, Destination, SshError};

/// The protocol that this program speaks.
pub const PROTOCOL: u32 = 3;
