//! The site that players read, written to a real folder and read back with a parser of feeds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use entracte_announce::news::{AnnounceError, FEED_ENTRIES_MAX, Item, write_site};
use entracte_model::UnixMs;

const BASE: &str = "https://game.example/_entracte/news/";

fn item(version: &str, day: i64, en: &str, fr: Option<&str>) -> Item {
    let mut notes = BTreeMap::from([("en".to_owned(), en.to_owned())]);
    notes.extend(fr.map(|text| ("fr".to_owned(), text.to_owned())));
    Item {
        version: version.parse().expect("a good version"),
        date: UnixMs(1_764_000_000_000 + day * 86_400_000),
        notes,
        closed_ms: Some(4_200),
        withdrawn: false,
    }
}

fn sample() -> Vec<Item> {
    let mut broken = item("1.2", 9, "# 1.2\n\n### Added\n\n- Dragons & <b>more</b>.", None);
    broken.withdrawn = true;
    vec![
        item(
            "1.1",
            3,
            "# Version 1.1\n\n### Added\n\n- **Market:** it [opens](https://game.example/m).\n- ![map](images/map.png)",
            Some("### Ajouts\n\n- **Marché :** il ouvre."),
        ),
        item("1.0", 0, "The first.", Some("La première.")),
        broken,
    ]
}

fn languages() -> Vec<String> {
    vec!["en".to_owned(), "fr".to_owned()]
}

fn write(dir: &Path, items: &[Item]) {
    write_site(dir, "Taverne & Cie", BASE, &languages(), items, "game.example")
        .expect("a site of good items");
}

fn everything(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in ["", "en", "fr"] {
        for entry in fs::read_dir(dir.join(folder)).expect("a folder of the site") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let name =
                    path.strip_prefix(dir).expect("a path below the site").display().to_string();
                found.insert(name, fs::read(&path).expect("a page"));
            }
        }
    }
    found
}

#[test]
fn the_whole_site_is_written_and_writing_it_again_changes_nothing() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(one.path(), &sample());
    let first = everything(one.path());
    let mut shuffled = sample();
    shuffled.reverse();
    write(two.path(), &shuffled);
    assert_eq!(everything(two.path()), first);
    let stamp = fs::metadata(one.path().join("en/index.html")).unwrap().modified().unwrap();
    write(one.path(), &sample());
    assert_eq!(everything(one.path()), first);
    assert_eq!(fs::metadata(one.path().join("en/index.html")).unwrap().modified().unwrap(), stamp);
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    let mut expected = vec!["index.html".to_owned()];
    for lang in ["en", "fr"] {
        for file in
            ["1.0.0.html", "1.1.0.html", "1.2.0.html", "atom.xml", "feed.json", "index.html"]
        {
            expected.push(format!("{lang}/{file}"));
        }
    }
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn pages_of_forgotten_versions_stay() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &sample());
    let old = fs::read(dir.path().join("fr/1.0.0.html")).unwrap();
    write(dir.path(), &sample()[..1]);
    assert_eq!(fs::read(dir.path().join("fr/1.0.0.html")).unwrap(), old);
    let index = fs::read_to_string(dir.path().join("fr/index.html")).unwrap();
    assert!(index.contains("1.1.0.html") && !index.contains("1.0.0.html"));
}

#[test]
fn pages_say_what_happened_in_the_players_language() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &sample());
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    let french = read("fr/1.1.0.html");
    assert!(french.starts_with("<!doctype html>\n<html lang=\"fr\">"));
    assert!(french.contains("Taverne &amp; Cie") && french.contains("il ouvre"), "{french}");
    assert!(
        french.contains("27 novembre 2025") && french.contains("fermé pendant 4 s"),
        "{french}"
    );
    assert!(french.contains("href=\"../en/1.1.0.html\""), "{french}");
    let english = read("en/1.1.0.html");
    assert_eq!(english.matches("<h1").count(), 1, "{english}");
    assert!(english.contains("src=\"../images/map.png\""), "{english}");
    let withdrawn = read("fr/1.2.0.html");
    assert!(withdrawn.contains("Cette version a été retirée."));
    assert!(
        withdrawn.contains("Pas encore traduit")
            && withdrawn.contains("<div class=\"notes\" lang=\"en\">")
    );
    assert!(withdrawn.contains("&lt;b&gt;more&lt;/b&gt;"));
    let root = read("index.html");
    assert!(
        root.contains("href=\"en/1.1.0.html\"") && root.contains("href=\"fr/index.html\""),
        "{root}"
    );
    assert!(root.contains("src=\"images/map.png\""), "{root}");
}

#[test]
fn every_link_between_pages_leads_to_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let many: Vec<Item> = (0..9).map(|n| item(&format!("1.{n}"), n, "x", None)).collect();
    write(dir.path(), &many);
    for (name, bytes) in everything(dir.path()) {
        if !name.ends_with(".html") {
            continue;
        }
        let text = String::from_utf8(bytes).unwrap();
        let folder = dir.path().join(&name).parent().unwrap().to_owned();
        let mut links = 0;
        for part in text.split("href=\"").skip(1) {
            let href = part.split('"').next().unwrap();
            assert!(folder.join(href).is_file(), "{name} leads to {href}, which is not there");
            links += 1;
        }
        assert!(links > 4, "{name} has {links} links");
    }
}

#[test]
fn the_atom_feed_is_read_by_a_parser_of_feeds() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &sample());
    let bytes = fs::read(dir.path().join("en/atom.xml")).unwrap();
    let feed = feed_rs::parser::parse(&bytes[..]).unwrap();
    assert_eq!(feed.title.unwrap().content, "Taverne & Cie – News");
    assert_eq!(feed.id, "tag:game.example,2026:news/en");
    assert_eq!(feed.language.as_deref(), Some("en"));
    let ids: Vec<&str> = feed.entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(
        ids,
        ["1.2.0", "1.1.0", "1.0.0"]
            .map(|version| format!("tag:game.example,2026:news/en/{version}"))
    );
    let entry = &feed.entries[1];
    assert_eq!(entry.links[0].href, format!("{BASE}en/1.1.0.html"));
    assert_eq!(entry.updated.unwrap().to_rfc3339(), "2025-11-27T16:00:00+00:00");
    let html = entry.content.as_ref().unwrap().body.as_ref().unwrap();
    assert!(
        html.contains("<strong>Market:</strong>")
            && html.contains(&format!("{BASE}images/map.png")),
        "{html}"
    );
    assert!(feed.entries[0].content.as_ref().unwrap().body.as_ref().unwrap().contains("withdrawn"));
}

#[test]
fn the_json_feed_has_the_same_ids_and_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let many: Vec<Item> = (0..40).map(|n| item(&format!("1.{n}"), n, "x", Some("y"))).collect();
    write(dir.path(), &many);
    let bytes = fs::read(dir.path().join("fr/feed.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(json["version"], "https://jsonfeed.org/version/1.1");
    assert_eq!(json["items"].as_array().unwrap().len(), FEED_ENTRIES_MAX);
    assert_eq!(json["items"][0]["id"], "tag:game.example,2026:news/fr/1.39.0");
    let parsed = feed_rs::parser::parse(&bytes[..]).unwrap();
    assert_eq!(parsed.entries.len(), FEED_ENTRIES_MAX);
}

#[test]
fn an_empty_site_is_still_a_site() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[]);
    feed_rs::parser::parse(&fs::read(dir.path().join("en/atom.xml")).unwrap()[..]).unwrap();
    assert!(fs::read_to_string(dir.path().join("index.html")).unwrap().contains("No news yet."));
}

#[test]
fn arguments_that_make_no_site_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let attempt = |base: &str, languages: &[&str], items: &[Item], host: &str| {
        let languages: Vec<String> = languages.iter().map(ToString::to_string).collect();
        write_site(dir.path(), "G", base, &languages, items, host).unwrap_err()
    };
    let one = [item("1.0", 0, "x", None)];
    assert!(matches!(attempt(BASE, &[], &one, "h.example"), AnnounceError::NoLanguage));
    assert!(matches!(
        attempt(BASE, &["../x"], &one, "h.example"),
        AnnounceError::BadLanguage { .. }
    ));
    assert!(matches!(
        attempt("/news/", &["en"], &one, "h.example"),
        AnnounceError::BadAddress { .. }
    ));
    assert!(matches!(attempt(BASE, &["en"], &one, "h e"), AnnounceError::BadHost { .. }));
    let twice = [item("1.0", 0, "x", None), item("1.0.0", 1, "y", None)];
    assert!(matches!(attempt(BASE, &["en"], &twice, "h.example"), AnnounceError::Twice { .. }));
    let mut never = item("1.0", 0, "x", None);
    never.date = UnixMs(i64::MAX);
    assert!(matches!(attempt(BASE, &["en"], &[never], "h.example"), AnnounceError::BadDate { .. }));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
