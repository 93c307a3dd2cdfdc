//! Time limits that are almost never reached.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// A limit for one thing after another. The runtime's timer is set once and found again by the
/// next: setting and unsetting it for each request costs more than finding it set for an earlier
/// one, which fires for nothing once in a limit's length.
#[derive(Debug, Default)]
pub(crate) struct LazyTimer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl LazyTimer {
    /// Ready from `deadline` on.
    pub(crate) fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            // It was set for an earlier one.
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_deadline_is_kept_whatever_the_timer_was_set_for_before() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut timer = LazyTimer::default();
            let began = Instant::now();
            for (ms, unless) in [(40, true), (5, false), (30, false)] {
                let deadline = Instant::now() + Duration::from_millis(ms);
                if unless {
                    // Set, and left before it is reached.
                    let polled = poll_fn(|cx| Poll::Ready(timer.poll_until(deadline, cx))).await;
                    assert!(polled.is_pending());
                } else {
                    poll_fn(|cx| timer.poll_until(deadline, cx)).await;
                    assert!(Instant::now() >= deadline, "{ms} ms, too early");
                }
            }
            assert!(began.elapsed() >= Duration::from_millis(35));
        });
    }
}
