//! A production server of the game Taverne with its gate before it, and a development machine.

#![allow(dead_code)] // Each test file uses its own part of this.
#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use entracte_testbed::process::{free_port, quoted, wait_until};
use entracte_testbed::taverne::{Options, Taverne};
use serde_json::Value;

/// How long a gate may take to answer, in milliseconds.
const UP_MS_MAX: u64 = 20_000;

/// The program under test; for benchmarks, the build beside them.
pub const ENTRACTE: &str = match option_env!("CARGO_BIN_EXE_entracte") {
    Some(program) => program,
    None if cfg!(debug_assertions) => {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/debug/entracte")
    }
    None => concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release/entracte"),
};

/// How Entracte reaches the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// The game's own account: every right on its database and none elsewhere.
    Ordinary,
    /// The administrator, with the data directory at hand and the game's account to lock.
    Administrator,
}

/// Everything.
pub struct Site {
    /// The production server.
    pub taverne: Taverne,
    /// The development tree, with `entracte.toml`.
    pub dev: PathBuf,
    /// Entracte's folder on the production server.
    pub state: PathBuf,
    /// Where players connect.
    pub url: String,
    up: Option<Child>,
}

impl Site {
    /// Starts it all with version 1.0 in production.
    pub fn start(options: &Options, account: Account) -> Self {
        Self::build(options, account, "", true)
    }

    /// As [`Site::start`], without the dumps that the hooks take inside the closed window.
    pub fn start_undumped(options: &Options, account: Account) -> Self {
        Self::build(options, account, "", false)
    }

    /// As [`Site::start`], with lines at the end of the configuration.
    pub fn start_with(options: &Options, account: Account, more: &str) -> Self {
        Self::build(options, account, more, true)
    }

    fn build(options: &Options, account: Account, more: &str, dumps: bool) -> Self {
        let taverne = Taverne::start(options);
        let dev = taverne.dir().join("dev");
        let state = taverne.dir().join("state");
        fs::create_dir(&dev).unwrap();
        let port = free_port();
        let mut site =
            Self { dev, state, url: format!("http://127.0.0.1:{port}"), up: None, taverne };
        site.check_out(&options.version);
        let config = site.config(port, account, more, dumps);
        fs::write(site.dev.join("entracte.toml"), config).unwrap();
        site.ok(&["init", "--production-version", &options.version]);
        // `init` made the key and said which one; it is put where the configuration wants it.
        site.trust_own_key();
        site.up();
        site
    }

    fn trust_own_key(&self) {
        let path = self.dev.join("entracte.toml");
        let text = fs::read_to_string(&path).unwrap();
        let key = entracte_package::keys::public(&self.dev.join("../sign.key")).unwrap().0;
        fs::write(&path, text.replace("PUBLIC-KEY", &key)).unwrap();
    }

    fn config(&self, port: u16, account: Account, more: &str, dumps: bool) -> String {
        let taverne = &self.taverne;
        let upstream = taverne.url.trim_start_matches("http://");
        let password = self.dev.parent().unwrap().join("database.password");
        let (user, secret) = match account {
            Account::Ordinary => {
                (taverne.database.user.as_str(), taverne.database.password.as_str())
            }
            Account::Administrator => ("root", ""),
        };
        fs::write(&password, secret).unwrap();
        let privileged = match account {
            Account::Ordinary => String::new(),
            Account::Administrator => format!(
                "data_dir = {:?}\ngame_users = [\"{}@localhost\"]\n",
                taverne.mariadb.data_dir(),
                taverne.database.user
            ),
        };
        let dump = |name: &str| {
            if !dumps {
                return "true".to_owned();
            }
            let file = |name: &str| {
                format!("{}-$ENTRACTE_RELEASE.sql", quoted(&self.dev.parent().unwrap().join(name)))
            };
            let (part, first, last) =
                (file(&format!("part-{name}")), file(name), file(&format!("last-{name}")));
            let dump = format!(
                "mariadb-dump --defaults-file={0} --single-transaction --skip-dump-date \
                 --order-by-primary --routines --events --ignore-table={1}.entracte_history {1} \
                 > {part}",
                quoted(&taverne.database.defaults_file),
                taverne.database.name
            );
            match name {
                // Of a closing the first dump counts, and the only one: later the game's account, which
                // takes it, may be locked.
                "closed" => format!("test -f {first} || {{ {dump} && mv {part} {first}; }}"),
                // A release that is taken back after its workers were started opens twice: the last dump
                // lies beside the first.
                _ => format!(
                    "{dump} && {{ test -f {first} || ln {part} {first}; }} && mv {part} {last}"
                ),
            }
        };
        format!(
            r#"
project = "taverne"
name = "Taverne"
languages = ["en", "fr"]

[source]
dir = "source"
key = "../sign.key"

[target.production]
root = {root:?}
state = {state:?}
persist = ["config.php", "uploads"]
volatile = ["cache"]
keys = ["PUBLIC-KEY"]

[target.production.database]
engine = "mariadb"
socket = {socket:?}
user = {user:?}
password_file = {password:?}
database = {database:?}
{privileged}
[target.production.gate]
listen = "127.0.0.1:{port}"
upstream = {upstream:?}
login = ["POST /login.php", "/register.php*"]
session_cookies = ["PHPSESSID"]
player_left = "1s"

[target.production.hooks]
reload = [{reload:?}]
workers_stop = [{stop:?}, {closed:?}]
workers_start = [{opened:?}, {start:?}]

[target.production.pace]
notice = "500ms"
drain = "1s"
fence = "20s"
ramp = "0s"
watch = "2s"

[[target.production.smoke]]
http = "GET /version.php"
contains = "code {{version}}"

[[target.production.smoke]]
http = "GET /?p=ranking"

[[target.production.smoke]]
http = "GET /api/?do=status"

[[target.production.smoke]]
sql = "SELECT count(*) > 0 FROM players"
equals = 1

[target.production.rehearse]
serve = "exec php -S 127.0.0.1:$PORT -t $ROOT"

[target.production.rehearse.files]
"config.php" = """
<?php
return [
    'dsn' => 'mysql:unix_socket=' . getenv('DB_SOCKET') . ';dbname=' . getenv('DB_NAME') . ';charset=utf8mb4',
    'user' => getenv('DB_USER'), 'password' => getenv('DB_PASSWORD'), 'lang' => 'en',
    'bcrypt_cost' => 4, 'session_path' => '', 'market_fee' => 5, 'counters' => false,
];
"""
{more}"#,
            root = taverne.docroot,
            state = self.state,
            socket = taverne.database.socket,
            database = taverne.database.name,
            reload = taverne.reload_command,
            stop = taverne.workers_stop,
            start = taverne.workers_start,
            closed = dump("closed"),
            opened = dump("opened"),
        )
    }

    /// Starts gate and duties, and waits until the gate answers.
    pub fn up(&mut self) {
        let log = fs::File::create(self.dev.parent().unwrap().join("up.log")).unwrap();
        let child = Command::new(ENTRACTE)
            .args(["up"])
            .current_dir(&self.dev)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.up = Some(child);
        let answers = wait_until(UP_MS_MAX, || self.run(&["gate", "status"]).status.success());
        let log = fs::read_to_string(self.dev.parent().unwrap().join("up.log"));
        assert!(answers, "the gate does not answer: {log:?}");
    }

    /// Ends gate and duties as `kill -9` does.
    pub fn kill_up(&mut self) {
        if let Some(mut up) = self.up.take() {
            up.kill().unwrap();
            up.wait().unwrap();
        }
    }

    /// Makes the development tree that of `version`, committed.
    pub fn check_out(&self, version: &str) {
        let tree = self.taverne.tree(version);
        for part in ["source", "SQL", "changes"] {
            let to = self.dev.join(part);
            if to.exists() {
                fs::remove_dir_all(&to).unwrap();
            }
            if tree.join(part).exists() {
                let from = tree.join(part);
                let done = Command::new("cp").arg("-a").arg(&from).arg(&to).status().unwrap();
                assert!(done.success());
            }
        }
        if !self.dev.join(".git").exists() {
            self.git(&["init", "-q"]);
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-qm", version, "--allow-empty"]);
    }

    /// Runs git in the development tree.
    pub fn git(&self, args: &[&str]) {
        let done = Command::new("git")
            .args(["-c", "user.name=dev", "-c", "user.email=dev@example.org"])
            .args(args)
            .current_dir(&self.dev)
            .status()
            .unwrap();
        assert!(done.success(), "git {args:?}");
    }

    /// A command of ours, in the development tree.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(ENTRACTE);
        command.args(args).current_dir(&self.dev).stdin(Stdio::null());
        command.env("XDG_CACHE_HOME", self.taverne.dir().join("cache"));
        command
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
        assert_eq!(output.status.code(), Some(code), "entracte {args:?} said:\n{text}");
        text
    }

    /// Runs one of our commands with `--json`; returns the last line that it printed.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last)
            .unwrap_or_else(|error| panic!("{args:?}: {error}: {}", said(&output)))
    }

    /// The tree that production must hold for `version`, and does hold, path by path.
    pub fn assert_tree(&self, version: &str) {
        let expected = listing(&self.taverne.tree(version).join("source"));
        let found = listing(&self.taverne.docroot);
        assert_eq!(found, expected, "production does not hold exactly {version}");
    }

    /// The database as the plain client dumps it: rows in key order, definitions, counters.
    pub fn dump(&self) -> String {
        dump(&self.taverne.database.defaults_file, &self.taverne.database.name)
    }

    /// The dump that the hooks took of the quiet database at a moment of a release: `closed`,
    /// before anything was changed, or `opened`, just before the workers start again.
    pub fn dump_at(&self, moment: &str, release: &str) -> String {
        let path = self.dev.parent().unwrap().join(format!("{moment}-{release}.sql"));
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// What `dump` becomes when the plain client runs the scripts of `version` on it.
    pub fn migrated(&self, dump_before: &str, version: &str) -> String {
        let scratch = "taverne_expected";
        self.taverne.mariadb.create_database(scratch, scratch, "x");
        let file = self.dev.parent().unwrap().join("expected.sql");
        fs::write(&file, dump_before).unwrap();
        let mut scripts: Vec<PathBuf> = vec![file];
        let mut own: Vec<PathBuf> = fs::read_dir(self.taverne.tree(version).join("SQL"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        own.sort();
        scripts.extend(own);
        let socket = format!("--socket={}", self.taverne.database.socket.display());
        for script in scripts {
            let output = Command::new("mariadb")
                .args([
                    "--no-defaults",
                    "--default-character-set=utf8mb4",
                    "--comments",
                    &socket,
                    "--user=root",
                    scratch,
                ])
                .stdin(fs::File::open(&script).unwrap())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}: {}", script.display(), said(&output));
        }
        let options = self.dev.parent().unwrap().join("root.cnf");
        let text =
            format!("[client]\nuser=root\nsocket={}\n", self.taverne.database.socket.display());
        fs::write(&options, text).unwrap();
        let result = dump(&options, scratch);
        use mysql::prelude::Queryable;
        self.taverne.mariadb.root().query_drop(format!("DROP DATABASE {scratch}")).unwrap();
        result
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(up) = &mut self.up {
            let _ = up.kill();
            let _ = up.wait();
        }
    }
}

/// The dump of a whole database in one comparable text.
fn dump(defaults_file: &Path, database: &str) -> String {
    let output = Command::new("mariadb-dump")
        .arg(format!("--defaults-file={}", defaults_file.display()))
        .args([
            "--single-transaction",
            "--skip-dump-date",
            "--order-by-primary",
            "--routines",
            "--events",
        ])
        .arg(format!("--ignore-table={database}.entracte_history"))
        .arg(database)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A dump without what differs between two databases of the same content: names and accounts.
pub fn comparable(dump: &str) -> String {
    let keep = |line: &&str| !line.starts_with("-- ") && !line.contains("DEFINER=");
    dump.lines().filter(keep).collect::<Vec<_>>().join("\n")
}

/// Asserts that two dumps are the same, and shows the first line that is not.
pub fn assert_same_data(what: &str, expected: &str, found: &str) {
    let (expected, found) = (comparable(expected), comparable(found));
    let pairs = expected.lines().zip(found.lines());
    for (number, (left, right)) in pairs.enumerate() {
        let short = |text: &str| text.chars().take(300).collect::<String>();
        assert!(left == right, "{what}: line {number}:\n- {}\n+ {}", short(left), short(right));
    }
    assert_eq!(expected.lines().count(), found.lines().count(), "{what}: one is longer");
}

/// Everything in a tree but what belongs to production: path, kind, mode, content.
fn listing(root: &Path) -> Vec<String> {
    let script = "find . -mindepth 1 \\( -path ./config.php -o -path ./uploads -o -path ./cache \\) \
                  -prune -o \\( -type f -printf '%P f ' -exec sha256sum -b '{}' \\; \\) \
                  -o -printf '%P %y %l\\n'";
    let output = Command::new("sh").args(["-c", script]).current_dir(root).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let mut lines: Vec<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// All that a command printed.
pub fn said(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}
