//! Everything that a player reads, by language.

/// The texts of one language. `{game}`, `{n}` and `{t}` are filled in.
#[derive(Debug)]
pub(crate) struct Strings {
    /// The language's tag.
    pub(crate) lang: &'static str,
    /// Where the game has no name.
    pub(crate) the_game: &'static str,
    pub(crate) closed_title: &'static str,
    pub(crate) closed_lead: &'static str,
    pub(crate) draining_title: &'static str,
    pub(crate) draining_lead: &'static str,
    pub(crate) waiting_title: &'static str,
    pub(crate) waiting_lead: &'static str,
    pub(crate) fault_title: &'static str,
    pub(crate) fault_lead: &'static str,
    /// Over the countdown.
    pub(crate) back_in: &'static str,
    pub(crate) closes_in: &'static str,
    pub(crate) your_turn_in: &'static str,
    /// Under the countdown.
    pub(crate) at_most: &'static str,
    pub(crate) longer: &'static str,
    pub(crate) late: &'static str,
    pub(crate) unknown: &'static str,
    pub(crate) place: &'static str,
    pub(crate) place_first: &'static str,
    pub(crate) progress: &'static str,
    pub(crate) message: &'static str,
    pub(crate) notes: &'static str,
    pub(crate) by_itself: &'static str,
    pub(crate) reload: &'static str,
    /// Lengths of time.
    pub(crate) under_a_minute: &'static str,
    pub(crate) one_minute: &'static str,
    pub(crate) minutes: &'static str,
    pub(crate) hours: &'static str,
    /// The tester's page.
    pub(crate) pass_title: &'static str,
    pub(crate) pass_lead: &'static str,
    pub(crate) pass_token: &'static str,
    pub(crate) pass_enter: &'static str,
    pub(crate) pass_wrong: &'static str,
}

/// English.
pub(crate) static EN: Strings = Strings {
    lang: "en",
    the_game: "The game",
    closed_title: "We are changing the scenery",
    closed_lead: "{game} is closed while a new version is put in place. Your game is kept as you left it.",
    draining_title: "The curtain falls in a moment",
    draining_lead: "{game} closes shortly for an update. Players who are in may finish; nobody new can log in now.",
    waiting_title: "The curtain rises",
    waiting_lead: "{game} is open again. Players are let in one after another, so that it runs well for all.",
    fault_title: "The game does not answer",
    fault_lead: "{game} could not be reached. This is not a planned closing. Please try again in a moment.",
    back_in: "Back in about",
    closes_in: "Closes in",
    your_turn_in: "Your turn in about",
    at_most: "at most {t}",
    longer: "It takes a little longer than planned: at most {t}.",
    late: "It takes longer than planned. We are at it, and open as soon as all is well.",
    unknown: "We open again as soon as all is ready.",
    place: "{n} players are before you.",
    place_first: "You are the next.",
    progress: "Progress",
    message: "A word from the team",
    notes: "What is new",
    by_itself: "This page takes you back by itself.",
    reload: "Try again",
    under_a_minute: "less than a minute",
    one_minute: "1 minute",
    minutes: "{n} minutes",
    hours: "{n} h {m} min",
    pass_title: "Testers' entrance",
    pass_lead: "The token works once and lets this browser into the game while it is closed.",
    pass_token: "Token",
    pass_enter: "Enter",
    pass_wrong: "This token is not valid, or it was used already. Ask for a new one.",
};

/// French.
pub(crate) static FR: Strings = Strings {
    lang: "fr",
    the_game: "Le jeu",
    closed_title: "Changement de décor",
    closed_lead: "{game} : fermeture le temps d’installer une nouvelle version. Votre partie reste telle que vous l’avez laissée.",
    draining_title: "Le rideau tombe dans un instant",
    draining_lead: "{game} : fermeture imminente pour une mise à jour. Les joueurs présents peuvent terminer ; les nouvelles connexions sont suspendues.",
    waiting_title: "Le rideau se lève",
    waiting_lead: "{game} : c’est rouvert ! Les joueurs entrent l’un après l’autre, pour que tout fonctionne bien pour tous.",
    fault_title: "Le jeu ne répond pas",
    fault_lead: "{game} : impossible à joindre. Ce n’est pas une fermeture prévue. Merci de réessayer dans un instant.",
    back_in: "De retour dans environ",
    closes_in: "Fermeture dans",
    your_turn_in: "Votre tour dans environ",
    at_most: "{t} au plus",
    longer: "C’est un peu plus long que prévu : {t} au plus.",
    late: "C’est plus long que prévu. Nous y travaillons et rouvrons dès que tout va bien.",
    unknown: "Nous rouvrons dès que tout est prêt.",
    place: "{n} joueurs sont devant vous.",
    place_first: "C’est bientôt à vous.",
    progress: "Avancement",
    message: "Un mot de l’équipe",
    notes: "Les nouveautés",
    by_itself: "Cette page vous ramène au jeu d’elle-même.",
    reload: "Réessayer",
    under_a_minute: "moins d’une minute",
    one_minute: "1 minute",
    minutes: "{n} minutes",
    hours: "{n} h {m} min",
    pass_title: "Entrée des testeurs",
    pass_lead: "Le jeton sert une seule fois et laisse ce navigateur entrer dans le jeu pendant sa fermeture.",
    pass_token: "Jeton",
    pass_enter: "Entrer",
    pass_wrong: "Ce jeton n’est pas valable ou a déjà servi. Demandez-en un nouveau.",
};

impl Strings {
    /// A length of time, rounded up to minutes, for people.
    pub(crate) fn duration(&self, ms: u64) -> String {
        let minutes = ms.div_ceil(60_000);
        match minutes {
            _ if ms < 60_000 => self.under_a_minute.to_owned(),
            1 => self.one_minute.to_owned(),
            2..=90 => self.minutes.replace("{n}", &minutes.to_string()),
            _ => self
                .hours
                .replace("{n}", &(minutes / 60).to_string())
                .replace("{m}", &(minutes % 60).to_string()),
        }
    }
}

/// The language of a page: the best of those the client accepts that `offered` holds, else the
/// first offered.
pub(crate) fn choose(accept_language: &str, offered: &[String]) -> &'static Strings {
    let known = |tag: &str| match primary(tag).as_str() {
        "en" => Some(&EN),
        "fr" => Some(&FR),
        _ => None,
    };
    let all = [EN.lang.to_owned(), FR.lang.to_owned()];
    let offered = if offered.iter().any(|tag| known(tag).is_some()) { offered } else { &all };
    let is_offered = |strings: &&Strings| offered.iter().any(|tag| primary(tag) == strings.lang);
    let wanted = ranked(accept_language).into_iter().filter_map(|tag| known(&tag)).find(is_offered);
    wanted.or_else(|| offered.iter().find_map(|tag| known(tag))).unwrap_or(&EN)
}

/// The tags of an Accept-Language field, best first (RFC 9110, 12.5.4). Refused ones are left out.
pub(crate) fn ranked(accept_language: &str) -> Vec<String> {
    let mut tags: Vec<(u32, String)> = accept_language
        .split(',')
        .take(32)
        .filter_map(|part| {
            let (tag, parameters) = part.split_once(';').unwrap_or((part, ""));
            let quality = parameters
                .trim()
                .strip_prefix("q=")
                .map_or(Some(1.0), |q| q.trim().parse::<f32>().ok())?;
            let permille = permille(quality).filter(|permille| *permille > 0)?;
            let tag = tag.trim();
            (!tag.is_empty()).then(|| (permille, tag.to_ascii_lowercase()))
        })
        .collect();
    // Stable: among equals, the client's order counts.
    tags.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    tags.into_iter().map(|(_, tag)| tag).collect()
}

/// Nothing for what is no number.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn permille(quality: f32) -> Option<u32> {
    // Between 0 and 1000: exact, and never negative.
    (!quality.is_nan()).then(|| (quality * 1_000.0).clamp(0.0, 1_000.0) as u32)
}

/// `fr` of `fr-CA`.
pub(crate) fn primary(tag: &str) -> String {
    tag.split('-').next().unwrap_or("").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_accepted_language_wins_and_the_first_offered_is_the_default() {
        let offered = ["fr".to_owned(), "en".to_owned()];
        assert_eq!(choose("en-GB,en;q=0.9,fr;q=0.8", &offered).lang, "en");
        assert_eq!(choose("de, fr;q=0.5, en;q=0.4", &offered).lang, "fr");
        assert_eq!(choose("de", &offered).lang, "fr");
        assert_eq!(choose("en;q=0, fr;q=0.1", &[]).lang, "fr");
        assert_eq!(choose("", &[]).lang, "en");
        assert_eq!(choose("fr", &["en".to_owned()]).lang, "en");
        assert_eq!(choose("fr", &["de".to_owned()]).lang, "fr");
        assert_eq!(choose(";;;,q=,en;q=abc", &offered).lang, "fr");
    }

    #[test]
    fn durations_read_naturally() {
        assert_eq!(EN.duration(20_000), "less than a minute");
        assert_eq!(EN.duration(60_000), "1 minute");
        assert_eq!(FR.duration(61_000), "2 minutes");
        assert_eq!(EN.duration(2 * 3_600_000), "2 h 0 min");
    }
}
