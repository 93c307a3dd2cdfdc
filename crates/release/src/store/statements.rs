//! The statement journal, outside the game's database: a restore erases what is inside.

use entracte_db::StatementAt;
use entracte_model::plan::ReleaseId;
use entracte_model::{Hash, UnixMs};
use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError, corrupt, signed, unsigned};

/// A script that production has had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its name.
    pub name: String,
    /// The hash of its content without BOM and CR.
    pub hash: Hash,
    /// The hash of its bytes.
    pub raw_hash: Hash,
    /// The release that ran it.
    pub release: ReleaseId,
}

/// A statement that was begun and not known to have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Its script.
    pub script: String,
    /// Its number in the script, from 1.
    pub number: u64,
    /// The server connection that ran it.
    pub connection_id: Option<u64>,
}

impl Store {
    /// Writes down that a statement is about to run. Durable when it returns.
    pub fn statement_intent(&self, id: ReleaseId, at: &StatementAt) -> Result<(), StoreError> {
        self.ask(|conn| {
            conn.prepare_cached(
                "INSERT OR REPLACE INTO statement
                   (release, script, number, offset, excerpt, connection_id, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'intent')",
            )?
            .execute(params![
                signed(id.0),
                at.script,
                signed(at.number),
                signed(at.offset),
                at.sql,
                at.connection_id.map(signed)
            ])
        })?;
        Ok(())
    }

    /// Writes down how a statement ended: `done` or `failed`, with rows and a note.
    pub fn statement_end(
        &self,
        id: ReleaseId,
        at: &StatementAt,
        done: bool,
        rows: u64,
        note: &str,
    ) -> Result<(), StoreError> {
        let state = if done { "done" } else { "failed" };
        self.ask(|conn| {
            conn.prepare_cached(
                "UPDATE statement SET state = ?4, rows = ?5, note = ?6
                 WHERE release = ?1 AND script = ?2 AND number = ?3",
            )?
            .execute(params![
                signed(id.0),
                at.script,
                signed(at.number),
                state,
                signed(rows),
                note
            ])
        })?;
        Ok(())
    }

    /// How many statements of a release are in each state: (begun, done).
    pub fn statements(&self, id: ReleaseId) -> Result<(u64, u64), StoreError> {
        self.ask(|conn| {
            conn.query_row(
                "SELECT count(*) FILTER (WHERE state <> 'undone'),
                        count(*) FILTER (WHERE state = 'done')
                 FROM statement WHERE release = ?1",
                [signed(id.0)],
                |row| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?))),
            )
        })
    }

    /// Statements of a release whose end nobody wrote down.
    pub fn unfinished_statements(&self, id: ReleaseId) -> Result<Vec<Unfinished>, StoreError> {
        self.ask(|conn| {
            conn.prepare(
                "SELECT script, number, connection_id FROM statement
                 WHERE release = ?1 AND state = 'intent'",
            )?
            .query_map([signed(id.0)], |row| {
                Ok(Unfinished {
                    script: row.get(0)?,
                    number: unsigned(row.get(1)?),
                    connection_id: row.get::<_, Option<i64>>(2)?.map(unsigned),
                })
            })?
            .collect()
        })
    }

    /// Writes down that the database is as it was before the statements of this release.
    pub fn statements_undone(&mut self, id: ReleaseId) -> Result<(), StoreError> {
        self.together(|conn| {
            conn.execute(
                "UPDATE statement SET state = 'undone' WHERE release = ?1",
                [signed(id.0)],
            )?;
            conn.execute("DELETE FROM script WHERE release = ?1", [signed(id.0)])
        })?;
        Ok(())
    }

    /// Writes down that a script ran to its end.
    pub fn script_applied(
        &self,
        id: ReleaseId,
        name: &str,
        hash: &Hash,
        raw_hash: &Hash,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        self.ask(|conn| {
            conn.execute(
                "INSERT OR REPLACE INTO script (name, hash, raw_hash, release, applied)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![name, hash.to_string(), raw_hash.to_string(), signed(id.0), now.0],
            )
        })?;
        Ok(())
    }

    /// The newest run of the script called `name`, if production has had it and still has: a
    /// rollback with its data takes the scripts of the undone release with it.
    pub fn script(&self, name: &str) -> Result<Option<Applied>, StoreError> {
        let row = self.ask(|conn| {
            conn.query_row(
                "SELECT hash, raw_hash, release FROM script AS ran WHERE name = ?1
                   AND NOT EXISTS (
                     SELECT 1 FROM release AS back JOIN production ON production.release = back.id
                     WHERE json_extract(back.plan, '$.source.undoes') = 'r' || ran.release
                       AND json_extract(back.plan, '$.source.with_data'))
                 ORDER BY release DESC LIMIT 1",
                [name],
                |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
                },
            )
            .optional()
        })?;
        row.map(|(hash, raw_hash, release)| {
            Ok(Applied {
                name: name.to_owned(),
                hash: hash.parse().map_err(corrupt)?,
                raw_hash: raw_hash.parse().map_err(corrupt)?,
                release: ReleaseId(unsigned(release)),
            })
        })
        .transpose()
    }
}
