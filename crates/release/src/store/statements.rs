//! The statement journal, outside the game's database: a restore erases what is inside.

use entracte_db::StatementAt;
use entracte_model::plan::ReleaseId;
use entracte_model::{Hash, UnixMs};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

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
    /// The release that ran it; none where it was declared as run.
    pub release: Option<ReleaseId>,
    /// When.
    pub at: UnixMs,
}

impl Applied {
    /// As it is said of the script: that it ran in a release, or was declared as run.
    pub fn when(&self) -> String {
        match self.release {
            Some(release) => format!("ran in {release}"),
            None => "was declared as run".to_owned(),
        }
    }
}

/// A script that was declared as run, as a setting keeps it.
#[derive(Serialize, Deserialize)]
struct Declared {
    hash: String,
    raw_hash: String,
    at: UnixMs,
}

/// The setting that declares a script as run.
fn declared(name: &str) -> String {
    format!("script declared {name}")
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

    /// As [`Store::statement_intent`], in the place of the statement `from`, which was done.
    pub fn statement_moves_on(
        &self,
        id: ReleaseId,
        from: u64,
        at: &StatementAt,
    ) -> Result<(), StoreError> {
        let moved = self.ask(|conn| {
            conn.prepare_cached(
                "UPDATE statement SET number = ?4, offset = ?5, excerpt = ?6, connection_id = ?7,
                   state = 'intent', rows = NULL, note = NULL
                 WHERE release = ?1 AND script = ?2 AND number = ?3 AND state = 'done'",
            )?
            .execute(params![
                signed(id.0),
                at.script,
                signed(from),
                signed(at.number),
                signed(at.offset),
                at.sql,
                at.connection_id.map(signed)
            ])
        })?;
        if moved == 1 { Ok(()) } else { self.statement_intent(id, at) }
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
    /// rollback with its data takes the scripts of the undone release with it. Else what was
    /// declared of it.
    pub fn script(&self, name: &str) -> Result<Option<Applied>, StoreError> {
        let row = self.ask(|conn| {
            conn.query_row(
                "SELECT hash, raw_hash, release, applied FROM script AS ran WHERE name = ?1
                   AND NOT EXISTS (
                     SELECT 1 FROM release AS back JOIN production ON production.release = back.id
                     WHERE json_extract(back.plan, '$.source.undoes') = 'r' || ran.release
                       AND json_extract(back.plan, '$.source.with_data'))
                 ORDER BY release DESC LIMIT 1",
                [name],
                |row| {
                    let (hash, raw): (String, String) = (row.get(0)?, row.get(1)?);
                    Ok((hash, raw, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
                },
            )
            .optional()
        })?;
        let Some((hash, raw_hash, release, at)) = row else { return self.declared(name) };
        Ok(Some(Applied {
            name: name.to_owned(),
            hash: hash.parse().map_err(corrupt)?,
            raw_hash: raw_hash.parse().map_err(corrupt)?,
            release: Some(ReleaseId(unsigned(release))),
            at: UnixMs(at),
        }))
    }

    /// The names of all scripts that ran or were declared as run, and are not taken back.
    pub fn script_names(&self) -> Result<Vec<String>, StoreError> {
        let prefix = declared("");
        let names: Vec<String> = self.ask(|conn| {
            conn.prepare(
                "SELECT name FROM script
                 UNION SELECT substr(name, ?2) FROM setting WHERE substr(name, 1, ?2 - 1) = ?1",
            )?
            .query_map(params![prefix, signed(prefix.len() as u64 + 1)], |row| row.get(0))?
            .collect()
        })?;
        let mut standing = Vec::new();
        for name in names {
            if self.script(&name)?.is_some() {
                standing.push(name);
            }
        }
        Ok(standing)
    }

    fn declared(&self, name: &str) -> Result<Option<Applied>, StoreError> {
        let Some(kept) = self.setting(&declared(name))? else { return Ok(None) };
        let kept: Declared = serde_json::from_str(&kept).map_err(corrupt)?;
        Ok(Some(Applied {
            name: name.to_owned(),
            hash: kept.hash.parse().map_err(corrupt)?,
            raw_hash: kept.raw_hash.parse().map_err(corrupt)?,
            release: None,
            at: kept.at,
        }))
    }

    /// Declares a script as run, without running it: for a database that had it before Entracte.
    pub fn declare_script(
        &self,
        name: &str,
        hash: &Hash,
        raw_hash: &Hash,
        at: UnixMs,
    ) -> Result<(), StoreError> {
        let kept = Declared { hash: hash.to_string(), raw_hash: raw_hash.to_string(), at };
        let kept = serde_json::to_string(&kept).map_err(corrupt)?;
        self.set_setting(&declared(name), Some(&kept))
    }
}
