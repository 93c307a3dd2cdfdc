//! The configuration: found, read, checked, and turned into what the other crates take.

pub mod check;
pub mod edit;
pub mod file;
mod front;
pub mod keys;
mod remote;
mod sense;
pub mod smoke;
pub mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use entracte_db::{
    MariadbSettings, Placeholders, PostgresSettings, Secret, Settings, SqliteSettings,
};
use entracte_gate::{GateConfig, Upstream};
use entracte_model::Hash;
use entracte_release::target::{Announce, Backup, Hooks, Pace, Target};
use toml::de::DeTable;

pub use remote::Far;

use check::{line_of, nearest, unknown};

/// The rates that a reopening goes through: a tenth of the usual one, doubled until it is reached.
const RAMP_STEPS: u64 = 5;

/// The name of the file.
pub const NAME: &str = "entracte.toml";

/// A configuration that was read and has no unknown keys.
#[derive(Debug)]
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// Its folder: relative paths start here.
    pub dir: PathBuf,
    /// What it says.
    pub file: file::File,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No file in this folder or any above.
    #[error("no {NAME} in {} or any folder above it", dir.display())]
    NotFound {
        /// Where the search began.
        dir: PathBuf,
    },
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no TOML, or a value is of the wrong kind.
    #[error("{}:{line}: {message}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was expected and found.
        message: String,
    },
    /// Keys that do not exist.
    #[error("{}:{line}: unknown key `{key}`{}", path.display(), suggestion(nearest.as_deref(), expected))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The nearest right one.
        nearest: Option<String>,
        /// All right ones.
        expected: Vec<String>,
    },
    /// A target that is not in the file.
    #[error("there is no target `{asked}` in {}{}", path.display(), suggestion(nearest.as_deref(), known))]
    NoTarget {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        asked: String,
        /// The nearest that there is.
        nearest: Option<String>,
        /// What there is.
        known: Vec<String>,
    },
    /// A value that only makes sense with another one, or not at all.
    #[error("{}: {key}: {message}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What was expected and found.
        message: String,
    },
}

fn suggestion(nearest: Option<&str>, expected: &[String]) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None if expected.is_empty() => "; the file has none".to_owned(),
        None => format!("; expected one of: {}", expected.join(", ")),
    }
}

impl Config {
    /// Reads the given file, or the nearest one at or above the working folder.
    pub fn load(given: Option<&Path>) -> Result<Self, ConfigError> {
        let path = match given {
            Some(path) if path.is_dir() => path.join(NAME),
            Some(path) => path.to_owned(),
            None => find()?,
        };
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        Self::parse(&path, &text)
    }

    /// Reads a configuration from its text.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let wrong = |error: toml::de::Error| ConfigError::Wrong {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| line_of(text, &span)),
            message: error.message().to_owned(),
        };
        let table = DeTable::parse(text).map_err(wrong)?;
        if let Some(first) = unknown(text, table.get_ref()).into_iter().next() {
            return Err(ConfigError::UnknownKey {
                path: path.to_owned(),
                line: first.line,
                key: first.key,
                nearest: first.nearest.map(str::to_owned),
                expected: first.expected.into_iter().map(str::to_owned).collect(),
            });
        }
        let file = toml::from_str(text).map_err(wrong)?;
        let path = std::path::absolute(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
        let config = Self { path, dir, file };
        config.judge()?;
        Ok(config)
    }

    /// The target to work on: the one asked for, the only one, or `production`.
    pub fn target_name(&self, asked: Option<&str>) -> Result<String, ConfigError> {
        let targets = &self.file.target;
        let known: Vec<String> = targets.keys().cloned().collect();
        let name = match (asked, known.as_slice()) {
            (Some(asked), _) => asked,
            (None, [only]) => only,
            (None, _) => "production",
        };
        if targets.contains_key(name) {
            return Ok(name.to_owned());
        }
        Err(self.no_target(name))
    }

    /// A path of the file, from its folder.
    pub fn at(&self, path: &Path) -> PathBuf {
        let expanded = match path.strip_prefix("~") {
            Ok(rest) => home().join(rest),
            Err(_) => path.to_owned(),
        };
        // Without dots and without a trailing slash, so that parents and names can be asked for.
        sense::tidy(&self.dir.join(expanded))
    }

    /// What players call the game.
    pub fn game_name(&self) -> &str {
        self.file.name.as_deref().unwrap_or(&self.file.project)
    }

    /// The development tree.
    pub fn source_dir(&self) -> PathBuf {
        self.at(&self.file.source.dir)
    }

    /// The secret key that signs packages.
    pub fn secret_key(&self) -> PathBuf {
        match &self.file.source.key {
            Some(path) => self.at(path),
            None => home().join(".config/entracte").join(format!("{}.key", self.file.project)),
        }
    }

    /// What is known of the files of the development tree, so that only changed ones are read. It
    /// can be removed at any time; the next look is slower.
    pub fn scan_cache(&self) -> PathBuf {
        let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let caches =
            caches.filter(|dir| dir.is_absolute()).unwrap_or_else(|| home().join(".cache"));
        let tree = Hash::of(self.source_dir().as_os_str().as_encoded_bytes());
        caches.join("entracte").join(format!("{}-{}.scan", self.file.project, tree.short()))
    }

    fn value(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let (path, key) = (self.path.clone(), key.to_owned());
        ConfigError::Value { path, key, message: message.into() }
    }

    fn file_target(&self, name: &str) -> Result<&file::Target, ConfigError> {
        self.file.target.get(name).ok_or_else(|| self.no_target(name))
    }

    fn no_target(&self, asked: &str) -> ConfigError {
        let known: Vec<String> = self.file.target.keys().cloned().collect();
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        let nearest = nearest(asked, &names).map(str::to_owned);
        ConfigError::NoTarget { path: self.path.clone(), asked: asked.to_owned(), nearest, known }
    }

    /// Everything that a release must know of the target `name`.
    pub fn target(&self, name: &str) -> Result<Target, ConfigError> {
        let target = self.file_target(name)?;
        self.judge_target(name, target)?;
        let state = self.at(&target.state);
        let or_in_state = |given: &Option<PathBuf>, default: &str| match given {
            Some(path) => self.at(path),
            None => state.join(default),
        };
        let gate = self.gate(name)?;
        let url = self.gate_url(target);
        // Passwords and addresses of channels are the far machine's own, where there is one.
        let far = target.ssh.is_some();
        let database = target
            .database
            .as_ref()
            .filter(|_| !far)
            .map(|database| self.database(&format!("target.{name}.database"), database))
            .transpose()?;
        Ok(Target {
            project: self.file.project.clone(),
            environment: name.to_owned(),
            game_name: self.game_name().to_owned(),
            root: self.at(&target.root),
            persist: target.persist.iter().map(|folder| folder.0.clone()).collect(),
            volatile: target.volatile.iter().map(|folder| folder.0.clone()).collect(),
            layout: target.layout,
            hardlink: target.hardlink,
            database,
            point: target.database.as_ref().and_then(|database| database.point.way()),
            placeholders: self
                .placeholders(&format!("target.{name}.placeholders"), &target.placeholders)?,
            front: self.front(name, target, &gate)?,
            gate_socket: gate.control_socket,
            gate_state: gate.state_dir,
            gate_url: url.clone(),
            trusted_keys: target.keys.clone(),
            hooks: Hooks {
                reload: target.hooks.reload.clone(),
                workers_stop: target.hooks.workers_stop.clone(),
                workers_start: target.hooks.workers_start.clone(),
                timeout_ms: target.hooks.timeout.ms,
            },
            smoke: target.smoke.iter().map(|smoke| smoke.0.clone()).collect(),
            smoke_passes: target.smoke_passes,
            rehearse: entracte_release::rehearse::Serve {
                command: target.rehearse.serve.clone(),
                files: target.rehearse.files.clone(),
            },
            pace: Pace {
                notice_ms: target.pace.notice.ms,
                drain_ms: target.pace.drain.ms,
                fence_ms: target.pace.fence.ms,
                hold_ms: target.pace.hold.ms,
                ramp_ms: target.pace.ramp.ms,
                watch_ms: target.pace.watch.ms,
            },
            backup: Backup {
                repository: or_in_state(&target.backup.repository, "backup"),
                password_file: or_in_state(&target.backup.password_file, "backup.password"),
                retention: entracte_backup::Retention {
                    daily: target.backup.daily,
                    weekly: target.backup.weekly,
                    monthly: target.backup.monthly,
                },
            },
            announce: self.announce(&url, far)?,
            keep: target.keep,
            state,
        })
    }

    /// What the gate of the target `name` is told.
    pub fn gate(&self, name: &str) -> Result<GateConfig, ConfigError> {
        let target = self.file_target(name)?;
        let state_dir = self.at(&target.state).join("gate");
        let gate = &target.gate;
        let upstream: Upstream = gate.upstream.parse().map_err(|error| {
            self.value(
                &format!("target.{name}.gate.upstream"),
                entracte_release::fault::chain(&error),
            )
        })?;
        let mut limits = entracte_gate::Limits::default();
        if let Some(left) = gate.player_left {
            limits.player_left_ms = left.ms;
        }
        limits.ramp_step_ms = target.pace.ramp.ms / RAMP_STEPS;
        Ok(GateConfig {
            listen: gate.listen,
            upstream,
            control_socket: match &gate.control {
                Some(path) => self.at(path),
                None => state_dir.join("control.sock"),
            },
            state_dir,
            login: gate.login.clone(),
            session_cookies: gate.session_cookies.clone(),
            health_paths: gate.health_paths.clone(),
            news_dir: Some(self.at(&target.state).join("news")),
            languages: self.file.languages.clone(),
            game_name: self.game_name().to_owned(),
            trusted_proxies: gate.trusted_proxies.clone(),
            access_log: gate.access_log.as_ref().map(|path| self.at(path)),
            tls_cert: gate.tls_cert.as_ref().map(|path| self.at(path)),
            tls_key: gate.tls_key.as_ref().map(|path| self.at(path)),
            metrics_listen: gate.metrics,
            inject_widget: gate.inject_widget,
            limits,
        })
    }

    fn gate_url(&self, target: &file::Target) -> String {
        target.gate.url.clone().unwrap_or_else(|| {
            let mut listen = target.gate.listen;
            if listen.ip().is_unspecified() {
                listen.set_ip([127, 0, 0, 1].into());
            }
            let scheme = if target.gate.tls_cert.is_some() { "https" } else { "http" };
            format!("{scheme}://{listen}")
        })
    }

    fn announce(&self, gate_url: &str, far: bool) -> Result<Announce, ConfigError> {
        let mut channels = Vec::new();
        for (name, address) in self.file.announce.channels.iter().filter(|_| !far) {
            let key = format!("announce.channels.{name}");
            let address = match address.strip_prefix("env:") {
                Some(variable) => std::env::var(variable).map_err(|_| {
                    self.value(&key, format!("the environment variable {variable} is not set"))
                })?,
                None => address.clone(),
            };
            let channel =
                address.parse().map_err(|error: entracte_announce::channel::BadChannel| {
                    self.value(&key, error.to_string())
                })?;
            channels.push((name.clone(), channel));
        }
        let news_url = self.file.announce.news_url.clone();
        Ok(Announce {
            languages: self.file.languages.clone(),
            channels,
            news_url: news_url.unwrap_or_else(|| format!("{gate_url}/_entracte/news/")),
        })
    }

    /// What stands for what in scripts that run on the development database.
    pub fn development_placeholders(&self) -> Result<Placeholders, ConfigError> {
        self.placeholders("development.placeholders", &self.file.development.placeholders)
    }

    fn placeholders(
        &self,
        key: &str,
        values: &BTreeMap<String, String>,
    ) -> Result<Placeholders, ConfigError> {
        Placeholders::new(values.clone()).map_err(|error| self.value(key, error.to_string()))
    }

    /// The development database, if one is configured.
    pub fn development_database(&self) -> Result<Option<Settings>, ConfigError> {
        let database = self.file.development.database.as_ref();
        database.map(|database| self.database("development.database", database)).transpose()
    }

    fn database(&self, key: &str, database: &file::Database) -> Result<Settings, ConfigError> {
        let need = |field: &str| {
            self.value(&format!("{key}.{field}"), "is needed for this kind of database")
        };
        if database.engine == file::Engine::Sqlite {
            let path = database.path.as_ref().ok_or_else(|| need("path"))?;
            return Ok(Settings::Sqlite(SqliteSettings { path: self.at(path) }));
        }
        let host = match (&database.socket, &database.host) {
            (None, None) => Some("127.0.0.1".to_owned()),
            (_, host) => host.clone(),
        };
        if database.engine == file::Engine::Postgres {
            return Ok(Settings::Postgres(PostgresSettings {
                socket_dir: database.socket.as_ref().map(|path| self.at(path)),
                host,
                port: database.port.unwrap_or(5432),
                user: database.user.clone().ok_or_else(|| need("user"))?,
                password: self.password(key, database)?,
                database: database.database.clone().ok_or_else(|| need("database"))?,
                game_users: database.game_users.clone(),
            }));
        }
        Ok(Settings::Mariadb(MariadbSettings {
            socket: database.socket.as_ref().map(|path| self.at(path)),
            host,
            port: database.port.unwrap_or(3306),
            user: database.user.clone().ok_or_else(|| need("user"))?,
            password: self.password(key, database)?,
            database: database.database.clone().ok_or_else(|| need("database"))?,
            data_dir: database.data_dir.as_ref().map(|path| self.at(path)),
            game_users: database.game_users.clone(),
        }))
    }

    /// A password comes from the environment or a file, never from the configuration itself.
    fn password(&self, key: &str, database: &file::Database) -> Result<Secret, ConfigError> {
        if let Some(variable) = &database.password_env {
            let password = std::env::var(variable).map_err(|_| {
                let message = format!("the environment variable {variable} is not set");
                self.value(&format!("{key}.password_env"), message)
            })?;
            return Ok(Secret::new(password));
        }
        let Some(path) = &database.password_file else { return Ok(Secret::new("")) };
        let path = self.at(path);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        Ok(Secret::new(text.trim_end_matches(['\n', '\r'])))
    }
}

fn find() -> Result<PathBuf, ConfigError> {
    let here =
        std::env::current_dir().map_err(|source| ConfigError::Read { path: ".".into(), source })?;
    let found = here.ancestors().map(|dir| dir.join(NAME)).find(|path| path.is_file());
    found.ok_or(ConfigError::NotFound { dir: here })
}

fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "
project = \"taverne\"
[target.production]
root = \"game\"
state = \"state\"
persist = [\"uploads/\", \"config.php\"]
keys = []
gate = { upstream = \"127.0.0.1:8081\" }
";

    #[test]
    fn a_small_file_has_sensible_defaults() {
        let config = Config::parse(Path::new("/srv/taverne/entracte.toml"), SMALL).unwrap();
        let name = config.target_name(None).unwrap();
        let target = config.target(&name).unwrap();
        assert_eq!(target.root, Path::new("/srv/taverne/game"));
        assert_eq!(target.persist[0].as_str(), "uploads");
        assert_eq!(target.gate_url, "http://127.0.0.1:8080");
        assert_eq!(target.beside(), Path::new("/srv/taverne/.game.entracte"));
        assert_eq!(target.backup.retention.weekly, 4);
    }

    #[test]
    fn the_way_to_the_rollback_point_is_one_of_those_that_there_are() {
        let database = "[target.production.database]\nengine = \"sqlite\"\npath = \"game.db\"\n";
        let target = |line: &str| {
            let text = format!("{SMALL}{database}{line}");
            Config::parse(Path::new("/x/entracte.toml"), &text).and_then(|config| {
                let name = config.target_name(None)?;
                config.target(&name)
            })
        };
        use entracte_model::way::Way;
        assert_eq!(target("").unwrap().point, None);
        assert_eq!(target("point = \"auto\"\n").unwrap().point, None);
        assert_eq!(target("point = \"copy\"\n").unwrap().point, Some(Way::Copy));
        let error = target("point = \"fast\"\n").unwrap_err().to_string();
        assert!(error.starts_with("/x/entracte.toml:12: "), "{error}");
        assert!(error.contains("`fast`") && error.contains("`auto`"), "{error}");
    }

    #[test]
    fn a_wrong_key_says_where_and_which_one_was_meant() {
        let text = SMALL.replace("persist", "persists");
        let error = Config::parse(Path::new("/x/entracte.toml"), &text).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/x/entracte.toml:6: unknown key `target.production.persists`; did you mean `persist`?"
        );
    }

    #[test]
    fn a_wrong_value_says_where_and_what_was_expected() {
        let text = format!("{SMALL}\n[target.production.pace]\ndrain = \"two minutes\"\n");
        let error = Config::parse(Path::new("/x/entracte.toml"), &text).unwrap_err().to_string();
        assert!(error.starts_with("/x/entracte.toml:11: expected a duration"), "{error}");
    }

    #[test]
    fn every_key_of_the_manual_is_taken_by_the_reader() {
        // A key that the table allows and the reader does not know would be silently ignored.
        for key in keys::KEYS.iter().filter(|key| key.path.starts_with("target.*.")) {
            let named = key.path.trim_end_matches(".*");
            let field = named.rsplit('.').next().unwrap_or_default();
            let source = include_str!("file.rs");
            let smoke = include_str!("smoke.rs");
            let wanted = format!("{field}:");
            assert!(
                source.contains(&wanted) || smoke.contains(&wanted),
                "{} is not read",
                key.path
            );
        }
    }
}
