//! Releases and their journals.

use entracte_model::journal::{Entry, Event, Outcome};
use entracte_model::plan::{Plan, ReleaseId};
use entracte_model::{Hash, UnixMs};
use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError, corrupt, signed, unsigned};
use crate::store::production;

/// A release as the store knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// Its number.
    pub id: ReleaseId,
    /// When it was planned.
    pub created: UnixMs,
    /// What it does.
    pub plan: Plan,
    /// How it ended, once it did.
    pub outcome: Option<Outcome>,
    /// When it is to start by itself, if it was scheduled.
    pub start_at: Option<UnixMs>,
}

impl Store {
    /// The number that the next release will have.
    pub fn next_release(&self) -> Result<ReleaseId, StoreError> {
        let last: Option<i64> =
            self.ask(|conn| conn.query_row("SELECT max(id) FROM release", [], |row| row.get(0)))?;
        Ok(ReleaseId(unsigned(last.unwrap_or(0)) + 1))
    }

    /// Writes a planned release down. Its number must be [`Store::next_release`]'s.
    pub fn create_release(
        &mut self,
        plan: &Plan,
        now: UnixMs,
        start_at: Option<UnixMs>,
    ) -> Result<(), StoreError> {
        let json = serde_json::to_string(plan).map_err(corrupt)?;
        self.ask(|conn| {
            conn.execute(
                "INSERT INTO release (id, created, plan, start_at) VALUES (?1, ?2, ?3, ?4)",
                params![signed(plan.id.0), now.0, json, start_at.map(|at| at.0)],
            )
        })?;
        Ok(())
    }

    /// One release.
    pub fn release(&self, id: ReleaseId) -> Result<Release, StoreError> {
        let row = self.ask(|conn| {
            conn.query_row(
                "SELECT id, created, plan, outcome, start_at FROM release WHERE id = ?1",
                [signed(id.0)],
                raw_release,
            )
            .optional()
        })?;
        row.ok_or_else(|| StoreError::NoSuchRelease { id: id.to_string() })?.parse()
    }

    /// All releases, newest first, `limit` at most.
    pub fn releases(&self, limit: u32) -> Result<Vec<Release>, StoreError> {
        let rows = self.ask(|conn| {
            conn.prepare(
                "SELECT id, created, plan, outcome, start_at FROM release ORDER BY id DESC LIMIT ?1",
            )?
            .query_map([limit], raw_release)?
            .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        rows.into_iter().map(RawRelease::parse).collect()
    }

    /// The release that began and has not ended, or that waits for its time.
    pub fn unfinished(&self) -> Result<Option<Release>, StoreError> {
        let row = self.ask(|conn| {
            conn.query_row(
                "SELECT id, created, plan, outcome, start_at FROM release
                 WHERE outcome IS NULL ORDER BY id LIMIT 1",
                [],
                raw_release,
            )
            .optional()
        })?;
        row.map(RawRelease::parse).transpose()
    }

    /// Removes a release that has not begun: one whose time was called off.
    pub fn forget_unbegun(&mut self, id: ReleaseId) -> Result<bool, StoreError> {
        let gone = self.together(|conn| {
            let begun: bool = conn.query_row(
                "SELECT EXISTS (SELECT 1 FROM journal WHERE release = ?1)",
                [signed(id.0)],
                |row| row.get(0),
            )?;
            if begun {
                return Ok(0);
            }
            // What it was to announce goes with it, or the release could not.
            conn.execute("DELETE FROM fragment WHERE release = ?1", [signed(id.0)])?;
            conn.execute("DELETE FROM release WHERE id = ?1", [signed(id.0)])
        })?;
        Ok(gone == 1)
    }

    /// Appends one event to a release's journal. Durable when it returns.
    ///
    /// With the event go, in the same transaction, the changes that it means for the store: the
    /// outcome of the release, and what production holds once the reopening is done.
    pub fn append(&mut self, plan: &Plan, at: UnixMs, event: &Event) -> Result<Entry, StoreError> {
        let json = serde_json::to_string(event).map_err(corrupt)?;
        let id = plan.id;
        let seq = self.together(|conn| {
            let last: Option<(i64, String)> = conn
                .query_row(
                    "SELECT seq, hash FROM journal WHERE release = ?1 ORDER BY seq DESC LIMIT 1",
                    [signed(id.0)],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            let (seq, previous) = match last {
                Some((seq, hash)) => (unsigned(seq) + 1, hash.parse().unwrap_or(Hash([0; 32]))),
                None => (1, plan_hash(plan)),
            };
            let hash = Event::chain(&previous, seq, at, &json);
            conn.execute(
                "INSERT INTO journal (release, seq, at, event, hash) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![signed(id.0), signed(seq), at.0, json, hash.to_string()],
            )?;
            match event {
                Event::Finished { outcome } => {
                    let outcome = serde_json::to_string(outcome).unwrap_or_default();
                    conn.execute(
                        "UPDATE release SET outcome = ?2 WHERE id = ?1",
                        params![signed(id.0), outcome],
                    )?;
                }
                Event::Done { step, .. } if Some(*step) == plan.reopening() => {
                    production::set(conn, plan, at)?;
                }
                _ => {}
            }
            Ok(seq)
        })?;
        Ok(Entry { seq, at, event: event.clone() })
    }

    /// The entries of a release after number `after`, in order.
    pub fn entries(&self, id: ReleaseId, after: u64) -> Result<Vec<Entry>, StoreError> {
        let rows = self.ask(|conn| {
            conn.prepare_cached(
                "SELECT seq, at, event FROM journal WHERE release = ?1 AND seq > ?2 ORDER BY seq",
            )?
            .query_map([signed(id.0), signed(after)], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
            })?
            .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        rows.into_iter()
            .map(|(seq, at, event)| {
                let event = serde_json::from_str(&event)
                    .map_err(|error| corrupt(format!("{id}, entry {seq}: {error}")))?;
                Ok(Entry { seq: unsigned(seq), at: UnixMs(at), event })
            })
            .collect()
    }

    /// Checks the hash chain of a release's journal; says at which entry it was edited.
    pub fn verify_chain(&self, id: ReleaseId) -> Result<(), StoreError> {
        let plan = self.release(id)?.plan;
        let mut previous = plan_hash(&plan);
        let rows = self.ask(|conn| {
            conn.prepare(
                "SELECT seq, at, event, hash FROM journal WHERE release = ?1 ORDER BY seq",
            )?
            .query_map([signed(id.0)], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, String>(3)?,
                ))
            })?
            .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        for (expected, (seq, at, event, hash)) in (1_u64..).zip(rows) {
            let chained = Event::chain(&previous, unsigned(seq), UnixMs(at), &event);
            if unsigned(seq) != expected || chained.to_string() != hash {
                return Err(corrupt(format!("the journal of {id} was edited at entry {expected}")));
            }
            previous = chained;
        }
        Ok(())
    }
}

fn plan_hash(plan: &Plan) -> Hash {
    Hash::of(serde_json::to_string(plan).unwrap_or_default().as_bytes())
}

struct RawRelease {
    id: i64,
    created: i64,
    plan: String,
    outcome: Option<String>,
    start_at: Option<i64>,
}

fn raw_release(row: &rusqlite::Row<'_>) -> rusqlite::Result<RawRelease> {
    Ok(RawRelease {
        id: row.get(0)?,
        created: row.get(1)?,
        plan: row.get(2)?,
        outcome: row.get(3)?,
        start_at: row.get(4)?,
    })
}

impl RawRelease {
    fn parse(self) -> Result<Release, StoreError> {
        let id = ReleaseId(unsigned(self.id));
        let bad = |error: serde_json::Error| corrupt(format!("{id}: {error}"));
        Ok(Release {
            id,
            created: UnixMs(self.created),
            plan: serde_json::from_str(&self.plan).map_err(bad)?,
            outcome: self
                .outcome
                .map(|outcome| serde_json::from_str(&outcome).map_err(bad))
                .transpose()?,
            start_at: self.start_at.map(UnixMs),
        })
    }
}
