//! Kills at random moments on the real stack (nginx, php-fpm, MariaDB) with players in the game: the
//! runner dies by SIGKILL, somebody takes the release up, and production is exactly the old version
//! or exactly the new one. No action that a player was told "ok" is missing.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Output};
use std::time::{Duration, Instant};

use common::{Account, Site, assert_same_data, said};
use entracte_testbed::players::{self, Load, Players};
use entracte_testbed::process::{runs, wait_until};
use entracte_testbed::taverne::Options;
use mysql::prelude::Queryable;
use serde_json::Value;

/// How long anything that must happen may take on a busy machine, in milliseconds.
const PATIENCE_MS: u64 = 60_000;

/// A site whose gate runs alone, so that nobody takes up what a dead runner left.
struct Quiet {
    site: Site,
    gate: Child,
    /// Where the hooks of the releases put their dumps.
    dir: PathBuf,
    random: u64,
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = self.gate.kill();
        let _ = self.gate.wait();
    }
}

impl Quiet {
    fn start(account: Account, seed: u64) -> Self {
        let options = Options { players: 300, ..Options::default() };
        let mut site = Site::start(&options, account);
        site.kill_up();
        let config = site.dev.join("entracte.toml");
        let mut text = fs::read_to_string(&config).unwrap();
        for (slow, fast) in [
            ("notice = \"500ms\"", "notice = \"0s\""),
            ("drain = \"1s\"", "drain = \"200ms\""),
            ("watch = \"2s\"", "watch = \"300ms\""),
        ] {
            assert!(text.contains(slow), "{slow} is not in the configuration");
            text = text.replace(slow, fast);
        }
        fs::write(&config, text).unwrap();
        let dir = site.dev.parent().unwrap().to_owned();
        let log = fs::File::create(dir.join("gate.log")).unwrap();
        let mut gate = site.command(&["gate", "serve"]);
        let gate = gate.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        assert!(wait_until(PATIENCE_MS, || site.run(&["gate", "status"]).status.success()));
        site.check_out("1.1");
        site.ok(&["pack", "1.1"]);
        Self { site, gate, dir, random: seed }
    }

    /// A number below `bound`: splitmix64, so that the same seed kills at the same moments.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    fn deploy(&self) -> Child {
        let log = fs::File::create(self.dir.join("deploy.log")).unwrap();
        let mut deploy = self.site.command(&["deploy", "1.1", "--yes"]);
        deploy.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    /// The process that holds the lock, once there is one; none where the deployment ended before.
    fn runner(&self, deploy: &mut Child) -> Option<u32> {
        let record = self.site.state.join("release.lock.owner");
        let mut pid = None;
        wait_until(PATIENCE_MS, || {
            let owner =
                fs::read(&record).ok().and_then(|json| serde_json::from_slice::<Value>(&json).ok());
            pid = owner
                .and_then(|owner| u32::try_from(owner["pid"].as_u64()?).ok())
                .filter(|pid| runs(*pid));
            pid.is_some() || deploy.try_wait().unwrap().is_some()
        });
        pid
    }

    fn last_release(&self) -> (String, Value) {
        let newest = self.site.json(&["history"])[0].clone();
        (newest["release"].as_str().unwrap_or_default().to_owned(), newest["outcome"].clone())
    }

    fn dumped(&self, moment: &str, release: &str) -> bool {
        self.dir.join(format!("{moment}-{release}.sql")).exists()
    }

    /// Asserts that production is exactly `version`, by what the hooks of `release` saw.
    fn assert_is(&self, version: &str, release: &str, case: &str) {
        let site = &self.site;
        site.assert_tree(version);
        if self.dumped("closed", release) {
            let closed = site.dump_at("closed", release);
            // Workers that a killed runner had started already play on in the new version; those of a
            // version that is taken back start again, on what came back.
            let (expected, moment) = match version {
                "1.1" => (site.migrated(&closed, "1.1"), "opened"),
                _ => (closed, "last-opened"),
            };
            assert_same_data(case, &expected, &site.dump_at(moment, release));
        }
        assert_eq!(site.json(&["gate", "status"])["phase"], "open", "{case}");
        site.ok(&["verify"]);
    }

    /// Takes the release back, data and all, and packs the next attempt.
    fn back_to_the_old_one(&self, undone: &str) {
        let site = &self.site;
        site.ok(&["rollback", "--with-data", "--yes"]);
        let (release, _) = self.last_release();
        site.assert_tree("1.0");
        let case = format!("{release} rolls {undone} back");
        assert_same_data(&case, &site.dump_at("closed", undone), &site.dump_at("opened", &release));
        site.ok(&["pack", "1.1"]);
    }

    fn log(&self) -> String {
        let deploy = fs::read_to_string(self.dir.join("deploy.log")).unwrap_or_default();
        format!("{deploy}\n{}", said(&self.site.run(&["log"])))
    }
}

/// Where in a release the runner dies.
#[derive(Debug, Clone, Copy)]
enum Death {
    /// So many microseconds after the runner began.
    AfterBegin(u64),
    /// So many microseconds after the game closed.
    AfterClosing(u64),
}

/// The lengths of a release that nobody disturbs, in microseconds: all of it, and the closed window.
fn undisturbed(quiet: &Quiet) -> (u64, u64) {
    let mut deploy = quiet.deploy();
    quiet.runner(&mut deploy).expect("the deployment has a runner");
    let began = Instant::now();
    assert!(wait_until(PATIENCE_MS, || is_closing(quiet, "r1")));
    let closed = Instant::now();
    assert!(wait_until(PATIENCE_MS, || quiet.dumped("opened", "r1")));
    let opened = closed.elapsed();
    assert!(deploy.wait().unwrap().success(), "{}", quiet.log());
    let whole = began.elapsed();
    quiet.assert_is("1.1", "r1", "undisturbed");
    quiet.back_to_the_old_one("r1");
    (micros(whole), micros(opened))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}

/// The first hook of the closed window has begun.
fn is_closing(quiet: &Quiet, release: &str) -> bool {
    quiet.dir.join(format!("part-closed-{release}.sql")).exists() || quiet.dumped("closed", release)
}

fn die_at_random(account: Account, kills: u64, seed: u64) {
    let mut quiet = Quiet::start(account, seed);
    let (whole, window) = undisturbed(&quiet);
    let mut ended = [0, 0];
    for number in 0..kills {
        // Two of three inside the window.
        let death = match number % 3 {
            0 => Death::AfterBegin(quiet.below(whole)),
            _ => Death::AfterClosing(quiet.below(window + window / 4)),
        };
        let is_new = one_kill(&quiet, number, death);
        ended[usize::from(is_new)] += 1;
    }
    assert!(
        ended.iter().all(|count| *count > 0),
        "old {}, new {}: a one-sided test",
        ended[0],
        ended[1]
    );
}

/// One release, one kill, one rescue. True where production became the new version.
fn one_kill(quiet: &Quiet, number: u64, death: Death) -> bool {
    let site = &quiet.site;
    let load = Load { name: format!("Kill{number}x"), seed: number, ..Load::new(5, 25.0) };
    let players = Players::start(&site.url, &load).unwrap();
    let mut deploy = quiet.deploy();
    let killed = kill_runner(quiet, &mut deploy, death);
    let code = deploy.wait().unwrap().code();
    let case = format!("kill {number}, {death:?}");
    let rescued = if killed && code == Some(1) {
        let rescue = if number % 4 == 3 { "abort" } else { "resume" };
        let output = site.run(&[rescue]);
        let text = said(&output);
        assert!(
            matches!(output.status.code(), Some(0 | 4)),
            "{case}, {rescue}: {text}\n{}",
            quiet.log()
        );
        text
    } else {
        assert_eq!(code, Some(0), "{case}: {}", quiet.log());
        String::new()
    };
    let (release, outcome) = quiet.last_release();
    let played = players.stop();
    let is_new = outcome["outcome"] == "released";
    // A release that was killed before its first entry and called off has no outcome, and no line.
    assert!(
        is_new || outcome["outcome"] == "taken_back" || rescued.contains("called off"),
        "{outcome}"
    );
    let mut database = site.taverne.connection();
    assert_eq!(players::missing(&mut database, &played.oks), Vec::<String>::new(), "{case}");
    assert_eq!(players::wrong_purses(&mut database), 0, "{case}");
    drop(database);
    let torn =
        played.records.iter().find(|record| matches!(record.outcome, players::Outcome::Broken(_)));
    assert_eq!(torn, None, "{case}: a player met half a version");
    if rescued.contains("called off") {
        site.assert_tree("1.0");
    } else if is_new {
        quiet.assert_is("1.1", &release, &case);
        quiet.back_to_the_old_one(&release);
    } else {
        quiet.assert_is("1.0", &release, &case);
    }
    is_new
}

/// False where the release was over before.
fn kill_runner(quiet: &Quiet, deploy: &mut Child, death: Death) -> bool {
    let Some(runner) = quiet.runner(deploy) else { return false };
    let delay = match death {
        Death::AfterBegin(delay) => delay,
        Death::AfterClosing(delay) => {
            let (release, _) = quiet.last_release();
            wait_until(PATIENCE_MS, || is_closing(quiet, &release) || !runs(runner));
            delay
        }
    };
    // The one place for a plain wait: the moment of the kill is what is drawn at random.
    std::thread::sleep(Duration::from_micros(delay));
    if !runs(runner) {
        return false;
    }
    kill(runner);
    true
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // It may have ended by itself in this very moment.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// MariaDB goes on with a statement whose client was killed. It is ended before anything comes back:
/// otherwise it would commit its changes into the restored database.
fn an_orphaned_statement_is_ended_first(account: Account) {
    let quiet = Quiet::start(account, 0);
    let site = &quiet.site;
    // Some 30 s of work in one statement that commits by itself at its end.
    let slow = "UPDATE players SET gold = gold + 1 WHERE SLEEP(0.1) = 0;\n";
    fs::write(site.dev.join("SQL/900-slow.sql"), slow).unwrap();
    site.git(&["add", "-A"]);
    site.git(&["commit", "-qm", "slow"]);
    site.ok(&["pack", "1.1"]);
    let mut deploy = quiet.deploy();
    let runner = quiet.runner(&mut deploy).expect("the deployment has a runner");
    let mut root = site.taverne.mariadb.root();
    let mut is_running = || {
        let sql = "SELECT COUNT(*) FROM information_schema.PROCESSLIST
                   WHERE INFO LIKE 'UPDATE players SET gold = gold + 1 WHERE SLEEP%'";
        root.query_first::<u64, _>(sql).unwrap() == Some(1)
    };
    assert!(wait_until(PATIENCE_MS, &mut is_running), "{}", quiet.log());
    kill(runner);
    assert_eq!(deploy.wait().unwrap().code(), Some(1), "{}", quiet.log());
    assert!(is_running(), "the statement ended with its client: this test shows nothing");
    let output: Output = site.run(&["resume"]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(!is_running(), "the statement still runs");
    quiet.assert_is("1.0", "r1", "an orphaned statement");
    let mut connection = site.taverne.connection();
    assert_eq!(players::wrong_purses(&mut connection), 0);
}

#[test]
fn an_administrators_runner_dies_at_random_moments() {
    die_at_random(Account::Administrator, 30, 0x1122_3344);
}

#[test]
fn an_ordinary_accounts_runner_dies_at_random_moments() {
    die_at_random(Account::Ordinary, 20, 0x5566_7788);
}

#[test]
fn an_administrators_orphaned_statement_is_ended_before_the_data_comes_back() {
    an_orphaned_statement_is_ended_first(Account::Administrator);
}

#[test]
fn an_ordinary_accounts_orphaned_statement_is_ended_before_the_data_comes_back() {
    an_orphaned_statement_is_ended_first(Account::Ordinary);
}
