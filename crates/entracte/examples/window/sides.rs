//! The same release by hand and by one command, each on a server of its own with players at play.

use std::path::Path;
use std::process::Command;

use entracte_model::plan::Step;
use entracte_release::{Store, history};
use entracte_testbed::nginx::ADMIN_HEADER;
use entracte_testbed::players::{self, Load, Players};
use entracte_testbed::process::wait_until;
use entracte_testbed::taverne::{Options, Taverne};

use crate::common::{Account, Site, said};
use crate::measured::Side;

/// Players, and their requests a second, while both sides work.
const PLAYERS: usize = 30;
const REQUESTS_PER_S: f64 = 50.0;
/// Answers that there must be before a side begins.
const WARM: u64 = 100;
const WARM_MS_MAX: u64 = 60_000;

/// The careful admin: maintenance page, dump, copy, SQL, reload, smoke tests, page away.
pub fn by_hand(options: &Options) -> Side {
    let taverne = Taverne::start(options);
    let players = play(&taverne.url);
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
    let parts: Vec<(&str, u64)> = text.lines().filter_map(part_by_hand).collect();
    let seen_ms = judge(&taverne, players);
    Side::new(closed_ms, seen_ms, &parts)
}

/// A line such as `dump         1.234 s`, where that part lies in the closed time.
fn part_by_hand(line: &str) -> Option<(&'static str, u64)> {
    let mut words = line.split_whitespace();
    let part = match words.next()? {
        "close" | "workers" | "drain" => "fence",
        "dump" => "point",
        "sql" => "scripts",
        "files" | "reload" => "files",
        "smoke" => "smoke",
        "open" => "reopen",
        _ => return None,
    };
    let (whole, thousandths) = words.next()?.split_once('.')?;
    Some((part, whole.parse::<u64>().ok()? * 1_000 + thousandths.parse::<u64>().ok()?))
}

/// The same release by one command.
pub fn entracte(options: &Options) -> Side {
    let site = Site::start_undumped(options, Account::Administrator);
    let players = play(&site.url);
    site.check_out("1.1");
    site.ok(&["pack", "1.1"]);
    site.ok(&["deploy", "1.1", "--yes"]);
    let store = Store::open_to_read(&site.state.join("store.sqlite"));
    let store = store.expect("the store can be read").expect("there was a release");
    let release = store.releases(1).expect("releases").pop().expect("there was a release");
    let log = store.entries(release.id, 0).expect("a journal");
    let closed_ms = history::closed_ms(&release.plan, &log).expect("the release closed the game");
    let parts: Vec<(&str, u64)> = history::durations(&log)
        .iter()
        .filter_map(|took| Some((part(release.plan.step(took.step)?)?, took.ms)))
        .collect();
    let seen_ms = judge(&site.taverne, players);
    Side::new(closed_ms, seen_ms, &parts)
}

/// Which part a step of ours is, where it lies in the closed time.
fn part(step: Step) -> Option<&'static str> {
    match step {
        Step::Close {} => Some("fence"),
        Step::WindowCopy {} => Some("point"),
        Step::Migrate {} => Some("scripts"),
        Step::Switch {} => Some("files"),
        Step::Smoke {} => Some("smoke"),
        Step::Reopen {} => Some("reopen"),
        _ => None,
    }
}

fn play(url: &str) -> Players {
    let players = Players::start(url, &Load::new(PLAYERS, REQUESTS_PER_S));
    let players = players.expect("players come in");
    // The first requests of a new server tell of its start, not of a release.
    assert!(wait_until(WARM_MS_MAX, || players.so_far().ok >= WARM), "{:?}", players.so_far());
    players
}

/// A side that lost a request or a row has no figures.
fn judge(taverne: &Taverne, players: Players) -> Option<u64> {
    let played = players.stop();
    let missing = players::missing(&mut taverne.connection(), &played.oks);
    let lost = played.lost();
    assert!(lost.is_empty() && missing.is_empty(), "lost: {lost:?}; missing: {missing:?}");
    played.closed_ms
}
