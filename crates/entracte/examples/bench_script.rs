//! Memory of the program while it runs a script of 1 GB, on each kind of database.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has failed")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use entracte_testbed::mariadb::Mariadb;
use entracte_testbed::postgres::Postgres;

/// The memory that a run may take, in MiB.
const GOAL_MIB: f64 = 64.0;
/// The length of one `INSERT`, as mariadb-dump makes them, in bytes.
const INSERT_BYTES: usize = 1 << 20;
/// How many there are: about 1 GiB, or enough to see that memory does not grow with them.
const INSERTS: usize = 1_024;
const INSERTS_QUICK: usize = 256;
/// After so many of them the rows are deleted, so that the database stays small.
const INSERTS_KEPT: usize = 32;
/// Statements of one row at the script's end, as `pg_dump --inserts` makes them.
const SMALL_INSERTS: usize = 20_000;
/// How often the process is looked at, in milliseconds.
const LOOK_EVERY_MS: u64 = 20;

/// The program; `ENTRACTE_BIN` names another build of it.
fn program() -> PathBuf {
    std::env::var_os("ENTRACTE_BIN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/entracte"),
        PathBuf::from,
    )
}

fn main() -> ExitCode {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let dir = tempfile::Builder::new().prefix("bench-script-").tempdir().unwrap();
    let script = dir.path().join("SQL/001-big.sql");
    fs::create_dir(dir.path().join("SQL")).unwrap();
    let bytes = write_script(&script, if quick { INSERTS_QUICK } else { INSERTS });
    println!(
        "a script of {:.0} MiB: INSERTs of 1 MiB, DELETEs, {SMALL_INSERTS} INSERTs of one row",
        mib(bytes)
    );

    let mariadb = Mariadb::start();
    mariadb.create_database("big", "big", "");
    let postgres = (!quick).then(Postgres::start);
    let file = dir.path().join("big.sqlite");
    File::create(&file).unwrap();
    let mut cases = vec![
        ("sqlite", format!("engine = \"sqlite\"\npath = {file:?}\n")),
        (
            "mariadb",
            format!(
                "engine = \"mariadb\"\nsocket = {:?}\nuser = \"root\"\ndatabase = \"big\"\n",
                mariadb.socket()
            ),
        ),
    ];
    if let Some(postgres) = &postgres {
        postgres.root("postgres").batch_execute("CREATE DATABASE big").unwrap();
        cases.push((
            "postgres",
            format!(
                "engine = \"postgres\"\nsocket = {:?}\nport = {}\nuser = \"postgres\"\ndatabase = \"big\"\n",
                postgres.socket_dir(),
                postgres.port()
            ),
        ));
    }
    let mut most: f64 = 0.0;
    println!("| database | most memory | time |");
    println!("|---|---|---|");
    for (name, database) in cases {
        let config = format!("project = \"bench\"\n\n[development.database]\n{database}");
        fs::write(dir.path().join("entracte.toml"), config).unwrap();
        let began = Instant::now();
        let used = run(dir.path());
        println!("| {name} | {used:.1} MiB | {:.0} s |", began.elapsed().as_secs_f64());
        most = most.max(used);
    }
    let met = most <= GOAL_MIB;
    let verdict = if met { "ok" } else { "short" };
    println!("bench script: {most:.1} MiB (goal {GOAL_MIB:.0} MiB) {verdict}");
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The same in every run.
fn write_script(path: &Path, inserts: usize) -> u64 {
    let mut out = BufWriter::new(File::create(path).unwrap());
    writeln!(out, "CREATE TABLE big (a BIGINT, b TEXT);").unwrap();
    let filler = "the quick brown fox; 'jumps' -- over".replace('\'', "''").repeat(4);
    let mut id = 0_u64;
    let mut row = || {
        id += 1;
        format!("({id},'{filler}')")
    };
    for number in 1..=inserts {
        let mut insert = format!("INSERT INTO big VALUES {}", row());
        while insert.len() < INSERT_BYTES {
            insert += ",\n";
            insert += &row();
        }
        writeln!(out, "{insert};").unwrap();
        if number % INSERTS_KEPT == 0 {
            writeln!(out, "DELETE FROM big;").unwrap();
        }
    }
    for _ in 0..SMALL_INSERTS {
        writeln!(out, "INSERT INTO big VALUES {};", row()).unwrap();
    }
    out.flush().unwrap();
    fs::metadata(path).unwrap().len()
}

/// Runs the script by the program in `dir`; the most memory that it had at a time, in MiB.
fn run(dir: &Path) -> f64 {
    let mut child = Command::new(program())
        .args(["sql", "run"])
        .current_dir(dir)
        .env_remove("ENTRACTE_CONFIG")
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program().display()));
    let mut most = 0.0_f64;
    loop {
        most = most.max(high_water(&child).unwrap_or(0.0));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "the script failed: {status}");
            return most;
        }
        std::thread::sleep(Duration::from_millis(LOOK_EVERY_MS));
    }
}

/// The kernel's own mark of the most memory so far.
fn high_water(child: &Child) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / 1024.0)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
