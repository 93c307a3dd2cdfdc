//! Tell: the news pages and every channel say what changed. Failures here only warn.

use entracte_model::journal::{Fault, Level};
use entracte_model::progress::Probe;
use serde_json::Value;

use super::Act;
use crate::context::Context;
use crate::messages;
use crate::outbox;

pub(crate) struct Tell;

impl Act for Tell {
    fn before(&self, _: &mut Context<'_>) -> Result<Value, Fault> {
        Ok(Value::Null)
    }

    fn run(&self, cx: &mut Context<'_>, _: &Value) -> Result<Value, Fault> {
        let pages = messages::publish_news(cx)?;
        let versions = if pages == 1 { "version" } else { "versions" };
        cx.info(format!("news: {pages} {versions} at {}", cx.target.announce.news_url));
        messages::queue_notes(cx)?;
        let waiting = outbox::flush(cx);
        if waiting > 0 {
            let text = format!("{waiting} announcements wait and will be tried again");
            cx.say(Level::Warning, text);
        }
        Ok(Value::Null)
    }

    fn probe(&self, _: &mut Context<'_>, _: &Value) -> Probe {
        // Pages are written whole; the outbox takes an announcement only once.
        Probe::NotDone
    }
}
