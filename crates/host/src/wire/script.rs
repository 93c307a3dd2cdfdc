//! A script of ours that runs on the other machine, before there is a program of ours to talk to.

use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use super::ssh::{Destination, SshError, greeting_ms_max, no_answer, quoted};

/// How a script ended: its exit code, if it has one, and what it and ssh said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The exit code; none where a signal ended ssh.
    pub code: Option<i32>,
    /// All of its stderr.
    pub said: String,
}

/// Runs `script` there by `sh`, whatever the login shell is, with `input` as its stdin. What it prints
/// is thrown away.
///
/// # Errors
/// Where ssh cannot be started, and where it does not come as far as the script in the time that a
/// login may take: ssh itself waits for ever where the line goes down then. From there on it notices
/// by itself that a connection is dead.
pub fn run(at: &Destination, script: &str, input: &[u8]) -> Result<Ended, SshError> {
    run_within(at, script, input, greeting_ms_max(at))
}

pub(super) fn run_within(
    at: &Destination,
    script: &str,
    input: &[u8],
    wait_ms: u64,
) -> Result<Ended, SshError> {
    let script = format!("exec sh -c {}", quoted(&format!("echo; {script}")));
    let mut child = at
        .command(&script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(SshError::Start)?;
    let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        unreachable!("all three were asked for above")
    };
    let (runs, heard) = sync_channel(1);
    std::thread::spawn(move || {
        let mut buffer = [0; 4_096];
        // The first line, or the end: either is an answer.
        let mut read = stdout.read(&mut buffer);
        let _ = runs.send(());
        while let Ok(1..) = read {
            read = stdout.read(&mut buffer);
        }
    });
    let listener = std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = stderr.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    });
    if heard.recv_timeout(Duration::from_millis(wait_ms)) == Err(RecvTimeoutError::Timeout) {
        return Err(no_answer(at, child, wait_ms));
    }
    // A script that ended early says why; that its input was not taken says nothing.
    let _ = stdin.write_all(input);
    drop(stdin);
    let status = child.wait().map_err(SshError::Start)?;
    let said = listener.join().unwrap_or_default();
    Ok(Ended { code: status.code(), said })
}
