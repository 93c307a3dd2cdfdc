//! Throws malformed HTTP at a real gate: `fuzz_http SECONDS [SEED]`.
//!
//! The gate is the `gate` example beside this program; nothing stands behind it, so that its pages
//! and its refusals are reached, too. Ends with 1 where the gate died, panicked, or did not answer
//! a good request any more; the seed and the last bytes are printed then.
#![allow(clippy::unwrap_used, reason = "a tool for developers: to panic is to fail")]

#[path = "../tests/common/malformed.rs"]
mod malformed;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use entracte_gate::control::Client;
use entracte_model::gate::{Goal, Phase};
use malformed::{Random, stream, throw};

/// Good requests are sent after so many bad ones.
const BATCH: usize = 200;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().and_then(|text| text.parse().ok()).unwrap_or(60);
    let seed = args.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("gate.sock");
    let config = serde_json::json!({
        "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9", "state_dir": dir.path().join("state"),
        "control_socket": socket, "session_cookies": ["PHPSESSID"], "login": ["POST /login.php"],
        "limits": { "header_ms": 500, "body_idle_ms": 300, "parked_wait_ms": 300, "connect_retry_ms": 50 },
    });
    std::fs::write(dir.path().join("gate.json"), config.to_string()).unwrap();
    let program = std::env::current_exe().unwrap().with_file_name("gate");
    let mut gate = Command::new(program)
        .arg(dir.path().join("gate.json"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("build it first: cargo build -p entracte-gate --examples");
    let mut line = String::new();
    BufReader::new(gate.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address: SocketAddr = line.trim().strip_prefix("ready ").unwrap().parse().unwrap();

    let (mut random, client) = (Random(seed), Client::new(&socket));
    let (until, mut thrown, mut last) =
        (Instant::now() + Duration::from_secs(seconds), 0, Vec::new());
    let mut fault = None;
    while Instant::now() < until && fault.is_none() {
        let phase = Phase::ALL[random.below(Phase::ALL.len())];
        let generation = client.next_generation().unwrap();
        // Not every phase follows every other; then it stays in the one that it has.
        let _ = client.set(&Goal::new(generation, phase, "fuzz"));
        for _ in 0..BATCH {
            last = stream(&mut random);
            throw(address, &last, &mut random);
            thrown += 1;
        }
        if !answers(address) {
            fault = Some("the gate does not answer a good request");
        } else if gate.try_wait().unwrap().is_some() {
            fault = Some("the gate ended");
        }
    }
    gate.kill().unwrap();
    let mut words = String::new();
    gate.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    gate.wait().unwrap();
    println!("{thrown} malformed streams in {seconds} s, seed {seed}");
    match fault.or((!words.is_empty()).then_some("the gate said something")) {
        None => ExitCode::SUCCESS,
        Some(fault) => {
            println!("{fault}\nlast: {}\n{words}", last.escape_ascii());
            ExitCode::FAILURE
        }
    }
}

fn answers(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream
            .write_all(b"GET /_entracte/live HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    ask().is_ok_and(|answer: String| answer.starts_with("HTTP/1.1 200 OK"))
}
