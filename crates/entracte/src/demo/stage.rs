//! The folders of the demo: a development side, a production side, and their configuration.
//!
//! ```text
//! entracte.toml  inn.key  dev/  SQL/  changes/  dist/        the development machine
//! production/    inn/  inn.sqlite  state/                    the production machine
//! logs/  window/                                             what processes said, what hooks noted
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::game::{SESSION_COOKIE, seed};
use super::versions::{GameVersion, V1_0};
use super::window::{CLOSED, OPENING};
use crate::exit::Failure;

/// Players whose rows are there before the first living one comes.
pub const SEEDED: u32 = 2_000;
/// The durations of the releases: those of a real game are minutes, nobody watches a demo so long.
const PACE: &str = "\
notice = \"1s\"
drain = \"3s\"
ramp = \"0s\"
watch = \"3s\"";

/// Who listens where, all on this machine.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// The game itself.
    pub game: SocketAddr,
    /// The gate before it: where players connect.
    pub gate: SocketAddr,
    /// Releases in a browser.
    pub dashboard: SocketAddr,
}

/// The folders.
#[derive(Debug)]
pub struct Stage {
    dir: PathBuf,
    /// Removed when the stage is dropped, where it is ours.
    temporary: Option<TempDir>,
}

impl Stage {
    /// Makes the folders in `given`, or in a fresh temporary folder, and fills them with 1.0.
    ///
    /// # Errors
    /// Where `given` holds something already: nothing of anybody's is ever written over.
    pub fn build(given: Option<&Path>) -> Result<Self, Failure> {
        let stage = match given {
            Some(dir) => {
                std::fs::create_dir_all(dir)?;
                if std::fs::read_dir(dir)?.next().is_some() {
                    let message = format!("{} is not empty", dir.display());
                    return Err(Failure::refused(message).hint("name a new folder with --dir"));
                }
                Self { dir: std::path::absolute(dir)?, temporary: None }
            }
            None => {
                let dir = tempfile::Builder::new().prefix("entracte-demo-").tempdir()?;
                Self { dir: dir.path().to_owned(), temporary: Some(dir) }
            }
        };
        for folder in
            ["dev", "SQL", "changes", "production/inn", "production/state", "logs", "window"]
        {
            std::fs::create_dir_all(stage.at(folder))?;
        }
        V1_0.put_into(&stage.at("dev"))?;
        V1_0.put_into(&stage.root())?;
        seed(&stage.database(), V1_0.scripts[0].1, SEEDED)?;
        Ok(stage)
    }

    /// Where everything is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path below it.
    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    /// The tree that the game is served from.
    pub fn root(&self) -> PathBuf {
        self.at("production/inn")
    }

    /// The game's database.
    pub fn database(&self) -> PathBuf {
        self.at("production/inn.sqlite")
    }

    /// Whether it goes away when it is dropped.
    pub fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Leaves everything where it is, for people to look at.
    pub fn keep(&mut self) {
        if let Some(mut temporary) = self.temporary.take() {
            temporary.disable_cleanup(true);
        }
    }

    /// What the developers of the game do for a version: files, scripts, notes.
    pub fn develop(&self, version: &GameVersion) -> Result<(), Failure> {
        version.put_into(&self.at("dev"))?;
        for (folder, files) in [("SQL", version.scripts), ("changes", version.changes)] {
            for (name, text) in files {
                std::fs::write(self.at(folder).join(name), text)?;
            }
        }
        Ok(())
    }

    /// Makes the signing key and writes the configuration.
    pub fn configure(&self, places: &Places) -> Result<(), Failure> {
        let key = entracte_package::keys::generate(&self.at("inn.key"))?.0;
        let program = std::env::current_exe()?;
        let hook = |moment: &str| {
            let words = [
                program.display().to_string(),
                "demo-game".into(),
                "--root".into(),
                self.root().display().to_string(),
                "--database".into(),
                self.database().display().to_string(),
                "--note".into(),
                self.at("window").display().to_string(),
                "--moment".into(),
                moment.into(),
            ];
            shell_words::join(words)
        };
        let text = configuration(&key, places, &hook(CLOSED), &hook(OPENING));
        Ok(std::fs::write(self.at("entracte.toml"), text)?)
    }
}

fn configuration(key: &str, places: &Places, closed: &str, opening: &str) -> String {
    let Places { game, gate, dashboard } = places;
    // A path may hold anything: it is written as TOML's own text.
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let (closed, opening) = (quoted(closed), quoted(opening));
    format!(
        r#"project = "inn"
name = "The Lantern Inn"
languages = ["en", "fr"]

[source]
dir = "dev"
key = "inn.key"
allow = ["untracked", "uncommitted"]   # the demo's folder may lie in somebody's repository

[target.production]
root = "production/inn"
state = "production/state"
keys = ["{key}"]
dashboard = "{dashboard}"

[target.production.database]
engine = "sqlite"
path = "production/inn.sqlite"

[target.production.gate]
listen = "{gate}"
upstream = "{game}"
login = ["POST /login"]
session_cookies = ["{SESSION_COOKIE}"]
inject_widget = true
player_left = "1s"

[target.production.pace]
{PACE}

[target.production.backup]
daily_at = "23:59"

# The inn has no workers. The demo notes here, inside the closed window, what the tree and every
# table hold: that is how its report knows that a release which was taken back left no trace.
[target.production.hooks]
workers_stop = [{closed}]
workers_start = [{opening}]

[[target.production.smoke]]
name = "the version"
http = "GET /api/status"
json = "/version"
equals = "{{version}}"

[[target.production.smoke]]
name = "the common room"
http = "GET /"
contains = "The Lantern Inn {{version}}"

[[target.production.smoke]]
name = "coming in"
http = "POST /login"
form = "name=Tester"
status = 303

[[target.production.smoke]]
name = "the table"
http = "GET /play"
contains = "Tester"

[[target.production.smoke]]
name = "the guests"
sql = "SELECT count(*) >= {SEEDED} FROM players"
equals = 1
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_configuration_is_one_that_entracte_takes() {
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage::build(Some(&dir.path().join("demo 'of' mine"))).unwrap();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let places = Places { game: at(8081), gate: at(8080), dashboard: at(8090) };
        stage.configure(&places).unwrap();
        let config = Config::load(Some(&stage.at("entracte.toml"))).unwrap();
        let target = config.target("production").unwrap();
        assert_eq!(target.smoke.len(), 5);
        assert_eq!(target.gate_url, "http://127.0.0.1:8080");
        assert!(config.secret_key().starts_with(stage.dir()));
        let hook = shell_words::split(&target.hooks.workers_stop[0]).unwrap();
        assert_eq!(hook[3], stage.root().display().to_string());
    }

    #[test]
    fn a_folder_with_something_in_it_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mine.txt"), "mine").unwrap();
        let failure = Stage::build(Some(dir.path())).unwrap_err();
        assert_eq!(failure.exit, crate::exit::Exit::Refused);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_temporary_folder_goes_away_unless_it_is_kept() {
        let mut stage = Stage::build(None).unwrap();
        let dir = stage.dir().to_owned();
        stage.keep();
        drop(stage);
        assert!(dir.exists());
        std::fs::remove_dir_all(&dir).unwrap();
        let stage = Stage::build(None).unwrap();
        let dir = stage.dir().to_owned();
        drop(stage);
        assert!(!dir.exists());
    }
}
