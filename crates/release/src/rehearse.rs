//! Rehearsal: the scripts and the way back, on a restored copy of production's newest backup.
//!
//! It runs in a private instance that cannot reach the live database, and proves three things at
//! once: the backup restores, the scripts run, and the way back is exact.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use entracte_backup::Repository;
use entracte_db::{Database, Settings, StatementAt, StatementLog, scratch};
use entracte_model::UnixMs;
use entracte_model::journal::Fault;
use entracte_model::way::Wish;
use entracte_package::archive::Archive;
use serde::{Deserialize, Serialize};

use crate::clock::now;
use crate::fault::{Doing, broken, chain, refused};
use crate::smoke::{Check, HttpCheck, Jar, Tester};
use crate::steps::{way, way_named};
use crate::store::{Store, StoreError};
use crate::target::Target;

mod game;

pub use game::Serve;

/// What a rehearsal found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// The version that was rehearsed.
    pub version: String,
    /// When.
    pub at: UnixMs,
    /// The backup that it ran on, shortened id.
    pub snapshot: String,
    /// The age of that backup, in milliseconds.
    pub snapshot_age_ms: u64,
    /// How long the restore took, in milliseconds.
    pub restore_ms: u64,
    /// How long the scripts took, in milliseconds.
    pub migrate_ms: u64,
    /// How long the rollback point took, in milliseconds.
    pub point_ms: u64,
    /// How long the way back took, in milliseconds.
    pub way_back_ms: u64,
    /// How many statements ran.
    pub statements: u64,
    /// Tables that the scripts touched.
    pub touched: Vec<String>,
    /// How the rollback point was taken, for people.
    #[serde(default)]
    pub point_way: String,
    /// Its size in bytes.
    #[serde(default)]
    pub point_bytes: u64,
    /// How long was spent on it while the game would still have run, in milliseconds.
    #[serde(default)]
    pub prepare_ms: u64,
    /// The statements that took longest, the longest first.
    #[serde(default)]
    pub slowest: Vec<Slow>,
    /// How many smoke tests passed on the new version.
    #[serde(default)]
    pub smoke: u64,
    /// How many of them were pages of the new version, which ran on the private database.
    #[serde(default)]
    pub smoke_pages: u64,
    /// How many smoke tests were left out: commands, and pages where nothing says how to start
    /// the game.
    #[serde(default)]
    pub smoke_left_out: u64,
}

/// A statement and its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slow {
    /// Its script.
    pub script: String,
    /// The line in which it begins.
    pub line: u64,
    /// Its beginning.
    pub sql: String,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// How many of the slowest statements are kept.
const SLOWEST_MAX: usize = 5;

/// What a rehearsal reports while it goes on.
pub type Say<'a> = &'a mut dyn FnMut(&str);

/// Rehearses a package on the newest backup of the database, in the folder `dir`.
pub fn rehearse(
    target: &Target,
    store: &Store,
    archive: &Archive,
    dir: &Path,
    say: Say<'_>,
) -> Result<Rehearsal, Fault> {
    let Some(settings) = &target.database else {
        return Err(refused("the target has no database: there is nothing to rehearse"));
    };
    let version = archive.record().version.to_string();
    let backup = &target.backup;
    let repository = Repository::open(&backup.repository, &backup.password_file)
        .doing("opening the backup repository")
        .map_err(|fault| fault.hint("`entracte backup now` takes the first backup"))?;
    let snapshots = repository.list().doing("listing the backups")?;
    let newest = snapshots
        .iter()
        .filter(|snapshot| snapshot.kind == entracte_backup::Kind::Database)
        .max_by_key(|snapshot| snapshot.time)
        .ok_or_else(|| {
            refused("there is no backup of the database yet")
                .hint("take one: `entracte backup now`")
        })?;
    say(&format!("restoring backup {} into a private instance", newest.short));
    let instance = scratch::start(settings, dir).doing("starting a private database")?;
    apart(settings, instance.settings())?;
    say("the private instance has no network and no way to the live database");
    for note in instance.notes() {
        say(note);
    }
    let mut database =
        entracte_db::open(instance.settings()).doing("opening the private database")?;
    let began = Instant::now();
    restore(&repository, &newest.id, &mut *database)?;
    let restore_ms = elapsed_ms(began);
    let before = database.sums().doing("reading the restored tables")?;

    let point_dir = dir.join("point");
    std::fs::create_dir_all(&point_dir).doing("making the rollback point's folder")?;
    if let Some(way) = target.point {
        // Preferred, not insisted on: the private instance keeps no log, say.
        database.wish_for(Wish::Prefer(way));
    }
    let began = Instant::now();
    let prepared = database.prepare_point(&point_dir, &mut |_| {});
    prepared.doing("preparing the rollback point")?;
    let prepare_ms = elapsed_ms(began);
    let began = Instant::now();
    let point = database.take_point(&point_dir, &mut |_| {}).doing("taking the rollback point")?;
    let point_ms = elapsed_ms(began);
    if let Some(asked) = target.point.filter(|asked| way_named(way(&point)) != Some(*asked)) {
        say(&format!(
            "the way that the configuration asks for ({asked}) is not open on the private instance: \
             rehearsed with {}",
            way(&point)
        ));
    }

    let scripts_dir = dir.join("scripts");
    std::fs::create_dir_all(&scripts_dir).doing("making the scripts' folder")?;
    let scripts: Vec<entracte_db::Script> = archive
        .unpack_scripts(&scripts_dir)
        .doing("reading the scripts")?
        .into_iter()
        .filter(|(name, _)| !matches!(store.script(name), Ok(Some(_))))
        .map(|(name, path)| entracte_db::Script::file(name, path).with(&target.placeholders))
        .collect();
    say(&format!("running {} scripts", scripts.len()));
    let began = Instant::now();
    let mut times = Times::default();
    let done = database
        .run_scripts(&scripts, &mut times, &AtomicBool::new(false), &mut |_| {})
        .map_err(|error| {
            broken("the scripts fail on a copy of production", &error)
                .hint("production was not touched; mend the script and pack again")
        })?;
    let migrate_ms = elapsed_ms(began);
    let after = database.sums().doing("reading the changed tables")?;
    let touched = before.differences(&after);
    let smoke = {
        let game = game::start(target, store, archive, instance.settings(), dir)?;
        if let Some(game) = &game {
            say(&format!("the new version runs at {} on the private database", game.url));
        }
        smoke(target, &version, game.as_ref(), &mut *database)?
    };

    say("going back");
    let began = Instant::now();
    database.restore_point(&point, &mut |_| {}).doing("going back")?;
    let way_back_ms = elapsed_ms(began);
    let back = database.sums().doing("reading the tables again")?;
    let different = before.differences(&back);
    if !different.is_empty() {
        let message = format!("the way back is not exact: {}", different.join("; "));
        return Err(refused(message).hint("do not deploy this; production was not touched"));
    }
    let rehearsal = Rehearsal {
        version,
        at: now(),
        snapshot: newest.short.clone(),
        snapshot_age_ms: now().since(newest.time),
        restore_ms,
        migrate_ms,
        point_ms,
        way_back_ms,
        statements: done.scripts.iter().map(|script| script.statements).sum(),
        touched,
        point_way: way(&point).to_owned(),
        point_bytes: point.bytes,
        prepare_ms,
        slowest: times.slowest(),
        smoke: smoke.passed,
        smoke_pages: smoke.pages,
        smoke_left_out: smoke.left_out,
    };
    keep(store, &rehearsal)?;
    Ok(rehearsal)
}

/// Sees that the rehearsal does not take place on the live database.
fn apart(live: &Settings, private: &Settings) -> Result<(), Fault> {
    let same = match (live, private) {
        (Settings::Sqlite(live), Settings::Sqlite(private)) => live.path == private.path,
        (Settings::Mariadb(live), Settings::Mariadb(private)) => {
            // A private instance is reached by its own socket only.
            private.socket.is_none() || private.host.is_some() || live.socket == private.socket
        }
        (Settings::Postgres(live), Settings::Postgres(private)) => {
            private.socket_dir.is_none()
                || private.host.is_some()
                || live.socket_dir == private.socket_dir
        }
        _ => true,
    };
    if same {
        return Err(refused("the private database is not apart from the live one")
            .hint("nothing was run; this is a defect of entracte, please report it"));
    }
    Ok(())
}

/// How the smoke tests went.
#[derive(Default)]
struct Smoked {
    passed: u64,
    pages: u64,
    left_out: u64,
}

/// The smoke tests on the new version, in their order and with the cookies of one player: pages
/// where the game runs here, and questions to the database. Commands are left out: they are written
/// for production's machine, and may act on it.
fn smoke(
    target: &Target,
    version: &str,
    game: Option<&game::Game>,
    database: &mut (dyn Database + 'static),
) -> Result<Smoked, Fault> {
    let tester = Tester {
        base_url: game.map_or("", |game| &game.url),
        pass: None,
        dir: game.map_or(&target.root, |game| &game.root),
        timeout_ms: target.hooks.timeout_ms,
        version,
    };
    let (mut smoked, mut jar) = (Smoked::default(), Jar::default());
    for check in &target.smoke {
        let page = matches!(check, Check::Http(_));
        if matches!(check, Check::Command(_)) || (page && game.is_none()) {
            smoked.left_out += 1;
            continue;
        }
        tester.check(&unhurried(check), &mut jar, Some(&mut *database)).map_err(|error| {
            let message = format!(
                "smoke test {} fails on a copy of production: {}",
                check.name(),
                chain(&error)
            );
            refused(message)
                .hint("production was not touched; mend the new version, its scripts or the test")
        })?;
        smoked.passed += 1;
        smoked.pages += u64::from(page);
    }
    Ok(smoked)
}

/// A check without its time limit: that is meant for production's own server, not for this one.
fn unhurried(check: &Check) -> Check {
    match check {
        Check::Http(page) => Check::Http(HttpCheck { within_ms: None, ..page.clone() }),
        other => other.clone(),
    }
}

/// The last rehearsal of a version, if there was one.
pub fn last(store: &Store, version: &str) -> Result<Option<Rehearsal>, StoreError> {
    let kept = store.setting(&format!("rehearsal {version}"))?;
    Ok(kept.and_then(|json| serde_json::from_str(&json).ok()))
}

fn keep(store: &Store, rehearsal: &Rehearsal) -> Result<(), Fault> {
    let json = serde_json::to_string(rehearsal).doing("writing the rehearsal down")?;
    store
        .set_setting(&format!("rehearsal {}", rehearsal.version), Some(&json))
        .doing("writing the rehearsal down")
}

/// Streams a dump out of the repository and into a database.
pub fn restore(
    repository: &Repository,
    id: &str,
    database: &mut dyn Database,
) -> Result<(), Fault> {
    let (mut reader, mut writer) = std::io::pipe().doing("making a pipe")?;
    std::thread::scope(|scope| {
        let source = scope.spawn(move || repository.restore_stream(id, &mut writer, &mut |_| {}));
        let loaded = database.load(&mut reader, &mut |_| {}).doing("loading the dump");
        // A loader that failed leaves a writer behind that waits for a reader.
        drop(reader);
        let read = source
            .join()
            .map_err(|_| refused("the reader of the backup died"))?
            .doing("reading the backup");
        loaded.and_then(|()| read.map(|_| ()))
    })
}

fn elapsed_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The times of the statements; a rehearsal has no journal, its instance is thrown away.
#[derive(Default)]
struct Times {
    began: Option<Instant>,
    all: Vec<Slow>,
}

impl Times {
    fn slowest(mut self) -> Vec<Slow> {
        self.all.sort_by_key(|slow| std::cmp::Reverse(slow.ms));
        self.all.truncate(SLOWEST_MAX);
        self.all
    }

    fn end(&mut self, at: &StatementAt) {
        let ms = self.began.take().map_or(0, elapsed_ms);
        // Never many at a time, however long the scripts are.
        if self.all.len() >= SLOWEST_MAX * 2 {
            self.all.sort_by_key(|slow| std::cmp::Reverse(slow.ms));
            self.all.truncate(SLOWEST_MAX);
        }
        let (script, line, sql) = (at.script.clone(), at.line, at.sql.clone());
        self.all.push(Slow { script, line, sql, ms });
    }
}

impl StatementLog for Times {
    fn intent(&mut self, _: &StatementAt) -> Result<(), String> {
        self.began = Some(Instant::now());
        Ok(())
    }
    fn done(&mut self, at: &StatementAt, _: u64, _: &[String]) -> Result<(), String> {
        self.end(at);
        Ok(())
    }
    fn failed(&mut self, at: &StatementAt, _: &str) -> Result<(), String> {
        self.end(at);
        Ok(())
    }
}
