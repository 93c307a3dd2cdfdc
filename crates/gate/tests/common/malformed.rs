//! Malformed HTTP by a seed: good requests with bytes changed, cut, doubled and inserted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Small and repeatable (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}

const SEEDS: [&[u8]; 9] = [
    b"GET / HTTP/1.1\r\nHost: g\r\nCookie: PHPSESSID=abc; entracte_ticket=1.AAAA; entracte_place=1.x\r\n\r\n",
    b"POST /login.php HTTP/1.1\r\nHost: g\r\nContent-Length: 11\r\n\r\nname=player",
    b"POST /c HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello",
    b"POST /e HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"GET http://other:1/%ff?x HTTP/1.1\r\nHost: g\r\nX-Forwarded-For: 1.2.3.4, ::1\r\nForwarded: for=x\r\n\r\n",
    b"GET /_entracte/v1/status HTTP/1.1\r\nHost: g\r\nX-Entracte-Pass: 1.AQAAAZ\r\nAccept-Language: fr;q=0.9,*\r\n\r\n",
    b"POST /_entracte/pass HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\n\r\ntoken=abc",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x05\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01g",
];

const PIECES: [&[u8]; 14] = [
    b"\r\n",
    b"\n",
    b"\0",
    b": ",
    b"\r",
    b" ",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 99999999999\r\n",
    b"Content-Length: 0\r\n",
    b"\xff\xfe",
    b"HTTP/1.1",
    b"Host: h\r\n",
    b"0\r\n\r\n",
    b"%00",
];

/// One malformed stream of bytes.
pub fn stream(random: &mut Random) -> Vec<u8> {
    let mut bytes = SEEDS[random.below(SEEDS.len())].to_vec();
    if random.below(4) == 0 {
        bytes.extend_from_slice(SEEDS[random.below(SEEDS.len())]);
    }
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            1 => bytes.truncate(at.max(1)),
            2 => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
            3 => {
                let to = (at + random.below(20)).min(bytes.len());
                let piece = bytes[at..to].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let to = (at + random.below(12)).min(bytes.len());
                bytes.drain(at..to);
            }
            // A header bomb, now and then.
            _ if random.below(40) == 0 => {
                let bomb = b"X: y\r\n".repeat(2_000);
                bytes.splice(at..at, bomb);
            }
            _ => {}
        }
    }
    bytes
}

/// Sends it in pieces, reads a little of what comes, and leaves.
pub fn throw(address: SocketAddr, bytes: &[u8], random: &mut Random) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let wait = Some(Duration::from_millis(20));
    // A socket that cannot be set up is one less.
    let _ = stream.set_read_timeout(wait).and_then(|()| stream.set_write_timeout(wait));
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(1 + random.below(rest.len()));
        if stream.write_all(piece).is_err() {
            return;
        }
        rest = later;
    }
    if random.below(3) > 0 {
        let _ = stream.read(&mut [0; 512]);
    }
}
