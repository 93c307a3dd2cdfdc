//! Lively players: each a thread with a browser, who comes in, plays, reads the banner, waits at
//! the door, and writes down all that happened.

mod client;
mod diary;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use client::{Answer, Client};
pub use diary::{Diary, Outage, Sorted, sorted};

/// The pause between two things that a player does, in milliseconds, give or take a half.
const THINK_MS: u64 = 400;
/// How often a player at the door looks again, in milliseconds.
const DOOR_MS: u64 = 200;
/// How often the banner in the page asks the gate, in milliseconds.
const BANNER_MS: u64 = 700;
/// How many more things players do who read that the inn closes, at most.
const LAST_ROUND_MAX: u64 = 3;
/// One player in so many stays until the door closes.
const STUBBORN_ONE_IN: usize = 4;

/// What is known of all players at this moment.
#[derive(Debug, Default)]
pub struct Now {
    /// How many are in.
    pub inside: AtomicU64,
    /// How many wait at the door.
    pub at_door: AtomicU64,
    /// Requests that were answered, by the game or by the gate's page.
    pub answered: AtomicU64,
    /// Requests that were lost.
    pub lost: AtomicU64,
}

/// A crowd that plays until it is told to stop.
#[derive(Debug)]
pub struct Crowd {
    /// The crowd at this moment.
    pub now: Arc<Now>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Diary>>,
}

impl Crowd {
    /// Lets `count` players come to the game at `address`. Times in diaries count from `epoch`.
    ///
    /// # Errors
    /// Where the system gives no more threads; those who came already leave again.
    pub fn start(count: usize, address: SocketAddr, epoch: Instant) -> std::io::Result<Self> {
        let mut crowd = Self { now: Arc::default(), stop: Arc::default(), threads: Vec::new() };
        for number in 1..=count {
            let (now, stop) = (Arc::clone(&crowd.now), Arc::clone(&crowd.stop));
            now.at_door.fetch_add(1, Ordering::Relaxed);
            let player = std::thread::Builder::new().name(format!("player {number}"));
            let thread = player.spawn(move || {
                let mut player = Player::new(number, address, now, epoch);
                player.play(&stop);
                player.diary
            })?;
            crowd.threads.push(thread);
        }
        Ok(crowd)
    }

    /// Lets everybody finish what they are at, and gives their diaries.
    ///
    /// # Panics
    /// Where a player panicked: a report without that player would not be honest.
    pub fn finish(mut self) -> Vec<Diary> {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.threads.drain(..).map(JoinHandle::join);
        ended.map(|diary| diary.expect("a player has no reason to panic")).collect()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // Whoever drops a crowd does not want its diaries.
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Wants to come in, and may be at the door for a while.
    Door,
    /// In, with a session.
    Inside,
    /// In, and about to leave after so many more things.
    LastRound(u64),
}

struct Player {
    number: usize,
    client: Client,
    now: Arc<Now>,
    epoch: Instant,
    place: Place,
    /// The links of the last page: players go where it leads.
    links: Vec<String>,
    banner_seen: Instant,
    random: u64,
    acts: u64,
    diary: Diary,
}

impl Player {
    fn new(number: usize, address: SocketAddr, now: Arc<Now>, epoch: Instant) -> Self {
        Self {
            number,
            client: Client::new(address),
            now,
            epoch,
            place: Place::Door,
            links: Vec::new(),
            banner_seen: Instant::now(),
            random: 0x9e37_79b9_7f4a_7c15 ^ (number as u64).wrapping_mul(0xd134_2543_de82_ef95),
            acts: 0,
            diary: Diary::default(),
        }
    }

    fn play(&mut self, stop: &AtomicBool) {
        self.pause(THINK_MS);
        while !stop.load(Ordering::SeqCst) {
            match self.place {
                Place::Door => self.come_in(),
                Place::Inside => {
                    self.read_banner();
                    self.do_something();
                }
                Place::LastRound(0) => self.leave(),
                Place::LastRound(left) => {
                    self.do_something();
                    if self.place == Place::LastRound(left) {
                        self.place = Place::LastRound(left - 1);
                    }
                }
            }
            let waits = self.place == Place::Door || self.diary.waits();
            self.pause(if waits { DOOR_MS } else { THINK_MS });
        }
    }

    fn come_in(&mut self) {
        if self.ask("GET", "/", "").is_none_or(|answer| answer.status != 200) {
            return;
        }
        let name = format!("name=Player+{}", self.number);
        if self.ask("POST", "/login", &name).is_some_and(|answer| answer.status == 303) {
            self.links = vec!["/play".to_owned()];
            self.move_to(Place::Inside);
        }
    }

    fn leave(&mut self) {
        if self.ask("POST", "/leave", "").is_some_and(|answer| answer.status == 303) {
            self.client.forget();
            self.diary.left(self.epoch.elapsed());
            self.move_to(Place::Door);
        } else {
            // The door closed first: there is nothing to leave.
            self.place = Place::Inside;
        }
    }

    fn do_something(&mut self) {
        // Whoever met the page looks at the table first, as a browser that loads again.
        if self.diary.waits() || self.draw(3) == 0 {
            let far = usize::try_from(self.draw(self.links.len() as u64)).unwrap_or(0);
            let path = match self.links.get(far) {
                Some(path) if !self.diary.waits() => path.clone(),
                _ => "/play".to_owned(),
            };
            if let Some(answer) = self.ask("GET", &path, "").filter(|answer| answer.status == 200) {
                self.links = links(&answer.body);
            }
            return;
        }
        self.acts += 1;
        let id = format!("p{:03}-{:06}", self.number, self.acts);
        let kind = ["work", "work", "drink", "bet"][usize::try_from(self.draw(4)).unwrap_or(0)];
        // Songs are new in 1.1: whoever has seen the song book sings from it.
        let sings = self.links.iter().any(|link| link == "/songs") && self.draw(3) == 0;
        let kind = if sings { "sing" } else { kind };
        let Some(answer) = self.ask("POST", "/act", &format!("id={id}&kind={kind}")) else {
            return;
        };
        if answer.status == 200 && answer.body == format!("ok {id}") {
            self.diary.promised.push(id);
        }
    }

    /// What the banner of the game does: asks the gate what is planned, and shows it.
    fn read_banner(&mut self) {
        if self.banner_seen.elapsed() < Duration::from_millis(BANNER_MS) || self.diary.waits() {
            return;
        }
        self.banner_seen = Instant::now();
        let Ok(answer) = self.client.get("/_entracte/v1/status") else { return };
        let phase = serde_json::from_str::<serde_json::Value>(&answer.body)
            .ok()
            .and_then(|status| Some(status.get("phase")?.as_str()?.to_owned()));
        if phase.as_deref() == Some("draining") && !self.number.is_multiple_of(STUBBORN_ONE_IN) {
            self.place = Place::LastRound(self.draw(LAST_ROUND_MAX));
        }
    }

    /// Asks, and writes down what came. `None` where nothing did.
    fn ask(&mut self, method: &str, path: &str, form: &str) -> Option<Answer> {
        let begun = Instant::now();
        let answer = match method {
            "GET" => self.client.get(path),
            _ => self.client.post(path, form),
        };
        let (at, took) = (self.epoch.elapsed(), begun.elapsed());
        match answer {
            Ok(answer) => {
                let sorted = sorted(answer.status, &answer.body);
                self.diary.answered(at, took, sorted, self.place != Place::Door);
                match sorted {
                    Sorted::Lost => {
                        self.lost(&format!("{method} {path} answered {}", answer.status));
                    }
                    Sorted::Page => {
                        self.now.answered.fetch_add(1, Ordering::Relaxed);
                        self.diary.keep_page(at, self.place != Place::Door, &answer.body);
                    }
                    Sorted::Game => {
                        self.now.answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Some(answer)
            }
            Err(error) => {
                self.lost(&format!("{method} {path}: {error}"));
                None
            }
        }
    }

    fn lost(&mut self, what: &str) {
        self.now.lost.fetch_add(1, Ordering::Relaxed);
        let at_ms = self.epoch.elapsed().as_millis();
        self.diary.lost.push(format!("player {} at {at_ms} ms: {what}", self.number));
    }

    fn move_to(&mut self, place: Place) {
        let (from, to) = match place {
            Place::Door => (&self.now.inside, &self.now.at_door),
            Place::Inside | Place::LastRound(_) => (&self.now.at_door, &self.now.inside),
        };
        from.fetch_sub(1, Ordering::Relaxed);
        to.fetch_add(1, Ordering::Relaxed);
        self.place = place;
    }

    fn pause(&mut self, around_ms: u64) {
        let ms = around_ms / 2 + self.draw(around_ms);
        std::thread::sleep(Duration::from_millis(ms));
    }

    /// A number below `below`; 0 where that is 0. Chance, not secrets (xorshift).
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11).checked_rem(below).unwrap_or(0)
    }
}

/// The links of a page's menu.
fn links(html: &str) -> Vec<String> {
    let parts = html.split("<a href=\"").skip(1);
    parts.filter_map(|part| part.split_once('"')).map(|(path, _)| path.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn players_go_where_the_page_leads() {
        let html = "<nav><a href=\"/\">Room</a><a href=\"/songs\">Songs</a></nav>";
        assert_eq!(links(html), ["/", "/songs"]);
    }
}
