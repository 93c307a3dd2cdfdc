//! The gate as a service, steered by the real program: watched, told to begin a new log, replaced by
//! its successor while players play.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod site;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use entracte_testbed::process::{runs, wait_until};
use serde_json::Value;
use site::{PATIENCE_MS, Site};

/// `entracte gate serve`, and whatever took over from it.
struct Service<'a> {
    site: &'a Site,
    child: Child,
}

impl<'a> Service<'a> {
    fn start(site: &'a Site) -> Self {
        let log = File::options().create(true).append(true).open(site.at("up.log")).unwrap();
        let mut command = site.command(&["gate", "serve"]);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let service = Self { site, child: command.spawn().unwrap() };
        let answers = wait_until(PATIENCE_MS, || site.run(&["gate", "status"]).status.success());
        assert!(answers, "the gate does not answer: {}", site.up_log());
        service
    }

    fn pid(&self) -> u64 {
        self.site.json(0, &["gate", "status"])["pid"].as_u64().unwrap()
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        // A successor is no child of the test.
        let output = self.site.run(&["gate", "status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if let Some(pid) = status["pid"].as_u64() {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that goes on, and the lines that it has printed.
struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Running {
    fn start(site: &Site, args: &[&str]) -> Self {
        let mut child = site.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (out, kept) = (child.stdout.take().unwrap(), Arc::clone(&lines));
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        Self { child, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits until a line is `wanted`.
    fn shows(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        let shown = wait_until(PATIENCE_MS, || self.lines().iter().any(|line| wanted(line)));
        assert!(shown, "{what} is not shown: {:#?}", self.lines());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn who_watches_sees_each_change_also_over_a_restart() {
    let site = Site::new();
    site.edit("drain = \"0s\"", "drain = \"10min\"");
    let service = Service::start(&site);
    let plain = Running::start(&site, &["gate", "status", "--watch"]);
    let json = Running::start(&site, &["gate", "status", "--watch", "--json"]);
    plain.shows("the open gate", |line| line.starts_with("open for"));
    site.ok(&["gate", "drain"]);
    plain.shows("the closed login", |line| {
        line.starts_with("draining for") && line.contains("left to leave")
    });
    site.ok(&["gate", "close", "--for", "10min"]);
    plain.shows("the closed gate", |line| line.starts_with("closed for"));
    for row in ["  players", "  requests", "  parked", "  admission"] {
        plain.shows(row, |line| line.starts_with(row));
    }

    // Killed and started again, it is closed as before, and whoever watched still does.
    let first = service.pid();
    drop(service);
    let service = Service::start(&site);
    let second = service.pid();
    assert_ne!(first, second);
    let of = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    json.shows("the gate that was started again", |line| of(line)["pid"] == second);
    site.ok(&["gate", "open"]);
    json.shows("the open gate", |line| of(line)["pid"] == second && of(line)["phase"] == "open");
    let mut phases: Vec<String> =
        json.lines().iter().map(|line| of(line)["phase"].as_str().unwrap().to_owned()).collect();
    phases.dedup();
    // A phase can be shorter than the pause between two looks; none comes out of its order.
    let mut order = ["open", "draining", "closed", "open"].iter();
    assert!(phases.iter().all(|phase| order.any(|next| next == phase)), "{phases:?}");
    for key in ["players_left", "sessions_in", "parked", "waiting", "admission_per_s"] {
        assert!(of(&json.lines()[0])[key].is_number(), "{key}");
    }
    assert!(
        !json.lines().concat().contains('\u{1b}') && !plain.lines().concat().contains('\u{1b}')
    );
}

#[test]
fn a_reload_begins_a_new_log_where_the_old_one_was_moved_away() {
    let site = Site::new();
    site.edit("player_left", "access_log = \"../access.log\"\nplayer_left");
    let _service = Service::start(&site);
    let (log, moved) = (site.at("access.log"), site.at("access.log.moved"));
    let has = |path: &std::path::Path, word: &str| {
        wait_until(PATIENCE_MS, || fs::read_to_string(path).is_ok_and(|text| text.contains(word)))
    };
    site.get("/first");
    assert!(has(&log, "GET /first"));
    fs::rename(&log, &moved).unwrap();
    site.says(0, &["gate", "reload"], &["open for"]);
    site.get("/second");
    assert!(has(&log, "GET /second"), "{:?}", fs::read_to_string(&log));
    assert!(!fs::read_to_string(&log).unwrap().contains("/first"));
    assert!(!fs::read_to_string(&moved).unwrap().contains("/second"));
    assert_eq!(site.json(0, &["gate", "reload"])["phase"], "open");
}

/// Asks on a connection that is kept. Its status, and whether the gate said goodbye.
fn ask(stream: &mut BufReader<TcpStream>, path: &str) -> std::io::Result<(u16, bool)> {
    stream.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nHost: inn\r\n\r\n").as_bytes())?;
    let (mut first, mut length, mut goodbye) = (String::new(), 0, false);
    stream.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        goodbye |= line == "connection: close";
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
    }
    stream.read_exact(&mut vec![0; length])?;
    Ok((first.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0), goodbye))
}

#[test]
fn an_upgrade_drops_no_connection() {
    let site = Site::new();
    let mut service = Service::start(&site);
    let address = site.url.trim_start_matches("http://").to_owned();
    let connect = |address: &str| {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(PATIENCE_MS))).unwrap();
        BufReader::new(stream)
    };
    let mut kept = connect(&address);
    assert_eq!(ask(&mut kept, "/").unwrap(), (200, false));
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let players: Vec<_> = (0..3)
        .map(|_| {
            let (stop, done, address) = (Arc::clone(&stop), Arc::clone(&done), address.clone());
            thread::spawn(move || {
                let mut stream = connect(&address);
                while !stop.load(Ordering::SeqCst) {
                    let (status, goodbye) = ask(&mut stream, "/").expect("an answer");
                    assert_eq!(status, 200);
                    if goodbye {
                        stream = connect(&address);
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let play_on = || {
        let from = done.load(Ordering::SeqCst);
        assert!(wait_until(PATIENCE_MS, || done.load(Ordering::SeqCst) > from + 20));
    };
    play_on();
    let first = service.pid();
    let second = site.json(0, &["gate", "upgrade"])["pid"].as_u64().unwrap();
    assert_ne!(first, second);
    play_on();
    assert_eq!(service.pid(), second, "another gate answers: {}", site.up_log());
    // The connection that said nothing meanwhile was kept by the old process, and is told to go.
    assert_eq!(ask(&mut kept, "/").unwrap(), (200, true));
    stop.store(true, Ordering::SeqCst);
    for player in players {
        player.join().expect("no player met an error");
    }
    // With its last connection the old process ends by itself.
    let ended = wait_until(PATIENCE_MS, || matches!(service.child.try_wait(), Ok(Some(_))));
    assert!(ended && runs(u32::try_from(second).unwrap()), "{}", site.up_log());
    site.says(0, &["gate", "close"], &["closed"]);
    assert_eq!(site.get("/").0, 503);
}

#[test]
fn a_gate_with_other_duties_is_not_replaced_and_goes_on() {
    let mut site = Site::new();
    site.up();
    let before = site.json(0, &["gate", "status"])["pid"].clone();
    let output = site.run(&["gate", "upgrade"]);
    let text = site::said(&output);
    assert_ne!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("gate serve"), "it does not say what to do: {text}");
    assert_eq!(site.json(0, &["gate", "status"])["pid"], before);
    assert_eq!(site.get("/").0, 200);
}
