//! 100,000 connections that send half a head, and players between them.
//!
//! `bench_flood [--quick]` (20,000): the connections come from several processes and several
//! addresses of 127.0.0.0/8, against a gate with its default limits; one that is cut comes again.
//! Ends with 0 only where no player's request was lost, the gate kept its limit of connections, and
//! nothing of the attack is left in it afterwards.
#![allow(clippy::unwrap_used, reason = "a benchmark: to panic is to fail")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use entracte_gate::Limits;
use entracte_gate::control::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// How many connections one attacking process holds, from one address: fewer than it has ports, and
/// than most systems allow it files.
const EACH: usize = 16_000;
/// How long an attacker waits before it comes again.
const AGAIN: Duration = Duration::from_millis(100);
const PLAYERS: usize = 4;
/// How long players are watched while the attack goes on.
const STAND: Duration = Duration::from_secs(20);
/// How long the attack may take to come up to its number.
const COMES_UP: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--as-gate", config] => return be_gate(Path::new(config)),
        ["--as-attacker", address, from, count] => {
            return attack(address.parse().unwrap(), from.parse().unwrap(), count.parse().unwrap());
        }
        _ => {}
    }
    let wanted: usize = if args.iter().any(|arg| arg == "--quick") { 20_000 } else { 100_000 };
    let dir = tempfile::tempdir().unwrap();
    let (gate, address, client) = start(dir.path(), game());
    let stop = Arc::new(AtomicBool::new(false));
    let players: Vec<_> = (0..PLAYERS)
        .map(|_| {
            let stop = Arc::clone(&stop);
            spawn(move || play(address, &stop))
        })
        .collect();
    let before_kb = rss_kb(gate.0.id());
    let began = Instant::now();
    let attackers: Vec<Attacker> = (0..wanted.div_ceil(EACH))
        .map(|n| Attacker::start(address, n, EACH.min(wanted - n * EACH)))
        .collect();
    let sum = |what: fn(&Attacker) -> u64| attackers.iter().map(what).sum::<u64>();
    let (mut most, mut most_kb, mut files, mut all_at) = (0, 0, 0, None);
    while all_at.is_none_or(|at: Instant| at.elapsed() < STAND) && began.elapsed() < COMES_UP {
        most = most.max(connections(&client));
        most_kb = most_kb.max(rss_kb(gate.0.id()));
        files = files.max(open_files(gate.0.id()));
        if all_at.is_none() && sum(Attacker::attackers) >= wanted as u64 {
            all_at = Some(Instant::now());
        }
        sleep(Duration::from_millis(250));
    }
    let came = sum(Attacker::came);
    let came_up = all_at.map(|at| at.duration_since(began));
    stop.store(true, Ordering::SeqCst);
    let mut delays: Vec<Duration> = Vec::new();
    let mut lost = 0;
    for player in players {
        let (mine, mine_lost) = player.join().unwrap();
        delays.extend(mine);
        lost += mine_lost;
    }
    delays.sort_unstable();
    let at = |share: usize| delays[(delays.len() - 1) * share / 100].as_secs_f64() * 1_000.0;
    drop(attackers);
    let limits = Limits::default();
    let deadline = Instant::now() + Duration::from_millis(2 * limits.header_ms);
    while connections(&client) > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(250));
    }
    let left = connections(&client);
    let shown = came_up.map_or("never".to_owned(), |took| format!("{:.1} s", took.as_secs_f64()));
    println!(
        "{wanted} attackers, all of them come after {shown}, {came} half-open connections in all; the gate had {most} at most, {files} open \
         files and {:.0} MB more memory; players meanwhile: {} requests, {lost} lost, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms; \
         {left} connections left afterwards",
        most_kb.saturating_sub(before_kb) as f64 / 1_024.0,
        delays.len(),
        at(50),
        at(99),
        at(100)
    );
    let bounded = most <= limits.connections_max as u64 + 1;
    let met = came_up.is_some() && lost == 0 && bounded && left == 0;
    println!(
        "bench flood: {lost} of {} requests lost beside {wanted} attackers with half-open connections (goal 0) {}",
        delays.len(),
        if met { "ok" } else { "short" }
    );
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// An attacking process, and what it said last.
struct Attacker {
    _process: Running,
    said: Arc<[AtomicU64; 2]>,
}

impl Attacker {
    fn start(address: SocketAddr, number: usize, count: usize) -> Self {
        let from = Ipv4Addr::new(127, 0, 0, u8::try_from(2 + number).unwrap());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--as-attacker", &address.to_string(), &from.to_string(), &count.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let (out, told) = (child.stdout.take().unwrap(), Arc::clone(&said));
        spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                for (number, told) in line.split(' ').zip(told.iter()) {
                    told.store(number.parse().unwrap(), Ordering::SeqCst);
                }
            }
        });
        Self { _process: Running(child), said }
    }

    /// How many of its attackers have come so far; from then on each comes again and again.
    fn attackers(&self) -> u64 {
        self.said[0].load(Ordering::SeqCst)
    }

    /// Connections on which it has sent half a head.
    fn came(&self) -> u64 {
        self.said[1].load(Ordering::SeqCst)
    }
}

/// `count` attackers, each with one connection and half a head on it, which come again when they are
/// cut. Says four times a second how many have come, and how often.
fn attack(address: SocketAddr, from: Ipv4Addr, count: usize) -> ExitCode {
    raise_files_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (attackers, came) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        for _ in 0..count {
            let (attackers, came) = (Arc::clone(&attackers), Arc::clone(&came));
            tokio::spawn(async move {
                let mut known = false;
                loop {
                    if let Ok(mut stream) = half(address, from).await {
                        came.fetch_add(1, Ordering::Relaxed);
                        if !std::mem::replace(&mut known, true) {
                            attackers.fetch_add(1, Ordering::Relaxed);
                        }
                        // Until it is cut.
                        let _ = stream.read(&mut [0; 64]).await;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let (attackers, came) =
                (attackers.load(Ordering::Relaxed), came.load(Ordering::Relaxed));
            println!("{attackers} {came}");
        }
    })
}

async fn half(address: SocketAddr, from: Ipv4Addr) -> std::io::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect(address).await?;
    stream.write_all(b"GET /half HTTP/1.1\r\nHost: game.exam").await?;
    Ok(stream)
}

/// A process that ends with the benchmark.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path, game: SocketAddr) -> (Running, SocketAddr, Client) {
    let socket = dir.join("gate.sock");
    let config = serde_json::json!({
        "listen": "127.0.0.1:0", "upstream": game.to_string(), "state_dir": dir.join("state"),
        "control_socket": socket,
    });
    let path = dir.join("gate.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--as-gate")
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (Running(child), line.trim().parse().unwrap(), Client::new(&socket))
}

fn be_gate(config: &Path) -> ExitCode {
    let config = serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ready = |address| println!("{address}");
    runtime.block_on(entracte_gate::run(config, ready, std::future::pending::<()>())).unwrap();
    ExitCode::SUCCESS
}

/// A small game that keeps its connections.
fn game() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    spawn(move || {
        for stream in listener.incoming() {
            spawn(move || {
                let mut stream = BufReader::new(stream.unwrap());
                let page = "x".repeat(1_000);
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{page}");
                let mut line = String::new();
                while stream.read_line(&mut line).is_ok_and(|count| count > 0) {
                    if line == "\r\n" && stream.get_mut().write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
    address
}

/// Plays on a connection for ten turns, then on a new one. The waits, and how many were lost.
fn play(address: SocketAddr, stop: &AtomicBool) -> (Vec<Duration>, usize) {
    let (mut delays, mut lost) = (Vec::new(), 0);
    while !stop.load(Ordering::SeqCst) {
        let mut turns = || {
            let mut stream = None;
            for _ in 0..10 {
                let asked = Instant::now();
                let stream = match &mut stream {
                    Some(stream) => stream,
                    None => stream.insert(TcpStream::connect(address)?),
                };
                stream.set_read_timeout(Some(Duration::from_secs(30)))?;
                stream.write_all(b"GET /page HTTP/1.1\r\nHost: game.example\r\n\r\n")?;
                let (mut got, mut buffer) = (Vec::new(), [0; 4_096]);
                while !got.windows(4).any(|end| end == b"\r\n\r\n")
                    || !got.ends_with(&[b'x'; 1_000])
                {
                    match stream.read(&mut buffer)? {
                        0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                        count => got.extend_from_slice(&buffer[..count]),
                    }
                }
                delays.push(asked.elapsed());
                // A player, not a load.
                sleep(Duration::from_millis(20));
            }
            std::io::Result::Ok(())
        };
        lost += usize::from(turns().is_err());
    }
    (delays, lost)
}

/// Connections of clients, as the gate counts them.
fn connections(client: &Client) -> u64 {
    let text = client.metrics().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("entracte_gate_connections "));
    line.and_then(|count| count.parse().ok()).expect("the gauge is there")
}

fn rss_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Takes as many open files as this user may have.
fn raise_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum }).unwrap();
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
