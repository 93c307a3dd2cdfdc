//! `bench/by-hand.sh`, the admin that Entracte is compared with, does a real release and takes it back.

#![allow(clippy::unwrap_used, reason = "the helpers of tests may panic as the tests do")]

use std::path::Path;
use std::process::{Command, Output};

use entracte_testbed::nginx::ADMIN_HEADER;
use entracte_testbed::players::{self, Load, Players};
use entracte_testbed::process::wait_until;
use entracte_testbed::taverne::{Options, Taverne};

fn by_hand(game: &Taverne, what: &str, new: &str, version: &str) -> Output {
    // Workers that did not run before are not started afterwards.
    let workers = |command: &str| if game.cron.runs() { command.to_owned() } else { String::new() };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/by-hand.sh");
    Command::new("bash")
        .arg(script)
        .arg(what)
        .env("DOCROOT", &game.docroot)
        .env("NEW_TREE", game.tree(new))
        .env("BACKUP_DIR", game.dir().join("backup"))
        .env("DEFAULTS_FILE", &game.database.defaults_file)
        .env("DATABASE", &game.database.name)
        .env("URL", &game.url)
        .env("VERSION", version)
        .env("MAINTENANCE_FLAG", game.nginx.maintenance_flag())
        .env("PASS_HEADER", format!("{}: {}", ADMIN_HEADER.0, ADMIN_HEADER.1))
        .env("RELOAD", &game.reload_command)
        .env("WORKERS_STOP", workers(&game.workers_stop))
        .env("WORKERS_START", workers(&game.workers_start))
        .env("SMOKE_S_MAX", "10")
        .output()
        .unwrap()
}

fn said(done: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

/// The whole database as text: definitions, rows, auto-increment. Not CHECKSUM TABLE: for a table
/// with a stored generated column it differs between two tables that are equal.
fn contents(game: &Taverne) -> String {
    let done = Command::new("mariadb-dump")
        .arg(format!("--defaults-file={}", game.database.defaults_file.display()))
        .args([
            "--skip-comments",
            "--order-by-primary",
            "--skip-extended-insert",
            "--no-tablespaces",
        ])
        .args(["--routines", "--events", "--triggers", "--hex-blob"])
        .arg(&game.database.name)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", said(&done));
    String::from_utf8(done.stdout).unwrap()
}

/// The first line by which two texts differ, for a message that can be read.
fn difference(left: &str, right: &str) -> Option<(String, String)> {
    let ends = [left.lines().count(), right.lines().count()].map(|count| format!("{count} lines"));
    let line = left.lines().zip(right.lines()).find(|(left, right)| left != right);
    match line {
        Some((left, right)) => Some((left.to_owned(), right.to_owned())),
        None => (ends[0] != ends[1]).then(|| ends.into()),
    }
}

/// What the tree holds, but for what production keeps to itself.
fn tree(root: &Path) -> String {
    let command = "find . -type f ! -path './cache/*' ! -path './uploads/*' ! -name config.php -exec cksum {} + | sort -k3; \
                   find . -type d ! -path './cache*' ! -path './uploads*' | sort";
    let done = Command::new("sh").args(["-c", command]).current_dir(root).output().unwrap();
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn a_release_by_hand_works_while_players_play() {
    let game = Taverne::start(&Options { players: 300, ..Options::default() });
    let playing = Players::start(&game.url, &Load::new(10, 30.0)).unwrap();
    assert!(wait_until(30_000, || playing.so_far().ok >= 20));
    let done = by_hand(&game, "release", "1.1", "1.1.0");
    assert!(done.status.success(), "{}", said(&done));
    let last = said(&done).lines().last().unwrap().to_owned();
    let closed_ms: u64 =
        last.strip_prefix("closed_ms ").unwrap_or_else(|| panic!("{last}")).parse().unwrap();
    assert!(closed_ms > 0);

    let before = playing.so_far().ok;
    assert!(wait_until(30_000, || playing.so_far().ok > before + 20), "{:?}", playing.so_far());
    let played = playing.stop();
    assert!(played.pages() > 0 && played.closed_ms.is_some());
    assert!(played.lost().is_empty(), "{:?}", played.lost());
    let mut db = game.connection();
    assert!(players::missing(&mut db, &played.oks).is_empty());
    assert_eq!(players::wrong_purses(&mut db), 0);
    assert_eq!(tree(&game.docroot), tree(&game.tree("1.1").join("source")));
    assert!(game.cron.runs());
}

#[test]
fn a_release_that_fails_stays_closed_and_goes_back_by_hand() {
    let game = Taverne::start(&Options { players: 300, cron: false, ..Options::default() });
    let (data, files) = (contents(&game), tree(&game.docroot));
    // 1.2 is made for 1.1; its script fails here at the same statement.
    let done = by_hand(&game, "release", "1.2", "1.2.0");
    assert!(!done.status.success());
    assert!(
        said(&done).contains("failed in: sql") && said(&done).contains(", closed"),
        "{}",
        said(&done)
    );
    assert!(game.nginx.maintenance_flag().exists());
    assert_ne!(difference(&data, &contents(&game)), None);

    let done = by_hand(&game, "back", "1.2", "1.0.0");
    assert!(done.status.success(), "{}", said(&done));
    assert!(!game.nginx.maintenance_flag().exists());
    assert_eq!(files, tree(&game.docroot));
    assert_eq!(difference(&data, &contents(&game)), None);
}
