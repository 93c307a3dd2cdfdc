//! A generic webhook, as Standard Webhooks has it (<https://www.standardwebhooks.com>).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use sha2::Sha256;

use super::request::Request;
use super::{BadChannel, Message, Sent};
use crate::markdown::{parse, to_html, to_text};

/// The shortest secret that the standard allows, in bytes.
pub const SECRET_BYTES_MIN: usize = 24;
/// The longest secret that the standard allows, in bytes.
pub const SECRET_BYTES_MAX: usize = 64;

/// What a webhook's messages are signed with. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl FromStr for Secret {
    type Err = BadChannel;

    /// From `whsec_` and the bytes in Base64.
    fn from_str(text: &str) -> Result<Self, BadChannel> {
        const EXPECTED: &str = "a secret of whsec_ and 24 to 64 bytes in Base64";
        let bad = |found: &str| BadChannel { expected: EXPECTED, found: found.to_owned() };
        let encoded = text.strip_prefix("whsec_").ok_or_else(|| bad("another beginning"))?;
        let bytes = BASE64.decode(encoded).map_err(|_| bad("something that is not Base64"))?;
        if (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()) {
            return Ok(Self(bytes));
        }
        Err(bad(&format!("{} bytes", bytes.len())))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[derive(Serialize)]
struct Payload<'a> {
    #[serde(rename = "type")]
    event: &'a str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    id: &'a str,
    version: String,
    title: &'a str,
    url: &'a str,
    texts: BTreeMap<&'a str, Text<'a>>,
}

#[derive(Serialize)]
struct Text<'a> {
    markdown: &'a str,
    html: String,
    plain: String,
}

/// Posts `message`. A receiver recognises a repetition by `webhook-id`, so no outcome is unknown.
pub(super) fn send(
    url: &str,
    secret: Option<&Secret>,
    message: &Message,
    timeout: Duration,
) -> Sent {
    let Some(body) = payload(message) else {
        return Sent::Dead { why: "the message's time is outside the calendar".to_owned() };
    };
    let seconds = jiff::Timestamp::now().as_second();
    let mut headers =
        vec![("webhook-id", message.id.clone()), ("webhook-timestamp", seconds.to_string())];
    if let Some(secret) = secret {
        headers.push(("webhook-signature", sign(secret, &message.id, seconds, &body)));
    }
    let request = Request { method: "POST", url, headers: &headers, body: &body, idempotent: true };
    match request.send(timeout) {
        Ok(_) => Sent::Delivered { remote_id: None },
        Err(ended) => ended,
    }
}

fn payload(message: &Message) -> Option<Vec<u8>> {
    let text = |markdown: &'_ String| {
        let doc = parse(markdown);
        (to_html(&doc), to_text(&doc))
    };
    let texts = message.text_by_lang.iter().map(|(lang, markdown)| {
        let (html, plain) = text(markdown);
        (lang.as_str(), Text { markdown, html, plain })
    });
    let payload = Payload {
        event: &message.event,
        timestamp: jiff::Timestamp::from_millisecond(message.occurred.0).ok()?.to_string(),
        data: Data {
            id: &message.id,
            version: message.version.to_string(),
            title: &message.title,
            url: &message.url,
            texts: texts.collect(),
        },
    };
    serde_json::to_vec(&payload).ok()
}

fn sign(secret: &Secret, id: &str, seconds: i64, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&secret.0).expect("HMAC takes keys of every length");
    mac.update(format!("{id}.{seconds}.").as_bytes());
    mac.update(body);
    format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_standards_own_example() {
        let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        assert_eq!(
            sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"{\"test\": 2432232314}"),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }
}
