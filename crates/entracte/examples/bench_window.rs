//! Closed time of a release with SQL: a careful admin by hand, then us, under the same players.

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::process::{Command, ExitCode};

use common::{Account, Site, said};
use entracte_testbed::nginx::ADMIN_HEADER;
use entracte_testbed::players::{self, Load, Players};
use entracte_testbed::taverne::Options;

/// How many times shorter the game should be closed than by hand, at 1 GB.
const GOAL: f64 = 20.0;
/// Requests a second while both sides work.
const REQUESTS_PER_S: f64 = 50.0;

/// What one side did.
struct Side {
    closed_ms: u64,
    /// As the players saw it: from the first maintenance page to the first answer of the game.
    seen_ms: Option<u64>,
    parts: Vec<String>,
    lost: usize,
    missing: usize,
}

fn main() -> ExitCode {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let sizes: &[(u32, u32, u32)] = match quick {
        true => &[(2_000, 5, 3)],
        false => &[(2_000, 5, 3), (10_000, 10, 50), (60_000, 10, 60)],
    };
    println!(
        "| database | by hand, closed | us, closed | times shorter | players saw, by hand | players saw, us |"
    );
    println!("|---|---|---|---|---|---|");
    let mut last = 0.0;
    let mut details = Vec::new();
    for (players, ledger_per_player, messages_per_player) in sizes {
        let options = Options {
            players: *players,
            ledger_per_player: *ledger_per_player,
            messages_per_player: *messages_per_player,
            ..Options::default()
        };
        let (bytes, hand) = by_hand(&options);
        let ours = entracte(&options);
        assert_eq!(
            (hand.lost, hand.missing, ours.lost, ours.missing),
            (0, 0, 0, 0),
            "requests or rows were lost"
        );
        last = hand.closed_ms as f64 / ours.closed_ms.max(1) as f64;
        let seen = |side: &Side| side.seen_ms.map_or("-".to_owned(), |ms| format!("{ms} ms"));
        println!(
            "| {:.0} MB | {} ms | {} ms | {last:.1} | {} | {} |",
            bytes as f64 / 1e6,
            hand.closed_ms,
            ours.closed_ms,
            seen(&hand),
            seen(&ours)
        );
        details.push((bytes, hand.parts, ours.parts));
    }
    for (bytes, hand, ours) in details {
        println!("\n{:.0} MB, by hand:\n  {}", bytes as f64 / 1e6, hand.join("\n  "));
        println!("{:.0} MB, us:\n  {}", bytes as f64 / 1e6, ours.join("\n  "));
    }
    let met = last >= GOAL;
    println!("bench window: {last:.1} (goal {GOAL}) {}", if met { "ok" } else { "short" });
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The careful admin: maintenance page, dump, copy, SQL, reload, smoke tests, page away.
fn by_hand(options: &Options) -> (u64, Side) {
    let site = Site::start_undumped(options, Account::Administrator);
    let taverne = &site.taverne;
    let players =
        Players::start(&taverne.url, &Load::new(30, REQUESTS_PER_S)).expect("players come in");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/by-hand.sh");
    let output = Command::new("bash")
        .arg(script)
        .arg("release")
        .env("DOCROOT", &taverne.docroot)
        .env("NEW_TREE", taverne.tree("1.1"))
        .env("BACKUP_DIR", taverne.dir().join("by-hand"))
        .env("DEFAULTS_FILE", &taverne.database.defaults_file)
        .env("DATABASE", &taverne.database.name)
        .env("URL", &taverne.url)
        .env("VERSION", "1.1.0")
        .env("MAINTENANCE_FLAG", taverne.nginx.maintenance_flag())
        .env("PASS_HEADER", format!("{}: {}", ADMIN_HEADER.0, ADMIN_HEADER.1))
        .env("RELOAD", &taverne.reload_command)
        .env("WORKERS_STOP", &taverne.workers_stop)
        .env("WORKERS_START", &taverne.workers_start)
        .output()
        .expect("bash runs");
    let text = said(&output);
    assert!(output.status.success(), "by hand:\n{text}");
    let closed = text.lines().find_map(|line| line.strip_prefix("closed_ms "));
    let closed_ms =
        closed.and_then(|ms| ms.trim().parse().ok()).expect("by-hand.sh says closed_ms");
    let bytes = database_bytes(&site);
    (bytes, side(&site, players, closed_ms, text.lines().map(str::to_owned).collect()))
}

/// The same release by one command.
fn entracte(options: &Options) -> Side {
    let site = Site::start_undumped(options, Account::Administrator);
    let players =
        Players::start(&site.url, &Load::new(30, REQUESTS_PER_S)).expect("players come in");
    site.check_out("1.1");
    site.ok(&["pack", "1.1"]);
    let text = site.ok(&["deploy", "1.1", "--yes"]);
    let history = site.json(&["history"]);
    let closed_ms = history[0]["closed_ms"].as_u64().expect("the release closed the game");
    let parts = text.lines().filter(|line| line.contains('✓')).map(|line| line.trim().to_owned());
    let parts = parts.collect();
    side(&site, players, closed_ms, parts)
}

fn side(site: &Site, players: Players, closed_ms: u64, parts: Vec<String>) -> Side {
    let played = players.stop();
    let missing = players::missing(&mut site.taverne.connection(), &played.oks).len();
    Side { closed_ms, seen_ms: played.closed_ms, parts, lost: played.lost().len(), missing }
}

fn database_bytes(site: &Site) -> u64 {
    use mysql::prelude::Queryable;
    let query = format!(
        "SELECT CAST(sum(data_length + index_length) AS UNSIGNED) FROM information_schema.tables \
         WHERE table_schema = '{}'",
        site.taverne.database.name
    );
    site.taverne.mariadb.root().query_first(query).ok().flatten().unwrap_or(0)
}
