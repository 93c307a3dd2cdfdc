//! The small game: its versions, and the server that plays it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The change fragment of every version.
pub const NOTE: &str = "+++\nkind = \"added\"\naudience = \"players\"\narea = \"inn\"\n+++\n\n## en\n\nThe inn has something new.\n";

const SCHEMA: &str = "
CREATE TABLE players (id INTEGER PRIMARY KEY, name TEXT NOT NULL, gold INTEGER NOT NULL);
CREATE TABLE purchases (id TEXT PRIMARY KEY, player INTEGER NOT NULL REFERENCES players(id));
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
INSERT INTO players SELECT i, 'player ' || i, i * 7 % 100 FROM n;
";

/// The scripts of a version. Those of 1.1 and 1.3 end well. That of 1.2 commits a part of its work
/// and then fails.
pub fn script(version: &str) -> &'static str {
    match version {
        "1.1" | "1.3" => {
            "ALTER TABLE players ADD COLUMN renown INTEGER NOT NULL DEFAULT 0;
             UPDATE players SET renown = gold * 2 + id;
             CREATE TABLE songs (id INTEGER PRIMARY KEY, title TEXT NOT NULL);
             INSERT INTO songs (title) VALUES ('The fox; and the geese'), ('It''s late');
             CREATE TRIGGER sung AFTER INSERT ON purchases BEGIN
               UPDATE players SET renown = renown + 1 WHERE id = NEW.player;
             END;"
        }
        "1.2" => {
            "BEGIN;
             ALTER TABLE players ADD COLUMN luck INTEGER NOT NULL DEFAULT 7;
             DELETE FROM players WHERE id % 3 = 0;
             COMMIT;
             UPDATE players SET fortune = luck;"
        }
        other => panic!("there is no version {other}"),
    }
}

/// What one purchase does, as one transaction.
pub fn purchase(id: &str) -> String {
    format!(
        "BEGIN IMMEDIATE; INSERT INTO purchases (id, player) VALUES ('{id}', 1);
         UPDATE players SET gold = gold + 1 WHERE id = 1; COMMIT;"
    )
}

/// Writes the tree of a version into the empty folder `into`.
pub fn write_tree(version: &str, into: &Path) {
    let write = |path: &str, text: &str, mode: u32| {
        let path = into.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let shown = match version {
        "1.3" => "broken".to_owned(),
        version => format!("{version}.0"),
    };
    write("version.txt", &format!("version {shown}\n"), 0o644);
    write("index.html", "<h1>The inn</h1>\n", 0o644);
    write("rules/general.txt", &"Be kind.\n".repeat(400), 0o644);
    write("tools/tick.sh", "#!/bin/sh\nexit 0\n", 0o755);
    std::os::unix::fs::symlink("index.html", into.join("start.html")).unwrap();
    if version == "1.0" {
        write("old/candle.svg", "<svg/>\n", 0o644);
        write("sign.svg", "<svg><path d='M0 0'/></svg>\n", 0o644);
    } else {
        write("songs/list.html", &format!("<ul><li>{version}</li></ul>\n"), 0o644);
        write("art/lantern.svg", "<svg><path d='M0 0'/></svg>\n", 0o644);
        write("rules/songs.txt", &"Sing in tune.\n".repeat(5_000), 0o644);
    }
}

/// The running game: it reads its files and opens its database anew for each request.
pub struct Game {
    /// Where it answers.
    pub address: SocketAddr,
    database: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Game {
    /// Starts the game with the tree at `root`; makes its database.
    pub fn start(root: &Path, database: &Path) -> Self {
        rusqlite::Connection::open(database).unwrap().execute_batch(SCHEMA).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (ended, root, path) = (Arc::clone(&stop), root.to_owned(), database.to_owned());
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (root, path) = (root.clone(), path.clone());
                thread::spawn(move || {
                    // A client that hangs up is no concern of the game.
                    let _ = stream.and_then(|stream| answer(stream, &root, &path));
                });
            }
        });
        Self { address, database: database.to_owned(), stop, thread: Some(thread) }
    }

    /// The whole database as text.
    pub fn dump(&self) -> String {
        super::reference::dump(&self.database)
    }
}

impl Drop for Game {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // The listener wakes up for one more connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(stream: TcpStream, root: &Path, database: &Path) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (status, text) = respond(method, path, &body, root, database);
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
    let stream = reader.get_mut();
    stream.write_all(head.as_bytes())?;
    stream.write_all(&text)
}

fn respond(
    method: &str,
    path: &str,
    body: &[u8],
    root: &Path,
    database: &Path,
) -> (&'static str, Vec<u8>) {
    let done = match (method, path) {
        ("POST", "/buy") => buy(body, database),
        ("GET", "/count") => count(database),
        _ => Ok(String::new()),
    };
    match done {
        Err(error) => ("500 Internal Server Error", error.to_string().into_bytes()),
        Ok(text) if !text.is_empty() => ("200 OK", text.into_bytes()),
        Ok(_) => match fs::read(root.join(path.trim_start_matches('/'))) {
            Ok(bytes) => ("200 OK", bytes),
            Err(_) => ("404 Not Found", b"no such page".to_vec()),
        },
    }
}

fn open(database: &Path) -> rusqlite::Result<rusqlite::Connection> {
    let connection = rusqlite::Connection::open(database)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    Ok(connection)
}

fn buy(body: &[u8], database: &Path) -> rusqlite::Result<String> {
    let text = String::from_utf8_lossy(body);
    let id = text.strip_prefix("id=").unwrap_or_default();
    open(database)?.execute_batch(&purchase(id))?;
    Ok(format!("ok {id}"))
}

fn count(database: &Path) -> rusqlite::Result<String> {
    let players: i64 =
        open(database)?.query_row("SELECT count(*) FROM players", [], |row| row.get(0))?;
    Ok(format!("{players} players"))
}
