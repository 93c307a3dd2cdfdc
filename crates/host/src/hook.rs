//! Commands of the configuration: reload php-fpm, stop the workers.
//!
//! A hook runs in a process group of its own, with a time limit, its output caught and bounded.
//! At the limit the whole group ends, children included. A hook that succeeds may leave a service
//! running: its group is then left alone.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, PipeReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, HookFailure};
use crate::op::Progress;
use crate::{HostError, fault};

/// How much of a hook's output is kept, in bytes: its end, where the reason stands.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Between the polite signal (SIGTERM) at the time limit and the last one (SIGKILL).
pub const TERM_GRACE_MS: u64 = 1_000;
/// How long the output of a hook that has ended is waited for: a service that it left running may
/// hold it open for ever.
pub const OUTPUT_GRACE_MS: u64 = 300;
/// Pieces of output that wait for us before the hook itself has to.
const QUEUE_PIECES_MAX: usize = 64;
/// The longest line that is passed on as progress, in characters.
const NOTE_CHARS_MAX: usize = 200;

/// A command to run.
#[derive(Debug, Clone, Copy)]
pub struct Hook<'a> {
    /// What people call it.
    pub name: &'a str,
    /// The command, given to `sh -c`.
    pub command: &'a str,
    /// The folder to run it in.
    pub dir: &'a Path,
    /// The longest it may take, in milliseconds.
    pub timeout_ms: u64,
    /// Added to the environment.
    pub env: &'a BTreeMap<String, String>,
}

/// How a hook went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookDone {
    /// How it ended.
    pub ending: Ending,
    /// The end of what it printed (both streams, in order), at most [`OUTPUT_BYTES_MAX`] bytes.
    pub output: String,
    /// How much it printed in all, in bytes.
    pub output_bytes: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Whether something that it started is still running with its output open.
    pub left_running: bool,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ending", rename_all = "kebab-case")]
pub enum Ending {
    /// By itself.
    Exit {
        /// Its exit code: 0 is success.
        code: i32,
    },
    /// By a signal that was not ours.
    Signal {
        /// The signal's number.
        number: i32,
        /// Its name: `SIGSEGV`.
        name: String,
    },
    /// By us, with its group, at its time limit.
    TimedOut {
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit { code: 126 } => {
                write!(f, "ended with exit code 126: its command cannot be executed")
            }
            Self::Exit { code: 127 } => {
                write!(f, "ended with exit code 127: its command was not found")
            }
            Self::Exit { code } => write!(f, "ended with exit code {code}; 0 is expected"),
            Self::Signal { number, name } => write!(f, "was ended by {name} (signal {number})"),
            Self::TimedOut { limit_ms } => {
                let limit = entracte_model::time::human_ms(*limit_ms);
                write!(f, "took longer than its limit of {limit} and was ended with its children")
            }
        }
    }
}

/// Runs `hook` to its end; `say` gets each line that it prints.
///
/// # Errors
/// Where it cannot be started, or ended in another way than with exit code 0.
pub fn run(hook: &Hook<'_>, say: &mut dyn FnMut(Progress)) -> Result<HookDone, HostError> {
    let started = Instant::now();
    let (mut child, output) = start(hook)?;
    let news = listen(&child, output).doing("follow the hook in", hook.dir);
    let news = match news {
        Ok(news) => news,
        Err(error) => {
            end_group(&child, Signal::KILL);
            let _ = child.wait();
            return Err(error);
        }
    };
    let mut heard = Heard::default();
    let limit = started + Duration::from_millis(hook.timeout_ms);
    let in_time = heard.until_exit(&news, limit, say);
    if !in_time {
        end_group(&child, Signal::TERM);
        let grace = Instant::now() + Duration::from_millis(TERM_GRACE_MS);
        heard.until_exit(&news, grace, say);
        // Also where the first process is gone: its children may have ignored the polite signal.
        // It is not reaped yet, so the group's number cannot belong to anybody else.
        end_group(&child, Signal::KILL);
    }
    let status = child.wait().doing("wait for the hook in", hook.dir)?;
    heard.rest(&news, say);
    let done = HookDone {
        ending: if in_time {
            ending(status)
        } else {
            Ending::TimedOut { limit_ms: hook.timeout_ms }
        },
        output: heard.tail.text(),
        output_bytes: heard.tail.total,
        took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        left_running: !heard.closed,
    };
    if done.ending == (Ending::Exit { code: 0 }) {
        Ok(done)
    } else {
        Err(HostError::Hook(Box::new(HookFailure { name: hook.name.to_owned(), done })))
    }
}

fn start(hook: &Hook<'_>) -> Result<(Child, PipeReader), HostError> {
    let (reader, writer) = io::pipe().doing("make a pipe for the hook in", hook.dir)?;
    fault::check("hook.spawn").doing("start the hook in", hook.dir)?;
    let both = writer.try_clone().doing("make a pipe for the hook in", hook.dir)?;
    let child = Command::new("/bin/sh")
        .arg("-c")
        .arg(hook.command)
        .current_dir(hook.dir)
        .envs(hook.env)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(both)
        .process_group(0)
        .spawn()
        .doing("start the hook in", hook.dir)?;
    Ok((child, reader))
}

/// What the two listening threads tell.
enum News {
    Output(Vec<u8>),
    Closed,
    Exited,
}

/// Starts the threads that follow the output and the end of `child`.
fn listen(child: &Child, output: PipeReader) -> io::Result<Receiver<News>> {
    let (tell, news) = sync_channel(QUEUE_PIECES_MAX);
    let pid = pid_of(child);
    let exited = tell.clone();
    thread::Builder::new().name("hook-output".into()).spawn(move || read_on(output, &tell))?;
    thread::Builder::new().name("hook-end".into()).spawn(move || {
        // NOWAIT: it stays a zombie, so its number stays taken until the group has ended.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
        let _ = exited.send(News::Exited);
    })?;
    Ok(news)
}

/// Reads to the end, even where nobody listens any more: a service that the hook left running
/// must not be ended by a closed pipe at its next line.
fn read_on(mut output: PipeReader, tell: &SyncSender<News>) {
    let mut buffer = vec![0; 8 * 1024];
    loop {
        match output.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let _ = tell.send(News::Output(buffer[..count].to_vec()));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let _ = tell.send(News::Closed);
}

/// What was heard of a hook so far.
#[derive(Default)]
struct Heard {
    tail: Tail,
    line: Vec<u8>,
    lines: u64,
    closed: bool,
    exited: bool,
}

impl Heard {
    /// Listens until the first process has ended; false where `deadline` came first.
    fn until_exit(
        &mut self,
        news: &Receiver<News>,
        deadline: Instant,
        say: &mut dyn FnMut(Progress),
    ) -> bool {
        while !self.exited {
            if !self.one(news, deadline, say) {
                return false;
            }
        }
        true
    }

    /// Listens to what is left of the output, for [`OUTPUT_GRACE_MS`] at most.
    fn rest(&mut self, news: &Receiver<News>, say: &mut dyn FnMut(Progress)) {
        let deadline = Instant::now() + Duration::from_millis(OUTPUT_GRACE_MS);
        while !self.closed && self.one(news, deadline, say) {}
        if !self.line.is_empty() {
            self.say_line(say);
        }
    }

    fn one(
        &mut self,
        news: &Receiver<News>,
        deadline: Instant,
        say: &mut dyn FnMut(Progress),
    ) -> bool {
        // Looked at first: a hook that never stops printing must not outrun its limit.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        match news.recv_timeout(left) {
            Ok(News::Output(bytes)) => self.output(&bytes, say),
            Ok(News::Closed) => self.closed = true,
            Ok(News::Exited) => self.exited = true,
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => {
                self.closed = true;
                self.exited = true;
            }
        }
        true
    }

    fn output(&mut self, bytes: &[u8], say: &mut dyn FnMut(Progress)) {
        self.tail.push(bytes);
        for byte in bytes {
            if *byte == b'\n' {
                self.say_line(say);
            } else if self.line.len() < NOTE_CHARS_MAX * 4 {
                self.line.push(*byte);
            }
        }
    }

    fn say_line(&mut self, say: &mut dyn FnMut(Progress)) {
        let text = String::from_utf8_lossy(&self.line);
        let note = text.chars().filter(|c| !c.is_control()).take(NOTE_CHARS_MAX).collect();
        self.line.clear();
        self.lines += 1;
        say(Progress { done: self.lines, total: 0, unit: "lines".to_owned(), note });
    }
}

/// The last bytes of a stream.
#[derive(Default)]
struct Tail {
    kept: Vec<u8>,
    total: u64,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        self.kept.extend_from_slice(bytes);
        // Cut at twice the bound, so that a long stream is moved once per bound and not per piece.
        if self.kept.len() > OUTPUT_BYTES_MAX * 2 {
            self.kept.drain(..self.kept.len() - OUTPUT_BYTES_MAX);
        }
    }

    fn text(&self) -> String {
        let mut kept = &self.kept[self.kept.len().saturating_sub(OUTPUT_BYTES_MAX)..];
        // A cut inside a character leaves up to three continuation bytes in front.
        while self.total > kept.len() as u64 && kept.first().is_some_and(|b| b & 0xC0 == 0x80) {
            kept = &kept[1..];
        }
        String::from_utf8_lossy(kept).into_owned()
    }
}

fn ending(status: ExitStatus) -> Ending {
    match status.signal() {
        Some(number) => Ending::Signal { number, name: signal_name(number) },
        None => Ending::Exit { code: status.code().unwrap_or(-1) },
    }
}

fn signal_name(number: i32) -> String {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return format!("signal {number}"),
    };
    name.to_owned()
}

fn end_group(child: &Child, signal: Signal) {
    // It fails only where the group is gone already, which is what is wanted.
    let _ = kill_process_group(pid_of(child), signal);
}

fn pid_of(child: &Child) -> Pid {
    let raw = i32::try_from(child.id()).expect("Linux process numbers fit 22 bits");
    Pid::from_raw(raw).expect("a child's number is never 0")
}
