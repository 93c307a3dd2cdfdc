//! The report: what was measured in this run, and whether it is as it should be.

use std::path::PathBuf;

use entracte_model::time::human_ms;
use serde::Serialize;

use super::screen::{WIDTH, fold};
use super::window::Compared;
use crate::report::Paint;

/// The format of the JSON report.
pub const FORMAT: u32 = 1;

/// Everything that a run came to.
#[derive(Debug, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// Whether all is as it should be.
    pub ok: bool,
    /// What is not, each on a line.
    pub wrong: Vec<String>,
    /// How long the demo took, in milliseconds.
    pub took_ms: u64,
    /// How many lively players there were.
    pub players: usize,
    /// What they asked.
    pub requests: Requests,
    /// What they were promised.
    pub rows: Rows,
    /// The releases, in their order.
    pub releases: Vec<Release>,
    /// What the release that was taken back left behind; nothing where it was not looked at.
    pub taken_back: Option<Compared>,
    /// The page that players saw; nothing where nobody saw one.
    pub page: Option<Page>,
    /// The patch notes that players can read.
    pub news: News,
    /// Where everything is; nothing where it was removed.
    pub dir: Option<PathBuf>,
}

/// Requests of players, without what their banners asked the gate.
#[derive(Debug, Default, Serialize)]
pub struct Requests {
    /// Answered by the game.
    pub by_game: u64,
    /// Answered by the gate's page.
    pub by_page: u64,
    /// Not answered, or with an error.
    pub lost: u64,
    /// Half of the game's answers took at most so long, in microseconds.
    pub p50_us: u64,
    /// 99 of 100 of them took at most so long, in microseconds.
    pub p99_us: u64,
}

/// Rows of the ledger.
#[derive(Debug, Default, Serialize)]
pub struct Rows {
    /// Actions that a player was told "ok" for.
    pub promised: u64,
    /// Those of them that are not in the database.
    pub lost: u64,
    /// Rows of players that nobody was told "ok" for.
    pub unpromised: u64,
}

/// One release.
#[derive(Debug, Serialize)]
pub struct Release {
    /// The version before.
    pub from: String,
    /// The version that was put in.
    pub to: String,
    /// `released`, `taken back`, or what else it was.
    pub outcome: String,
    /// Why it was taken back.
    pub why: Option<String>,
    /// How long the gate was closed, by its own clock, in milliseconds.
    pub closed_ms: Option<u64>,
    /// The longest time between two answers of the game for a player who was in, in milliseconds.
    pub players_without_ms: Option<u64>,
    /// The same for players who stood at the door, closed login included.
    pub door_without_ms: Option<u64>,
}

/// The page that players saw.
#[derive(Debug, Serialize)]
pub struct Page {
    /// Its file, as it came.
    pub file: PathBuf,
    /// When it came, in milliseconds after the players.
    pub at_ms: u64,
    /// What a reader sees.
    pub lines: Vec<String>,
}

/// The patch notes.
#[derive(Debug, Default, Serialize)]
pub struct News {
    /// Where they are.
    pub url: String,
    /// Languages in which the page tells of the release that is live.
    pub languages: Vec<String>,
}

impl Report {
    /// The report for people, one line an entry, at most 96 columns wide.
    pub fn text(&self, paint: Paint) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(page) = &self.page {
            lines.push(format!("\n{}", paint.bold("The page that players saw")));
            lines.extend(super::page::framed(&page.lines));
            lines.push(format!("  {}", paint.dim(page.file.display())));
        }
        lines.push(format!("\n{}", paint.bold("Measured in this run")));
        let entry = |name: &str, text: String| format!("  {name:16} {text}");
        for release in &self.releases {
            lines.push(entry(&format!("{} → {}", release.from, release.to), release.text(paint)));
            lines.extend(release.waits().map(|waits| entry("", waits)));
        }
        if let Some(compared) = &self.taken_back {
            lines.push(entry("left behind", left_behind(compared, paint)));
        }
        let zero = |number: u64| match number {
            0 => paint.good(0),
            number => paint.bad(number),
        };
        let Rows { promised, .. } = self.rows;
        let requests = &self.requests;
        let asked = requests.by_game + requests.by_page + requests.lost;
        lines.push(entry(
            "requests lost",
            format!(
                "{} of {} by {} players ({} met the page)",
                zero(requests.lost),
                grouped(asked),
                self.players,
                grouped(requests.by_page)
            ),
        ));
        lines.push(entry(
            "rows lost",
            format!(
                "{} of {} that a player was told \"ok\" for",
                zero(self.rows.lost),
                grouped(promised)
            ),
        ));
        let (half, most) = (requests.p50_us, requests.p99_us);
        lines.push(entry(
            "answers",
            format!("half within {}, 99 of 100 within {}", fine_ms(half), fine_ms(most)),
        ));
        lines.push(entry(
            "patch notes",
            format!("{} ({})", self.news.url, self.news.languages.join(", ")),
        ));
        lines.push(entry("all of it", human_ms(self.took_ms)));
        lines.extend(self.wrong.iter().map(|wrong| format!("  {} {wrong}", paint.bad("✗"))));
        lines.iter().flat_map(|line| fold(line, WIDTH)).collect()
    }
}

impl Release {
    fn text(&self, paint: Paint) -> String {
        let closed = match self.closed_ms {
            Some(ms) => format!("closed for {}", paint.bold(human_ms(ms))),
            None => "never closed".to_owned(),
        };
        match self.outcome.as_str() {
            "released" => format!("{}, {closed}", paint.good("released")),
            outcome => format!("{}, {closed}", paint.warn(outcome)),
        }
    }

    fn waits(&self) -> Option<String> {
        let inside = self.players_without_ms.map(|ms| format!("{} for who was in", human_ms(ms)));
        let door = self.door_without_ms.map(|ms| format!("{} at the door", human_ms(ms)));
        let waits: Vec<String> = inside.into_iter().chain(door).collect();
        (!waits.is_empty()).then(|| format!("longest without the game: {}", waits.join(", ")))
    }
}

fn left_behind(compared: &Compared, paint: Paint) -> String {
    if compared.differences.is_empty() {
        return format!(
            "{}: {} files and {} rows as before ({} rows were gone in between)",
            paint.good("nothing"),
            compared.files,
            grouped(compared.rows),
            grouped(compared.rows_gone_between)
        );
    }
    paint.bad(compared.differences.join("; ")).to_string()
}

/// A number with its thousands apart: `1,504`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let places = digits.chars().enumerate();
    places.fold(String::new(), |mut out, (at, digit)| {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
        out
    })
}

/// Milliseconds with one decimal, from microseconds.
fn fine_ms(us: u64) -> String {
    format!("{}.{} ms", us / 1_000, us % 1_000 / 100)
}

/// The value that `percent` of the values do not exceed (nearest rank); 0 where there is none.
pub fn percentile(values: &mut [u64], percent: usize) -> u64 {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        assert_eq!(percentile(&mut [], 50), 0);
        assert_eq!(percentile(&mut [9], 99), 9);
        let mut hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut hundred, 50), 50);
        assert_eq!(percentile(&mut hundred, 99), 99);
    }

    #[test]
    fn thousands_are_apart() {
        let all = [0, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn what_went_wrong_is_in_the_text() {
        let paint = Paint { terminal: false };
        let report = Report {
            format: FORMAT,
            ok: false,
            wrong: vec!["2 requests were lost".into()],
            took_ms: 25_000,
            players: 3,
            requests: Requests { by_game: 10, lost: 2, ..Requests::default() },
            rows: Rows::default(),
            releases: vec![],
            taken_back: None,
            page: None,
            news: News::default(),
            dir: None,
        };
        let text = report.text(paint).join("\n");
        assert!(
            text.contains("of 12 by 3 players") && text.contains("2 requests were lost"),
            "{text}"
        );
    }
}
