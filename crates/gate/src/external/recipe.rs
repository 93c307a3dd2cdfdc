//! What the configurations of all servers are made from.

use std::path::Path;

use entracte_model::gate::LoginRule;
use sha2::{Digest, Sha256};

use super::{Kind, Settings};
use super::{apache, caddy, haproxy, nginx};

/// What a team puts into its own configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// Where it goes, for people.
    pub place: &'static str,
    /// What goes there.
    pub text: String,
}

/// The characters of a tester's pass, as a regular expression.
pub(super) const PASS: &str = "[A-Za-z0-9_-]{43}";
/// The cookie of a tester's browser.
pub(super) const PASS_COOKIE: &str = "entracte_pass";

/// The files that the server's configuration includes, by their names in the folder.
pub(super) fn files(settings: &Settings) -> Vec<(&'static str, String)> {
    let made = |recipe: &str| match settings.kind {
        Kind::Nginx => nginx::files(settings, recipe),
        Kind::Apache => apache::files(settings, recipe),
        Kind::Caddy => caddy::files(settings, recipe),
        Kind::Haproxy => haproxy::files(settings, recipe),
        Kind::Entracte => vec![],
    };
    made(&mark(settings))
}

/// What tells one configuration from another: the server answers with that of the one it runs with.
pub(super) fn mark(settings: &Settings) -> String {
    let files = match settings.kind {
        Kind::Nginx => nginx::files(settings, ""),
        Kind::Apache => apache::files(settings, ""),
        Kind::Caddy => caddy::files(settings, ""),
        Kind::Haproxy => haproxy::files(settings, ""),
        Kind::Entracte => vec![],
    };
    let mut hash = Sha256::new();
    for (name, text) in files {
        hash.update(name);
        hash.update(text);
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the team puts into its own configuration, once.
pub(super) fn snippets(settings: &Settings) -> Vec<Snippet> {
    let include = |place: &'static str, words: &str, name: &str| Snippet {
        place,
        text: format!("{words} {}", quoted(&settings.folder.join(name))),
    };
    match settings.kind {
        Kind::Entracte => vec![],
        Kind::Nginx => vec![
            Snippet {
                place: "inside `http { … }` of nginx.conf, before the servers",
                text: format!("include {};", quoted(&settings.folder.join("nginx-http.conf"))),
            },
            Snippet {
                place: "as the first line inside the game's `server { … }`",
                text: format!("include {};", quoted(&settings.folder.join("nginx-server.conf"))),
            },
            Snippet {
                place: "beside each proxy_pass to the game (fastcgi_pass: \
                        `fastcgi_param HTTP_X_ENTRACTE_PASS \"\";`), so that it never sees the tester's pass",
                text: "proxy_set_header X-Entracte-Pass \"\";".into(),
            },
        ],
        Kind::Apache => vec![include(
            "as the first line inside the game's <VirtualHost>; enable the modules rewrite, alias, \
             asis and headers (a2enmod), and proxy where you use it",
            "Include",
            "apache.conf",
        )],
        Kind::Caddy => vec![include(
            "as the first line of a `route { … }` block that holds the whole site",
            "import",
            "caddy.conf",
        )],
        Kind::Haproxy => haproxy::files(settings, &mark(settings))
            .into_iter()
            .map(|(_, text)| Snippet {
                place: "inside the game's `frontend`, before its other http-request rules; `global` \
                        needs `stats socket PATH level admin`",
                text,
            })
            .collect(),
    }
}

/// A path in double quotes, as all four servers read it.
pub(super) fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\""))
}

/// `text` as a regular expression that matches itself.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && !"/_-~%=&:,@!<>".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The paths of a rule as a regular expression.
pub(super) fn paths(rule: &LoginRule) -> String {
    let (_, path, prefix) = rule.parts();
    format!("^{}{}", literal(path), if prefix { "" } else { "$" })
}

/// A `Cookie` field with one of the session cookies. Nothing where none is configured.
pub(super) fn sessions(settings: &Settings) -> Option<String> {
    let names: Vec<String> = settings.session_cookies.iter().map(|name| literal(name)).collect();
    (!names.is_empty()).then(|| format!("(^|;\\s*)({})=[^;\\s]", names.join("|")))
}

/// The first lines of every file.
pub(super) fn head(recipe: &str) -> String {
    format!(
        "# Made by entracte ({recipe}). Do not change it: it is written anew when entracte.toml changes.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_matches_itself_only() {
        assert_eq!(literal("/a.b+c"), "/a\\.b\\+c");
        assert_eq!(paths(&"POST /login.php".parse().unwrap()), "^/login\\.php$");
        assert_eq!(paths(&"/register*".parse().unwrap()), "^/register");
    }
}
