//! The user's own OpenSSH, with its configuration, agent, jump hosts and known hosts, and the far
//! program at its end.

use std::io::{BufReader, BufWriter, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::frame::{self, Frame, WireError};
use super::greeting::NoGreeting;
use super::{Ask, Greeting, PROTOCOL, Tell};

/// How ssh itself ends where it could not connect, or lost the connection.
const SSH_FAILED: i32 = 255;
/// How a shell ends that does not find a program, or may not run it.
const NOT_FOUND: i32 = 127;
const NOT_RUN: i32 = 126;
/// How many frames are read ahead of whoever hears them.
const AHEAD_MAX: usize = 8;
/// How much of what ssh says is kept: its end.
const SAID_BYTES_MAX: usize = 4 << 10;
/// How long an ended connection may take to end its processes, in milliseconds.
const ENDING_MS_MAX: u64 = 2_000;
/// How often such an end is looked for.
const POLL_MS: u64 = 10;
/// How long the last words of an ssh that has ended are waited for, in milliseconds.
const LAST_WORDS_MS_MAX: u64 = 2_000;
/// A machine that does not answer within 15 seconds is tried again, since ssh itself asks ever more
/// rarely; and a connection that says nothing for a minute is dead: it is asked four times.
const ALIVE: [&str; 3] = ["ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4"];
/// How long it may take from the start of ssh to the greeting, in milliseconds: ssh waits for ever
/// where the line goes down while it logs in. With nobody to ask, and with somebody, whom sshd gives
/// two minutes for a password.
const GREETING_MS_MAX: (u64, u64) = (60_000, 150_000);

/// Ctrl-C in a terminal reaches every process in it. It is meant for us, who ask; ssh must go on.
/// What ignores a signal ignores it after exec, too.
const DEAF: &str = r#"trap '' INT; exec ssh "$@""#;

/// A machine, as the user's ssh knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// `deploy@game.example.org`, or a name of `~/.ssh/config`.
    pub host: String,
    /// Options for ssh, as after `-o`.
    pub options: Vec<String>,
    /// Whether nobody is there who could be asked for a password.
    pub batch: bool,
}

/// Why a machine cannot be reached or does not answer as it must.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// ssh itself cannot be started.
    #[error("ssh cannot be started")]
    Start(#[source] std::io::Error),
    /// The key of the machine is not known, or has changed.
    #[error("{host} is not the machine that it was, or is not known yet: {said}")]
    HostKey {
        /// The machine.
        host: String,
        /// What ssh said.
        said: String,
    },
    /// It does not let us in.
    #[error("{host} does not let this user in: {said}")]
    Denied {
        /// The machine.
        host: String,
        /// What ssh said.
        said: String,
    },
    /// No connection.
    #[error("{host} cannot be reached: {said}")]
    Unreachable {
        /// The machine.
        host: String,
        /// What ssh said.
        said: String,
    },
    /// The program is not there.
    #[error("{host} has no program to talk to: {said}")]
    NoProgram {
        /// The machine.
        host: String,
        /// What its shell said.
        said: String,
    },
    /// Something else answered.
    #[error("{host}: {said}")]
    NoAgent {
        /// The machine.
        host: String,
        /// What was said instead.
        said: String,
    },
    /// The far program is older.
    #[error("the program on {host} ({tool}) is older than this one and does not understand it")]
    Older {
        /// The machine.
        host: String,
        /// Its version.
        tool: String,
    },
    /// The far program is newer.
    #[error("the program on {host} ({tool}) is newer than this one and no longer understands it")]
    Newer {
        /// The machine.
        host: String,
        /// Its version.
        tool: String,
    },
    /// The connection was there, and is gone.
    #[error("the connection to {host} was lost{}", because(said))]
    Lost {
        /// The machine.
        host: String,
        /// What ssh said.
        said: String,
    },
    /// The far program refused, or failed, and ended the connection.
    #[error("{message}")]
    Told {
        /// The exit code that says how.
        exit: u8,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The far program says what this one does not understand.
    #[error("the program on {host} answers wrongly")]
    Wire {
        /// The machine.
        host: String,
        /// How.
        #[source]
        source: WireError,
    },
}

fn because(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

impl SshError {
    /// Whether another attempt may go better: the connection is gone, nothing was refused.
    pub fn is_lost(&self) -> bool {
        matches!(self, SshError::Lost { .. } | SshError::Unreachable { .. })
    }

    /// What to do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            SshError::Start(_) => {
                Some("install OpenSSH's client, and look whether `ssh` is in PATH")
            }
            SshError::HostKey { .. } => Some(
                "connect once by hand with `ssh`, and compare the fingerprint with the machine's own",
            ),
            SshError::Denied { .. } => Some(
                "try `ssh` by hand: is the key in ~/.ssh/authorized_keys there, and in your agent here?",
            ),
            SshError::Unreachable { .. } => {
                Some("try `ssh` by hand; `ssh` and `ssh_options` of the target say where it goes")
            }
            SshError::NoProgram { .. } | SshError::Older { .. } => {
                Some("`entracte bootstrap` puts this very program there")
            }
            SshError::Newer { .. } => Some(
                "update the program on this machine, or `entracte bootstrap` puts this one there",
            ),
            SshError::NoAgent { .. } => {
                Some("`remote_binary` of the target is what is started there, with `agent`")
            }
            SshError::Lost { .. } => Some("try again: what was sent already is not sent twice"),
            SshError::Wire { .. } => Some("`entracte bootstrap` puts this very program there"),
            SshError::Told { .. } => None,
        }
    }
}

impl Destination {
    /// The command that runs `script` there.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", DEAF, "ssh", "-T"]);
        // The first value that ssh meets counts: the user's own options come first.
        for option in self.options.iter().map(String::as_str).chain(ALIVE) {
            command.args(["-o", option]);
        }
        if self.batch {
            command.args(["-o", "BatchMode=yes"]);
        }
        command.args(["--", &self.host, script]);
        command
    }

    /// What went wrong where ssh ended with `code` after it said `said`.
    ///
    /// ssh ends with 255 for every reason of its own: which one is only in its words. They choose
    /// the hint, nothing else.
    pub fn explain(&self, code: Option<i32>, said: &str) -> SshError {
        let host = self.host.clone();
        let said = said.trim().to_owned();
        let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
        match code {
            Some(SSH_FAILED) if has(&["Host key verification", "HOST IDENTIFICATION"]) => {
                SshError::HostKey { host, said: last_line(&said) }
            }
            Some(SSH_FAILED) if has(&["Permission denied", "Too many authentication"]) => {
                SshError::Denied { host, said: last_line(&said) }
            }
            Some(SSH_FAILED) => SshError::Unreachable { host, said: last_line(&said) },
            Some(NOT_FOUND | NOT_RUN) => SshError::NoProgram { host, said: last_line(&said) },
            code => {
                let ended = code.map_or("a signal".to_owned(), |code| code.to_string());
                let said = match said.is_empty() {
                    true => format!("the far program ended with {ended} before it said anything"),
                    false => last_line(&said),
                };
                SshError::NoAgent { host, said }
            }
        }
    }
}

fn last_line(said: &str) -> String {
    let line = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    if line.is_empty() { "ssh gave no reason".to_owned() } else { line }
}

/// `text` as one word of a shell.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@%+,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A connection to the agent of one machine. Dropped, it ends.
#[derive(Debug)]
pub struct Connection {
    at: Destination,
    child: Child,
    into: Option<BufWriter<ChildStdin>>,
    frames: Receiver<Result<Frame, WireError>>,
    said: Arc<Mutex<Vec<u8>>>,
    threads: Vec<JoinHandle<()>>,
    /// The version of the far program.
    pub tool: String,
}

impl Connection {
    /// Connects, and starts `script`, which must be an agent.
    ///
    /// # Errors
    /// Whatever keeps the machine from being reached, and a program that does not fit.
    pub fn open(at: &Destination, script: &str) -> Result<Self, SshError> {
        Self::open_within(at, script, greeting_ms_max(at))
    }

    fn open_within(at: &Destination, script: &str, wait_ms: u64) -> Result<Self, SshError> {
        let mut child = at
            .command(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(SshError::Start)?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            unreachable!("all three were asked for above")
        };
        let said = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&said);
        let listener = std::thread::spawn(move || keep_end(stderr, &kept));
        let mut from = BufReader::new(stdout);
        let (greeter, greeted) = mpsc::sync_channel(1);
        let (sender, frames) = mpsc::sync_channel(AHEAD_MAX);
        let reader = std::thread::spawn(move || {
            let greeting = Greeting::read(&mut from);
            let is_last = greeting.is_err();
            if greeter.send(greeting).is_err() || is_last {
                return;
            }
            loop {
                let read = frame::read(&mut from).and_then(|frame| frame.ok_or(WireError::Cut));
                let is_last = read.is_err();
                // Nobody hears any more: the connection is being dropped.
                if sender.send(read).is_err() || is_last {
                    return;
                }
            }
        });
        let greeting = match greeted.recv_timeout(Duration::from_millis(wait_ms)) {
            Ok(Ok(greeting)) => greeting,
            Ok(Err(why)) => return Err(no_greeting(at, child, stdin, listener, &said, &why)),
            Err(_) => return Err(no_answer(at, child, wait_ms)),
        };
        let (tool, host) = (greeting.tool.clone(), at.host.clone());
        let connection = Self {
            at: at.clone(),
            child,
            into: Some(BufWriter::new(stdin)),
            frames,
            said,
            threads: vec![listener, reader],
            tool: greeting.tool,
        };
        match greeting.protocols {
            (_, newest) if newest < PROTOCOL => Err(SshError::Older { host, tool }),
            (oldest, _) if oldest > PROTOCOL => Err(SshError::Newer { host, tool }),
            _ => Ok(connection),
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// A connection that is gone.
    pub fn ask(&mut self, ask: &Ask) -> Result<(), SshError> {
        let sent = match &mut self.into {
            Some(into) => frame::write(into, ask),
            None => Err(WireError::Cut),
        };
        sent.map_err(|error| self.error(error))
    }

    /// Sends bytes that a message announced.
    ///
    /// # Errors
    /// A connection that is gone.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), SshError> {
        let sent = match &mut self.into {
            Some(into) => {
                frame::write_data(into, bytes).and_then(|()| into.flush().map_err(WireError::from))
            }
            None => Err(WireError::Cut),
        };
        sent.map_err(|error| self.error(error))
    }

    /// The next frame, or nothing where none came in time.
    ///
    /// # Errors
    /// A connection that is gone, or speaks nonsense.
    pub fn frame_within(&mut self, wait_ms: u64) -> Result<Option<Frame>, SshError> {
        match self.frames.recv_timeout(Duration::from_millis(wait_ms)) {
            Ok(Ok(frame)) => Ok(Some(frame)),
            Ok(Err(error)) => Err(self.error(error)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(self.error(WireError::Cut)),
        }
    }

    /// The next message, however long it takes.
    ///
    /// # Errors
    /// A connection that is gone, or speaks nonsense.
    pub fn hear(&mut self) -> Result<Tell, SshError> {
        let read = self.frames.recv().unwrap_or(Err(WireError::Cut));
        read.and_then(|frame| frame::message(&frame)).map_err(|error| self.error(error))
    }

    /// The next piece of data.
    ///
    /// # Errors
    /// A connection that is gone, or a message where data must come.
    pub fn hear_data(&mut self) -> Result<Vec<u8>, SshError> {
        let read = match self.frames.recv().unwrap_or(Err(WireError::Cut)) {
            Ok(Frame::Data(bytes)) => Ok(bytes),
            Ok(Frame::Message(bytes)) => Err(WireError::Unexpected {
                expected: "data",
                found: String::from_utf8_lossy(&bytes).chars().take(200).collect(),
            }),
            Err(error) => Err(error),
        };
        read.map_err(|error| self.error(error))
    }

    /// A message that had no business here.
    pub fn unexpected(&self, expected: &'static str, tell: &Tell) -> SshError {
        let source = WireError::Unexpected { expected, found: tell.name().to_owned() };
        SshError::Wire { host: self.at.host.clone(), source }
    }

    /// The machine, as the user's ssh knows it.
    pub fn host(&self) -> &str {
        &self.at.host
    }

    /// What the agent said before it ended the connection, where it had a reason.
    fn last_word(&mut self) -> Option<SshError> {
        let patience = Duration::from_millis(ENDING_MS_MAX);
        while let Ok(Ok(frame)) = self.frames.recv_timeout(patience) {
            if let Ok(Tell::Failed { exit, message, hint }) = frame::message(&frame) {
                return Some(SshError::Told { exit, message, hint });
            }
        }
        None
    }

    fn error(&mut self, error: WireError) -> SshError {
        let host = self.at.host.clone();
        if !error.is_lost() {
            return SshError::Wire { host, source: error };
        }
        if let Some(told) = self.last_word() {
            return told;
        }
        // ssh's last words arrive with its end.
        drop(self.into.take());
        let code = wait(&mut self.child);
        let said = text_of(&self.said);
        match code {
            Some(SSH_FAILED) | None => {
                let said = if said.trim().is_empty() { String::new() } else { last_line(&said) };
                SshError::Lost { host, said }
            }
            Some(code) => SshError::Lost {
                host,
                said: match said.trim().is_empty() {
                    true => format!("the far program ended with {code}"),
                    false => last_line(&said),
                },
            },
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The end of its input is the agent's word to end.
        drop(self.into.take());
        // Whatever it still says, so that it does not wait for a reader.
        while self
            .frames
            .recv_timeout(Duration::from_millis(ENDING_MS_MAX))
            .is_ok_and(|read| read.is_ok())
        {}
        wait(&mut self.child);
        for thread in self.threads.drain(..) {
            // A jump host's own process may keep the streams open; it is not waited for.
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

fn no_greeting(
    at: &Destination,
    mut child: Child,
    stdin: ChildStdin,
    listener: JoinHandle<()>,
    said: &Mutex<Vec<u8>>,
    why: &NoGreeting,
) -> SshError {
    drop(stdin);
    let code = wait(&mut child);
    // Its last words may still be on their way to the listener. A jump host's own process may keep
    // the stream open, so they are not waited for without end.
    let until = Instant::now() + Duration::from_millis(LAST_WORDS_MS_MAX);
    while !listener.is_finished() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
    if listener.is_finished() {
        let _ = listener.join();
    }
    let said = text_of(said);
    match (code, why) {
        (Some(0), NoGreeting::Noise { noise }) if !noise.is_empty() => {
            SshError::NoAgent { host: at.host.clone(), said: why.to_string() }
        }
        _ => at.explain(code, &said),
    }
}

/// How long a login may take, in milliseconds.
pub(super) fn greeting_ms_max(at: &Destination) -> u64 {
    if at.batch { GREETING_MS_MAX.0 } else { GREETING_MS_MAX.1 }
}

/// Ends an ssh that does not come as far as the other program.
pub(super) fn no_answer(at: &Destination, mut child: Child, wait_ms: u64) -> SshError {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // One that asks for a password gives the terminal back as it was.
        let _ = rustix::process::kill_process(pid, Signal::TERM);
    }
    wait(&mut child);
    let said = format!("no answer within {} seconds", wait_ms / 1_000);
    SshError::Unreachable { host: at.host.clone(), said }
}

/// Waits for the end of a process, and makes it end where it does not. Its exit code, if it has one.
fn wait(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_millis(ENDING_MS_MAX);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.code(),
            Ok(None) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(POLL_MS));
            }
            Ok(None) | Err(_) => break,
        }
    }
    // It is killed because it did not end: nothing is left to be done about a failure.
    let _ = child.kill();
    child.wait().ok().and_then(|status| status.code())
}

/// Keeps the end of what somebody says.
fn keep_end(mut from: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&buffer[..read]);
        let too_much = kept.len().saturating_sub(SAID_BYTES_MAX);
        kept.drain(..too_much);
    }
}

fn text_of(said: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&said.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

#[cfg(test)]
mod tests;
