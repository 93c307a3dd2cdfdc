//! When a message is tried again. The table of messages belongs to whoever keeps the journal.

use entracte_model::UnixMs;

use crate::channel::Sent;

/// The shortest wait before another attempt.
pub const BACKOFF_MIN_MS: u64 = 2_000;
/// The longest wait before another attempt, unless the other side asks for more.
pub const BACKOFF_MAX_MS: u64 = 15 * 60_000;
/// The longest wait that the other side may ask for.
pub const RETRY_AFTER_MAX_MS: u64 = 24 * 3_600_000;

/// What becomes of a message after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is delivered.
    Done,
    /// It is tried again at this time, not before.
    At(UnixMs),
    /// It is given up, and the operator is told: it was refused for good, or its time is over.
    Dead,
    /// Nobody knows whether it was posted, and trying again could post it twice: a person decides.
    Unknown,
}

/// What becomes of a message whose attempt number `attempt` (from 1) ended in `outcome` at `now`.
///
/// `jitter01` is a random number from 0 to 1 that spreads the attempts of many senders; `expires`
/// is when the message is worth nothing any more, and the bound of all its retries.
pub fn next_attempt(
    attempt: u32,
    outcome: &Sent,
    now: UnixMs,
    jitter01: f64,
    expires: UnixMs,
) -> Next {
    let wait_ms = match outcome {
        Sent::Delivered { .. } => return Next::Done,
        Sent::Dead { .. } => return Next::Dead,
        Sent::Unknown { .. } => return Next::Unknown,
        // Asked for, so never less; the jitter comes on top of it.
        Sent::RateLimited { retry_after_ms } => {
            let asked = (*retry_after_ms).min(RETRY_AFTER_MAX_MS);
            asked + spread(BACKOFF_MIN_MS.max(asked / 10), jitter01)
        }
        Sent::Retry { .. } => {
            let ceiling = ceiling_ms(attempt);
            // Half is certain, so that attempts do not pile up at the start; half is spread.
            (ceiling / 2 + spread(ceiling / 2, jitter01)).max(BACKOFF_MIN_MS)
        }
    };
    let at = now + wait_ms;
    if at >= expires { Next::Dead } else { Next::At(at) }
}

/// The longest wait after attempt number `attempt`: doubled each time, up to [`BACKOFF_MAX_MS`].
fn ceiling_ms(attempt: u32) -> u64 {
    // 2 s shifted by 10 is beyond the maximum already, so a larger shift is never needed.
    (BACKOFF_MIN_MS << attempt.clamp(1, 10)).min(BACKOFF_MAX_MS)
}

/// `jitter01` of `range_ms`, in whole thousandths so that no rounding of floats decides.
fn spread(range_ms: u64, jitter01: f64) -> u64 {
    let thousandths =
        (0..=1_000_u32).rev().find(|n| f64::from(*n) <= jitter01 * 1_000.0).unwrap_or(0);
    range_ms * u64::from(thousandths) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_000_000);
    const LATE: UnixMs = UnixMs(i64::MAX);

    fn retry(attempt: u32, jitter01: f64) -> u64 {
        match next_attempt(attempt, &Sent::Retry { why: String::new() }, NOW, jitter01, LATE) {
            Next::At(at) => at.since(NOW),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn waits_double_from_two_seconds_to_a_quarter_of_an_hour() {
        assert_eq!((retry(1, 0.0), retry(1, 1.0)), (2_000, 4_000));
        assert_eq!((retry(2, 0.0), retry(2, 1.0)), (4_000, 8_000));
        assert_eq!((retry(5, 0.0), retry(5, 0.5)), (32_000, 48_000));
        assert_eq!((retry(40, 1.0), retry(u32::MAX, 1.0)), (BACKOFF_MAX_MS, BACKOFF_MAX_MS));
        assert_eq!((retry(0, 7.0), retry(0, -1.0), retry(1, f64::NAN)), (4_000, 2_000, 2_000));
    }

    #[test]
    fn what_was_asked_for_is_never_cut_short() {
        let limited = |ms| Sent::RateLimited { retry_after_ms: ms };
        for jitter01 in [0.0, 0.3, 1.0] {
            let Next::At(at) = next_attempt(1, &limited(3_600_000), NOW, jitter01, LATE) else {
                panic!()
            };
            assert!((3_600_000..=3_960_000).contains(&at.since(NOW)), "{at:?}");
        }
        let Next::At(at) = next_attempt(1, &limited(u64::MAX), NOW, 0.0, LATE) else { panic!() };
        assert_eq!(at.since(NOW), RETRY_AFTER_MAX_MS);
    }

    #[test]
    fn an_end_is_an_end_and_a_message_does_not_outlive_its_time() {
        let why = String::new;
        let next = |sent: &Sent, expires| next_attempt(1, sent, NOW, 0.0, expires);
        assert_eq!(next(&Sent::Delivered { remote_id: None }, NOW), Next::Done);
        assert_eq!(next(&Sent::Dead { why: why() }, LATE), Next::Dead);
        assert_eq!(next(&Sent::Unknown { why: why() }, LATE), Next::Unknown);
        assert_eq!(next(&Sent::Retry { why: why() }, NOW + 2_000), Next::Dead);
        assert_eq!(next(&Sent::Retry { why: why() }, NOW + 2_001), Next::At(NOW + 2_000));
    }
}
