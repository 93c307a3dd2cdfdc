//! A target on another machine: how it is reached, and the configuration that it works with.

use entracte_host::wire::Destination;
use toml::Table;

use super::{Config, ConfigError, NAME, file};

/// Where `entracte bootstrap` puts the program, from the user's home.
const BINARY: &str = ".local/bin/entracte";
/// Keys that are about the way to the far machine, and mean nothing there.
const OF_THE_WAY: [&str; 3] = ["ssh", "ssh_options", "remote_binary"];

/// A target that is reached over ssh.
#[derive(Debug, Clone)]
pub struct Far {
    /// The target's name.
    pub name: String,
    /// The machine.
    pub at: Destination,
    /// The program there.
    pub binary: String,
    /// The configuration there.
    pub config: String,
    /// What that must say.
    pub text: String,
}

impl Config {
    /// How the target `name` is reached, where it is on another machine.
    pub fn far(&self, name: &str) -> Result<Option<Far>, ConfigError> {
        use std::io::IsTerminal;
        let target = self.file_target(name)?;
        let Some(host) = &target.ssh else { return Ok(None) };
        self.judge_target(name, target)?;
        let at = Destination {
            host: host.clone(),
            options: target.ssh_options.clone(),
            batch: !std::io::stdin().is_terminal(),
        };
        Ok(Some(Far {
            name: name.to_owned(),
            at,
            binary: target.remote_binary.clone().unwrap_or_else(|| BINARY.to_owned()),
            config: target.state.join(NAME).display().to_string(),
            text: self.text_for(name)?,
        }))
    }

    /// What the far machine is told: its own target, and nothing of the development side.
    fn text_for(&self, name: &str) -> Result<String, ConfigError> {
        let text = std::fs::read_to_string(&self.path)
            .map_err(|source| ConfigError::Read { path: self.path.clone(), source })?;
        let wrong = |message: String| self.value(&format!("target.{name}"), message);
        let mut table: Table = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        table.remove("source");
        table.remove("development");
        if let Some(targets) = table.get_mut("target").and_then(toml::Value::as_table_mut) {
            targets.retain(|key, _| key == name);
            if let Some(target) = targets.get_mut(name).and_then(toml::Value::as_table_mut) {
                target.retain(|key, _| !OF_THE_WAY.contains(&key));
            }
        }
        let table = toml::to_string(&table).map_err(|error| wrong(error.to_string()))?;
        Ok(format!(
            "# From {NAME} of the development machine, by `entracte bootstrap` or `deploy`: change it there.\n\n{table}"
        ))
    }

    /// What is wrong with the way to a far target.
    pub(super) fn judge_far(&self, name: &str, target: &file::Target) -> Result<(), ConfigError> {
        let wrong =
            |key: &str, message: String| Err(self.value(&format!("target.{name}.{key}"), message));
        let Some(host) = &target.ssh else { return Ok(()) };
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if host.is_empty() || host.starts_with('-') || host.contains(odd) {
            return wrong(
                "ssh",
                format!("expected a host such as deploy@game.example.org, found {host:?}"),
            );
        }
        for option in &target.ssh_options {
            if !option.contains('=') || option.contains(char::is_control) {
                let message = format!("expected options such as \"Port=2222\", found {option:?}");
                return wrong("ssh_options", message);
            }
        }
        for (key, path) in [("root", &target.root), ("state", &target.state)] {
            if !path.is_absolute() {
                let message = format!(
                    "expected a path from / on, as it is on {host}, found {}",
                    path.display()
                );
                return wrong(key, message);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TEXT: &str = r#"
project = "taverne"
[source]
key = "~/taverne.key"
[development.database]
engine = "sqlite"
path = "dev.sqlite"
[announce.channels]
team = "env:TEAM_WEBHOOK"
[target.staging]
root = "/srv/a"
state = "/srv/b"
keys = []
gate = { upstream = "127.0.0.1:8081" }
[target.production]
ssh = "deploy@game"
ssh_options = ["Port=2222"]
root = "/srv/taverne"
state = "/var/lib/entracte"
keys = []
gate = { upstream = "127.0.0.1:8081" }
[target.production.database]
engine = "mariadb"
user = "entracte"
password_file = "/only/on/the/server"
database = "taverne"
"#;

    fn config(text: &str) -> (tempfile::TempDir, Config) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        std::fs::write(&path, text).unwrap();
        (dir, Config::load(Some(&path)).unwrap())
    }

    #[test]
    fn secrets_of_the_far_machine_are_not_looked_for_here() {
        let (_dir, config) = config(TEXT);
        let target = config.target("production").unwrap();
        assert!(target.database.is_none() && target.announce.channels.is_empty());
        assert!(config.far("staging").unwrap().is_none());
    }

    #[test]
    fn the_far_machine_is_told_of_its_target_and_nothing_else() {
        let (_dir, config) = config(TEXT);
        let far = config.far("production").unwrap().unwrap();
        assert_eq!(far.config, "/var/lib/entracte/entracte.toml");
        for gone in ["[source", "[development", "staging", "ssh", "taverne.key"] {
            assert!(!far.text.contains(gone), "{gone} in {}", far.text);
        }
        let there = Config::parse(Path::new("/var/lib/entracte/entracte.toml"), &far.text).unwrap();
        assert!(there.far("production").unwrap().is_none(), "there it is a local one");
        assert_eq!(there.file.announce.channels["team"], "env:TEAM_WEBHOOK");
    }

    #[test]
    fn a_way_that_makes_no_sense_is_refused_with_its_key() {
        let cases = [
            ("deploy@game", "-oProxyCommand=x", "target.production.ssh: expected a host"),
            ("Port=2222", "2222", "ssh_options: expected options"),
            ("/srv/taverne", "taverne", "root: expected a path from /"),
        ];
        for (from, to, wanted) in cases {
            let (_dir, config) = config(&TEXT.replace(from, to));
            let error = config.far("production").unwrap_err().to_string();
            assert!(error.contains(wanted), "{to}: {error}");
        }
    }
}
