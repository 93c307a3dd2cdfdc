//! The line does what a line does. Only what physics forbids is asserted about time.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Child;
use std::time::{Duration, Instant};

use super::*;
use crate::process::wait_until;

const PATIENCE_MS: u64 = 60_000;
const PORT: u16 = 7_000;

/// Runs a few lines of Python at the end A, where the address of B is `B`.
fn at_a(ends: &Ends, script: &str) -> Child {
    let script = format!("import socket\nB = ('{}', {PORT})\n{script}", Ends::B);
    ends.at(&ends.a, &program(&["/usr/bin/python3", "python3"]))
        .args(["-I", "-c", &script])
        .spawn()
        .unwrap()
}

/// The connection that a script at A makes.
fn connected(ends: &Ends, script: &str) -> (TcpStream, Child) {
    let listener = TcpListener::bind((Ends::B, PORT)).unwrap();
    let script = format!("s = socket.create_connection(B)\n{script}");
    let child = at_a(ends, &script);
    (listener.accept().unwrap().0, child)
}

#[test]
fn bytes_take_their_time() {
    const NAME: &str = "link::tests::bytes_take_their_time";
    let Some(ends) = Link::test_at_b(NAME, &Shape::HOME) else { return };
    const BYTES: usize = 1_000_000;
    let (mut stream, mut child) =
        connected(&ends, &format!("s.recv(1)\ns.sendall(bytes({BYTES}))\ns.close()"));
    let asked = Instant::now();
    stream.write_all(b"?").unwrap();
    let mut heard = vec![];
    stream.read_to_end(&mut heard).unwrap();
    let took = asked.elapsed();
    assert_eq!(heard.len(), BYTES);
    // There and back once, and 2.5 MB a second; what was in the queue at the end came first.
    assert!(took >= Duration::from_millis(40 + 400), "{took:?}");
    assert!(child.wait().unwrap().success());
    let counts = ends.counts();
    assert!(counts.there.bytes > 1_000_000 && counts.back.packets > 100, "{counts:?}");
    assert_eq!((counts.there.lost, counts.back.lost), (0, 0));
}

#[test]
fn what_is_lost_does_not_arrive() {
    const NAME: &str = "link::tests::what_is_lost_does_not_arrive";
    let shape = Shape { loss: 0.25, ..Shape::HOME };
    let Some(ends) = Link::test_at_b(NAME, &shape) else { return };
    // So few that the queue never fills up, and the receiver's buffer holds them all.
    const SENT: u64 = 100;
    let receiver = UdpSocket::bind((Ends::B, PORT)).unwrap();
    receiver.set_nonblocking(true).unwrap();
    let send = format!(
        "s = socket.socket(type=socket.SOCK_DGRAM)\nfor _ in range({SENT}): s.sendto(b'x', B)"
    );
    assert!(at_a(&ends, &send).wait().unwrap().success());
    let all = wait_until(PATIENCE_MS, || {
        let there = ends.counts().there;
        there.packets + there.lost == SENT
    });
    let there = ends.counts().there;
    assert!(all && there.lost > 5 && there.packets > 50, "{there:?}");
    let mut heard = 0;
    while receiver.recv(&mut [0; 8]).is_ok() {
        heard += 1;
    }
    assert_eq!(heard, there.packets);
    ends.lose(1.0);
    assert!(at_a(&ends, &send).wait().unwrap().success());
    assert!(wait_until(PATIENCE_MS, || ends.counts().there.lost == there.lost + SENT));
    assert!(receiver.recv(&mut [0; 8]).is_err(), "none arrives");
}

#[test]
fn a_full_queue_drops_its_end() {
    const NAME: &str = "link::tests::a_full_queue_drops_its_end";
    let shape = Shape { rate: 10_000, queue_bytes: 10_000, ..Shape::HOME };
    let Some(ends) = Link::test_at_b(NAME, &shape) else { return };
    let send =
        "s = socket.socket(type=socket.SOCK_DGRAM)\nfor _ in range(100): s.sendto(bytes(972), B)";
    assert!(at_a(&ends, send).wait().unwrap().success());
    let full = wait_until(PATIENCE_MS, || ends.counts().there.full > 0);
    let there = ends.counts().there;
    assert!(full && there.packets < 100, "{there:?}");
}

#[test]
fn down_stops_and_up_goes_on() {
    const NAME: &str = "link::tests::down_stops_and_up_goes_on";
    let Some(ends) = Link::test_at_b(NAME, &Shape::HOME) else { return };
    let (mut stream, mut child) =
        connected(&ends, "s.recv(1)\ns.sendall(b'through')\ns.recv(1)\ns.close()");
    let before = ends.down();
    stream.write_all(b"?").unwrap();
    // The kernel tries it again and again.
    assert!(wait_until(PATIENCE_MS, || ends.counts().back.down > before.back.down + 2));
    let after = ends.counts();
    assert_eq!(after.there.packets, before.there.packets);
    assert_eq!(after.back.packets, before.back.packets);
    ends.up();
    let mut heard = [0; 7];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"through");
    stream.write_all(b".").unwrap();
    assert!(child.wait().unwrap().success());
}

/// A process that stands in a namespace once this returns.
fn sleep_in(namespace: &str) -> Child {
    let mut command = Command::new(program(&["ip"]));
    command.args(["netns", "exec", namespace, "sh", "-c", "echo; exec sleep 600"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    child
}

#[test]
fn nothing_remains() {
    // What a test leaves that is killed: its process is gone, its namespaces are not.
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let left = format!("{NAME}{}-0-a", dead.id());
    ip(&format!("netns add {left}"));
    let mut inside = sleep_in(&left);
    let link = Link::start(&Shape::HOME);
    assert!(!inside.wait().unwrap().success(), "it was killed");
    let mut inside = sleep_in(&link.b);
    let (ends, pump) = (link.ends.clone(), link.pump.id());
    let is_there = |name: &str| Path::new("/run/netns").join(name).exists();
    assert!(!is_there(&left) && is_there(&ends.a) && is_there(&ends.b) && runs(pump));
    drop(link);
    assert!(!is_there(&ends.a) && !is_there(&ends.b) && !runs(pump));
    assert!(!inside.wait().unwrap().success(), "it was killed, too");
}
