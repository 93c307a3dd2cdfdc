//! Login rules: which requests bring a new player into the game.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One rule: an optional method, and a path that may end in `*`.
///
/// `POST /login.php` is that request with any query; `/register*` is every method on every path
/// that begins so. Paths are compared by their bytes, after a possible query is cut off. Escaped
/// letters, digits and `-._~/` are decoded first, doubled slashes are one, and `.` and `..` are
/// resolved, so that another spelling of the same route does not slip by. A script that also runs
/// for longer paths (`/login.php/x`) wants a `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRule {
    method: Option<String>,
    path: String,
    prefix: bool,
}

/// A text that is no login rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not a login rule: expected a path, with an optional method before it and an \
     optional * at its end, like \"POST /login.php\" or \"/register*\""
)]
pub struct BadRule {
    /// What stood there instead.
    pub found: String,
}

impl LoginRule {
    /// The method, where one is named; the path; whether longer paths fall under the rule, too.
    pub fn parts(&self) -> (Option<&str>, &str, bool) {
        (self.method.as_deref(), &self.path, self.prefix)
    }

    /// True where a request of `method` on `path` (with or without a query) falls under the rule.
    pub fn matches(&self, method: &str, path: &str) -> bool {
        if self.method.as_ref().is_some_and(|m| m != method) {
            return false;
        }
        let path = canonical_path(path);
        if self.prefix { path.starts_with(&self.path) } else { path == self.path }
    }
}

/// The path without its query, unreserved escapes decoded (RFC 3986, 6.2.2.2), slashes merged,
/// dot segments resolved (5.2.4).
fn canonical_path(path: &str) -> String {
    let bare = path.split(['?', '#']).next().unwrap_or("").as_bytes();
    let mut decoded = String::with_capacity(bare.len());
    let mut at = 0;
    while at < bare.len() {
        let escaped = (bare[at] == b'%')
            .then(|| bare.get(at + 1..at + 3))
            .flatten()
            .filter(|hex| hex.iter().all(u8::is_ascii_hexdigit))
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .filter(|b| b.is_ascii_alphanumeric() || b"-._~/".contains(b));
        decoded.push(char::from(escaped.unwrap_or(bare[at])));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in decoded.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    let ends_open = ["/", "/.", "/.."].iter().any(|end| decoded.ends_with(end));
    let tail = if ends_open && !parts.is_empty() { "/" } else { "" };
    format!("/{}{tail}", parts.join("/"))
}

impl FromStr for LoginRule {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let bad = || BadRule { found: text.chars().take(80).collect() };
        let mut words = text.split_whitespace();
        let (method, path) = match (words.next(), words.next(), words.next()) {
            (Some(path), None, None) => (None, path),
            (Some(method), Some(path), None) => (Some(method), path),
            _ => return Err(bad()),
        };
        if method.is_some_and(|m| m.is_empty() || !m.bytes().all(|b| b.is_ascii_alphabetic())) {
            return Err(bad());
        }
        let (path, prefix) = match path.strip_suffix('*') {
            Some(front) => (front, true),
            None => (path, false),
        };
        if !path.starts_with('/') || path.contains(['*', '?', '#']) {
            return Err(bad());
        }
        Ok(Self { method: method.map(str::to_ascii_uppercase), path: canonical_path(path), prefix })
    }
}

impl fmt::Display for LoginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(method) = &self.method {
            write!(f, "{method} ")?;
        }
        write!(f, "{}{}", self.path, if self.prefix { "*" } else { "" })
    }
}

impl Serialize for LoginRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LoginRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> LoginRule {
        text.parse().unwrap()
    }

    #[test]
    fn a_rule_takes_its_method_its_path_and_any_query() {
        let login = rule("POST /login.php");
        assert!(login.matches("POST", "/login.php"));
        assert!(login.matches("POST", "/login.php?next=/market"));
        assert!(!login.matches("GET", "/login.php"));
        assert!(!login.matches("POST", "/login.php5"));
        let register = rule("/register*");
        assert!(register.matches("GET", "/register/step2"));
        assert!(!register.matches("GET", "/reg"));
        let folder = rule("/accounts/*");
        assert!(folder.matches("GET", "/accounts/new") && folder.matches("GET", "/accounts/"));
        assert!(!folder.matches("GET", "/accounts"));
        assert!(rule("/").matches("GET", "/") && !rule("/").matches("GET", "/x"));
    }

    #[test]
    fn another_spelling_of_the_route_is_the_same_route() {
        let login = rule("POST /login.php");
        for path in [
            "//login.php",
            "/%6Cogin.php",
            "/login%2Ephp",
            "/login.php#x",
            "/%2Flogin.php",
            "/./login.php",
            "/x/../login.php",
            "/../login.php",
        ] {
            assert!(login.matches("POST", path), "{path} slipped by");
        }
    }

    #[test]
    fn broken_escapes_are_left_as_they_are() {
        assert!(!rule("/a").matches("GET", "/a%"));
        assert!(!rule("/a").matches("GET", "/a%zz"));
        assert!(!rule("/a").matches("GET", "/%+1"));
    }

    #[test]
    fn nonsense_is_no_rule() {
        for text in
            ["", "login.php", "POST", "POST login.php", "/a*b", "P0ST /a", "GET POST /a", "/a?b"]
        {
            assert!(text.parse::<LoginRule>().is_err(), "{text:?} was taken");
        }
        assert_eq!(rule("post  /login*").to_string(), "POST /login*");
    }
}
