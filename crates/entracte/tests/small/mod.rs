//! A small production that starts in less than a second: a game of a few files and a SQLite
//! database, served by a thread of the test, with the gate before it.
//!
//! What the tests compare with is made by other programs: `sha256sum` lists the tree, and `sqlite3`
//! keeps a second database in which the same things happen in the same order.

#![allow(dead_code)] // Each test file uses its own part of this.
#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

mod game;
mod reference;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use entracte_testbed::link::Ends;
use entracte_testbed::process::{free_port, quoted, runs, wait_until};
use entracte_testbed::sshd::Sshd;
use serde_json::Value;

pub use game::Game;
pub use reference::Reference;

/// How long anything that must happen may take on a busy machine, in milliseconds.
pub const PATIENCE_MS: u64 = 60_000;

const ENTRACTE: &str = env!("CARGO_BIN_EXE_entracte");

/// The steps of a release with scripts, in their order: `STEPS[7]` is `migrate`.
pub const STEPS: [&str; 14] = [
    "preflight",
    "stage",
    "backup",
    "announce",
    "drain",
    "close",
    "window copy",
    "migrate",
    "switch",
    "smoke",
    "reopen",
    "tell",
    "watch",
    "retire",
];

/// The place of a step in [`STEPS`].
pub fn step(name: &str) -> usize {
    STEPS.iter().position(|step| *step == name).unwrap_or_else(|| panic!("no step {name:?}"))
}

/// Where its parts stand, for tests that put some of them on file systems of their own.
pub struct Places {
    /// The folder around the live tree.
    pub web: PathBuf,
    /// Entracte's folder.
    pub state: PathBuf,
}

/// The whole site. Dropping it stops everything and removes its files.
pub struct Small {
    /// The development machine, with `entracte.toml`.
    pub dev: PathBuf,
    /// The live tree.
    pub root: PathBuf,
    /// Entracte's folder.
    pub state: PathBuf,
    /// The game behind the gate.
    pub game: Game,
    /// What its database must hold.
    pub reference: Reference,
    /// The way to production, where it is on "another" machine: a real sshd on loopback.
    pub sshd: Option<Sshd>,
    /// Where the development machine is, if not here: the words that begin its commands.
    pub near: Vec<std::ffi::OsString>,
    url: String,
    bought: u32,
    gate: Option<Child>,
    duties: Option<Child>,
    _dir: tempfile::TempDir,
}

impl Small {
    /// Version 1.0 in production, and 1.1, 1.2 or 1.3 packed.
    pub fn start(version: &str) -> Self {
        Self::start_with(version, "", |dir| Places {
            web: dir.join("www"),
            state: dir.join("state"),
        })
    }

    /// As [`Small::start`], with production behind a real sshd; `env` is set for whatever runs there.
    pub fn start_far(version: &str, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("small-").tempdir().unwrap();
        let sshd = Sshd::start(&dir.path().join("ssh"), env);
        let places = Places { web: dir.path().join("www"), state: dir.path().join("state") };
        Self::start_in(dir, version, "", places, Some((sshd, vec![])))
    }

    /// As [`Small::start_far`], where this process stands at the end B of a link, and the development
    /// machine at its end A.
    pub fn start_beyond(link: &Ends, version: &str, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("small-").tempdir().unwrap();
        let sshd = Sshd::start_at(Ends::B, &dir.path().join("ssh"), env);
        let places = Places { web: dir.path().join("www"), state: dir.path().join("state") };
        let begin = link.at(&link.a, Path::new(ENTRACTE));
        let near = std::iter::once(begin.get_program()).chain(begin.get_args());
        let near = near.map(std::ffi::OsStr::to_owned).collect();
        Self::start_in(dir, version, "", places, Some((sshd, near)))
    }

    /// As [`Small::start`], with lines at the end of the configuration, elsewhere.
    pub fn start_with(version: &str, more: &str, places: impl FnOnce(&Path) -> Places) -> Self {
        let dir = tempfile::Builder::new().prefix("small-").tempdir().unwrap();
        let places = places(dir.path());
        Self::start_in(dir, version, more, places, None)
    }

    fn start_in(
        dir: tempfile::TempDir,
        version: &str,
        more: &str,
        places: Places,
        far: Option<(Sshd, Vec<std::ffi::OsString>)>,
    ) -> Self {
        let (sshd, near) = far.map_or((None, vec![]), |(sshd, near)| (Some(sshd), near));
        let Places { web, state } = places;
        let (dev, root) = (dir.path().join("dev"), web.join("game"));
        let database = dir.path().join("game.sqlite");
        for folder in [&root, &state, &dev.join("source"), &dev.join("SQL"), &dev.join("changes")] {
            fs::create_dir_all(folder).unwrap();
        }
        game::write_tree("1.0", &root);
        fs::write(root.join("settings.ini"), "secret = 1\n").unwrap();
        copy_backups(&state);
        let game = Game::start(&root, &database);
        let reference = Reference::new(dir.path(), &database);
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let mut small = Self {
            dev,
            root,
            state,
            game,
            reference,
            sshd,
            near,
            url,
            bought: 0,
            gate: None,
            duties: None,
            _dir: dir,
        };
        small.configure(port, &database, more);
        small.ok(&["init", "--production-version", "1.0"]);
        small.start_gate();
        small.pack(version);
        small
    }

    fn configure(&self, port: u16, database: &Path, more: &str) {
        let key = entracte_package::keys::generate(&self.dev.join("../sign.key")).unwrap().0;
        let hooks = self.dev.join("../hooks.log");
        let note = |word: &str| format!("echo {word} >> {}", quoted(&hooks));
        let way = self.sshd.as_ref().map_or_else(String::new, |sshd| {
            let (options, binary) = (sshd.options(sshd.port), ENTRACTE);
            format!("ssh = \"game\"\nssh_options = {options:?}\nremote_binary = {binary:?}")
        });
        let text = format!(
            r#"
project = "inn"

[source]
dir = "source"
key = "../sign.key"

[target.production]
{way}
root = {root:?}
state = {state:?}
persist = ["settings.ini"]
volatile = ["cache"]
keys = [{key:?}]

[target.production.database]
engine = "sqlite"
path = {database:?}

[target.production.gate]
listen = "127.0.0.1:{port}"
upstream = "{upstream}"
login = ["POST /login"]
session_cookies = ["sid"]
player_left = "1s"

[target.production.hooks]
workers_stop = [{stop:?}]
workers_start = [{start:?}]

[target.production.pace]
notice = "0s"
drain = "0s"
fence = "10s"
ramp = "0s"
watch = "0s"

[target.production.backup]
repository = {repository:?}
daily_at = "23:59"

[[target.production.smoke]]
http = "GET /version.txt"
contains = "version {{version}}"

[[target.production.smoke]]
http = "GET /count"
{more}"#,
            root = self.root,
            state = self.state,
            upstream = self.game.address,
            stop = note("stopped"),
            start = note("started"),
            repository = self.state.join("backups"),
        );
        fs::write(self.dev.join("entracte.toml"), text).unwrap();
    }

    /// Makes the development machine hold `version`, and packs it.
    pub fn pack(&self, version: &str) {
        for part in ["source", "SQL", "changes"] {
            fs::remove_dir_all(self.dev.join(part)).unwrap();
            fs::create_dir(self.dev.join(part)).unwrap();
        }
        game::write_tree(version, &self.dev.join("source"));
        fs::write(self.dev.join("SQL").join(format!("{version}-inn.sql")), game::script(version))
            .unwrap();
        fs::write(
            self.dev.join("changes").join(format!("v{}.md", version.replace('.', "-"))),
            game::NOTE,
        )
        .unwrap();
        self.ok(&["pack", version]);
    }

    /// Starts the gate alone: nobody takes up what a dead runner left.
    pub fn start_gate(&mut self) {
        let child = self.there(&["gate", "serve"]);
        self.gate = Some(in_background(child, &self.dev.join("../gate.log")));
        let log = self.dev.join("../gate.log");
        let answers = wait_until(PATIENCE_MS, || self.run(&["gate", "status"]).status.success());
        assert!(answers, "the gate does not answer: {:?}", fs::read_to_string(log));
    }

    /// Ends the gate as `kill -9` does.
    pub fn kill_gate(&mut self) {
        end(&mut self.gate);
    }

    /// Where players connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Starts the daily duties, which take up what a dead runner left.
    pub fn start_duties(&mut self) {
        self.duties = Some(in_background(self.there(&["serve"]), &self.dev.join("../duties.log")));
    }

    /// A command of ours, on the development machine.
    pub fn command(&self, args: &[&str]) -> Command {
        match self.near.split_first() {
            Some((program, first)) => {
                let mut command = self.here(program, &[]);
                command.args(first).args(args);
                command
            }
            None => self.here(ENTRACTE.as_ref(), args),
        }
    }

    fn here(&self, program: &std::ffi::OsStr, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.dev).stdin(Stdio::null());
        command.env("XDG_CACHE_HOME", self.dev.parent().unwrap().join("cache"));
        command
    }

    /// A command of ours on the machine of the game.
    pub fn there(&self, args: &[&str]) -> Command {
        if self.sshd.is_none() {
            return self.command(args);
        }
        let config = self.state.join("entracte.toml");
        let mut command = self.here(ENTRACTE.as_ref(), &["--config", &config.to_string_lossy()]);
        command.args(args);
        command
    }

    /// Changes the configuration of the development machine.
    pub fn reconfigure(&self, from: &str, to: &str) {
        let path = self.dev.join("entracte.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Runs one of our commands.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs one of our commands, which must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        self.exits(0, args)
    }

    /// Runs one of our commands, which must end with `code`; returns all that it printed.
    pub fn exits(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let text = said(&output);
        assert_eq!(
            output.status.code(),
            Some(code),
            "entracte {args:?} said:\n{text}\n{}",
            self.logs()
        );
        text
    }

    /// Runs one of our commands with `--json`; returns the last line that it printed.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(text.lines().last().unwrap_or_default())
            .unwrap_or_else(|error| panic!("{args:?}: {error}: {}", said(&output)))
    }

    /// Starts a deployment in the background whose runner stops itself (SIGSTOP) at `moment` of
    /// the step `at`, waits until it does, and returns the deployment and the runner's process id.
    pub fn deploy_paused(&self, version: &str, moment: &str, at: usize) -> (Child, u32) {
        let mut command = self.command(&["deploy", version, "--yes"]);
        command.env("ENTRACTE_PAUSE", format!("{moment}:{at}"));
        let mut deploy = in_background(command, &self.dev.join("../deploy.log"));
        let mut runner = 0;
        let paused = wait_until(PATIENCE_MS, || {
            runner = self.runner().unwrap_or(0);
            is_stopped(runner) || deploy.try_wait().unwrap().is_some()
        });
        assert!(paused && is_stopped(runner), "{moment}:{at} was never reached:\n{}", self.logs());
        (deploy, runner)
    }

    /// The process that carries out a release now, as the record beside the lock names it.
    pub fn runner(&self) -> Option<u32> {
        let record = fs::read(self.state.join("release.lock.owner")).ok()?;
        let owner: Value = serde_json::from_slice(&record).ok()?;
        owner["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| runs(*pid))
    }

    /// The gate's phase, such as `open`.
    pub fn phase(&self) -> String {
        self.json(&["gate", "status"])["phase"].as_str().unwrap_or_default().to_owned()
    }

    /// A player buys something, through the gate. What was answered "ok" goes into the reference.
    /// True where it was.
    pub fn buy(&mut self) -> bool {
        self.bought += 1;
        let id = format!("p{}", self.bought);
        let ok = self.tries_to_buy(&id);
        if ok {
            self.reference.buy(&id);
        }
        ok
    }

    fn tries_to_buy(&self, id: &str) -> bool {
        let mut browser = entracte_testbed::http::Client::new(&self.url).always("Cookie", "sid=1");
        let Ok(answer) = browser.post("/buy", id, &[("id", id)]) else { return false };
        let ok = answer.status == 200 && answer.text() == format!("ok {id}");
        assert!(ok || answer.status == 503, "neither ok nor the page: {answer:?}");
        ok
    }

    /// Asserts that production is exactly `version`, as [`Small::assert_holds`], and what lies beside
    /// the tree and among the points. `kept` are the releases whose replaced tree and point remain.
    pub fn assert_is(&mut self, version: &str, kept: &[&str], case: &str) {
        // A replaced tree keeps the mark by which its place would have been known when taken back.
        let trees: Vec<String> = kept
            .iter()
            .flat_map(|id| [(*id).to_owned(), format!("{id}.entracte-staging")])
            .collect();
        assert_eq!(names(&self.beside().join("trees")), trees, "{case}: trees\n{}", self.logs());
        assert_eq!(names(&self.state.join("points")), kept, "{case}: points\n{}", self.logs());
        self.assert_holds(version, case);
    }

    /// Asserts that production is exactly `version`: tree, database, gate, workers; and that the game
    /// is played.
    pub fn assert_holds(&mut self, version: &str, case: &str) {
        assert_eq!(self.phase(), "open", "{case}: the gate\n{}", self.logs());
        assert_eq!(
            listing(&self.root),
            self.expected_listing(version),
            "{case}: the tree\n{}",
            self.logs()
        );
        let (expected, found) = (self.reference.dump(), self.game.dump());
        assert_eq!(found, expected, "{case}: the database\n{}", self.logs());
        assert_eq!(self.runner(), None, "{case}: somebody holds the lock");
        let verified = self.ok(&["verify"]);
        assert!(verified.contains(&format!("{version}.0")), "{case}: {verified}");
        let workers = self.workers();
        let last = workers.last().map_or("started", String::as_str);
        assert_eq!(last, "started", "{case}: the workers do not run");
        assert!(self.buy(), "{case}: a player cannot buy\n{}", self.logs());
        assert_eq!(
            self.game.dump(),
            self.reference.dump(),
            "{case}: the database after a purchase"
        );
    }

    /// What the hooks did to the game's workers, in order.
    pub fn workers(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dev.join("../hooks.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// The machine starts the game's workers by itself.
    pub fn start_workers(&self) {
        let path = self.dev.join("../hooks.log");
        let mut log = fs::File::options().append(true).create(true).open(path).unwrap();
        std::io::Write::write_all(&mut log, b"started\n").unwrap();
    }

    /// Where Entracte keeps what stands beside the live tree.
    pub fn beside(&self) -> PathBuf {
        self.root.parent().unwrap().join(".game.entracte")
    }

    fn expected_listing(&self, version: &str) -> Vec<String> {
        let tree = self.dev.parent().unwrap().join(format!("expected-{version}"));
        if !tree.exists() {
            fs::create_dir(&tree).unwrap();
            game::write_tree(version, &tree);
        }
        listing(&tree)
    }

    /// Everything that was written down, for a failure's message.
    pub fn logs(&self) -> String {
        let mut text = said(&self.run(&["log"]));
        for name in ["gate.log", "deploy.log", "duties.log"] {
            let log = fs::read_to_string(self.dev.join("..").join(name)).unwrap_or_default();
            text.push_str(&format!("--- {name}\n{log}"));
        }
        for file in names(&self.state.join("logs")) {
            let log = fs::read_to_string(self.state.join("logs").join(&file)).unwrap_or_default();
            text.push_str(&format!("--- {file}\n{log}"));
        }
        text
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // A runner that is paused, or lost its parent, is ours too.
        if let Some(pid) = self.runner() {
            signal(pid, "KILL");
        }
        end(&mut self.duties);
        end(&mut self.gate);
    }
}

/// Puts an empty backup repository into `state`. Making one derives keys for a second, so that it
/// is made once and copied.
fn copy_backups(state: &Path) {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("backup.password");
        entracte_backup::Repository::open_or_init(&dir.path().join("backups"), &password).unwrap();
        dir
    });
    let copied =
        Command::new("cp").arg("-a").arg(made.path().join(".")).arg(state).status().unwrap();
    assert!(copied.success());
}

/// Sends a signal to a process by its id.
pub fn signal(pid: u32, name: &str) {
    // A process that ended meanwhile needs none.
    let _ = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

/// Whether the process is stopped, as by SIGSTOP.
pub fn is_stopped(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    })
}

/// The exit code of a child that must end.
pub fn ends(child: &mut Child) -> Option<i32> {
    let ended = wait_until(PATIENCE_MS, || child.try_wait().unwrap().is_some());
    assert!(ended, "process {} does not end", child.id());
    child.wait().unwrap().code()
}

/// All that a command printed.
pub fn said(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

fn in_background(mut command: Command, log: &Path) -> Child {
    let log = fs::File::options().create(true).append(true).open(log).unwrap();
    command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The names in a folder, in order; none where there is no folder.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Everything in a tree but what belongs to production: path, kind, mode, content.
fn listing(root: &Path) -> Vec<String> {
    let script = "find . -mindepth 1 \\( -path ./settings.ini -o -path ./cache \\) -prune \
                  -o -type f -printf '%P f %m ' -exec sha256sum -b '{}' \\; -o -printf '%P %y %l\\n'";
    let output = Command::new("sh").args(["-c", script]).current_dir(root).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let mut lines: Vec<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
