//! 100,000 connections that send half a head, and players between them.
//!
//! `bench_flood [--quick]` (10,000): the connections come from several addresses of 127.0.0.0/8 and
//! stay until the gate cuts them. Needs the right to raise its limit of open files (root). Ends with
//! 0 only where no player's request was lost, the gate kept its limit, and all of them were cut.
#![allow(clippy::unwrap_used, reason = "a benchmark: to panic is to fail")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use entracte_gate::control::Client;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

/// How many connections one source address opens: fewer than it has ports.
const FROM_ONE_ADDRESS: usize = 20_000;
/// How many are opened at one time.
const AT_ONCE: usize = 64;
/// How long the gate waits for a head here, a connection: so that all of them stand together.
const HEADER_MS_EACH: u64 = 2;
/// And besides.
const HEADER_MS_MORE: u64 = 20_000;
/// Files that are no half-open connection.
const OTHER_FILES: usize = 2_000;
const PLAYERS: usize = 4;
/// How long players are watched while all of them stand.
const STAND: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, config] = args.as_slice()
        && mode == "--as-gate"
    {
        return be_gate(Path::new(config));
    }
    let wanted = if args.iter().any(|arg| arg == "--quick") { 10_000 } else { 100_000 };
    // One a connection, on both sides, and those of players and game.
    let files = usize::try_from(raise_files_limit((wanted + OTHER_FILES) as u64)).unwrap();
    let count = wanted.min(files - OTHER_FILES);
    if count < wanted {
        println!("{files} open files are allowed here: {count} connections instead of {wanted}");
    }
    let dir = tempfile::tempdir().unwrap();
    let (gate, address, client) = start(dir.path(), game(), count);
    let stop = Arc::new(AtomicBool::new(false));
    let players: Vec<_> = (0..PLAYERS)
        .map(|_| {
            let stop = Arc::clone(&stop);
            spawn(move || play(address, &stop))
        })
        .collect();
    let before_kb = rss_kb(gate.0.id());
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let held = runtime.block_on(flood(address, count));
    let opened = began.elapsed();
    let standing = connections(&client);
    let kb = (rss_kb(gate.0.id()) - before_kb) as f64 / held.len() as f64;
    sleep(STAND);
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
    // All of them owe a head; each is cut when its time is over.
    let deadline = Instant::now() + Duration::from_millis(2 * header_ms(count));
    while connections(&client) > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(500));
    }
    let left = connections(&client);
    println!(
        "{} half-open connections, opened in {:.1} s, {standing} known to the gate at one time, {kb:.1} KB each; players meanwhile: \
         {} requests, {lost} lost, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms; {left} connections left after their time",
        held.len(),
        opened.as_secs_f64(),
        delays.len(),
        at(50),
        at(99),
        at(100)
    );
    let limit = (count + 1_000) as u64;
    let met = held.len() == wanted && lost == 0 && standing <= limit && left == 0;
    println!(
        "bench flood: {} of {wanted} held, {lost} lost (goal all, 0 lost) {}",
        held.len(),
        if met { "ok" } else { "short" }
    );
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn header_ms(count: usize) -> u64 {
    HEADER_MS_MORE + HEADER_MS_EACH * count as u64
}

/// A process that ends with the benchmark.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path, game: SocketAddr, count: usize) -> (Running, SocketAddr, Client) {
    let socket = dir.join("gate.sock");
    let config = serde_json::json!({
        "listen": "127.0.0.1:0", "upstream": game.to_string(), "state_dir": dir.join("state"),
        "control_socket": socket,
        "limits": { "connections_max": count + 1_000, "header_ms": header_ms(count) },
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

/// Opens the connections, each with half a head. Those that could be had.
async fn flood(address: SocketAddr, count: usize) -> Vec<tokio::net::TcpStream> {
    let mut held = Vec::with_capacity(count);
    while held.len() < count {
        let some = (held.len()..count.min(held.len() + AT_ONCE)).map(|n| {
            tokio::spawn(async move {
                let block = u8::try_from(n / FROM_ONE_ADDRESS).unwrap();
                let socket = TcpSocket::new_v4()?;
                socket.bind((Ipv4Addr::new(127, 0, 0, 2 + block), 0).into())?;
                let mut stream = socket.connect(address).await?;
                stream.write_all(b"GET /half HTTP/1.1\r\nHost: game.exam").await?;
                std::io::Result::Ok(stream)
            })
        });
        let before = held.len();
        for one in some.collect::<Vec<_>>() {
            held.extend(one.await.unwrap());
        }
        if held.len() == before {
            break;
        }
    }
    held
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

/// Allows `files` open files, or as many as this user may have; how many that is.
fn raise_files_limit(files: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let more = now.maximum.map(|maximum| maximum.max(files));
    let (enough, allowed) = (
        Rlimit { current: more, maximum: more },
        Rlimit { current: now.maximum, maximum: now.maximum },
    );
    match setrlimit(Resource::Nofile, enough) {
        Ok(()) => more.unwrap_or(files),
        Err(_) => {
            setrlimit(Resource::Nofile, allowed).unwrap();
            now.maximum.unwrap_or(files)
        }
    }
}
