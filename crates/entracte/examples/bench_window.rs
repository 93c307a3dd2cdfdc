//! Closed time of a release with SQL: a careful admin by hand, then us, with small and large databases.
//!
//! `--quick` takes 0.05 and 0.3 GB, `--sizes 0.1,1,4` what is asked for, `--rounds 3` the median of
//! three, `--write` puts the table and the chart into the docs.

#[path = "window/chart.rs"]
mod chart;
#[path = "../tests/common/mod.rs"]
mod common;
#[path = "window/measured.rs"]
mod measured;
#[path = "window/sides.rs"]
mod sides;

use std::fs;
use std::process::ExitCode;

use entracte_testbed::bulk::{Bulk, Prepared};
use entracte_testbed::machine;
use entracte_testbed::taverne::Options;

use measured::{Pair, Verdict};

/// How many times shorter the game should be closed than by hand, at 1 GB.
const GOAL_RATIO: f64 = 20.0;
/// How much longer it may be closed with the largest database than with the smallest.
const GOAL_GROWTH: f64 = 1.3;
/// Beyond this the scripts that rewrite the whole database are not measured: minutes of the same.
const BIG_TABLE_GB_MAX: f64 = 1.0;
/// Where the table stands in the document.
const PLACE: &str = "bench window";

struct Wishes {
    sizes_gb: Vec<f64>,
    rounds: usize,
    write: bool,
}

fn main() -> ExitCode {
    let wishes = match wishes(std::env::args().skip(1)) {
        Ok(wishes) => wishes,
        Err(problem) => {
            eprintln!("bench window: {problem}");
            return ExitCode::from(2);
        }
    };
    let mut pairs = Vec::new();
    for bulk in [Bulk::Chronicle, Bulk::Letters] {
        for gb in &wishes.sizes_gb {
            if bulk == Bulk::Chronicle || *gb <= BIG_TABLE_GB_MAX {
                pairs.push(measure(bulk, *gb, wishes.rounds));
            }
        }
    }
    let verdict = Verdict::of(&pairs, GOAL_RATIO, GOAL_GROWTH);
    let report = format!(
        "Measured on {}; median of {}.\n\n{}\n{}",
        machine::describe(),
        wishes.rounds,
        measured::table(&pairs),
        verdict.words()
    );
    println!("{report}");
    if wishes.write {
        let docs = machine::docs();
        let written = fs::write(docs.join("bench-window.svg"), chart::svg(&pairs))
            .and_then(|()| machine::write_between(&docs.join("benchmarks.md"), PLACE, &report));
        if let Err(error) = written {
            eprintln!("bench window: the docs cannot be written: {error}");
            return ExitCode::FAILURE;
        }
    }
    println!("bench window: {}", verdict.line());
    if verdict.met() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn wishes(mut args: impl Iterator<Item = String>) -> Result<Wishes, String> {
    let mut wishes = Wishes { sizes_gb: vec![0.1, 1.0, 4.0], rounds: 1, write: false };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => wishes.sizes_gb = vec![0.05, 0.3],
            "--write" => wishes.write = true,
            "--sizes" => {
                let list = args.next().unwrap_or_default();
                let sizes: Result<Vec<f64>, _> = list.split(',').map(str::parse).collect();
                wishes.sizes_gb = sizes.map_err(|_| {
                    format!("--sizes wants gigabytes such as 0.1,1 and got {list:?}")
                })?;
                wishes.sizes_gb.sort_by(f64::total_cmp);
            }
            "--rounds" => {
                let count = args.next().unwrap_or_default();
                wishes.rounds = count.parse().ok().filter(|count| *count > 0).ok_or_else(|| {
                    format!("--rounds wants a number from 1 on and got {count:?}")
                })?;
            }
            other => return Err(format!("{other} is not known: --quick --sizes --rounds --write")),
        }
    }
    Ok(wishes)
}

/// One size: the database is made once, and each side begins with a copy of it.
fn measure(bulk: Bulk, gb: f64, rounds: usize) -> Pair {
    let options = Options::default();
    eprintln!("making a database of {gb} GB ({bulk:?})");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "gigabytes of a disk, as bytes"
    )]
    let prepared = Prepared::make(&options, bulk, (gb * 1e9) as u64);
    let options = prepared.options(&options);
    let (mut hands, mut ours) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("{gb} GB, round {round}: by hand");
        hands.push(sides::by_hand(&options));
        eprintln!("  closed {} ms; now by one command", hands[hands.len() - 1].closed_ms);
        ours.push(sides::entracte(&options));
        eprintln!("  closed {} ms", ours[ours.len() - 1].closed_ms);
    }
    Pair {
        bulk,
        gb,
        bytes: prepared.bytes(),
        hand: measured::median(hands),
        ours: measured::median(ours),
    }
}
