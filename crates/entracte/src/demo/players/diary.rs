//! What one player wrote down.

use std::time::Duration;

/// What an answer was to a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sorted {
    /// The game answered, and well.
    Game,
    /// The gate's page: come back later.
    Page,
    /// Anything else, which no player should ever see.
    Lost,
}

/// A time without the game, from the last answer of the game to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Since when, from the beginning of the demo.
    pub from: Duration,
    /// Until when.
    pub until: Duration,
    /// Whether the player was in when the page came, and did not leave by themselves.
    pub was_in: bool,
}

/// What one player met.
#[derive(Debug, Default)]
pub struct Diary {
    /// Ids of actions that were answered with "ok".
    pub promised: Vec<String>,
    /// How long each answer of the game took, in microseconds.
    pub took_us: Vec<u64>,
    /// How many times the gate's page came in place of the game.
    pub pages: u64,
    /// What went wrong, each on a line.
    pub lost: Vec<String>,
    /// Times without the game.
    pub outages: Vec<Outage>,
    /// The first page that came, when, and whether it came to a player who was in.
    pub page: Option<(Duration, bool, String)>,
    last_game: Option<Duration>,
    waits_since: Option<(Duration, bool)>,
}

/// Sorts an answer. A page that says 200 and shows an error is lost as well as one that says 500.
pub fn sorted(status: u16, body: &str) -> Sorted {
    match status {
        200 | 303 if !body.contains("Fatal error") => Sorted::Game,
        503 => Sorted::Page,
        _ => Sorted::Lost,
    }
}

impl Diary {
    /// Notes an answer that came at `at` and took `took`; `is_in` says whether the player was in.
    pub fn answered(&mut self, at: Duration, took: Duration, what: Sorted, is_in: bool) {
        match what {
            Sorted::Game => {
                self.took_us.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                if let Some((from, was_in)) = self.waits_since.take() {
                    self.outages.push(Outage { from, until: at, was_in });
                }
                self.last_game = Some(at);
            }
            Sorted::Page => {
                self.pages += 1;
                // A player who had never been in waits since the page came.
                let since = self.last_game.unwrap_or(at);
                self.waits_since.get_or_insert((since, is_in));
            }
            Sorted::Lost => {}
        }
    }

    /// Notes that the player left the game by themselves.
    pub fn left(&mut self, at: Duration) {
        self.last_game = Some(at);
    }

    /// Whether the last thing that came was the gate's page.
    pub fn waits(&self) -> bool {
        self.waits_since.is_some()
    }

    /// Keeps a page; one that came to a player who was in is worth more than one at the door.
    pub fn keep_page(&mut self, at: Duration, is_in: bool, html: &str) {
        let is_html = html.trim_start().starts_with("<!doctype html>");
        let better = self.page.as_ref().is_none_or(|(_, kept_in, _)| is_in && !kept_in);
        if is_html && better {
            self.page = Some((at, is_in, html.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_outage_lasts_from_answer_to_answer_of_the_game() {
        let mut diary = Diary::default();
        for (at, what) in
            [(100, Sorted::Game), (500, Sorted::Page), (700, Sorted::Page), (900, Sorted::Game)]
        {
            diary.answered(ms(at), ms(5), what, true);
        }
        diary.answered(ms(1_300), ms(5), Sorted::Game, true);
        assert_eq!(diary.outages, [Outage { from: ms(100), until: ms(900), was_in: true }]);
        assert_eq!((diary.pages, diary.took_us.len(), diary.waits()), (2, 3, false));
    }

    #[test]
    fn an_error_that_says_two_hundred_is_lost() {
        assert_eq!(sorted(200, "<b>Fatal error</b>: no such column"), Sorted::Lost);
        assert_eq!(sorted(502, ""), Sorted::Lost);
        assert_eq!(sorted(404, ""), Sorted::Lost);
        assert_eq!(sorted(303, ""), Sorted::Game);
        assert_eq!(sorted(503, "<!doctype html>"), Sorted::Page);
    }

    #[test]
    fn the_page_of_a_player_who_was_in_is_kept_before_one_of_the_door() {
        let mut diary = Diary::default();
        diary.keep_page(ms(1), false, "{\"title\":\"closed\"}");
        assert_eq!(diary.page, None);
        diary.keep_page(ms(2), false, "<!doctype html>door");
        diary.keep_page(ms(3), true, "<!doctype html>in");
        diary.keep_page(ms(4), true, "<!doctype html>later");
        assert_eq!(diary.page, Some((ms(3), true, "<!doctype html>in".to_owned())));
    }
}
