//! A line between two machines: two network namespaces, with rate, delay and loss between them.
//!
//! Each end has a TUN device. A small program (`pump.py`) holds both and carries the packets from
//! one to the other as a real line would; the kernels' TCP, the routers' queue and their losses are
//! what they are between two houses. Needs root and /dev/net/tun.

use std::io::{BufRead, BufReader, Write};
use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::process::{is_root, kill, program, runs};

/// The program that carries the packets.
const PUMP: &str = include_str!("pump.py");
/// How the names of our namespaces begin: `entracte-PID-COUNT-a`.
const NAME: &str = "entracte-";
/// What the device is called in its namespace.
const DEVICE: &str = "line";
/// Tells a second process of the test which link it stands at.
const MARK: &str = "ENTRACTE_TEST_LINK";

/// What the line is like, in each direction.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Bytes a second.
    pub rate: u64,
    /// From one end to the other, in milliseconds.
    pub delay_ms: u64,
    /// How many bytes wait for the line; more are dropped, as a router does.
    pub queue_bytes: u64,
    /// The share of packets that vanish.
    pub loss: f64,
    /// Which ones do.
    pub seed: u64,
}

impl Shape {
    /// 20 Mbit/s and 40 ms there and back, with a router that holds a tenth of a second of it.
    pub const HOME: Self =
        Self { rate: 2_500_000, delay_ms: 20, queue_bytes: 256 << 10, loss: 0.0, seed: 1 };
}

/// What one direction carried so far, in IP packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// Those that arrived.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that vanished on the line.
    pub lost: u64,
    /// Those that found no room in the queue.
    pub full: u64,
    /// Those that found it down.
    pub down: u64,
}

/// What went from A to B, and from B to A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// From A to B.
    pub there: Carried,
    /// From B to A.
    pub back: Carried,
}

impl Counts {
    /// The bytes of both directions.
    pub fn bytes(&self) -> u64 {
        self.there.bytes + self.back.bytes
    }
}

/// The two ends, and the controls of the line between them.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The namespace of the one end.
    pub a: String,
    /// The namespace of the other end.
    pub b: String,
    control: PathBuf,
}

/// The line. Dropping it removes both namespaces and ends what runs in them; where it cannot be
/// dropped, the line is gone with this process, and the next one removes the namespaces.
#[derive(Debug)]
pub struct Link {
    ends: Ends,
    pump: Child,
    _dir: tempfile::TempDir,
}

/// What this machine lacks for a link, where it lacks something. A device that only its folder
/// lacks, as in a container, is made.
pub fn lacking() -> Option<String> {
    if is_root() && !Path::new("/dev/net/tun").exists() {
        let make = "mkdir -p /dev/net && mknod /dev/net/tun c 10 200";
        // What it could not do is said below.
        let _ = Command::new("sh").args(["-c", make]).stderr(Stdio::null()).status();
    }
    let tun = || std::fs::File::options().read(true).write(true).open("/dev/net/tun");
    let what = match (is_root(), tun()) {
        (false, _) => "root, for network namespaces".to_owned(),
        (true, Err(error)) => format!("the device /dev/net/tun (`modprobe tun`): {error}"),
        (true, Ok(_)) => return None,
    };
    Some(format!("a link with rate and delay needs {what}"))
}

impl Link {
    /// Makes the namespaces, and the line between them.
    ///
    /// # Panics
    /// Where this machine cannot have one, with what it needs.
    pub fn start(shape: &Shape) -> Self {
        if let Some(lacking) = lacking() {
            panic!("{lacking}");
        }
        remove_what_the_dead_left();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let name = |end: &str| format!("{NAME}{pid}-{count}-{end}");
        let dir = tempfile::tempdir().expect("a temporary folder");
        let ends = Ends { a: name("a"), b: name("b"), control: dir.path().join("control") };
        // The name of a device has 15 characters at most.
        let devices = ["a", "b"].map(|end| format!("en{pid}{end}{count}"));
        let pump = start_pump(shape, &ends.control, &devices);
        let link = Self { ends, pump, _dir: dir };
        let sides = [(&link.a, Ends::A), (&link.b, Ends::B)];
        for ((namespace, own), device) in sides.into_iter().zip(&devices) {
            ip(&format!("netns add {namespace}"));
            ip(&format!("link set {device} netns {namespace}"));
            ip(&format!("-n {namespace} link set {device} name {DEVICE}"));
            ip(&format!("-n {namespace} addr add {own}/24 dev {DEVICE}"));
            ip(&format!("-n {namespace} link set {DEVICE} up"));
            ip(&format!("-n {namespace} link set lo up"));
            settle(&link.ends, namespace);
        }
        link
    }

    /// Runs the test of this name again in the namespace B, so that all that it starts stands
    /// there. In that second process it gives the ends of the link; in the first one nothing.
    ///
    /// # Panics
    /// Where the second process fails, with what it said.
    pub fn test_at_b(test: &str, shape: &Shape) -> Option<Ends> {
        if let Some(mark) = std::env::var_os(MARK) {
            let mark = mark.to_string_lossy().into_owned();
            let mut words = mark.splitn(3, ' ').map(str::to_owned);
            let mut next = || words.next().expect("three words, written below");
            return Some(Ends { a: next(), b: next(), control: next().into() });
        }
        let link = Self::start(shape);
        let this = std::env::current_exe().expect("the path of this program");
        let mark = format!("{} {} {}", link.a, link.b, link.control.display());
        let output = link
            .at(&link.b, &this)
            .args(["--exact", test, "--nocapture"])
            .env(MARK, mark)
            .output()
            .expect("`ip` was just started");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(output.status.success() && text.contains("1 passed"), "{test} at B: {text}");
        eprint!("{text}");
        None
    }
}

impl Deref for Link {
    type Target = Ends;

    fn deref(&self) -> &Ends {
        &self.ends
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // It ends with its input, and the devices with it.
        drop(self.pump.stdin.take());
        let _ = self.pump.wait();
        for namespace in [&self.ends.a, &self.ends.b] {
            remove(namespace);
        }
    }
}

impl Ends {
    /// The address of the end A.
    pub const A: &str = "10.99.0.1";
    /// The address of the end B.
    pub const B: &str = "10.99.0.2";

    /// A command that runs `program` in a namespace.
    pub fn at(&self, namespace: &str, program: &Path) -> Command {
        let mut command = Command::new(self::program(&["ip"]));
        command.args(["netns", "exec", namespace]).arg(program);
        command
    }

    /// The line goes down: nothing gets through, and nobody is told.
    pub fn down(&self) -> Counts {
        self.say("down")
    }

    /// The line goes up again.
    pub fn up(&self) -> Counts {
        self.say("up")
    }

    /// The end A gets another address, as a laptop does in another network: what comes for the old
    /// one finds nobody.
    pub fn move_a(&self) {
        ip(&format!("-n {} addr delete {}/24 dev {DEVICE}", self.a, Self::A));
        ip(&format!("-n {} addr add 10.99.0.3/24 dev {DEVICE}", self.a));
    }

    /// From now on another share of packets vanishes.
    pub fn lose(&self, share: f64) -> Counts {
        self.say(&format!("loss {share}"))
    }

    /// What was carried so far.
    pub fn counts(&self) -> Counts {
        self.say("counts")
    }

    fn say(&self, command: &str) -> Counts {
        let told = || {
            let mut stream = UnixStream::connect(&self.control)?;
            writeln!(stream, "{command}")?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line)?;
            Ok(serde_json::from_str::<Value>(&line)?)
        };
        let told = told().unwrap_or_else(|error: std::io::Error| panic!("{command}: {error}"));
        Counts { there: carried(&told[0]), back: carried(&told[1]) }
    }
}

fn carried(told: &Value) -> Carried {
    let number = |name: &str| told[name].as_u64().unwrap_or_else(|| panic!("{name} in {told}"));
    Carried {
        packets: number("packets"),
        bytes: number("bytes"),
        lost: number("lost"),
        full: number("full"),
        down: number("down"),
    }
}

fn start_pump(shape: &Shape, control: &Path, devices: &[String; 2]) -> Child {
    let Shape { rate, delay_ms, queue_bytes, loss, seed } = shape;
    let mut pump = Command::new(program(&["/usr/bin/python3", "python3"]))
        .args(["-I", "-c", PUMP])
        .arg(control)
        .args(devices)
        .args([rate.to_string(), (*delay_ms as f64 / 1e3).to_string(), queue_bytes.to_string()])
        .args([loss.to_string(), seed.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 was just found");
    let out = pump.stdout.take().expect("the pipe was asked for");
    let mut line = String::new();
    // What keeps it from being ready is on standard error already.
    let _ = BufReader::new(out).read_line(&mut line);
    assert_eq!(line, "ready\n", "the pump of the link did not start");
    pump
}

/// What of TCP would differ between machines, or between a first connection and a later one. Reno is
/// what every kernel has and lets a namespace choose.
fn settle(ends: &Ends, namespace: &str) {
    let script = "echo reno >/proc/sys/net/ipv4/tcp_congestion_control; \
                  echo 1 >/proc/sys/net/ipv4/tcp_no_metrics_save";
    let set = ends.at(namespace, &program(&["sh"])).args(["-ec", script]).status();
    assert!(set.is_ok_and(|set| set.success()), "{namespace} takes no settings");
}

fn ip(words: &str) {
    let output = Command::new(program(&["ip"])).args(words.split(' ')).output();
    let output = output.expect("`ip` was just found");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {said}");
}

/// Removes a namespace with the processes in it, such as connections of sshd that will never hear
/// that they are cut; one that is gone already is no error.
fn remove(namespace: &str) {
    let ip = || Command::new(program(&["ip"]));
    let inside = ip().args(["netns", "pids", namespace]).stderr(Stdio::null()).output();
    let inside = inside.map(|output| output.stdout).unwrap_or_default();
    let pids = String::from_utf8_lossy(&inside).into_owned();
    pids.split_whitespace().filter_map(|pid| pid.parse().ok()).for_each(kill);
    let _ = ip().args(["netns", "delete", namespace]).stderr(Stdio::null()).status();
}

/// A test that was killed could not remove its namespaces.
fn remove_what_the_dead_left() {
    let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name.strip_prefix(NAME).and_then(|rest| rest.split('-').next()?.parse().ok());
        if pid.is_some_and(|pid| !runs(pid)) {
            remove(&name);
        }
    }
}

#[cfg(test)]
mod tests;
