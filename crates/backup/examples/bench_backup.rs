//! The second day of a database backup: restic on the same dump, then us; time and bytes added.
//!
//! `--quick` takes 0.1 GB in place of 1, `--gb 0.5` what is asked for, `--write` puts the table into
//! the docs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use entracte_backup::{Progress, Reason, Repository, Tags};
use entracte_testbed::bulk::{Bulk, Prepared, SERVER};
use entracte_testbed::machine;
use entracte_testbed::mariadb::Mariadb;
use entracte_testbed::taverne::{DATABASE, Options};
use mysql::prelude::Queryable;

/// The second day should take at most as long as restic's, and add no more.
const GOAL: f64 = 1.0;
/// Where the table stands in the document.
const PLACE: &str = "bench backup";

/// One backup.
struct Took {
    ms: u64,
    /// Of that, how long it took to read everything back and compare. Restic does not.
    back_ms: u64,
    added: u64,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut gb, mut write) = (1.0, false);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => gb = 0.1,
            "--write" => write = true,
            "--gb" => match args.next().and_then(|gb| gb.parse().ok()) {
                Some(asked) => gb = asked,
                None => return usage("--gb wants a number of gigabytes"),
            },
            other => return usage(&format!("{other} is not known: --quick --gb --write")),
        }
    }
    let (restic, ours) = measure(gb);
    let time = ours[1].ms as f64 / restic[1].ms.max(1) as f64;
    let bytes = ours[1].added as f64 / restic[1].added.max(1) as f64;
    let report = report(gb, &restic, &ours);
    println!("{report}");
    if write {
        let document = machine::docs().join("benchmarks.md");
        if let Err(error) = machine::write_between(&document, PLACE, &report) {
            eprintln!("bench backup: {error}");
            return ExitCode::FAILURE;
        }
    }
    let met = time <= GOAL && bytes <= GOAL;
    println!(
        "bench backup: second day {time:.2} times the time and {bytes:.2} times the bytes of restic \
         (goal {GOAL} and {GOAL}) {}",
        if met { "ok" } else { "short" }
    );
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("bench backup: {problem}");
    ExitCode::from(2)
}

fn report(gb: f64, restic: &[Took; 2], ours: &[Took; 2]) -> String {
    let row = |who: &str, took: &[Took; 2]| {
        format!(
            "| {who} | {:.1} s | {:.1} MB | {:.1} s | {:.2} MB | {:.1} % |",
            took[0].ms as f64 / 1e3,
            took[0].added as f64 / 1e6,
            took[1].ms as f64 / 1e3,
            took[1].added as f64 / 1e6,
            took[1].added as f64 * 100.0 / took[0].added.max(1) as f64
        )
    };
    format!(
        "Measured on {}; a table of {gb} GB.\n\n\
         | who | first day | stored | second day | added | of the first |\n|---|---|---|---|---|---|\n{}\n{}\n\n\
         Ours reads back and compares what it stored, in {:.1} s on the first day and {:.1} s on the second.\n",
        machine::describe(),
        row("restic", restic),
        row("us", ours),
        ours[0].back_ms as f64 / 1e3,
        ours[1].back_ms as f64 / 1e3
    )
}

fn measure(gb: f64) -> ([Took; 2], [Took; 2]) {
    let dir = tempfile::tempdir().expect("the temporary folder can be written");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "gigabytes of a disk, as bytes"
    )]
    let prepared = Prepared::make(&Options::default(), Bulk::Chronicle, (gb * 1e9) as u64);
    let data = prepared.options(&Options::default()).prepared.expect("it was just prepared");
    let server = Mariadb::start_on(&data, &SERVER);
    let dump = dump_command(server.socket());
    let theirs = Theirs::new(dir.path());
    let first = (theirs.day(&dump), our_day(dir.path(), &dump));
    let mut root = server.root();
    let change = format!(
        "UPDATE {DATABASE}.chronicle SET place = CONCAT('Rue ', id MOD 977) \
         WHERE (id * 7919) MOD 2000 = 0"
    );
    root.query_drop(change).expect("rows that change");
    let second = (theirs.day(&dump), our_day(dir.path(), &dump));
    ([first.0, second.0], [first.1, second.1])
}

/// By table in the order of the key, a row a line: the same for both.
fn dump_command(socket: &Path) -> String {
    format!(
        "mariadb-dump --no-defaults --socket='{}' --user=root --single-transaction --quick --hex-blob \
         --skip-dump-date --order-by-primary --skip-extended-insert --no-autocommit --routines \
         --events {DATABASE}",
        socket.display()
    )
}

struct Theirs {
    repository: PathBuf,
    password: PathBuf,
}

impl Theirs {
    fn new(dir: &Path) -> Self {
        let (repository, password) = (dir.join("theirs"), dir.join("their-password"));
        fs::write(&password, "a password").expect("the temporary folder can be written");
        let new = Self { repository, password };
        let made = new.restic("init").status().expect("restic runs");
        assert!(made.success(), "restic init");
        new
    }

    fn restic(&self, what: &str) -> Command {
        let mut command = Command::new("restic");
        command.arg("--repo").arg(&self.repository).arg("--password-file").arg(&self.password);
        command.args(["--no-cache", "--quiet", what]);
        command
    }

    fn day(&self, dump: &str) -> Took {
        let before = bytes_of(&self.repository);
        let began = Instant::now();
        let mut dumping = start(dump);
        let mut command = self.restic("backup");
        command.args(["--stdin", "--stdin-filename", "taverne.sql"]);
        command.stdin(dumping.stdout.take().expect("the pipe was asked for"));
        assert!(command.status().expect("restic runs").success(), "restic backup");
        assert!(dumping.wait().expect("the dump ends").success(), "mariadb-dump");
        Took { ms: since_ms(began), back_ms: 0, added: bytes_of(&self.repository) - before }
    }
}

fn our_day(dir: &Path, dump: &str) -> Took {
    let place = dir.join("ours");
    let mut repository =
        Repository::open_or_init(&place, &dir.join("our-password")).expect("a repository");
    let before = bytes_of(&place);
    let began = Instant::now();
    let tags = Tags {
        project: "taverne".into(),
        target: "production".into(),
        version: None,
        release: None,
        reason: Reason::Daily,
    };
    let mut write = |out: &mut dyn Write| pass(dump, out);
    let mut back = None;
    let mut heard = |told: Progress| {
        if told.note == "reading back" {
            back.get_or_insert_with(Instant::now);
        }
    };
    repository
        .store_stream("taverne.sql", &tags, &mut write, &mut heard)
        .unwrap_or_else(|error| panic!("our backup: {error}"));
    let back_ms = back.map_or(0, since_ms);
    Took { ms: since_ms(began), back_ms, added: bytes_of(&place) - before }
}

fn pass(dump: &str, out: &mut dyn Write) -> Result<u64, String> {
    let mut dumping = start(dump);
    let mut from = dumping.stdout.take().expect("the pipe was asked for");
    let copied = std::io::copy(&mut from, out);
    drop(from);
    let ended = dumping.wait().map_err(|error| error.to_string())?;
    let bytes = copied.map_err(|error| error.to_string())?;
    if ended.success() { Ok(bytes) } else { Err(format!("mariadb-dump: {ended}")) }
}

fn start(dump: &str) -> std::process::Child {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec {dump}")]).stdout(Stdio::piped());
    command.spawn().expect("sh runs")
}

fn since_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn bytes_of(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_of(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
