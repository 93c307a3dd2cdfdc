//! Mail through a real mail server, and what becomes of it where the server does not take it.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use entracte_announce::channel::{Channel, Message, Sent, parts, send};
use entracte_model::UnixMs;
use entracte_testbed::process::{Server, free_port, program};

const PATIENT: Duration = Duration::from_secs(30);

fn message() -> Message {
    Message {
        id: "inn/production/r7/notes".to_owned(),
        event: "release.notes".to_owned(),
        version: "1.1.0".parse().unwrap(),
        title: "L'auberge é 1.1.0".to_owned(),
        lang: "fr".to_owned(),
        text_by_lang: BTreeMap::from([
            ("en".to_owned(), "- The **market** opens\n".to_owned()),
            ("fr".to_owned(), "- Le **marché** ouvre\n.\n".to_owned()),
        ]),
        url: "https://game.example/news/fr/1.1.0.html".to_owned(),
        occurred: UnixMs(1_790_000_000_000),
        part: 0,
    }
}

/// The address of a server, with a password that nothing must show.
fn to(server: &str) -> Channel {
    format!("{server}/?from=inn@game.example&to=players@lists.example,a+b@c.example")
        .parse()
        .unwrap()
}

/// A real server, which puts what it takes into a mail folder.
struct Postman {
    port: u16,
    folder: PathBuf,
    _server: Server,
    _dir: tempfile::TempDir,
}

impl Postman {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (port, folder) = (free_port(), dir.path().join("mail"));
        let listen = format!("127.0.0.1:{port}");
        let folder_text = folder.display().to_string();
        let args = ["-n", "-l", &listen, "-c", "aiosmtpd.handlers.Mailbox", &folder_text];
        let server =
            Server::start(&program(&["aiosmtpd"]), &args, &dir.path().join("aiosmtpd.log"));
        server.wait_until_ready(|| TcpStream::connect(&listen).is_ok());
        Self { port, folder, _server: server, _dir: dir }
    }

    fn mails(&self) -> Vec<String> {
        files(&self.folder.join("new"))
    }
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn a_real_server_gets_one_mail_in_both_languages() {
    let postman = Postman::start();
    let channel = to(&format!("smtp://127.0.0.1:{}", postman.port));
    assert_eq!(parts(&channel, &message()), 1);
    assert_eq!(send(&channel, &message(), PATIENT), Sent::Delivered { remote_id: None });
    let mails = postman.mails();
    let [mail] = mails.as_slice() else { panic!("{} mails came", mails.len()) };
    for line in [
        "From: inn@game.example\n",
        "To: players@lists.example, a+b@c.example\n",
        "Subject: L'auberge =?utf-8?b?w6k=?= 1.1.0\n",
        "Message-ID: <inn.production.r7.notes@game.example>\n",
        "Auto-Submitted: auto-generated\n",
        "Content-Type: multipart/alternative;",
        "Content-Type: text/plain; charset=utf-8\n",
        "Content-Type: text/html; charset=utf-8\n",
        "<strong>market</strong>",
        "https://game.example/news/fr/1.1.0.html",
    ] {
        assert!(mail.contains(line), "{line:?} is not in {mail}");
    }
    assert!(mail.find("Le march").unwrap() < mail.find("The market").unwrap(), "{mail}");
}

/// A server that follows a script: what it says first, and then after each line that it reads. It
/// tells all that it read. A real one cannot be made to fail in these ways.
fn scripted(address: &str, answers: &'static [&'static str]) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let mut read = String::new();
        for answer in answers {
            let _ = stream.write_all(format!("{answer}\r\n").as_bytes());
            if answer.starts_with("354") {
                while !read.ends_with("\r\n.\r\n")
                    && lines.read_line(&mut read).is_ok_and(|n| n > 0)
                {}
            } else {
                let _ = lines.read_line(&mut read);
            }
        }
        let _ = tell.send(read);
    });
    (address, told)
}

const GREETED: [&str; 2] = ["220 post", "250-post\r\n250 AUTH PLAIN"];

#[test]
fn a_server_that_does_not_take_it_decides_what_becomes_of_it() {
    let ends = |answers: &'static [&'static str]| {
        let (address, _told) = scripted("127.0.0.1:0", answers);
        send(&to(&format!("smtp://u:hunter2@{address}")), &message(), PATIENT)
    };
    let dead = ends(&[GREETED[0], GREETED[1], "535 wrong hunter2"]);
    assert!(
        matches!(&dead, Sent::Dead { why } if why.contains("name and the password")),
        "{dead:?}"
    );
    let later = ends(&[GREETED[0], GREETED[1], "235 ok", "451 grey hunter2"]);
    assert_eq!(later, Sent::Retry { why: "it answered 451".to_owned() });
    let nobody = ends(&[GREETED[0], GREETED[1], "235 ok", "250 ok", "550 hunter2 unknown"]);
    assert!(matches!(&nobody, Sent::Dead { why } if why.contains("it answered 550")), "{nobody:?}");
    let gone = ends(&[GREETED[0], GREETED[1], "235 ok", "250 ok", "250 ok", "250 ok", "354 go on"]);
    assert!(matches!(&gone, Sent::Unknown { .. }), "{gone:?}");
    for sent in [dead, later, nobody, gone] {
        assert!(!format!("{sent:?}").contains("hunter2"), "{sent:?}");
    }
    let nowhere = send(&to(&format!("smtp://127.0.0.1:{}", free_port())), &message(), PATIENT);
    assert_eq!(nowhere, Sent::Retry { why: "no connection".to_owned() });
}

#[test]
fn no_password_leaves_without_encryption() {
    // Another machine, as far as the address tells, and one that offers no encryption.
    let (address, told) = scripted("127.0.0.2:0", &GREETED);
    let sent = send(&to(&format!("smtp://u:hunter2@{address}")), &message(), PATIENT);
    assert!(matches!(&sent, Sent::Dead { why } if why.contains("STARTTLS")), "{sent:?}");
    let read = told.recv().unwrap();
    assert!(read.starts_with("EHLO ") && !read.contains("AUTH"), "{read}");

    let (address, _told) = scripted("127.0.0.1:0", &GREETED);
    let sent = send(&to(&format!("smtps://u:hunter2@{address}")), &message(), PATIENT);
    assert_eq!(sent, Sent::Retry { why: "no encrypted connection".to_owned() });
}
