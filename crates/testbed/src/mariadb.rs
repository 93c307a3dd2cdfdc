//! A real MariaDB server for tests: private data directory, unix socket, a free port of 127.0.0.1.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use rustix::fs::FlockOperation;
use tempfile::TempDir;

use crate::process::{START_MS_MAX, Server, free_port, is_root, kill, program, wait_until};

/// How often another port is tried when somebody was faster to take it.
const PORT_TRIES: u32 = 3;
/// How long a server may take to write down what it has in memory.
const SHUT_DOWN_MS_MAX: u64 = 300_000;

/// A running server. It is killed, and its data removed, when this is dropped.
#[derive(Debug)]
pub struct Mariadb {
    server: Mutex<Server>,
    options: Vec<String>,
    port: u16,
    socket: PathBuf,
    data_dir: PathBuf,
    // Last: the directory goes after the server.
    _dir: TempDir,
}

impl Mariadb {
    /// Starts a server with an empty data directory and an account `root` without a password.
    ///
    /// # Panics
    /// Where MariaDB is not installed, or does not start.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Mariadb::start`], with further options (`--log-bin`).
    ///
    /// # Panics
    /// Where MariaDB is not installed, or does not start.
    pub fn start_with(options: &[&str]) -> Self {
        Self::start_on(&template(), options)
    }

    /// As [`Mariadb::start_with`], with a copy of the data directory of a server that was shut down.
    ///
    /// # Panics
    /// Where MariaDB is not installed, or does not start.
    pub fn start_on(data: &Path, options: &[&str]) -> Self {
        // A short name, because a socket's path may not be longer than 107 bytes.
        let dir = tempfile::Builder::new().prefix("mdb").tempdir().expect("a temporary directory");
        let (socket, data_dir) = (dir.path().join("s"), dir.path().join("data"));
        copy_tree(data, &data_dir).expect("a copy of the data directory");
        fs::create_dir(dir.path().join("tmp")).expect("a directory for temporary tables");
        let mut said = String::new();
        for _ in 0..PORT_TRIES {
            let port = free_port();
            let server = spawn(dir.path(), &socket, port, options);
            wait_until(START_MS_MAX, || connect(&socket).is_ok() || !server.runs());
            if server.runs() && connect(&socket).is_ok() {
                let options = options.iter().map(ToString::to_string).collect();
                let server = Mutex::new(server);
                return Self { server, options, port, socket, data_dir, _dir: dir };
            }
            said = server.log_tail();
        }
        panic!("mariadbd did not start; its log:\n{said}");
    }

    /// The server's unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.locked().pid()
    }

    fn locked(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the server by SIGKILL, as a crash does. Returns when it is gone.
    ///
    /// # Panics
    /// Where it does not go.
    pub fn kill(&self) {
        kill(self.pid());
    }

    /// Starts the server again on the data that it left, at the same place. Ends it before where
    /// it still runs.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn start_again(&self) {
        self.kill();
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let dir = self.socket.parent().expect("the socket's directory");
        let server = spawn(dir, &self.socket, self.port, &options);
        server.wait_until_ready(|| connect(&self.socket).is_ok());
        *self.locked() = server;
    }

    /// A new connection as `root`, who may do everything, in no database.
    ///
    /// # Panics
    /// Where the server does not answer.
    pub fn root(&self) -> Conn {
        connect(&self.socket).expect("a connection as root")
    }

    /// Ends the server in good order, and moves its data directory to `into`.
    ///
    /// # Panics
    /// Where it does not end, or `into` is on another file system.
    pub fn shut_down_into(self, into: &Path) {
        self.root().query_drop("SHUTDOWN").expect("a server that can be shut down");
        let ended = wait_until(SHUT_DOWN_MS_MAX, || !self.locked().runs());
        assert!(ended, "mariadbd did not end:\n{}", self.locked().log_tail());
        fs::rename(&self.data_dir, into).expect("the data directory in its place");
    }

    /// Creates a database, and an account that has every right on it and no other.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn create_database(&self, name: &str, user: &str, password: &str) {
        let mut root = self.root();
        let password = password.replace('\\', "\\\\").replace('\'', "\\'");
        for sql in [
            format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4"),
            format!("CREATE USER IF NOT EXISTS '{user}'@'localhost' IDENTIFIED BY '{password}'"),
            format!("GRANT ALL PRIVILEGES ON `{name}`.* TO '{user}'@'localhost'"),
        ] {
            root.query_drop(sql).expect("a new database");
        }
    }
}

fn connect(socket: &Path) -> mysql::Result<Conn> {
    let socket = socket.to_string_lossy().into_owned();
    Conn::new(OptsBuilder::new().socket(Some(socket)).user(Some("root")))
}

fn spawn(dir: &Path, socket: &Path, port: u16, options: &[&str]) -> Server {
    let mut args = vec![
        "--no-defaults".to_owned(),
        format!("--datadir={}", dir.join("data").display()),
        format!("--socket={}", socket.display()),
        format!("--pid-file={}", dir.join("pid").display()),
        // A server that starts clears away what looks like temporary tables, also those of
        // another that runs with the same directory.
        format!("--tmpdir={}", dir.join("tmp").display()),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--port={port}"),
    ];
    args.extend(
        SMALL.iter().copied().chain(as_root()).chain(options.iter().copied()).map(String::from),
    );
    Server::start(&program(&["mariadbd"]), &args, &dir.join("log"))
}

/// Small and quick: what is tested survives a kill of our process, not a power cut.
const SMALL: [&str; 7] = [
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-file-size=8M",
    "--innodb-undo-tablespaces=0",
    "--innodb-flush-log-at-trx-commit=2",
    "--key-buffer-size=1M",
    "--aria-pagecache-buffer-size=1M",
    "--character-set-server=utf8mb4",
];

fn as_root() -> Option<&'static str> {
    is_root().then_some("--user=root")
}

/// An empty data directory, made once for each version and user, and then copied.
fn template() -> PathBuf {
    let version = Command::new(program(&["mariadbd"])).arg("--version").output();
    let tag = version_tag(&version.expect("the version of mariadbd").stdout);
    let user = rustix::process::geteuid().as_raw();
    let base = std::env::temp_dir().join(format!("entracte-testbed-{user}-{tag:016x}"));
    fs::create_dir_all(&base).expect("a directory for the template");
    let lock = OpenOptions::new().create(true).append(true).open(base.join("lock"));
    let lock = lock.expect("the template's lock");
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("the lock");
    let ready = base.join("data");
    if !ready.is_dir() {
        let new = base.join("new");
        if new.exists() {
            fs::remove_dir_all(&new).expect("the unfinished template removed");
        }
        let made = Command::new(program(&["mariadb-install-db"]))
            .arg("--no-defaults")
            .arg(format!("--datadir={}", new.display()))
            .arg(format!("--tmpdir={}", base.display()))
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
            .args(["--innodb-log-file-size=8M", "--innodb-undo-tablespaces=0"])
            .args(as_root())
            .output()
            .expect("mariadb-install-db started");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fs::rename(&new, &ready).expect("the template in its place");
    }
    ready
}

/// A number that differs between two versions (FNV-1a).
fn version_tag(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::runs;

    #[test]
    fn a_server_has_an_account_for_the_game_and_is_gone_afterwards() {
        let server = Mariadb::start();
        server.create_database("taverne", "player", "its a secret");
        let opts = OptsBuilder::new()
            .ip_or_hostname(Some("127.0.0.1"))
            .tcp_port(server.port())
            .prefer_socket(false)
            .user(Some("player"))
            .pass(Some("its a secret"))
            .db_name(Some("taverne"));
        let mut player = Conn::new(opts).unwrap();
        player.query_drop("CREATE TABLE t (id INT PRIMARY KEY)").unwrap();
        assert!(player.query_drop("CREATE DATABASE other").is_err());
        assert!(server.data_dir().join("taverne/t.ibd").exists());
        let (pid, data_dir) = (server.pid(), server.data_dir().to_owned());
        drop(server);
        assert!(wait_until(START_MS_MAX, || !runs(pid)), "still there: {pid}");
        assert!(!data_dir.exists());
    }
}
