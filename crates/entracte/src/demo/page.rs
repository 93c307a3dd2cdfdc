//! The page that players saw, as text: from its real HTML, in a frame.

use super::screen::{columns, fold};

/// The width of the text in the frame, in columns.
const WIDTH: usize = 58;
/// The width of a drawn progress bar, in columns.
const BAR: usize = 24;
/// Elements whose contents nobody sees.
const UNSEEN: [&str; 6] = ["head", "script", "style", "svg", "noscript", "title"];
/// Elements that begin a line.
const BLOCKS: [&str; 10] =
    ["p", "h1", "h2", "div", "section", "main", "br", "progress", "form", "li"];

/// The lines that a reader of the page sees. Made for the gate's own pages, not for any HTML.
pub fn lines(html: &str) -> Vec<String> {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, from)) = rest.split_once('<') {
        text.push_str(before);
        let Some((tag, after)) = from.split_once('>') else { break };
        rest = after;
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        let opens = !tag.starts_with('/');
        // What is only for screen readers repeats what is seen.
        let hidden = UNSEEN.contains(&name) || tag.contains("class=\"sr\"");
        if opens && hidden {
            rest = rest.split_once(&format!("</{name}>")).map_or("", |(_, after)| after);
        } else if name == "progress" && opens {
            text.push('\n');
            text.push_str(&bar(tag));
            rest = rest.split_once("</progress>").map_or("", |(_, after)| after);
            text.push('\n');
        } else if BLOCKS.contains(&name) || name == "span" {
            text.push('\n');
        }
    }
    let plain = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    plain.filter(|line| !line.is_empty()).map(|line| unescape(&line)).collect()
}

fn bar(tag: &str) -> String {
    let value = tag.split_once("value=\"").and_then(|(_, rest)| rest.split('"').next());
    let percent: usize = value.and_then(|value| value.parse().ok()).unwrap_or(0).min(100);
    let full = BAR * percent / 100;
    format!("{}{} {percent} %", "█".repeat(full), "░".repeat(BAR - full))
}

fn unescape(text: &str) -> String {
    let mut text = text.to_owned();
    for (entity, plain) in
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
    {
        text = text.replace(entity, plain);
    }
    text
}

/// The lines in a frame.
pub fn framed(lines: &[String]) -> Vec<String> {
    let edge = "─".repeat(WIDTH + 4);
    let mut framed = vec![format!("  ┌{edge}┐")];
    for line in lines.iter().flat_map(|line| fold(line, WIDTH)) {
        let line = line.trim();
        let room = WIDTH.saturating_sub(columns(line));
        let left = room / 2;
        framed.push(format!("  │  {}{line}{}  │", " ".repeat(left), " ".repeat(room - left)));
    }
    framed.push(format!("  └{edge}┘"));
    framed
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"<!doctype html><html><head><title>Closed</title><style>p{}</style></head><body>
<svg class="stage"><path d="M0"/></svg><main>
<p class="game">The Lantern &amp; Inn</p>
<h1>Back soon</h1>
<div class="clock"><p>Back in about</p><span class="big" id="big">5 seconds</span></div>
<div class="bar"><label for="bar" class="sr">Progress</label><progress id="bar" max="100" value="50">50 %</progress></div>
<p class="after">This page <b>comes back</b> by itself.</p>
<p class="sr" role="status" id="say"></p></main><script>if (1 < 2) {}</script></body></html>"#;

    #[test]
    fn a_reader_sees_text_and_a_bar_and_nothing_of_the_machinery() {
        let bar = format!("{}{} 50 %", "█".repeat(12), "░".repeat(12));
        let expected = [
            "The Lantern & Inn",
            "Back soon",
            "Back in about",
            "5 seconds",
            &bar,
            "This page comes back by itself.",
        ];
        assert_eq!(lines(PAGE), expected);
    }

    #[test]
    fn every_line_of_the_frame_is_as_wide_as_the_others() {
        let long = "words and ".repeat(20);
        let framed = framed(&["é".to_owned(), long]);
        let widths: Vec<usize> = framed.iter().map(|line| columns(line)).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{widths:?}");
    }
}
