//! Style as a test: length, heads of modules, things left undone, paths of one machine.

use super::Finding;
use super::files::Files;

/// A Rust file must stay below so many lines,
const LINES_MAX: usize = 600;
/// and should stay below so many.
const LINES_WARNED: usize = 500;

// Written in two halves, so that this file does not break its own rules.
const UNDONE: [&str; 3] =
    [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ig", "nore")];
const MACHINE: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// What should be mended soon.
pub fn warnings(files: &Files) -> Vec<Finding> {
    let long = files.ending(".rs").map(|(path, text)| (path, text.lines().count()));
    long.filter(|(_, lines)| (LINES_WARNED..LINES_MAX).contains(lines))
        .map(|(path, lines)| {
            Finding::new(path, 0, format!("{lines} lines; divide it before {LINES_MAX}"))
        })
        .collect()
}

/// What must be mended now.
pub fn check(files: &Files) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in files.ending(".rs") {
        rust(path, text, &mut findings);
    }
    for (path, text) in files.texts().filter(|(path, _)| *path != "Cargo.lock") {
        machine_paths(path, text, &mut findings);
    }
    findings
}

fn rust(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let lines = text.lines().count();
    if lines >= LINES_MAX {
        let what = format!("{lines} lines; a file must stay below {LINES_MAX}, so divide it");
        findings.push(Finding::new(path, 0, what));
    }
    for (number, line) in text.lines().enumerate() {
        for undone in UNDONE.iter().filter(|undone| line.contains(**undone)) {
            let what = format!("`{undone}`: nothing is left undone here, do it or take it out");
            findings.push(Finding::new(path, number + 1, what));
        }
    }
    if needs_head(path) && !has_head(text) {
        findings.push(Finding::new(
            path,
            1,
            "a module begins with a `//!` line that says what it is for",
        ));
    }
}

/// Every module of a crate, except the tests that stand in a file beside their subject.
fn needs_head(path: &str) -> bool {
    path.starts_with("crates/") && path.contains("/src/") && !path.ends_with("/tests.rs")
}

fn has_head(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    lines.next().is_some_and(|line| line.starts_with("//! "))
}

fn machine_paths(path: &str, text: &str, findings: &mut Vec<Finding>) {
    for (number, line) in text.lines().enumerate() {
        for found in MACHINE.iter().filter(|machine| has_machine_path(line, machine)) {
            let what =
                format!("`{found}…` is a path of one machine; use /srv, /var or a relative one");
            findings.push(Finding::new(path, number + 1, what));
        }
    }
}

/// Whether a path begins with `machine`: not `target/root/` or `https://example.org/home/`.
fn has_machine_path(line: &str, machine: &str) -> bool {
    line.match_indices(machine).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before
            .is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '/' | '}' | ')'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(path: &str, text: &str) -> Vec<String> {
        check(&Files::of(&[(path, text)])).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_tidy_file_has_no_findings() {
        assert!(whats("crates/x/src/a.rs", "//! What it is for.\n\nfn f() {}\n").is_empty());
    }

    #[test]
    fn things_left_undone_are_found_with_their_line() {
        let text = format!("//! Head.\nfn f() {{ {}) }}\n", UNDONE[0]);
        let found = check(&Files::of(&[("crates/x/src/a.rs", &text)]));
        assert_eq!((found.len(), found[0].line), (1, 2));
        let test = format!("#[test]\n{}]\nfn t() {{}}\n", UNDONE[2]);
        assert_eq!(whats("crates/x/tests/a.rs", &test).len(), 1);
    }

    #[test]
    fn long_files_and_headless_modules_are_found() {
        let long = format!("//! Head.\n{}", "\n".repeat(LINES_MAX));
        assert_eq!(whats("crates/x/src/a.rs", &long).len(), 1);
        assert_eq!(whats("crates/x/src/a.rs", "use std::fs;\n").len(), 1);
        assert_eq!(whats("crates/x/src/a/tests.rs", "use super::*;\n").len(), 0);
    }

    #[test]
    fn a_path_of_one_machine_is_found_and_a_part_of_another_path_is_not() {
        let text = format!("cd {}entracte", MACHINE[0]);
        assert_eq!(whats("README.md", &text).len(), 1);
        assert_eq!(whats("README.md", "target/root/x and game.example/home/").len(), 0);
    }
}
