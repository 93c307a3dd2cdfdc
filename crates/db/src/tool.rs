//! The programs of the database's own distribution: found, started without a password on their
//! command line, and taken at their exit code.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use rustix::fs::MemfdFlags;

use crate::error::DbError;
use crate::settings::{MariadbSettings, Secret};

const CHUNK_BYTES: usize = 1 << 20;
/// How much of a tool's error output is kept: its end says why it failed.
const STDERR_BYTES_MAX: usize = 2_048;
/// How much of the end of what passes through is kept.
const TAIL_BYTES: usize = 256;

/// The first of `names` that is installed.
pub(crate) fn find(names: &[&str]) -> Result<PathBuf, DbError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers live in sbin, which ordinary users do not always have in their path.
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(more).collect();
    let mut files = names.iter().flat_map(|name| folders.iter().map(move |dir| dir.join(name)));
    files.find(|file| file.is_file()).ok_or_else(|| DbError::Tool {
        tool: names.join(" or "),
        expected: "the program in the path; install the database's client package".to_owned(),
        found: "no such program".to_owned(),
    })
}

/// Where Debian keeps the programs of PostgreSQL, by version; those in the path are a wrapper.
const POSTGRES: &str = "/usr/lib/postgresql";

/// A program of PostgreSQL: of the newest version that is installed, which works with older
/// servers too.
pub(crate) fn find_postgres(name: &str) -> Result<PathBuf, DbError> {
    let versions = std::fs::read_dir(POSTGRES).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let version = entry.file_name().to_string_lossy().parse().ok()?;
            Some((version, entry.path().join("bin").join(name)))
        })
        .filter(|(_, file)| file.is_file())
        .collect();
    found.sort();
    found.pop().map_or_else(|| find(&[name]), |(_, file)| Ok(file))
}

/// An option file for the client programs, in memory only: no crash can leave a password behind.
pub(crate) struct OptionFile(File);

/// Makes the option file for a connection. The programs that are started meanwhile inherit it.
pub(crate) fn option_file(settings: &MariadbSettings) -> Result<OptionFile, DbError> {
    let value = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\"));
    let mut text = format!(
        "[client]\nuser={}\npassword={}\n",
        value(&settings.user),
        value(settings.password.reveal())
    );
    match (&settings.socket, &settings.host) {
        (Some(socket), _) => {
            text += &format!("protocol=socket\nsocket={}\n", value(&socket.to_string_lossy()));
        }
        (None, host) => {
            let host = host.as_deref().unwrap_or(crate::mariadb::DEFAULT_HOST);
            text += &format!("protocol=tcp\nhost={}\nport={}\n", value(host), settings.port);
        }
    }
    in_memory(&text)
}

/// A password file for the client programs of PostgreSQL, for whatever they connect to. Empty
/// without a password. The programs that are started meanwhile inherit it.
pub(crate) fn pass_file(password: &Secret) -> Result<OptionFile, DbError> {
    let password = password.reveal().replace('\\', "\\\\").replace(':', "\\:");
    in_memory(&if password.is_empty() { password } else { format!("*:*:*:*:{password}\n") })
}

fn in_memory(text: &str) -> Result<OptionFile, DbError> {
    let place = Path::new("memory");
    let made = rustix::fs::memfd_create("entracte-options", MemfdFlags::empty());
    let made = made.map_err(|error| DbError::io("create a file in", place)(error.into()))?;
    let mut file = File::from(made);
    // The clients ignore option files that others could write.
    file.set_permissions(Permissions::from_mode(0o600))
        .map_err(DbError::io("protect a file in", place))?;
    file.write_all(text.as_bytes()).map_err(DbError::io("write a file in", place))?;
    Ok(OptionFile(file))
}

impl OptionFile {
    /// Its path, for programs that inherit it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }
}

/// A client program that reads its connection from `options` and nothing else.
pub(crate) fn command(program: &Path, options: &OptionFile) -> Command {
    let mut command = Command::new(program);
    command.arg(format!("--defaults-file={}", options.path()));
    command
}

/// What passed through a tool.
pub(crate) struct Passed {
    /// How many bytes.
    pub(crate) bytes: u64,
    /// The last of them.
    pub(crate) tail: Vec<u8>,
}

/// Runs `command` and writes what it prints to `out`. `passed` hears of the bytes so far.
pub(crate) fn read_from(
    mut command: Command,
    out: &mut dyn Write,
    passed: &mut dyn FnMut(u64),
) -> Result<Passed, DbError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running::start(command)?;
    let mut stdout = running.child.stdout.take().expect("the pipe was asked for");
    let result = pump(&mut stdout, out, passed).map_err(DbError::Stream);
    if result.is_err() {
        running.kill();
    }
    let ended = running.wait();
    let result = result?;
    ended?;
    Ok(result)
}

/// Runs `command` and gives it `input` to read.
pub(crate) fn write_to(
    mut command: Command,
    input: &mut dyn Read,
    passed: &mut dyn FnMut(u64),
) -> Result<Passed, DbError> {
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut running = Running::start(command)?;
    let mut stdin = running.child.stdin.take().expect("the pipe was asked for");
    let result = pump(input, &mut stdin, passed);
    match &result {
        // It ended before its input did: it says why itself.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => running.wait()?,
        Err(_) => {
            // With its input closed it would take what it has for the whole.
            running.kill();
            drop(running.wait());
        }
        Ok(_) => {
            drop(stdin);
            running.wait()?;
        }
    }
    result.map_err(DbError::Stream)
}

struct Running {
    tool: String,
    child: Child,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    fn start(mut command: Command) -> Result<Self, DbError> {
        let program = PathBuf::from(command.get_program());
        let tool = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let spawned = command.stderr(Stdio::piped()).env("LC_ALL", "C").spawn();
        let mut child = spawned.map_err(DbError::io("start", program))?;
        let mut pipe = child.stderr.take().expect("the pipe was asked for");
        let stderr = thread::spawn(move || {
            let mut tail = Vec::new();
            let mut chunk = [0; STDERR_BYTES_MAX];
            while let Ok(read @ 1..) = pipe.read(&mut chunk) {
                keep_end(&mut tail, &chunk[..read], STDERR_BYTES_MAX);
            }
            tail
        });
        Ok(Self { tool, child, stderr: Some(stderr) })
    }

    fn kill(&mut self) {
        // It may be gone already.
        drop(self.child.kill());
    }

    fn wait(&mut self) -> Result<(), DbError> {
        let status = self.child.wait().map_err(DbError::io("wait for", &self.tool))?;
        let said = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        Err(DbError::Tool {
            tool: self.tool.clone(),
            expected: "exit code 0".to_owned(),
            found: format!("{status}: {}", String::from_utf8_lossy(&said).trim()),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        drop(self.child.wait());
    }
}

fn pump(
    from: &mut dyn Read,
    to: &mut dyn Write,
    passed: &mut dyn FnMut(u64),
) -> io::Result<Passed> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut total = Passed { bytes: 0, tail: Vec::new() };
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&buffer[..read])?;
        keep_end(&mut total.tail, &buffer[..read], TAIL_BYTES);
        total.bytes += read as u64;
        passed(total.bytes);
    }
    to.flush()?;
    Ok(total)
}

pub(crate) fn keep_end(tail: &mut Vec<u8>, more: &[u8], max: usize) {
    tail.extend_from_slice(&more[more.len().saturating_sub(max)..]);
    tail.drain(..tail.len().saturating_sub(max));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_tool_that_fails_after_writing_everything_has_failed() {
        let mut out = Vec::new();
        let error = read_from(shell("echo whole; echo why >&2; exit 3"), &mut out, &mut |_| {});
        let said = error.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains("why") && said.contains('3'), "{said}");
        assert_eq!(out, b"whole\n");
    }

    #[test]
    fn a_tool_that_stops_reading_says_why() {
        let mut input = io::repeat(b'x').take(10 << 20);
        let error = write_to(shell("echo too much >&2; exit 1"), &mut input, &mut |_| {});
        let said = error.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains("too much"), "{said}");
    }

    #[test]
    fn the_end_is_kept() {
        let mut tail = Vec::new();
        keep_end(&mut tail, b"abcdef", 4);
        keep_end(&mut tail, b"gh", 4);
        assert_eq!(tail, b"efgh");
    }
}
