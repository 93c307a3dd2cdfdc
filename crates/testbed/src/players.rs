//! Players of Taverne: each with a login, a connection and a mind of its own, and a memory of every
//! answer. What they remember is the judge of a release: no action that was answered "ok" may be
//! missing afterwards, and nobody may have waited longer than was promised.

mod player;
mod record;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mysql::prelude::Queryable;

use player::Player;
pub use record::{Latencies, Outcome, Played, Record};

/// How many players may be asked for: each is a thread.
pub const PLAYERS_MAX: usize = 500;
/// How many answers are remembered, over all players. Later ones only count.
pub const RECORDS_MAX: usize = 4_000_000;
/// How many request ids are looked up by one statement.
const IDS_PER_QUERY: usize = 500;

/// How many players there are, and how lively.
#[derive(Debug, Clone)]
pub struct Load {
    /// Players, at most [`PLAYERS_MAX`].
    pub players: usize,
    /// Requests a second, all players together. A player who waits for an answer asks nothing else.
    pub requests_per_s: f64,
    /// Beginning of their names, so that two loads on one game do not meet: letters and digits.
    pub name: String,
    /// The same seed makes the same players do the same things.
    pub seed: u64,
    /// Whether each says, as a trusted proxy would for it, that it comes from an address of its own:
    /// a gate bounds what one address may ask of it.
    pub apart: bool,
    /// Ids from 1 up to this belong to players whom they fight and write to.
    pub others: u32,
}

impl Load {
    /// `players` who make `requests_per_s` together.
    pub fn new(players: usize, requests_per_s: f64) -> Self {
        Self {
            players,
            requests_per_s,
            name: "Aventurier".into(),
            seed: 1,
            apart: false,
            others: 100,
        }
    }
}

/// Players at play. They stop when this is dropped.
#[derive(Debug)]
pub struct Players {
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    run: String,
    records: Mutex<Vec<Record>>,
    forgotten: AtomicU64,
    counts: [AtomicU64; Outcome::KINDS],
}

impl Shared {
    fn remember(&self, record: Record) {
        self.counts[record.outcome.index()].fetch_add(1, Ordering::Relaxed);
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() < RECORDS_MAX {
            records.push(record);
        } else {
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How the players fared until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Answered as asked.
    pub ok: u64,
    /// Refused by the rules of the game.
    pub refused: u64,
    /// Answered by a page with status 503.
    pub page: u64,
    /// Told to log in again.
    pub logged_out: u64,
    /// Answered with status 200 and the text of a PHP error.
    pub broken: u64,
    /// Not answered, or in no way that a player understands.
    pub error: u64,
}

impl Players {
    /// Registers all players with the game at `url` and lets them play. Returns when every one of
    /// them is in.
    ///
    /// # Errors
    /// Where one of them cannot register.
    ///
    /// # Panics
    /// For a load of no players or more than [`PLAYERS_MAX`].
    pub fn start(url: &str, load: &Load) -> io::Result<Self> {
        assert!(
            (1..=PLAYERS_MAX).contains(&load.players),
            "{} players: 1 to {PLAYERS_MAX} are possible",
            load.players
        );
        let run = format!("{:x}", now_ms());
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            run,
            records: Mutex::new(Vec::new()),
            forgotten: AtomicU64::new(0),
            counts: Default::default(),
        });
        let mut all = Vec::with_capacity(load.players);
        for number in 0..load.players {
            let mut player = Player::new(url, load, number, Arc::clone(&shared));
            player.register()?;
            all.push(player);
        }
        let together = Arc::new(Barrier::new(load.players));
        let interval =
            Duration::from_secs_f64(load.players as f64 / load.requests_per_s.max(0.001));
        let count = u32::try_from(load.players).expect("at most PLAYERS_MAX");
        let threads = (0u32..)
            .zip(all)
            .map(|(number, mut player)| {
                let together = Arc::clone(&together);
                let first = interval * number / count;
                thread::spawn(move || {
                    together.wait();
                    player.play(first, interval);
                })
            })
            .collect();
        Ok(Self { threads, shared })
    }

    /// How they fared until now.
    pub fn so_far(&self) -> Counts {
        let [ok, refused, page, logged_out, broken, error] = [0, 1, 2, 3, 4, 5]
            .map(|index: usize| self.shared.counts[index].load(Ordering::Relaxed));
        Counts { ok, refused, page, logged_out, broken, error }
    }

    /// Lets each finish the request it is at, and tells what they remember.
    pub fn stop(mut self) -> Played {
        self.halt();
        let records = std::mem::take(
            &mut *self.shared.records.lock().unwrap_or_else(PoisonError::into_inner),
        );
        Played::new(records, self.shared.forgotten.load(Ordering::Relaxed))
    }

    fn halt(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A player that panicked has said so on standard error; the others' records count.
            let _ = thread.join();
        }
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Which of the request ids that were answered "ok" are not in the game's ledger: what was lost.
///
/// # Panics
/// Where the database cannot be asked.
pub fn missing(db: &mut mysql::Conn, oks: &[String]) -> Vec<String> {
    let mut missing = Vec::new();
    for ids in oks.chunks(IDS_PER_QUERY) {
        let places = vec!["?"; ids.len()].join(",");
        let sql = format!("SELECT request_id FROM ledger WHERE request_id IN ({places})");
        let found: Vec<String> = db
            .exec(sql, ids.iter().map(mysql::Value::from).collect::<Vec<_>>())
            .unwrap_or_else(|error| panic!("cannot read the ledger: {error}"));
        let found: std::collections::HashSet<String> = found.into_iter().collect();
        missing.extend(ids.iter().filter(|id| !found.contains(*id)).cloned());
    }
    missing
}

/// How many players' purses differ from what their ledger says: 0 unless something was torn.
///
/// # Panics
/// Where the database cannot be asked.
pub fn wrong_purses(db: &mut mysql::Conn) -> u64 {
    db.query_first("SELECT COUNT(*) FROM wrong_purses")
        .unwrap_or_else(|error| panic!("cannot read the purses: {error}"))
        .unwrap_or_default()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
