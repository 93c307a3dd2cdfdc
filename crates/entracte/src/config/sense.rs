//! Values that can be read and make no sense: said when the file is read, not in the middle of a
//! release.

use std::path::{Component, Path, PathBuf};

use entracte_model::gate::LoginRule;

use entracte_model::time::human_ms;

use super::{Config, ConfigError, file};

/// The longest that requests may be made to wait, in milliseconds: the gate gives each 20 s.
const HOLD_MS_MAX: u64 = 15_000;

impl Config {
    /// What is wrong for every target.
    pub(super) fn judge(&self) -> Result<(), ConfigError> {
        let project = &self.file.project;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if project.is_empty() || !project.chars().all(plain) {
            let message = format!("expected letters, digits, `-` and `_`, found {project:?}");
            return Err(self.value("project", message));
        }
        let languages = &self.file.languages;
        let language = |text: &String| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        };
        if languages.is_empty() || !languages.iter().all(language) {
            let message = format!("expected languages such as \"en\", \"fr\", found {languages:?}");
            return Err(self.value("languages", message));
        }
        Ok(())
    }

    /// What is wrong for one target.
    pub(super) fn judge_target(
        &self,
        name: &str,
        target: &file::Target,
    ) -> Result<(), ConfigError> {
        let wrong =
            |key: &str, message: String| Err(self.value(&format!("target.{name}.{key}"), message));
        let (root, state) = (self.at(&target.root), self.at(&target.state));
        if state.starts_with(&root) || root.starts_with(&state) {
            let message = format!(
                "{} and the root {} lie in one another; the journal is nothing that a web server \
                 serves, nor that a release exchanges",
                state.display(),
                root.display()
            );
            return wrong("state", message);
        }
        self.judge_far(name, target)?;
        if target.smoke_passes == 0 {
            return wrong("smoke_passes", "expected at least 1, found 0".into());
        }
        if target.pace.hold.ms > HOLD_MS_MAX {
            let message = format!(
                "expected at most {}, found {}: browsers and proxies give up on a request that \
                 waits for longer",
                human_ms(HOLD_MS_MAX),
                human_ms(target.pace.hold.ms)
            );
            return wrong("pace.hold", message);
        }
        for rule in &target.gate.login {
            if let Err(error) = rule.parse::<LoginRule>() {
                return wrong("gate.login", error.to_string());
            }
        }
        let host = target.gate.upstream.rsplit_once(':').map_or("", |(host, _)| host);
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.contains(':') && !bracketed && host != "unix" && !host.starts_with("unix:") {
            let found = &target.gate.upstream;
            let message =
                format!("expected host:port, [address]:port or unix:/path, found {found:?}");
            return wrong("gate.upstream", message);
        }
        let is_ours = target.gate.kind == entracte_gate::external::Kind::Entracte;
        if is_ours && target.gate.upstream == target.gate.listen.to_string() {
            let message = format!("{} is the gate itself, not the game", target.gate.upstream);
            return wrong("gate.upstream", message);
        }
        Ok(())
    }
}

/// A path without `.` and `..`, which error messages and comparisons would stumble over. What lies
/// before a `..` may be a link: it is asked where it leads.
pub(super) fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for component in path.components() {
        if component != Component::ParentDir {
            tidied.push(component);
            continue;
        }
        if let Ok(real) = tidied.canonicalize() {
            tidied = real;
        }
        tidied.pop();
    }
    tidied
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "
project = \"taverne\"
[target.production]
root = \"game\"
state = \"state\"
keys = []
gate = { upstream = \"127.0.0.1:8081\" }
";

    fn refused(from: &str, to: &str) -> String {
        let text = SMALL.replace(from, to);
        assert_ne!(text, SMALL);
        let config = Config::parse(Path::new("/srv/x/entracte.toml"), &text);
        config.and_then(|config| config.target("production").map(|_| ())).unwrap_err().to_string()
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        let cases = [
            ("\"taverne\"", "\"../taverne\"", "project: expected letters"),
            ("[target", "languages = []\n[target", "languages: expected languages"),
            ("\"state\"", "\"game/state\"", "target.production.state: /srv/x/game/state and"),
            ("\"game\"", "\"state/game\"", "lie in one another"),
            ("keys = []", "keys = []\nsmoke_passes = 0", "smoke_passes: expected at least 1"),
            ("127.0.0.1:8081", "http:127.0.0.1:8081", "gate.upstream: expected host:port"),
            (
                "keys = []",
                "keys = []\npace = { hold = \"1min\" }",
                "pace.hold: expected at most 15 s",
            ),
            ("8081", "8080", "gate.upstream: 127.0.0.1:8080 is the gate itself"),
            (":8081\"", ":8081\", login = [\"login.php\"]", "is not a login rule"),
        ];
        for (from, to, wanted) in cases {
            let error = refused(from, to);
            assert!(error.contains(wanted), "{to}: {error}");
        }
    }

    #[test]
    fn paths_lose_their_dots_and_links_are_followed_where_they_lead() {
        assert_eq!(tidy(Path::new("/a/./b/../c/")), Path::new("/a/c"));
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(real.join("far/away")).unwrap();
        std::os::unix::fs::symlink(real.join("far/away"), real.join("near")).unwrap();
        assert_eq!(tidy(&real.join("near/../x")), real.join("far/x"));
        assert_eq!(tidy(&real.join("near/x")), real.join("near/x"));
    }
}
