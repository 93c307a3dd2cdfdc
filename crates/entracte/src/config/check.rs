//! Looks through a configuration file for keys that do not exist, and names the nearest right one.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::keys::below;

/// A key that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The key with its tables, with dots.
    pub key: String,
    /// The line it stands in, from 1.
    pub line: usize,
    /// The nearest key that exists there.
    pub nearest: Option<&'static str>,
    /// All keys that exist there.
    pub expected: Vec<&'static str>,
}

/// How unlike two keys may be and still be taken for a slip of the finger (Jaro-Winkler).
const NEAR_ENOUGH: f64 = 0.75;

/// All keys of `text` that do not exist, in the order of the file.
pub fn unknown(text: &str, table: &DeTable<'_>) -> Vec<Unknown> {
    let mut found = Vec::new();
    walk(text, table, &mut Vec::new(), &mut found);
    found.sort_by_key(|unknown| unknown.line);
    found
}

fn walk(text: &str, table: &DeTable<'_>, path: &mut Vec<String>, found: &mut Vec<Unknown>) {
    let allowed = below(&path.iter().map(String::as_str).collect::<Vec<_>>());
    for (key, value) in table {
        let name: &str = key.get_ref();
        if let Some(allowed) = &allowed
            && !allowed.contains(&name)
        {
            found.push(Unknown {
                key: path.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join("."),
                line: line_of(text, &key.span()),
                nearest: nearest(name, allowed),
                expected: allowed.clone(),
            });
            continue;
        }
        path.push(name.to_owned());
        descend(text, value.get_ref(), path, found);
        path.pop();
    }
}

fn descend(text: &str, value: &DeValue<'_>, path: &mut Vec<String>, found: &mut Vec<Unknown>) {
    match value {
        DeValue::Table(table) => {
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            // A leaf of the manual that is given a table: its type is the deserialiser's business.
            if below(&names).is_none_or(|keys| !keys.is_empty())
                && names != ["development", "database"]
            {
                walk(text, table, path, found);
            }
        }
        DeValue::Array(values) => {
            for value in values {
                descend(text, value.get_ref(), path, found);
            }
        }
        _ => {}
    }
}

/// The line of a place in a text, from 1.
pub fn line_of(text: &str, span: &Range<usize>) -> usize {
    text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count() + 1
}

/// The name most like `name`, if any is like it at all.
pub fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    names
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate))
        .filter(|(likeness, _)| *likeness >= NEAR_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(text: &str) -> Vec<Unknown> {
        unknown(text, DeTable::parse(text).unwrap().get_ref())
    }

    #[test]
    fn a_wrong_key_is_named_with_its_line_and_the_nearest_right_one() {
        let text = "project = \"x\"\n\n[target.production]\nroot = \"/x\"\nperist = []\n";
        let found = look(text);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].key.as_str(), found[0].line), ("target.production.perist", 5));
        assert_eq!(found[0].nearest, Some("persist"));
    }

    #[test]
    fn keys_in_lists_of_tables_are_looked_at_too() {
        let found = look("[[target.p.smoke]]\nhttp = \"GET /\"\ncontain = \"x\"\n");
        assert_eq!(found[0].nearest, Some("contains"));
    }

    #[test]
    fn right_files_have_no_findings() {
        assert_eq!(
            look("project = \"x\"\n[announce.channels]\nanything = \"https://x\"\n"),
            vec![]
        );
    }
}
