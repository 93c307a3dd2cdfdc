//! One production, as its configuration describes it, and where its things lie.

use std::path::{Path, PathBuf};

use entracte_announce::channel::Channel;
use entracte_model::plan::ReleaseId;
use entracte_model::{RelPath, Version};

use crate::rehearse::Serve;
use crate::smoke::Check;

/// Everything that a release must know of its target. Secrets are resolved already.
#[derive(Debug, Clone)]
pub struct Target {
    /// The game.
    pub project: String,
    /// The environment, such as `production`.
    pub environment: String,
    /// What players call the game.
    pub game_name: String,
    /// The tree that the web server serves.
    pub root: PathBuf,
    /// Where Entracte keeps its store, packages, points and logs.
    pub state: PathBuf,
    /// Files and folders that belong to production and live outside the versions.
    pub persist: Vec<RelPath>,
    /// Folders inside the tree that the game fills by itself (caches): each version begins with
    /// empty ones, and nobody compares them.
    pub volatile: Vec<RelPath>,
    /// How a new tree takes the live one's place.
    pub layout: Layout,
    /// Whether unchanged files may share their blocks with the old version by hard links.
    pub hardlink: bool,
    /// The game's database, if it has one.
    pub database: Option<entracte_db::Settings>,
    /// The way to the rollback point, where the configuration asks for one.
    pub point: Option<entracte_model::way::Way>,
    /// What stands for what in the scripts (`%PREFIX%`).
    pub placeholders: entracte_db::Placeholders,
    /// The web server that the team keeps as its gate; nothing where that is our own.
    pub front: Option<entracte_gate::external::Settings>,
    /// Where our own gate's control socket is.
    pub gate_socket: PathBuf,
    /// The folder in which our own gate keeps its state.
    pub gate_state: PathBuf,
    /// The address at which the gate, or the server in its place, listens, such as `http://127.0.0.1:8080`.
    pub gate_url: String,
    /// Public keys whose packages production takes.
    pub trusted_keys: Vec<String>,
    /// Commands that production's services are driven with.
    pub hooks: Hooks,
    /// What is tested before players come in.
    pub smoke: Vec<Check>,
    /// How many times in a row all of it must pass.
    pub smoke_passes: u32,
    /// How the game is started for a rehearsal.
    pub rehearse: Serve,
    /// The durations of the dance.
    pub pace: Pace,
    /// The backups.
    pub backup: Backup,
    /// Whom to tell, and how.
    pub announce: Announce,
    /// How many replaced trees and rollback points are kept.
    pub keep: usize,
}

/// How a new tree takes the live one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// The root is a folder; it and the staged one are exchanged in one system call.
    #[default]
    Exchange,
    /// The root is a link to one of `releases/`; it is pointed at another one.
    Symlink,
    /// The root stays, and its files are replaced one by one, with a durable list of what to undo.
    Inplace,
}

/// Commands of a target, each run by `sh -c` in the root of the game.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// Makes the web server take the new files, such as `systemctl reload php8.2-fpm`.
    pub reload: Vec<String>,
    /// Stops workers and crons, and returns when they are gone.
    pub workers_stop: Vec<String>,
    /// Starts them again.
    pub workers_start: Vec<String>,
    /// How long one command may take, in milliseconds.
    pub timeout_ms: u64,
}

/// How long things take, in milliseconds.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Between the announcement and the closing of the login.
    pub notice_ms: u64,
    /// For players who are in to finish.
    pub drain_ms: u64,
    /// For requests in flight and open transactions to end once the gate is closed.
    pub fence_ms: u64,
    /// How long requests may wait inside the gate, where a release leaves the database alone and its
    /// window is predicted to be that short. 0: never, the game closes for every release.
    pub hold_ms: u64,
    /// For letting players in again, from a trickle to all.
    pub ramp_ms: u64,
    /// For watching afterwards.
    pub watch_ms: u64,
}

/// Where backups go.
#[derive(Debug, Clone)]
pub struct Backup {
    /// The repository.
    pub repository: PathBuf,
    /// The file with its password.
    pub password_file: PathBuf,
    /// How many are kept.
    pub retention: entracte_backup::Retention,
}

/// Whom to tell.
#[derive(Debug, Clone, Default)]
pub struct Announce {
    /// The players' languages, the first one being the default.
    pub languages: Vec<String>,
    /// Channels by their configured names.
    pub channels: Vec<(String, Channel)>,
    /// The address of the news pages, as players reach them.
    pub news_url: String,
}

impl Target {
    /// The store.
    pub fn store(&self) -> PathBuf {
        self.state.join("store.sqlite")
    }

    /// The lock that one release at a time holds.
    pub fn lock(&self) -> PathBuf {
        self.state.join("release.lock")
    }

    /// The lock that whoever takes a backup holds: two at a time would be in each other's way.
    pub fn backup_lock(&self) -> PathBuf {
        self.state.join("backup.lock")
    }

    /// Where packages arrive, until a release takes them.
    pub fn incoming(&self) -> PathBuf {
        self.state.join("incoming")
    }

    /// Where what belongs to a package gathers until nothing is lacking.
    pub fn gathering(&self) -> PathBuf {
        self.incoming().join("objects")
    }

    /// The packages that arrived and that no release took, and what a crash left of such.
    pub fn arrived(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.incoming()).into_iter().flatten().flatten();
        let folders = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
        folders.filter(|path| *path != self.gathering()).collect()
    }

    /// The packages that production was given.
    pub fn packages(&self) -> PathBuf {
        self.state.join("packages")
    }

    /// The archive of one version.
    pub fn package(&self, version: &Version) -> PathBuf {
        self.packages().join(format!("{}-{version}.tar.zst", self.project))
    }

    /// The news pages, served by the gate.
    pub fn news(&self) -> PathBuf {
        self.state.join("news")
    }

    /// The log of a release's process.
    pub fn log(&self, id: ReleaseId) -> PathBuf {
        self.state.join("logs").join(format!("{id}.log"))
    }

    /// The rollback point of a release.
    pub fn point(&self, id: ReleaseId) -> PathBuf {
        self.state.join("points").join(id.to_string())
    }

    /// The cache of file hashes of the live tree.
    pub fn scan_cache(&self) -> PathBuf {
        self.state.join("scan.cache")
    }

    /// The folder beside the root, on its file system, for trees that take its place.
    pub fn beside(&self) -> PathBuf {
        let name = self.root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.root.parent().unwrap_or(Path::new("/")).join(format!(".{name}.entracte"))
    }

    /// The slot of a release: before the switch its new tree, afterwards the one it replaced.
    pub fn slot(&self, id: ReleaseId) -> PathBuf {
        self.beside().join("trees").join(id.to_string())
    }

    /// The folder that a release's new tree is built in: its slot, or with links, one that people
    /// can read the version from. The slot then is a link to it.
    pub fn tree(&self, id: ReleaseId, version: &Version) -> PathBuf {
        match self.layout {
            Layout::Exchange | Layout::Inplace => self.slot(id),
            Layout::Symlink => self.root.with_file_name("releases").join(format!("{version}-{id}")),
        }
    }

    /// Where persistent files and folders live.
    pub fn shared(&self) -> PathBuf {
        self.beside().join("shared")
    }

    /// Paths that no manifest holds: persistent and volatile ones.
    pub fn outside(&self) -> Vec<RelPath> {
        self.persist.iter().chain(&self.volatile).cloned().collect()
    }
}
