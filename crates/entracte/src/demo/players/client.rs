//! What one browser of one player does: a kept connection, a jar of cookies, no redirects.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer is waited for: longer than any gate lets a request wait.
const ANSWER_MS: u64 = 30_000;
/// The longest body and the longest line that are read, in bytes.
const BODY_BYTES_MAX: u64 = 1 << 20;
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// The most lines of a head.
const HEADERS_MAX: usize = 100;

/// One answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// The body as text.
    pub body: String,
    close: bool,
}

/// A browser.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
    cookies: BTreeMap<String, String>,
}

impl Client {
    /// For the server at `address`. Nothing is connected yet.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, connection: None, cookies: BTreeMap::new() }
    }

    /// Forgets who it was, as a player who comes back on another day.
    pub fn forget(&mut self) {
        self.cookies.clear();
    }

    /// Asks for a page, as a browser that shows one.
    ///
    /// # Errors
    /// Where no whole answer came.
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.ask("GET", path, "text/html", "")
    }

    /// Sends a form, as a script in a page that wants a word back.
    ///
    /// # Errors
    /// Where no whole answer came. The form may have had its effect all the same.
    pub fn post(&mut self, path: &str, form: &str) -> io::Result<Answer> {
        self.ask("POST", path, "text/plain", form)
    }

    fn ask(&mut self, method: &str, path: &str, accept: &str, form: &str) -> io::Result<Answer> {
        let mut message = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\nAccept-Language: en\r\n",
            self.address
        );
        if !self.cookies.is_empty() {
            let pairs: Vec<String> =
                self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            message.push_str(&format!("Cookie: {}\r\n", pairs.join("; ")));
        }
        if method == "POST" {
            message.push_str(&format!(
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
                form.len()
            ));
        }
        message.push_str("\r\n");
        message.push_str(form);
        // A connection that the server closed while it was idle is replaced before anything is
        // sent on it; what was sent is never sent again.
        let mut connection = match self.connection.take().filter(is_open) {
            Some(connection) => connection,
            None => self.connect()?,
        };
        connection.get_mut().write_all(message.as_bytes())?;
        let answer = self.read(&mut connection)?;
        if !answer.close {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let patience = Duration::from_millis(ANSWER_MS);
        let stream = TcpStream::connect_timeout(&self.address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }

    fn read(&mut self, from: &mut BufReader<TcpStream>) -> io::Result<Answer> {
        let first = line(from)?;
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| invalid("a status line", &first))?;
        let (mut length, mut chunked, mut close) = (0, false, false);
        for number in 0.. {
            let text = line(from)?;
            if text.is_empty() {
                break;
            }
            let (name, value) = text.split_once(':').ok_or_else(|| invalid("a header", &text))?;
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    length = value.parse().map_err(|_| invalid("a length", value))?;
                }
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                "connection" => close = value.eq_ignore_ascii_case("close"),
                "set-cookie" => self.keep(value),
                _ => {}
            }
            if number >= HEADERS_MAX {
                return Err(invalid("at most 100 headers", &text));
            }
        }
        let body = if chunked { chunks(from)? } else { exactly(from, length)? };
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned(), close })
    }

    fn keep(&mut self, cookie: &str) {
        let pair = cookie.split(';').next().and_then(|pair| pair.split_once('='));
        match pair {
            Some((name, "")) => {
                self.cookies.remove(name.trim());
            }
            Some((name, value)) => {
                self.cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
            None => {}
        }
    }
}

/// Whether the other side has neither closed an idle connection nor said anything unasked.
fn is_open(connection: &BufReader<TcpStream>) -> bool {
    let stream = connection.get_ref();
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    let quiet =
        matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false).is_ok() && quiet
}

fn chunks(from: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(from)?;
        let digits = size.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).map_err(|_| invalid("a chunk's size", &size))?;
        if size == 0 {
            while !line(from)?.is_empty() {}
            return Ok(body);
        }
        if size + body.len() as u64 > BODY_BYTES_MAX {
            return Err(invalid("a body of at most 1 MiB", digits));
        }
        body.extend(exactly(from, size)?);
        line(from)?;
    }
}

fn exactly(from: &mut BufReader<TcpStream>, length: u64) -> io::Result<Vec<u8>> {
    if length > BODY_BYTES_MAX {
        return Err(invalid("a body of at most 1 MiB", &length.to_string()));
    }
    let mut body = Vec::new();
    from.take(length).read_to_end(&mut body)?;
    if (body.len() as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(body)
}

fn line(from: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut text = String::new();
    from.take(LINE_BYTES_MAX).read_line(&mut text)?;
    if !text.ends_with('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

fn invalid(expected: &str, found: &str) -> io::Error {
    let text = format!("expected {expected}, found {found:?}");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Gives each connection its answers, one a request, and closes it after the last.
    fn server(
        connections: Vec<Vec<&'static str>>,
    ) -> (SocketAddr, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = thread::spawn(move || {
            let mut asked = Vec::new();
            for answers in connections {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                for answer in answers {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "left after {head:?}");
                    }
                    asked.push(head);
                    stream.get_mut().write_all(answer.as_bytes()).unwrap();
                }
            }
            asked
        });
        (address, served)
    }

    #[test]
    fn connections_are_kept_chunks_joined_and_cookies_sent_back() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=b; Path=/\r\n\r\n\
                       3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        let plain = "HTTP/1.1 503 No\r\nContent-Length: 2\r\nSet-Cookie: a=; Max-Age=0\r\n\r\nno";
        let empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let (address, served) = server(vec![vec![chunked, plain, empty]]);
        let mut client = Client::new(address);
        assert_eq!(client.get("/1").unwrap().body, "abcde");
        let second = client.get("/2").unwrap();
        assert_eq!((second.status, second.body.as_str()), (503, "no"));
        client.get("/3").unwrap();
        let asked = served.join().unwrap();
        assert!(asked[1].contains("Cookie: a=b\r\n") && !asked[2].contains("Cookie:"));
    }

    #[test]
    fn a_connection_that_was_closed_while_idle_is_replaced() {
        let empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let (address, served) = server(vec![vec![empty], vec![empty]]);
        let mut client = Client::new(address);
        client.get("/1").unwrap();
        // Only once the end of the connection has arrived can it be noticed.
        while client.connection.as_ref().is_some_and(is_open) {
            thread::yield_now();
        }
        client.get("/2").unwrap();
        assert_eq!(served.join().unwrap().len(), 2);
    }

    #[test]
    fn an_answer_that_is_cut_is_an_error() {
        let (address, served) =
            server(vec![vec!["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"]]);
        let error = Client::new(address).get("/").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        served.join().unwrap();
    }
}
