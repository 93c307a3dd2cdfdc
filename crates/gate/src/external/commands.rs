//! The commands that test a server's configuration and reload it.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long one command may take, in milliseconds.
const COMMAND_MS_MAX: u64 = 60_000;
/// How much of the end of what it said is kept, in bytes.
const SAID_BYTES_MAX: u64 = 2_000;
/// How often it is looked whether it has ended, in milliseconds.
const POLL_MS: u64 = 5;

/// Runs `command` by `sh -c`; in an error, how it ended and the end of what it said. What it says
/// goes through a file in `dir`: a command may leave a server behind that keeps a pipe open.
pub(super) fn run(command: &str, dir: &Path) -> Result<(), String> {
    let path = dir.join(format!("said.{}", std::process::id()));
    let ended = in_file(command, &path);
    // A file that stays is overwritten by the next.
    let _ = fs::remove_file(&path);
    ended
}

fn in_file(command: &str, path: &Path) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("cannot be run: {error}");
    let mut said = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(cannot)?;
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(said.try_clone().map_err(cannot)?)
        .stderr(said.try_clone().map_err(cannot)?)
        .spawn()
        .map_err(cannot)?;
    let until = Instant::now() + Duration::from_millis(COMMAND_MS_MAX);
    let status = loop {
        match child.try_wait().map_err(cannot)? {
            Some(status) => break status,
            None if Instant::now() >= until => {
                // It may have ended in this moment; either way it is waited for.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "did not end in {} s: {}",
                    COMMAND_MS_MAX / 1_000,
                    tail(&mut said)
                ));
            }
            None => std::thread::sleep(Duration::from_millis(POLL_MS)),
        }
    };
    match status.success() {
        true => Ok(()),
        false => Err(format!("ended with {status}: {}", tail(&mut said))),
    }
}

fn tail(said: &mut File) -> String {
    let mut text = Vec::new();
    let length = said.metadata().map_or(0, |meta| meta.len());
    let from = SeekFrom::Start(length.saturating_sub(SAID_BYTES_MAX));
    // Only for the message: what cannot be read is left out of it.
    let _ = said.seek(from).and_then(|_| said.read_to_end(&mut text));
    String::from_utf8_lossy(&text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_is_quoted_and_one_that_leaves_a_child_behind_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        run("sleep 30 & exit 0", dir.path()).unwrap();
        let said = run("echo line 7: unknown directive >&2; exit 3", dir.path()).unwrap_err();
        assert!(said.contains("line 7: unknown directive") && said.contains('3'), "{said}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
