//! The processes of the demo: the game, the gate, and the commands that a person would type.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::screen::Screen;
use super::stage::Stage;
use crate::exit::Failure;

/// How long a process may take to answer for the first time, and to end when it is asked to.
const START_MS_MAX: u64 = 30_000;
const END_MS_MAX: u64 = 10_000;
/// How long one command may take: many times what the slowest machine needs.
const COMMAND_MS_MAX: u64 = 180_000;
const POLL_MS: u64 = 20;

/// A process that is ended when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The number of a process that was waited for may be somebody else's by now.
        if self.has_ended() {
            return;
        }
        signal(&self.child, Signal::TERM);
        let asked = Instant::now();
        while !self.has_ended() {
            if asked.elapsed() > Duration::from_millis(END_MS_MAX) {
                // It had its time. What is killed has nothing that a crash may not cost.
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(POLL_MS));
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    // A process that has ended needs no signal.
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// This program, with the stage as its working folder. Each process has a group of its own, so
/// that Ctrl-C reaches the demo alone, which then ends the others in their order.
fn program(stage: &Stage) -> Result<Command, Failure> {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(std::env::current_exe()?);
    command.current_dir(stage.dir()).env_remove("ENTRACTE_CONFIG").stdin(Stdio::null());
    // Nothing of a demo is left behind in the person's own folders.
    command.env("XDG_CACHE_HOME", stage.at("cache"));
    command.process_group(0);
    Ok(command)
}

/// A program file that was replaced while it runs is the usual reason: say which file was meant.
fn not_started(error: &std::io::Error) -> Failure {
    let path = std::env::current_exe().unwrap_or_default();
    Failure::broken(format!("{} could not be started: {error}", path.display()))
        .hint("was the program replaced while the demo ran? Start the demo again")
}

/// Starts the game, and gives the address that it listens on.
pub fn game(stage: &Stage) -> Result<(Running, SocketAddr), Failure> {
    let log = std::fs::File::create(stage.at("logs/game.log"))?;
    let mut child = program(stage)?
        .args(["demo-game", "--listen", "127.0.0.1:0", "--root"])
        .arg(stage.root())
        .arg("--database")
        .arg(stage.database())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|error| not_started(&error))?;
    let out = child.stdout.take();
    let running = Running { child };
    let mut line = String::new();
    if let Some(out) = out {
        BufReader::new(out).read_line(&mut line)?;
    }
    let address = line.trim().parse().map_err(|_| {
        Failure::broken(format!("the game did not start: {}", tail(&stage.at("logs/game.log"))))
    })?;
    Ok((running, address))
}

/// Two addresses on this machine that nobody listens on. Bound at the same time: they differ.
pub fn free_addresses() -> Result<[SocketAddr; 2], Failure> {
    let (one, other) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok([one.local_addr()?, other.local_addr()?])
}

/// Starts `entracte up` and waits until `ready`.
pub fn up(stage: &Stage, mut ready: impl FnMut() -> bool) -> Result<Running, Failure> {
    let path = stage.at("logs/up.log");
    let log = std::fs::File::create(&path)?;
    let child = program(stage)?
        .arg("up")
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|error| not_started(&error))?;
    let mut running = Running { child };
    let begun = Instant::now();
    while !ready() {
        if running.has_ended() || begun.elapsed() > Duration::from_millis(START_MS_MAX) {
            return Err(Failure::broken(format!("the gate did not start: {}", tail(&path))));
        }
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
    Ok(running)
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; nothing where a signal ended it.
    pub code: Option<i32>,
    /// The last line that it printed.
    pub last: String,
}

/// Runs `entracte` with `args` as a person would, and shows what it prints line by line. When
/// `stop` is set it is asked to stop, as by Ctrl-C, and waited for.
pub fn command(
    stage: &Stage,
    screen: &Screen,
    args: &[&str],
    stop: &AtomicBool,
) -> Result<Ended, Failure> {
    screen.command(args);
    let mut command = program(stage)?;
    // It prints into a pipe, and its colours are wanted all the same where there is a terminal.
    if screen.has_colours() {
        command.env("CLICOLOR_FORCE", "1");
    }
    let mut child = command
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| not_started(&error))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let mut running = Running { child };
    let (sender, lines) = mpsc::sync_channel(64);
    let mut last = String::new();
    let mut asked = false;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let errors = sender.clone();
        scope.spawn(move || out.map(|out| pass_on(out, &sender)));
        scope.spawn(move || err.map(|err| pass_on(err, &errors)));
        loop {
            match lines.recv_timeout(Duration::from_millis(POLL_MS)) {
                Ok(line) => {
                    screen.child_line(&line);
                    last = line;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            let late = begun.elapsed() > Duration::from_millis(COMMAND_MS_MAX);
            if (late || stop.load(Ordering::SeqCst)) && !std::mem::replace(&mut asked, true) {
                signal(&running.child, Signal::INT);
            }
        }
    });
    let status = running.child.wait()?;
    Ok(Ended { code: status.code(), last })
}

fn pass_on(from: impl std::io::Read, to: &mpsc::SyncSender<String>) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        if to.send(line).is_err() {
            return;
        }
    }
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().last().unwrap_or("it left no message").to_owned()
}
