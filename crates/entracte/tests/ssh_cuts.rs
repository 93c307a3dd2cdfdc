//! A connection that breaks at any byte, again and again: what was sent is not sent twice, a
//! release that began is finished, and the tree is exact. Needs openssh-server and openssh-client.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

mod small;

use std::fs;
use std::process::Command;

use entracte_testbed::relay::Relay;
use small::Small;

/// How many connections are cut at most, in one test.
const CUTS: usize = 30;
/// How many commands a person tries, before the test counts as failed.
const ATTEMPTS_MAX: usize = 200;

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

/// The next connections live for so many bytes, from a seed; later ones for ever.
fn through(
    small: &Small,
    seed: u64,
    mut lives: impl FnMut(&mut Seeded) -> u64 + Send + 'static,
) -> Relay {
    let mut seeded = Seeded(seed);
    let mut left = CUTS;
    let port = small.sshd.as_ref().unwrap().port;
    let relay = Relay::start(
        port,
        Box::new(move || {
            left = left.checked_sub(1)?;
            Some(lives(&mut seeded))
        }),
    );
    small.reconfigure(&format!("Port={port}"), &format!("Port={}", relay.port));
    relay
}

/// What a person does whose connection breaks: the same command again, or the log.
fn deploy_until_done(small: &Small) {
    for _ in 0..ATTEMPTS_MAX {
        let output = small.run(&["deploy", "1.1", "--yes"]);
        match output.status.code() {
            Some(0) => return,
            Some(8) => {}
            // It was begun by a connection that was cut before it could say so.
            Some(7) => {
                if small.run(&["log", "-f"]).status.code() == Some(0) {
                    return;
                }
            }
            // And it was finished, too.
            Some(3) if small::said(&output).contains("1.1.0") => return,
            code => panic!("{code:?}: {}\n{}", small::said(&output), small.logs()),
        }
    }
    panic!("not done after {ATTEMPTS_MAX} attempts: {}", small.logs());
}

#[test]
fn a_transfer_that_is_cut_again_and_again_ends_in_an_exact_tree() {
    let mut small = Small::start_far("1.1", &[]);
    let mut seeded = Seeded(0x5eed);
    // What cannot be compressed, so that the cuts fall into the middle of it.
    fs::write(small.dev.join("source/picture.bin"), seeded.bytes(1_500_000)).unwrap();
    let expected = small.dev.parent().unwrap().join("expected-1.1");
    let copied =
        Command::new("cp").arg("-a").arg(small.dev.join("source")).arg(expected).status().unwrap();
    assert!(copied.success());
    small.ok(&["pack", "1.1"]);
    small.reference.migrate("1.1");
    let relay = through(&small, 0xc0ffee, |seeded| seeded.below(150_000));
    deploy_until_done(&small);
    assert!(relay.cuts() > 5, "only {} connections were cut", relay.cuts());
    drop(relay);
    direct(&small);
    small.assert_is("1.1", &["r1"], "after all the cuts");
    let releases = small.json(&["history"]);
    assert_eq!(releases.as_array().map(Vec::len), Some(1), "begun once: {releases}");
}

#[test]
fn a_release_that_began_is_finished_whatever_becomes_of_the_connection() {
    let mut small = Small::start_far("1.1", &[]);
    small.reference.migrate("1.1");
    // While the release is at work each connection lives just long enough to tell a little of it.
    let at_work = small.state.join("release.lock.owner");
    let relay = through(&small, 0xfeed, move |seeded| match at_work.exists() {
        true => 6_000 + seeded.below(8_000),
        false => 4_000 + seeded.below(20_000),
    });
    deploy_until_done(&small);
    assert!(relay.cuts() > 0, "no connection was cut");
    drop(relay);
    direct(&small);
    small.assert_is("1.1", &["r1"], "after all the cuts");
}

/// Back to the way without a relay.
fn direct(small: &Small) {
    let path = small.dev.join("entracte.toml");
    let text = fs::read_to_string(&path).unwrap();
    let port = small.sshd.as_ref().unwrap().port;
    let found = text.split("Port=").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    fs::write(&path, text.replace(&format!("Port={found}"), &format!("Port={port}"))).unwrap();
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
