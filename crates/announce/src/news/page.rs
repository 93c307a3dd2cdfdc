//! The pages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use entracte_model::html::escape as esc;
use sha2::{Digest, Sha256};

use super::{Entry, Site};
use crate::language::{Words, native_name};
use crate::markdown::to_html_with;

const STYLE: &str = include_str!("style.css");

/// How many releases an index shows with their text; the older ones are a list of links.
const FULL_ENTRIES: usize = 5;

/// The index of `lang`, where `down` leads from the page to the language's folder.
pub(super) fn index(site: &Site, lang: &str, down: &str) -> String {
    let words = Words::of(lang);
    let up = if down.is_empty() { "../" } else { "" };
    let mut main = String::new();
    for (at, entry) in site.items.iter().take(FULL_ENTRIES).enumerate() {
        main.push_str(&article(
            site,
            lang,
            words,
            entry,
            &Frame { up, down, alone: false, newest: at == 0 },
        ));
    }
    if site.items.is_empty() {
        main.push_str(&format!("<p class=\"none\">{}</p>\n", words.no_news));
    }
    if site.items.len() > FULL_ENTRIES {
        main.push_str("<ul class=\"older\">\n");
        for entry in site.items.iter().skip(FULL_ENTRIES) {
            let version = esc(&entry.version);
            let struck = if entry.item.withdrawn {
                format!(" <em>{}</em>", words.withdrawn)
            } else {
                String::new()
            };
            main.push_str(&format!(
                "<li><a href=\"{down}{version}.html\">{} {version}</a> {}{struck}</li>\n",
                words.version,
                time(words, entry),
            ));
        }
        main.push_str("</ul>\n");
    }
    let title = format!("{} – {}", site.game, words.news);
    let switch = |other: &str| format!("{up}{other}/index.html");
    shell(site, lang, &Shell { title: &title, down, main: &main, back: None, switch: &switch })
}

/// The page of one release.
pub(super) fn release(site: &Site, lang: &str, entry: &Entry) -> String {
    let words = Words::of(lang);
    let frame = Frame { up: "../", down: "", alone: true, newest: false };
    let main = article(site, lang, words, entry, &frame);
    let title = format!("{} {} – {}", words.version, entry.version, site.game);
    let switch = |other: &str| format!("../{other}/{}.html", entry.version);
    let shell_of =
        Shell { title: &title, down: "", main: &main, back: Some(words.all_news), switch: &switch };
    shell(site, lang, &shell_of)
}

/// Where an article stands.
struct Frame<'a> {
    /// From the page to the site's root.
    up: &'a str,
    /// From the page to the language's folder.
    down: &'a str,
    /// Whether it is the page's only one.
    alone: bool,
    newest: bool,
}

fn article(site: &Site, lang: &str, words: &Words, entry: &Entry, frame: &Frame) -> String {
    let version = esc(&entry.version);
    let heading = if frame.alone {
        format!("<h1>{} {version}</h1>", words.version)
    } else {
        format!("<h2><a href=\"{}{version}.html\">{} {version}</a></h2>", frame.down, words.version)
    };
    let mut facts = time(words, entry);
    if let Some(ms) = entry.item.closed_ms {
        facts.push_str(&format!(
            "<span class=\"closed\">{} {}</span>",
            words.closed_for,
            words.duration(ms)
        ));
    }
    let mut notices = String::new();
    if entry.item.withdrawn {
        notices.push_str(&format!("<p class=\"withdrawn\">{}</p>\n", words.withdrawn));
    }
    let notes = match entry.notes(lang, site.languages) {
        Some((tag, doc)) if !doc.is_empty() => {
            if tag != lang {
                notices
                    .push_str(&format!("<p class=\"untranslated\">{}</p>\n", words.untranslated));
            }
            let marked = if tag == lang { String::new() } else { format!(" lang=\"{tag}\"") };
            format!("<div class=\"notes\"{marked}>\n{}</div>\n", to_html_with(&doc, frame.up))
        }
        _ => format!("<p class=\"none\">{}</p>\n", words.nothing),
    };
    let class = match (entry.item.withdrawn, frame.newest) {
        (true, _) => " class=\"gone\"",
        (false, true) => " class=\"newest\"",
        (false, false) => "",
    };
    format!(
        "<article{class}>\n<header>{heading}<p class=\"facts\">{facts}</p></header>\n{notices}{notes}</article>\n"
    )
}

fn time(words: &Words, entry: &Entry) -> String {
    let (year, month, day) = entry.day;
    format!("<time datetime=\"{}\">{}</time>", entry.rfc3339, words.date(year, month, day))
}

/// What surrounds the main part of a page.
struct Shell<'a> {
    title: &'a str,
    down: &'a str,
    main: &'a str,
    back: Option<&'a str>,
    /// The address of the same page in another language.
    switch: &'a dyn Fn(&str) -> String,
}

fn shell(site: &Site, lang: &str, page: &Shell) -> String {
    let words = Words::of(lang);
    let (game, title, down) = (esc(site.game), esc(page.title), page.down);
    // No script, no font, no frame from anywhere: a page that says so cannot be made to load one.
    let style_hash = BASE64.encode(Sha256::digest(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style_hash}'; img-src 'self'; base-uri 'none'; form-action 'none'"
    );
    let back = match page.back {
        Some(text) => format!("<p class=\"back\"><a href=\"{down}index.html\">← {text}</a></p>\n"),
        None => String::new(),
    };
    let name = match page.back {
        Some(_) => format!("<p class=\"game\"><a href=\"{down}index.html\">{game}</a></p>"),
        None => format!("<h1 class=\"game\">{game}<span> {}</span></h1>", words.news),
    };
    format!(
        "<!doctype html>\n<html lang=\"{lang}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <link rel=\"alternate\" type=\"application/atom+xml\" title=\"{game}\" href=\"{down}atom.xml\">\n\
         <link rel=\"alternate\" type=\"application/feed+json\" title=\"{game}\" href=\"{down}feed.json\">\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<header class=\"site\"><div>\n{name}\n{}</div></header>\n\
         <main>\n{}{back}</main>\n\
         <footer><a href=\"{down}atom.xml\">{} (Atom)</a> <a href=\"{down}feed.json\">{} (JSON)</a></footer>\n\
         </body>\n</html>\n",
        chooser(site, lang, words, page),
        page.main,
        words.feed,
        words.feed,
    )
}

/// The way to the other languages, where there are any.
fn chooser(site: &Site, lang: &str, words: &Words, page: &Shell) -> String {
    if site.languages.len() < 2 {
        return String::new();
    }
    let mut out = format!("<nav aria-label=\"{}\">", words.languages);
    for other in site.languages {
        let name = esc(native_name(other));
        if other == lang {
            out.push_str(&format!("<span aria-current=\"true\">{name}</span>"));
        } else {
            let address = (page.switch)(other);
            out.push_str(&format!(
                "<a href=\"{address}\" lang=\"{other}\" hreflang=\"{other}\">{name}</a>"
            ));
        }
    }
    out.push_str("</nav>\n");
    out
}
