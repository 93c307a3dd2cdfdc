//! From typed errors of all crates to the one kind of fault that a journal keeps.

use std::error::Error;

use entracte_model::journal::{Fault, FaultKind};

/// An error with all its causes in one line, outermost first.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// It was tried and did not work.
pub(crate) fn broken(doing: &str, error: &dyn Error) -> Fault {
    Fault::new(FaultKind::Broken, format!("{doing}: {}", chain(error)))
}

/// It is not as it must be, and nothing was tried.
pub(crate) fn refused(message: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Refused, message)
}

/// Somebody asked to stop.
pub(crate) fn stopped(at: &str) -> Fault {
    Fault::new(FaultKind::Stopped, format!("asked to stop while {at}"))
}

/// Adds what was being done to the errors of a step.
pub(crate) trait Doing<T> {
    /// `doing` completes "could not …" in the reader's head: `reading the store`.
    fn doing(self, doing: &str) -> Result<T, Fault>;
}

impl<T, E: Error> Doing<T> for Result<T, E> {
    fn doing(self, doing: &str) -> Result<T, Fault> {
        self.map_err(|error| broken(doing, &error))
    }
}
