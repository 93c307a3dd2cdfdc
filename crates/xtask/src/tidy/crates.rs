//! Which crate may know which: the layers of docs/ARCHITECTURE.md, read from every `Cargo.toml`.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::files::Files;

/// Our crates by layer: each may know those of lower layers, and none beside or above it.
const LAYERS: [&[&str]; 4] = [
    &["entracte-model"],
    &[
        "entracte-package",
        "entracte-host",
        "entracte-db",
        "entracte-backup",
        "entracte-gate",
        "entracte-announce",
    ],
    &["entracte-release"],
    &["entracte"],
];

/// Crates that stand beside the layers: the product knows them in tests only, and they know none
/// of the product.
const BESIDE: [&str; 2] = ["entracte-testbed", "xtask"];

/// Dependencies that only some crates may name: who, and why no other.
const ONLY: &[(&str, &[&str], &str)] = &[
    ("async-nats", &["entracte-host"], "only `host` knows how a machine is reached"),
    ("clap", &["entracte"], "only the binary knows the command line"),
    ("clap_complete", &["entracte"], "only the binary knows the command line"),
    ("clap_mangen", &["entracte"], "only the binary knows the command line"),
    ("anstream", &["entracte"], "only the binary knows the terminal"),
    ("indicatif", &["entracte"], "only the binary knows the terminal"),
    ("hyper", &["entracte-gate", "entracte"], "the engine is synchronous (decision 0001)"),
    ("hyper-util", &["entracte-gate", "entracte"], "the engine is synchronous (decision 0001)"),
    ("tokio", &["entracte-gate", "entracte"], "the engine is synchronous (decision 0001)"),
    ("nats", &["entracte-host"], "only `host` knows how a machine is reached"),
    ("openssh", &["entracte-host"], "only `host` knows how a machine is reached"),
    ("russh", &["entracte-host"], "only `host` knows how a machine is reached"),
    ("ssh2", &["entracte-host"], "only `host` knows how a machine is reached"),
    ("rustic_backend", &["entracte-backup"], "the repository's format stays in one crate"),
    ("rustic_core", &["entracte-backup"], "the repository's format stays in one crate"),
    ("mysql", &["entracte-db", "entracte-testbed"], "the driver stays in one crate"),
];

/// What the pure core may be built of.
const PURE: [&str; 6] =
    ["blake3", "semver", "serde", "serde_json", "thiserror", "unicode-normalization"];

/// What the pure core must not name: the world outside of its arguments.
const IMPURE: [&str; 9] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::io::",
    "SystemTime",
    "Instant",
    "tokio",
];

const REGISTER: &str = "docs/decisions/dependencies.md";

/// One line of a `Cargo.toml` that names a dependency.
struct Dependency {
    name: String,
    line: usize,
    value: String,
    for_tests: bool,
}

/// Checks the layers, the purity of the core, and the register of dependencies.
pub fn check(files: &Files) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = BTreeSet::new();
    // Fuzz targets are workspaces of their own: cargo-fuzz wants them so.
    let ours = |path: &str| path.starts_with("crates/") && !path.contains("/fuzz/");
    for (path, text) in files.ending("Cargo.toml").filter(|(path, _)| ours(path)) {
        let own = text.lines().find_map(|line| line.strip_prefix("name = ")).unwrap_or_default();
        let own = own.trim_matches('"');
        if !text.contains("[lints]\nworkspace = true") {
            findings.push(Finding::new(path, 0, "expected `[lints] workspace = true`"));
        }
        for dependency in dependencies(text) {
            used.insert(dependency.name.clone());
            let what = wrong(own, &dependency).or_else(|| unused(files, path, &dependency));
            findings.extend(what.map(|what| Finding::new(path, dependency.line, what)));
        }
    }
    findings.extend(pure(files));
    findings.extend(register(files, &used));
    findings
}

fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut section = String::new();
    let mut found = Vec::new();
    for (number, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim_matches('[').trim_matches(']').to_owned();
        } else if section.ends_with("dependencies")
            && !line.starts_with('#')
            && let Some((key, value)) = line.split_once('=')
        {
            let (name, suffix) = key.trim().split_once('.').unwrap_or((key.trim(), ""));
            found.push(Dependency {
                name: name.trim_matches('"').to_owned(),
                line: number + 1,
                value: format!("{suffix} {}", value.trim()),
                for_tests: section.ends_with("dev-dependencies"),
            });
        }
    }
    found
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// What is wrong with `own` naming this dependency, if anything is.
fn wrong(own: &str, dependency: &Dependency) -> Option<String> {
    let name = dependency.name.as_str();
    if !dependency.value.contains("workspace") {
        return Some(format!("`{name}`: versions stand in the workspace's Cargo.toml only"));
    }
    if BESIDE.contains(&own) && layer(name).is_some() {
        return Some(format!("`{own}` stands beside the product and must not know `{name}`"));
    }
    if BESIDE.contains(&name) && !dependency.for_tests {
        return Some(format!("`{name}` is for tests only"));
    }
    if let (Some(own_layer), Some(layer)) = (layer(own), layer(name))
        && layer >= own_layer
    {
        return Some(format!("`{own}` must not know `{name}`: it is not below it"));
    }
    if dependency.for_tests {
        return None;
    }
    let only = ONLY.iter().find(|(only, allowed, _)| *only == name && !allowed.contains(&own));
    if let Some((_, _, why)) = only {
        return Some(format!("`{own}` must not know `{name}`: {why}"));
    }
    (own == "entracte-model" && !PURE.contains(&name))
        .then(|| format!("`{name}`: the core stays pure"))
}

/// A dependency that no line of its crate names costs build time and means nothing.
fn unused(files: &Files, manifest: &str, dependency: &Dependency) -> Option<String> {
    let folder = manifest.strip_suffix("Cargo.toml").unwrap_or(manifest);
    let name = dependency.name.replace('-', "_");
    let is_named = files
        .ending(".rs")
        .filter(|(path, _)| path.starts_with(folder))
        .any(|(_, text)| names(text, &name));
    (!is_named).then(|| format!("`{}`: no line of this crate names it", dependency.name))
}

/// Whether the text holds `name` as a word of its own.
fn names(text: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        !text[..at].ends_with(is_word) && !text[at + name.len()..].starts_with(is_word)
    })
}

/// The core reads no file, no clock, no environment, no socket.
fn pure(files: &Files) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in files.texts().filter(|(path, _)| path.starts_with("crates/model/src/")) {
        let code = text.lines().take_while(|line| *line != "#[cfg(test)]").enumerate();
        for (number, line) in code.filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for name in IMPURE.iter().filter(|name| line.contains(**name)) {
                let what = format!("`{name}`: the core takes what it knows as arguments");
                findings.push(Finding::new(path, number + 1, what));
            }
        }
    }
    findings
}

/// Every dependency has its reason in the register, is used, and the register has no others.
fn register(files: &Files, used: &BTreeSet<String>) -> Vec<Finding> {
    let Some(manifest) = files.text("Cargo.toml") else { return vec![] };
    let Some(register) = files.text(REGISTER) else {
        return vec![Finding::new(REGISTER, 0, "is missing")];
    };
    let declared: BTreeMap<String, usize> = dependencies(manifest)
        .into_iter()
        .filter(|dependency| !dependency.value.contains("path ="))
        .map(|dependency| (dependency.name, dependency.line))
        .collect();
    let reasons: BTreeMap<&str, usize> = register
        .lines()
        .enumerate()
        .filter_map(|(number, line)| {
            let name = line.strip_prefix("| `")?.split('`').next()?;
            Some((name, number + 1))
        })
        .collect();
    let mut findings = Vec::new();
    for (name, line) in &declared {
        if !reasons.contains_key(name.as_str()) {
            findings.push(Finding::new(
                "Cargo.toml",
                *line,
                format!("`{name}` has no line in {REGISTER}"),
            ));
        }
        if !used.contains(name) {
            findings.push(Finding::new("Cargo.toml", *line, format!("no crate uses `{name}`")));
        }
    }
    for (name, line) in reasons.iter().filter(|(name, _)| !declared.contains_key(**name)) {
        findings.push(Finding::new(REGISTER, *line, format!("`{name}` is no dependency any more")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\n\n[lints]\nworkspace = true\n\n{rest}")
    }

    const NAMES_ALL: &str = "use entracte_release; use entracte_db; use entracte_testbed; \
                             use tokio; use mysql; use foo; use rustix;";

    fn whats(name: &str, rest: &str) -> Vec<String> {
        let text = manifest(name, rest);
        let files =
            Files::of(&[("crates/x/Cargo.toml", &text), ("crates/x/src/lib.rs", NAMES_ALL)]);
        check(&files).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_crate_knows_the_layers_below_it_only() {
        let up = "[dependencies]\nentracte-release.workspace = true\n";
        assert_eq!(whats("entracte", up).len(), 0);
        assert_eq!(whats("entracte-gate", up).len(), 1);
        let beside = "[dependencies]\nentracte-db.workspace = true\n";
        assert_eq!(whats("entracte-gate", beside).len(), 1);
        assert_eq!(whats("entracte-release", beside).len(), 0);
    }

    #[test]
    fn the_testbed_is_for_tests_and_knows_nothing_of_the_product() {
        let line = "entracte-testbed.workspace = true\n";
        assert_eq!(whats("entracte-db", &format!("[dependencies]\n{line}")).len(), 1);
        assert_eq!(whats("entracte-db", &format!("[dev-dependencies]\n{line}")).len(), 0);
        let product = "[dependencies]\nentracte-db.workspace = true\n";
        assert_eq!(whats("entracte-testbed", product).len(), 1);
    }

    #[test]
    fn some_dependencies_belong_to_some_crates() {
        let tokio = "[dependencies]\ntokio.workspace = true\n";
        assert_eq!(whats("entracte-gate", tokio).len(), 0);
        assert_eq!(whats("entracte-release", tokio).len(), 1);
        let tests = "[dev-dependencies]\nmysql.workspace = true\n";
        assert_eq!(whats("entracte", tests).len(), 0);
        assert_eq!(whats("entracte-host", "[dependencies]\nfoo = \"1\"\n").len(), 1);
    }

    #[test]
    fn a_dependency_that_nobody_names_is_found() {
        let bytes = "[dependencies]\nbytes.workspace = true\n";
        let manifest = manifest("entracte-gate", bytes);
        let with = |code| {
            let files = [("crates/x/Cargo.toml", manifest.as_str()), ("crates/x/src/lib.rs", code)];
            check(&Files::of(&files)).len()
        };
        assert_eq!(with("use bytes::Bytes;"), 0);
        assert_eq!(with("let file_bytes = as_bytes();"), 1);
    }

    #[test]
    fn the_core_is_pure() {
        let code =
            "//! Reads no std::fs.\nuse std::fs;\n#[cfg(test)]\nmod tests { use std::fs; }\n";
        let found = check(&Files::of(&[("crates/model/src/a.rs", code)]));
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2]);
        assert_eq!(whats("entracte-model", "[dependencies]\nrustix.workspace = true\n").len(), 1);
    }

    #[test]
    fn the_register_names_exactly_what_there_is() {
        let root = "[workspace.dependencies]\nserde = \"1\"\nmysql = \"28\"\n";
        let own = manifest("entracte-db", "[dependencies]\nmysql.workspace = true\n");
        let files = Files::of(&[
            ("Cargo.toml", root),
            ("crates/db/Cargo.toml", &own),
            ("crates/db/src/lib.rs", "use mysql::Conn;"),
            (REGISTER, "| `mysql` | because |\n| `gone` | because |\n"),
        ]);
        let whats: Vec<String> = check(&files).into_iter().map(|finding| finding.what).collect();
        assert_eq!(whats.len(), 3, "{whats:?}");
        assert!(whats[0].contains("`serde` has no line"));
        assert!(whats[1].contains("no crate uses `serde`"));
        assert!(whats[2].contains("`gone` is no dependency"));
    }
}
