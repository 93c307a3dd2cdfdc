//! Runs a command of this program here, for somebody there.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::SyncSender;

use entracte_host::wire::message::Expected;
use entracte_host::wire::{Ask, Frame, Tell, frame};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use super::{Agent, Answered, End, Happening, turn};
use crate::exit::Failure;

/// The commands that may be run, and those that start a release.
const RUN: [&str; 8] = ["log", "history", "gate", "backup", "verify", "rehearse", "doctor", "init"];
const BEGIN: [&str; 4] = ["deploy", "rollback", "resume", "abort"];
/// Words that would make another thing of a command: the configuration and the target are this
/// agent's, and services are started by the machine itself.
const NEVER: [&str; 3] = ["--config", "--target", "serve"];
/// How many releases are looked at for one that was begun already.
const LAST: u32 = 5;
/// How long to wait for what a command prints, in milliseconds; it is then waited for again.
const WAIT_MS: u64 = 1_000;
/// How much of what a command prints is read at once.
const PIECE: usize = 16 << 10;

impl Agent {
    /// Runs a command and passes on all that it prints.
    pub(super) fn run(&mut self, args: &[String], colour: bool) -> Answered {
        let dry = args.first().is_some_and(|first| first == "rollback")
            && args.iter().any(|arg| arg == "--dry-run");
        if let Err(failure) = allowed(args, if dry { &BEGIN } else { &RUN }) {
            return Ok(Err(failure));
        }
        match self.start(args, colour) {
            Ok(child) => self.pass_on(child, args),
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// Starts a release, unless an earlier connection did so already.
    pub(super) fn begin(&mut self, args: &[String], expects: Option<&Expected>) -> Answered {
        if let Err(failure) = allowed(args, &BEGIN) {
            return Ok(Err(failure));
        }
        // Two connections with the same wish take their turns; the kernel drops the lock with us.
        let taken = self.target().and_then(|target| {
            turn(&target.state.join("begin.lock"), "the beginning of a release")
        });
        let lock = match taken {
            Ok(lock) => lock,
            Err(failure) => return Ok(Err(failure)),
        };
        match expects.map(|expected| self.already(expected)) {
            Some(Ok(Some(value))) => return self.tell(&Tell::Said { value }).map(Ok),
            Some(Err(failure)) => return Ok(Err(failure)),
            Some(Ok(None)) | None => {}
        }
        let args: Vec<String> = args.iter().cloned().chain(["--json".to_owned()]).collect();
        let answered = match self.start(&args, false) {
            Ok(child) => self.pass_on(child, &args),
            Err(failure) => Ok(Err(failure)),
        };
        drop(lock);
        answered
    }

    fn already(&self, expected: &Expected) -> Result<Option<Value>, Failure> {
        let releases = self.store()?.releases(LAST)?;
        let found = releases.into_iter().find(|release| {
            release.id >= expected.at_least
                && release.plan.sequence == expected.sequence
                && release.plan.to.manifest == expected.manifest
        });
        Ok(found.map(|release| json!({ "release": release.id, "start_at": release.start_at })))
    }

    fn start(&self, args: &[String], colour: bool) -> Result<Child, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("--config")
            .arg(&self.config)
            .args(["--target", &self.target])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if colour {
            command.env("CLICOLOR_FORCE", "1");
        }
        let mut child = command.spawn()?;
        if let Some(out) = child.stdout.take() {
            read_into(self.sender.clone(), out, false);
        }
        if let Some(error) = child.stderr.take() {
            read_into(self.sender.clone(), error, true);
        }
        Ok(child)
    }

    /// Passes on what a command prints, until it ends. A connection that is lost meanwhile does not
    /// end it: what was begun is finished, as it would be without anybody looking.
    fn pass_on(&mut self, mut child: Child, args: &[String]) -> Answered {
        let mut gone = None;
        let mut open = 2;
        while open > 0 {
            let heard = match self.happening(WAIT_MS)? {
                None => Ok(()),
                Some(Happening::Printed { bytes, .. }) if bytes.is_empty() => {
                    open -= 1;
                    Ok(())
                }
                Some(Happening::Printed { .. }) if gone.is_some() => Ok(()),
                Some(Happening::Printed { error, bytes }) => self.printed(error, &bytes),
                Some(Happening::Frame(Ok(frame))) => is_stop(&frame).map(|()| interrupt(&child)),
                Some(Happening::Frame(Err(_))) => Err(End::Gone),
            };
            if let Err(end) = heard {
                if is_endless(args) {
                    interrupt(&child);
                }
                gone = Some(end);
            }
        }
        let status = child.wait()?;
        match gone {
            Some(end) => Err(end),
            None => {
                let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
                self.tell(&Tell::Exited { code }).map(Ok)
            }
        }
    }

    fn printed(&mut self, error: bool, bytes: &[u8]) -> Result<(), End> {
        frame::write(&mut self.out, &Tell::Output { error })?;
        frame::write_data(&mut self.out, bytes)?;
        Ok(self.out.flush()?)
    }
}

/// Whether a command is one of those that a connection may run.
fn allowed(args: &[String], commands: &[&str]) -> Result<(), Failure> {
    let command = args.iter().find(|arg| !arg.starts_with('-'));
    let known = command.is_some_and(|command| commands.contains(&command.as_str()));
    let odd = args
        .iter()
        .any(|arg| NEVER.iter().any(|never| arg == never || arg.starts_with(&format!("{never}="))));
    match known && !odd {
        true => Ok(()),
        false => Err(Failure::usage(format!("`{}` is nothing that an agent runs", args.join(" ")))),
    }
}

/// Commands that end only when somebody ends them.
fn is_endless(args: &[String]) -> bool {
    args.iter().any(|arg| arg == "--watch")
}

fn is_stop(frame: &Frame) -> Result<(), End> {
    match frame::message(frame)? {
        Ask::Stop {} => Ok(()),
        _ => Err(End::Told(Failure::usage("expected nothing but a word to stop"))),
    }
}

fn interrupt(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // A command that ended meanwhile needs no signal.
        let _ = rustix::process::kill_process(pid, Signal::INT);
    }
}

fn read_into(sender: SyncSender<Happening>, mut from: impl Read + Send + 'static, error: bool) {
    std::thread::spawn(move || {
        let mut piece = vec![0; PIECE];
        loop {
            let read = from.read(&mut piece).unwrap_or(0);
            let bytes = piece[..read].to_vec();
            if sender.send(Happening::Printed { error, bytes }).is_err() || read == 0 {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed(line: &str) -> bool {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        allowed(&args, &RUN).is_ok()
    }

    #[test]
    fn only_a_short_list_of_commands_runs() {
        for line in
            ["history --json", "--json backup list", "gate close --for 5min", "verify --heal"]
        {
            assert!(is_allowed(line), "{line}");
        }
        for line in [
            "run --release r1",
            "gate serve",
            "up",
            "history --config /x",
            "log --config=/x",
            "agent",
            "--json",
        ] {
            assert!(!is_allowed(line), "{line}");
        }
    }
}
