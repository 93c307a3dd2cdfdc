//! Mail by SMTP (RFC 5321), to a list or to a few people.

use std::time::Duration;

use entracte_model::html::escape;
use lettre::address::Envelope;
use lettre::message::{Mailbox, MultiPart, header};
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{SmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{Error, SUBMISSION_PORT, SUBMISSIONS_PORT};
use url::Url;

use super::{BadChannel, Message, Sent};
use crate::markdown::{parse, to_html, to_text};

/// The most addresses of one channel: more people than that are a list, and lists have servers.
pub const MAIL_ADDRESSES_MAX: usize = 50;
const EXPECTED: &str =
    "smtps://user:password@host/?from=game@host&to=list@host (`smtp` for STARTTLS)";
/// Servers on this machine that pass mail on.
const LOCAL_PORT: u16 = 25;

/// A mail server, and from whom to whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    host: String,
    port: u16,
    security: Security,
    /// Name and password.
    login: Option<(String, String)>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Security {
    /// From the first byte on (`smtps`).
    Tls,
    /// Begun inside the connection (`smtp`); a server that does not offer it gets nothing.
    StartTls,
    /// None: the server is on this machine.
    Local,
}

impl Mail {
    /// The server's name, which is no secret.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Reads `smtp://…` or `smtps://…`.
    pub(super) fn parse(text: &str) -> Result<Self, BadChannel> {
        let bad = |found: &str| BadChannel { expected: EXPECTED, found: found.to_owned() };
        let url = Url::parse(text).map_err(|_| bad("no address"))?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("no host"))?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let here = ["127.0.0.1", "::1", "localhost"].contains(&host.as_str());
        let (security, port) = match (url.scheme(), here) {
            ("smtps", _) => (Security::Tls, SUBMISSIONS_PORT),
            (_, true) => (Security::Local, LOCAL_PORT),
            (_, false) => (Security::StartTls, SUBMISSION_PORT),
        };
        let plain = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
        };
        let login = match (url.username(), url.password()) {
            ("", _) => None,
            (_, None) => return Err(bad("a user without a password")),
            (user, Some(password)) => Some((plain(user), plain(password))),
        };
        let (mut from, mut to) = (None, Vec::new());
        // In a query a `+` stands for a space; in mail addresses it is itself.
        let query = url.query().unwrap_or_default().replace('+', "%2B");
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let address =
                |text: &str| text.parse::<Mailbox>().map_err(|_| bad("a bad mail address"));
            match &*key {
                "from" => from = Some(address(&value)?),
                "to" => {
                    for one in value.split(',') {
                        to.push(address(one)?);
                    }
                }
                other => return Err(bad(&format!("the parameter {other:?}"))),
            }
        }
        let from = from.ok_or_else(|| bad("no `from`"))?;
        match to.len() {
            0 => Err(bad("no `to`")),
            1..=MAIL_ADDRESSES_MAX => {
                let port = url.port().unwrap_or(port);
                Ok(Self { host, port, security, login, from, to })
            }
            many => Err(bad(&format!("{many} addresses; {MAIL_ADDRESSES_MAX} are the most"))),
        }
    }

    /// Sends `message` as one mail. `timeout` holds for each answer of the server.
    pub(super) fn send(&self, message: &Message, timeout: Duration) -> Sent {
        let Some((envelope, mail)) = self.write(message) else {
            return Sent::Dead { why: "the message cannot be written as a mail".to_owned() };
        };
        let mut connection = match self.connect(timeout) {
            Ok(connection) => connection,
            Err(sent) => return sent,
        };
        let sent = match connection.send(&envelope, &mail) {
            Ok(_) => Sent::Delivered { remote_id: None },
            Err(error) => refused(&error).unwrap_or_else(|| Sent::Unknown {
                why: "the connection broke off while the mail was handed over".to_owned(),
            }),
        };
        if !connection.has_broken() {
            // The mail is the server's by now; how the good-bye goes does not matter.
            let _ = connection.quit();
        }
        sent
    }

    /// Up to the login. Nothing of the message has been sent yet, so all can be tried again.
    fn connect(&self, timeout: Duration) -> Result<SmtpConnection, Sent> {
        let retry = |why: &str| Sent::Retry { why: why.to_owned() };
        let hello = ClientId::default();
        let tls = TlsParameters::new(self.host.clone())
            .map_err(|_| Sent::Dead { why: "the server's name is none for TLS".to_owned() })?;
        let at_once = (self.security == Security::Tls).then_some(&tls);
        let place = (self.host.as_str(), self.port);
        let mut connection = SmtpConnection::connect(place, Some(timeout), &hello, at_once, None)
            .map_err(|error| match refused(&error) {
            Some(sent) => sent,
            None if self.security == Security::Tls => retry("no encrypted connection"),
            None => retry("no connection"),
        })?;
        if self.security == Security::StartTls {
            if !connection.can_starttls() {
                connection.abort();
                let why = "it offers no encryption (STARTTLS), and got nothing".to_owned();
                return Err(Sent::Dead { why });
            }
            connection
                .starttls(&tls, &hello)
                .map_err(|error| refused(&error).unwrap_or(retry("no encrypted connection")))?;
        }
        if let Some((user, password)) = &self.login {
            let credentials = Credentials::new(user.clone(), password.clone());
            connection.auth(DEFAULT_MECHANISMS, &credentials).map_err(|error| {
                match error.status() {
                    Some(_) if error.is_permanent() => {
                        Sent::Dead { why: "it does not take the name and the password".to_owned() }
                    }
                    _ if error.is_client() => {
                        Sent::Dead { why: "it takes no logins (AUTH) that we know".to_owned() }
                    }
                    _ => retry("the login did not come to an end"),
                }
            })?;
        }
        Ok(connection)
    }

    /// The mail: each language as text and as HTML, the default one first.
    fn write(&self, message: &Message) -> Option<(Envelope, Vec<u8>)> {
        let mut texts: Vec<_> = message.text_by_lang.iter().collect();
        texts.sort_by_key(|(lang, _)| **lang != message.lang);
        let docs: Vec<_> = texts.into_iter().map(|(lang, text)| (lang, parse(text))).collect();
        let plain: Vec<String> = docs.iter().map(|(_, doc)| to_text(doc)).collect();
        let html: Vec<String> = docs
            .iter()
            .map(|(lang, doc)| format!("<div lang=\"{}\">\n{}</div>\n", escape(lang), to_html(doc)))
            .collect();
        let link = escape(&message.url);
        let (plain, html) = (
            format!("{}\n\n{}\n", plain.join("\n\n-- \n\n"), message.url),
            format!("{}<p><a href=\"{link}\">{link}</a></p>\n", html.join("<hr>\n")),
        );
        let time = std::time::UNIX_EPOCH
            + Duration::from_millis(u64::try_from(message.occurred.0).unwrap_or(0));
        let mut mail = lettre::Message::builder()
            .from(self.from.clone())
            .subject(&message.title)
            .date(time)
            // The same over all attempts: many servers and readers drop the second one by it.
            .message_id(Some(self.message_id(&message.id)))
            .raw_header(header::HeaderValue::new(
                header::HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        for one in &self.to {
            mail = mail.to(one.clone());
        }
        let mail = mail.multipart(MultiPart::alternative_plain_html(plain, html)).ok()?;
        Some((mail.envelope().clone(), mail.formatted()))
    }

    fn message_id(&self, id: &str) -> String {
        let word: String =
            id.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '.' }).collect();
        format!("<{word}@{}>", self.from.email.domain())
    }
}

/// What the server's own refusal means, where it is one.
fn refused(error: &Error) -> Option<Sent> {
    let code = error.status()?;
    // Only the number: some servers repeat what they were told.
    Some(if error.is_permanent() {
        Sent::Dead { why: format!("it answered {code}: it does not take this mail") }
    } else {
        Sent::Retry { why: format!("it answered {code}") }
    })
}
