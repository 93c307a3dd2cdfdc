//! Releases: planned, carried out, written down, taken back.
//!
//! This is the only crate that knows the order of things. [`planner`] decides it beforehand,
//! [`engine`] follows it, the files of `steps/` have the effects, [`store`] keeps what happened.

pub mod backups;
pub mod clock;
mod context;
pub mod drift;
pub mod engine;
pub mod fault;
pub mod front;
mod gate_goal;
pub mod history;
mod messages;
pub mod outbox;
pub mod planner;
pub mod rehearse;
mod reserve;
mod scripts;
pub mod smoke;
mod steps;
pub mod store;
pub mod target;
mod ways;

pub use engine::{Ended, EngineError, Wishes, run};
pub use store::{Store, StoreError};
pub use target::Target;
