//! Running scripts, and the oracle.

use std::sync::atomic::AtomicBool;

use entracte_db::{Script, Settings, StatementAt, StatementLog, compare, open};

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

pub struct NoLog;

impl StatementLog for NoLog {
    fn intent(&mut self, _: &StatementAt) -> Result<(), String> {
        Ok(())
    }
    fn done(&mut self, _: &StatementAt, _: u64, _: &[String]) -> Result<(), String> {
        Ok(())
    }
    fn failed(&mut self, _: &StatementAt, _: &str) -> Result<(), String> {
        Ok(())
    }
}

/// Runs SQL as a release would.
pub fn run(settings: &Settings, sql: &str) {
    let script = Script { name: "made.sql".into(), bytes: sql.as_bytes().to_vec() };
    let ran = open(settings).unwrap().run_scripts(
        &[script],
        &mut NoLog,
        &AtomicBool::new(false),
        &mut |_| {},
    );
    if let Err(error) = ran {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        panic!("{error}: {source:?}\n{sql}");
    }
}

/// Makes `old` into `new` by what is proposed on `trial`, a third database that begins as `old`.
pub fn old_becomes_new(seed: u64, old: &Settings, trial: &Settings, new: &Settings) -> String {
    let wanted = compare::snapshot(new).unwrap();
    let first = compare::snapshot(old).unwrap();
    assert_eq!(first, compare::snapshot(trial).unwrap(), "seed {seed}: the trial is no copy");
    let proposal = compare::propose(trial, &wanted, &[]).unwrap();
    let script: Vec<&str> = proposal.steps.iter().map(|step| step.sql.as_str()).collect();
    let script = script.join("\n");
    let said = |left: &[entracte_model::schema::Difference]| {
        left.iter().map(|one| format!("{one}\n{one:#?}")).collect::<Vec<_>>().join("\n")
    };
    assert!(
        proposal.left.is_empty(),
        "seed {seed}: still differs\n{}\nrefused: {:#?}\nran:\n{script}",
        said(&proposal.left),
        proposal.refused
    );
    run(old, &script);
    let left = wanted.differences(&compare::snapshot(old).unwrap());
    assert!(left.is_empty(), "seed {seed}: as one script\n{}\n{script}", said(&left));
    // Nothing is proposed where nothing differs.
    assert!(compare::propose(old, &wanted, &[]).unwrap().steps.is_empty(), "seed {seed}");
    script
}
