//! Announcements that wait to be sent: none lost, none sent twice where that can be known.

use entracte_model::UnixMs;
use rusqlite::params;

use super::{Store, StoreError, signed, unsigned};

/// An announcement to be queued. The first four fields together are its key: queueing the same
/// announcement again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// What happened, such as `r7/notes`.
    pub event: String,
    /// The configured name of the channel.
    pub channel: String,
    /// The language.
    pub language: String,
    /// The part of a long message, from 0.
    pub part: u32,
    /// The message as JSON.
    pub message: String,
    /// After this it is no longer news.
    pub expires: UnixMs,
}

/// An announcement that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// What was queued.
    pub queued: Queued,
    /// How often it was tried.
    pub attempts: u32,
}

impl Store {
    /// Queues an announcement, unless it already was.
    pub fn queue(&self, queued: &Queued, now: UnixMs) -> Result<(), StoreError> {
        self.ask(|conn| {
            conn.execute(
                "INSERT OR IGNORE INTO outbox
                   (event, channel, language, part, message, state, next_at, expires)
                 VALUES (?1, ?2, ?3, ?4, ?5, 'waiting', ?6, ?7)",
                params![
                    queued.event,
                    queued.channel,
                    queued.language,
                    queued.part,
                    queued.message,
                    now.0,
                    queued.expires.0
                ],
            )
        })?;
        Ok(())
    }

    /// Takes what is due and marks it as being sent, `limit` at most.
    ///
    /// A crash between this and [`Store::sent`] leaves it as `sending`; [`Store::unlease`] says
    /// what becomes of it.
    pub fn lease(&mut self, now: UnixMs, limit: u32) -> Result<Vec<Pending>, StoreError> {
        self.together(|conn| {
            let due: Vec<Pending> = conn
                .prepare(
                    "SELECT event, channel, language, part, message, expires, attempts FROM outbox
                     WHERE state = 'waiting' AND next_at <= ?1 ORDER BY next_at LIMIT ?2",
                )?
                .query_map(params![now.0, limit], |row| {
                    Ok(Pending {
                        queued: Queued {
                            event: row.get(0)?,
                            channel: row.get(1)?,
                            language: row.get(2)?,
                            part: row.get(3)?,
                            message: row.get(4)?,
                            expires: UnixMs(row.get(5)?),
                        },
                        attempts: row.get(6)?,
                    })
                })?
                .collect::<rusqlite::Result<_>>()?;
            for pending in &due {
                let key = &pending.queued;
                conn.execute(
                    "UPDATE outbox SET state = 'sending', attempts = attempts + 1
                     WHERE event = ?1 AND channel = ?2 AND language = ?3 AND part = ?4",
                    params![key.event, key.channel, key.language, key.part],
                )?;
            }
            Ok(due)
        })
    }

    /// Writes down what became of a leased announcement.
    ///
    /// `state` is `waiting` (again at `next_at`), `delivered`, `dead` or `unknown`.
    pub fn sent(
        &self,
        key: &Queued,
        state: &str,
        next_at: UnixMs,
        remote_id: Option<&str>,
        why: Option<&str>,
    ) -> Result<(), StoreError> {
        self.ask(|conn| {
            conn.execute(
                "UPDATE outbox SET state = ?5, next_at = ?6, remote_id = coalesce(?7, remote_id),
                   why = ?8
                 WHERE event = ?1 AND channel = ?2 AND language = ?3 AND part = ?4",
                params![
                    key.event,
                    key.channel,
                    key.language,
                    key.part,
                    state,
                    next_at.0,
                    remote_id,
                    why
                ],
            )
        })?;
        Ok(())
    }

    /// What a sender that died left as `sending`: nobody knows whether it arrived. A channel that
    /// tells repeats apart by their id gets it again; for any other a person must decide.
    pub fn unlease(&mut self, idempotent: &[String]) -> Result<u64, StoreError> {
        let changed = self.together(|conn| {
            let mut changed = 0;
            for channel in idempotent {
                changed += conn.execute(
                    "UPDATE outbox SET state = 'waiting'
                     WHERE state = 'sending' AND channel = ?1",
                    [channel],
                )?;
            }
            changed += conn.execute(
                "UPDATE outbox SET state = 'unknown',
                   why = 'the sender died in the middle; look whether it arrived'
                 WHERE state = 'sending'",
                [],
            )?;
            Ok(changed)
        })?;
        Ok(changed as u64)
    }

    /// How many announcements are in each state, by name of the state.
    pub fn outbox_counts(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.ask(|conn| {
            conn.prepare("SELECT state, count(*) FROM outbox GROUP BY state ORDER BY state")?
                .query_map([], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?
                .collect()
        })
    }

    /// When the next announcement is due, if one waits.
    pub fn outbox_due(&self) -> Result<Option<UnixMs>, StoreError> {
        let at: Option<i64> = self.ask(|conn| {
            conn.query_row("SELECT min(next_at) FROM outbox WHERE state = 'waiting'", [], |row| {
                row.get(0)
            })
        })?;
        Ok(at.map(UnixMs))
    }

    /// Keeps the news of one version. News kept again stay where they were in the order.
    pub fn keep_news(&self, version: &str, release: u64, item: &str) -> Result<(), StoreError> {
        self.ask(|conn| {
            conn.execute(
                "INSERT INTO news (version, release, item) VALUES (?1, ?2, ?3)
                 ON CONFLICT (version) DO UPDATE SET item = excluded.item",
                params![version, signed(release), item],
            )
        })?;
        Ok(())
    }

    /// All news as JSON, newest release first.
    pub fn news(&self) -> Result<Vec<String>, StoreError> {
        self.ask(|conn| {
            conn.prepare("SELECT item FROM news ORDER BY release DESC")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
    }
}
