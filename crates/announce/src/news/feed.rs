//! The feeds: Atom (<https://www.rfc-editor.org/rfc/rfc4287>) and JSON Feed 1.1
//! (<https://www.jsonfeed.org/version/1.1/>), one of each a language.

use atom_syndication::{Content, Feed, FixedDateTime, Generator, Link, Person, Text};
use serde::Serialize;

use super::{Entry, Site};
use crate::language::Words;
use crate::markdown::to_html_with;

/// The most entries in a feed, the newest first: readers have the older ones already.
pub const FEED_ENTRIES_MAX: usize = 30;

/// The date in `tag:` ids (RFC 4151). Fixed, so that neither a corrected release date nor a new
/// year makes readers show everything again.
const TAG_YEAR: &str = "2026";

pub(super) fn atom(site: &Site, lang: &str) -> String {
    let words = Words::of(lang);
    let page = format!("{}{lang}/", site.base_url);
    let mut feed = Feed::default();
    feed.set_lang(lang.to_owned());
    feed.set_id(tag(site, lang, ""));
    feed.set_title(title(site, words));
    feed.set_updated(date(newest(site)));
    feed.set_authors(vec![Person { name: site.game.to_owned(), ..Person::default() }]);
    feed.set_generator(Generator { value: "Entracte".to_owned(), ..Generator::default() });
    feed.set_links(vec![
        link("self", "application/atom+xml", format!("{page}atom.xml")),
        link("alternate", "text/html", page.clone()),
    ]);
    feed.set_entries(
        recent(site).map(|entry| atom_entry(site, lang, words, entry)).collect::<Vec<_>>(),
    );
    let mut text = feed.to_string();
    text.push('\n');
    text
}

fn atom_entry(site: &Site, lang: &str, words: &Words, entry: &Entry) -> atom_syndication::Entry {
    let (notes_lang, html) = content(site, lang, words, entry);
    let mut out = atom_syndication::Entry::default();
    out.set_id(tag(site, lang, &entry.version));
    out.set_title(Text::plain(headline(words, entry)));
    out.set_updated(date(&entry.rfc3339));
    out.set_published(date(&entry.rfc3339));
    out.set_links(vec![link("alternate", "text/html", address(site, lang, entry))]);
    let mut content = Content::default();
    content.set_lang((notes_lang != lang).then(|| notes_lang.clone()));
    content.set_content_type("html".to_owned());
    content.set_value(html);
    out.set_content(content);
    out
}

#[derive(Serialize)]
struct JsonFeed {
    version: &'static str,
    title: String,
    home_page_url: String,
    feed_url: String,
    language: String,
    items: Vec<JsonItem>,
}

#[derive(Serialize)]
struct JsonItem {
    id: String,
    url: String,
    title: String,
    content_html: String,
    date_published: String,
    language: String,
}

pub(super) fn json(site: &Site, lang: &str) -> String {
    let words = Words::of(lang);
    let page = format!("{}{lang}/", site.base_url);
    let items = recent(site).map(|entry| {
        let (language, content_html) = content(site, lang, words, entry);
        JsonItem {
            id: tag(site, lang, &entry.version),
            url: address(site, lang, entry),
            title: headline(words, entry),
            content_html,
            date_published: entry.rfc3339.clone(),
            language,
        }
    });
    let feed = JsonFeed {
        version: "https://jsonfeed.org/version/1.1",
        title: title(site, words),
        feed_url: format!("{page}feed.json"),
        home_page_url: page,
        language: lang.to_owned(),
        items: items.collect(),
    };
    let mut text =
        serde_json::to_string_pretty(&feed).expect("texts and lists always have a JSON form");
    text.push('\n');
    text
}

/// The notes as HTML with full addresses, and their language.
fn content(site: &Site, lang: &str, words: &Words, entry: &Entry) -> (String, String) {
    let (language, notes) = entry.notes(lang, site.languages).map_or_else(
        || (lang.to_owned(), format!("<p>{}</p>\n", words.nothing)),
        |(tag, doc)| (tag.to_owned(), to_html_with(&doc, site.base_url)),
    );
    let withdrawn = if entry.item.withdrawn {
        format!("<p><strong>{}</strong></p>\n", words.withdrawn)
    } else {
        String::new()
    };
    (language, format!("{withdrawn}{notes}"))
}

fn recent<'s>(site: &'s Site<'s>) -> impl Iterator<Item = &'s Entry<'s>> {
    site.items.iter().take(FEED_ENTRIES_MAX)
}

fn newest<'s>(site: &'s Site) -> &'s str {
    site.items.first().map_or("1970-01-01T00:00:00Z", |entry| &entry.rfc3339)
}

fn title(site: &Site, words: &Words) -> String {
    format!("{} – {}", site.game, words.news)
}

fn headline(words: &Words, entry: &Entry) -> String {
    format!("{} {}", words.version, entry.version)
}

fn address(site: &Site, lang: &str, entry: &Entry) -> String {
    format!("{}{lang}/{}.html", site.base_url, entry.version)
}

fn tag(site: &Site, lang: &str, version: &str) -> String {
    let slash = if version.is_empty() { "" } else { "/" };
    format!("tag:{},{TAG_YEAR}:news/{lang}{slash}{version}", site.host)
}

fn link(rel: &str, mime: &str, href: String) -> Link {
    Link { rel: rel.to_owned(), mime_type: Some(mime.to_owned()), href, ..Link::default() }
}

fn date(rfc3339: &str) -> FixedDateTime {
    rfc3339.parse().expect("a date that was written in this form a moment ago")
}
