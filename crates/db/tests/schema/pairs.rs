//! Running scripts, and the oracle.

use std::sync::atomic::AtomicBool;

use entracte_db::script::statements;
use entracte_db::{DbError, Nowhere, Script, Settings, compare, open};

/// Small, seeded and the same everywhere (`SplitMix64`).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }

    /// True once in `of` times.
    pub fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    pub fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

fn try_run(settings: &Settings, sql: &str) -> Result<(), String> {
    let script = Script::held("made.sql", sql.as_bytes());
    let stop = AtomicBool::new(false);
    let ran = open(settings).unwrap().run_scripts(&[script], &mut Nowhere, &stop, &mut |_| {});
    ran.map(drop).map_err(|error: DbError| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    })
}

/// Runs SQL as a release would.
pub fn run(settings: &Settings, sql: &str) {
    try_run(settings, sql).unwrap_or_else(|error| panic!("{error}\n{sql}"));
}

/// Makes a schema by chance: a statement that the server refuses, as not everything goes with
/// everything, is no part of it. Most are taken.
pub fn make(settings: &Settings, sql: &str) {
    let all = statements(settings.engine(), sql.as_bytes()).unwrap();
    let refused: Vec<String> =
        all.iter().filter_map(|one| try_run(settings, &format!("{};", one.text)).err()).collect();
    assert!(refused.len() * 3 <= all.len(), "{} of {}: {refused:#?}", refused.len(), all.len());
}

/// The environment variable by which a longer search begins where the last one ended.
const FIRST_SEED: &str = "ENTRACTE_FIRST_SEED";

/// Every pair is tried, and those that failed are told together.
pub fn all_bridged(seeds: u64, mut pair: impl FnMut(u64) -> Result<String, String>) {
    let first = std::env::var(FIRST_SEED).map_or(0, |text| text.parse().expect("a number"));
    let failed: Vec<(u64, String)> =
        (first..first + seeds).filter_map(|seed| Some((seed, pair(seed).err()?))).collect();
    let said: Vec<String> =
        failed.iter().map(|(seed, error)| format!("== seed {seed}: {error}")).collect();
    assert!(failed.is_empty(), "{} of {seeds} failed\n{}", failed.len(), said.join("\n"));
}

/// Makes `old` into `new` by what is proposed on `trial`, a third database that begins as `old`.
pub fn old_becomes_new(old: &Settings, trial: &Settings, new: &Settings) -> Result<String, String> {
    let wanted = compare::snapshot(new).unwrap();
    let first = compare::snapshot(old).unwrap();
    assert_eq!(first.schema(), compare::snapshot(trial).unwrap().schema(), "the trial is no copy");
    let proposal = compare::propose(trial, &wanted, &[]).unwrap();
    let script: Vec<&str> = proposal.steps.iter().map(|step| step.sql.as_str()).collect();
    let script = script.join("\n");
    let said = |left: &[entracte_model::schema::Difference]| {
        left.iter().map(|one| format!("{one}\n{one:#?}")).collect::<Vec<_>>().join("\n")
    };
    if !proposal.left.is_empty() {
        let (left, refused) = (said(&proposal.left), &proposal.refused);
        return Err(format!("still differs\n{left}\nrefused: {refused:#?}\nran:\n{script}"));
    }
    try_run(old, &script).map_err(|error| format!("as one script: {error}\n{script}"))?;
    let left = wanted.differences(&compare::snapshot(old).unwrap());
    if !left.is_empty() {
        return Err(format!("as one script\n{}\n{script}", said(&left)));
    }
    let again = compare::propose(old, &wanted, &[]).unwrap().steps;
    if !again.is_empty() {
        return Err(format!("proposed where nothing differs: {again:#?}"));
    }
    Ok(script)
}
