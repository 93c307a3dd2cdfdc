//! The configuration's manual: its table is made from the code, and its examples use real keys.

use super::Finding;
use super::files::Files;

const CODE: &str = "crates/entracte/src/config/keys.rs";
const MANUAL: &str = "docs/configuration.md";
const BEGIN: &str = "<!-- keys: made by `cargo xtask tidy --write` -->";
const END: &str = "<!-- keys: end -->";

/// A key as the code has it: its path, what it takes, its default, what it is for.
struct Key {
    path: String,
    takes: String,
    default: String,
    help: String,
}

/// The manual with its table made anew, where that differs from what it has.
pub fn written(files: &Files) -> Result<Option<(String, String)>, String> {
    let (Some(code), Some(manual)) = (files.text(CODE), files.text(MANUAL)) else {
        return Err(format!("{CODE} or {MANUAL} is missing"));
    };
    let text = with_table(manual, &keys(code))
        .ok_or_else(|| format!("{MANUAL} lacks the lines `{BEGIN}` and `{END}`"))?;
    Ok((text != manual).then(|| (MANUAL.to_owned(), text)))
}

/// Checks that the table is up to date, and that examples in documents use keys that exist.
pub fn check(files: &Files) -> Vec<Finding> {
    let Some(code) = files.text(CODE) else { return vec![] };
    let keys = keys(code);
    let mut findings = Vec::new();
    match written(files) {
        Ok(None) => {}
        Ok(Some(_)) => {
            let what =
                format!("its table is not what {CODE} says; `cargo xtask tidy --write` mends it");
            findings.push(Finding::new(MANUAL, 0, what));
        }
        Err(what) => findings.push(Finding::new(MANUAL, 0, what)),
    }
    for (path, text) in files.ending(".md").filter(|(path, _)| is_manual(path)) {
        for (line, key) in keys_of_examples(text) {
            if !keys.iter().any(|known| fits(&known.path, &key)) {
                findings.push(Finding::new(path, line, format!("there is no key `{key}`")));
            }
        }
    }
    findings
}

fn is_manual(path: &str) -> bool {
    path == "README.md" || path.starts_with("docs/")
}

/// All `key("…", "…", "…", "…")` of the code.
fn keys(code: &str) -> Vec<Key> {
    let code = code.split("#[cfg(test)]").next().unwrap_or_default();
    let calls = code.split("key(").skip(1);
    calls
        .filter_map(|call| {
            let mut rest = call.trim_start();
            let mut next = || {
                let (text, after) = literal(rest)?;
                rest = after.trim_start_matches([',', ' ', '\n']);
                Some(text)
            };
            Some(Key { path: next()?, takes: next()?, default: next()?, help: next()? })
        })
        .collect()
}

/// The string literal at the beginning of `text`, and what follows it.
fn literal(text: &str) -> Option<(String, &str)> {
    let mut chars = text.strip_prefix('"')?.char_indices();
    let mut found = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((found, &text[at + 2..])),
            '\\' => found.push(chars.next()?.1),
            c => found.push(c),
        }
    }
    None
}

fn with_table(manual: &str, keys: &[Key]) -> Option<String> {
    let (head, rest) = manual.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    let mut table = String::from("\n| key | takes | default | for |\n|---|---|---|---|\n");
    for key in keys {
        let cell = |text: &str| text.replace('|', "\\|");
        let code = |text: &str| match text {
            "-" => String::new(),
            "required" | "none" | "anything" => text.to_owned(),
            text if text.starts_with(['"', '[', '~']) || text.parse::<u64>().is_ok() => {
                format!("`{}`", cell(text.trim_matches('"')))
            }
            text => cell(text),
        };
        table += &format!(
            "| `{}` | {} | {} | {} |\n",
            key.path,
            cell(&key.takes),
            code(&key.default),
            cell(&key.help)
        );
    }
    Some(format!("{head}{BEGIN}\n{table}\n{END}{tail}"))
}

/// Every key that the TOML examples of a document set, with its line: `target.production.root`.
fn keys_of_examples(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_toml = false;
    let mut section = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("```") {
            in_toml = line == "```toml";
            section.clear();
        } else if in_toml && let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.split(']').next().unwrap_or(name).trim_matches('['));
        } else if in_toml
            && let Some((key, value)) = line.split_once(" = ")
            && is_bare(key)
        {
            let inner = value.strip_prefix('{').map(|value| inline(value).collect::<Vec<_>>());
            match inner {
                None => found.push((number + 1, format!("{section}{key}"))),
                Some(inner) => found.extend(
                    inner.into_iter().map(|inner| (number + 1, format!("{section}{key}.{inner}"))),
                ),
            }
        }
    }
    found
}

/// The keys of an inline table, from behind its brace.
fn inline(value: &str) -> impl Iterator<Item = &str> {
    let words = value.split([',', '{', '}']).filter_map(|part| part.split_once(" = "));
    words.map(|(key, _)| key.trim()).filter(|key| is_bare(key))
}

fn is_bare(key: &str) -> bool {
    !key.is_empty()
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// Whether the path of the code (`target.*.root`) is that of an example. The development
/// database takes what a target's does.
fn fits(known: &str, key: &str) -> bool {
    let key = match key.strip_prefix("development.database.") {
        Some(_) if known == "development.database.*" => return true,
        _ => key,
    };
    let (mut known, mut key) = (known.split('.'), key.split('.'));
    loop {
        match (known.next(), key.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = r#"
pub const KEYS: &[Key] = &[
    key("project", "name", "required", "The name: letters, `-`."),
    key(
        "target.*.root",
        "folder",
        "\"game\"",
        "The tree; a | b.",
    ),
    key("target.*.gate.listen", "address", "-", "Where."),
];
"#;

    fn manual(example: &str) -> String {
        let empty = format!("# Configuration\n{BEGIN}\n{END}\n```toml\n{example}\n```\n");
        with_table(&empty, &keys(KEYS)).unwrap()
    }

    fn findings(manual: &str) -> Vec<Finding> {
        check(&Files::of(&[(CODE, KEYS), (MANUAL, manual)]))
    }

    #[test]
    fn the_table_is_made_from_the_code() {
        let manual = manual("");
        assert!(
            manual.contains("| `project` | name | required | The name: letters, `-`. |"),
            "{manual}"
        );
        assert!(
            manual.contains("| `target.*.root` | folder | `game` | The tree; a \\| b. |"),
            "{manual}"
        );
        assert_eq!(findings(&manual), vec![]);
        let stale = manual.replace("The name", "A name");
        assert!(findings(&stale)[0].what.contains("--write"));
    }

    #[test]
    fn examples_use_keys_that_exist() {
        let good =
            "project = \"x\"\n[target.production]\nroot = \"/srv\"\ngate = { listen = \"x\" }";
        assert_eq!(findings(&manual(good)), vec![]);
        let bad = "[target.production]\nroots = \"/srv\"\ngate = { lissen = \"x\" }";
        let whats: Vec<String> = findings(&manual(bad)).into_iter().map(|f| f.what).collect();
        assert_eq!(
            whats,
            [
                "there is no key `target.production.roots`",
                "there is no key `target.production.gate.lissen`"
            ]
        );
    }
}
