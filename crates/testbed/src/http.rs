//! A small blocking HTTP/1.1 client with keep-alive and cookies: what one browser of one player does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long it waits for an answer: longer than any gate parks a request.
pub const TIMEOUT_MS: u64 = 60_000;
const BODY_BYTES_MAX: u64 = 8 * 1024 * 1024;
const LINE_BYTES_MAX: u64 = 16 * 1024;
const HEADERS_MAX: usize = 100;

/// One answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// In their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, out of its chunks.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header called `name` (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The body as text; what is not UTF-8 becomes U+FFFD.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A browser: one connection that is kept, one jar of cookies.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
    cookies: BTreeMap<String, String>,
    headers: Vec<(String, String)>,
    timeout: Duration,
}

impl Client {
    /// For the server at `url`, such as `http://127.0.0.1:8080`. Nothing is connected yet.
    ///
    /// # Panics
    /// Where the URL is not one of `http://` with an IP address and a port.
    pub fn new(url: &str) -> Self {
        let bare = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let address =
            bare.parse().unwrap_or_else(|_| panic!("{url:?}: expected http://<IP address>:<port>"));
        let timeout = Duration::from_millis(TIMEOUT_MS);
        Self { address, connection: None, cookies: BTreeMap::new(), headers: vec![], timeout }
    }

    /// Sends `name: value` with each request from now on.
    pub fn always(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The cookies that it holds, by name.
    pub fn cookies(&self) -> &BTreeMap<String, String> {
        &self.cookies
    }

    /// Forgets all cookies, as a player who comes back on another day.
    pub fn forget_cookies(&mut self) {
        self.cookies.clear();
    }

    /// Asks for a page.
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.request("GET", path, &[], "", &[])
    }

    /// Sends a form; `request_id` goes into the header `X-Request-Id`.
    pub fn post(
        &mut self,
        path: &str,
        request_id: &str,
        fields: &[(&str, &str)],
    ) -> io::Result<Answer> {
        let body = form(fields);
        let headers = [("X-Request-Id", request_id)];
        self.request("POST", path, &headers, "application/x-www-form-urlencoded", body.as_bytes())
    }

    /// Sends one file in the way of a browser's upload form.
    pub fn upload(
        &mut self,
        path: &str,
        request_id: &str,
        field: &str,
        file: (&str, &[u8]),
    ) -> io::Result<Answer> {
        const BOUNDARY: &str = "----taverne-7d1f0c9a";
        let (name, content) = file;
        let mut body = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(content);
        body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        self.request("POST", path, &[("X-Request-Id", request_id)], &kind, &body)
    }

    /// One request and its answer. A connection that the server closed while it was idle is
    /// replaced before anything is sent; nothing that was sent is ever sent again.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        content_type: &str,
        body: &[u8],
    ) -> io::Result<Answer> {
        let message = self.message(method, path, headers, content_type, body);
        let mut connection = match self.connection.take().filter(is_open) {
            Some(connection) => connection,
            None => self.connect()?,
        };
        connection.get_mut().write_all(&message)?;
        let answer = read_answer(&mut connection, method)?;
        self.keep_cookies(&answer);
        if answer.header("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close")) {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.address, self.timeout)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }

    fn message(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        content_type: &str,
        body: &[u8],
    ) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.chain(headers.iter().copied()) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if !self.cookies.is_empty() {
            let pairs: Vec<String> =
                self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let _ = write!(head, "Cookie: {}\r\n", pairs.join("; "));
        }
        if !content_type.is_empty() {
            let _ =
                write!(head, "Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        let mut message = head.into_bytes();
        message.extend_from_slice(body);
        message
    }

    fn keep_cookies(&mut self, answer: &Answer) {
        for (_, value) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let Some((name, value)) = value.split(';').next().and_then(|pair| pair.split_once('='))
            else {
                continue;
            };
            match value {
                "" | "deleted" => self.cookies.remove(name.trim()),
                _ => self.cookies.insert(name.trim().to_owned(), value.trim().to_owned()),
            };
        }
    }
}

/// Whether the other side has not closed an idle connection, nor said anything unasked.
fn is_open(connection: &BufReader<TcpStream>) -> bool {
    let stream = connection.get_ref();
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    let quiet =
        matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false).is_ok() && quiet
}

fn read_answer(from: &mut BufReader<TcpStream>, method: &str) -> io::Result<Answer> {
    loop {
        let answer = read_one(from, method)?;
        // 100 Continue and its kind come before the answer.
        if answer.status >= 200 {
            return Ok(answer);
        }
    }
}

fn read_one(from: &mut BufReader<TcpStream>, method: &str) -> io::Result<Answer> {
    let first = line(from)?;
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| invalid(format!("expected a status line of HTTP/1.1, found {first:?}")))?;
    let mut headers = Vec::new();
    loop {
        let text = line(from)?;
        if text.is_empty() {
            break;
        }
        let (name, value) =
            text.split_once(':').ok_or_else(|| invalid(format!("no header: {text:?}")))?;
        headers.push((name.trim().to_lowercase(), value.trim().to_owned()));
        if headers.len() > HEADERS_MAX {
            return Err(invalid(format!("more than {HEADERS_MAX} headers")));
        }
    }
    let mut answer = Answer { status, headers, body: vec![] };
    if method != "HEAD" && status >= 200 && status != 204 && status != 304 {
        answer.body = read_body(from, &answer)?;
    }
    Ok(answer)
}

fn read_body(from: &mut BufReader<TcpStream>, answer: &Answer) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    {
        loop {
            let size = line(from)?;
            let digits = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(digits, 16)
                .map_err(|_| invalid(format!("no chunk size: {size:?}")))?;
            read_exactly(from, size, &mut body)?;
            if size == 0 {
                while !line(from)?.is_empty() {}
                return Ok(body);
            }
            line(from)?;
        }
    }
    match answer.header("content-length") {
        Some(length) => {
            let length = length.parse().map_err(|_| invalid(format!("no length: {length:?}")))?;
            read_exactly(from, length, &mut body)?;
        }
        None => {
            from.take(BODY_BYTES_MAX).read_to_end(&mut body)?;
        }
    }
    Ok(body)
}

fn read_exactly(
    from: &mut BufReader<TcpStream>,
    length: u64,
    into: &mut Vec<u8>,
) -> io::Result<()> {
    if length > BODY_BYTES_MAX - into.len() as u64 {
        return Err(invalid(format!("a body of more than {BODY_BYTES_MAX} bytes")));
    }
    let read = from.take(length).read_to_end(into)?;
    if (read as u64) < length {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("the body ended after {read} of {length} bytes"),
        ));
    }
    Ok(())
}

fn line(from: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
    if bytes.pop() != Some(b'\n') {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the connection ended inside a line",
        ));
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    String::from_utf8(bytes).map_err(|_| invalid("a line that is not UTF-8".into()))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn form(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{}={}", percent(name), percent(value)))
        .collect();
    pairs.join("&")
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that gives each connection its own list of answers, and closes it after the last.
    fn server(connections: Vec<Vec<&'static str>>) -> (String, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = thread::spawn(move || {
            let mut asked = Vec::new();
            for answers in connections {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                for answer in answers {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        assert_ne!(
                            stream.read_line(&mut head).unwrap(),
                            0,
                            "the client left after {head:?}"
                        );
                    }
                    asked.push(head);
                    stream.get_mut().write_all(answer.as_bytes()).unwrap();
                }
            }
            asked
        });
        (url, served)
    }

    #[test]
    fn chunks_are_joined_and_the_connection_is_kept() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        let plain =
            "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nSet-Cookie: a=b; Path=/\r\n\r\nno";
        let (url, served) = server(vec![vec![chunked, plain]]);
        let mut client = Client::new(&url);
        assert_eq!(client.get("/1").unwrap().text(), "abcde");
        let second = client.get("/2").unwrap();
        assert_eq!((second.status, second.text().as_str()), (404, "no"));
        assert_eq!(client.cookies().get("a").map(String::as_str), Some("b"));
        served.join().unwrap();
    }

    #[test]
    fn a_connection_that_was_closed_while_idle_is_replaced() {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: s=1\r\n\r\n";
        let (url, served) = server(vec![vec![ok], vec![ok]]);
        let mut client = Client::new(&url);
        client.get("/1").unwrap();
        // The server closes after its last answer; the client may only ask when that has arrived.
        while client.connection.as_ref().is_some_and(is_open) {
            thread::yield_now();
        }
        client.get("/2").unwrap();
        let asked = served.join().unwrap();
        assert!(!asked[0].contains("Cookie:") && asked[1].contains("Cookie: s=1"));
    }

    #[test]
    fn an_answer_that_is_cut_is_an_error() {
        let (url, served) = server(vec![vec!["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"]]);
        let error = Client::new(&url).get("/").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        served.join().unwrap();
    }

    #[test]
    fn forms_are_percent_encoded() {
        assert_eq!(form(&[("a b", "é&="), ("c", "~")]), "a%20b=%C3%A9%26%3D&c=~");
    }
}
