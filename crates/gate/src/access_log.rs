//! The access log: combined format, written by a thread of its own.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use hyper::Response;
use hyper::body::Body;
use hyper::http::request::Parts;

use crate::body::Answer;
use crate::core::elapsed_ms;
use crate::error::GateError;
use crate::who::{Who, text};

/// How long lines may wait in memory. A crash costs them.
const FLUSH_MS: u64 = 500;
/// The longest referrer or agent that is kept, in characters.
const FIELD_MAX: usize = 512;

/// Hands lines to the writing thread. Where the disk is too slow, lines are dropped and counted:
/// players must not wait for a log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    lines: SyncSender<String>,
    dropped: Arc<AtomicU64>,
}

/// What is known before the answer.
#[derive(Debug)]
pub(crate) struct Line {
    front: String,
    back: String,
}

impl AccessLog {
    pub(crate) fn open(path: &Path, lines_max: usize) -> Result<Self, GateError> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(GateError::file("open the access log", path))?;
        let (lines, waiting) = sync_channel(lines_max.max(1));
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        std::thread::spawn(move || write_all(&waiting, BufWriter::new(file), &lost));
        Ok(Self { lines, dropped })
    }

    /// Without the query: it can hold a password or a token.
    pub(crate) fn begin(&self, who: &Who, parts: &Parts) -> Line {
        let time = jiff::Timestamp::now().strftime("%d/%b/%Y:%H:%M:%S +0000").to_string();
        let target = quoted(parts.uri.path());
        Line {
            front: format!(
                "{} - - [{time}] \"{} {target} {:?}\"",
                who.address, parts.method, parts.version
            ),
            back: format!(
                "\"{}\" \"{}\"",
                quoted(text(&parts.headers, "referer").split('?').next().unwrap_or("")),
                quoted(text(&parts.headers, "user-agent"))
            ),
        }
    }

    /// The combined format, and behind it the milliseconds to the answer's head.
    pub(crate) fn end(&self, line: Line, response: &Response<Answer>, began: Instant) {
        let size =
            response.body().size_hint().exact().map_or("-".to_owned(), |size| size.to_string());
        let Line { front, back } = line;
        let text =
            format!("{front} {} {size} {back} {}\n", response.status().as_u16(), elapsed_ms(began));
        if self.lines.try_send(text).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Nothing a client sends can end a field or a line.
fn quoted(text: &str) -> String {
    text.chars()
        .take(FIELD_MAX)
        .map(|c| if c == '"' || c == '\\' || c.is_control() { '?' } else { c })
        .collect()
}

fn write_all(lines: &Receiver<String>, mut file: impl Write, lost: &AtomicU64) {
    loop {
        // A failed write has nobody to tell here; the next one is tried all the same.
        match lines.recv_timeout(Duration::from_millis(FLUSH_MS)) {
            Ok(line) => drop(file.write_all(line.as_bytes())),
            Err(RecvTimeoutError::Timeout) => {
                let count = lost.swap(0, Ordering::Relaxed);
                if count > 0 {
                    drop(writeln!(file, "# {count} lines lost: the disk was too slow"));
                }
                drop(file.flush());
            }
            Err(RecvTimeoutError::Disconnected) => {
                drop(file.flush());
                return;
            }
        }
    }
}
