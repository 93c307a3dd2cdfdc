//! What a development machine needs to know of production, as a store of its own that can travel.

use std::path::Path;

use entracte_model::Hash;
use rusqlite::Connection;

use super::{Store, StoreError, sqlite};

/// How many of the last releases are told with their journals: what predictions are made of.
const RELEASES: u32 = 20;

impl Store {
    /// Writes an excerpt into the file at `into`, which must not be there: what production holds,
    /// scripts, fragments, settings, and the last releases. Without announcements and earlier
    /// manifests, and without the current one where it is `known` already.
    pub fn excerpt(&self, into: &Path, known: Option<&Hash>) -> Result<(), StoreError> {
        let name = into.to_string_lossy().into_owned();
        self.ask(|conn| conn.execute("VACUUM INTO ?1", [&name]))?;
        thin(into, known).map_err(|source| sqlite(into, source))
    }
}

fn thin(path: &Path, known: Option<&Hash>) -> rusqlite::Result<()> {
    let conn = Connection::open(path)?;
    conn.execute_batch("DELETE FROM outbox; DELETE FROM news; DELETE FROM statement;")?;
    conn.execute(
        "DELETE FROM manifest WHERE hash = ?1
         OR hash NOT IN (SELECT manifest FROM production ORDER BY release DESC LIMIT 1)",
        [known.map(ToString::to_string)],
    )?;
    conn.execute(
        "DELETE FROM journal WHERE release NOT IN
         (SELECT id FROM release ORDER BY id DESC LIMIT ?1)",
        [RELEASES],
    )?;
    conn.execute_batch("VACUUM")
}

#[cfg(test)]
mod tests {
    use entracte_model::record::Base;
    use entracte_model::{Manifest, UnixMs};

    use super::*;

    #[test]
    fn an_excerpt_knows_what_production_holds() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("store.sqlite")).unwrap();
        let manifest = Manifest::default();
        let base = Base { version: "1.0".parse().unwrap(), manifest: manifest.hash() };
        store.baseline(&base, &manifest, UnixMs(5)).unwrap();
        store.set_setting("freeze", Some("tournament")).unwrap();
        let all = dir.path().join("all.sqlite");
        store.excerpt(&all, None).unwrap();
        let copy = Store::open_existing(&all).unwrap();
        assert_eq!(copy.production().unwrap(), store.production().unwrap());
        assert_eq!(copy.setting("freeze").unwrap().as_deref(), Some("tournament"));
        assert_eq!(copy.manifest(&base.manifest).unwrap(), manifest);
        let less = dir.path().join("less.sqlite");
        store.excerpt(&less, Some(&base.manifest)).unwrap();
        let copy = Store::open_existing(&less).unwrap();
        assert!(copy.manifest(&base.manifest).is_err(), "what is known is not sent");
        copy.keep_manifest(&manifest).unwrap();
        assert_eq!(copy.manifest(&base.manifest).unwrap(), manifest);
    }
}
