//! `entracte.toml` as it is written.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use entracte_model::RelPath;
use entracte_release::target::Layout;
use serde::Deserialize;

use super::smoke::Smoke;
use super::units::{Duration, Size, TimeOfDay};

/// The whole file.
#[derive(Debug, Deserialize)]
pub struct File {
    pub project: String,
    pub name: Option<String>,
    #[serde(default = "english")]
    pub languages: Vec<String>,
    #[serde(default)]
    pub source: Source,
    #[serde(default)]
    pub development: Development,
    #[serde(default)]
    pub announce: Announce,
    #[serde(default)]
    pub target: BTreeMap<String, Target>,
}

fn english() -> Vec<String> {
    vec!["en".into()]
}

/// The development side.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct Source {
    pub dir: PathBuf,
    pub scripts: PathBuf,
    pub changes: PathBuf,
    pub dist: PathBuf,
    pub allow: Vec<String>,
    pub file_max: Size,
    pub key: Option<PathBuf>,
}

impl Default for Source {
    fn default() -> Self {
        Self {
            dir: ".".into(),
            scripts: "SQL".into(),
            changes: "changes".into(),
            dist: "dist".into(),
            allow: vec![],
            file_max: Size { bytes: 256_000_000 },
            key: None,
        }
    }
}

/// What else is on the development machine.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Development {
    pub database: Option<Database>,
    pub seed_tables: Vec<String>,
    pub placeholders: BTreeMap<String, String>,
}

/// Whom to tell.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Announce {
    pub news_url: Option<String>,
    pub channels: BTreeMap<String, String>,
}

/// One production.
#[derive(Debug, Deserialize)]
pub struct Target {
    pub ssh: Option<String>,
    #[serde(default)]
    pub ssh_options: Vec<String>,
    pub remote_binary: Option<String>,
    pub root: PathBuf,
    pub state: PathBuf,
    #[serde(default)]
    pub persist: Vec<Folder>,
    #[serde(default)]
    pub volatile: Vec<Folder>,
    #[serde(default)]
    pub layout: Layout,
    #[serde(default)]
    pub hardlink: bool,
    #[serde(default)]
    pub keys: Vec<String>,
    #[serde(default = "three")]
    pub keep: usize,
    #[serde(default = "two")]
    pub smoke_passes: u32,
    pub dashboard: Option<SocketAddr>,
    pub database: Option<Database>,
    #[serde(default)]
    pub placeholders: BTreeMap<String, String>,
    pub gate: Gate,
    #[serde(default)]
    pub hooks: Hooks,
    #[serde(default)]
    pub pace: Pace,
    #[serde(default)]
    pub backup: Backup,
    #[serde(default)]
    pub smoke: Vec<Smoke>,
    #[serde(default)]
    pub rehearse: Rehearse,
}

fn two() -> u32 {
    2
}

fn three() -> usize {
    3
}

/// A path in the tree; a folder may carry a slash at its end.
#[derive(Debug, Clone)]
pub struct Folder(pub RelPath);

impl<'de> Deserialize<'de> for Folder {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.trim_end_matches('/').parse().map(Folder).map_err(serde::de::Error::custom)
    }
}

/// A database.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub engine: Engine,
    pub path: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub password_env: Option<String>,
    pub password_file: Option<PathBuf>,
    pub database: Option<String>,
    pub data_dir: Option<PathBuf>,
    #[serde(default)]
    pub point: Point,
    #[serde(default)]
    pub game_users: Vec<String>,
}

/// The way to the rollback point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Point {
    #[default]
    Auto,
    #[serde(untagged)]
    Way(entracte_model::way::Way),
}

/// The kinds of databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    Sqlite,
    #[serde(alias = "mysql")]
    Mariadb,
    #[serde(alias = "postgresql")]
    Postgres,
}

/// The gate of a target.
#[derive(Debug, Deserialize)]
pub struct Gate {
    #[serde(default)]
    pub kind: entracte_gate::external::Kind,
    #[serde(default = "listen")]
    pub listen: SocketAddr,
    pub upstream: String,
    pub url: Option<String>,
    #[serde(default)]
    pub login: Vec<String>,
    #[serde(default)]
    pub session_cookies: Vec<String>,
    #[serde(default)]
    pub health_paths: Vec<String>,
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
    pub access_log: Option<PathBuf>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub metrics: Option<SocketAddr>,
    #[serde(default)]
    pub inject_widget: bool,
    pub control: Option<PathBuf>,
    pub player_left: Option<Duration>,
    pub folder: Option<PathBuf>,
    pub check: Option<String>,
    pub reload: Option<String>,
    pub pid_file: Option<PathBuf>,
    pub admin: Option<String>,
    #[serde(default)]
    pub backends: Vec<String>,
    pub grace: Option<Duration>,
}

fn listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

/// Commands of a target.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct Hooks {
    pub reload: Vec<String>,
    pub workers_stop: Vec<String>,
    pub workers_start: Vec<String>,
    pub timeout: Duration,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            reload: vec![],
            workers_stop: vec![],
            workers_start: vec![],
            timeout: Duration::ms(30_000),
        }
    }
}

/// How the game is started for a rehearsal.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Rehearse {
    pub serve: Option<String>,
    pub files: BTreeMap<RelPath, String>,
}

/// How long things take.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct Pace {
    pub notice: Duration,
    pub drain: Duration,
    pub fence: Duration,
    pub hold: Duration,
    pub ramp: Duration,
    pub watch: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            notice: Duration::ms(0),
            drain: Duration::ms(120_000),
            fence: Duration::ms(30_000),
            hold: Duration::ms(5_000),
            ramp: Duration::ms(60_000),
            watch: Duration::ms(300_000),
        }
    }
}

/// The backups of a target.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct Backup {
    pub repository: Option<PathBuf>,
    pub password_file: Option<PathBuf>,
    pub daily_at: TimeOfDay,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
}

impl Default for Backup {
    fn default() -> Self {
        Self {
            repository: None,
            password_file: None,
            daily_at: TimeOfDay { hour: 4, minute: 30 },
            daily: 7,
            weekly: 4,
            monthly: 12,
        }
    }
}
