//! The worker of a game: one PHP script, run again and again by a small supervisor with a pid file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{program, quoted, runs, wait_until};

/// A loop that runs a script, waits a second, and runs it again, until it is told to stop.
#[derive(Debug)]
pub struct CronLoop {
    supervisor: PathBuf,
    pid_file: PathBuf,
}

/// The supervisor. `stop` lets a tick that is running end, as an init system would, and only then
/// uses force. Without the process that asked for it, the loop ends by itself.
const SUPERVISOR: &str = r#"#!/bin/sh
# workers.sh start | stop | status
set -u
alive() { # not a zombie
    [ -n "$1" ] && [ -r "/proc/$1/status" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}
pid=$(cat "$pid_file" 2>/dev/null || :)
case "${1-}" in
loop)
    echo $$ >"$pid_file.new" && mv "$pid_file.new" "$pid_file"
    nap=
    trap '[ -z "$nap" ] || kill "$nap" 2>/dev/null; exit 0' TERM
    while alive "$owner" && [ -f "$0" ]; do
        "$php" "$script"
        sleep 1 &
        nap=$!
        wait "$nap"
        nap=
    done ;;
start)
    alive "$pid" && { echo "workers already run ($pid)"; exit 0; }
    rm -f "$pid_file"
    setsid sh "$0" loop </dev/null >>"$log" 2>&1 &
    tries=0
    until [ -s "$pid_file" ]; do
        tries=$((tries + 1))
        [ "$tries" -le 500 ] || { echo "the workers did not start; see $log" >&2; exit 1; }
        sleep 0.01
    done
    echo "workers run ($(cat "$pid_file"))" ;;
stop)
    alive "$pid" || { echo "workers are stopped"; exit 0; }
    kill -TERM "$pid"
    tries=0
    while alive "$pid"; do
        tries=$((tries + 1))
        [ "$tries" -le 1000 ] || { kill -KILL "-$pid"; break; }
        sleep 0.01
    done
    rm -f "$pid_file"
    echo "workers stopped ($pid)" ;;
status)
    alive "$pid" && echo "workers run ($pid)" || { echo "workers are stopped"; exit 3; } ;;
*)
    echo "usage: workers.sh start | stop | status" >&2; exit 2 ;;
esac
"#;

impl CronLoop {
    /// Writes the supervisor to `run_dir` and starts the loop over `script`, with `env` added to
    /// its environment.
    ///
    /// # Panics
    /// Where the supervisor cannot be written or does not start.
    pub fn start(script: &Path, run_dir: &Path, env: &[(&str, &str)]) -> Self {
        let cron = Self::stopped(script, run_dir, env);
        cron.run("start");
        cron
    }

    /// The same, not started yet.
    ///
    /// # Panics
    /// Where the supervisor cannot be written.
    pub fn stopped(script: &Path, run_dir: &Path, env: &[(&str, &str)]) -> Self {
        let supervisor = run_dir.join("workers.sh");
        let pid_file = run_dir.join("workers.pid");
        let mut text = String::from("#!/bin/sh\n");
        let settings = [
            ("pid_file", quoted(&pid_file)),
            ("log", quoted(&run_dir.join("workers.log"))),
            ("php", quoted(&program(&["php", "php8.2"]))),
            ("script", quoted(script)),
            ("owner", std::process::id().to_string()),
        ];
        for (name, value) in settings {
            text.push_str(&format!("{name}={value}\n"));
        }
        for (name, value) in env {
            text.push_str(&format!("export {name}={}\n", quoted(Path::new(value))));
        }
        text.push_str(SUPERVISOR.trim_start_matches("#!/bin/sh\n"));
        fs::write(&supervisor, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", supervisor.display()));
        Self { supervisor, pid_file }
    }

    /// A shell command that starts the loop; it does nothing where the loop runs.
    pub fn start_command(&self) -> String {
        format!("sh {} start", quoted(&self.supervisor))
    }

    /// A shell command that stops the loop and returns when no tick runs any more.
    pub fn stop_command(&self) -> String {
        format!("sh {} stop", quoted(&self.supervisor))
    }

    /// Whether the loop runs.
    pub fn runs(&self) -> bool {
        self.pid().is_some_and(runs)
    }

    /// The process id of the loop, where it was started.
    pub fn pid(&self) -> Option<u32> {
        fs::read_to_string(&self.pid_file).ok()?.trim().parse().ok()
    }

    fn run(&self, what: &str) {
        let done = Command::new("sh").arg(&self.supervisor).arg(what).output();
        let done = done
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.supervisor.display()));
        assert!(
            done.status.success(),
            "workers.sh {what}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

impl Drop for CronLoop {
    fn drop(&mut self) {
        let pid = self.pid();
        let _ = Command::new("sh").arg(&self.supervisor).arg("stop").output();
        if let Some(pid) = pid {
            wait_until(1_000, || !runs(pid));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(command: &str) -> std::process::Output {
        Command::new("sh").args(["-c", command]).output().unwrap()
    }

    #[test]
    fn the_loop_ticks_stops_for_good_and_starts_again() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("tick.php");
        let ticks = dir.path().join("ticks");
        fs::write(&script, r#"<?php file_put_contents(getenv("TICKS"), "x", FILE_APPEND);"#)
            .unwrap();
        let cron = CronLoop::start(&script, dir.path(), &[("TICKS", &ticks.to_string_lossy())]);
        let count = || fs::read(&ticks).map_or(0, |text| text.len());
        assert!(wait_until(10_000, || count() >= 2), "it ticked {} times", count());

        assert!(sh(&cron.stop_command()).status.success());
        assert!(!cron.runs());
        assert!(sh(&cron.stop_command()).status.success(), "stopping twice is fine");

        let before = count();
        assert!(sh(&cron.start_command()).status.success());
        assert!(sh(&cron.start_command()).status.success(), "starting twice is fine");
        assert!(wait_until(10_000, || count() > before));
        let pid = cron.pid().unwrap();
        drop(cron);
        assert!(!runs(pid));
    }
}
