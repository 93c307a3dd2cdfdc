//! What looks like a secret in the files that a release changes.

use std::error::Error;
use std::io::Read;
use std::path::Path;

use entracte_model::RelPath;
use entracte_model::manifest::{Delta, Entry};

use super::Finding;
use crate::PackageError;
use crate::beneath::Root;

/// Files over this size in bytes are data, and are not searched.
pub const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Findings for one file: one is enough to look into it, a few help to find the rest.
const FINDINGS_MAX: usize = 5;

const KEY_HEADERS: [&str; 2] = ["PRIVATE KEY-----", "PRIVATE KEY BLOCK-----"];
/// Prefix, how many letters and digits follow at least, what it is.
const TOKENS: [(&str, usize, &str); 13] = [
    ("AKIA", 16, "an AWS access key"),
    ("ASIA", 16, "an AWS access key"),
    ("ghp_", 36, "a GitHub token"),
    ("gho_", 36, "a GitHub token"),
    ("ghs_", 36, "a GitHub token"),
    ("github_pat_", 40, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
    ("xoxb-", 20, "a Slack token"),
    ("xoxp-", 20, "a Slack token"),
    ("sk_live_", 20, "a Stripe key"),
    ("AIza", 35, "a Google API key"),
    ("discord.com/api/webhooks/", 30, "a Discord webhook"),
    ("hooks.slack.com/services/", 20, "a Slack webhook"),
];
/// Names of settings whose values are secrets.
const NAMES: [&str; 8] =
    ["PASSWORD", "PASSWD", "SECRET", "API_KEY", "APIKEY", "PRIVATE_KEY", "ACCESS_KEY", "TOKEN"];
/// Values that stand where a secret is yet to be put.
const PLACEHOLDERS: [&str; 14] = [
    "changeme",
    "change-me",
    "change_me",
    "secret",
    "password",
    "xxx",
    "example",
    "your",
    "null",
    "none",
    "true",
    "false",
    "todo",
    "dummy",
];

/// Searches what `delta` puts below `root`: new and changed files only, so that what is known and
/// allowed does not come back with every release.
pub fn secrets(root: &Path, delta: &Delta) -> Vec<Finding> {
    let mut findings = Vec::new();
    let opened = Root::open(root);
    for (path, entry) in &delta.put {
        let Entry::File { size, .. } = entry else { continue };
        if *size > FILE_BYTES_MAX {
            continue;
        }
        match opened.as_ref().map_err(cause).and_then(|root| read(root, path)) {
            Ok(bytes) => findings.extend(search(path, &bytes)),
            Err(why) => findings.push(Finding::Unreadable { path: path.clone(), why }),
        }
    }
    findings
}

fn read(root: &Root, path: &RelPath) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = root.read(path).map_err(|error| cause(&error))?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// What the system said; the finding itself names the path.
fn cause(error: &PackageError) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// The findings of one file.
fn search(path: &RelPath, bytes: &[u8]) -> Vec<Finding> {
    let binary = bytes.iter().take(8_192).any(|byte| *byte == 0);
    if binary {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(bytes);
    let settings = is_settings(path);
    let lines = text.lines().zip(1..);
    lines
        .filter_map(|(line, number)| {
            let what = key(line).or_else(|| token(line)).or_else(|| setting(line, settings))?;
            Some(Finding::LooksLikeSecret { path: path.clone(), line: number, what })
        })
        .take(FINDINGS_MAX)
        .collect()
}

fn key(line: &str) -> Option<&'static str> {
    let pem = line.contains("-----BEGIN ") && KEY_HEADERS.iter().any(|end| line.contains(end));
    let minisign = line.starts_with("untrusted comment:") && line.contains("secret key");
    (pem || minisign).then_some("a private key")
}

fn token(line: &str) -> Option<&'static str> {
    TOKENS.iter().find(|(prefix, least, _)| has_token(line, prefix, *least)).map(|found| found.2)
}

fn has_token(line: &str, prefix: &str, least: usize) -> bool {
    let part_of_token = |c: char| c.is_ascii_alphanumeric() || "_-/".contains(c);
    line.match_indices(prefix).any(|(at, _)| {
        let begins = !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        let rest = &line[at + prefix.len()..];
        begins && rest.chars().take_while(|c| part_of_token(*c)).count() >= least
    })
}

/// `.env` and the like, where every setting is bare.
fn is_settings(path: &RelPath) -> bool {
    let name = path.name().to_lowercase();
    let sample = ["example", "sample", "dist", "template"].iter().any(|word| name.contains(word));
    let env = name == ".env" || name.starts_with(".env.") || name.ends_with(".env");
    (env || name.ends_with(".ini") || name.ends_with(".properties")) && !sample
}

/// `DB_PASSWORD=…` in a settings file, and in code the same with a quoted value.
fn setting(line: &str, settings: bool) -> Option<&'static str> {
    let line = line.trim();
    if line.starts_with(['#', ';', '*']) || line.starts_with("//") {
        return None;
    }
    let (name, value) = assignment(line, settings)?;
    let name = name.to_uppercase();
    let secret = NAMES.iter().any(|word| name.ends_with(word));
    (secret && is_real(value)).then_some("a password or other secret in a setting")
}

/// The name and the value of a setting: `NAME=value`, `$name = 'value'`, `'name' => "value"`,
/// `define('NAME', 'value')`.
fn assignment(line: &str, settings: bool) -> Option<(&str, &str)> {
    if settings {
        let (name, value) = line.split_once('=')?;
        return Some((name.trim(), value.trim().trim_matches(['"', '\''])));
    }
    let (name, rest) = match line.strip_prefix("define(") {
        Some(rest) => rest.split_once(',')?,
        None => line.split_once("=>").or_else(|| line.split_once('='))?,
    };
    let rest = rest.trim_start();
    let quote = rest.chars().next().filter(|c| ['"', '\''].contains(c))?;
    let value = rest[1..].split(quote).next()?;
    let name = name.trim().trim_matches(['"', '\'', '$', ' ', ':']);
    Some((name, value))
}

fn is_real(value: &str) -> bool {
    let lower = value.to_lowercase();
    let refers = value.contains(['$', '{', '<', '%', '(']);
    value.len() >= 6
        && !refers
        && !value.contains(' ')
        && !PLACEHOLDERS.iter().any(|word| lower.starts_with(word))
        && !lower.chars().all(|c| c == 'x' || c == '*' || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<&'static str> {
        let findings = search(&path.parse().unwrap(), text.as_bytes());
        let what = findings.into_iter().map(|finding| match finding {
            Finding::LooksLikeSecret { what, .. } => what,
            other => panic!("{other}"),
        });
        what.collect()
    }

    #[test]
    fn keys_and_tokens_are_found_in_any_text() {
        assert_eq!(found("a.txt", "x\n-----BEGIN OPENSSH PRIVATE KEY-----\n"), ["a private key"]);
        let aws = format!("$key = '{}{}';", "AKIA", "IOSFODNN7EXAMPLE");
        assert_eq!(found("a.php", &aws), ["an AWS access key"]);
        let hook = format!("https://discord.com/api/{}/1234567890/{}", "webhooks", "a".repeat(60));
        assert_eq!(found("a.php", &hook), ["a Discord webhook"]);
        assert!(found("a.php", "-----BEGIN PUBLIC KEY-----").is_empty());
        assert!(found("a.php", "MAKIAVELLI AKIA12").is_empty());
    }

    #[test]
    fn passwords_are_found_in_settings_and_in_code() {
        let what = ["a password or other secret in a setting"];
        assert_eq!(found(".env", "A=1\nDB_PASSWORD=hunter2222\n"), what);
        assert_eq!(found("conf.php", "define('DB_PASSWORD', 'hunter2222');"), what);
        assert_eq!(found("conf.php", "  'password' => \"hunter2222\","), what);
        assert_eq!(found("conf.php", "$db_passwd = 'hunter2222';"), what);
    }

    #[test]
    fn placeholders_references_and_labels_are_no_secrets() {
        for text in [
            "DB_PASSWORD=",
            "DB_PASSWORD=changeme",
            "DB_PASSWORD=${DB_PASSWORD}",
            "# DB_PASSWORD=hunter2222",
        ] {
            assert!(found(".env", text).is_empty(), "{text}");
        }
        assert!(found(".env.example", "DB_PASSWORD=hunter2222").is_empty());
        assert!(found("a.php", "$label_password = 'Your password please';").is_empty());
        assert!(found("a.php", "if ($password == $other) {").is_empty());
        assert!(found("a.php", "$password = $_POST['password'];").is_empty());
    }

    #[test]
    fn binary_files_are_not_searched() {
        assert!(found("a.png", "\0-----BEGIN RSA PRIVATE KEY-----").is_empty());
    }
}
