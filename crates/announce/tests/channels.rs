//! Channels against a real HTTP server on this machine.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use entracte_announce::channel::{Channel, DISCORD_PARTS_MAX, Message, Sent, edit, parts, send};
use entracte_model::UnixMs;
use sha2::{Digest, Sha256};

/// Longer than any answer here takes, so that only the tests that mean to run into it do.
const PATIENT: Duration = Duration::from_secs(30);
const KEY: &[u8] = b"0123456789abcdefghijklmnopqrstuv";

struct Got {
    first_line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// What the server does with each connection.
#[derive(Clone)]
enum Answer {
    Say(String),
    /// Reads the request, says nothing, and ends when the client does.
    Hang,
    /// Reads the request and closes.
    Close,
}

/// A server that answers every connection of its life in one way. It ends when the test does.
struct Server {
    port: u16,
    got: Receiver<Got>,
}

impl Server {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("the port that was bound").port();
        let (tell, got) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let Some(request) = read(&stream) else { continue };
                if tell.send(request).is_err() {
                    return;
                }
                match &answer {
                    Answer::Say(text) => stream.write_all(text.as_bytes()).unwrap_or(()),
                    Answer::Hang => {
                        let mut rest = Vec::new();
                        // Ends with the client's end of the connection.
                        let _ = stream.read_to_end(&mut rest);
                    }
                    Answer::Close => {}
                }
            }
        });
        Self { port, got }
    }

    fn status(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
        );
        Self::start(Answer::Say(text))
    }

    fn webhook(&self) -> Channel {
        let secret = BASE64.encode(KEY);
        format!("webhook+http://whsec_{secret}@127.0.0.1:{}/in/hunter2", self.port)
            .parse()
            .expect("a good address")
    }

    fn discord(&self) -> Channel {
        let api = format!("http://127.0.0.1:{}/api", self.port);
        Channel::Discord { api, id: "42".to_owned(), token: "hunter2".to_owned() }
    }
}

fn read(stream: &TcpStream) -> Option<Got> {
    let mut reader = BufReader::new(stream);
    let mut first_line = String::new();
    reader.read_line(&mut first_line).ok()?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Got { first_line: first_line.trim_end().to_owned(), headers, body })
}

fn message(text: &str) -> Message {
    Message {
        id: "release-1.1.0-published".to_owned(),
        event: "release.published".to_owned(),
        version: "1.1".parse().expect("a good version"),
        title: "Version 1.1.0".to_owned(),
        lang: "en".to_owned(),
        text_by_lang: BTreeMap::from([
            ("en".to_owned(), text.to_owned()),
            ("fr".to_owned(), "Oui.".to_owned()),
        ]),
        url: "https://game.example/news/en/1.1.0.html".to_owned(),
        occurred: UnixMs(1_764_000_000_000),
        part: 0,
    }
}

/// HMAC-SHA256 written out from RFC 2104, so that the signature is checked by other code than made it.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(slot, key)| *slot ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

#[test]
fn a_webhook_is_signed_and_says_what_happened() {
    let server = Server::status(204, "", "");
    let sent = send(&server.webhook(), &message("It **opens**. <b>"), PATIENT);
    assert_eq!(sent, Sent::Delivered { remote_id: None });
    let got = server.got.recv().unwrap();
    assert_eq!(got.first_line, "POST /in/hunter2 HTTP/1.1");
    assert_eq!(got.headers["webhook-id"], "release-1.1.0-published");
    let signed = [
        format!("{}.{}.", got.headers["webhook-id"], got.headers["webhook-timestamp"]).as_bytes(),
        &got.body,
    ]
    .concat();
    assert_eq!(
        got.headers["webhook-signature"],
        format!("v1,{}", BASE64.encode(hmac(KEY, &signed)))
    );
    assert!(!got.headers.contains_key("authorization"));
    let json: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(json["type"], "release.published");
    assert_eq!(json["timestamp"], "2025-11-24T16:00:00Z");
    assert_eq!(json["data"]["version"], "1.1.0");
    assert_eq!(
        json["data"]["texts"]["en"]["html"],
        "<p>It <strong>opens</strong>. &lt;b&gt;</p>\n"
    );
    assert_eq!(json["data"]["texts"]["fr"]["plain"], "Oui.\n");
}

#[test]
fn a_webhook_without_a_secret_is_not_signed() {
    let server = Server::status(200, "", "ok");
    let channel: Channel = format!("http://127.0.0.1:{}/x", server.port).parse().unwrap();
    assert!(matches!(send(&channel, &message("x"), PATIENT), Sent::Delivered { .. }));
    assert!(!server.got.recv().unwrap().headers.contains_key("webhook-signature"));
}

#[test]
fn the_same_message_has_the_same_id_and_body_each_time() {
    let server = Server::status(500, "", "");
    let channel = server.webhook();
    for _ in 0..2 {
        send(&channel, &message("x"), PATIENT);
    }
    let (one, two) = (server.got.recv().unwrap(), server.got.recv().unwrap());
    assert_eq!((&one.headers["webhook-id"], one.body), (&two.headers["webhook-id"], two.body));
}

#[test]
fn statuses_decide_what_becomes_of_it() {
    let outcome = |status: u16, discord: bool| {
        let server = Server::status(status, "location: http://127.0.0.1:1/\r\n", "hunter2");
        let channel = if discord { server.discord() } else { server.webhook() };
        let sent = send(&channel, &message("x"), PATIENT);
        assert!(!format!("{sent:?}").contains("hunter2"), "{sent:?}");
        sent
    };
    for status in [400, 401, 403, 404, 410, 301, 307, 422] {
        assert!(matches!(outcome(status, false), Sent::Dead { .. }), "{status}");
    }
    for status in [500, 502, 503, 408] {
        assert!(matches!(outcome(status, false), Sent::Retry { .. }), "{status}");
        assert!(matches!(outcome(status, true), Sent::Retry { .. }), "{status}");
    }
    assert!(matches!(outcome(504, false), Sent::Retry { .. }));
    assert!(matches!(outcome(504, true), Sent::Unknown { .. }));
}

#[test]
fn a_429_says_how_long_to_wait() {
    let wait = |headers: &str, body: &str| {
        let server = Server::status(429, headers, body);
        match send(&server.webhook(), &message("x"), PATIENT) {
            Sent::RateLimited { retry_after_ms } => retry_after_ms,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(wait("retry-after: 7\r\n", ""), 7_000);
    assert_eq!(wait("", "{\"retry_after\": 1.25}"), 1_250);
    assert_eq!(wait("retry-after: 2\r\n", "{\"retry_after\": 1.25}"), 2_000);
    assert_eq!(wait("retry-after: soon\r\n", "{\"retry_after\": -1}"), 60_000);
    assert_eq!(wait("retry-after: Mon, 01 Jan 2024 00:00:00 GMT\r\n", ""), 0);
    assert!(wait("retry-after: Fri, 01 Jan 2100 00:00:00 GMT\r\n", "") > 1_000_000_000);
}

#[test]
fn silence_is_unknown_only_where_a_repetition_would_be_seen() {
    let short = Duration::from_secs(1);
    for answer in [Answer::Hang, Answer::Close] {
        let server = Server::start(answer);
        let sent = send(&server.webhook(), &message("x"), short);
        assert!(matches!(sent, Sent::Retry { .. }), "{sent:?}");
        let sent = send(&server.discord(), &message("x"), short);
        assert!(matches!(sent, Sent::Unknown { .. }), "{sent:?}");
        let sent = edit(&server.discord(), "77", &message("x"), short);
        assert!(matches!(sent, Sent::Retry { .. }), "{sent:?}");
    }
}

#[test]
fn where_nobody_listens_nothing_was_sent() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let api = format!("http://127.0.0.1:{port}");
    let discord = Channel::Discord { api, id: "1".to_owned(), token: "hunter2".to_owned() };
    let sent = send(&discord, &message("x"), PATIENT);
    assert!(matches!(&sent, Sent::Retry { .. }), "{sent:?}");
    assert!(!format!("{sent:?}").contains("hunter2"));
}

#[test]
fn discord_gets_an_embed_that_calls_nobody_and_gives_its_number() {
    let server = Server::status(200, "", "{\"id\": \"77\", \"type\": 0}");
    let sent = send(&server.discord(), &message("# Version 1.1\n\n- @everyone **go**"), PATIENT);
    assert_eq!(sent, Sent::Delivered { remote_id: Some("77".to_owned()) });
    let got = server.got.recv().unwrap();
    assert_eq!(got.first_line, "POST /api/webhooks/42/hunter2?wait=true HTTP/1.1");
    let json: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(json["allowed_mentions"], serde_json::json!({ "parse": [] }));
    assert_eq!(json["embeds"][0]["title"], "Version 1.1.0");
    assert_eq!(json["embeds"][0]["description"], "- \\@everyone **go**");
    edit(&server.discord(), "77", &message("x"), PATIENT);
    let got = server.got.recv().unwrap();
    assert_eq!(got.first_line, "PATCH /api/webhooks/42/hunter2/messages/77 HTTP/1.1");
    assert!(matches!(edit(&server.discord(), "../1", &message("x"), PATIENT), Sent::Dead { .. }));
}

#[test]
fn a_long_text_becomes_several_messages_within_discords_limits() {
    let server = Server::status(200, "", "{\"id\": \"1\"}");
    let channel = server.discord();
    let mut long =
        message(&"- A change that is told in a sentence of its own, 🏹 each.\n".repeat(3_000));
    long.title = "🏹".repeat(300);
    let count = parts(&channel, &long);
    assert_eq!(count, DISCORD_PARTS_MAX);
    for part in 0..count {
        long.part = part;
        assert!(matches!(send(&channel, &long, PATIENT), Sent::Delivered { .. }));
        let json: serde_json::Value =
            serde_json::from_slice(&server.got.recv().unwrap().body).unwrap();
        let units =
            |value: &serde_json::Value| value.as_str().unwrap_or_default().encode_utf16().count();
        let embed = &json["embeds"][0];
        assert!(units(&embed["title"]) <= 256 && units(&embed["description"]) <= 4_096);
        assert_eq!(embed["title"].is_string(), part == 0);
        let more = embed["description"]
            .as_str()
            .unwrap()
            .ends_with("(<https://game.example/news/en/1.1.0.html>)");
        assert_eq!(more, part + 1 == count);
    }
    long.part = count;
    assert!(matches!(send(&channel, &long, PATIENT), Sent::Dead { .. }));
    assert_eq!(parts(&channel, &message("")), 1);
}
