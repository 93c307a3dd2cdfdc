//! A team's machine and its production in one folder: a game of a few files, a SQLite database, and
//! nothing running but what a test starts.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "helpers of tests: each file uses its part, and to panic is to fail"
)]

mod game;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use entracte_testbed::http::Client;
use entracte_testbed::process::{free_port, runs, wait_until};
use serde_json::Value;

#[allow(unused_imports)] // Only what receives webhooks looks at requests.
pub use game::Request;
pub use game::Server;

/// How long anything that must happen may take on a busy machine, in milliseconds.
pub const PATIENCE_MS: u64 = 60_000;

pub const ENTRACTE: &str = env!("CARGO_BIN_EXE_entracte");

/// The site. Dropping it ends what it started and removes its files.
pub struct Site {
    /// The development machine, with `entracte.toml`.
    pub dev: PathBuf,
    /// The live tree.
    pub root: PathBuf,
    /// Entracte's folder.
    pub state: PathBuf,
    /// The game's database.
    pub database: PathBuf,
    /// The gate, as players reach it.
    pub url: String,
    /// The game behind it.
    pub game: Option<Server>,
    up: Option<Child>,
    dir: tempfile::TempDir,
}

impl Site {
    /// Version 1.0 in production and in development; the gate does not run yet.
    pub fn new() -> Self {
        Self::with("", "")
    }

    /// As [`Site::new`], with lines at the beginning and at the end of the configuration.
    pub fn with(top: &str, more: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("site-").tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for folder in ["dev/source", "dev/SQL", "dev/changes", "www/game", "home"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        let (root, database) = (at("www/game"), at("game.sqlite"));
        sqlite3(
            &database,
            "CREATE TABLE players (id INTEGER PRIMARY KEY, gold INTEGER NOT NULL);
             INSERT INTO players VALUES (1, 10), (2, 20), (3, 30);
             CREATE TABLE purchases (id INTEGER PRIMARY KEY);",
        );
        let site = Self {
            dev: at("dev"),
            state: at("state"),
            url: format!("http://{}", free_address()),
            game: Some(game::game(&root, &database)),
            up: None,
            root,
            database,
            dir,
        };
        site.develop("1.0");
        write_tree("1.0", &site.root);
        fs::write(site.root.join("config.php"), "<?php // production's own\n").unwrap();
        site.configure(top, more);
        site.ok(&["init", "--production-version", "1.0"]);
        site
    }

    fn configure(&self, top: &str, more: &str) {
        let key = entracte_package::keys::generate(&self.at("sign.key")).unwrap().0;
        let text = format!(
            r#"project = "inn"
{top}
[source]
dir = "source"
key = "../sign.key"

[target.production]
root = "../www/game"
state = "../state"
persist = ["config.php"]
keys = [{key:?}]

[target.production.database]
engine = "sqlite"
path = "../game.sqlite"

[target.production.gate]
listen = "{listen}"
upstream = "{upstream}"
player_left = "1s"

[target.production.pace]
notice = "0s"
drain = "0s"
fence = "10s"
ramp = "0s"
watch = "0s"

[target.production.backup]
daily_at = "23:59"

[[target.production.smoke]]
http = "GET /version.txt"
contains = "version {{version}}"
{more}"#,
            listen = self.url.trim_start_matches("http://"),
            upstream = self.game.as_ref().unwrap().address,
        );
        fs::write(self.dev.join("entracte.toml"), text).unwrap();
    }

    /// A path in the site's folder.
    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Replaces a text in the configuration, which must be there.
    pub fn edit(&self, from: &str, to: &str) {
        let path = self.dev.join("entracte.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from:?} is not in the configuration");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// What the team does for a version: its tree, its script, its note.
    pub fn develop(&self, version: &str) {
        let source = self.dev.join("source");
        fs::remove_dir_all(&source).unwrap();
        write_tree(version, &source);
        if version != "1.0" {
            let number = version.replace('.', "");
            let script = format!(
                "ALTER TABLE players ADD COLUMN v{number} INTEGER NOT NULL DEFAULT 1;
                 UPDATE players SET gold = gold * 2;"
            );
            fs::write(self.dev.join(format!("SQL/{number}-gold.sql")), script).unwrap();
            let note = format!(
                "+++\nkind = \"added\"\naudience = \"players\"\n+++\n\n## en\n\nThe market of {version} opens.\n\
                 \n## fr\n\nLe marché de la {version} ouvre.\n"
            );
            fs::write(self.dev.join(format!("changes/market-{number}.md")), note).unwrap();
        }
    }

    /// Starts gate and duties, and waits until the gate answers.
    pub fn up(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.at("up.log")).unwrap();
        let mut command = self.command(&["up"]);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.up = Some(command.spawn().unwrap());
        let answers = wait_until(PATIENCE_MS, || self.run(&["gate", "status"]).status.success());
        assert!(answers, "the gate does not answer: {}", self.up_log());
    }

    /// What gate and duties said.
    pub fn up_log(&self) -> String {
        fs::read_to_string(self.at("up.log")).unwrap_or_default()
    }

    /// Ends gate and duties.
    pub fn down(&mut self) {
        if let Some(mut up) = self.up.take() {
            let _ = up.kill();
            let _ = up.wait();
        }
    }

    /// A command of ours, on the development machine.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(ENTRACTE);
        command.args(args).current_dir(&self.dev).env("HOME", self.at("home"));
        command.env_remove("XDG_CACHE_HOME").env("TZ", noon());
        command.env_remove("ENTRACTE_CONFIG").stdin(Stdio::null());
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
        assert!(!text.contains("panicked"), "entracte {args:?} said:\n{text}");
        text
    }

    /// As [`Site::exits`], and what was printed must show all of `words`.
    pub fn says(&self, code: i32, args: &[&str], words: &[&str]) -> String {
        let text = self.exits(code, args);
        for word in words {
            assert!(text.contains(word), "entracte {args:?} does not say {word:?}:\n{text}");
        }
        text
    }

    /// Runs one of our commands with `--json`: exactly one document must come, and nothing else.
    pub fn json(&self, code: i32, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(!text.contains('\u{1b}'), "{args:?} has colours in its JSON: {text:?}");
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{args:?}: {error}: {}", said(&output)))
    }

    /// A browser before the gate.
    pub fn browser(&self) -> Client {
        Client::new(&self.url)
    }

    /// A page through the gate: its status and its text.
    pub fn get(&self, path: &str) -> (u16, String) {
        let answer = self.browser().get(path).unwrap();
        (answer.status, answer.text())
    }

    /// A player buys something. Returns how many purchases there are.
    pub fn buy(&self) -> String {
        let answer = self.browser().post("/buy", "p", &[]).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    }

    /// The whole database as text, as the plain `sqlite3` dumps it.
    pub fn dump(&self) -> String {
        sqlite3(&self.database, ".timeout 10000\n.dump\n")
    }

    /// Everything that production is: each file with its content, and the database.
    pub fn production(&self) -> String {
        format!("{}\n{}", listing(&self.root), self.dump())
    }

    /// Runs git in the development tree.
    pub fn git(&self, args: &[&str]) {
        let done = Command::new("git")
            .args(["-c", "user.name=dev", "-c", "user.email=dev@example.org"])
            .args(args)
            .current_dir(&self.dev)
            .output()
            .unwrap();
        assert!(done.status.success(), "git {args:?}: {}", said(&done));
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Whatever still carries out a release of this site is ours, too.
        let owner = fs::read(self.state.join("release.lock.owner")).unwrap_or_default();
        let owner: Value = serde_json::from_slice(&owner).unwrap_or_default();
        if let Some(pid) = owner["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
            && runs(pid)
        {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
        self.down();
    }
}

/// A time zone in which it is about noon: nothing that belongs to the end of the day happens during a
/// test.
fn noon() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let hour = i64::try_from(now.as_secs() / 3_600 % 24).unwrap();
    // POSIX counts what is added to local time in order to have UTC.
    format!("TEST{:+}", hour - 12)
}

/// Writes the tree of a version into `into`.
pub fn write_tree(version: &str, into: &Path) {
    let write = |path: &str, text: &str| {
        let path = into.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("version.txt", &format!("version {version}.0\n"));
    write("index.html", "<h1>The inn</h1>\n");
    write("css/inn.css", "h1 { color: brown }\n");
    match version {
        "1.0" => write("old.html", "<p>candles</p>\n"),
        _ => write("market.html", &format!("<p>the market of {version}</p>\n")),
    }
}

/// Each file of a tree with the hash of its content. What persists is linked into the tree from the
/// first release on: links are followed, the content counts.
pub fn listing(root: &Path) -> String {
    let script = "find -L . -mindepth 1 \\( -type f -exec sha256sum -b '{}' \\; -o -printf '%P %y\\n' \\) | sort";
    let output = Command::new("sh").args(["-c", script]).current_dir(root).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs the plain `sqlite3` on a database.
pub fn sqlite3(path: &Path, input: &str) -> String {
    use std::io::Write;
    let mut child = Command::new("sqlite3")
        .args(["-batch", "-bail"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("sqlite3: {error}; run `cargo xtask setup`"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{input}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// All that a command printed.
pub fn said(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

/// An address at which nobody listens.
pub fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}
