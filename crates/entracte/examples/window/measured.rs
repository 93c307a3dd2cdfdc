//! What was measured, as a table and as a verdict.

use std::fmt::Write as _;

use entracte_testbed::bulk::Bulk;

/// The parts of the closed time, in the order of their columns.
pub const PARTS: [&str; 7] = ["fence", "point", "scripts", "files", "smoke", "reopen", "other"];

/// What one side took.
pub struct Side {
    pub closed_ms: u64,
    /// As the players saw it: from the last answer before the first page to the first one after.
    pub seen_ms: Option<u64>,
    /// Milliseconds by the places of [`PARTS`].
    pub parts_ms: [u64; PARTS.len()],
}

impl Side {
    /// The parts that were named; what they leave of the closed time is `other`.
    pub fn new(closed_ms: u64, seen_ms: Option<u64>, named: &[(&str, u64)]) -> Self {
        let mut parts_ms = [0; PARTS.len()];
        for (name, ms) in named {
            let place = PARTS.iter().position(|part| part == name).expect("a part of PARTS");
            parts_ms[place] += ms;
        }
        let known: u64 = parts_ms.iter().sum();
        parts_ms[PARTS.len() - 1] += closed_ms.saturating_sub(known);
        Self { closed_ms, seen_ms, parts_ms }
    }
}

/// Both sides on one database.
pub struct Pair {
    pub bulk: Bulk,
    pub gb: f64,
    pub bytes: u64,
    pub hand: Side,
    pub ours: Side,
}

impl Pair {
    pub fn ratio(&self) -> f64 {
        self.hand.closed_ms as f64 / self.ours.closed_ms.max(1) as f64
    }

    pub fn series(&self) -> &'static str {
        match self.bulk {
            Bulk::Chronicle => "small tables",
            Bulk::Letters => "the big table",
        }
    }
}

/// The one whose closed time lies in the middle.
pub fn median(mut sides: Vec<Side>) -> Side {
    sides.sort_by_key(|side| side.closed_ms);
    let middle = (sides.len() - 1) / 2;
    sides.swap_remove(middle)
}

/// Closed time and its parts, in seconds.
pub fn table(pairs: &[Pair]) -> String {
    let mut text = format!(
        "| scripts touch | database | who | closed | {} | players saw | times shorter |\n|{}\n",
        PARTS.join(" | "),
        "---|".repeat(6 + PARTS.len())
    );
    for pair in pairs {
        for (who, side) in [("by hand", &pair.hand), ("us", &pair.ours)] {
            let parts: Vec<String> = side.parts_ms.iter().map(|ms| seconds(*ms)).collect();
            let shorter = match who {
                "us" => format!("{:.1}", pair.ratio()),
                _ => String::new(),
            };
            writeln!(
                text,
                "| {} | {:.2} GB | {who} | **{} s** | {} | {} | {shorter} |",
                pair.series(),
                pair.bytes as f64 / 1e9,
                seconds(side.closed_ms),
                parts.join(" | "),
                side.seen_ms.map_or("-".to_owned(), seconds),
            )
            .expect("a text takes what is written");
        }
    }
    text
}

fn seconds(ms: u64) -> String {
    format!("{:.2}", ms as f64 / 1_000.0)
}

/// Whether the goals are met, and by what.
pub struct Verdict {
    ratio: Option<(f64, f64)>,
    growth: Option<(f64, f64, f64)>,
    goal_ratio: f64,
    goal_growth: f64,
}

impl Verdict {
    /// Judged by the releases whose scripts touch small tables: the ratio at the size nearest to
    /// 1 GB, the growth from the smallest size to the largest.
    pub fn of(pairs: &[Pair], goal_ratio: f64, goal_growth: f64) -> Self {
        let small: Vec<&Pair> = pairs.iter().filter(|pair| pair.bulk == Bulk::Chronicle).collect();
        let near = |pair: &&&Pair| (pair.gb - 1.0).abs();
        let ratio = small.iter().min_by(|a, b| near(a).total_cmp(&near(b)));
        let ends = small.first().zip(small.last()).filter(|(first, last)| first.gb < last.gb);
        Self {
            ratio: ratio.map(|pair| (pair.ratio(), pair.gb)),
            growth: ends.map(|(first, last)| {
                let growth = last.ours.closed_ms as f64 / first.ours.closed_ms.max(1) as f64;
                (growth, first.gb, last.gb)
            }),
            goal_ratio,
            goal_growth,
        }
    }

    pub fn met(&self) -> bool {
        self.ratio.is_some_and(|(ratio, _)| ratio >= self.goal_ratio)
            && self.growth.is_some_and(|(growth, _, _)| growth <= self.goal_growth)
    }

    pub fn words(&self) -> String {
        let ratio = self.ratio.map_or("The ratio was not measured.".to_owned(), |(ratio, gb)| {
            format!(
                "With {gb} GB, where the scripts touch small tables, the game is closed {ratio:.1} \
                 times shorter than by hand (goal: {} at 1 GB).",
                self.goal_ratio
            )
        });
        let growth = self.growth.map_or(
            "The growth was not measured.".to_owned(),
            |(growth, least, most)| {
                format!(
                    "With {most} GB it is closed {growth:.2} times as long as with {least} GB \
                     (goal: at most {}).",
                    self.goal_growth
                )
            },
        );
        format!("{ratio} {growth}\n")
    }

    /// `FIGURE (goal GOAL) ok|short`.
    pub fn line(&self) -> String {
        let ratio = self.ratio.map_or("no ratio".to_owned(), |(ratio, gb)| {
            format!("{ratio:.1} times shorter at {gb} GB")
        });
        let growth = self.growth.map_or("no growth".to_owned(), |(growth, least, most)| {
            format!("{growth:.2} times as long at {most} GB as at {least} GB")
        });
        format!(
            "{ratio}, {growth} (goal {} at 1 GB, {}) {}",
            self.goal_ratio,
            self.goal_growth,
            if self.met() { "ok" } else { "short" }
        )
    }
}
