//! The game of the site: files of the live tree, and a table to which players add rows.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// Header lines, names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// A server of the test's own; it ends when it is dropped.
pub struct Server {
    /// Where it answers.
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers each request with what `answer` says: a status and a body.
    pub fn start(answer: impl Fn(&Request) -> (u16, Vec<u8>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (ended, answer) = (Arc::clone(&stop), Arc::new(answer));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let answer = Arc::clone(&answer);
                thread::spawn(move || {
                    // A client that hangs up in the middle is not the server's trouble.
                    let _ = stream.and_then(|stream| serve(stream, &*answer));
                });
            }
        });
        Self { address, stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // The listener wakes up for one more connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, answer: &dyn Fn(&Request) -> (u16, Vec<u8>)) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let (status, text) = answer(&Request { method, path, headers, body });
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n",
        text.len()
    );
    let stream = reader.get_mut();
    stream.write_all(head.as_bytes())?;
    stream.write_all(&text)
}

/// The game: files below `root`, `/count` and `POST /buy`.
pub fn game(root: &Path, database: &Path) -> Server {
    let (root, database) = (root.to_owned(), database.to_owned());
    Server::start(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/buy") => rows(&database, "INSERT INTO purchases DEFAULT VALUES"),
        ("GET", "/count") => rows(&database, ""),
        (_, path) => file(&root, path),
    })
}

fn file(root: &Path, path: &str) -> (u16, Vec<u8>) {
    let path = match path {
        "/" => "index.html",
        path => path.trim_start_matches('/'),
    };
    let path: PathBuf = root.join(path.split('?').next().unwrap_or_default());
    fs::read(path).map_or((404, b"no such page".to_vec()), |bytes| (200, bytes))
}

/// How many purchases there are, after one statement.
fn rows(database: &Path, statement: &str) -> (u16, Vec<u8>) {
    let done = rusqlite::Connection::open(database).and_then(|connection| {
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.execute_batch(statement)?;
        connection.query_row("SELECT count(*) FROM purchases", [], |row| row.get::<_, i64>(0))
    });
    match done {
        Ok(count) => (200, format!("{count} purchases").into_bytes()),
        Err(error) => (500, error.to_string().into_bytes()),
    }
}
