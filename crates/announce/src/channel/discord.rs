//! A Discord webhook (<https://discord.com/developers/docs/resources/webhook>).

use std::time::Duration;

use serde_json::{Value, json};

use super::request::{Answer, Request};
use super::{Message, Sent};
use crate::markdown::{parse, to_discord_within, units};

/// The longest description of an embed, in UTF-16 units. With the title it stays below the 6,000
/// that all embeds of a message may have together, since each message has one.
pub const DISCORD_DESCRIPTION_UNITS_MAX: usize = 4_096;
/// The longest title of an embed, in UTF-16 units.
pub const DISCORD_TITLE_UNITS_MAX: usize = 256;
/// The most messages that one text becomes; the rest is where the title leads.
pub const DISCORD_PARTS_MAX: usize = 5;

/// Entracte's amber.
const COLOR: u32 = 0x00e9_a23b;

/// The descriptions of the messages that `message` becomes, at least one.
pub(super) fn descriptions(message: &Message) -> Vec<String> {
    let more = format!("\n\n[…](<{}>)", message.url.replace('(', "%28").replace(')', "%29"));
    let room = DISCORD_DESCRIPTION_UNITS_MAX.saturating_sub(units(&more));
    let mut parts = to_discord_within(&parse(message.text()).without_title(), room);
    if parts.len() > DISCORD_PARTS_MAX {
        parts.truncate(DISCORD_PARTS_MAX);
        if let Some(last) = parts.last_mut() {
            last.push_str(&more);
        }
    }
    if parts.is_empty() {
        parts.push(String::new());
    }
    parts
}

/// Posts the part `message.part`. Discord cannot tell a repetition, so an outcome may be unknown.
pub(super) fn post(api: &str, id: &str, token: &str, message: &Message, timeout: Duration) -> Sent {
    let url = format!("{api}/webhooks/{id}/{token}?wait=true");
    deliver("POST", &url, false, message, timeout)
}

/// Replaces a message. The same replacement twice is the same as once.
pub(super) fn edit(
    api: &str,
    id: &str,
    token: &str,
    remote: &str,
    message: &Message,
    timeout: Duration,
) -> Sent {
    if remote.is_empty() || !remote.bytes().all(|b| b.is_ascii_digit()) {
        return Sent::Dead {
            why: "the number of the message to edit is none of Discord's".to_owned(),
        };
    }
    let url = format!("{api}/webhooks/{id}/{token}/messages/{remote}");
    deliver("PATCH", &url, true, message, timeout)
}

fn deliver(
    method: &'static str,
    url: &str,
    idempotent: bool,
    message: &Message,
    timeout: Duration,
) -> Sent {
    let parts = descriptions(message);
    let Some(description) = parts.get(message.part) else {
        return Sent::Dead {
            why: format!("part {} of a message of {} parts", message.part, parts.len()),
        };
    };
    let body = body(message, description).to_string();
    let request = Request { method, url, headers: &[], body: body.as_bytes(), idempotent };
    match request.send(timeout) {
        Ok(answer) => Sent::Delivered { remote_id: remote_id(&answer) },
        Err(ended) => ended,
    }
}

fn body(message: &Message, description: &str) -> Value {
    let mut embed = json!({ "description": description, "color": COLOR });
    if message.part == 0 {
        embed["title"] = Value::from(cut(&message.title, DISCORD_TITLE_UNITS_MAX));
        embed["url"] = Value::from(message.url.as_str());
        if let Ok(time) = jiff::Timestamp::from_millisecond(message.occurred.0) {
            embed["timestamp"] = Value::from(time.to_string());
        }
    }
    // Whatever the text says, it calls nobody.
    json!({ "embeds": [embed], "allowed_mentions": { "parse": [] } })
}

fn remote_id(answer: &Answer) -> Option<String> {
    let json: Value = serde_json::from_slice(&answer.body).ok()?;
    json.get("id")?.as_str().map(str::to_owned)
}

fn cut(text: &str, units_max: usize) -> String {
    if units(text) <= units_max {
        return text.to_owned();
    }
    let mut out = String::new();
    for char in text.chars() {
        if units(&out) + char.len_utf16() >= units_max {
            break;
        }
        out.push(char);
    }
    out.push('…');
    out
}
