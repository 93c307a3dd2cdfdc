//! The proof that nobody else writes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use entracte_db::DbError;

use crate::fixture::{Fixture, run};

const LONG: Duration = Duration::from_secs(60);

pub fn a_quiet_database_is_proven_quiet(fixture: &Fixture) {
    let mut database = fixture.seeded();
    // A session that only idles is no writer.
    let mut game = fixture.as_the_game();
    game.run("SELECT 1");
    let intent = database.fence_intent().unwrap();
    for _ in 0..2 {
        let proof = database.fence(LONG, &mut |_| {}).unwrap();
        assert!(!proof.evidence.is_empty(), "{proof:?}");
        assert_eq!(proof.locked, intent.locked);
        let text = serde_json::to_string(&proof).unwrap();
        assert_eq!(serde_json::from_str::<entracte_db::FenceProof>(&text).unwrap(), proof);
        database.unfence(Some(&proof)).unwrap();
        database.unfence(Some(&intent)).unwrap();
        database.unfence(None).unwrap();
    }
}

pub fn who_writes_is_waited_for_and_named(fixture: &Fixture) {
    let mut database = fixture.seeded();
    let mut game = fixture.as_the_game();
    game.run(fixture.either("BEGIN IMMEDIATE", "START TRANSACTION", "BEGIN"));
    game.run("UPDATE players SET gold = 5 WHERE id = 1");
    let mut said = Vec::new();
    let error = database.fence(Duration::ZERO, &mut |line| said.push(line.to_owned())).unwrap_err();
    let DbError::StillWriting { sessions, hint } = &error else { panic!("{error:?}") };
    assert!(!hint.is_empty());
    // On SQLite the writer is this very process, which names itself to nobody.
    let user = match &fixture.settings {
        entracte_db::Settings::Sqlite(_) => None,
        entracte_db::Settings::Mariadb(settings) => Some(&settings.user),
        entracte_db::Settings::Postgres(settings) => Some(&settings.user),
    };
    if let Some(user) = user {
        assert!(sessions.iter().any(|session| session.user == *user), "{error}");
    }
    database.unfence(None).unwrap();
    // It ends while it is waited for: when the waiting is told of.
    let mut game = Some(game);
    let proof = database.fence(LONG, &mut |_| {
        if let Some(mut game) = game.take() {
            game.run("COMMIT");
        }
    });
    assert!(game.is_none(), "it was waited for without a word");
    let proof = proof.unwrap();
    database.unfence(Some(&proof)).unwrap();
    let gold = database.query("SELECT gold FROM players WHERE id = 1").unwrap();
    assert!(gold[0][0].as_deref().unwrap().starts_with('5'), "{gold:?}");
}

/// A worker or a cron that nobody stopped: no transaction is open for long, and yet it writes.
pub fn a_worker_that_goes_on_is_told_of(fixture: &Fixture) {
    let mut database = fixture.seeded();
    run(&mut *database, &["CREATE TABLE ticks (n INT);"]).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut worker = fixture.as_the_game();
        let over = &over;
        scope.spawn(move || {
            while !over.load(Ordering::SeqCst) {
                worker.tick();
                // Its pace, not a wait for anything.
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let error = database.fence(Duration::from_secs(1), &mut |_| {});
        over.store(true, Ordering::SeqCst);
        let Err(DbError::StillWriting { sessions, hint }) = &error else { panic!("{error:?}") };
        assert!(hint.contains("workers"), "{hint}");
        // On SQLite the writer is this very process, which names itself to nobody.
        let user = match &fixture.settings {
            entracte_db::Settings::Sqlite(_) => return,
            entracte_db::Settings::Mariadb(settings) => &settings.user,
            entracte_db::Settings::Postgres(settings) => &settings.user,
        };
        assert!(sessions.iter().any(|session| session.user == *user), "{error:?}");
    });
    database.unfence(None).unwrap();
}
