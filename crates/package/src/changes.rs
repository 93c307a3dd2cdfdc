//! `CHANGES.md`: what a release changes, for a person to read before it is installed.

use std::collections::BTreeSet;
use std::fmt::Write;

use entracte_model::manifest::Entry;
use entracte_model::record::{Base, Named};
use entracte_model::time::human_bytes;
use entracte_model::{Manifest, RelPath, Version, manifest::Delta};

/// Its name in `documentation/`.
pub(crate) const NAME: &str = "CHANGES.md";

/// The text of it.
pub(crate) fn text(
    version: &Version,
    base: Option<&Base>,
    old: &Manifest,
    delta: &Delta,
    scripts: &[Named],
) -> String {
    let mut out = format!("# Changes of version {version}\n\n");
    let from = base.map_or_else(
        || "A first installation.".to_owned(),
        |base| format!("From version {} (tree {}).", base.version, base.manifest.short()),
    );
    let _ = writeln!(out, "{from} {} to write.", human_bytes(delta.bytes()));
    let renames = delta.renames(old);
    let renamed: BTreeSet<&RelPath> = renames.iter().flat_map(|(a, b)| [a, b]).collect();
    let put = |known: bool| {
        let fitting = delta
            .put
            .iter()
            .filter(|(path, _)| old.entries.contains_key(path) == known && !renamed.contains(path));
        fitting.map(|(path, entry)| format!("{}{}", code(path.as_str()), detail(entry))).collect()
    };
    let deleted = delta.delete.iter().filter(|path| !renamed.contains(path));
    section(&mut out, "Created", put(false));
    section(&mut out, "Modified", put(true));
    let lines =
        renames.iter().map(|(a, b)| format!("{} to {}", code(a.as_str()), code(b.as_str())));
    section(&mut out, "Renamed", lines.collect());
    section(&mut out, "Deleted", deleted.map(|path| code(path.as_str())).collect());
    let lines =
        scripts.iter().map(|s| format!("{} ({})", code(s.name.as_str()), human_bytes(s.size)));
    section(&mut out, "Database scripts, in their order", lines.collect());
    if delta.is_empty() && scripts.is_empty() {
        out.push_str("\nNothing changes.\n");
    }
    out
}

fn section(out: &mut String, title: &str, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(out, "\n## {title} ({})\n", lines.len());
    for line in lines {
        let _ = writeln!(out, "- {line}");
    }
}

fn detail(entry: &Entry) -> String {
    match entry {
        Entry::File { size, exec, .. } => {
            format!(" ({}{})", human_bytes(*size), if *exec { ", executable" } else { "" })
        }
        Entry::Dir {} => " (folder)".to_owned(),
        Entry::Link { target } => format!(" (link to {})", code(target)),
    }
}

/// A name as Markdown code, with a longer fence than any in the name itself.
fn code(name: &str) -> String {
    let longest = name.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if longest > 0 { " " } else { "" };
    format!("{fence}{pad}{name}{pad}{fence}")
}

#[cfg(test)]
mod tests {
    use entracte_model::Hash;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> Manifest {
        let entries = files.iter().map(|(path, content)| {
            let (size, hash) = (content.len() as u64, Hash::of(content.as_bytes()));
            (path.parse().unwrap(), Entry::File { size, hash, exec: false })
        });
        Manifest { entries: entries.collect() }
    }

    #[test]
    fn each_kind_of_change_stands_under_its_own_title() {
        let old = tree(&[("gone", "1"), ("moved", "same"), ("edited", "a"), ("kept", "k")]);
        let new = tree(&[("new", "22"), ("there", "same"), ("edited", "b"), ("kept", "k")]);
        let base = Base { version: "1.0".parse().unwrap(), manifest: old.hash() };
        let text = text(&"1.1".parse().unwrap(), Some(&base), &old, &old.delta_to(&new), &[]);
        assert!(text.contains("## Created (1)\n\n- `new` (2 B)\n"), "{text}");
        assert!(text.contains("## Modified (1)\n\n- `edited` (1 B)\n"), "{text}");
        assert!(text.contains("## Renamed (1)\n\n- `moved` to `there`\n"), "{text}");
        assert!(text.contains("## Deleted (1)\n\n- `gone`\n"), "{text}");
        assert!(!text.contains("kept"), "{text}");
    }

    #[test]
    fn a_name_cannot_break_out_of_its_code() {
        assert_eq!(code("a`b``c"), "``` a`b``c ```");
    }
}
