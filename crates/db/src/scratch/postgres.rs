//! A private PostgreSQL server. It refuses to run as root: then it runs as `nobody`, and reaches
//! its data directory through an open handle, so that the directories above stay closed to it.

use std::fs::{self, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Gid, Mode, OFlags, Uid};

use super::{GUARD, POLL_MS, START_MS_MAX, Scratch, ScratchServer, does_not_answer, gone};
use crate::error::DbError;
use crate::files::{private_dir, remove_tree_if_there};
use crate::postgres::{Goal, live_goal, prepare};
use crate::settings::{PostgresSettings, Settings};
use crate::tool;

/// `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;
/// Names the socket; no network is listened on.
const PORT: u16 = 5_432;

pub(super) fn start(live: &PostgresSettings, dir: &Path) -> Result<Scratch, DbError> {
    let (goal, mut notes) = match live_goal(live) {
        Ok(goal) => (goal, Vec::new()),
        Err(error) => {
            let note = format!("the live server could not be asked for its defaults: {error}");
            (Goal::default(), vec![note])
        }
    };
    let dir = fs::canonicalize(dir).map_err(DbError::io("look at", dir))?;
    let data_dir = dir.join("data");
    remove_tree_if_there(&data_dir)?;
    private_dir(&data_dir)?;
    hand_over(&data_dir)?;
    let temporary = std::env::temp_dir();
    let socket_dir = tempfile::Builder::new()
        .prefix("entracte-")
        .tempdir_in(&temporary)
        .map_err(DbError::io("create a directory in", &temporary))?;
    hand_over(socket_dir.path())?;
    let data = handle(&data_dir)?;
    install(&data, &live.user)?;
    let guard = spawn(&dir, &data, socket_dir.path())?;
    let settings = PostgresSettings {
        socket_dir: Some(socket_dir.path().to_owned()),
        host: None,
        port: PORT,
        user: live.user.clone(),
        password: Default::default(),
        database: live.database.clone(),
        game_users: Vec::new(),
    };
    let mut server = ScratchServer { guard, _socket_dir: Some(socket_dir) };
    let deadline = Instant::now() + Duration::from_millis(START_MS_MAX);
    loop {
        match prepare(&settings, &goal) {
            Ok(more) => {
                notes.extend(more);
                break;
            }
            Err(error) if Instant::now() >= deadline || gone(&mut server.guard) => {
                return Err(does_not_answer("postgres", &dir, &error));
            }
            Err(_) => thread::sleep(Duration::from_millis(POLL_MS)),
        }
    }
    Ok(Scratch { settings: Settings::Postgres(settings), notes, _server: Some(server) })
}

/// Gives a directory to the account of the server, where that is not ours.
fn hand_over(dir: &Path) -> Result<(), DbError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    rustix::fs::chown(dir, Some(user), Some(group))
        .map_err(|error| DbError::io("give away", dir)(error.into()))
}

/// A handle that the programs which are started meanwhile inherit.
fn handle(dir: &Path) -> Result<OwnedFd, DbError> {
    rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
        .map_err(|error| DbError::io("open", dir)(error.into()))
}

/// The words of a command that runs `name` with the data directory.
fn words(name: &str, data: &OwnedFd) -> Result<Vec<String>, DbError> {
    let mut words = Vec::new();
    if rustix::process::geteuid().is_root() {
        words.push(tool::find(&["setpriv"])?.display().to_string());
        words.extend([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
        words.push("--clear-groups".to_owned());
    }
    words.push(tool::find_postgres(name)?.display().to_string());
    words.push(format!("--pgdata=/proc/self/fd/{}", data.as_raw_fd()));
    Ok(words)
}

fn install(data: &OwnedFd, user: &str) -> Result<(), DbError> {
    let words = words("initdb", data)?;
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .arg(format!("--username={user}"))
        .args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
        .current_dir("/");
    tool::read_from(command, &mut std::io::sink(), &mut |_| {}).map(drop)
}

fn spawn(dir: &Path, data: &OwnedFd, socket_dir: &Path) -> Result<Child, DbError> {
    let log = dir.join("log");
    OpenOptions::new().create(true).append(true).open(&log).map_err(DbError::io("create", &log))?;
    let mut words = words("postgres", data)?;
    if let Some(word) = words.iter_mut().find(|word| word.starts_with("--pgdata=")) {
        *word = word.replace("--pgdata=", "-D");
    }
    let mut command = Command::new("sh");
    command
        .args(["-c", GUARD, "guard"])
        .arg(&log)
        .args(words)
        .arg(format!("-k{}", socket_dir.display()))
        .arg(format!("-p{PORT}"))
        .args(["-c", "listen_addresses="])
        // A crash of the machine loses a scratch database, and nobody minds.
        .args(["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off"])
        .args(["-c", "shared_buffers=64MB", "-c", "max_locks_per_transaction=256"])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    command.spawn().map_err(DbError::io("start", "sh"))
}
