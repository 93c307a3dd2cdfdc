//! What players are told, and when: the closing, its cancelling, the patch notes.

use std::collections::BTreeMap;
use std::time::Duration;

use entracte_announce::channel::{Channel, Message, parts};
use entracte_announce::news::{self, Item};
use entracte_model::journal::Fault;
use entracte_model::plan::Source;
use entracte_model::{UnixMs, Version};
use serde::{Deserialize, Serialize};

use crate::clock::now;
use crate::context::Context;
use crate::fault::Doing;
use crate::history;
use crate::store::{Queued, Store};
use crate::target::Target;

/// An announcement of a closing is no news once the closing is that long past, in milliseconds.
const CLOSING_FRESH_MS: u64 = 10 * 60 * 1_000;
/// Patch notes are worth telling for that long, in milliseconds.
const NOTES_FRESH_MS: u64 = 7 * 24 * 3_600 * 1_000;

/// A message as the outbox keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    id: String,
    event: String,
    version: Version,
    title: String,
    lang: String,
    text: BTreeMap<String, String>,
    url: String,
    occurred: UnixMs,
    part: usize,
}

impl Kept {
    pub(crate) fn message(&self) -> Message {
        Message {
            id: self.id.clone(),
            event: self.event.clone(),
            version: self.version.clone(),
            title: self.title.clone(),
            lang: self.lang.clone(),
            text_by_lang: self.text.clone(),
            url: self.url.clone(),
            occurred: self.occurred,
            part: self.part,
        }
    }
}

/// The news of one version as the store keeps them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct KeptItem {
    version: Version,
    date: UnixMs,
    notes: BTreeMap<String, String>,
    closed_ms: Option<u64>,
    withdrawn: bool,
}

/// Queues the announcement of a closing for every channel.
pub(crate) fn queue_closing(
    cx: &mut Context<'_>,
    closes_at: UnixMs,
    reopens: UnixMs,
) -> Result<(), Fault> {
    let minutes = reopens.since(closes_at).div_ceil(60_000);
    let version = cx.plan.to.version.to_string();
    let text = in_languages(cx.target, |french| {
        if french {
            format!(
                "Le jeu ferme pour la version {version}. Retour prévu dans environ {minutes} min."
            )
        } else {
            format!("The game closes for version {version}. Expected back in about {minutes} min.")
        }
    });
    let title = format!("{}: maintenance for {version}", cx.target.game_name);
    queue(cx, "closing", &title, text, closes_at + CLOSING_FRESH_MS)
}

/// Queues the correction of an announcement whose release was taken back.
pub(crate) fn queue_cancelled(cx: &mut Context<'_>) -> Result<(), Fault> {
    let version = cx.plan.to.version.to_string();
    let text = in_languages(cx.target, |french| {
        if french {
            format!("La version {version} est reportée. Le jeu est ouvert, rien n'est perdu.")
        } else {
            format!("Version {version} is postponed. The game is open, nothing is lost.")
        }
    });
    let title = format!("{}: version {version} postponed", cx.target.game_name);
    queue(cx, "cancelled", &title, text, now() + NOTES_FRESH_MS)
}

/// Queues the patch notes.
pub(crate) fn queue_notes(cx: &mut Context<'_>) -> Result<(), Fault> {
    let notes = notes(cx)?;
    if notes.is_empty() {
        return Ok(());
    }
    let title = format!("{} {}", cx.target.game_name, cx.plan.to.version);
    queue(cx, "notes", &title, notes, now() + NOTES_FRESH_MS)
}

fn queue(
    cx: &mut Context<'_>,
    event: &str,
    title: &str,
    text: BTreeMap<String, String>,
    expires: UnixMs,
) -> Result<(), Fault> {
    let lang = default_language(cx.target);
    let base = Kept {
        id: format!("{}/{}/{}/{event}", cx.target.project, cx.target.environment, cx.plan.id),
        event: format!("release.{event}"),
        version: cx.plan.to.version.clone(),
        title: title.to_owned(),
        lang: lang.clone(),
        text,
        url: notes_url(cx),
        occurred: now(),
        part: 0,
    };
    for (name, channel) in &cx.target.announce.channels {
        for part in 0..parts(channel, &base.message()) {
            let kept = Kept { part, ..base.clone() };
            let queued = Queued {
                event: format!("{}/{event}", cx.plan.id),
                channel: name.clone(),
                language: lang.clone(),
                part: u32::try_from(part).unwrap_or(u32::MAX),
                message: serde_json::to_string(&kept).doing("writing a message down")?,
                expires,
            };
            cx.store.queue(&queued, now()).doing("queueing a message")?;
        }
    }
    Ok(())
}

/// A channel that tells a repeated message by its id may get it twice; others may not.
pub(crate) fn idempotent(channel: &Channel) -> bool {
    matches!(channel, Channel::Webhook { .. })
}

/// How long one attempt to send may take.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(5);

fn default_language(target: &Target) -> String {
    target.announce.languages.first().cloned().unwrap_or_else(|| "en".into())
}

fn in_languages(target: &Target, text: impl Fn(bool) -> String) -> BTreeMap<String, String> {
    let languages = &target.announce.languages;
    languages.iter().map(|lang| (lang.clone(), text(lang.starts_with("fr")))).collect()
}

/// Where the patch notes of this release are.
pub(crate) fn notes_url(cx: &Context<'_>) -> String {
    let base = cx.target.announce.news_url.trim_end_matches('/');
    format!("{base}/{}/{}.html", default_language(cx.target), cx.plan.to.version)
}

/// The patch notes in the package, by language.
fn notes(cx: &Context<'_>) -> Result<BTreeMap<String, String>, Fault> {
    let Some(archive) = cx.archive()? else { return Ok(BTreeMap::new()) };
    let mut notes = BTreeMap::new();
    for language in &cx.target.announce.languages {
        let name = format!("PATCHNOTES.{language}.md");
        let named =
            archive.record().documents.iter().any(|document| document.name.as_str() == name);
        if named {
            let bytes = archive.document(&name).doing("reading the patch notes")?;
            notes.insert(language.clone(), String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Ok(notes)
}

/// Writes the news pages and feeds with this release in them. Returns how many versions they tell.
pub(crate) fn publish_news(cx: &mut Context<'_>) -> Result<usize, Fault> {
    let log = cx.store.entries(cx.plan.id, 0).doing("reading the journal")?;
    if let (Source::Kept { undoes, .. }, Some(undone)) = (&cx.plan.source, &cx.plan.from) {
        withdraw(&cx.store, undoes.0, &undone.version)?;
    } else {
        let notes = notes(cx)?;
        let item = KeptItem {
            version: cx.plan.to.version.clone(),
            date: now(),
            notes,
            closed_ms: history::closed_ms(&cx.plan, &log),
            withdrawn: false,
        };
        keep(&cx.store, cx.plan.id.0, &item)?;
    }
    write_news(cx.target, &cx.store)
}

/// Writes the news pages anew from what the store keeps.
pub(crate) fn write_news(target: &Target, store: &Store) -> Result<usize, Fault> {
    let items: Vec<Item> = store
        .news()
        .doing("reading the news")?
        .iter()
        .filter_map(|json| serde_json::from_str::<KeptItem>(json).ok())
        .map(|kept| Item {
            version: kept.version,
            date: kept.date,
            notes: kept.notes,
            closed_ms: kept.closed_ms,
            withdrawn: kept.withdrawn,
        })
        .collect();
    let announce = &target.announce;
    let base_url = format!("{}/", announce.news_url.trim_end_matches('/'));
    let host = host_of(&base_url);
    news::write_site(
        &target.news(),
        &target.game_name,
        &base_url,
        &announce.languages,
        &items,
        &host,
    )
    .doing("writing the news pages")?;
    Ok(items.len())
}

fn withdraw(store: &Store, release: u64, version: &Version) -> Result<(), Fault> {
    let news = store.news().doing("reading the news")?;
    let kept = news.iter().filter_map(|json| serde_json::from_str::<KeptItem>(json).ok());
    for item in kept.filter(|item| item.version == *version) {
        keep(store, release, &KeptItem { withdrawn: true, ..item })?;
    }
    Ok(())
}

fn keep(store: &Store, release: u64, item: &KeptItem) -> Result<(), Fault> {
    let json = serde_json::to_string(item).doing("writing the news down")?;
    store.keep_news(&item.version.to_string(), release, &json).doing("writing the news down")
}

/// The host name of an address, for ids in feeds.
fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    if host.is_empty() { "localhost".into() } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_address_stands_without_port_and_path() {
        assert_eq!(host_of("https://game.example/news/"), "game.example");
        assert_eq!(host_of("http://127.0.0.1:8080/_entracte/news/"), "127.0.0.1");
    }
}
