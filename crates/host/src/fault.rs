//! Labelled faults: a test names one effect and breaks that one.
//!
//! Before each effect stands `fault::check("label")?`. Builds without debug assertions and
//! without the feature `faults` compile it to nothing.
//!
//! The specification is a list `label=WHAT`, separated by commas, `WHAT` being the name of an
//! error number (`ENOSPC`, `EIO`, `EINTR`, `EACCES`, `EXDEV`, `EROFS`) or `KILL`, which ends the
//! process as `kill -9` does. `label=WHAT@3` breaks the third time the label is passed only;
//! without `@` it is every time. A process takes it from the environment variable
//! `ENTRACTE_FAULT`, a test in the same process from [`arm`].

#[cfg(any(feature = "faults", debug_assertions))]
pub use armed::{Armed, arm, check};

/// No faults in this build: always `Ok`.
///
/// # Errors
/// None.
#[cfg(not(any(feature = "faults", debug_assertions)))]
#[inline(always)]
pub fn check(_label: &str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(any(feature = "faults", debug_assertions))]
mod armed {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::io;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use rustix::io::Errno;
    use rustix::process::{Signal, getpid, kill_process};

    /// The environment variable that breaks effects of a whole process.
    const VARIABLE: &str = "ENTRACTE_FAULT";

    /// What happens at a label.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Effect {
        Fail(Errno),
        Kill,
    }

    /// One fault with the number of times its label was passed.
    #[derive(Debug)]
    struct Fault {
        effect: Effect,
        /// Which passing breaks, from 1; none means every one.
        only: Option<u64>,
        passed: u64,
    }

    type Faults = BTreeMap<String, Fault>;

    thread_local! {
        static LOCAL: RefCell<Faults> = const { RefCell::new(Faults::new()) };
    }

    /// Faults of this thread, for as long as this value lives.
    #[derive(Debug)]
    #[must_use = "the faults end when this is dropped"]
    pub struct Armed(());

    /// Arms `specification` for this thread.
    ///
    /// # Panics
    /// If the specification cannot be read: a fault test that breaks nothing proves nothing.
    pub fn arm(specification: &str) -> Armed {
        LOCAL.with_borrow_mut(|faults| *faults = parse(specification));
        Armed(())
    }

    impl Drop for Armed {
        fn drop(&mut self) {
            LOCAL.with_borrow_mut(Faults::clear);
        }
    }

    /// Fails, or ends the process, where `label` is armed; otherwise does nothing.
    ///
    /// # Errors
    /// The error that was armed for this label.
    ///
    /// # Panics
    /// If `ENTRACTE_FAULT` cannot be read.
    pub fn check(label: &str) -> io::Result<()> {
        static PROCESS: OnceLock<Mutex<Faults>> = OnceLock::new();
        LOCAL.with_borrow_mut(|faults| pass(faults, label))?;
        let process =
            PROCESS.get_or_init(|| Mutex::new(parse(&std::env::var(VARIABLE).unwrap_or_default())));
        pass(&mut process.lock().unwrap_or_else(PoisonError::into_inner), label)
    }

    fn pass(faults: &mut Faults, label: &str) -> io::Result<()> {
        let Some(fault) = faults.get_mut(label) else { return Ok(()) };
        fault.passed += 1;
        if fault.only.is_some_and(|only| only != fault.passed) {
            return Ok(());
        }
        match fault.effect {
            Effect::Fail(errno) => Err(errno.into()),
            Effect::Kill => {
                kill_process(getpid(), Signal::KILL)?;
                // SIGKILL takes effect on the way back from the call; nothing may run meanwhile.
                loop {
                    std::thread::park();
                }
            }
        }
    }

    fn parse(specification: &str) -> Faults {
        specification
            .split(',')
            .filter(|one| !one.trim().is_empty())
            .map(|one| {
                read(one.trim()).unwrap_or_else(|| {
                    panic!("{VARIABLE}: expected label=ENOSPC or label=KILL@2, found {one:?}")
                })
            })
            .collect()
    }

    fn read(one: &str) -> Option<(String, Fault)> {
        let (label, what) = one.split_once('=')?;
        let (what, only) = match what.split_once('@') {
            Some((what, number)) => (what, Some(number.parse().ok()?)),
            None => (what, None),
        };
        let effect = match what {
            "KILL" => Effect::Kill,
            "ENOSPC" => Effect::Fail(Errno::NOSPC),
            "EIO" => Effect::Fail(Errno::IO),
            "EINTR" => Effect::Fail(Errno::INTR),
            "EACCES" => Effect::Fail(Errno::ACCESS),
            "EXDEV" => Effect::Fail(Errno::XDEV),
            "EROFS" => Effect::Fail(Errno::ROFS),
            _ => return None,
        };
        Some((label.to_owned(), Fault { effect, only, passed: 0 }))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_the_named_label_breaks_and_only_at_its_turn() {
            let armed = arm("one=ENOSPC, two=EIO@2");
            assert_eq!(check("one").unwrap_err().raw_os_error(), Some(28));
            assert_eq!(check("one").unwrap_err().raw_os_error(), Some(28));
            assert!(check("two").is_ok());
            assert_eq!(check("two").unwrap_err().raw_os_error(), Some(5));
            assert!(check("two").is_ok());
            assert!(check("three").is_ok());
            drop(armed);
            assert!(check("one").is_ok());
        }

        #[test]
        #[should_panic(expected = "expected label=ENOSPC")]
        fn a_fault_that_cannot_be_read_is_not_ignored() {
            let _armed = arm("one=ENOSUCH");
        }
    }
}
