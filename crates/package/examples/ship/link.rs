//! The link between the two sides. Both go through a relay in the place of ssh, which counts the
//! bytes of both directions: on loopback it runs the other side's command on this machine; over the
//! slow link it calls the real ssh, which reaches a real sshd in another network namespace.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use entracte_testbed::link::{self as line, Shape};
use entracte_testbed::sshd::Sshd;

/// The bytes that are passed on at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// What the relay is told where the other side is on this machine.
const HERE: &str = "here";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Loopback,
    /// 20 Mbit/s, 40 ms there and back.
    Slow,
}

impl Link {
    pub const ALL: [Link; 2] = [Link::Loopback, Link::Slow];

    pub fn about(self) -> &'static str {
        match self {
            Link::Loopback => "loopback",
            Link::Slow => "20 Mbit/s, 40 ms",
        }
    }

    /// The command to give as a remote shell; it leaves the count of bytes in `place/count`.
    pub fn shell(self, place: &Path) -> String {
        let ssh = match self {
            Link::Loopback => HERE.into(),
            Link::Slow => far_side().expect("the line was started").ssh.display().to_string(),
        };
        let program = std::env::current_exe().expect("this program has a path");
        format!("{} relay {} {ssh}", program.display(), place.join("count").display())
    }
}

/// The other side of the slow link.
pub struct Far {
    /// A program that calls ssh from this side of it.
    ssh: PathBuf,
    /// The server there, below which commands run.
    pub sshd: u32,
}

static FAR: OnceLock<Far> = OnceLock::new();

/// The other side of the slow link, once there is one.
pub fn far_side() -> Option<&'static Far> {
    FAR.get()
}

/// The slow link: two network namespaces, and sshd in one of them. There is one in a process.
pub struct Line {
    line: line::Link,
    _sshd: Sshd,
}

impl Line {
    /// Starts it in the folder `dir`, or says what this machine lacks for it.
    pub fn start(dir: &Path) -> Result<Self, String> {
        if let Some(lacking) = line::lacking() {
            return Err(format!("{lacking}; `--only status round` measures the rest"));
        }
        let line = line::Link::start(&Shape::HOME);
        let sshd = Sshd::start_at_b(&line, dir);
        let options = sshd.options(sshd.port);
        let config: String = options.iter().map(|option| format!("{option}\n")).collect();
        let (ssh, config_file) = (dir.join("ssh"), dir.join("ssh_config"));
        let script = format!(
            "#!/bin/sh\nexec ip netns exec {} ssh -F {} -T \"$@\"\n",
            line.a,
            config_file.display()
        );
        let write = || {
            std::fs::write(&config_file, config)?;
            std::fs::write(&ssh, script)?;
            std::fs::set_permissions(&ssh, PermissionsExt::from_mode(0o755))
        };
        write().map_err(|error: io::Error| format!("{}: {error}", dir.display()))?;
        let far = Far { ssh, sshd: sshd.pid() };
        FAR.set(far).map_err(|_| "there is one line in a process")?;
        Ok(Self { line, _sshd: sshd })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let counts = self.line.counts();
        eprintln!(
            "the slow link carried {} packets there and {} back, {} bytes with their heads; {} \
             found its queue full",
            counts.there.packets,
            counts.back.packets,
            counts.bytes(),
            counts.there.full + counts.back.full
        );
    }
}

/// `relay COUNT_FILE SSH HOST COMMAND...`, as ssh would be called with what follows `SSH`.
pub fn relay(args: &[String]) -> Result<(), String> {
    let [count, ssh, host, words @ ..] = args else {
        return Err("relay COUNT_FILE SSH HOST COMMAND...".into());
    };
    let mut command = match ssh.as_str() {
        HERE => Command::new("sh"),
        ssh => Command::new(ssh),
    };
    let first = if ssh == HERE { "-c" } else { host };
    let mut child = command
        .args([first, &words.join(" ")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let stdin = child.stdin.take().ok_or("no stdin")?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    // rsync gives its remote shell an end that does not wait for room, as ssh does not need to.
    rustix::io::ioctl_fionbio(io::stdout(), false).map_err(|error| error.to_string())?;
    let back = AtomicU64::new(0);
    // The way there ends with this process: whoever calls may keep its end open.
    let there: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(0)));
    thread::spawn(move || pass_on(io::stdin(), stdin, there));
    pass_on(stdout, io::stdout(), &back);
    let status = child.wait().map_err(|error| error.to_string())?;
    let bytes = back.into_inner() + there.load(Ordering::SeqCst);
    std::fs::write(count, bytes.to_string()).map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("the other side: {status}")) }
}

/// Passes everything on, and counts it.
fn pass_on(mut from: impl Read, mut to: impl Write, count: &AtomicU64) {
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        count.fetch_add(read as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..read]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}
