//! HTTP/2 with and without TLS, certificates that are renewed, many streams of one client.
#![allow(clippy::unwrap_used, reason = "to panic is to fail")]

mod common;

use std::convert::Infallible;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Game, Gate, PATIENCE, until};
use entracte_model::gate::Phase;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

fn request(method: &str, target: &str, body: &'static [u8]) -> Request<Body> {
    let body = match body {
        b"" => Empty::new().boxed(),
        body => Full::new(Bytes::from_static(body)).boxed(),
    };
    Request::builder().method(method).uri(target).body(body).unwrap()
}

async fn h2(
    io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
) -> SendRequest<Body> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender
}

async fn plain(gate: &Gate) -> SendRequest<Body> {
    h2(TokioIo::new(TcpStream::connect(gate.address).await.unwrap())).await
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE * 3, work).await.expect("in time") })
}

/// A new certificate for `localhost` and its key, by the ordinary tool.
fn certificate(dir: &Path, name: &str) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ])
        .args(["-days", "2", "-subj", &format!("/CN={name}")])
        .args([
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .args(["-keyout", "key.new", "-out", "cert.new"])
        .current_dir(dir)
        .output()
        .expect("openssl is installed by `cargo xtask setup`");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::rename(dir.join("key.new"), dir.join("key.pem")).unwrap();
    std::fs::rename(dir.join("cert.new"), dir.join("cert.pem")).unwrap();
}

/// A connection that trusts exactly the certificate in the file.
async fn tls(gate: &Gate, cert: &Path, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(cert).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(gate.address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[test]
fn http2_without_tls_is_recognised_and_becomes_plain_requests() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    block_on(async {
        let mut client = plain(&gate).await;
        let mut get = request("GET", "http://game.example/market?x=1", b"");
        for cookie in ["a=1", "entracte_ticket=forged", "b=2"] {
            get.headers_mut().append("cookie", cookie.parse().unwrap());
        }
        let answer = client.send_request(get).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(b"<html>"));
        let post = request("POST", "http://game.example/trade", b"gold=5");
        assert_eq!(client.send_request(post).await.unwrap().status(), StatusCode::OK);
    });
    let got = game.got();
    assert_eq!(got[0].target, "/market?x=1");
    assert_eq!(got[0].header("host"), Some("game.example"));
    assert_eq!(got[0].header("cookie"), Some("a=1; b=2"), "one field, without ours");
    assert_eq!(got[0].header("x-forwarded-proto"), Some("http"));
    assert_eq!((got[1].target.as_str(), got[1].body.as_slice()), ("/trade", &b"gold=5"[..]));
    // HTTP/1 goes on beside it.
    assert_eq!(gate.get("/", &[]).status, 200);
}

#[test]
fn streams_are_parked_one_by_one_and_one_that_is_given_up_frees_its_place() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    gate.set(Phase::Holding);
    block_on(async {
        let mut client = plain(&gate).await;
        let mut send =
            |method, target, body| tokio::spawn(client.send_request(request(method, target, body)));
        let stays = send("GET", "http://g/stays", b"");
        let posts = send("POST", "http://g/posts", b"gold=5");
        let leaves = send("GET", "http://g/leaves", b"");
        parked(&gate, 3).await;
        leaves.abort();
        parked(&gate, 2).await;
        gate.set(Phase::Open);
        assert_eq!(stays.await.unwrap().unwrap().status(), StatusCode::OK);
        assert_eq!(posts.await.unwrap().unwrap().status(), StatusCode::OK);
    });
    assert_eq!((game.count("/stays"), game.count("/posts"), game.count("/leaves")), (1, 1, 0));
}

async fn parked(gate: &Gate, count: u64) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while gate.status().parked != count {
        assert!(std::time::Instant::now() < deadline, "never {count} parked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn two_different_hosts_in_one_request_are_refused() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    block_on(async {
        let mut client = plain(&gate).await;
        let mut get = request("GET", "http://game.example/", b"");
        get.headers_mut().insert("host", "other.example".parse().unwrap());
        let answer = client.send_request(get).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    });
    assert!(game.got().is_empty());
}

#[test]
fn a_stream_that_nobody_reads_ends_and_does_not_hold_a_closing_up() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| {
        config["limits"]["write_idle_ms"] = 300.into();
        config["limits"]["keep_alive_closed_ms"] = 200.into();
    });
    block_on(async {
        let (mut client, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1_000)
            .handshake(TokioIo::new(TcpStream::connect(gate.address).await.unwrap()))
            .await
            .unwrap();
        let driven = tokio::spawn(connection);
        let answer = client.send_request(request("GET", "http://g/large", b"")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        // The body is held and not read: its window stays shut.
        let _unread = answer;
        gate.set(Phase::Closed);
        let _ = driven.await;
    });
    until("nothing in flight", || (gate.status().in_flight == 0).then_some(()));
}

#[test]
fn tls_speaks_http2_or_http1_and_tells_the_game() {
    let game = Game::start();
    let files = tempfile::tempdir().unwrap();
    certificate(files.path(), "first");
    let (cert, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    let gate = Gate::start(game.address, |config| {
        config["tls_cert"] = json!(cert);
        config["tls_key"] = json!(key);
    });
    block_on(async {
        let stream = tls(&gate, &cert, &[b"h2", b"http/1.1"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut client = h2(TokioIo::new(stream)).await;
        let mut get = request("GET", "https://localhost/two", b"");
        // Nobody outside can say that it was not TLS.
        get.headers_mut().insert("x-forwarded-proto", "http".parse().unwrap());
        let answer = client.send_request(get).await.unwrap();
        let set = answer.headers().get_all("set-cookie").iter();
        assert!(set.map(|v| v.to_str().unwrap()).all(|cookie| cookie.ends_with("; Secure")));

        let stream = tls(&gate, &cert, &[b"http/1.1"]).await.unwrap();
        let (mut one, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut get = request("GET", "/one", b"");
        get.headers_mut().insert("host", "localhost".parse().unwrap());
        assert_eq!(one.send_request(get).await.unwrap().status(), StatusCode::OK);
    });
    let told: Vec<_> =
        game.got().iter().map(|got| got.header("x-forwarded-proto").unwrap().to_owned()).collect();
    assert_eq!(told, ["https", "https"]);
    // What is no TLS gets no answer, and the next client one.
    let mut plain = gate.player();
    plain.send(b"GET / HTTP/1.1\r\nHost: g\r\n\r\n");
    assert!(plain.reply("GET").is_none());
}

#[test]
fn a_renewed_certificate_is_used_and_half_a_renewal_is_not() {
    let game = Game::start();
    let files = tempfile::tempdir().unwrap();
    certificate(files.path(), "first");
    let (cert, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    let gate = Gate::start(game.address, |config| {
        config["tls_cert"] = json!(cert);
        config["tls_key"] = json!(key);
    });
    let first = files.path().join("first.pem");
    std::fs::copy(&cert, &first).unwrap();
    let reaches = |cert: &Path| block_on(async { tls(&gate, cert, &[b"h2"]).await.is_ok() });
    assert!(reaches(&first));

    certificate(files.path(), "second");
    until("the new certificate", || reaches(&cert).then_some(()));
    assert!(!reaches(&first), "the old one is still used");

    let second = files.path().join("second.pem");
    std::fs::copy(&cert, &second).unwrap();
    std::fs::write(&cert, "half").unwrap();
    until("an alarm", || gate.client().reload().unwrap().alarm);
    assert!(reaches(&second));
    let alarm = gate.status().alarm.unwrap();
    assert!(alarm.contains("cert.pem") && alarm.contains("old certificate"), "{alarm}");
}

#[test]
fn a_gate_with_a_certificate_that_cannot_be_read_does_not_start() {
    let game = Game::start();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key.pem"), "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n").unwrap();
    let config = json!({
        "listen": "127.0.0.1:0", "upstream": game.address.to_string(),
        "state_dir": dir.path().join("state"), "control_socket": dir.path().join("gate.sock"),
        "tls_cert": dir.path().join("cert.pem"), "tls_key": dir.path().join("key.pem"),
    });
    let words = common::launch(dir.path(), &config).unwrap_err();
    assert!(words.contains("cert.pem") && !words.contains("c2VjcmV0"), "{words}");
}
