//! Languages: their tags, and the words that the pages and notes are built from.

use crate::fragment::Kind;

/// The longest language tag that is taken, in bytes.
pub const TAG_BYTES_MAX: usize = 35;

/// Whether `tag` has the form of a language tag in the sense of BCP 47
/// (<https://www.rfc-editor.org/info/bcp47>): `en`, `fr`, `pt-BR`, `zh-Hant`.
///
/// A tag that passes is also safe as the name of a folder.
pub fn is_tag(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let primary = parts.next().unwrap_or_default();
    tag.len() <= TAG_BYTES_MAX
        && (2..=3).contains(&primary.len())
        && primary.bytes().all(|b| b.is_ascii_lowercase())
        && parts.all(|part| {
            (2..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
        })
}

/// The words of one language. Where a language is not known, the English ones are used.
pub(crate) struct Words {
    pub news: &'static str,
    pub version: &'static str,
    pub nothing: &'static str,
    pub all_news: &'static str,
    pub languages: &'static str,
    pub closed_for: &'static str,
    pub withdrawn: &'static str,
    pub no_news: &'static str,
    pub feed: &'static str,
    pub untranslated: &'static str,
    pub colon: &'static str,
    months: [&'static str; 12],
    kinds: [&'static str; 7],
    units: [&'static str; 4],
}

const ENGLISH: Words = Words {
    news: "News",
    version: "Version",
    nothing: "Nothing changes for players in this version.",
    all_news: "All news",
    languages: "Languages",
    closed_for: "The game was closed for",
    withdrawn: "This version was withdrawn.",
    no_news: "No news yet.",
    feed: "Feed",
    untranslated: "Not translated yet",
    colon: ":",
    months: [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    kinds: ["Added", "Changed", "Fixed", "Balance", "Removed", "Security", "Behind the scenes"],
    units: ["ms", "s", "min", "h"],
};

const FRENCH: Words = Words {
    news: "Nouveautés",
    version: "Version",
    nothing: "Rien ne change pour les joueurs dans cette version.",
    all_news: "Toutes les nouveautés",
    languages: "Langues",
    closed_for: "Le jeu a été fermé pendant",
    withdrawn: "Cette version a été retirée.",
    no_news: "Pas encore de nouveautés.",
    feed: "Flux",
    untranslated: "Pas encore traduit",
    colon: "\u{a0}:",
    months: [
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ],
    kinds: [
        "Ajouts",
        "Changements",
        "Corrections",
        "Équilibrage",
        "Retraits",
        "Sécurité",
        "En coulisses",
    ],
    units: ["ms", "s", "min", "h"],
};

impl Words {
    /// The words for `tag`, by its primary language.
    pub(crate) fn of(tag: &str) -> &'static Words {
        match tag.split('-').next() {
            Some("fr") => &FRENCH,
            _ => &ENGLISH,
        }
    }

    /// The heading for changes of `kind`.
    pub(crate) fn kind(&self, kind: Kind) -> &'static str {
        self.kinds[match kind {
            Kind::Added => 0,
            Kind::Changed => 1,
            Kind::Fixed => 2,
            Kind::Balance => 3,
            Kind::Removed => 4,
            Kind::Security => 5,
            Kind::Internal => 6,
        }]
    }

    /// A date as people write it in this language: `23 November 2026`, `1er mai 2026`.
    pub(crate) fn date(&self, year: i16, month: i8, day: i8) -> String {
        let name =
            usize::try_from(month - 1).ok().and_then(|at| self.months.get(at)).unwrap_or(&"?");
        let ordinal = if day == 1 && self.months[0] == FRENCH.months[0] { "er" } else { "" };
        format!("{day}{ordinal} {name} {year}")
    }

    /// A duration as people say it: `840 ms`, `42 s`, `3 min 20 s`, `2 h 5 min`.
    pub(crate) fn duration(&self, ms: u64) -> String {
        let [milli, second, minute, hour] = self.units;
        let two = |large: u64, unit: &str, small: u64, sub: &str| match small {
            0 => format!("{large} {unit}"),
            _ => format!("{large} {unit} {small} {sub}"),
        };
        match ms {
            0..1_000 => format!("{ms} {milli}"),
            1_000..60_000 => format!("{} {second}", ms / 1_000),
            60_000..3_600_000 => two(ms / 60_000, minute, ms % 60_000 / 1_000, second),
            _ => two(ms / 3_600_000, hour, ms % 3_600_000 / 60_000, minute),
        }
    }
}

/// The name of a language in that language, or its tag where it is not in the list.
pub(crate) fn native_name(tag: &str) -> &str {
    match tag.split('-').next() {
        Some("cs") => "Čeština",
        Some("de") => "Deutsch",
        Some("en") => "English",
        Some("es") => "Español",
        Some("fr") => "Français",
        Some("hu") => "Magyar",
        Some("it") => "Italiano",
        Some("ja") => "日本語",
        Some("ko") => "한국어",
        Some("nl") => "Nederlands",
        Some("pl") => "Polski",
        Some("pt") => "Português",
        Some("ru") => "Русский",
        Some("tr") => "Türkçe",
        Some("uk") => "Українська",
        Some("zh") => "中文",
        _ => tag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_recognised_and_paths_are_not() {
        for tag in ["en", "fr", "pt-BR", "zh-Hant", "gsw"] {
            assert!(is_tag(tag), "{tag} was refused");
        }
        for text in
            ["", "e", "EN", "..", "en/", "en-", "en-x/..", "english", "en_US", "en-toolongpart"]
        {
            assert!(!is_tag(text), "{text:?} was taken");
        }
    }

    #[test]
    fn dates_and_durations_follow_the_language() {
        assert_eq!(Words::of("en").date(2026, 11, 23), "23 November 2026");
        assert_eq!(Words::of("fr-CA").date(2026, 5, 1), "1er mai 2026");
        assert_eq!(Words::of("de").duration(200_000), "3 min 20 s");
        assert_eq!(Words::of("fr").duration(7_200_000), "2 h");
        assert_eq!(Words::of("fr").duration(840), "840 ms");
    }
}
