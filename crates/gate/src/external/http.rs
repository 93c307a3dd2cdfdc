//! One question to an admin interface on this machine: HTTP/1.0 over TCP or a unix socket, or a line
//! on a socket.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long the interface may take, in milliseconds.
const ANSWER_MS: u64 = 10_000;
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Sends `text` to `at` (`host:port`, or a path of a unix socket, with or without `unix:`), and
/// reads until the other side is done.
pub(super) fn talk(at: &str, text: &str) -> io::Result<String> {
    let patience = Duration::from_millis(ANSWER_MS);
    let path = at.strip_prefix("unix:").or_else(|| at.starts_with('/').then_some(at));
    if let Some(path) = path {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        return exchange(stream, text);
    }
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in at.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                return exchange(stream, text);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange(mut stream: impl Read + Write, text: &str) -> io::Result<String> {
    stream.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Asks for `path`, and returns the body of an answer that says 200.
pub(super) fn get(at: &str, path: &str) -> io::Result<String> {
    // An interface that checks the Host (Caddy's does) takes its own address, which a socket has not.
    let host = if at.starts_with('/') || at.starts_with("unix:") { "" } else { at };
    let answer = talk(at, &format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let line = head.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("expected 200, found {line:?}"))),
    }
}
