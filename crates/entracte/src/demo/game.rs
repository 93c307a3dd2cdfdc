//! The Lantern Inn: the game of the demo, served from a tree of files and a SQLite database.
//!
//! The program has no version. Pages, prices and queries are files of the tree, read with each
//! request, so that exchanging the trees exchanges the game, as it does with a game in PHP. Like
//! many of those it answers 200 when it fails, with the error in the page.

mod book;
mod pages;
mod rules;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use entracte_model::html::escape;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

pub use book::{Book, seed};

/// The cookie of a player who is in.
pub const SESSION_COOKIE: &str = "DEMOSESSID";
/// The longest form that is read, in bytes.
const FORM_BYTES_MAX: usize = 4 * 1024;
/// The pause after a connection that could not be accepted, in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 50;

/// Why the game does not do what it is asked. Shown in its pages, as games do.
#[derive(Debug, thiserror::Error)]
pub enum GameError {
    /// A file of the tree cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `rules.json` is not as the game expects it.
    #[error("rules.json: {0}")]
    Rules(#[from] serde_json::Error),
    /// A template asks for something that the rules do not have.
    #[error("the template asks for {0}, which rules.json does not have")]
    Unknown(String),
    /// The database refuses.
    #[error("{}", said(.0))]
    Sql(#[from] rusqlite::Error),
    /// No randomness for a session.
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
}

/// What the database said, without the statement around it.
fn said(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

/// One request, as far as the game looks at it.
#[derive(Debug, Default, Clone)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// The session cookie, if there is one.
    pub session: Option<String>,
    /// The fields of the form.
    pub form: BTreeMap<String, String>,
    /// Whether a browser asks, which wants a page and not a word.
    pub wants_page: bool,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Such as 200.
    pub status: u16,
    /// The type of the content.
    pub kind: &'static str,
    /// `Location` and `Set-Cookie`, where they are needed.
    pub headers: Vec<(&'static str, String)>,
    /// The content.
    pub body: Vec<u8>,
}

impl Reply {
    fn page(status: u16, html: String) -> Self {
        Self { status, kind: "text/html; charset=utf-8", headers: vec![], body: html.into_bytes() }
    }

    fn word(status: u16, text: impl Into<String>) -> Self {
        let body = text.into().into_bytes();
        Self { status, kind: "text/plain; charset=utf-8", headers: vec![], body }
    }

    fn see(place: &str) -> Self {
        let mut reply = Self::word(303, "");
        reply.headers.push(("location", place.to_owned()));
        reply
    }
}

/// Where the game's files and data are.
#[derive(Debug, Clone)]
pub struct Game {
    /// The tree that is served.
    pub root: PathBuf,
    /// The database file.
    pub database: PathBuf,
}

impl Game {
    /// Answers one request. Blocking: reads files, and writes to the database durably.
    pub fn answer(&self, request: &Request) -> Reply {
        match pages::answer(self, request) {
            Ok(reply) => reply,
            // The habit that smoke tests have to see through: the status says that all is well.
            Err(error) => {
                let error = escape(&error.to_string());
                Reply::page(200, format!("<p>Fatal error: {error}</p>"))
            }
        }
    }

    fn read(&self, path: &str) -> Result<String, GameError> {
        let path = self.root.join(path);
        std::fs::read_to_string(&path).map_err(|source| GameError::File { path, source })
    }
}

/// Serves the game at `listen` until the process ends. `ready` is told the address.
pub fn serve(
    root: &Path,
    database: &Path,
    listen: SocketAddr,
    ready: impl FnOnce(SocketAddr),
) -> std::io::Result<Infallible> {
    let game = Arc::new(Game { root: root.to_owned(), database: database.to_owned() });
    // Whoever closes a database last clears its log away. Requests open and close it all the time:
    // while this one looks at it, none of them is ever the last.
    let last = Book::open(database).map_err(std::io::Error::other)?;
    last.list("SELECT 1 FROM players LIMIT 1", None).map_err(std::io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        ready(listener.local_addr()?);
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(connection(Arc::clone(&game), stream));
                }
                // Out of files, or a client that left early: both pass.
                Err(_) => {
                    tokio::time::sleep(std::time::Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
            }
        }
    })
}

async fn connection(game: Arc<Game>, stream: TcpStream) {
    // A little latency matters more than a few small packets.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| respond(Arc::clone(&game), request));
    // How a client's connection ends is the client's affair.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond(
    game: Arc<Game>,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let head = head(&request);
    let body = Limited::new(request.into_body(), FORM_BYTES_MAX).collect().await;
    let reply = match body {
        Ok(body) => {
            let request = Request { form: form(&body.to_bytes()), ..head };
            let work = tokio::task::spawn_blocking(move || game.answer(&request)).await;
            work.unwrap_or_else(|_| Reply::word(500, "the game stumbled"))
        }
        Err(_) => Reply::word(413, "that is too much"),
    };
    Ok(response(reply))
}

fn head(request: &hyper::Request<Incoming>) -> Request {
    let header = |name: &str| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    let session = header("cookie")
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == SESSION_COOKIE)
        .map(|(_, value)| value.to_owned());
    Request {
        // HEAD is answered as GET; hyper leaves the content out.
        method: if *request.method() == Method::HEAD { "GET" } else { request.method().as_str() }
            .to_owned(),
        path: request.uri().path().to_owned(),
        session,
        form: BTreeMap::new(),
        wants_page: header("accept").contains("text/html"),
    }
}

fn response(reply: Reply) -> hyper::Response<Full<Bytes>> {
    let mut response = hyper::Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static(reply.kind));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    response
}

/// The fields of a form as browsers send them.
fn form(body: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(body);
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (plain(name), plain(value))).collect()
}

/// Undoes the encoding of a form: `+` is a space, `%41` an `A`.
fn plain(text: &str) -> String {
    let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let decoded = bytes.get(at + 1..at + 3).filter(|_| *byte == b'%').and_then(hex);
        out.push(decoded.unwrap_or(if *byte == b'+' { b' ' } else { *byte }));
        at += if decoded.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_as_browsers_write_them() {
        let fields = form(b"name=Ada+L%C3%A9&kind=work&odd=%zz%4");
        assert_eq!(fields["name"], "Ada Lé");
        assert_eq!(fields["kind"], "work");
        assert_eq!(fields["odd"], "%zz%4");
    }
}
