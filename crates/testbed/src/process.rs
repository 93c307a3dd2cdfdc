//! Servers that a test starts: found, started, waited for, and gone when the test is gone.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take until it answers, on a busy machine.
pub const START_MS_MAX: u64 = 30_000;
/// How often a condition is looked at.
const POLL_MS: u64 = 10;

/// Starts the server and waits on its own standard input: when the test ends, however it ends
/// (even by SIGKILL), the pipe closes, and the guard ends its own process group and the server's,
/// which is another one where the server calls setsid, as php-fpm does.
const GUARD: &str = r#"log=$1; shift
"$@" </dev/null >>"$log" 2>&1 &
server=$!
echo $server
exec >&-
read -r _
kill -KILL "-$server" 2>/dev/null
kill -KILL 0"#;

/// A server in a process group of its own.
#[derive(Debug)]
pub struct Server {
    guard: Child,
    pid: u32,
    name: String,
    log: PathBuf,
}

impl Server {
    /// Starts `program` with `args`; what it prints goes to the end of `log`.
    ///
    /// # Panics
    /// Where the shell that guards it cannot be started.
    pub fn start<A: AsRef<std::ffi::OsStr>>(program: &Path, args: &[A], log: &Path) -> Self {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(log)
            .arg(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start a shell for {name}: {error}"));
        let mut line = String::new();
        let out = guard.stdout.take().expect("the pipe was asked for three lines above");
        BufReader::new(out)
            .read_line(&mut line)
            .unwrap_or_else(|error| panic!("the guard of {name} said nothing: {error}"));
        let pid = line
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("the guard of {name} said {line:?}, not a pid"));
        Self { guard, pid, name, log: log.to_owned() }
    }

    /// The process id of the server itself.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        runs(self.pid)
    }

    /// Waits until `ready` says so.
    ///
    /// # Panics
    /// With the end of its log, where it dies first or takes longer than [`START_MS_MAX`].
    pub fn wait_until_ready(&self, mut ready: impl FnMut() -> bool) {
        let up = wait_until(START_MS_MAX, || ready() || !self.runs());
        assert!(up && self.runs(), "{} did not come up:\n{}", self.name, self.log_tail());
    }

    /// The last lines that it printed.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Closing the pipe is the guard's word to end everything, itself included.
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Whether a process with this id lives. A zombie, which only waits to be reaped, does not.
pub fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        // The name, in brackets, may hold anything; the state follows the last bracket.
        !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    })
}

/// Ends a process by SIGKILL and waits until it is gone; one that is gone already is no error.
///
/// # Panics
/// Where it does not go.
pub fn kill(pid: u32) {
    let number = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(number) = number {
        // Only one of our own children's children; it may have ended by itself.
        let _ = rustix::process::kill_process(number, rustix::process::Signal::KILL);
    }
    assert!(wait_until(START_MS_MAX, || !runs(pid)), "process {pid} does not go");
}

/// Looks again and again until `done`, for at most `limit_ms`. False where it never was.
pub fn wait_until(limit_ms: u64, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_millis(limit_ms);
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(POLL_MS));
    }
}

/// The first of `names` that is installed.
///
/// # Panics
/// With a hint, where none is: a test of a missing program fails, it is never skipped.
pub fn program(names: &[&str]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers live in sbin, which ordinary users do not always have in their path.
    let more = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(more).collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("none of {names:?} is installed; run `cargo xtask setup`"))
}

/// The first and the last port that [`free_port`] gives: below those that the system itself gives
/// to whoever asks for any.
const PORTS: (u16, u16) = (15_000, 31_999);

/// A port of 127.0.0.1 that nobody has, for a server that must be told one.
///
/// Each is given once in this process, and the system gives none of them by itself, so that it is
/// still free when the server comes to take it.
///
/// # Panics
/// Where all of them are taken.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.1 - PORTS.0) + 1;
    // Test programs that run at one time begin at different places.
    let begin = std::process::id().wrapping_mul(401);
    for _ in 0..count {
        let number = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::SeqCst)) % count;
        let port = PORTS.0 + u16::try_from(number).expect("less than the count of ports");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of 127.0.0.1 from {} to {} is free", PORTS.0, PORTS.1)
}

/// Whether the tests run as root: some servers want to be told that this is meant.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `text` as one word of a POSIX shell.
pub fn quoted(text: &Path) -> String {
    format!("'{}'", text.to_string_lossy().replace('\'', r"'\''"))
}

/// The end of a text file, for a message.
fn tail(file: &Path) -> String {
    const LINES_MAX: usize = 30;
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_gone_with_its_children() {
        gone_with_its_children("sh", &["-c", "sleep 600 & echo $!; wait"]);
    }

    #[test]
    fn a_server_in_a_session_of_its_own_is_gone_too() {
        gone_with_its_children("setsid", &["sh", "-c", "sleep 600 & echo $!; wait"]);
    }

    fn gone_with_its_children(name: &str, args: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let server = Server::start(&program(&[name]), args, &log);
        let mut inner = 0;
        server.wait_until_ready(|| {
            inner = server.log_tail().trim().parse().unwrap_or(0);
            inner != 0
        });
        let outer = server.pid();
        assert!(runs(outer) && runs(inner));
        drop(server);
        assert!(
            wait_until(5_000, || !runs(outer) && !runs(inner)),
            "still there: {outer} or {inner}"
        );
    }

    #[test]
    #[should_panic(expected = "no such thing")]
    fn a_server_that_dies_at_once_shows_why() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let server = Server::start(&program(&["sh"]), &["-c", "echo no such thing; exit 3"], &log);
        server.wait_until_ready(|| false);
    }

    #[test]
    #[should_panic(expected = "cargo xtask setup")]
    fn a_missing_program_fails_with_a_hint() {
        program(&["no-such-program-anywhere"]);
    }
}
