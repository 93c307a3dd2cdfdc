//! The access log: combined format, written by a thread of its own.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hyper::Response;
use hyper::body::Body;
use hyper::http::request::Parts;
use jiff::Timestamp;

use crate::body::Answer;
use crate::core::elapsed_ms;
use crate::error::GateError;
use crate::who::{Who, text};

/// How long lines may wait in memory. A crash costs them. The writing thread is not woken for
/// each line: that would cost more than the line.
const FLUSH_MS: u64 = 500;
/// The longest referrer or agent that is kept, in characters.
const FIELD_MAX: usize = 512;
/// About as long as a line is.
const LINE_BYTES: usize = 256;

/// Hands lines to the writing thread. Where the disk is too slow, lines are dropped and counted:
/// players must not wait for a log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    shared: Arc<Shared>,
    /// The second that was written last, and how it is written.
    second: Mutex<(i64, String)>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    lines_max: usize,
    waiting: Mutex<Waiting>,
    wake: Condvar,
    lost: AtomicU64,
}

/// What the writing thread finds when it looks.
#[derive(Debug, Default)]
struct Waiting {
    text: String,
    lines: usize,
    /// Lines that were dropped since it looked last.
    dropped: u64,
    /// The file was moved away: begin a new one.
    reopen: bool,
    over: bool,
}

/// How large a file may get, and how many full ones are kept beside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotation {
    pub(crate) bytes_max: u64,
    pub(crate) files_kept: u32,
}

/// What is known before the answer.
#[derive(Debug)]
pub(crate) struct Line {
    front: String,
    back: String,
}

impl AccessLog {
    pub(crate) fn open(
        path: &Path,
        lines_max: usize,
        rotation: Rotation,
    ) -> Result<Self, GateError> {
        let file =
            LogFile::open(path, rotation).map_err(GateError::file("open the access log", path))?;
        let shared = Arc::new(Shared {
            lines_max: lines_max.max(1),
            waiting: Mutex::default(),
            wake: Condvar::new(),
            lost: AtomicU64::new(0),
        });
        let of_writer = Arc::clone(&shared);
        let writer = thread::spawn(move || write_all(&of_writer, file));
        Ok(Self { shared, second: Mutex::default(), writer: Some(writer) })
    }

    /// Begins a new file where the old one was moved away, as `logrotate` does.
    pub(crate) fn reopen(&self) {
        self.shared.waiting().reopen = true;
        self.shared.wake.notify_one();
    }

    /// Lines that were lost because the disk was too slow.
    pub(crate) fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Without the query: it can hold a password or a token.
    pub(crate) fn begin(&self, who: &Who, parts: &Parts) -> Line {
        let (mut front, mut back) = (String::with_capacity(LINE_BYTES), String::new());
        // A text takes every write.
        let _ = write!(front, "{} - - [", who.address);
        self.time(&mut front, Timestamp::now());
        let _ = write!(
            front,
            "] \"{} {} {:?}\"",
            parts.method,
            Quoted(parts.uri.path()),
            parts.version
        );
        let _ = write!(
            back,
            "\"{}\" \"{}\"",
            Quoted(text(&parts.headers, "referer").split('?').next().unwrap_or("")),
            Quoted(text(&parts.headers, "user-agent"))
        );
        Line { front, back }
    }

    /// The time as the combined format has it, worked out once a second.
    fn time(&self, to: &mut String, at: Timestamp) {
        let mut known = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != at.as_second() || known.1.is_empty() {
            *known = (at.as_second(), at.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string());
        }
        to.push_str(&known.1);
    }

    /// The combined format, and behind it the milliseconds to the answer's head.
    pub(crate) fn end(&self, line: Line, response: &Response<Answer>, began: Instant) {
        let Line { front: mut text, back } = line;
        let _ = write!(text, " {} ", response.status().as_u16());
        let _ = match response.body().size_hint().exact() {
            Some(size) => write!(text, "{size}"),
            None => write!(text, "-"),
        };
        let _ = writeln!(text, " {back} {}", elapsed_ms(began));
        self.shared.add(&text);
    }
}

impl Drop for AccessLog {
    /// What waits is written before the gate ends.
    fn drop(&mut self) {
        self.shared.waiting().over = true;
        self.shared.wake.notify_one();
        if let Some(writer) = self.writer.take() {
            // A thread that panicked has written what it could.
            drop(writer.join());
        }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &str) {
        let mut waiting = self.waiting();
        if waiting.lines >= self.lines_max {
            waiting.dropped += 1;
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.text.push_str(line);
        waiting.lines += 1;
        let urgent = waiting.lines == self.many();
        drop(waiting);
        if urgent {
            self.wake.notify_one();
        }
    }

    /// So many lines are written at once, without waiting for the time.
    fn many(&self) -> usize {
        self.lines_max.div_ceil(2)
    }

    /// Waits until there is something to do; takes it, and leaves `spare` in the place of the text.
    fn next(&self, spare: String) -> Waiting {
        let limit = Duration::from_millis(FLUSH_MS);
        let calm =
            |waiting: &mut Waiting| waiting.lines < self.many() && !waiting.reopen && !waiting.over;
        let waited = self.wake.wait_timeout_while(self.waiting(), limit, calm);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let over = waiting.over;
        std::mem::replace(&mut *waiting, Waiting { text: spare, over, ..Waiting::default() })
    }
}

/// Nothing a client sends can end a field or a line.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().take(FIELD_MAX).try_for_each(|c| {
            f.write_char(if c == '"' || c == '\\' || c.is_control() { '?' } else { c })
        })
    }
}

/// The file, and what is known of its size.
struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    file: BufWriter<File>,
    bytes: u64,
}

impl LogFile {
    fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), rotation, file: BufWriter::new(file), bytes })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let size = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.bytes > 0 && self.bytes.saturating_add(size) > self.rotation.bytes_max {
            self.rotate()?;
        }
        self.bytes += size;
        self.file.write_all(line.as_bytes())
    }

    /// `access.log` becomes `access.log.1`, and so on; the oldest goes. A gate that hands over
    /// and its successor write into one file: whoever comes second finds a small one, and only
    /// opens it.
    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let full = std::fs::metadata(&self.path).is_ok_and(|about| about.len() >= self.bytes / 2);
        if full {
            let numbered = |n: u32| {
                let mut name = self.path.as_os_str().to_owned();
                name.push(format!(".{n}"));
                PathBuf::from(name)
            };
            for n in (1..self.rotation.files_kept).rev() {
                // Most of them are not there yet.
                let _ = std::fs::rename(numbered(n), numbered(n + 1));
            }
            std::fs::rename(&self.path, numbered(1))?;
        }
        *self = Self::open(&self.path, self.rotation)?;
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file.flush()?;
        *self = Self::open(&self.path, self.rotation)?;
        Ok(())
    }
}

fn write_all(shared: &Shared, mut file: LogFile) {
    let mut spare = String::new();
    loop {
        let mut found = shared.next(spare);
        // A failed write has nobody to tell here; the next one is tried all the same.
        for line in found.text.split_inclusive('\n') {
            drop(file.write(line));
        }
        if found.dropped > 0 {
            let line = format!("# {} lines lost: the disk was too slow\n", found.dropped);
            drop(file.write(&line));
        }
        drop(file.file.flush());
        if found.reopen {
            drop(file.reopen());
        }
        if found.over {
            return;
        }
        found.text.clear();
        spare = found.text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_files_are_numbered_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let mut file = LogFile::open(&path, Rotation { bytes_max: 10, files_kept: 2 }).unwrap();
        for line in ["one....\n", "two....\n", "three..\n", "four...\n"] {
            file.write(line).unwrap();
        }
        file.file.flush().unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("access.log"), "four...\n");
        assert_eq!(read("access.log.1"), "three..\n");
        assert_eq!(read("access.log.2"), "two....\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn lines_beyond_the_limit_are_dropped_and_counted() {
        let shared = Shared {
            lines_max: 2,
            waiting: Mutex::default(),
            wake: Condvar::new(),
            lost: AtomicU64::new(0),
        };
        for line in ["one\n", "two\n", "three\n"] {
            shared.add(line);
        }
        let found = shared.next(String::new());
        assert_eq!((found.text.as_str(), found.lines, found.dropped), ("one\ntwo\n", 2, 1));
        shared.add("four\n");
        assert_eq!(shared.next(found.text).dropped, 0);
        assert_eq!(shared.lost.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_waits_is_written_before_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let rotation = Rotation { bytes_max: 1 << 20, files_kept: 1 };
        let log = AccessLog::open(&path, 1_000, rotation).unwrap();
        log.shared.add("one\n");
        log.shared.add("two\n");
        drop(log);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn nothing_of_a_client_ends_a_field_and_a_second_is_written_out_once() {
        assert_eq!(Quoted("a\"b\\c\nd é").to_string(), "a?b?c?d é");
        assert_eq!(Quoted(&"x".repeat(2_000)).to_string().len(), FIELD_MAX);
        let dir = tempfile::tempdir().unwrap();
        let rotation = Rotation { bytes_max: 1 << 20, files_kept: 1 };
        let log = AccessLog::open(&dir.path().join("log"), 10, rotation).unwrap();
        let mut text = String::new();
        for second in [0, 0, 86_400] {
            log.time(&mut text, Timestamp::from_second(second).unwrap());
            text.push('|');
        }
        let first = "01/Jan/1970:00:00:00 +0000";
        assert_eq!(text, format!("{first}|{first}|02/Jan/1970:00:00:00 +0000|"));
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let mut file = LogFile::open(&path, Rotation { bytes_max: 1_000, files_kept: 2 }).unwrap();
        file.write("old\n").unwrap();
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        file.reopen().unwrap();
        file.write("new\n").unwrap();
        file.file.flush().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(std::fs::read_to_string(dir.path().join("moved")).unwrap(), "old\n");
    }
}
