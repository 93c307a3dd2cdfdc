//! The connection of one command: made, made again, and asked.

use std::time::{Duration, Instant};

use entracte_host::wire::message::Declared;
use entracte_host::wire::ssh::quoted;
use entracte_host::wire::{Ask, Connection, Frame, SshError, Tell};
use entracte_model::Hash;
use serde_json::Value;

use crate::config::Far;
use crate::exit::{Exit, Failure};
use crate::report::out;

/// How long a lost connection is tried to be had again before this side gives up, in milliseconds.
pub const GIVE_UP_MS: u64 = 120_000;
/// How long to wait before the first new attempt, and before any later one at most.
const AGAIN_MS: (u64, u64) = (100, 5_000);

/// The agent at the other end, with the connection to it.
pub struct Remote {
    far: Far,
    project: String,
    link: Connection,
    config: Option<Hash>,
    fixed: bool,
    machine: String,
    /// Whether it was said that the configuration there is another one.
    noted: bool,
    /// Holds the excerpt of the store for as long as this lives.
    pub(super) dir: tempfile::TempDir,
}

impl Remote {
    /// Connects to the machine of `far`.
    pub fn open(project: &str, far: Far) -> Result<Self, Failure> {
        let (link, welcome) = connect(project, &far)?;
        let Tell::Welcome { config, fixed, host } = welcome else {
            return Err(failure(link.unexpected("a welcome", &welcome)));
        };
        let (project, dir) = (project.to_owned(), tempfile::tempdir()?);
        Ok(Self { far, project, link, config, fixed, machine: host, noted: false, dir })
    }

    /// The machine, as the user calls it.
    pub fn host(&self) -> &str {
        &self.far.at.host
    }

    /// The machine, as it calls itself.
    pub fn machine(&self) -> &str {
        &self.machine
    }

    /// The version of the program there.
    pub fn tool(&self) -> &str {
        &self.link.tool
    }

    /// Whether the configuration there is what this side has.
    pub fn is_configured(&self) -> bool {
        self.config == Some(Hash::of(self.far.text.as_bytes()))
    }

    /// Whether the machine keeps its configuration, whatever this side has.
    pub fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// Brings the configuration, where the machine has another one and takes it.
    pub fn configure(&mut self) -> Result<(), Failure> {
        if self.is_configured() {
            return Ok(());
        }
        if self.fixed {
            return Err(Failure::refused(format!(
                "{} keeps its own configuration, and it is not what this machine has",
                self.host()
            ))
            .hint(format!("put this side's into {} there (docs/ssh.md)", self.far.config)));
        }
        let text = self.far.text.clone();
        self.ask(&Ask::Configure { bytes: text.len() as u64 })?;
        self.send(text.as_bytes())?;
        match self.hear()? {
            Tell::Done { note } => {
                if let Some(note) = note {
                    out::note(format!("warning: {}: {note}", self.host()));
                }
                self.config = Some(Hash::of(text.as_bytes()));
                Ok(())
            }
            other => Err(self.wrong("done", &other)),
        }
    }

    /// Says so, once, where the configuration there is another one.
    pub fn note_configuration(&mut self) {
        if !self.is_configured() && !std::mem::replace(&mut self.noted, true) {
            out::note(format!(
                "note: {} works with another configuration than this machine has; `entracte \
                 bootstrap` and `entracte deploy` bring it",
                self.host()
            ));
        }
    }

    /// Keeps a note with production.
    pub fn remember(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        self.ask(&Ask::Remember { name: name.to_owned(), value: value.to_owned() })?;
        match self.hear()? {
            Tell::Done { .. } => Ok(()),
            other => Err(self.wrong("done", &other)),
        }
    }

    /// Declares scripts as run.
    pub fn declare(&mut self, scripts: &[Declared]) -> Result<(), Failure> {
        self.ask(&Ask::Declare { scripts: scripts.to_vec() })?;
        match self.hear()? {
            Tell::Done { .. } => Ok(()),
            other => Err(self.wrong("done", &other)),
        }
    }

    /// Sends a message.
    pub fn ask(&mut self, ask: &Ask) -> Result<(), Failure> {
        self.try_ask(ask).map_err(failure)
    }

    /// Sends a message, for whoever can go on without the connection.
    pub fn try_ask(&mut self, ask: &Ask) -> Result<(), SshError> {
        self.link.ask(ask)
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.try_send(bytes).map_err(failure)
    }

    /// Sends bytes, for whoever can go on without the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> Result<(), SshError> {
        self.link.send(bytes)
    }

    /// The next message; a failure there is one here.
    pub fn hear(&mut self) -> Result<Tell, Failure> {
        accept(self.link.hear().map_err(failure)?)
    }

    /// The next message, for whoever can go on without the connection.
    pub fn try_hear(&mut self) -> Result<Result<Tell, Failure>, SshError> {
        self.link.hear().map(accept)
    }

    /// The next frame, or nothing where none came in time.
    pub fn frame_within(&mut self, wait_ms: u64) -> Result<Option<Frame>, SshError> {
        self.link.frame_within(wait_ms)
    }

    /// The next piece of data.
    pub fn hear_data(&mut self) -> Result<Vec<u8>, Failure> {
        self.try_hear_data().map_err(failure)
    }

    /// The next piece of data, for whoever can go on without the connection.
    pub fn try_hear_data(&mut self) -> Result<Vec<u8>, SshError> {
        self.link.hear_data()
    }

    /// Bytes that are announced by the next message, at most `bytes_max`.
    pub fn hear_blob(&mut self, bytes_max: u64) -> Result<Vec<u8>, Failure> {
        let bytes = match self.hear()? {
            Tell::Blob { bytes } => bytes,
            other => return Err(self.wrong("bytes", &other)),
        };
        if bytes > bytes_max {
            let message =
                format!("{} announces {bytes} bytes, far more than expected", self.host());
            return Err(Failure::broken(message));
        }
        let mut blob = Vec::new();
        while (blob.len() as u64) < bytes {
            blob.extend(self.hear_data()?);
        }
        Ok(blob)
    }

    /// Runs a command there that ends with one document of JSON, and gives that back. What it says
    /// on standard error is said here.
    pub fn said(&mut self, args: &[&str]) -> Result<Value, Failure> {
        let args = args.iter().copied().chain(["--json"]).map(str::to_owned).collect();
        self.ask(&Ask::Run { args, colour: false })?;
        let mut printed = Vec::new();
        loop {
            match self.hear()? {
                Tell::Output { error } => {
                    let bytes = self.hear_data()?;
                    match error {
                        true => out::note(String::from_utf8_lossy(&bytes).trim_end()),
                        false => printed.extend(bytes),
                    }
                }
                Tell::Exited { code } => return document(&printed, code),
                other => return Err(self.wrong("what the command prints", &other)),
            }
        }
    }

    /// Makes a lost connection anew, again and again until `give_up`.
    pub fn again(&mut self, lost: SshError, since: Instant) -> Result<(), Failure> {
        let mut lost = lost;
        let mut wait_ms = AGAIN_MS.0;
        while lost.is_lost() && since.elapsed() < Duration::from_millis(GIVE_UP_MS) {
            std::thread::sleep(Duration::from_millis(wait_ms));
            wait_ms = (wait_ms * 2).min(AGAIN_MS.1);
            match reconnect(&self.project, &self.far) {
                Ok(link) => {
                    self.link = link;
                    return Ok(());
                }
                Err(error) => lost = error,
            }
        }
        Err(failure(lost))
    }

    /// A message that had no business here.
    pub fn wrong(&self, expected: &'static str, tell: &Tell) -> Failure {
        failure(self.link.unexpected(expected, tell))
    }
}

/// The command that the far shell is given.
fn script(far: &Far) -> String {
    let binary = far.binary.strip_prefix("~/").unwrap_or(&far.binary);
    format!(
        "{} agent --config {} --target {}",
        quoted(binary),
        quoted(&far.config),
        quoted(&far.name)
    )
}

fn connect(project: &str, far: &Far) -> Result<(Connection, Tell), Failure> {
    let mut link = Connection::open(&far.at, &script(far)).map_err(failure)?;
    link.ask(&hello(project)).map_err(failure)?;
    let welcome = accept(link.hear().map_err(failure)?)?;
    Ok((link, welcome))
}

fn reconnect(project: &str, far: &Far) -> Result<Connection, SshError> {
    let mut link = Connection::open(&far.at, &script(far))?;
    link.ask(&hello(project))?;
    match link.hear()? {
        Tell::Welcome { .. } => Ok(link),
        other => Err(link.unexpected("a welcome", &other)),
    }
}

fn hello(project: &str) -> Ask {
    Ask::Hello {
        protocol: entracte_host::wire::PROTOCOL,
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        project: project.to_owned(),
    }
}

fn accept(tell: Tell) -> Result<Tell, Failure> {
    match tell {
        Tell::Failed { exit, message, hint } => {
            Err(Failure { exit: Exit::of(exit), message, hint })
        }
        tell => Ok(tell),
    }
}

/// The last line of what a command printed, which is its document.
pub fn document(printed: &[u8], code: u8) -> Result<Value, Failure> {
    let text = String::from_utf8_lossy(printed);
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let value: Value = serde_json::from_str(last).unwrap_or_default();
    if let Some(message) = value["error"].as_str() {
        let hint = value["hint"].as_str().map(str::to_owned);
        return Err(Failure { exit: Exit::of(code), message: message.to_owned(), hint });
    }
    match value {
        Value::Null => Err(Failure {
            exit: Exit::of(code),
            message: format!("the far command ended with {code} and said nothing"),
            hint: None,
        }),
        value => Ok(value),
    }
}

/// How a connection that cannot be had, or no longer, ends a command.
pub fn failure(error: SshError) -> Failure {
    if let SshError::Told { exit, message, hint } = error {
        return Failure { exit: Exit::of(exit), message, hint };
    }
    let exit = match &error {
        SshError::HostKey { .. }
        | SshError::Denied { .. }
        | SshError::Unreachable { .. }
        | SshError::Lost { .. } => Exit::Unreached,
        SshError::NoProgram { .. } | SshError::Older { .. } | SshError::Newer { .. } => {
            Exit::Refused
        }
        SshError::Start(_)
        | SshError::NoAgent { .. }
        | SshError::Wire { .. }
        | SshError::Told { .. } => Exit::Broken,
    };
    let hint = error.hint().map(str::to_owned);
    Failure { exit, message: entracte_release::fault::chain(&error), hint }
}
