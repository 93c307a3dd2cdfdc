//! A real game, a real gate process, a real client, all on 127.0.0.1.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests: to panic is to fail")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use entracte_gate::control::{Client, Status};
use entracte_model::gate::{Goal, Phase};
use serde_json::{Value, json};

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `done` gives something.
pub fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What the game got.
#[derive(Debug, Clone)]
pub struct Got {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Which of the game's connections it came on.
    pub connection: usize,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct GameState {
    got: Mutex<Vec<Got>>,
    /// Requests to `/wait` stay until this is true.
    go: Mutex<bool>,
    went: Condvar,
    stop: AtomicBool,
    connections: AtomicUsize,
}

/// A small game. Paths: `/wait` answers when let go, `/die` breaks off inside the body, `/drop`
/// breaks off before an answer, `/drop-reused` does so on a connection that had a request before,
/// `/error` is 500, `/large` a megabyte, `/events` never ends, `/ws` echoes, `/login.php` sets a session, `/close`
/// answers and closes, `/json` is no page, anything else is a page.
pub struct Game {
    pub address: SocketAddr,
    state: Arc<GameState>,
    accepting: Option<thread::JoinHandle<()>>,
}

impl Game {
    pub fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    /// At a fixed address, for a game that comes back.
    pub fn at(address: SocketAddr) -> Self {
        let listener = until("the game's port", || TcpListener::bind(address).ok());
        let address = listener.local_addr().unwrap();
        let state = Arc::new(GameState::default());
        let shared = Arc::clone(&state);
        let accepting = thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || play(&shared, stream.unwrap(), number));
            }
        });
        Self { address, state, accepting: Some(accepting) }
    }

    pub fn got(&self) -> Vec<Got> {
        self.state.got.lock().unwrap().clone()
    }

    pub fn count(&self, target: &str) -> usize {
        self.got().iter().filter(|got| got.target == target).count()
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Lets all requests to `/wait` go.
    pub fn go(&self) {
        *self.state.go.lock().unwrap() = true;
        self.state.went.notify_all();
    }
}

impl Drop for Game {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        self.go();
        let _ = TcpStream::connect(self.address);
        self.accepting.take().unwrap().join().unwrap();
    }
}

fn play(state: &GameState, stream: TcpStream, number: usize) {
    let mut out = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    let mut before = 0;
    while let Some(mut got) = read_request(&mut reader) {
        got.connection = number;
        state.got.lock().unwrap().push(got.clone());
        let page = |status: &str, extra: &str, body: &str| {
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{extra}\r\n{body}", body.len())
        };
        const HTML: &str = "Content-Type: text/html; charset=utf-8\r\n";
        let path = got.target.split('?').next().unwrap();
        let answer = match path {
            "/wait" => {
                let mut go = state.go.lock().unwrap();
                while !*go {
                    go = state.went.wait(go).unwrap();
                }
                page("200 OK", HTML, "waited")
            }
            "/die" => {
                let _ =
                    out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nonly this");
                return;
            }
            "/die-chunked" => {
                let _ = out.write_all(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonly\r\n",
                );
                return;
            }
            "/drop" => return,
            "/drop-reused" if before > 0 => return,
            "/nonsense" => {
                let _ = out.write_all(b"this is no HTTP\r\n\r\n");
                return;
            }
            "/large" => page("200 OK", HTML, &"x".repeat(1_000_000)),
            "/error" => page("500 Internal Server Error", HTML, "broken"),
            "/json" => page("200 OK", "Content-Type: application/json\r\n", "{}"),
            "/hop" => page("200 OK", "Connection: X-Inner\r\nX-Inner: 1\r\nX-Outer: 2\r\n", "hop"),
            "/login.php" => {
                page("302 Found", "Location: /\r\nSet-Cookie: PHPSESSID=fresh; path=/\r\n", "")
            }
            "/events" => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
                let _ =
                    out.write_all(format!("{head}e\r\ndata: hello 1\n\r\n1\r\n\n\r\n").as_bytes());
                // Stays open until the other side ends it.
                let _ = reader.read(&mut [0; 1]);
                return;
            }
            "/ws" => {
                let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                            Sec-WebSocket-Accept: x\r\n\r\n";
                let _ = out.write_all(head.as_bytes());
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = reader.read(&mut buffer) {
                    let _ = out.write_all(&buffer[..count]);
                }
                return;
            }
            _ => page(
                "200 OK",
                HTML,
                "<html><head><title>Taverne</title></head><body>game</body></html>",
            ),
        };
        let answer = if got.method == "HEAD" {
            answer.split_inclusive("\r\n\r\n").next().unwrap().to_owned()
        } else {
            answer
        };
        if out.write_all(answer.as_bytes()).is_err() || path == "/close" {
            return;
        }
        before += 1;
    }
}

fn read_head(reader: &mut impl BufRead) -> Option<(String, Vec<(String, String)>)> {
    let mut first = String::new();
    if reader.read_line(&mut first).ok()? == 0 {
        return None;
    }
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => return Some((first.trim_end().to_owned(), headers)),
            line => {
                let (name, value) = line.split_once(':')?;
                headers.push((name.to_owned(), value.trim().to_owned()));
            }
        }
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// The body; `None` where it ended too early.
fn read_body(
    reader: &mut impl BufRead,
    headers: &[(String, String)],
    to_end: bool,
) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if find(headers, "transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                return Some(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }
    match find(headers, "content-length").map(|v| v.parse::<usize>().unwrap()) {
        Some(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body).ok()?;
        }
        None if to_end => drop(reader.read_to_end(&mut body).ok()?),
        None => {}
    }
    Some(body)
}

fn read_request(reader: &mut impl BufRead) -> Option<Got> {
    let (first, headers) = read_head(reader)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let body = read_body(reader, &headers, false)?;
    Some(Got { method, target, headers, body, connection: 0 })
}

/// An answer as a client sees it.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// `None` where it ended too early.
    pub body: Option<Vec<u8>>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone().expect("the body ended too early")).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    /// `name=value` of a cookie that was set.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let set = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("set-cookie"));
        let mut pairs = set.map(|(_, value)| value.split(';').next().unwrap().to_owned());
        pairs.find(|pair| pair.starts_with(&format!("{name}=")))
    }
}

/// One connection of a client.
pub struct Player {
    pub reader: BufReader<TcpStream>,
}

impl Player {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    pub fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut text = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text.push_str("Host: game.example\r\n");
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        self.send(&[text.as_bytes(), body].concat());
    }

    /// The next answer; `None` where the connection ended instead.
    pub fn reply(&mut self, method: &str) -> Option<Reply> {
        loop {
            let (first, headers) = read_head(&mut self.reader)?;
            let status = first.split(' ').nth(1)?.parse().ok()?;
            if status == 100 {
                continue;
            }
            let none = method == "HEAD" || matches!(status, 101 | 204 | 304);
            let body =
                if none { Some(Vec::new()) } else { read_body(&mut self.reader, &headers, true) };
            return Some(Reply { status, headers, body });
        }
    }

    pub fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        self.request(method, target, headers, body);
        self.reply(method).expect("the connection ended without an answer")
    }
}

/// A process that ends with its test, however that ends.
#[derive(Debug)]
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gate process with its own folder.
pub struct Gate {
    child: Process,
    pub address: SocketAddr,
    pub dir: tempfile::TempDir,
    pub config: Value,
}

/// The example program, where cargo puts it beside the tests. `cargo test -p entracte-gate` builds
/// it; with `--test` alone cargo does not, and an old one would be tested.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples/gate");
    let hint = "run `cargo build -p entracte-gate --examples`";
    let built = path.metadata().and_then(|about| about.modified());
    let built = built.unwrap_or_else(|error| panic!("{}: {error}; {hint}", path.display()));
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let newest = newest(&here.join("src")).max(newest(&here.join("../model/src")));
    assert!(newest <= built, "{} is older than its sources; {hint}", path.display());
    path
}

fn newest(dir: &Path) -> SystemTime {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let times = entries.map(|entry| match entry.metadata().unwrap() {
        about if about.is_dir() => newest(&entry.path()),
        about => about.modified().unwrap(),
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

impl Gate {
    pub fn start(game: SocketAddr, change: impl FnOnce(&mut Value)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = json!({
            "listen": "127.0.0.1:0",
            "upstream": game.to_string(),
            "state_dir": dir.path().join("state"),
            "control_socket": dir.path().join("run/gate.sock"),
            "login": ["POST /login.php"],
            "session_cookies": ["PHPSESSID"],
            "health_paths": ["/health"],
            "game_name": "Taverne",
            "limits": { "connect_retry_ms": 1000 },
        });
        change(&mut config);
        let (child, address) = launch(dir.path(), &config)
            .unwrap_or_else(|error| panic!("the gate did not start: {error}"));
        // Started again, it has to be found where it was.
        config["listen"] = json!(address.to_string());
        Self { child, address, dir, config }
    }

    pub fn client(&self) -> Client {
        Client::new(Path::new(self.config["control_socket"].as_str().unwrap()))
    }

    pub fn state_dir(&self) -> PathBuf {
        self.config["state_dir"].as_str().unwrap().into()
    }

    pub fn status(&self) -> Status {
        self.client().status().unwrap()
    }

    /// Asks for a phase, with the next generation.
    pub fn set(&self, phase: Phase) -> Status {
        self.set_with(phase, |_| {})
    }

    pub fn set_with(&self, phase: Phase, change: impl FnOnce(&mut Goal)) -> Status {
        let client = self.client();
        let mut goal = Goal::new(client.next_generation().unwrap(), phase, "test");
        change(&mut goal);
        client.set(&goal).unwrap()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
    }

    /// Ends the process, and gives what it said on standard error: nothing, where nothing panicked.
    pub fn words_at_the_end(mut self) -> String {
        self.kill();
        let mut words = String::new();
        self.child.0.stderr.take().unwrap().read_to_string(&mut words).unwrap();
        words
    }

    /// Starts the process again, on the same folder and port.
    pub fn restart(&mut self) {
        let (child, address) = launch(self.dir.path(), &self.config).unwrap();
        self.child = child;
        self.address = address;
    }

    /// SIGTERM, and whether it ended well.
    pub fn stop(&mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.child.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.0.wait().unwrap().success()
    }

    pub fn player(&self) -> Player {
        Player::connect(self.address)
    }

    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.player().ask(method, target, headers, body)
    }

    pub fn get(&self, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.ask("GET", target, headers, b"")
    }
}

/// Starts a gate process; its own words where it does not start.
pub fn launch(dir: &Path, config: &Value) -> Result<(Process, SocketAddr), String> {
    let path = dir.join("gate.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let mut command = Command::new(program());
    if dir.join("clock").exists() {
        command.env("GATE_CLOCK", dir.join("clock"));
    }
    let child = command.arg(&path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut process = Process(child);
    let child = &mut process.0;
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    match line.trim().strip_prefix("ready ") {
        Some(address) => Ok((process, address.parse().unwrap())),
        None => {
            let mut words = String::new();
            child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
            child.wait().unwrap();
            Err(words)
        }
    }
}
