//! Ending a statement that is running when the caller asks for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// How often the flag is looked at while a statement runs.
const LOOK_EVERY_MS: u64 = 50;
/// How long the end of a statement is given before it is asked for again.
const ASK_AGAIN_AFTER_MS: u64 = 500;

/// Does `work`; while it runs and `stop` is set, calls `interrupt` until `work` returns.
pub(crate) fn interruptible<T>(
    stop: &AtomicBool,
    interrupt: impl Fn() + Send,
    work: impl FnOnce() -> T,
) -> T {
    let (alive, gone) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            loop {
                let stopping = stop.load(Ordering::SeqCst);
                if stopping {
                    interrupt();
                }
                let wait_ms = if stopping { ASK_AGAIN_AFTER_MS } else { LOOK_EVERY_MS };
                match gone.recv_timeout(Duration::from_millis(wait_ms)) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        // Dropped also when `work` panics, so that the watcher always ends.
        let _alive: Sender<()> = alive;
        work()
    })
}
