//! The access log: combined format, written by a thread of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
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
    lines: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
    lost: AtomicU64,
}

/// What the writing thread is handed.
#[derive(Debug)]
enum Entry {
    Line(String),
    /// The file was moved away: begin a new one.
    Reopen,
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
        let (lines, waiting) = sync_channel(lines_max.max(1));
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        std::thread::spawn(move || write_all(&waiting, file, &lost));
        Ok(Self { lines, dropped, lost: AtomicU64::new(0) })
    }

    /// Begins a new file where the old one was moved away, as `logrotate` does.
    pub(crate) fn reopen(&self) {
        // Where lines wait for a slow disk, this waits with them: it is asked for rarely.
        let _ = self.lines.send(Entry::Reopen);
    }

    /// Lines that were lost because the disk was too slow.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
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
        if self.lines.try_send(Entry::Line(text)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
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

fn write_all(lines: &Receiver<Entry>, mut file: LogFile, lost: &AtomicU64) {
    loop {
        // A failed write has nobody to tell here; the next one is tried all the same.
        match lines.recv_timeout(Duration::from_millis(FLUSH_MS)) {
            Ok(Entry::Line(line)) => drop(file.write(&line)),
            Ok(Entry::Reopen) => drop(file.reopen()),
            Err(RecvTimeoutError::Timeout) => {
                let count = lost.swap(0, Ordering::Relaxed);
                if count > 0 {
                    let line = format!("# {count} lines lost: the disk was too slow\n");
                    drop(file.write(&line));
                }
                drop(file.file.flush());
            }
            Err(RecvTimeoutError::Disconnected) => {
                drop(file.file.flush());
                return;
            }
        }
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
