//! CPU a request, delay and memory of the gate, beside nginx, HAProxy and Caddy.
//!
//! `bench_gate [--quick] [--write]`: one upstream, one load, each proxy on a core of its own, in
//! alternating rounds. `--write` puts the tables between the markers of docs/benchmarks.md. Ends
//! with 0 only where the goals are met.
#![allow(clippy::unwrap_used, reason = "a benchmark: to panic is to fail")]

#[path = "bench_parts/load.rs"]
mod load;
#[path = "bench_parts/proxies.rs"]
mod proxies;

use std::fmt::Write as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use entracte_gate::control::Client;
use entracte_model::gate::{Goal, Phase};
use load::{Measured, idle, load};
use proxies::{Proxy, Site};

/// The core of the proxies; load and upstream are on the other.
const PROXY_CORE: &str = "0";
const LOAD_CORE: &str = "1";
const CONNECTIONS: usize = 64;
/// What the note is compared with.
const CPU_GOAL: f64 = 1.1;
const PARKED_KB_GOAL: f64 = 25.0;

struct Size {
    rounds: usize,
    round: Duration,
    idle: usize,
    parked: usize,
}

/// All rounds of one proxy.
#[derive(Default)]
struct Rounds {
    keep_alive: Vec<Measured>,
    beside_idle: Vec<Measured>,
    refusals: Vec<Measured>,
    rss_kb: u64,
    idle_kb: f64,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, config] = args.as_slice()
        && mode == "--as-gate"
    {
        return proxies::be_gate(config);
    }
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if !has("--pinned") {
        // The same program again, held to its core.
        let program = std::env::current_exe().unwrap();
        let pinned = Command::new("taskset")
            .args(["-c", LOAD_CORE])
            .arg(program)
            .args(&args)
            .arg("--pinned")
            .status();
        let code = pinned.expect("taskset is part of util-linux").code();
        return ExitCode::from(u8::try_from(code.unwrap_or(1)).unwrap_or(1));
    }
    let size = if has("--quick") {
        Size { rounds: 3, round: Duration::from_secs(2), idle: 1_000, parked: 500 }
    } else {
        Size { rounds: 7, round: Duration::from_secs(8), idle: 10_000, parked: 1_000 }
    };
    raise_files_limit();
    let site = Site::start(LOAD_CORE);
    let proxies = proxies::start_all(&site, PROXY_CORE);
    let mut all: Vec<Rounds> = proxies.iter().map(|_| Rounds::default()).collect();
    for round in 0..size.rounds {
        eprintln!("round {} of {}", round + 1, size.rounds);
        for (proxy, rounds) in proxies.iter().zip(&mut all) {
            measure(proxy, rounds, &size, round + 1 == size.rounds);
        }
    }
    let gate = proxies.iter().position(|proxy| proxy.name == "entracte").unwrap();
    let nginx = proxies.iter().position(|proxy| proxy.name == "nginx").unwrap();
    let parked_kb = parked(&proxies[gate], &size);
    let report = report(&proxies, &all, nginx, parked_kb, &size);
    print!("{report}");
    if has("--write") {
        write(&report);
    }
    verdict(&all[gate], &all[nginx], parked_kb)
}

fn measure(proxy: &Proxy, rounds: &mut Rounds, size: &Size, is_last: bool) {
    rounds.keep_alive.push(load(proxy.pass, CONNECTIONS, size.round, 200, || proxy.cpu()));
    rounds.refusals.push(load(proxy.refuse, CONNECTIONS, size.round / 2, 503, || proxy.cpu()));
    rounds.rss_kb = rounds.rss_kb.max(proxy.rss_kb());
    if is_last {
        let before = proxy.rss_kb();
        let held = idle(proxy.pass, size.idle);
        rounds.idle_kb = (float(proxy.rss_kb()) - float(before)) / float(held.len() as u64);
        rounds.beside_idle.push(load(proxy.pass, CONNECTIONS, size.round, 200, || proxy.cpu()));
        drop(held);
    }
}

/// Kilobytes that a parked request takes, by what the process grew.
fn parked(gate: &Proxy, size: &Size) -> f64 {
    let client = Client::new(gate.control.as_ref().unwrap());
    let set =
        |phase| client.set(&Goal::new(client.next_generation().unwrap(), phase, "bench")).unwrap();
    let before = gate.rss_kb();
    set(Phase::Holding);
    let held = load::ask(gate.pass, size.parked);
    let status =
        load::until(|| client.status().ok().filter(|status| status.parked >= size.parked as u64));
    std::thread::sleep(Duration::from_secs(2));
    let grown = float(gate.rss_kb()) - float(before);
    set(Phase::Open);
    let answered = load::answers(held);
    assert_eq!(answered, size.parked, "parked requests were lost");
    grown / float(status.parked)
}

#[allow(clippy::cast_precision_loss)]
fn float(n: u64) -> f64 {
    n as f64
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn report(proxies: &[Proxy], all: &[Rounds], nginx: usize, parked_kb: f64, size: &Size) -> String {
    let mut out = String::new();
    let of =
        |rounds: &Rounds, what: fn(&Measured) -> f64| median(rounds.keep_alive.iter().map(what));
    let _ = writeln!(
        out,
        "One core for the proxy, one for load and upstream; {CONNECTIONS} keep-alive connections, answers of 1 KB, medians of {} rounds of {:?}. \
         CPU a request in microseconds, with metrics on; in brackets, times nginx.\n",
        size.rounds, size.round
    );
    out.push_str("| proxy | requests/s | p50 ms | p99 ms | CPU a request | beside idle connections | KB an idle connection | CPU a 503 | memory MB |\n|---|---|---|---|---|---|---|---|---|\n");
    let base = &all[nginx];
    for (proxy, rounds) in proxies.iter().zip(all) {
        let beside = |rounds: &Rounds| median(rounds.beside_idle.iter().map(|m| m.cpu_us));
        let refusal = |rounds: &Rounds| median(rounds.refusals.iter().map(|m| m.cpu_us));
        let _ = writeln!(
            out,
            "| {} {} | {:.0} ({:.2}) | {:.2} ({:.2}) | {:.2} ({:.2}) | {:.1} ({:.2}) | {:.1} | {:.1} | {:.1} ({:.2}) | {:.0} |",
            proxy.name,
            proxy.version,
            of(rounds, |m| m.per_s),
            of(rounds, |m| m.per_s) / of(base, |m| m.per_s),
            of(rounds, |m| m.p50_ms),
            of(rounds, |m| m.p50_ms) / of(base, |m| m.p50_ms),
            of(rounds, |m| m.p99_ms),
            of(rounds, |m| m.p99_ms) / of(base, |m| m.p99_ms),
            of(rounds, |m| m.cpu_us),
            of(rounds, |m| m.cpu_us) / of(base, |m| m.cpu_us),
            beside(rounds),
            rounds.idle_kb,
            refusal(rounds),
            refusal(rounds) / refusal(base),
            float(rounds.rss_kb) / 1_024.0,
        );
    }
    let _ = writeln!(
        out,
        "\n{} idle connections. {} requests parked for 2 s: {parked_kb:.1} KB each; all were answered.",
        size.idle, size.parked
    );
    out
}

fn verdict(gate: &Rounds, nginx: &Rounds, parked_kb: f64) -> ExitCode {
    let ratio = |of: fn(&Rounds) -> &Vec<Measured>, what: fn(&Measured) -> f64| {
        median(of(gate).iter().map(what)) / median(of(nginx).iter().map(what))
    };
    let cpu = ratio(|rounds| &rounds.keep_alive, |m| m.cpu_us);
    let p99 = ratio(|rounds| &rounds.keep_alive, |m| m.p99_ms);
    let refusal = ratio(|rounds| &rounds.refusals, |m| m.cpu_us);
    let met = cpu <= CPU_GOAL && p99 <= 1.0 && refusal <= 1.0 && parked_kb <= PARKED_KB_GOAL;
    println!(
        "bench gate: CPU {cpu:.2} x nginx, p99 {p99:.2} x, 503 {refusal:.2} x, parked {parked_kb:.1} KB \
         (goal {CPU_GOAL} x, 1 x, 1 x, {PARKED_KB_GOAL} KB) {}",
        if met { "ok" } else { "short" }
    );
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Thousands of connections on both sides need more files than a shell allows by default.
fn raise_files_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

fn write(report: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/benchmarks.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- gate: begin -->\n", "<!-- gate: end -->");
    let (front, rest) = text.split_once(begin).expect("docs/benchmarks.md has the markers");
    let (_, back) = rest.split_once(end).expect("docs/benchmarks.md has the markers");
    std::fs::write(path, format!("{front}{begin}\n{report}\n{end}{back}")).unwrap();
}
