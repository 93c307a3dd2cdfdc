//! Sends what the outbox holds. A channel that does not answer never holds up a release.

use entracte_announce::channel::{Sent, send};
use entracte_announce::outbox::{Next, next_attempt};
use entracte_model::UnixMs;

use crate::clock::now;
use crate::context::Context;
use crate::messages::{Kept, SEND_TIMEOUT, idempotent};
use crate::store::{Pending, Store, StoreError};
use crate::target::Target;

/// The most messages sent in one go.
const BATCH_MAX: u32 = 20;

/// Sends what is due from within a release; returns how many messages still wait.
pub(crate) fn flush(cx: &mut Context<'_>) -> u64 {
    match deliver(cx.target, &mut cx.store) {
        Ok(sent) => {
            for line in sent.troubles {
                cx.say(entracte_model::journal::Level::Warning, line);
            }
            sent.waiting
        }
        Err(error) => {
            let text = crate::fault::chain(&error);
            cx.say(entracte_model::journal::Level::Warning, text);
            0
        }
    }
}

/// What came of a round of sending.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Messages that arrived.
    pub delivered: u64,
    /// Messages that wait for another attempt.
    pub waiting: u64,
    /// What an operator should read, one line each.
    pub troubles: Vec<String>,
}

/// Sends everything that is due, once.
pub fn deliver(target: &Target, store: &mut Store) -> Result<Delivery, StoreError> {
    let mut result = Delivery::default();
    for pending in store.lease(now(), BATCH_MAX)? {
        let channel =
            target.announce.channels.iter().find(|(name, _)| *name == pending.queued.channel);
        let outcome = match (channel, serde_json::from_str::<Kept>(&pending.queued.message)) {
            (Some((_, channel)), Ok(kept)) => send(channel, &kept.message(), SEND_TIMEOUT),
            (None, _) => Sent::Dead { why: "the channel is no longer configured".into() },
            (_, Err(error)) => Sent::Dead { why: error.to_string() },
        };
        record(store, &pending, &outcome, &mut result)?;
    }
    Ok(result)
}

fn record(
    store: &Store,
    pending: &Pending,
    outcome: &Sent,
    result: &mut Delivery,
) -> Result<(), StoreError> {
    let key = &pending.queued;
    let remote_id = match outcome {
        Sent::Delivered { remote_id } => remote_id.as_deref(),
        _ => None,
    };
    let why = match outcome {
        Sent::Delivered { .. } => None,
        Sent::RateLimited { retry_after_ms } => Some(format!("asked to wait {retry_after_ms} ms")),
        Sent::Retry { why } | Sent::Dead { why } | Sent::Unknown { why } => Some(why.clone()),
    };
    let next = next_attempt(pending.attempts + 1, outcome, now(), jitter(), key.expires);
    let (state, at) = match next {
        Next::Done => ("delivered", now()),
        Next::At(at) => ("waiting", at),
        Next::Dead => ("dead", now()),
        Next::Unknown => ("unknown", now()),
    };
    match state {
        "delivered" => result.delivered += 1,
        "waiting" => result.waiting += 1,
        _ => result.troubles.push(format!(
            "{} to {}: {state}: {}",
            key.event,
            key.channel,
            why.as_deref().unwrap_or("no reason")
        )),
    }
    store.sent(key, state, at, remote_id, why.as_deref())
}

/// What a sender that died left behind goes back into the queue, where that can do no harm.
pub fn recover(target: &Target, store: &mut Store) -> Result<u64, StoreError> {
    let channels = target.announce.channels.iter();
    let repeatable: Vec<String> =
        channels.filter(|(_, channel)| idempotent(channel)).map(|(name, _)| name.clone()).collect();
    store.unlease(&repeatable)
}

/// A number in [0, 1) that spreads attempts: the clock's last digits are random enough for that.
fn jitter() -> f64 {
    let UnixMs(ms) = now();
    f64::from(u32::try_from(ms.rem_euclid(997)).unwrap_or(0)) / 997.0
}
