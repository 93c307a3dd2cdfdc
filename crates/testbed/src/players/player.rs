//! One player: what it does next, and how it understands the answer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::record::{Outcome, Record};
use super::{Load, Shared, now_ms};
use crate::http::{Answer, Client};

const PASSWORD: &str = "longue épée";
/// Texts by which PHP announces a failure, whatever the status says.
const ERROR_TEXTS: [&str; 6] =
    ["Fatal error", "Parse error", "Uncaught ", "<b>Warning</b>", "SQLSTATE[", "Undefined "];

/// Pages with their share of the reading.
const PAGES: [(&str, &str, u64); 9] = [
    ("tavern", "/", 6),
    ("market", "/?p=market", 4),
    ("inventory", "/?p=inventory", 3),
    ("fight page", "/?p=fight", 2),
    ("messages", "/?p=messages", 2),
    ("chat page", "/?p=chat", 4),
    ("ranking", "/?p=ranking", 4),
    ("api me", "/api/?do=me", 4),
    ("stylesheet", "/assets/style.css", 1),
];

/// Actions with their share of the acting.
const ACTIONS: [(&str, u64); 9] = [
    ("work", 5),
    ("drink", 5),
    ("buy", 4),
    ("sell", 3),
    ("offer", 2),
    ("bank", 2),
    ("fight", 2),
    ("message", 3),
    ("chat", 6),
];

/// Of a hundred requests, so many act.
const ACTING_PERCENT: u64 = 55;

pub(super) struct Player {
    number: usize,
    name: String,
    browser: Client,
    chance: Chance,
    others: u32,
    is_in: bool,
    sent: u64,
    shared: Arc<Shared>,
}

impl Player {
    pub(super) fn new(url: &str, load: &Load, number: usize, shared: Arc<Shared>) -> Self {
        // The end of the run's number: names are short.
        let run = &shared.run[shared.run.len().saturating_sub(8)..];
        let mut browser = Client::new(url)
            .always("Accept-Language", "fr")
            .always("Accept", "text/html,*/*;q=0.5");
        if load.apart {
            let address = format!("10.0.{}.{}", number / 250, number % 250 + 1);
            browser = browser.always("X-Forwarded-For", &address);
        }
        Self {
            number,
            name: format!("{} {run} {number}", load.name),
            browser,
            chance: Chance(load.seed.wrapping_mul(0x9e37_79b9).wrapping_add(number as u64)),
            others: load.others.max(1),
            is_in: false,
            sent: 0,
            shared,
        }
    }

    pub(super) fn register(&mut self) -> io::Result<()> {
        let name = self.name.clone();
        self.send("register", "/register.php", &[("name", &name), ("password", PASSWORD)]);
        if self.is_in {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{name} could not register; is this Taverne, and is it open?"
        )))
    }

    /// Asks at a steady beat until told to stop. Beats that pass while it waits are left out, so
    /// that a closing is not followed by a burst that no crowd would make.
    pub(super) fn play(&mut self, first: Duration, interval: Duration) {
        let mut next = Instant::now() + first;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now < next {
                // Unparked when it is time to stop.
                thread::park_timeout(next - now);
                continue;
            }
            self.turn();
            next = (next + interval).max(Instant::now());
        }
    }

    fn turn(&mut self) {
        if !self.is_in {
            let name = self.name.clone();
            self.browser.forget_cookies();
            return self.send("login", "/login.php", &[("name", &name), ("password", PASSWORD)]);
        }
        if self.chance.below(100) < ACTING_PERCENT {
            self.act();
        } else {
            self.look();
        }
    }

    fn look(&mut self) {
        let at = self.chance.weighted(PAGES.iter().map(|page| page.2));
        let (kind, path, _) = PAGES[at];
        let asked = Instant::now();
        let answer = self.browser.get(path);
        let outcome = match &answer {
            Ok(answer) => self.understand_page(answer),
            Err(error) => Outcome::Error(error.to_string()),
        };
        self.remember(kind, String::new(), &answer, outcome, asked);
    }

    fn act(&mut self) {
        let at = self.chance.weighted(ACTIONS.iter().map(|action| action.1));
        let action = ACTIONS[at].0;
        let other = (1 + self.chance.below(u64::from(self.others))).to_string();
        let item = (1 + self.chance.below(10)).to_string();
        let amount = (self.chance.below(21) as i64 - 10).to_string();
        let text = format!("Tournée n° {} de {} ! 🍺 'santé' \"à tous\"", self.sent, self.name);
        let price = (1 + self.chance.below(60)).to_string();
        let fields: &[(&str, &str)] = match action {
            "buy" | "sell" => &[("item", &item)],
            "offer" => &[("item", &item), ("price", &price)],
            "bank" => &[("amount", &amount)],
            "fight" => &[("to", &other)],
            "message" => &[("to", &other), ("text", &text)],
            "chat" => &[("text", &text)],
            _ => &[],
        };
        let fields = [&[("act", action)], fields].concat();
        self.send(action, "/action.php", &fields);
    }

    /// A request that changes something, under an id that nobody else has.
    fn send(&mut self, kind: &'static str, path: &str, fields: &[(&str, &str)]) {
        self.sent += 1;
        let id = format!("p-{}-{}-{}", self.shared.run, self.number, self.sent);
        let asked = Instant::now();
        let answer = self.browser.post(path, &id, fields);
        let outcome = match &answer {
            Ok(answer) => understand_action(answer, &id),
            Err(error) => Outcome::Error(error.to_string()),
        };
        match outcome {
            Outcome::Ok if matches!(kind, "register" | "login") => self.is_in = true,
            Outcome::LoggedOut => self.is_in = false,
            _ => {}
        }
        self.remember(kind, id, &answer, outcome, asked);
    }

    fn understand_page(&mut self, answer: &Answer) -> Outcome {
        if let Some(outcome) = understand_failure(answer) {
            return outcome;
        }
        match answer.status {
            200 => Outcome::Ok,
            303 | 401 => {
                self.is_in = false;
                Outcome::LoggedOut
            }
            status => Outcome::Error(format!("status {status}: {}", excerpt(answer))),
        }
    }

    fn remember(
        &self,
        kind: &'static str,
        id: String,
        answer: &io::Result<Answer>,
        outcome: Outcome,
        asked: Instant,
    ) {
        self.shared.remember(Record {
            player: self.number,
            id,
            kind,
            status: answer.as_ref().map_or(0, |answer| answer.status),
            outcome,
            at_ms: now_ms(),
            latency_us: u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX),
        });
    }
}

fn understand_action(answer: &Answer, id: &str) -> Outcome {
    if let Some(outcome) = understand_failure(answer) {
        return outcome;
    }
    let text = answer.text();
    if answer.status == 401 {
        Outcome::LoggedOut
    } else if answer.status == 200 && text == format!("ok {id}\n") {
        Outcome::Ok
    } else if answer.status == 200 && text.starts_with(&format!("refused {id} ")) {
        Outcome::Refused
    } else {
        Outcome::Error(format!("status {}: {}", answer.status, excerpt(answer)))
    }
}

fn understand_failure(answer: &Answer) -> Option<Outcome> {
    if answer.status == 503 {
        return Some(Outcome::Page);
    }
    let text = answer.text();
    let at = ERROR_TEXTS.iter().find_map(|error| text.find(error))?;
    let shown = text[at..].chars().take(200).collect();
    Some(match answer.status {
        200 => Outcome::Broken(shown),
        status => Outcome::Error(format!("status {status}: {shown}")),
    })
}

fn excerpt(answer: &Answer) -> String {
    answer.text().chars().take(200).collect()
}

/// SplitMix64: small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn weighted(&mut self, weights: impl Iterator<Item = u64> + Clone) -> usize {
        let mut left = self.below(weights.clone().sum());
        for (index, weight) in weights.enumerate() {
            if left < weight {
                return index;
            }
            left -= weight;
        }
        unreachable!("what is left is below the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, headers: vec![], body: body.into() }
    }

    #[test]
    fn only_the_exact_ok_counts() {
        assert_eq!(understand_action(&answer(200, "ok p-1\n"), "p-1"), Outcome::Ok);
        assert!(matches!(understand_action(&answer(200, "ok p-2\n"), "p-1"), Outcome::Error(_)));
        assert!(matches!(
            understand_action(&answer(200, "ok p-1\n<b>Fatal error</b>: x"), "p-1"),
            Outcome::Broken(_)
        ));
        assert_eq!(
            understand_action(&answer(200, "refused p-1 too_poor\n"), "p-1"),
            Outcome::Refused
        );
        assert_eq!(understand_action(&answer(401, "login\n"), "p-1"), Outcome::LoggedOut);
        assert_eq!(understand_action(&answer(503, "closed"), "p-1"), Outcome::Page);
        assert!(matches!(understand_action(&answer(502, "Bad Gateway"), "p-1"), Outcome::Error(_)));
    }

    #[test]
    fn every_weight_is_reached_and_the_same_seed_does_the_same() {
        let draw = || {
            let mut chance = Chance(7);
            (0..200).map(|_| chance.weighted([1, 2, 3].into_iter())).collect::<Vec<_>>()
        };
        let drawn = draw();
        assert!([0, 1, 2].iter().all(|index| drawn.contains(index)));
        assert_eq!(drawn, draw());
    }
}
