//! Shipping an update: rsync -az, tar with zstd, and us; bytes, time and memory on both sides.

#[path = "ship/link.rs"]
mod link;
#[path = "ship/memory.rs"]
mod memory;
#[path = "ship/ours.rs"]
mod ours;
#[path = "ship/round.rs"]
mod round;
#[path = "ship/status.rs"]
mod status;
#[path = "ship/trees.rs"]
mod trees;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use link::{Line, Link};
use trees::Update;

/// Bytes on source-like updates, as a share of what rsync sends.
const GOAL_SOURCE: f64 = 0.5;
/// Bytes on assets, as a share of what rsync sends.
const GOAL_ASSETS: f64 = 1.0;
/// rsync with what makes it comparable: every file synced, as ours are.
const DURABLE: &str = "rsync -az --fsync, times kept";
/// Where `--write` puts the tables.
const MARKERS: (&str, &str) = ("<!-- bench ship -->", "<!-- /bench ship -->");

/// How often each way is measured on loopback, in turns; over the slow link once, as the link takes
/// nearly all of the time.
const ROUNDS: usize = 7;
/// More memory than any of them needs.
const WARM_BYTES: usize = 1 << 30;

/// What one way of shipping cost.
struct Cost {
    method: &'static str,
    bytes: u64,
    time: Duration,
    here_bytes: u64,
    there_bytes: u64,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.first().map(String::as_str) {
        Some("relay") => link::relay(&args[1..]),
        Some("receive") => ours::receive(&args[1..]),
        Some("send") => ours::send(&args[1..]),
        Some("phase") => round::phase(&args[1..]),
        _ => return bench(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &[String]) -> ExitCode {
    let quick = args.iter().any(|argument| argument == "--quick");
    let write = args.iter().any(|argument| argument == "--write");
    let fast_only = args.iter().any(|argument| argument == "--loopback");
    let only = args.iter().position(|argument| argument == "--only").map(|at| &args[at + 1..]);
    let wanted = |name: &str| only.is_none_or(|names| names.iter().any(|only| only == name));
    let dir = tempfile::tempdir().expect("a folder for the trees");
    let updates = trees::all(quick);
    let ships = !fast_only && updates.iter().any(|update| wanted(update.name));
    let _line = match ships.then(|| Line::start(&dir.path().join("line"))).transpose() {
        Ok(line) => line,
        Err(lacking) => {
            eprintln!("{lacking}");
            return ExitCode::FAILURE;
        }
    };
    let mut text = String::new();
    let mut verdict = Verdict::default();
    // First, as ext4 searches long for a free inode where very many were given back a moment ago.
    if wanted("round") {
        text += &round::trip(dir.path(), trees::round(quick));
    }
    if wanted("status") {
        text += &status::compare(dir.path(), trees::LOOKED_AT, &mut verdict);
    }
    let mut ways = String::new();
    for update in updates.iter().filter(|update| wanted(update.name)) {
        ways += &ship(update, dir.path(), (quick, fast_only), &mut verdict);
    }
    if !ways.is_empty() {
        const HEAD: &str = "| update | link | method | bytes | time | memory here | memory there |\n\
                            |---|---|---|---|---|---|---|\n";
        text = format!("{HEAD}{ways}\n{text}");
    }
    println!("{text}");
    if write {
        into_docs(&text);
    }
    println!(
        "bench ship: {:.2} of the bytes allowed, {:.2} of rsync's time, status {:.2} of git status \
         (goal 1.00) {}",
        verdict.bytes,
        verdict.time,
        verdict.status,
        if verdict.short() { "short" } else { "ok" }
    );
    if verdict.short() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What was reached of the goals, each as a share of what is allowed: the worst of all updates.
#[derive(Default)]
struct Verdict {
    bytes: f64,
    time: f64,
    status: f64,
}

impl Verdict {
    fn short(&self) -> bool {
        [self.bytes, self.time, self.status].iter().any(|share| *share > 1.0)
    }
}

/// One update, by every way, over every link.
fn ship(
    update: &Update,
    dir: &Path,
    (quick, fast_only): (bool, bool),
    verdict: &mut Verdict,
) -> String {
    let place = dir.join(update.name);
    update.make(&place);
    let packed = ours::packed(&place);
    let mut text = String::new();
    for link in Link::ALL {
        // Where nothing changes there is nothing that a slow link would show.
        if link == Link::Slow && (fast_only || quick && !update.changes) {
            continue;
        }
        let rounds = if link == Link::Loopback { ROUNDS } else { 1 };
        let mut costs = medians((0..rounds).map(|round| all_ways(&place, link, round)).collect());
        again(&place.join("old"), &place.join("there"));
        ours::stage_and_compare(&place, &packed, &place.join("there"));
        costs.insert(costs.len() - 1, tar(&place, link));
        for cost in &costs {
            let line = row(update, link, cost);
            eprintln!("{line}");
            text.push_str(&line);
            text.push('\n');
        }
        let (rsync, us) = (&costs[0], costs.last().expect("there are several ways"));
        // Durable as ours is: without the syncs another thing would be measured.
        let durable = costs.iter().find(|cost| cost.method == DURABLE).unwrap_or(rsync);
        let share = us.bytes as f64 / rsync.bytes.max(1) as f64;
        let goal = if update.assets { GOAL_ASSETS } else { GOAL_SOURCE };
        if update.changes {
            verdict.bytes = verdict.bytes.max(share / goal);
            let time = us.time.as_secs_f64() / durable.time.as_secs_f64();
            verdict.time = verdict.time.max(time);
        }
    }
    std::fs::remove_dir_all(&place).expect("the trees are removed");
    text
}

/// Of each way the round of the median time, with the most memory of all rounds.
fn medians(rounds: Vec<Vec<Cost>>) -> Vec<Cost> {
    let ways = rounds.first().map_or(0, Vec::len);
    let mut rounds: Vec<_> = rounds.into_iter().map(Vec::into_iter).collect();
    let median = |_| {
        let mut costs: Vec<Cost> = rounds.iter_mut().filter_map(Iterator::next).collect();
        costs.sort_by_key(|cost| cost.time);
        let most = |of: fn(&Cost) -> u64| costs.iter().map(of).max().unwrap_or(0);
        let (here_bytes, there_bytes) =
            (most(|cost| cost.here_bytes), most(|cost| cost.there_bytes));
        let times: Vec<_> =
            costs.iter().map(|cost| format!("{:.2}", cost.time.as_secs_f64())).collect();
        eprintln!("  {}: {} s", costs[0].method, times.join(" "));
        let median = costs.swap_remove(costs.len() / 2);
        Cost { here_bytes, there_bytes, ..median }
    };
    (0..ways).map(median).collect()
}

/// Touches memory and gives it back. A virtual machine's host takes what is free and gives it again
/// page by page, slowly: that would be in the time of whoever needs memory first.
fn warm() {
    let mut memory = vec![0_u8; WARM_BYTES];
    memory.iter_mut().step_by(4_096).for_each(|byte| *byte = 1);
    std::hint::black_box(&memory);
}

fn row(update: &Update, link: Link, cost: &Cost) -> String {
    let mib = |bytes: u64| match bytes {
        0 => "under a sample".to_owned(),
        bytes => format!("{:.0} MiB", bytes as f64 / 1_048_576.0),
    };
    format!(
        "| {} | {} | {} | {} | {:.2} s | {} | {} |",
        update.about,
        link.about(),
        cost.method,
        cost.bytes,
        cost.time.as_secs_f64(),
        mib(cost.here_bytes),
        mib(cost.there_bytes)
    )
}

/// All but tar, each round beginning with another one: what ran before leaves its traces in memory.
/// In the outcome rsync with times kept comes first, we come last.
fn all_ways(place: &Path, link: Link, round: usize) -> Vec<Cost> {
    let [old, new, touched, there] =
        ["old", "new", "touched", "there"].map(|name| place.join(name));
    let ways = [
        Some(("rsync -az, times kept", &new, None)),
        Some(("rsync -az, times lost", &touched, None)),
        Some((DURABLE, &new, Some("--fsync"))),
        None,
    ];
    let mut costs = Vec::new();
    for at in (0..ways.len()).map(|way| (way + round) % ways.len()) {
        if let Some((_, from, _)) = ways[at]
            && from == &touched
        {
            again(&new, &touched);
            let every = ["-type", "f", "-exec", "touch", "{}", "+"];
            run(Command::new("find").arg(&touched).args(every));
        }
        again(&old, &there);
        let cost = match ways[at] {
            None => ours::measured(place, &there, link),
            Some((method, from, durable)) => {
                let mut command = Command::new("rsync");
                command.args(["-az", "--delete", "-e", &link.shell(place)]).args(durable);
                command.arg(format!("{}/", from.display()));
                command.arg(format!("there:{}/", there.display()));
                let cost = measure(method, place, &mut command);
                same(&new, &there);
                cost
            }
        };
        costs.push((at, cost));
    }
    costs.sort_by_key(|(at, _)| *at);
    costs.into_iter().map(|(_, cost)| cost).collect()
}

/// Everything, as most people's scripts send it.
fn tar(place: &Path, link: Link) -> Cost {
    let (new, to) = (place.join("new"), place.join("untarred"));
    std::fs::create_dir(&to).expect("made");
    let line = format!(
        "tar -C {new} -cf - . | zstd -q -3 | {shell} there 'zstd -q -d | tar -xf - -C {to}'",
        new = new.display(),
        shell = link.shell(place),
        to = to.display()
    );
    let cost = measure("tar, zstd -3", place, Command::new("sh").args(["-c", &line]));
    same(&new, &to);
    std::fs::remove_dir_all(&to).expect("removed");
    cost
}

/// Makes `to` what `tree` is. What is different is written over: ext4 gives numbers of files that were
/// removed minutes ago only after a long search, which would be in everybody's time.
fn again(tree: &Path, to: &Path) {
    let from = format!("{}/", tree.display());
    run(Command::new("rsync").args(["-a", "--delete", "--inplace", &from]).arg(to));
}

fn measure(method: &'static str, place: &Path, command: &mut Command) -> Cost {
    let count = place.join("count");
    let _ = std::fs::remove_file(&count);
    // What was written before is nobody's business here.
    rustix::fs::sync();
    warm();
    let started = Instant::now();
    let child = command.spawn().unwrap_or_else(|error| panic!("{method}: {error}"));
    let (status, here_bytes, there_bytes) = memory::watch(child);
    assert!(status.success(), "{method} failed: {status}");
    let time = started.elapsed();
    let bytes = std::fs::read_to_string(&count).ok().and_then(|text| text.trim().parse().ok());
    Cost { method, bytes: bytes.expect("the link counts"), time, here_bytes, there_bytes }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn same(a: &Path, b: &Path) {
    run(Command::new("diff").args(["-rq", "--no-dereference"]).arg(a).arg(b));
}

fn into_docs(text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/benchmarks.md");
    let docs = std::fs::read_to_string(&path).expect("docs/benchmarks.md");
    let (before, rest) = docs.split_once(MARKERS.0).expect("the first marker");
    let (_, after) = rest.split_once(MARKERS.1).expect("the second marker");
    let new = format!("{before}{}\n{text}{}{after}", MARKERS.0, MARKERS.1);
    std::fs::write(&path, new).expect("docs/benchmarks.md");
}
