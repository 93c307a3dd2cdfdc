//! The game itself in a rehearsal: the new version's tree, started on the private database, so that
//! the smoke tests which ask for pages run before production sees the version.
//!
//! The game is a program of its own that may carry addresses of its own. What keeps it away from
//! production: it gets an environment made for it, the private database's address in it; persistent
//! paths, where production keeps its configuration, are not there; and a tree in which the live
//! database's password, socket or address stands is not started at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use entracte_db::Settings;
use entracte_model::journal::Fault;
use entracte_model::time::human_ms;
use entracte_model::{Manifest, RelPath};
use entracte_package::archive::Archive;
use entracte_package::stage;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::fault::{Doing, refused};
use crate::steps::manifest_of;
use crate::store::Store;
use crate::target::Target;

/// Files above this size hold no configuration, in bytes.
const LOOKED_AT_BYTES_MAX: u64 = 4 << 20;
/// A shorter text is found everywhere by chance, in bytes.
const TELLING_BYTES_MIN: usize = 4;
/// What the game takes over from our own environment.
const KEPT: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];
/// Between two looks at a game that is starting.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Between the polite signal and the last one.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How much of what the game printed an error shows, in bytes.
const SHOWN_BYTES: usize = 2_000;

/// How the game is started for a rehearsal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Serve {
    /// Starts the game with the tree in `$ROOT` on port `$PORT` of 127.0.0.1 and stays in the
    /// foreground; run by `sh -c`. Without it, pages are not asked for in a rehearsal.
    pub command: Option<String>,
    /// Files that stand in for production's own: paths in the tree and what is in them.
    pub files: BTreeMap<RelPath, String>,
}

/// A running game. Dropping it ends its process group.
pub(super) struct Game {
    /// Where it answers.
    pub(super) url: String,
    /// Its tree.
    pub(super) root: PathBuf,
    child: Child,
    log: PathBuf,
}

/// Builds the new version's tree in `dir` and starts the game with it. Nothing where the target
/// says no way to start it.
pub(super) fn start(
    target: &Target,
    store: &Store,
    archive: &Archive,
    private: &Settings,
    dir: &Path,
) -> Result<Option<Game>, Fault> {
    let Some(command) = &target.rehearse.command else { return Ok(None) };
    let root = dir.join("game");
    build(target, store, archive, &root)?;
    if let Some(live) = &target.database {
        knows_no_production(live, &root)?;
    }
    let port = free_port()?;
    let log = dir.join("game.log");
    let environment = environment(&archive.record().version.to_string(), private, &root, port);
    let child = spawn(command, &root, &environment, &log)?;
    let mut game = Game { url: format!("http://127.0.0.1:{port}"), root, child, log };
    game.wait_until_it_answers(port, target.hooks.timeout_ms)?;
    Ok(Some(game))
}

/// The tree of the new version: unchanged files out of the live tree, the others out of the package,
/// empty folders in place of production's, and the files that the configuration gives.
fn build(target: &Target, store: &Store, archive: &Archive, root: &Path) -> Result<(), Fault> {
    let base = match &archive.record().base {
        Some(base) => store.manifest(&base.manifest).doing("reading the store")?,
        None => Manifest::default(),
    };
    let request = stage::Request {
        live: &target.root,
        staged: root,
        base: &base,
        new: &manifest_of(archive, &base)?,
        archive,
        persist: &[],
        persist_from: &target.shared(),
        // The game may write into its files here, and they must not be the live ones.
        hardlink: false,
    };
    stage::build(&request, &mut |_| {}, &AtomicBool::new(false))
        .doing("building the new tree for the rehearsal")?;
    for path in target.outside() {
        if target.root.join(&path).is_dir() {
            fs::create_dir_all(root.join(&path)).doing("making an empty folder for the game")?;
        }
    }
    for (path, text) in &target.rehearse.files {
        let file = root.join(path);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).doing("making a folder for the game")?;
        }
        fs::write(file, text).doing("writing a file for the game")?;
    }
    Ok(())
}

/// Refuses a tree in which the way to the live database stands: the game would write into
/// production. What leads there by another account's password and a default address alone is not
/// known here: such files belong to the persistent paths, which a rehearsal leaves out.
fn knows_no_production(live: &Settings, root: &Path) -> Result<(), Fault> {
    let tells = tells(live);
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).doing("looking through the new tree")? {
            let entry = entry.doing("looking through the new tree")?;
            let kind = entry.file_type().doing("looking through the new tree")?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file()
                && let Some((what, line)) = told(&entry.path(), &tells)?
            {
                let path = entry.path();
                let path = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                return Err(refused(format!(
                    "{path}:{line} holds the live database's {what}: the game in rehearsal could \
                     write into production"
                ))
                .hint("give a file that reads $DB_SOCKET and its like: `rehearse.files`"));
            }
        }
    }
    Ok(())
}

/// What only somebody writes who wants to reach the live database.
fn tells(live: &Settings) -> Vec<(&'static str, String)> {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let remote = |host: &Option<String>| {
        host.clone().filter(|host| !["localhost", "127.0.0.1", "::1"].contains(&host.as_str()))
    };
    let (password, socket, host) = match live {
        Settings::Mariadb(live) => (live.password.reveal(), path(&live.socket), remote(&live.host)),
        Settings::Postgres(live) => {
            (live.password.reveal(), path(&live.socket_dir), remote(&live.host))
        }
        Settings::Sqlite(live) => return vec![("path", live.path.display().to_string())],
    };
    let all = [("password", Some(password.to_owned())), ("socket", socket), ("address", host)];
    all.into_iter()
        .filter_map(|(what, text)| Some((what, text?)))
        .filter(|(_, text)| text.len() >= TELLING_BYTES_MIN)
        .collect()
}

/// What of `tells` a file holds, and in which line, from 1.
fn told(
    path: &Path,
    tells: &[(&'static str, String)],
) -> Result<Option<(&'static str, usize)>, Fault> {
    let file = File::open(path).doing("looking through the new tree")?;
    let mut bytes = Vec::new();
    file.take(LOOKED_AT_BYTES_MAX).read_to_end(&mut bytes).doing("looking through the new tree")?;
    Ok(tells.iter().find_map(|(what, text)| {
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes())?;
        Some((*what, bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1))
    }))
}

/// What the game is told.
fn environment(
    version: &str,
    private: &Settings,
    root: &Path,
    port: u16,
) -> BTreeMap<&'static str, String> {
    let mut all = BTreeMap::from([
        ("ENTRACTE_REHEARSAL", "1".to_owned()),
        ("ENTRACTE_VERSION", version.to_owned()),
        ("ROOT", root.display().to_string()),
        ("PORT", port.to_string()),
    ]);
    let shown = |path: &Option<PathBuf>| {
        path.as_ref().map_or_else(String::new, |path| path.display().to_string())
    };
    match private {
        Settings::Sqlite(settings) => {
            all.insert("DB_ENGINE", "sqlite".to_owned());
            all.insert("DB_PATH", settings.path.display().to_string());
        }
        Settings::Mariadb(settings) => {
            all.insert("DB_ENGINE", "mariadb".to_owned());
            all.insert("DB_SOCKET", shown(&settings.socket));
            all.insert("DB_NAME", settings.database.clone());
            all.insert("DB_USER", settings.user.clone());
            all.insert("DB_PASSWORD", settings.password.reveal().to_owned());
        }
        Settings::Postgres(settings) => {
            all.insert("DB_ENGINE", "postgres".to_owned());
            all.insert("DB_SOCKET", shown(&settings.socket_dir));
            all.insert("DB_PORT", settings.port.to_string());
            all.insert("DB_NAME", settings.database.clone());
            all.insert("DB_USER", settings.user.clone());
            all.insert("DB_PASSWORD", settings.password.reveal().to_owned());
        }
    }
    all
}

fn free_port() -> Result<u16, Fault> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = TcpListener::bind(any).doing("looking for a free port")?;
    Ok(listener.local_addr().doing("looking for a free port")?.port())
}

fn spawn(
    command: &str,
    root: &Path,
    environment: &BTreeMap<&'static str, String>,
    log: &Path,
) -> Result<Child, Fault> {
    let out = File::create(log).doing("making the game's log")?;
    let both = out.try_clone().doing("making the game's log")?;
    let own = KEPT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    // If this process is killed, the shell and what it turned into end with it.
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "sh", "-c", command])
        .current_dir(root)
        .env_clear()
        .envs(own)
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(both)
        .process_group(0)
        .spawn()
        .doing("starting the game for the rehearsal")
}

impl Game {
    fn wait_until_it_answers(&mut self, port: u16, limit_ms: u64) -> Result<(), Fault> {
        let limit = Instant::now() + Duration::from_millis(limit_ms);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        loop {
            let ended = self.child.try_wait().doing("looking at the game in rehearsal")?;
            if let Some(status) = ended {
                return Err(self.failed(&format!("ended at once ({status})")));
            }
            if TcpStream::connect_timeout(&address, LOOK_EVERY).is_ok() {
                return Ok(());
            }
            if Instant::now() > limit {
                let limit = human_ms(limit_ms);
                return Err(self.failed(&format!("did not listen on port {port} within {limit}")));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn failed(&self, how: &str) -> Fault {
        let printed = fs::read(&self.log).unwrap_or_default();
        let end = &printed[printed.len().saturating_sub(SHOWN_BYTES)..];
        let end = String::from_utf8_lossy(end);
        let said = match end.trim() {
            "" => String::new(),
            text => format!("; it printed: {text}"),
        };
        refused(format!("the game in rehearsal {how}{said}")).hint(
            "`rehearse.serve` starts it in the foreground on 127.0.0.1:$PORT with the tree in $ROOT",
        )
    }

    fn end_group(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // It fails only where the group is gone already, which is what is wanted.
        let _ = pid.map(|pid| kill_process_group(pid, signal));
    }
}

impl Drop for Game {
    fn drop(&mut self) {
        self.end_group(Signal::TERM);
        let limit = Instant::now() + TERM_GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < limit {
            thread::sleep(LOOK_EVERY);
        }
        self.end_group(Signal::KILL);
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use entracte_db::{PostgresSettings, Secret};

    use super::*;

    #[test]
    fn a_tree_that_leads_to_production_is_refused_and_the_secret_is_not_told() {
        let live = Settings::Postgres(PostgresSettings {
            socket_dir: None,
            host: Some("db.example.org".to_owned()),
            port: 5432,
            user: "inn".to_owned(),
            password: Secret::new("correct horse"),
            database: "inn".to_owned(),
            game_users: vec![],
        });
        let dir = tempfile::tempdir().unwrap();
        let refusal = |text: &str| {
            fs::create_dir_all(dir.path().join("inc")).unwrap();
            fs::write(dir.path().join("inc/db.php"), text).unwrap();
            knows_no_production(&live, dir.path()).err().map(|fault| fault.message)
        };
        assert_eq!(refusal("<?php\n$host = getenv('DB_SOCKET');\n"), None);
        let password = refusal("<?php\n\n$password = 'correct horse';\n").unwrap();
        assert!(password.contains("inc/db.php:3 holds the live database's password"), "{password}");
        assert!(!password.contains("correct horse"), "{password}");
        let address = refusal("host=db.example.org").unwrap();
        assert!(address.contains("inc/db.php:1 holds the live database's address"), "{address}");
    }
}
