//! `rules.json`: the part of the game's code that is no template.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Game, GameError};

/// What a version of the game can do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    pub(super) pages: Vec<Page>,
    pub(super) actions: BTreeMap<String, Action>,
    /// Queries that templates show, by name. `:player` stands for who looks.
    pub(super) lists: BTreeMap<String, String>,
}

/// A page with a path of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    pub(super) path: String,
    pub(super) template: String,
    pub(super) title: String,
    #[serde(default)]
    pub(super) players_only: bool,
}

/// What a click does to a purse.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Action {
    pub(super) label: String,
    pub(super) gold: i64,
    /// What a won bet pays.
    #[serde(default)]
    pub(super) win: i64,
    /// One bet in so many is won; 0 where nothing can be won.
    #[serde(default)]
    pub(super) one_in: u64,
}

impl Rules {
    pub(super) fn read(game: &Game) -> Result<Self, GameError> {
        Ok(serde_json::from_str(&game.read("rules.json")?)?)
    }
}

impl Action {
    /// What the purse gains or loses. The luck of a bet lies in its request, so that the same
    /// request asked twice has the same end.
    pub(super) fn gold(&self, request_id: &str) -> i64 {
        let drawn = request_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let wins = self.one_in > 0 && (drawn >> 32).is_multiple_of(self.one_in);
        if wins { self.gold + self.win } else { self.gold }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bet_is_won_about_as_often_as_it_says_and_always_the_same_way() {
        let bet = Action { label: String::new(), gold: -2, win: 7, one_in: 3 };
        let ends: Vec<i64> = (0..3_000).map(|n| bet.gold(&format!("p07-{n:06}"))).collect();
        let won = ends.iter().filter(|gold| **gold == 5).count();
        assert!((800..1_200).contains(&won), "{won} of 3000 bets were won");
        assert_eq!(bet.gold("p07-000007"), ends[7]);
        let work = Action { label: String::new(), gold: 4, win: 0, one_in: 0 };
        assert_eq!(work.gold("x"), 4);
    }
}
