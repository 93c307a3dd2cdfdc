//! The web server that a team keeps as its gate, as the configuration describes it.

use entracte_gate::GateConfig;
use entracte_gate::external::{Kind, Settings};

use super::{Config, ConfigError, file};

/// How long requests get where a server cannot tell that they ended, in milliseconds.
const GRACE_MS: u64 = 5_000;

/// What is so on a Debian machine.
struct Usual {
    check: &'static str,
    reload: &'static str,
    pid_file: &'static str,
    admin: &'static str,
}

fn usual(kind: Kind) -> Usual {
    let nothing = Usual { check: "true", reload: "true", pid_file: "", admin: "" };
    match kind {
        Kind::Entracte => nothing,
        Kind::Nginx => Usual {
            check: "nginx -t -q",
            reload: "nginx -s reload",
            pid_file: "/run/nginx.pid",
            ..nothing
        },
        Kind::Apache => Usual {
            check: "apachectl configtest",
            reload: "apachectl graceful",
            pid_file: "/run/apache2/apache2.pid",
            ..nothing
        },
        Kind::Caddy => Usual {
            check: "caddy validate --config /etc/caddy/Caddyfile --adapter caddyfile",
            reload: "caddy reload --config /etc/caddy/Caddyfile --adapter caddyfile",
            admin: "localhost:2019",
            ..nothing
        },
        Kind::Haproxy => Usual { admin: "/run/haproxy/admin.sock", ..nothing },
    }
}

/// A key that would be silently ignored.
fn misplaced(gate: &file::Gate) -> Option<&'static str> {
    let ours = [
        ("trusted_proxies", !gate.trusted_proxies.is_empty()),
        ("access_log", gate.access_log.is_some()),
        ("tls_cert", gate.tls_cert.is_some()),
        ("tls_key", gate.tls_key.is_some()),
        ("metrics", gate.metrics.is_some()),
        ("inject_widget", gate.inject_widget),
        ("control", gate.control.is_some()),
        ("player_left", gate.player_left.is_some()),
    ];
    let theirs = [
        ("folder", gate.folder.is_some()),
        ("check", gate.check.is_some()),
        ("reload", gate.reload.is_some()),
        ("pid_file", gate.pid_file.is_some()),
        ("admin", gate.admin.is_some()),
        ("backends", !gate.backends.is_empty()),
        ("grace", gate.grace.is_some()),
    ];
    let lost: &[(&str, bool)] = if gate.kind == Kind::Entracte { &theirs } else { &ours };
    lost.iter().find(|(_, is_given)| *is_given).map(|(name, _)| *name)
}

impl Config {
    /// The server in the place of our gate; nothing where it is ours.
    pub(super) fn front(
        &self,
        name: &str,
        target: &file::Target,
        gate: &GateConfig,
    ) -> Result<Option<Settings>, ConfigError> {
        let file = &target.gate;
        let key = |key: &str| format!("target.{name}.gate.{key}");
        if let Some(lost) = misplaced(file) {
            let message = match file.kind {
                Kind::Entracte => {
                    "only means something with `kind` \"nginx\", \"caddy\", \"haproxy\" or \"apache\""
                        .to_owned()
                }
                kind => format!("is our own gate's; with {kind} in its place it does nothing"),
            };
            return Err(self.value(&key(lost), message));
        }
        if file.kind == Kind::Entracte {
            return Ok(None);
        }
        let Some(url) = file.url.clone() else {
            let message = format!(
                "expected the address at which this machine reaches {}, such as \
                 \"https://game.example\", found nothing",
                file.kind
            );
            return Err(self.value(&key("url"), message));
        };
        let rules = file.login.iter().map(|rule| {
            rule.parse().map_err(|error: entracte_model::gate::BadRule| {
                self.value(&key("login"), error.to_string())
            })
        });
        let usual = usual(file.kind);
        let or = |given: &Option<String>, usual: &str| given.clone().unwrap_or(usual.to_owned());
        let folder = match &file.folder {
            Some(path) => self.at(path),
            None => self.at(&target.state).join("front"),
        };
        // A configuration of four servers is made from it: what each takes in a path is another thing.
        let text = folder.to_string_lossy();
        let plain = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
        if !text.chars().all(plain) {
            let message = format!("expected letters, digits and `/._-+`, found {text:?}");
            return Err(self.value(&key("folder"), message));
        }
        Ok(Some(Settings {
            kind: file.kind,
            folder,
            url,
            upstream: gate.upstream.clone(),
            login: rules.collect::<Result<_, _>>()?,
            session_cookies: file.session_cookies.clone(),
            health_paths: file.health_paths.clone(),
            languages: gate.languages.clone(),
            game_name: gate.game_name.clone(),
            check: or(&file.check, usual.check),
            reload: or(&file.reload, usual.reload),
            pid_file: match &file.pid_file {
                Some(path) => self.at(path),
                None => usual.pid_file.into(),
            },
            admin: match &file.admin {
                // A socket beside the configuration; addresses and full paths stay as they are.
                Some(text) if text.contains('/') && !text.starts_with("unix:") => {
                    self.at(text.as_ref()).to_string_lossy().into_owned()
                }
                given => or(given, usual.admin),
            },
            backends: file.backends.clone(),
            grace_ms: file.grace.map_or(GRACE_MS, |grace| grace.ms),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn front(gate: &str) -> Result<Option<Settings>, String> {
        let text = format!(
            "project = \"taverne\"\n[target.production]\nroot = \"game\"\nstate = \"state\"\nkeys = []\n\
             gate = {{ upstream = \"127.0.0.1:8081\"{gate} }}\n"
        );
        let config = Config::parse(Path::new("/srv/x/entracte.toml"), &text);
        let target = config.and_then(|config| config.target("production"));
        target.map(|target| target.front).map_err(|error| error.to_string())
    }

    #[test]
    fn a_server_in_the_gates_place_has_what_debian_has() {
        assert!(front("").unwrap().is_none());
        let nginx = front(", kind = \"nginx\", url = \"http://127.0.0.1\"").unwrap().unwrap();
        assert_eq!(nginx.folder, Path::new("/srv/x/state/front"));
        assert_eq!((nginx.reload.as_str(), nginx.grace_ms), ("nginx -s reload", 5_000));
        let haproxy = ", kind = \"haproxy\", url = \"http://x\", admin = \"run/ha.sock\"";
        assert_eq!(front(haproxy).unwrap().unwrap().admin, "/srv/x/run/ha.sock");
    }

    #[test]
    fn what_it_cannot_do_without_is_asked_for() {
        let no_address = front(", kind = \"caddy\"").unwrap_err();
        assert!(no_address.contains("gate.url: expected the address"), "{no_address}");
        let strange = ", kind = \"caddy\", url = \"http://x\", folder = \"/srv/a b{\"";
        assert!(front(strange).unwrap_err().contains("gate.folder: expected letters"));
        assert!(front(", kind = \"lighttpd\"").unwrap_err().contains("lighttpd"));
        let lost = front(", kind = \"caddy\", url = \"http://x\", inject_widget = true");
        assert!(lost.unwrap_err().contains("gate.inject_widget: is our own gate's"));
        let lost = front(", grace = \"9s\"").unwrap_err();
        assert!(lost.contains("gate.grace: only means something with"), "{lost}");
    }
}
