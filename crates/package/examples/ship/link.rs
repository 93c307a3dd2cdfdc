//! The link between the two sides: a program in the place of ssh that runs the other side's command
//! on this machine, counts what goes through, and lets it through no faster than a link would.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// The bytes that are passed on at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks under way: what buffers of a system hold.
const UNDER_WAY_MAX: usize = 16;

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
        let (rate, delay) = match self {
            Link::Loopback => (0, 0),
            Link::Slow => (2_500_000, 20),
        };
        let program = std::env::current_exe().expect("this program has a path");
        format!("{} relay {rate} {delay} {}", program.display(), place.join("count").display())
    }
}

/// `relay RATE DELAY_MS COUNT_FILE HOST COMMAND...`, as ssh would be called.
pub fn relay(args: &[String]) -> Result<(), String> {
    let [rate, delay, count, _host, command @ ..] = args else {
        return Err("relay RATE DELAY COUNT HOST COMMAND...".into());
    };
    let rate: u64 = rate.parse().map_err(|_| "no rate")?;
    let delay = Duration::from_millis(delay.parse().map_err(|_| "no delay")?);
    let mut child = Command::new("sh")
        .args(["-c", &command.join(" ")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let stdin = child.stdin.take().ok_or("no stdin")?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let through = AtomicU64::new(0);
    // The way there ends with this process: whoever calls may keep its end open.
    let there: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(0)));
    thread::spawn(move || pump(io::stdin(), stdin, rate, delay, there));
    pump(stdout, io::stdout(), rate, delay, &through);
    let status = child.wait().map_err(|error| error.to_string())?;
    let bytes = through.into_inner() + there.load(Ordering::SeqCst);
    std::fs::write(count, bytes.to_string()).map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("the other side: {status}")) }
}

/// Passes everything on, in its time.
fn pump(mut from: impl Read, to: impl Write + Send, rate: u64, delay: Duration, count: &AtomicU64) {
    let (sender, receiver) = sync_channel(UNDER_WAY_MAX);
    thread::scope(|scope| {
        scope.spawn(move || deliver(&receiver, to));
        feed(&mut from, &sender, rate, delay, count);
        drop(sender);
    });
}

fn feed(
    from: &mut dyn Read,
    sender: &SyncSender<(Instant, Vec<u8>)>,
    rate: u64,
    delay: Duration,
    count: &AtomicU64,
) {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut free = Instant::now();
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        count.fetch_add(read as u64, Ordering::SeqCst);
        let now = Instant::now();
        let takes = (read as u64 * 1_000_000_000).checked_div(rate).unwrap_or(0);
        free = free.max(now) + Duration::from_nanos(takes);
        if sender.send((free + delay, buffer[..read].to_vec())).is_err() {
            return;
        }
    }
}

fn deliver(receiver: &Receiver<(Instant, Vec<u8>)>, mut to: impl Write) {
    while let Ok((at, bytes)) = receiver.recv() {
        // This is the link's own time, not a wait for something to happen.
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}
