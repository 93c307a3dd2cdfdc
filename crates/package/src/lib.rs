//! From the development tree to a signed package, and from a package to a staged tree.
//!
//! Packing compares a [`scan::tree`] of the development tree with the manifest that production
//! holds, and [`pack::write`] makes a folder and an archive of the difference. On the other side
//! [`archive::open`] believes nothing before the signature is verified, and [`stage::build`]
//! makes the new tree beside the live one. Between two machines a package travels as a
//! [`thin`] stream: only what the other side lacks. What is signed is the content, never its encoding.

pub mod archive;
mod beneath;
mod changes;
pub mod check;
mod error;
mod files;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod git;
pub mod inplace;
pub mod keys;
pub mod links;
pub mod pack;
pub mod persist;
pub mod scan;
pub mod scripts;
pub mod stage;
pub mod thin;
pub mod verify;

pub use error::PackageError;

/// How far a long operation has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is done, in `unit`.
    pub done: u64,
    /// What there is to do, in `unit`; may grow while it is being found out.
    pub total: u64,
    /// What is counted: `files` or `bytes`.
    pub unit: &'static str,
    /// What is being worked on, for a person.
    pub note: String,
}

/// The `.git` folder or file, which is never scanned, packed or compared.
const GIT_DIR: &str = ".git";
