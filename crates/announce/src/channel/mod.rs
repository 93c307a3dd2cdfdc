//! Channels: where messages go beside the game's own pages, and how one is sent once.
//!
//! A channel is written as one address, in the way of Apprise:
//!
//! | address | what it is |
//! |---|---|
//! | `webhook+https://whsec_…@host/path` | a webhook, signed as Standard Webhooks has it |
//! | `https://host/path` | a webhook without a signature |
//! | `discord://id/token` | a Discord webhook |
//! | `https://discord.com/api/webhooks/id/token` | the same, as Discord shows it |
//! | `smtps://user:password@host/?from=…&to=…` | mail; `smtp` for STARTTLS |
//!
//! `http` in place of `https` is taken for this machine only (`127.0.0.1`, `[::1]`, `localhost`), and so
//! is mail without encryption.
//! An address holds a secret: it is never shown whole; [`Channel::name`] is what people see.

mod discord;
mod mail;
mod request;
mod webhook;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use entracte_model::{UnixMs, Version};

pub use discord::{DISCORD_DESCRIPTION_UNITS_MAX, DISCORD_PARTS_MAX, DISCORD_TITLE_UNITS_MAX};
pub use mail::{MAIL_ADDRESSES_MAX, Mail};
pub use webhook::{SECRET_BYTES_MAX, SECRET_BYTES_MIN, Secret};

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Stays the same over all attempts: receivers recognise a repetition by it.
    pub id: String,
    /// What happened, such as `release.published`.
    pub event: String,
    /// The version that it is about.
    pub version: Version,
    /// One line of plain text.
    pub title: String,
    /// The language of a channel that shows one; where it has no text, the first one is shown.
    pub lang: String,
    /// Markdown by language.
    pub text_by_lang: BTreeMap<String, String>,
    /// Where to read more.
    pub url: String,
    /// When it happened, which is not when it is sent.
    pub occurred: UnixMs,
    /// Which part is sent, from 0 and below [`parts`]. Each part is a row of the outbox.
    pub part: usize,
}

impl Message {
    fn text(&self) -> &str {
        self.text_by_lang
            .get(&self.lang)
            .or_else(|| self.text_by_lang.values().next())
            .map_or("", String::as_str)
    }
}

/// Somewhere to send messages. Its `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Channel {
    /// A generic webhook.
    Webhook {
        /// Where it is posted, without the secret.
        url: String,
        /// What it is signed with.
        secret: Option<Secret>,
    },
    /// A webhook of a Discord channel.
    Discord {
        /// Where Discord's API is, without a slash at its end: `https://discord.com/api`.
        api: String,
        /// The webhook's number.
        id: String,
        /// Its secret.
        token: String,
    },
    /// Mail, to a list or to a few people.
    Mail(Box<Mail>),
}

/// How an attempt ended. No text in it holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The other side has it.
    Delivered {
        /// Its number over there, with which it can be edited.
        remote_id: Option<String>,
    },
    /// Too much was sent there; the whole channel must pause.
    RateLimited {
        /// For how long.
        retry_after_ms: u64,
    },
    /// It did not arrive, or arriving twice does no harm: to be sent again later.
    Retry {
        /// For the operator.
        why: String,
    },
    /// It will never arrive like this.
    Dead {
        /// For the operator.
        why: String,
    },
    /// Nobody knows whether it arrived, and a second one would be seen.
    Unknown {
        /// For the operator.
        why: String,
    },
}

/// An address that names no channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}; see the list of channel addresses")]
pub struct BadChannel {
    /// What would be right.
    pub expected: &'static str,
    /// What is wrong, without the secret.
    pub found: String,
}

/// How many messages `message` becomes on `channel`, at least 1.
pub fn parts(channel: &Channel, message: &Message) -> usize {
    match channel {
        Channel::Webhook { .. } | Channel::Mail(_) => 1,
        Channel::Discord { .. } => discord::descriptions(message).len(),
    }
}

/// Sends the part `message.part` once, waiting for `timeout` at most.
pub fn send(channel: &Channel, message: &Message, timeout: Duration) -> Sent {
    match channel {
        Channel::Webhook { url, secret } => webhook::send(url, secret.as_ref(), message, timeout),
        Channel::Discord { api, id, token } => discord::post(api, id, token, message, timeout),
        Channel::Mail(mail) => mail.send(message, timeout),
    }
}

/// Replaces what was posted as `remote_id` by the part `message.part`; repeating it does no harm.
/// A webhook or a mail cannot be taken back: there it goes out as another one.
pub fn edit(channel: &Channel, remote_id: &str, message: &Message, timeout: Duration) -> Sent {
    match channel {
        Channel::Webhook { .. } | Channel::Mail(_) => send(channel, message, timeout),
        Channel::Discord { api, id, token } => {
            discord::edit(api, id, token, remote_id, message, timeout)
        }
    }
}

impl Channel {
    /// What people see of it: `webhook host.example`, `discord 123456`, `mail mail.example`.
    pub fn name(&self) -> String {
        match self {
            Channel::Webhook { url, .. } => format!("webhook {}", host(url)),
            Channel::Discord { id, .. } => format!("discord {id}"),
            Channel::Mail(mail) => format!("mail {}", mail.host()),
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A path can be a secret as well: many services put their token there.
        f.write_str(&self.name())
    }
}

impl FromStr for Channel {
    type Err = BadChannel;

    fn from_str(text: &str) -> Result<Self, BadChannel> {
        const EXPECTED: &str =
            "webhook+https://whsec_…@host/path, https://host/path, discord://id/token or smtps://…";
        if text.chars().any(|char| char.is_whitespace() || char.is_control()) {
            return Err(BadChannel {
                expected: EXPECTED,
                found: "a space or control character".to_owned(),
            });
        }
        if text.starts_with("smtp://") || text.starts_with("smtps://") {
            return Mail::parse(text).map(|mail| Channel::Mail(Box::new(mail)));
        }
        if let Some(rest) = text.strip_prefix("discord://") {
            return discord_of(rest);
        }
        for app in ["https://discord.com/api/webhooks/", "https://discordapp.com/api/webhooks/"] {
            if let Some(rest) = text.strip_prefix(app) {
                return discord_of(rest);
            }
        }
        if let Some(rest) = text.strip_prefix("webhook+") {
            let (scheme, rest) = rest.split_once("://").unwrap_or((rest, ""));
            let Some((secret, place)) = rest.split_once('@') else {
                let found = "no secret before an `@`".to_owned();
                return Err(BadChannel { expected: "webhook+https://whsec_…@host/path", found });
            };
            let secret = Some(secret.parse()?);
            return web_of(format!("{scheme}://{place}"))
                .map(|url| Channel::Webhook { url, secret });
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return web_of(text.to_owned()).map(|url| Channel::Webhook { url, secret: None });
        }
        let scheme =
            text.split("://").next().filter(|scheme| scheme.len() < 20 && text.contains("://"));
        let found =
            scheme.map_or("no scheme".to_owned(), |scheme| format!("the scheme {scheme:?}"));
        Err(BadChannel { expected: EXPECTED, found })
    }
}

fn discord_of(rest: &str) -> Result<Channel, BadChannel> {
    let word = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    match rest.trim_end_matches('/').split_once('/') {
        Some((id, token))
            if id.bytes().all(|b| b.is_ascii_digit()) && !id.is_empty() && word(token) =>
        {
            let api = "https://discord.com/api".to_owned();
            Ok(Channel::Discord { api, id: id.to_owned(), token: token.to_owned() })
        }
        _ => Err(BadChannel {
            expected: "discord://id/token, with a number and a token of letters and digits",
            found: "something else after the scheme".to_owned(),
        }),
    }
}

fn web_of(url: String) -> Result<String, BadChannel> {
    let host = host(&url);
    let name = if host.starts_with('[') {
        host.split_inclusive(']').next().unwrap_or_default()
    } else {
        host.split(':').next().unwrap_or_default()
    };
    if name.is_empty() || host.contains('@') {
        let found = if name.is_empty() { "no host" } else { "a login before the host" };
        return Err(BadChannel { expected: "https://host/path", found: found.to_owned() });
    }
    let here = ["127.0.0.1", "[::1]", "localhost"].contains(&name);
    if url.starts_with("https://") || (here && url.starts_with("http://")) {
        return Ok(url);
    }
    let found = format!("{} to {name}", url.split("://").next().unwrap_or_default());
    Err(BadChannel { expected: "https to any other machine", found })
}

/// Host and port of an address.
fn host(url: &str) -> &str {
    url.split("://").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5+/==";

    #[test]
    fn addresses_become_channels() {
        let parse = |text: &str| text.parse::<Channel>().unwrap();
        let signed = parse(
            "webhook+https://whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz/+8=@h.example:8443/in/x?y=1",
        );
        let Channel::Webhook { url, secret: Some(_) } = &signed else { panic!("{signed:?}") };
        assert_eq!(url, "https://h.example:8443/in/x?y=1");
        assert_eq!(signed.name(), "webhook h.example:8443");
        assert!(matches!(parse("https://h.example/x"), Channel::Webhook { secret: None, .. }));
        assert!(matches!(parse("http://127.0.0.1:80/x"), Channel::Webhook { .. }));
        assert!(matches!(parse("http://[::1]:80/x"), Channel::Webhook { .. }));
        let discord = parse("discord://123/aB-_9");
        assert_eq!(parse("https://discord.com/api/webhooks/123/aB-_9"), discord);
        assert_eq!(discord.name(), "discord 123");
        let mail = "smtps://game%40inn.example:p%40ss@mail.inn.example/?from=The+Inn<game@inn.example>&to=a+b@c.example,d@e.example";
        assert_eq!(parse(&mail.replace("The+Inn", "Inn")).name(), "mail mail.inn.example");
        assert!(matches!(parse("smtp://localhost/?from=a@b.c&to=d@e.f"), Channel::Mail(_)));
    }

    #[test]
    fn what_is_no_channel_is_refused_without_telling_its_secret() {
        let bad = [
            "h.example/hunter2".to_owned(),
            "ftp://hunter2@h.example/".to_owned(),
            "http://h.example/hunter2".to_owned(),
            "https://hunter2@h.example/".to_owned(),
            "https:///hunter2".to_owned(),
            "http://localhost.evil.example/hunter2".to_owned(),
            "webhook+https://h.example/hunter2".to_owned(),
            "webhook+https://hunter2@h.example/".to_owned(),
            "webhook+ftp://whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz@h.example/hunter2".to_owned(),
            format!("webhook+https://{SECRET}@h.example/hunter2"),
            "discord://hunter2".to_owned(),
            "discord://12x/hunter2".to_owned(),
            "discord://12/hunter2/../x".to_owned(),
            "https://discord.com/api/webhooks/1/hunter2?x".to_owned(),
            "https://h.example/ hunter2".to_owned(),
            "smtps://u:hunter2@h.example/".to_owned(),
            "smtps://u:hunter2@h.example/?from=a@b.c".to_owned(),
            "smtps://u:hunter2@h.example/?from=a@b.c&to=nobody".to_owned(),
            "smtps://u:hunter2@h.example/?from=a@b.c&to=d@e.f&bcc=g@h.i".to_owned(),
            "smtps://hunter2@h.example/?from=a@b.c&to=d@e.f".to_owned(),
            "smtps://:25/?from=a@b.c&to=d@e.f&x=hunter2".to_owned(),
        ];
        for text in bad {
            let error = text.parse::<Channel>().expect_err(&text);
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2") && !shown.contains("MDEy"), "{shown}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        for text in [
            "webhook+https://whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz@h.example/hunter2",
            "https://h.example/hunter2",
            "discord://1/hunter2",
            "smtps://u:hunter2@h.example/?from=a@b.c&to=d@e.f",
        ] {
            let shown = format!("{:?}", text.parse::<Channel>().unwrap());
            assert!(!shown.contains("hunter2") && !shown.contains("MDEy"), "{shown}");
        }
    }
}
