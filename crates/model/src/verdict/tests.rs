use super::*;

/// The generator splitmix64 (Steele, Lea and Flood, 2014): small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// How many of `n` are hit at `per_10_000`.
    fn hits(&mut self, n: u64, per_10_000: u64) -> u64 {
        (0..n).map(|_| u64::from(self.next() % 10_000 < per_10_000)).sum()
    }
}

const OPENED: UnixMs = UnixMs(1_000_000_000);

fn settings() -> Settings {
    Settings { herd_ms: 0, ..Settings::default() }
}

fn bin(number: u64, sessions: u64, errors: u64, slow: u64) -> BinFacts {
    BinFacts {
        at: OPENED + number * BIN_MS,
        requests: sessions * 3,
        sessions,
        sessions_with_error: errors,
        slow,
        completed: sessions * 3,
        in_flight: 0,
    }
}

/// Bins before the opening: an hour and a half of it, with these rates of errors and slowness.
fn history(dice: &mut Dice, sessions: u64, errors: u64, slow: u64) -> Vec<BinFacts> {
    let before =
        |number: u64| BinFacts { at: OPENED - (540 - number) * BIN_MS, ..BinFacts::default() };
    (0..540)
        .map(|number| BinFacts {
            sessions,
            sessions_with_error: dice.hits(sessions, errors),
            slow: dice.hits(sessions, slow),
            ..before(number)
        })
        .collect()
}

fn failed(watch: &Watch) -> Option<What> {
    match watch.verdict(OPENED) {
        Verdict::Fail { what, .. } => Some(what),
        _ => None,
    }
}

#[test]
fn at_the_baseline_false_alarms_stay_within_alpha() {
    // With alpha at 1 %, 400 watches may give 4 false alarms on average; at the baseline's own
    // rate, below the bound, they should give none.
    for (sessions, seed) in [(3, 1), (20, 2), (100, 3)] {
        let mut dice = Dice(seed);
        let mut alarms = 0;
        for _ in 0..134 {
            let past = history(&mut dice, sessions, 100, 800);
            let mut watch = Watch::new(&past, OPENED, settings());
            for number in 0..180 {
                watch.observe(&bin(
                    number,
                    sessions,
                    dice.hits(sessions, 100),
                    dice.hits(sessions, 800),
                ));
            }
            alarms += u32::from(failed(&watch).is_some());
        }
        assert_eq!(alarms, 0, "{sessions} sessions a bin");
    }
}

#[test]
fn at_the_bound_itself_alarms_stay_within_alpha() {
    // The hardest case that the guarantee covers: every session is hit with exactly p0.
    let mut dice = Dice(7);
    let mut alarms = 0;
    for _ in 0..500 {
        let mut watch = Watch::new(&[], OPENED, settings());
        for number in 0..180 {
            watch.observe(&bin(number, 20, dice.hits(20, 200), dice.hits(20, 1_500)));
        }
        alarms += u32::from(failed(&watch).is_some());
    }
    assert!(alarms <= 5, "{alarms} of 500, where alpha allows 5 on average");
}

#[test]
fn ten_percent_of_errors_are_seen_soon_and_their_cause_is_named() {
    for seed in 0..50 {
        let mut dice = Dice(100 + seed);
        let mut watch = Watch::new(&history(&mut dice, 15, 100, 800), OPENED, settings());
        let seen_at = (0..30).find(|number| {
            watch.observe(&bin(*number, 15, dice.hits(15, 1_000), dice.hits(15, 800)));
            failed(&watch) == Some(What::Errors)
        });
        assert!(seen_at.is_some(), "seed {seed}: not within 5 minutes");
        let Verdict::Fail { seen, expected, .. } = watch.verdict(OPENED) else { panic!() };
        assert!(seen > expected && expected == watch.p0(Signal::Errors), "{seen} {expected}");
    }
}

#[test]
fn a_fault_that_comes_after_a_good_hour_is_not_buried() {
    let mut dice = Dice(11);
    let mut watch = Watch::new(&[], OPENED, settings());
    for number in 0..360 {
        watch.observe(&bin(number, 50, dice.hits(50, 50), 0));
    }
    assert_eq!(failed(&watch), None);
    let seen_at = (360..372).find(|number| {
        watch.observe(&bin(*number, 50, dice.hits(50, 1_500), 0));
        failed(&watch).is_some()
    });
    assert!(seen_at.is_some(), "not within 2 minutes");
    let Verdict::Fail { what: What::Errors, since, .. } = watch.verdict(OPENED) else { panic!() };
    assert!(
        since >= OPENED + 350 * BIN_MS,
        "the beginning is told as {} s",
        since.since(OPENED) / 1_000
    );
}

#[test]
fn slowness_alarms_too_and_a_failure_stays() {
    let mut dice = Dice(12);
    let mut watch = Watch::new(&[], OPENED, settings());
    for number in 0..30 {
        watch.observe(&bin(number, 30, 0, dice.hits(30, 4_000)));
    }
    assert_eq!(failed(&watch), Some(What::Slowness));
    for number in 30..300 {
        watch.observe(&bin(number, 30, 0, 0));
    }
    assert_eq!(failed(&watch), Some(What::Slowness));
}

#[test]
fn the_herd_of_the_reopening_is_left_out_of_soft_signals_only() {
    let settings = Settings::default();
    let mut watch = Watch::new(&[], OPENED, settings);
    for number in 0..30 {
        watch.observe(&bin(number, 100, 90, 90));
    }
    assert_eq!(watch.verdict(OPENED), Verdict::Inconclusive { smallest_effect: None });
    watch.observe(&bin(30, 100, 90, 0));
    assert_eq!(failed(&watch), Some(What::Errors));
    let mut watch = Watch::new(&[], OPENED, settings);
    watch.dead(OPENED + 5);
    let expected = Verdict::Fail { what: What::Dead, seen: 1.0, expected: 0.0, since: OPENED + 5 };
    assert_eq!(watch.verdict(OPENED), expected);
}

#[test]
fn probes_degrade_first_and_fail_in_a_row() {
    let mut watch = Watch::new(&[], OPENED, settings());
    watch.probe(OPENED + 1, false);
    watch.probe(OPENED + 2, false);
    let degraded =
        Verdict::Degraded { what: What::Probe, seen: 2.0, expected: 0.0, since: OPENED + 1 };
    assert_eq!(watch.verdict(OPENED), degraded);
    watch.probe(OPENED + 3, true);
    assert_eq!(watch.verdict(OPENED), Verdict::Inconclusive { smallest_effect: None });
    for at in 4..7 {
        watch.probe(OPENED + at, false);
    }
    let fail = Verdict::Fail { what: What::Probe, seen: 3.0, expected: 0.0, since: OPENED + 4 };
    assert_eq!(watch.verdict(OPENED), fail);
}

#[test]
fn a_hang_is_a_request_that_lasts_a_whole_bin_while_nothing_ends() {
    let quiet = |number: u64, completed: u64, in_flight: u64| BinFacts {
        completed,
        in_flight,
        ..bin(number, 0, 0, 0)
    };
    let run = |bins: &[BinFacts]| {
        let mut watch = Watch::new(&[], OPENED, settings());
        bins.iter().for_each(|one| watch.observe(one));
        failed(&watch)
    };
    assert_eq!(run(&[quiet(0, 5, 2), quiet(1, 0, 4)]), Some(What::Hang));
    // One that came in just before the bin ended; one after a gap; one while others are answered.
    assert_eq!(run(&[quiet(0, 5, 0), quiet(1, 0, 4)]), None);
    assert_eq!(run(&[quiet(0, 5, 2), quiet(2, 0, 4)]), None);
    assert_eq!(run(&[quiet(0, 5, 2), quiet(1, 1, 4)]), None);
}

#[test]
fn passing_takes_the_time_and_enough_players() {
    let end = OPENED + settings().watch_ms;
    let mut busy = Watch::new(&[], OPENED, settings());
    let mut empty = Watch::new(&[], OPENED, settings());
    for number in 0..180 {
        busy.observe(&bin(number, 40, 0, 0));
        empty.observe(&bin(number, u64::from(number == 0), 0, 0));
    }
    assert!(matches!(busy.verdict(end - 1), Verdict::Inconclusive { smallest_effect: Some(_) }));
    assert_eq!(busy.verdict(end), Verdict::Pass);
    assert_eq!(empty.verdict(end), Verdict::Inconclusive { smallest_effect: None });
}

#[test]
fn the_smallest_effect_shrinks_with_players_and_is_seen_nine_times_of_ten() {
    let after = |bins: u64| {
        let mut watch = Watch::new(&[], OPENED, settings());
        (0..bins).for_each(|number| watch.observe(&bin(number, 10, 0, 0)));
        match watch.verdict(OPENED) {
            Verdict::Inconclusive { smallest_effect } => smallest_effect.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert!(after(3) > after(30) && after(30) > after(90));
    assert!(after(90) > settings().prior_errors);
    let effect = after(60);
    let per_10_000 = (1..=10_000_u32).find(|n| f64::from(*n) / 10_000.0 >= effect).unwrap();
    let mut dice = Dice(5);
    let noticed = (0..300)
        .filter(|_| {
            let mut watch = Watch::new(&[], OPENED, settings());
            (0..60).for_each(|number| {
                watch.observe(&bin(number, 10, dice.hits(10, u64::from(per_10_000)), 0));
            });
            failed(&watch).is_some()
        })
        .count();
    assert!(noticed >= 255, "{noticed} of 300 at a share of {effect}");
}

#[test]
fn the_bound_is_a_quantile_of_placebos_or_the_prior() {
    let bins = [(10, 1); 210];
    assert!((bound(&bins, 11, 0.02) - 0.115).abs() < 1e-12);
    assert!((bound(&bins, 12, 0.02) - 0.02).abs() < 1e-12, "199 placebos are too few");
    // 199 of 200 placebos lie at or below the quantile of 99.5 %: the one above it does not count.
    let mut one_bad = [(10, 1); 200];
    one_bad[77] = (10, 9);
    assert!((bound(&one_bad, 1, 0.02) - 0.115).abs() < 1e-12);
    assert!((bound(&[(10, 0); 300], 1, 0.02) - 0.005).abs() < 1e-12);
    assert!((bound(&[(0, 0); 300], 1, 0.02) - 0.02).abs() < 1e-12, "empty bins are no placebos");
    assert!((bound(&[], 1, 5.0) - 0.9).abs() < 1e-12);
}

#[test]
fn one_bin_gives_exactly_the_formula() {
    let p0: f64 = 0.02;
    let mut evidence = Evidence::new(p0);
    assert!((evidence.value() - 1.0).abs() < 1e-12);
    evidence.observe(OPENED, 4, 1);
    let odds = [1.25, 1.5, 2.0, 2.5, 3.5, 5.0, 7.0, 10.0, 15.0, 25.0, 60.0, 200.0];
    let ratio = |factor: f64| {
        let p = factor * p0 / (1.0 - p0 + factor * p0);
        p / p0 * ((1.0 - p) / (1.0 - p0)).powi(3)
    };
    let mixture: f64 = odds.into_iter().map(ratio).sum::<f64>() / 12.0;
    assert!((evidence.value() - (0.5 * mixture + 0.5)).abs() < 1e-9, "{}", evidence.value());
}

#[test]
fn a_bin_counts_once_and_only_after_the_opening() {
    let mut watch = Watch::new(&[], OPENED, settings());
    watch.observe(&bin(1, 20, 2, 0));
    let once = watch.evidence(Signal::Errors);
    watch.observe(&bin(1, 20, 20, 0));
    watch.observe(&bin(0, 20, 20, 0));
    watch.observe(&BinFacts { at: OPENED - BIN_MS, ..bin(0, 20, 20, 0) });
    assert!((watch.evidence(Signal::Errors) - once).abs() < 1e-12);
}
