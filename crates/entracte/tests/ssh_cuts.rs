//! A connection that breaks at any byte, again and again: what was sent is not sent twice, a
//! release that began is finished, and the tree is exact. Needs openssh-server and openssh-client.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

mod small;

use std::fs;
use std::process::Command;

use entracte_testbed::process::wait_until;
use entracte_testbed::relay::{Budgets, Relay};
use small::{PATIENCE_MS, Small, ends, is_stopped, said, signal, step};

/// How often the one transfer is cut.
const CUTS: usize = 100;
/// How many commands a person tries, before the test counts as failed.
const ATTEMPTS_MAX: usize = 120;
/// What the cuts and the contents are made from.
const SEED: u64 = 0xc0_ffee;

/// Numbers that look random and are the same in every run (xorshift).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        std::iter::repeat_with(|| u8::try_from(self.below(256)).unwrap()).take(count).collect()
    }
}

/// A relay before sshd, through which the development machine goes from now on.
fn through(small: &Small, budgets: Budgets) -> Relay {
    let port = small.sshd.as_ref().unwrap().port;
    let relay = Relay::start(port, budgets);
    small.reconfigure(&format!("Port={port}"), &format!("Port={}", relay.port));
    relay
}

/// Back to the way without a relay.
fn direct(small: &Small, relay: &Relay) {
    let port = small.sshd.as_ref().unwrap().port;
    small.reconfigure(&format!("Port={}", relay.port), &format!("Port={port}"));
}

#[test]
fn a_transfer_that_is_cut_a_hundred_times_ends_in_an_exact_tree() {
    eprintln!("seed {SEED:#x}");
    let mut small = Small::start_far("1.1", &[]);
    let mut seeded = Seeded(SEED);
    // What cannot be compressed, and more than all connections that are cut can bring.
    fs::write(small.dev.join("source/picture.bin"), seeded.bytes(2_500_000)).unwrap();
    let expected = small.dev.parent().unwrap().join("expected-1.1");
    let copied =
        Command::new("cp").arg("-a").arg(small.dev.join("source")).arg(expected).status().unwrap();
    assert!(copied.success());
    small.ok(&["pack", "1.1"]);
    small.reference.migrate("1.1");
    let mut left = CUTS;
    let budgets = move || {
        // The first one lives until something of the package has been sent.
        let least = if left == CUTS { 200_000 } else { 6_000 };
        left = left.checked_sub(1)?;
        Some(least + seeded.below(30_000))
    };
    let relay = through(&small, Box::new(budgets));
    // A busy machine may need longer for so many connections than one command tries: then a person
    // types it again, and the transfer goes on where it was.
    let mut done = false;
    for _ in 0..ATTEMPTS_MAX {
        let output = small.run(&["deploy", "1.1", "--yes"]);
        done = output.status.success();
        if done {
            break;
        }
        assert_eq!(output.status.code(), Some(8), "{}\n{}", said(&output), small.logs());
    }
    assert!(done, "not done after {ATTEMPTS_MAX} attempts: {}", small.logs());
    assert_eq!(relay.cuts(), CUTS, "every connection but the last was cut");
    direct(&small, &relay);
    small.assert_is("1.1", &["r1"], "after all the cuts");
    let releases = small.json(&["history"]);
    assert_eq!(releases.as_array().map(Vec::len), Some(1), "begun once: {releases}");
}

/// The runner stands still at a step while the connection breaks again and again: on its way in, once
/// it has logged in, and while it follows. Then the release goes on, and it breaks once more.
fn cut_while_at(place: &str) {
    let pause = format!("started:{}", step(place));
    let mut small = Small::start_far("1.1", &[("ENTRACTE_PAUSE", &pause)]);
    small.reference.migrate("1.1");
    let relay = through(&small, Box::new(|| None));
    let mut deploy = small.command(&["deploy", "1.1", "--yes"]).spawn().unwrap();
    let mut runner = 0;
    let paused = wait_until(PATIENCE_MS, || {
        runner = small.runner().unwrap_or(0);
        is_stopped(runner)
    });
    assert!(paused, "{place}: {}", small.logs());
    let logins = || small.sshd.as_ref().unwrap().logins();
    let mut met = (relay.connections(), logins());
    for round in 0..4 {
        relay.cut();
        let again = wait_until(PATIENCE_MS, || {
            let (connections, logged_in) = (relay.connections(), logins());
            // Every other time only once it is let in.
            connections > met.0 && (round % 2 == 0 || logged_in > met.1)
        });
        assert!(again, "{place}: nobody connects again: {}", small.logs());
        met = (relay.connections(), logins());
    }
    assert!(is_stopped(runner), "{place}: the release is not what was cut");
    relay.cut();
    signal(runner, "CONT");
    assert_eq!(ends(&mut deploy), Some(0), "{place}: {}", small.logs());
    direct(&small, &relay);
    small.assert_is("1.1", &["r1"], place);
    let releases = small.json(&["history"]);
    assert_eq!(releases.as_array().map(Vec::len), Some(1), "{place}: {releases}");
}

#[test]
fn a_release_that_began_is_finished_wherever_the_connection_breaks() {
    for place in ["stage", "window copy", "smoke"] {
        cut_while_at(place);
    }
}

#[test]
fn bytes_of_an_enemy_end_the_agent_and_nothing_else() {
    use std::io::Write;
    use std::process::Stdio;
    let small = Small::start_far("1.1", &[]);
    let config = small.state.join("entracte.toml");
    let hello = br#"{"ask":"hello","protocol":2,"tool":"0","project":"inn"}"#;
    let mut seeded = Seeded(7);
    let framed = |kind: u8, bytes: &[u8]| {
        let mut frame = vec![kind];
        frame.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        frame.extend(bytes);
        frame
    };
    let mut inputs: Vec<Vec<u8>> = vec![
        vec![],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![b'm', 0xff, 0xff, 0xff, 0xff],
        framed(b'm', b"{}"),
        framed(b'm', br#"{"ask":"run","args":["history"],"colour":false}"#),
    ];
    let asks: [&str; 8] = [
        r#"{"ask":"configure","bytes":18446744073709551615}"#,
        r#"{"ask":"run","args":["run","--release","r1"],"colour":false}"#,
        r#"{"ask":"run","args":["history","--config=/etc/passwd"],"colour":false}"#,
        r#"{"ask":"begin","args":["gate","close"],"expects":null}"#,
        r#"{"ask":"remember","name":"freeze","value":"for ever"}"#,
        r#"{"ask":"follow","release":"r99","after":0,"runner":1}"#,
        r#"{"ask":"excerpt","have":"zz"}"#,
        r#"{"ask":"offer","bytes":18446744073709551615}"#,
    ];
    for ask in asks {
        let mut input = framed(b'm', hello);
        input.extend(framed(b'm', ask.as_bytes()));
        input.extend(framed(b'd', b"more"));
        inputs.push(input);
    }
    for _ in 0..10 {
        let length = usize::try_from(seeded.below(5_000)).unwrap();
        let mut input = framed(b'm', hello);
        input.extend(seeded.bytes(length));
        inputs.push(input);
    }
    for input in &inputs {
        let mut agent = Command::new(env!("CARGO_BIN_EXE_entracte"))
            .args(["--config", &config.to_string_lossy(), "--target", "production", "agent"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = agent.stdin.take().unwrap();
        // An agent that ended already takes nothing more.
        let _ = stdin.write_all(input);
        drop(stdin);
        let output = agent.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code().is_some() && !error.contains("panicked"),
            "{input:?}: {error}"
        );
    }
    assert_eq!(small.json(&["history"]), serde_json::json!([]), "nothing began");
    assert_eq!(small.phase(), "open");
    small.ok(&["deploy", "1.1", "--dry-run"]);
}
