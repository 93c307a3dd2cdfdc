//! Colours, where the output is a terminal that has them; `NO_COLOR` is respected.

use anstyle::{AnsiColor, Style};

/// How to print. The streams themselves take colours off where they do not belong.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    /// Whether standard output is a terminal, so that lines may be rewritten.
    pub terminal: bool,
}

/// A text with a style around it.
pub struct Painted<T> {
    style: Style,
    text: T,
}

impl<T: std::fmt::Display> std::fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}{}", self.style.render(), self.text, self.style.render_reset())
    }
}

impl Paint {
    /// Looks at standard output.
    pub fn detect() -> Self {
        use std::io::IsTerminal;
        Self { terminal: std::io::stdout().is_terminal() }
    }

    /// Good news.
    pub fn good<T>(self, text: T) -> Painted<T> {
        Painted { style: AnsiColor::Green.on_default().bold(), text }
    }

    /// Bad news.
    pub fn bad<T>(self, text: T) -> Painted<T> {
        Painted { style: AnsiColor::Red.on_default().bold(), text }
    }

    /// Worth a look.
    pub fn warn<T>(self, text: T) -> Painted<T> {
        Painted { style: AnsiColor::Yellow.on_default().bold(), text }
    }

    /// Names and headings.
    pub fn bold<T>(self, text: T) -> Painted<T> {
        Painted { style: Style::new().bold(), text }
    }

    /// Players' matters.
    pub fn accent<T>(self, text: T) -> Painted<T> {
        Painted { style: AnsiColor::Cyan.on_default().bold(), text }
    }

    /// Details.
    pub fn dim<T>(self, text: T) -> Painted<T> {
        Painted { style: Style::new().dimmed(), text }
    }
}
