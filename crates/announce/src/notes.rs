//! Patch notes: the fragments of a release as one text a language.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use entracte_model::Version;

use crate::fragment::{Audience, Fragment, Kind};
use crate::language::Words;
use crate::markdown::escape;

/// The patch notes of `version` in `lang`, as Markdown: a title, then what players are told, by
/// kind and area. `date` is shown as it is given.
///
/// Where a fragment has no text in `lang`, its English one stands in, else its first: a change
/// that is told in another language is better than one that is not told. A change and the one that
/// takes it back in the same release are both left out, since players never saw either.
pub fn patch_notes(version: &Version, date: &str, lang: &str, fragments: &[Fragment]) -> String {
    let words = Words::of(lang);
    let told = told(fragments);
    let mut out = format!("# {} {version}", words.version);
    if !date.is_empty() {
        // Writing into a String cannot fail.
        let _ = write!(out, " ({})", escape(date));
    }
    out.push('\n');
    if told.is_empty() {
        let _ = write!(out, "\n{}\n", words.nothing);
    }
    for kind in Kind::ALL {
        let mut of_kind: Vec<&Fragment> =
            told.iter().copied().filter(|one| one.kind == kind).collect();
        of_kind.sort_by(|a, b| (&a.area, &a.slug).cmp(&(&b.area, &b.slug)));
        if of_kind.is_empty() {
            continue;
        }
        let _ = write!(out, "\n### {}\n\n", words.kind(kind));
        for fragment in of_kind {
            out.push_str(&item(fragment, lang, words));
        }
    }
    out
}

/// The languages in which a fragment for players has no text, as (slug, language).
pub fn missing_languages(fragments: &[Fragment], languages: &[String]) -> Vec<(String, String)> {
    let told = told(fragments);
    let absent = |fragment: &&Fragment, lang: &&String| !fragment.text.contains_key(lang.as_str());
    told.iter()
        .flat_map(|fragment| {
            languages
                .iter()
                .filter(move |lang| absent(fragment, lang))
                .map(|lang| (fragment.slug.clone(), lang.clone()))
        })
        .collect()
}

/// What players are told: their fragments, less those that cancel out within this release.
fn told(fragments: &[Fragment]) -> Vec<&Fragment> {
    let here: BTreeSet<&str> = fragments.iter().map(|one| one.slug.as_str()).collect();
    let taken_back: BTreeSet<&str> = fragments
        .iter()
        .filter_map(|one| one.reverts.as_deref())
        .filter(|slug| here.contains(slug))
        .collect();
    let cancels =
        |one: &Fragment| one.reverts.as_deref().is_some_and(|slug| taken_back.contains(slug));
    fragments
        .iter()
        .filter(|one| one.audience == Audience::Players)
        .filter(|one| !cancels(one) && !taken_back.contains(one.slug.as_str()))
        .collect()
}

/// One fragment as an item of a list, its further lines indented below it.
fn item(fragment: &Fragment, lang: &str, words: &Words) -> String {
    let text = [lang, lang.split('-').next().unwrap_or(lang), "en"]
        .iter()
        .find_map(|tag| fragment.text.get(*tag))
        .or_else(|| fragment.text.values().next())
        .map(String::as_str)
        .unwrap_or_default();
    let mut out = String::from("- ");
    if let Some(area) = &fragment.area {
        let _ = write!(out, "**{}{}** ", escape(&capitalised(area)), words.colon);
    }
    for (index, line) in text.trim().lines().enumerate() {
        if index > 0 {
            out.push_str(if line.trim().is_empty() { "\n" } else { "\n  " });
        }
        out.push_str(line);
    }
    out.push('\n');
    out
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fragment::parse;

    fn fragment(slug: &str, keys: &str, body: &str) -> Fragment {
        parse(&format!("{slug}.md"), format!("+++\n{keys}\n+++\n{body}").as_bytes()).unwrap()
    }

    fn sample() -> Vec<Fragment> {
        let players = "audience = \"players\"";
        vec![
            fragment(
                "market",
                &format!("kind = \"added\"\n{players}\narea = \"market\""),
                "## en\nIt opens.\n\n- at dawn\n## fr\nIl ouvre.",
            ),
            fragment("bow", &format!("kind = \"balance\"\n{players}"), "## en\nWeaker bow."),
            fragment("cron", "kind = \"internal\"\naudience = \"operators\"", "## en\nNew cron."),
            fragment("oops", &format!("kind = \"changed\"\n{players}"), "## en\nOops."),
            fragment(
                "undo",
                &format!("kind = \"changed\"\n{players}\nreverts = \"oops\""),
                "## en\nNo oops.",
            ),
        ]
    }

    #[test]
    fn notes_are_by_kind_for_players_only() {
        let notes = patch_notes(&"1.1".parse().unwrap(), "2026-11-23", "en", &sample());
        assert_eq!(
            notes,
            "# Version 1.1.0 (2026-11-23)\n\n### Added\n\n- **Market:** It opens.\n\n  - at dawn\n\n### Balance\n\n- Weaker bow.\n"
        );
    }

    #[test]
    fn another_language_has_its_headings_and_falls_back_to_english_texts() {
        let notes = patch_notes(&"1.1".parse().unwrap(), "", "fr", &sample());
        assert_eq!(
            notes,
            "# Version 1.1.0\n\n### Ajouts\n\n- **Market\u{a0}:** Il ouvre.\n\n### Équilibrage\n\n- Weaker bow.\n"
        );
        let languages = ["en".to_owned(), "fr".to_owned()];
        assert_eq!(missing_languages(&sample(), &languages), [("bow".to_owned(), "fr".to_owned())]);
    }

    #[test]
    fn a_revert_of_an_earlier_release_is_told() {
        let undo = fragment(
            "undo",
            "kind = \"changed\"\naudience = \"players\"\nreverts = \"old\"",
            "## en\nBack.",
        );
        assert!(patch_notes(&"1.2".parse().unwrap(), "", "en", &[undo]).contains("- Back."));
    }

    #[test]
    fn a_release_without_visible_changes_says_so() {
        let notes = patch_notes(&"1.1".parse().unwrap(), "", "fr", &[]);
        assert!(notes.contains("Rien ne change"), "{notes}");
    }
}
