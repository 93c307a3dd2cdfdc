//! The same pages as files, for a front that is not ours: what it shows is rendered beforehand, for
//! each language, and read by the front at each request.

use entracte_model::UnixMs;
use entracte_model::gate::{PageKind, Phase, State};
use entracte_model::html::escape;
use hyper::header::HeaderValue;
use serde_json::{Value, json};

use super::strings::{self, Strings};
use super::words::{Words, message_for};
use super::{POLICY, STYLE, TEMPLATE, document, fill, policy, problem_of};
use crate::core::View;

/// Takes the secret from behind the `#`, which no server ever sees, into a cookie.
const PASS_SCRIPT: &str = "(function () {
  \"use strict\";
  var token = location.hash.slice(1);
  if (!/^[A-Za-z0-9_-]{43}$/.test(token)) return;
  document.cookie = \"entracte_pass=\" + token + \"; Path=/; SameSite=Lax\" +
    (location.protocol === \"https:\" ? \"; Secure\" : \"\");
  location.replace(\"/\");
})();
";

/// What the pages are made from.
pub(crate) struct Alone<'a> {
    pub(crate) game_name: &'a str,
    pub(crate) languages: &'a [String],
    pub(crate) state: &'a State,
    pub(crate) now: UnixMs,
}

impl Alone<'_> {
    /// The languages that there are pages in, the default one first.
    pub(crate) fn strings(&self) -> Vec<&'static Strings> {
        let mut all = vec![strings::choose("", self.languages)];
        for tag in ["en", "fr"] {
            let strings = strings::choose(tag, self.languages);
            if all.iter().all(|known| known.lang != strings.lang) {
                all.push(strings);
            }
        }
        all
    }

    fn view(&self) -> View {
        View { state: self.state.clone(), now: self.now, ahead: None, enter: false }
    }

    fn game(&self, strings: &Strings) -> String {
        let name = self.game_name.trim();
        if name.is_empty() { strings.the_game.to_owned() } else { name.to_owned() }
    }

    /// The page for browsers. With `timeless` it holds no time of its own, and its script asks at
    /// once: for a front that keeps its pages in memory.
    pub(crate) fn html(
        &self,
        strings: &'static Strings,
        kind: PageKind,
        retry_s: u64,
        timeless: bool,
    ) -> String {
        let mut words = Words::of(strings, kind, &self.view(), &self.game(strings));
        let mut poll_s = retry_s;
        if timeless {
            words.big = Some(String::new());
            poll_s = 1;
        }
        words.forget_now();
        document(strings, &words, poll_s, retry_s)
    }

    /// The problem document for programs.
    pub(crate) fn problem(
        &self,
        strings: &'static Strings,
        kind: PageKind,
        retry_s: u64,
    ) -> String {
        let view = self.view();
        let words = Words::of(strings, kind, &view, &self.game(strings));
        let mut body = problem_of(503, &words, &view, strings, retry_s);
        // Made beforehand, it would be the time of its making.
        body["server_time"] = Value::Null;
        body.to_string()
    }

    /// What the page's script asks for.
    pub(crate) fn status(&self) -> Value {
        let goal = &self.state.goal;
        let strings = strings::choose("", self.languages);
        let shut = matches!(self.state.phase, Phase::Draining | Phase::Holding | Phase::Closed);
        json!({
            "phase": self.state.phase,
            "generation": goal.generation,
            "since": self.state.since,
            "closes_at": goal.closes_at,
            "deadline": goal.deadline,
            "reopens": { "p50": goal.reopens_p50, "p90": goal.reopens_p90 },
            "progress": goal.progress,
            "message": message_for(goal, strings),
            "version": goal.version,
            "notes_url": goal.notes_url,
            "enter": !shut,
            "poll_after_ms": if shut { 5_000 } else { 30_000 },
        })
    }

    /// The testers' entrance: a link with the secret behind `#` makes a cookie of it.
    pub(crate) fn pass_page(&self) -> String {
        let strings = strings::choose("", self.languages);
        fill(TEMPLATE, |name| {
            Some(match name {
                "lang" => strings.lang.to_owned(),
                "title" => strings.pass_title.to_owned(),
                "game" => escape(&self.game(strings)),
                "refresh" => "86400".to_owned(),
                "style" => STYLE.to_owned(),
                "script" => PASS_SCRIPT.to_owned(),
                "data" => "{}".to_owned(),
                _ => return None,
            })
        })
    }
}

/// The policy of the pages, and that of the testers' entrance.
pub(crate) fn policies() -> (String, String) {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    (text(&POLICY), text(&policy(PASS_SCRIPT)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use entracte_model::gate::Goal;

    #[test]
    fn a_page_made_beforehand_tells_no_time_of_its_making() {
        let mut state = State::initial(UnixMs(1_000));
        state.phase = Phase::Closed;
        state.goal = Goal::new(3, Phase::Closed, "r1");
        state.goal.reopens_p50 = Some(UnixMs(61_000));
        let languages = ["fr".to_owned(), "en".to_owned()];
        let alone = Alone {
            game_name: "Taverne",
            languages: &languages,
            state: &state,
            now: UnixMs(1_000),
        };
        let strings = alone.strings();
        assert_eq!(strings.iter().map(|strings| strings.lang).collect::<Vec<_>>(), ["fr", "en"]);
        let page = alone.html(strings[0], PageKind::Closed, 60, false);
        assert!(page.contains("&quot;now&quot;:null") && page.contains("Taverne"), "{page}");
        assert!(page.contains("&quot;until&quot;:61000"), "{page}");
        let problem = alone.problem(strings[0], PageKind::Closed, 60);
        assert!(problem.contains("\"server_time\":null") && problem.contains("\"status\":503"));
        assert_eq!(alone.status()["enter"], false);
    }
}
