//! A PostgreSQL server of a test's own.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postgres::{Client, Config, NoTls};
use rustix::fs::FlockOperation;
use tempfile::TempDir;

use crate::process::{START_MS_MAX, Server, free_port, is_root, kill, program, wait_until};

const PORT_TRIES: usize = 5;
/// Debian keeps the server's programs out of the path.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A running server with an empty data directory. It is killed when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    server: Mutex<Server>,
    port: u16,
    socket_dir: PathBuf,
    // Last: the directory goes after the server.
    _dir: TempDir,
}

impl Postgres {
    /// Starts a server with a superuser `postgres`, who needs no password on its socket; others
    /// need theirs.
    ///
    /// # Panics
    /// Where PostgreSQL is not installed, or does not start.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("pg").tempdir().expect("a temporary directory");
        let data_dir = dir.path().join("data");
        // The server may run as another account than the test, and refuses to run as root.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("open to all");
        copy_as_owner(&template(), &data_dir);
        let mut said = String::new();
        for _ in 0..PORT_TRIES {
            let port = free_port();
            let server = spawn(dir.path(), &data_dir, port);
            let socket_dir = dir.path().to_owned();
            let is_up = || connect(&socket_dir, port, "postgres").is_ok();
            wait_until(START_MS_MAX, || is_up() || !server.runs());
            if server.runs() && is_up() {
                let server = Mutex::new(server);
                return Self { server, port, socket_dir, _dir: dir };
            }
            said = server.log_tail();
        }
        panic!("postgres did not start; its log:\n{said}");
    }

    /// The directory of its unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Its port on 127.0.0.1, which names its socket too.
    pub fn port(&self) -> u16 {
        self.port
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
        let data_dir = self.socket_dir.join("data");
        let is_up = || connect(&self.socket_dir, self.port, "postgres").is_ok();
        let up = wait_until(START_MS_MAX, || {
            // It refuses to start while a session of its predecessor is still going.
            let server = spawn(&self.socket_dir, &data_dir, self.port);
            wait_until(START_MS_MAX, || is_up() || !server.runs());
            let is_up = server.runs() && is_up();
            *self.locked() = server;
            is_up
        });
        assert!(up, "postgres did not start again; its log:\n{}", self.locked().log_tail());
    }

    /// A new connection as the superuser, in the given database.
    ///
    /// # Panics
    /// Where the server does not answer.
    pub fn root(&self, database: &str) -> Client {
        connect(&self.socket_dir, self.port, database).expect("a connection as the superuser")
    }

    /// Creates an account, and a database that it owns. `rights` are further attributes of the
    /// account (`CREATEDB`).
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn create_database(&self, name: &str, user: &str, password: &str, rights: &str) {
        let password = password.replace('\'', "''");
        let mut root = self.root("postgres");
        for sql in [
            format!("CREATE ROLE \"{user}\" LOGIN {rights} PASSWORD '{password}'"),
            format!("CREATE DATABASE \"{name}\" OWNER \"{user}\""),
        ] {
            root.batch_execute(&sql).expect("a new database");
        }
    }
}

fn connect(socket_dir: &Path, port: u16, database: &str) -> Result<Client, postgres::Error> {
    let mut config = Config::new();
    config.host_path(socket_dir).port(port).user("postgres").dbname(database).connect(NoTls)
}

fn spawn(dir: &Path, data_dir: &Path, port: u16) -> Server {
    let mut args = as_other_account();
    let program_args = [
        server_program("postgres").display().to_string(),
        format!("-D{}", data_dir.display()),
        format!("-k{}", dir.display()),
        "-h127.0.0.1".to_owned(),
        format!("-p{port}"),
    ];
    args.extend(program_args);
    // Small and quick: what is tested survives a kill of our process, not a power cut.
    for setting in
        ["fsync=off", "shared_buffers=16MB", "max_connections=60", "max_prepared_transactions=5"]
    {
        args.extend(["-c".to_owned(), setting.to_owned()]);
    }
    let first = args.remove(0);
    let first = if first.starts_with('/') { PathBuf::from(first) } else { program(&[&first]) };
    Server::start(&first, &args, &dir.join("log"))
}

/// The words in front of a program that refuses to run as root.
fn as_other_account() -> Vec<String> {
    if !is_root() {
        return Vec::new();
    }
    ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"].map(String::from).into()
}

fn command(program_path: &Path) -> Command {
    let mut words = as_other_account();
    words.push(program_path.display().to_string());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// A program of the server, of the newest version that Debian installed, or from the path.
///
/// # Panics
/// With a hint, where it is not installed.
pub fn server_program(name: &str) -> PathBuf {
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let version = entry.file_name().to_string_lossy().parse().ok()?;
            Some((version, entry.path().join("bin").join(name)))
        })
        .filter(|(_, file)| file.is_file())
        .collect();
    found.sort();
    found.pop().map_or_else(|| program(&[name]), |(_, file)| file)
}

/// An empty data directory, made once for each version and user, and then copied.
fn template() -> PathBuf {
    let version = Command::new(server_program("postgres")).arg("--version").output();
    let version = version.expect("the version of postgres").stdout;
    let version: String = String::from_utf8_lossy(&version)
        .chars()
        .filter(|c| c.is_ascii_digit() || *c == '.')
        .take(16)
        .collect();
    let user = rustix::process::geteuid().as_raw();
    let base = std::env::temp_dir().join(format!("entracte-testbed-{user}-pg-{version}"));
    fs::create_dir_all(&base).expect("a directory for the template");
    fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).expect("open to all");
    let lock = OpenOptions::new().create(true).append(true).open(base.join("lock"));
    let lock = lock.expect("the template's lock");
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("the lock");
    let ready = base.join("data");
    if !ready.is_dir() {
        let new = base.join("new");
        if new.exists() {
            fs::remove_dir_all(&new).expect("the unfinished template removed");
        }
        let made = command(&server_program("initdb"))
            .arg(format!("--pgdata={}", new.display()))
            .args(["--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .current_dir("/")
            .output()
            .expect("initdb started");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // The superuser comes in by the socket without a password; everybody else needs theirs.
        let rules = "local all postgres trust\nlocal all all scram-sha-256\n\
                     host all all 127.0.0.1/32 scram-sha-256\n";
        fs::write(new.join("pg_hba.conf"), rules).expect("the rules of who comes in");
        fs::rename(&new, &ready).expect("the template in its place");
    }
    ready
}

/// A copy of the directory that belongs to the account of the server.
fn copy_as_owner(from: &Path, to: &Path) {
    let copied = command(&program(&["cp"])).arg("-r").arg(from).arg(to).output();
    let copied = copied.expect("cp started");
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let closed = command(&program(&["chmod"])).arg("0700").arg(to).status();
    assert!(closed.expect("chmod started").success());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::runs;

    #[test]
    fn a_server_has_an_account_for_the_game_and_is_gone_afterwards() {
        let server = Postgres::start();
        server.create_database("taverne", "player", "it's a secret", "");
        let enter = |password: &str| {
            let mut config = Config::new();
            config.host("127.0.0.1").port(server.port()).dbname("taverne").user("player");
            config.password(password).connect(NoTls)
        };
        let mut player = enter("it's a secret").unwrap();
        player.batch_execute("CREATE TABLE t (id INT PRIMARY KEY)").unwrap();
        assert!(player.batch_execute("CREATE DATABASE other").is_err());
        assert!(enter("wrong").is_err());
        let (pid, dir) = (server.pid(), server.socket_dir().to_owned());
        drop(server);
        assert!(wait_until(START_MS_MAX, || !runs(pid)), "still there: {pid}");
        assert!(!dir.exists());
    }
}
