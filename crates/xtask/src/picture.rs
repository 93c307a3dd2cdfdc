//! `cargo xtask picture`: the picture in the README, made from what a real run of the demo prints.

use std::fmt::Write;
use std::fs;

use crate::run::{cargo, shown};

/// The width of one character, and the height of one line, in the units of the picture.
const CELL: (f64, f64) = (8.4, 19.0);
/// Space around the text.
const MARGIN: f64 = 20.0;

/// Runs the demo in a release build and writes `docs/demo.svg`.
pub fn picture() -> Result<(), String> {
    let mut command = cargo();
    // Colours although it is no terminal: they are what the picture is for.
    command.env("CLICOLOR_FORCE", "1").env_remove("NO_COLOR");
    command.args(["run", "--release", "--package", "entracte", "--", "demo"]);
    println!("$ {}", shown(&command));
    let output = command.output().map_err(|error| format!("the demo cannot start: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        return Err(format!("the demo ended with {}:\n{said}", output.status));
    }
    let path = crate::root().join("docs/demo.svg");
    let text = String::from_utf8_lossy(&output.stdout);
    fs::write(&path, svg(&text)).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

/// A terminal's text with its ANSI styles as a picture.
fn svg(text: &str) -> String {
    let lines: Vec<Vec<Span>> = text.trim_end().lines().map(spans).collect();
    let columns = |line: &Vec<Span>| line.iter().map(|span| span.text.chars().count()).sum();
    let columns: usize = lines.iter().map(columns).max().unwrap_or(0).max(60);
    let width = columns as f64 * CELL.0 + 2.0 * MARGIN;
    let height = lines.len() as f64 * CELL.1 + 2.0 * MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\" font-family=\"ui-monospace, 'DejaVu Sans Mono', \
         Menlo, Consolas, monospace\" font-size=\"14\">\n\
         <title>What entracte demo prints</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"10\" fill=\"#0d1f22\"/>\n"
    );
    for (number, line) in lines.iter().enumerate() {
        let y = MARGIN + (number as f64 + 0.75) * CELL.1;
        let mut column = 0;
        for span in line {
            let x = MARGIN + column as f64 * CELL.0;
            let count = span.text.chars().count();
            column += count;
            if span.text.trim().is_empty() {
                continue;
            }
            let weight = if span.style.bold { " font-weight=\"bold\"" } else { "" };
            // Each span has its own place and length, so that no reader's font shifts the columns.
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" textLength=\"{:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
                 xml:space=\"preserve\" fill=\"{}\"{weight}>{}</text>",
                count as f64 * CELL.0,
                span.style.colour(),
                escape(&span.text)
            );
        }
    }
    out + "</svg>\n"
}

struct Span {
    text: String,
    style: Style,
}

#[derive(Clone, Copy, PartialEq, Default)]
struct Style {
    bold: bool,
    dim: bool,
    colour: u8,
}

impl Style {
    fn colour(self) -> &'static str {
        match (self.colour, self.dim) {
            (31, _) => "#ff8f85",
            (32, _) => "#7fd6a0",
            (33, _) => "#f0b849",
            (36, _) => "#6fc7d6",
            (_, true) => "#8aa5a1",
            (_, false) => "#e6efec",
        }
    }

    /// Takes the codes of one `ESC [ … m`.
    fn take(&mut self, codes: &str) {
        for code in codes.split(';') {
            match code.parse().unwrap_or(0) {
                0 => *self = Style::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                colour @ 30..=37 => self.colour = colour,
                _ => {}
            }
        }
    }
}

fn spans(line: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut style = Style::default();
    for (index, part) in line.split('\u{1b}').enumerate() {
        let text = match part.strip_prefix('[').and_then(|rest| rest.split_once('m')) {
            Some((codes, text)) if index > 0 => {
                style.take(codes);
                text
            }
            _ => part,
        };
        if !text.is_empty() {
            spans.push(Span { text: text.to_owned(), style });
        }
    }
    spans
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_become_colours_and_text_stays_text() {
        let picture = svg("\u{1b}[1m\u{1b}[32m✓\u{1b}[0m a <b> & c\n");
        assert!(picture.contains("fill=\"#7fd6a0\" font-weight=\"bold\">✓</text>"), "{picture}");
        assert!(picture.contains("> a &lt;b&gt; &amp; c</text>"), "{picture}");
        assert_eq!(picture.matches("<text").count(), 2);
    }
}
