//! Links in documents lead somewhere: the file is there, and so is the heading.

use super::Finding;
use super::files::Files;

/// Checks the links of every Markdown file.
pub fn check(files: &Files) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in files.ending(".md") {
        for (line, link) in links(text) {
            if let Some(what) = broken(files, path, link) {
                findings.push(Finding::new(path, line, what));
            }
        }
    }
    findings
}

/// The targets of `[text](target)` outside of code, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for part in line.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push((number, target.split(' ').next().unwrap_or(target)));
            }
        }
    }
    found
}

/// The lines outside of fenced code, with their numbers from 1.
pub fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        (!in_code && !is_fence).then_some((number + 1, line))
    })
}

fn broken(files: &Files, from: &str, link: &str) -> Option<String> {
    if ["http://", "https://", "mailto:"].iter().any(|scheme| link.starts_with(scheme)) {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let path = if file.is_empty() { from.to_owned() } else { resolve(from, file) };
    if !files.exists(&path) {
        return Some(format!("the link {link} leads to {path}, which is not there"));
    }
    let headings = files.text(&path).map(headings).unwrap_or_default();
    let is_there = anchor.is_empty() || headings.iter().any(|heading| heading == anchor);
    (!is_there).then(|| format!("the link {link}: {path} has no heading #{anchor}"))
}

/// The path of `link` as seen from the file `from`.
fn resolve(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The headings of a document as links name them.
fn headings(text: &str) -> Vec<String> {
    let titles = prose(text).filter(|(_, line)| line.starts_with('#'));
    titles.map(|(_, line)| slug(line.trim_start_matches('#').trim())).collect()
}

fn slug(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_files_and_headings_are_followed() {
        let a = "[b](docs/b.md#what-it-does) [self](#top) [out](https://example.org/)\n# Top\n";
        let b = "# B\n## What `it` does\n[a](../a.md)\n";
        assert_eq!(check(&Files::of(&[("a.md", a), ("docs/b.md", b)])), vec![]);
    }

    #[test]
    fn broken_links_are_found_and_code_is_left_alone() {
        let text = "[x](gone.md)\n```\n[y](gone.md)\n```\n[z](#nowhere)\n";
        let lines: Vec<usize> =
            check(&Files::of(&[("a.md", text)])).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [1, 5]);
    }
}
