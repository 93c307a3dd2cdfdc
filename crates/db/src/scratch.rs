//! Private, empty databases of the same engine: for rehearsals, for comparing schemas, and for
//! the proof that a backup can be restored. They cannot reach the live database: a SQLite file
//! of their own, or a server of their own that listens on no network.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::error::DbError;
use crate::files::{private_dir, remove_tree_if_there};
use crate::mariadb::{ScratchGoal, live_goal, prepare_scratch};
use crate::settings::{MariadbSettings, Settings, SqliteSettings};
use crate::tool;

mod postgres;

const START_MS_MAX: u64 = 60_000;
const POLL_MS: u64 = 20;
/// The longest path of a unix socket that the kernel takes.
const SOCKET_BYTES_MAX: usize = 107;
/// The end of the server's log that an error shows.
const LOG_CHARS_MAX: usize = 1_000;

/// The server lives behind a shell that waits on its standard input: when our process ends,
/// however it ends, the pipe closes and the shell takes the server with it.
const GUARD: &str = r#"log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & read -r _; kill -KILL 0"#;

/// A running scratch instance. Its server is killed when this is dropped; its directory stays
/// the caller's to remove.
#[derive(Debug)]
pub struct Scratch {
    settings: Settings,
    notes: Vec<String>,
    _server: Option<ScratchServer>,
}

impl Scratch {
    /// How to enter it, for [`crate::open`].
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How it differs from the live database in what scripts may depend on.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

#[derive(Debug)]
struct ScratchServer {
    guard: Child,
    _socket_dir: Option<TempDir>,
}

impl Drop for ScratchServer {
    fn drop(&mut self) {
        // It may be gone already; a killed scratch server loses nothing that anybody wants.
        let _ = kill_process_group(Pid::from_child(&self.guard), Signal::KILL);
        drop(self.guard.wait());
    }
}

/// Starts an empty instance of the engine that `settings` name, in `dir`. What an earlier one
/// left there is removed. A live MariaDB server is asked for its defaults (`sql_mode`, character
/// set), so that scripts behave as they would there; one out of reach is a note.
///
/// # Errors
/// [`DbError::Tool`] where the engine's server programs are missing or do not start.
pub fn start(settings: &Settings, dir: &Path) -> Result<Scratch, DbError> {
    private_dir(dir)?;
    match settings {
        Settings::Sqlite(_) => start_sqlite(dir),
        Settings::Mariadb(live) => start_mariadb(live, dir),
        Settings::Postgres(live) => postgres::start(live, dir),
    }
}

fn start_sqlite(dir: &Path) -> Result<Scratch, DbError> {
    let path = dir.join("scratch.sqlite");
    for suffix in ["", "-journal", "-wal", "-shm"] {
        crate::files::remove_if_there(&dir.join(format!("scratch.sqlite{suffix}")))?;
    }
    crate::files::private_file(&path)?;
    let settings = Settings::Sqlite(SqliteSettings { path });
    Ok(Scratch { settings, notes: Vec::new(), _server: None })
}

fn start_mariadb(live: &MariadbSettings, dir: &Path) -> Result<Scratch, DbError> {
    let (goal, mut notes) = match live_goal(live) {
        Ok(goal) => (goal, Vec::new()),
        Err(error) => {
            let note = format!("the live server could not be asked for its defaults: {error}");
            (ScratchGoal::default(), vec![note])
        }
    };
    let dir = fs::canonicalize(dir).map_err(DbError::io("look at", dir))?;
    let data_dir = dir.join("data");
    remove_tree_if_there(&data_dir)?;
    private_dir(&dir.join("no-files"))?;
    private_dir(&dir.join("tmp"))?;
    install(&dir, &data_dir)?;
    let (socket, socket_dir) = socket_path(&dir)?;
    let guard = spawn(&dir, &data_dir, &socket, &goal)?;
    let mut server = ScratchServer { guard, _socket_dir: socket_dir };
    let settings = MariadbSettings {
        socket: Some(socket),
        host: None,
        port: 0,
        user: "root".to_owned(),
        password: Default::default(),
        database: live.database.clone(),
        data_dir: Some(data_dir),
        game_users: Vec::new(),
    };
    let deadline = Instant::now() + Duration::from_millis(START_MS_MAX);
    loop {
        match prepare_scratch(&settings, &goal) {
            Ok(more) => {
                notes.extend(more);
                break;
            }
            Err(error) if Instant::now() >= deadline || gone(&mut server.guard) => {
                return Err(does_not_answer("mariadbd", &dir, &error));
            }
            Err(_) => thread::sleep(Duration::from_millis(POLL_MS)),
        }
    }
    Ok(Scratch { settings: Settings::Mariadb(settings), notes, _server: Some(server) })
}

fn does_not_answer(tool: &str, dir: &Path, error: &DbError) -> DbError {
    let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
    let skip = log.chars().count().saturating_sub(LOG_CHARS_MAX);
    let end: String = log.chars().skip(skip).collect();
    DbError::Tool {
        tool: tool.to_owned(),
        expected: "a scratch server that answers".to_owned(),
        found: format!("{error}; the end of its log: {end}"),
    }
}

fn gone(child: &mut Child) -> bool {
    child.try_wait().is_ok_and(|status| status.is_some())
}

fn install(dir: &Path, data_dir: &Path) -> Result<(), DbError> {
    let program = tool::find(&["mariadb-install-db", "mysql_install_db"])?;
    let mut command = Command::new(program);
    command
        .arg("--no-defaults")
        .arg(format!("--datadir={}", data_dir.display()))
        .arg(tmpdir(dir))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        .args(small())
        .args(as_root());
    tool::read_from(command, &mut std::io::sink(), &mut |_| {}).map(drop)
}

fn spawn(dir: &Path, data_dir: &Path, socket: &Path, goal: &ScratchGoal) -> Result<Child, DbError> {
    let program = tool::find(&["mariadbd", "mysqld"])?;
    let log = dir.join("log");
    OpenOptions::new().create(true).append(true).open(&log).map_err(DbError::io("create", &log))?;
    let mut command = Command::new("sh");
    command
        .args(["-c", GUARD, "guard"])
        .arg(&log)
        .arg(program)
        .arg("--no-defaults")
        .arg(format!("--datadir={}", data_dir.display()))
        .arg(format!("--socket={}", socket.display()))
        .arg(format!("--pid-file={}", dir.join("pid").display()))
        .arg(tmpdir(dir))
        // Scripts under rehearsal may read and write files in an empty directory only.
        .arg(format!("--secure-file-priv={}", dir.join("no-files").display()))
        .args(["--skip-networking", "--skip-log-bin", "--event-scheduler=OFF"])
        // A crash of the machine loses a scratch database, and nobody minds.
        .args(["--innodb-flush-log-at-trx-commit=0", "--skip-innodb-doublewrite"])
        .args(small())
        .args(goal.options())
        .args(as_root())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    command.spawn().map_err(DbError::io("start", "sh"))
}

/// A directory of its own for temporary tables: a server that starts clears away what looks like
/// one, also those of the live server where the two share a directory.
fn tmpdir(dir: &Path) -> String {
    format!("--tmpdir={}", dir.join("tmp").display())
}

/// A server that is used for minutes.
fn small() -> [&'static str; 3] {
    ["--innodb-log-file-size=48M", "--innodb-buffer-pool-size=128M", "--innodb-undo-tablespaces=0"]
}

fn as_root() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}

/// In `dir` where its path is short enough for a socket, else in a temporary directory.
fn socket_path(dir: &Path) -> Result<(PathBuf, Option<TempDir>), DbError> {
    let socket = dir.join("sock");
    if socket.as_os_str().len() <= SOCKET_BYTES_MAX {
        return Ok((socket, None));
    }
    let temporary = std::env::temp_dir();
    let made = tempfile::Builder::new()
        .prefix("entracte-")
        .tempdir_in(&temporary)
        .map_err(DbError::io("create a directory in", &temporary))?;
    Ok((made.path().join("sock"), Some(made)))
}
