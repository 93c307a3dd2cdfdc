//! What can be done to the machine that runs the game: a closed set of operations ([`op`]), and
//! the local primitives that carry them out.
//!
//! Whoever releases a version talks to a [`Host`] and never knows whether the machine is this one
//! or is reached over a connection. Every operation can be sent, has a bound, and says what it did.

pub mod durable;
pub mod error;
pub mod exchange;
pub mod facts;
pub mod fault;
pub mod hook;
pub mod local;
pub mod lock;
pub mod op;
pub mod tree;
pub mod wire;

pub use error::HostError;
pub use local::Local;
pub use lock::{Lock, LockError, Owner};
pub use op::{Host, Op, Progress, Reply};
