//! Where texts go: a reader that has gone away ends a command quietly, and never a service.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

/// How a program ends whose reader has gone away, as the shell counts it: 128 + SIGPIPE.
const READER_GONE: i32 = 141;

/// A line for whoever called the command. `entracte log | head -1` ends here, and not in a panic.
pub fn line(text: impl Display) {
    end_if_gone(writeln!(anstream::stdout(), "{text}"));
}

/// Bytes for whoever called the command.
pub fn bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    end_if_gone(out.write_all(bytes).and_then(|()| out.flush()));
}

/// A question, on the same line as its answer.
pub fn ask(question: impl Display) {
    let mut out = anstream::stdout();
    end_if_gone(write!(out, "{question} ").and_then(|()| out.flush()));
}

/// A line on standard error. Where nobody can read it there is nobody left to tell.
pub fn note(text: impl Display) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// A line of a service: what reads its log may come and go.
pub fn log(text: impl Display) {
    let _ = writeln!(anstream::stdout(), "{text}");
}

/// A text without colours, for JSON.
pub fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// A number of things: `1 file`, `3 files`.
pub fn count(number: usize, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        _ => format!("{number} {thing}s"),
    }
}

fn end_if_gone(written: std::io::Result<()>) {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(READER_GONE),
        // A full disk behind a redirection: what was asked for is done all the same.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_counted_as_people_do() {
        assert_eq!(count(0, "file"), "0 files");
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(2, "file"), "2 files");
    }

    #[test]
    fn colours_do_not_reach_json() {
        assert_eq!(plain("\u{1b}[1mbold\u{1b}[0m text"), "bold text");
    }
}
