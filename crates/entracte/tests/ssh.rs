//! From a development machine to production over a real sshd: every command, refusals, and what
//! the way may do. Needs openssh-server and openssh-client.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

mod small;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use entracte_testbed::process::wait_until;
use small::{PATIENCE_MS, Small, ends, said, signal};

fn logins(small: &Small) -> usize {
    small.sshd.as_ref().unwrap().logins()
}

#[test]
fn a_whole_release_goes_over_one_connection_and_back() {
    let mut small = Small::start_far("1.1", &[]);
    assert!(small.buy());
    let status = small.json(&["status"]);
    assert_eq!((&status["production"], &status["ready"]), (&"1.0.0".into(), &true.into()));
    let planned = small.ok(&["plan", "1.1"]);
    assert!(planned.contains("migrate") && planned.contains("1.0.0 → 1.1.0"), "{planned}");
    let dry = small.ok(&["deploy", "1.1", "--dry-run"]);
    assert!(dry.contains("Predicted closed time"), "{dry}");

    let before = logins(&small);
    small.reference.migrate("1.1");
    let told = small.ok(&["deploy", "1.1", "--yes"]);
    assert!(told.contains("1.1.0 is live"), "{told}");
    assert_eq!(logins(&small) - before, 1, "one connection for the whole release");
    small.assert_is("1.1", &["r1"], "after the deployment");
    assert_eq!(
        small.json(&["status"])["changes"],
        serde_json::json!({}),
        "nothing is left to release"
    );

    let price = small.ok(&["rollback", "--dry-run"]);
    assert!(price.contains("Price: none in data"), "{price}");
    let told = small.ok(&["rollback", "--yes"]);
    assert!(told.contains("1.0.0 is live"), "{told}");
    small.assert_holds("1.0", "after the rollback");
    let history = small.json(&["history"]);
    assert_eq!(history.as_array().map(Vec::len), Some(2), "{history}");
}

#[test]
fn commands_of_the_machine_of_the_game_are_run_there_and_shown_here() {
    let small = Small::start_far("1.1", &[]);
    let doctor = small.json(&["doctor"]);
    let texts: Vec<&str> =
        doctor.as_array().unwrap().iter().filter_map(|found| found["text"].as_str()).collect();
    assert!(texts[0].starts_with("game answers"), "{texts:?}");
    assert!(texts.contains(&"the configuration there is the one of this machine"), "{texts:?}");
    assert!(texts.contains(&"production is 1.0.0"), "{texts:?}");
    let exact = small.ok(&["verify"]);
    assert!(exact.contains("Production is exactly 1.0.0"), "{exact}");
    fs::write(small.root.join("index.html"), "edited").unwrap();
    let edited = small.exits(3, &["verify"]);
    assert!(edited.contains("index.html was changed"), "{edited}");
    small.exits(3, &["deploy", "1.1", "--yes"]);
    fs::write(small.root.join("index.html"), "<h1>The inn</h1>\n").unwrap();
    small.ok(&["backup", "now"]);
    let list = small.json(&["--target", "production", "backup", "list"]);
    assert_eq!(list.as_array().map(Vec::len), Some(2), "{list}");
    small.ok(&["rehearse", "1.1"]);
    small.ok(&["gate", "close", "--for", "5min", "--message", "The \"inn\" is swept; it's quick"]);
    let gate = small.json(&["gate", "status"]);
    assert_eq!(gate["goal"]["message"]["en"], "The \"inn\" is swept; it's quick");
    small.ok(&["gate", "open"]);
    small.ok(&["history", "--freeze", "tournament"]);
    let frozen = small.exits(3, &["deploy", "1.1", "--yes"]);
    assert!(frozen.contains("releases are frozen: tournament"), "{frozen}");
    small.ok(&["history", "--unfreeze"]);
    let service = small.exits(2, &["up"]);
    assert!(service.contains("this runs on game, not here"), "{service}");
    let planned = small.json(&["deploy", "1.1", "--yes", "--at", "+2h"]);
    assert_eq!(planned["release"], "r2", "{planned}");
    let busy = small.exits(7, &["deploy", "1.1", "--yes"]);
    assert!(busy.contains("r2 is planned for"), "{busy}");
    let off = small.ok(&["abort"]);
    assert!(off.contains("r2 was called off"), "{off}");
}

/// A package that was only tried does not stay on the server for ever.
#[test]
fn what_arrived_and_was_overtaken_goes_with_the_next_release() {
    let small = Small::start_far("1.1", &[]);
    let incoming = small.state.join("incoming");
    small.pack("1.3");
    small.ok(&["backup", "now"]);
    small.ok(&["rehearse", "1.3"]);
    assert!(incoming.join("inn-1.3.0").is_dir(), "it did not arrive there: this shows nothing");
    // As a crash in the middle of a removal leaves one.
    fs::create_dir(incoming.join("inn-1.0.5")).unwrap();
    let told = small.ok(&["deploy", "1.1", "--yes"]);
    assert!(told.contains("1.3.0, which arrived and was never released, was removed"), "{told}");
    let left = fs::read_dir(&incoming).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("inn")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn ctrl_c_asks_and_a_vanished_terminal_changes_nothing() {
    let mut small = Small::start_far("1.1", &[]);
    small.reconfigure("notice = \"0s\"", "notice = \"1h\"");
    let under_way = |small: &Small| {
        let waits = wait_until(PATIENCE_MS, || {
            small.runner().is_some() && said(&small.run(&["log"])).contains("backup")
        });
        assert!(waits, "{}", small.logs());
    };
    let mut deploy = small.command(&["deploy", "1.1", "--yes"]).spawn().unwrap();
    under_way(&small);
    // A closed laptop: the near side is gone at once, and its connection with it.
    signal(deploy.id(), "KILL");
    ends(&mut deploy);
    // Whoever only looks takes nothing back.
    let mut log = small.command(&["log", "-f"]).spawn().unwrap();
    interrupt_until_it_ends(&mut log);
    assert!(small.runner().is_some(), "the release goes on");
    let told = small.exits(4, &["abort"]);
    assert!(told.contains("Taken back"), "{told}");
    small.assert_holds("1.0", "after the abort");

    let mut deploy = small.command(&["deploy", "1.1", "--yes"]).spawn().unwrap();
    under_way(&small);
    signal(deploy.id(), "INT");
    assert_eq!(ends(&mut deploy), Some(4), "{}", small.logs());
    small.assert_holds("1.0", "after the interrupt");
}

fn interrupt_until_it_ends(child: &mut std::process::Child) {
    let ended = wait_until(PATIENCE_MS, || {
        signal(child.id(), "INT");
        child.try_wait().unwrap().is_some()
    });
    assert!(ended, "process {} does not end", child.id());
}

#[test]
fn a_release_whose_process_died_is_taken_up_from_the_development_machine() {
    let mut small = Small::start_far("1.1", &[("ENTRACTE_PAUSE", "started:8")]);
    small.reference.migrate("1.1");
    let mut deploy = small.command(&["deploy", "1.1", "--yes"]).spawn().unwrap();
    let mut runner = 0;
    let paused = wait_until(PATIENCE_MS, || {
        runner = small.runner().unwrap_or(0);
        small::is_stopped(runner)
    });
    assert!(paused, "{}", small.logs());
    signal(runner, "KILL");
    assert_eq!(ends(&mut deploy), Some(1), "the follower says that it ended in the middle");
    let busy = small.exits(7, &["deploy", "1.1", "--yes"]);
    assert!(busy.contains("`entracte resume` goes on"), "{busy}");
    // The pause would meet the second runner, too: this time it is let go on.
    let mut resume = small.command(&["resume"]).spawn().unwrap();
    let ended = wait_until(PATIENCE_MS, || {
        if let Some(runner) = small.runner().filter(|pid| small::is_stopped(*pid)) {
            signal(runner, "CONT");
        }
        resume.try_wait().unwrap().is_some()
    });
    assert!(ended, "{}", small.logs());
    let code = ends(&mut resume);
    match code {
        Some(0) => small.assert_holds("1.1", "resumed"),
        Some(4) => {
            small.reference.go_back();
            small.assert_holds("1.0", "taken back");
        }
        code => panic!("resume ended with {code:?}: {}", small.logs()),
    }
}

#[test]
fn what_keeps_a_machine_from_being_reached_is_said_with_what_to_do() {
    let small = Small::start_far("1.1", &[]);
    let sshd = small.sshd.as_ref().unwrap();
    let case = |code, wanted: &str, hint: &str| {
        let text = small.exits(code, &["status"]);
        assert!(text.contains(wanted) && text.contains(hint), "{wanted}: {text}");
    };
    let fake = small.dev.join("../fake");
    let pretend = |script: &str| {
        fs::write(&fake, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let real = env!("CARGO_BIN_EXE_entracte");
    small.reconfigure(&format!("remote_binary = {real:?}"), &format!("remote_binary = {fake:?}"));
    case(3, "has no program to talk to", "`entracte bootstrap`");
    pretend("printf '\\001entracte-agent {\"protocols\":[0,0],\"tool\":\"0.0.9\"}\\n'; cat");
    case(3, "(0.0.9) is older than this one", "`entracte bootstrap`");
    pretend("printf '\\001entracte-agent {\"protocols\":[9,9],\"tool\":\"9.1.0\"}\\n'; cat");
    case(3, "(9.1.0) is newer than this one", "update the program");
    pretend("echo This account is not available.");
    case(1, "This account is not available", "remote_binary");
    pretend(&format!("echo a login shell that talks; exec {real} \"$@\""));
    small.ok(&["status"]);

    sshd.authorize(None);
    case(8, "does not let this user in", "authorized_keys");
    sshd.forget();
    case(8, "is not the machine that it was, or is not known yet", "fingerprint");
    let port = format!("Port={}", sshd.port);
    small.reconfigure(&port, &format!("Port={}", entracte_testbed::process::free_port()));
    case(8, "cannot be reached", "try `ssh` by hand");
    let json = small.json(&["status"]);
    assert_eq!(json["exit"], 8, "{json}");
}

#[test]
fn bootstrap_brings_the_program_and_the_configuration_once() {
    let small = Small::start_far("1.1", &[]);
    let real = env!("CARGO_BIN_EXE_entracte");
    let there = small.dev.join("../far bin/entracte");
    small.reconfigure(&format!("remote_binary = {real:?}"), &format!("remote_binary = {there:?}"));
    small.exits(3, &["history"]);
    let brought = small.json(&["bootstrap"]);
    assert_eq!(brought["program_sent"], true, "{brought}");
    assert_eq!(fs::read(&there).unwrap(), fs::read(real).unwrap());
    small.ok(&["history"]);
    let again = small.json(&["bootstrap", "production"]);
    assert_eq!(
        (&again["program_sent"], &again["configuration_sent"]),
        (&false.into(), &false.into())
    );
    let wrong = small.dev.join("../not-a-program");
    fs::write(&wrong, "not for this machine").unwrap();
    let refused = small.exits(3, &["bootstrap", "--with", &wrong.to_string_lossy()]);
    assert!(refused.contains("does not run on game"), "{refused}");
    assert_eq!(fs::read(&there).unwrap(), fs::read(real).unwrap(), "the old one is untouched");
    // What the configuration lacks there is said, and does not keep it out.
    small.reconfigure("drain = \"0s\"", "drain = \"1s\"");
    let changed = small.json(&["bootstrap"]);
    assert_eq!(changed["configuration_sent"], true, "{changed}");
    let text = fs::read_to_string(small.state.join("entracte.toml")).unwrap();
    assert!(text.contains("drain = \"1s\"") && !text.contains("ssh"), "{text}");
}

#[test]
fn a_restricted_key_runs_the_agent_and_nothing_else() {
    let mut small = Small::start_far("1.1", &[]);
    let (real, config) = (env!("CARGO_BIN_EXE_entracte"), small.state.join("entracte.toml"));
    let forced = format!(
        "restrict,command=\"{real} agent --fixed --config {} --target production\" ",
        config.display()
    );
    small.sshd.as_ref().unwrap().authorize(Some(&forced));
    small.reference.migrate("1.1");
    small.ok(&["deploy", "1.1", "--yes"]);
    small.assert_is("1.1", &["r1"], "with a restricted key");
    small.reconfigure("drain = \"0s\"", "drain = \"1s\"");
    let kept = small.exits(3, &["bootstrap"]);
    assert!(!kept.is_empty());
    let refused = small.exits(3, &["deploy", "1.1", "--yes"]);
    assert!(refused.contains("keeps its own configuration"), "{refused}");
}

/// What docs/ssh.md shows, in its order: each command once more for real.
#[test]
fn the_guide_is_true() {
    let mut small = Small::start_far("1.1", &[]);
    small.reference.migrate("1.1");
    let guide = include_str!("../../../docs/ssh.md");
    let mut blocks = guide.split("\n```");
    blocks.next();
    let shown: Vec<&str> = blocks
        .step_by(2)
        .filter_map(|block| block.strip_prefix('\n'))
        .flat_map(str::lines)
        .filter(|line| line.starts_with("entracte "))
        .collect();
    assert!(shown.len() > 14, "{shown:?}");
    for line in shown {
        let mut words: Vec<&str> = line.split_whitespace().skip(1).collect();
        match words[0] {
            "init" if words.contains(&"--ssh") => {
                let text = written_by_init(&words);
                for wanted in ["ssh = \"deploy@game.example.org\"", "root = \"/var/www/taverne\""] {
                    assert!(text.contains(wanted), "{wanted} in {text}");
                }
                continue;
            }
            "deploy" | "rollback" => words.push("--yes"),
            _ => {}
        }
        small.ok(&words);
    }
    small.assert_holds("1.0", "at the end of the guide");
}

fn written_by_init(words: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_entracte"))
        .args(words)
        .current_dir(dir.path())
        .env("HOME", dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    fs::read_to_string(dir.path().join("entracte.toml")).unwrap()
}
