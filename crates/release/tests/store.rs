//! The store: what is written survives, what was edited is noticed, nothing is queued twice.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

use std::path::PathBuf;

use entracte_db::StatementAt;
use entracte_model::journal::{Event, Fault, FaultKind, Outcome};
use entracte_model::plan::{FORMAT, Plan, Planned, Range, ReleaseId, Source, Step, StepId};
use entracte_model::record::{Base, Named};
use entracte_model::{Hash, Manifest, UnixMs};
use entracte_release::store::Queued;
use entracte_release::{Store, StoreError};
use tempfile::TempDir;

fn store() -> (TempDir, PathBuf, Store) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.sqlite");
    let store = Store::open(&path).unwrap();
    (dir, path, store)
}

fn base(version: &str) -> Base {
    Base { version: version.parse().unwrap(), manifest: Manifest::default().hash() }
}

fn plan(id: u64) -> Plan {
    let steps = [Step::Preflight {}, Step::Switch {}, Step::Reopen {}];
    Plan {
        format: FORMAT,
        id: ReleaseId(id),
        project: "taverne".into(),
        environment: "production".into(),
        from: Some(base("1.0")),
        to: base("1.1"),
        sequence: 4,
        source: Source::Package { archive: "p".into() },
        scripts: vec![],
        steps: steps.map(|step| Planned { step, expected: Range::default() }).to_vec(),
        closed: Range::default(),
        point: None,
    }
}

fn done(step: usize) -> Event {
    Event::Done { step: StepId(step), receipt: serde_json::Value::Null }
}

#[test]
fn releases_are_counted_and_their_journals_come_back_in_order() {
    let (_dir, path, mut store) = store();
    assert_eq!(store.next_release().unwrap(), ReleaseId(1));
    store.create_release(&plan(1), UnixMs(5), None).unwrap();
    for step in 0..3 {
        store.append(&plan(1), UnixMs(6), &done(step)).unwrap();
    }
    drop(store);
    let store = Store::open(&path).unwrap();
    let entries = store.entries(ReleaseId(1), 0).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(entries[1].event, done(1));
    assert_eq!(store.entries(ReleaseId(1), 2).unwrap().len(), 1);
    assert_eq!(store.next_release().unwrap(), ReleaseId(2));
}

#[test]
fn an_edited_or_removed_entry_breaks_the_chain() {
    for edit in [
        "UPDATE journal SET event = replace(event, 'done', 'dome') WHERE seq = 2",
        "UPDATE journal SET at = at + 1 WHERE seq = 1",
        "DELETE FROM journal WHERE seq = 2",
        "UPDATE release SET plan = replace(plan, '1.1.0', '1.2.0')",
    ] {
        let (_dir, path, mut store) = store();
        store.create_release(&plan(1), UnixMs(5), None).unwrap();
        for step in 0..3 {
            store.append(&plan(1), UnixMs(6), &done(step)).unwrap();
        }
        store.verify_chain(ReleaseId(1)).unwrap();
        rusqlite::Connection::open(&path).unwrap().execute_batch(edit).unwrap();
        let found = store.verify_chain(ReleaseId(1));
        assert!(matches!(found, Err(StoreError::Corrupt { .. })), "{edit} was not noticed");
    }
}

#[test]
fn the_reopening_makes_production_what_was_released_and_only_the_reopening() {
    let (_dir, _, mut store) = store();
    store.baseline(&base("1.0"), &Manifest::default(), UnixMs(1)).unwrap();
    store.create_release(&plan(1), UnixMs(5), None).unwrap();
    store.append(&plan(1), UnixMs(6), &done(1)).unwrap();
    assert_eq!(store.production().unwrap().unwrap().base.version, "1.0".parse().unwrap());
    store.append(&plan(1), UnixMs(7), &done(2)).unwrap();
    let production = store.production().unwrap().unwrap();
    assert_eq!(production.base.version, "1.1".parse().unwrap());
    assert_eq!((production.release, production.sequence), (ReleaseId(1), 4));
}

#[test]
fn a_finished_release_is_no_longer_unfinished() {
    let (_dir, _, mut store) = store();
    store.create_release(&plan(1), UnixMs(5), None).unwrap();
    assert_eq!(store.unfinished().unwrap().unwrap().id, ReleaseId(1));
    let fault = Fault::new(FaultKind::Broken, "broken");
    let outcome = Outcome::TakenBack { fault };
    store.append(&plan(1), UnixMs(6), &Event::Finished { outcome: outcome.clone() }).unwrap();
    assert_eq!(store.unfinished().unwrap(), None);
    assert_eq!(store.release(ReleaseId(1)).unwrap().outcome, Some(outcome));
}

#[test]
fn only_a_release_that_has_not_begun_can_be_called_off() {
    let (_dir, _, mut store) = store();
    store.create_release(&plan(1), UnixMs(5), Some(UnixMs(9))).unwrap();
    store.append(&plan(1), UnixMs(6), &done(0)).unwrap();
    assert!(!store.forget_unbegun(ReleaseId(1)).unwrap());
    let (_dir, _, mut store) = self::store();
    store.create_release(&plan(1), UnixMs(5), Some(UnixMs(9))).unwrap();
    assert!(store.forget_unbegun(ReleaseId(1)).unwrap());
    assert_eq!(store.unfinished().unwrap(), None);
}

#[test]
fn fragments_count_as_told_once_their_release_is_in_production() {
    let (_dir, _, mut store) = store();
    let fragment = Named { name: "market.md".parse().unwrap(), size: 1, hash: Hash::of(b"m") };
    store.create_release(&plan(1), UnixMs(5), None).unwrap();
    store.keep_fragments(ReleaseId(1), std::slice::from_ref(&fragment)).unwrap();
    assert!(store.consumed_fragments().unwrap().is_empty());
    store.append(&plan(1), UnixMs(7), &done(2)).unwrap();
    assert_eq!(store.consumed_fragments().unwrap(), [fragment.hash].into());
}

#[test]
fn statements_are_known_from_their_intent_on_and_forgotten_when_undone() {
    let (_dir, _, mut store) = store();
    store.create_release(&plan(1), UnixMs(5), None).unwrap();
    let at = |number| StatementAt {
        script: "010-market.sql".into(),
        number,
        line: number,
        offset: 0,
        sql: "ALTER TABLE players".into(),
        connection_id: Some(40 + number),
    };
    let id = ReleaseId(1);
    store.statement_intent(id, &at(1)).unwrap();
    store.statement_end(id, &at(1), true, 7, "").unwrap();
    store.statement_intent(id, &at(2)).unwrap();
    assert_eq!(store.statements(id).unwrap(), (2, 1));
    let open = store.unfinished_statements(id).unwrap();
    assert_eq!((open.len(), open[0].number, open[0].connection_id), (1, 2, Some(42)));
    store
        .script_applied(id, "010-market.sql", &Hash::of(b"n"), &Hash::of(b"r"), UnixMs(9))
        .unwrap();
    assert!(store.script("010-market.sql").unwrap().is_some());
    store.statements_undone(id).unwrap();
    assert_eq!(store.statements(id).unwrap(), (0, 0));
    assert!(store.script("010-market.sql").unwrap().is_none());
    assert!(store.unfinished_statements(id).unwrap().is_empty());
}

fn queued(channel: &str) -> Queued {
    Queued {
        event: "r1/notes".into(),
        channel: channel.into(),
        language: "en".into(),
        part: 0,
        message: "{}".into(),
        expires: UnixMs(1_000),
    }
}

#[test]
fn an_announcement_is_queued_once_and_leased_once() {
    let (_dir, _, mut store) = store();
    store.queue(&queued("site"), UnixMs(10)).unwrap();
    store.queue(&queued("site"), UnixMs(11)).unwrap();
    assert_eq!(store.lease(UnixMs(9), 10).unwrap().len(), 0, "not due yet");
    assert_eq!(store.lease(UnixMs(20), 10).unwrap().len(), 1);
    assert_eq!(store.lease(UnixMs(20), 10).unwrap().len(), 0, "it is being sent");
    store.sent(&queued("site"), "delivered", UnixMs(21), Some("42"), None).unwrap();
    store.queue(&queued("site"), UnixMs(30)).unwrap();
    assert_eq!(store.lease(UnixMs(40), 10).unwrap().len(), 0, "it was delivered");
}

#[test]
fn what_a_dead_sender_left_is_repeated_only_where_that_does_no_harm() {
    let (_dir, _, mut store) = store();
    store.queue(&queued("webhook"), UnixMs(10)).unwrap();
    store.queue(&queued("chat"), UnixMs(10)).unwrap();
    assert_eq!(store.lease(UnixMs(20), 10).unwrap().len(), 2);
    assert_eq!(store.unlease(&["webhook".to_owned()]).unwrap(), 2);
    let again = store.lease(UnixMs(30), 10).unwrap();
    assert_eq!(again.iter().map(|p| p.queued.channel.as_str()).collect::<Vec<_>>(), ["webhook"]);
    let counts = store.outbox_counts().unwrap();
    assert!(counts.contains(&("unknown".to_owned(), 1)), "{counts:?}");
}

#[test]
fn a_store_of_a_newer_program_is_refused() {
    let (_dir, path, store) = store();
    drop(store);
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Newer { found: 99, .. })));
}

#[test]
fn a_manifest_is_found_by_its_hash_and_an_edited_one_is_noticed() {
    let (_dir, path, store) = store();
    let manifest = Manifest {
        entries: [("a".parse().unwrap(), entracte_model::manifest::Entry::Dir {})].into(),
    };
    store.keep_manifest(&manifest).unwrap();
    assert_eq!(store.manifest(&manifest.hash()).unwrap(), manifest);
    let edit = "UPDATE manifest SET json = replace(json, '\"a\"', '\"b\"')";
    rusqlite::Connection::open(&path).unwrap().execute_batch(edit).unwrap();
    assert!(matches!(store.manifest(&manifest.hash()), Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_rollback_gives_fragments_back_and_with_its_data_the_scripts_too() {
    for with_data in [false, true] {
        let (_dir, _, mut store) = store();
        let fragment = Named { name: "market.md".parse().unwrap(), size: 1, hash: Hash::of(b"m") };
        let id = ReleaseId(1);
        store.create_release(&plan(1), UnixMs(5), None).unwrap();
        store.keep_fragments(id, std::slice::from_ref(&fragment)).unwrap();
        store.script_applied(id, "010.sql", &Hash::of(b"n"), &Hash::of(b"r"), UnixMs(9)).unwrap();
        store.append(&plan(1), UnixMs(7), &done(2)).unwrap();

        let back = Plan { source: Source::Kept { undoes: id, with_data }, ..plan(2) };
        store.create_release(&back, UnixMs(8), None).unwrap();
        assert!(store.script("010.sql").unwrap().is_some(), "the rollback has not happened yet");
        store.append(&back, UnixMs(9), &done(2)).unwrap();
        assert_eq!(store.script("010.sql").unwrap().is_none(), with_data);
        assert!(store.consumed_fragments().unwrap().is_empty());
    }
}

#[test]
fn a_statement_may_take_the_place_of_one_that_is_done_and_of_no_other() {
    let (_dir, _, mut store) = store();
    store.create_release(&plan(1), UnixMs(5), None).unwrap();
    let id = ReleaseId(1);
    let at = |number| StatementAt {
        script: "010-market.sql".into(),
        number,
        line: number,
        offset: 10 * number,
        sql: "INSERT INTO players".into(),
        connection_id: Some(40),
    };
    store.statement_intent(id, &at(1)).unwrap();
    store.statement_end(id, &at(1), true, 1, "").unwrap();
    store.statement_moves_on(id, 1, &at(2)).unwrap();
    assert_eq!(store.statements(id).unwrap(), (1, 0));
    assert_eq!(store.unfinished_statements(id).unwrap()[0].number, 2);
    // What is not known to have ended stays.
    store.statement_moves_on(id, 2, &at(3)).unwrap();
    assert_eq!(store.statements(id).unwrap(), (2, 0));
}

#[test]
fn a_script_that_was_declared_counts_as_run_until_a_release_runs_it() {
    let (_dir, _, mut store) = store();
    let (hash, raw) = (Hash::of(b"n"), Hash::of(b"r"));
    store.declare_script("009-it's.sql", &hash, &raw, UnixMs(4)).unwrap();
    let applied = store.script("009-it's.sql").unwrap().unwrap();
    assert_eq!((applied.hash, applied.raw_hash, applied.release), (hash, raw, None));
    assert_eq!((applied.at, applied.when().as_str()), (UnixMs(4), "was declared as run"));
    store.create_release(&plan(1), UnixMs(5), None).unwrap();
    store.script_applied(ReleaseId(1), "010-market.sql", &hash, &raw, UnixMs(9)).unwrap();
    assert_eq!(store.script_names().unwrap(), ["009-it's.sql", "010-market.sql"]);
    store.statements_undone(ReleaseId(1)).unwrap();
    assert_eq!(store.script_names().unwrap(), ["009-it's.sql"]);
}
