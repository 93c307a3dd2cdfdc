//! What the visitor sees while it happens: lines that stay, and one below them that lives.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::Paint;

/// The widest line, in columns: a terminal of 100 with a margin.
pub const WIDTH: usize = 96;
/// The time between two frames of the living line's spinner, in milliseconds.
const FRAME_MS: u64 = 120;

/// The terminal, a pipe, or nothing.
#[derive(Debug)]
pub struct Screen {
    /// How to print.
    pub paint: Paint,
    shows: bool,
    bar: ProgressBar,
    /// Set where nobody reads any more: the demo then ends in good order.
    gone: Arc<AtomicBool>,
}

impl Screen {
    /// A screen that shows what happens, or nothing where `shows` is not set. `gone` is set when
    /// a line finds no reader.
    pub fn new(paint: Paint, shows: bool, gone: Arc<AtomicBool>) -> Self {
        let target = match shows && paint.terminal {
            true => ProgressDrawTarget::stdout(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("  {spinner:.cyan} {msg}") {
            bar.set_style(style);
        }
        Self { paint, shows, bar, gone }
    }

    /// Whether colours reach whoever looks.
    pub fn has_colours(&self) -> bool {
        AutoStream::choice(&std::io::stdout()) != ColorChoice::Never
    }

    /// Prints a line that stays.
    pub fn say(&self, text: impl std::fmt::Display) {
        if self.shows {
            let text = text.to_string();
            let written = self.bar.suspend(|| writeln!(anstream::stdout(), "{text}"));
            if written.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
                self.gone.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Prints a command line as a person would type it.
    pub fn command(&self, args: &[&str]) {
        let line = format!("$ entracte {}", args.join(" "));
        self.say(format!("\n{}", self.paint.bold(line)));
    }

    /// Prints a line of a command, folded where it is too wide.
    pub fn child_line(&self, line: &str) {
        for line in fold(line, WIDTH) {
            self.say(line);
        }
    }

    /// Lets a line live below the others from now on.
    pub fn begin_live(&self) {
        if self.shows && self.paint.terminal {
            self.bar.enable_steady_tick(Duration::from_millis(FRAME_MS));
        }
    }

    /// Sets the line that lives.
    pub fn live(&self, text: String) {
        self.bar.set_message(text);
    }

    /// Takes the line that lives away.
    pub fn end_live(&self) {
        self.bar.finish_and_clear();
    }
}

/// Breaks a line at spaces so that no part is wider than `width` columns; what follows is indented
/// two more than the line. Escape sequences have no width.
pub fn fold(line: &str, width: usize) -> Vec<String> {
    let indent = line.chars().take_while(|c| *c == ' ').count() + 2;
    let mut folded = vec![String::new()];
    let mut used = 0;
    for word in line.split_inclusive(' ') {
        let wide = columns(word.trim_end());
        if used + wide > width && used > indent {
            folded.push(" ".repeat(indent));
            used = indent;
        }
        if let Some(last) = folded.last_mut() {
            last.push_str(word);
        }
        used += columns(word);
    }
    folded.iter().map(|part| part.trim_end().to_owned()).collect()
}

/// How many columns a text takes, one a character, none for escape sequences (`ESC [ … letter`).
pub fn columns(text: &str) -> usize {
    let (mut count, mut inside) = (0, false);
    for c in text.chars() {
        match (inside, c) {
            (false, '\u{1b}') => inside = true,
            (false, _) => count += 1,
            (true, c) if c.is_ascii_alphabetic() => inside = false,
            (true, _) => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_take_no_room() {
        assert_eq!(columns("\u{1b}[1;32m✓\u{1b}[0m done"), 6);
    }

    #[test]
    fn a_wide_line_is_broken_at_a_space_and_indented() {
        assert_eq!(fold("  one two three", 10), ["  one two", "    three"]);
        assert_eq!(fold("short", 10), ["short"]);
        assert_eq!(fold("", 10), [""]);
        let word = "x".repeat(20);
        assert_eq!(fold(&format!("a {word}"), 10), ["a".to_owned() + " " + &word]);
        assert!(
            fold("some words that are many, and go on", 12).iter().all(|part| columns(part) <= 12)
        );
    }
}
