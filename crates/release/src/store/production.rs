//! What production holds: the version, its whole manifest, and the last sequence it took.

use std::collections::BTreeSet;

use entracte_model::plan::{Plan, ReleaseId};
use entracte_model::record::{Base, Named};
use entracte_model::{Hash, Manifest, UnixMs, Version};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Store, StoreError, corrupt, signed, unsigned};

/// What production holds since a release, or since it was first taken as it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Production {
    /// The release that put it there, r0 for the first look.
    pub release: ReleaseId,
    /// Its version and the hash of its whole tree.
    pub base: Base,
    /// The highest sequence that was ever taken.
    pub sequence: u64,
    /// Since when.
    pub since: UnixMs,
}

impl Store {
    /// What production holds now; nothing before the first look.
    pub fn production(&self) -> Result<Option<Production>, StoreError> {
        let row = self.ask(|conn| {
            conn.query_row(
                "SELECT release, version, manifest, since,
                        (SELECT max(sequence) FROM production)
                 FROM production ORDER BY release DESC LIMIT 1",
                [],
                |row| {
                    Ok((
                        row.get::<_, i64>(0)?,
                        row.get::<_, String>(1)?,
                        row.get::<_, String>(2)?,
                        row.get::<_, i64>(3)?,
                        row.get::<_, i64>(4)?,
                    ))
                },
            )
            .optional()
        })?;
        row.map(|(release, version, manifest, since, sequence)| {
            Ok(Production {
                release: ReleaseId(unsigned(release)),
                base: Base {
                    version: version.parse::<Version>().map_err(corrupt)?,
                    manifest: manifest.parse::<Hash>().map_err(corrupt)?,
                },
                sequence: unsigned(sequence),
                since: UnixMs(since),
            })
        })
        .transpose()
    }

    /// Takes production as it stands for `base`. Only before the first release.
    pub fn baseline(
        &mut self,
        base: &Base,
        manifest: &Manifest,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        self.keep_manifest(manifest)?;
        self.together(|conn| {
            conn.execute("DELETE FROM production WHERE release = 0", [])?;
            conn.execute(
                "INSERT INTO production (release, version, manifest, sequence, since)
                 VALUES (0, ?1, ?2, 0, ?3)",
                params![base.version.to_string(), base.manifest.to_string(), now.0],
            )
        })?;
        Ok(())
    }

    /// Takes production as it stands, under the version that it has: a person adopted what was
    /// changed by hand.
    pub fn adopt(&mut self, base: &Base, manifest: &Manifest) -> Result<(), StoreError> {
        self.keep_manifest(manifest)?;
        self.together(|conn| {
            conn.execute(
                "UPDATE production SET manifest = ?2
                 WHERE version = ?1 AND release = (SELECT max(release) FROM production)",
                params![base.version.to_string(), base.manifest.to_string()],
            )
        })?;
        Ok(())
    }

    /// Notes which change fragments a release announces.
    pub fn keep_fragments(&mut self, id: ReleaseId, fragments: &[Named]) -> Result<(), StoreError> {
        self.together(|conn| {
            for fragment in fragments {
                conn.execute(
                    "INSERT OR REPLACE INTO fragment (release, name, hash) VALUES (?1, ?2, ?3)",
                    params![signed(id.0), fragment.name.as_str(), fragment.hash.to_string()],
                )?;
            }
            Ok(())
        })
    }

    /// The hashes of all fragments told by a release that reached production and was not rolled
    /// back.
    pub fn consumed_fragments(&self) -> Result<BTreeSet<Hash>, StoreError> {
        let hashes: Vec<String> = self.ask(|conn| {
            conn.prepare(
                "SELECT hash FROM fragment JOIN production USING (release)
                 WHERE NOT EXISTS (
                   SELECT 1 FROM release AS back JOIN production AS p ON p.release = back.id
                   WHERE json_extract(back.plan, '$.source.undoes') = 'r' || fragment.release)",
            )?
            .query_map([], |row| row.get(0))?
            .collect()
        })?;
        hashes.iter().map(|hash| hash.parse().map_err(corrupt)).collect()
    }

    /// Keeps a manifest, to be found by its hash.
    pub fn keep_manifest(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let json = serde_json::to_string(manifest).map_err(corrupt)?;
        self.ask(|conn| {
            conn.execute(
                "INSERT OR IGNORE INTO manifest (hash, json) VALUES (?1, ?2)",
                [manifest.hash().to_string(), json],
            )
        })?;
        Ok(())
    }

    /// The manifest with this hash, which must have been kept.
    pub fn manifest(&self, hash: &Hash) -> Result<Manifest, StoreError> {
        let json: Option<String> = self.ask(|conn| {
            conn.query_row("SELECT json FROM manifest WHERE hash = ?1", [hash.to_string()], |row| {
                row.get(0)
            })
            .optional()
        })?;
        let json = json.ok_or_else(|| corrupt(format!("manifest {hash} is not kept")))?;
        let manifest: Manifest = serde_json::from_str(&json).map_err(corrupt)?;
        if manifest.hash() != *hash {
            return Err(corrupt(format!("manifest {hash} was edited")));
        }
        Ok(manifest)
    }
}

/// What the reopening of a release means for production, in the transaction of its journal entry.
pub(super) fn set(conn: &Connection, plan: &Plan, now: UnixMs) -> rusqlite::Result<()> {
    conn.execute(
        "INSERT OR REPLACE INTO production (release, version, manifest, sequence, since)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            signed(plan.id.0),
            plan.to.version.to_string(),
            plan.to.manifest.to_string(),
            signed(plan.sequence),
            now.0
        ],
    )?;
    Ok(())
}
