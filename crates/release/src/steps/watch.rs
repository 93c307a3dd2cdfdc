//! Watch: errors, slowness and probes of the new version, until its time is over or a verdict.

use entracte_gate::Bin;
use entracte_model::UnixMs;
use entracte_model::journal::{Fault, FaultKind};
use entracte_model::progress::Probe;
use entracte_model::verdict::{BinFacts, Settings, Verdict, Watch as Watcher, What};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Act, keep, recall};
use crate::clock::now;
use crate::context::Context;
use crate::fault::Doing;
use crate::smoke::{Check, Jar, Tester};

/// How far back the baseline goes, in milliseconds: two weeks know every hour of the week twice.
const BASELINE_MS: u64 = 14 * 24 * 3_600_000;
/// The time between two probes, in milliseconds.
const PROBE_EVERY_MS: u64 = 2_000;
/// A reopening herd is left out of the soft signals for a fifth of the watch, five minutes at most.
const HERD_SHARE: u64 = 5;

pub(crate) struct Watch {
    pub(crate) for_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct Before {
    opened: UnixMs,
}

impl Act for Watch {
    fn before(&self, _: &mut Context<'_>) -> Result<Value, Fault> {
        keep(&Before { opened: now() })
    }

    fn run(&self, cx: &mut Context<'_>, before: &Value) -> Result<Value, Fault> {
        let Before { opened } = recall(before)?;
        let (mut watcher, slow_from) = self.watcher(cx, opened)?;
        let mut seen_until = opened;
        let mut probed = UnixMs(0);
        let ends = opened + self.for_ms;
        while now() < ends {
            if cx.safe_point("watching").is_err() {
                cx.info("the watch was ended early");
                break;
            }
            if now().since(probed) >= PROBE_EVERY_MS {
                probed = now();
                watcher.probe(probed, probe(cx));
            }
            if let Ok(bins) = cx.gate().bins(seen_until, now()) {
                for bin in &bins {
                    watcher.observe(&facts(bin, slow_from));
                    seen_until = UnixMs(bin.from.0 + 1);
                }
            }
            if let failed @ Verdict::Fail { .. } = watcher.verdict(now()) {
                return Err(unwell(&failed));
            }
            let left = ends.since(now());
            cx.progress(self.for_ms.saturating_sub(left), self.for_ms, "ms", "watched");
            std::thread::sleep(std::time::Duration::from_millis(left.min(250)));
        }
        let verdict = watcher.verdict(now());
        cx.info(say(&verdict));
        Ok(json!({ "verdict": verdict }))
    }

    fn probe(&self, _: &mut Context<'_>, _: &Value) -> Probe {
        Probe::NotDone
    }
}

impl Watch {
    fn watcher(&self, cx: &Context<'_>, opened: UnixMs) -> Result<(Watcher, usize), Fault> {
        let bins =
            cx.gate().bins(opened - BASELINE_MS, opened).doing("reading what players met")?;
        let slow_from = slow_bucket(&bins);
        let baseline: Vec<BinFacts> = bins.iter().map(|bin| facts(bin, slow_from)).collect();
        let default = Settings::default();
        let settings = Settings {
            watch_ms: self.for_ms,
            herd_ms: default.herd_ms.min(self.for_ms / HERD_SHARE),
            ..default
        };
        Ok((Watcher::new(&baseline, opened, settings), slow_from))
    }
}

/// The latency bucket above which a request counts as slow: the one of the baseline's p95.
fn slow_bucket(bins: &[Bin]) -> usize {
    let mut counts: Vec<u64> = Vec::new();
    for bin in bins {
        counts.resize(counts.len().max(bin.latency_ms_log2.len()), 0);
        for (sum, count) in counts.iter_mut().zip(&bin.latency_ms_log2) {
            *sum += count;
        }
    }
    let total: u64 = counts.iter().sum();
    let mut below = 0;
    for (bucket, count) in counts.iter().enumerate() {
        below += count;
        if total > 0 && below * 100 >= total * 95 {
            return bucket + 1;
        }
    }
    usize::MAX
}

fn facts(bin: &Bin, slow_from: usize) -> BinFacts {
    BinFacts {
        at: bin.from,
        requests: bin.requests,
        sessions: bin.sessions,
        sessions_with_error: bin.sessions_with_error,
        slow: bin.latency_ms_log2.iter().skip(slow_from).sum(),
        completed: bin.completed,
        in_flight: bin.in_flight,
    }
}

/// One look at the game, through the gate, as a tester so that the waiting room does not count.
fn probe(cx: &Context<'_>) -> bool {
    let page = cx.target.smoke.iter().find(|check| {
        matches!(check, Check::Http(page) if page.http.starts_with("GET ") && page.status == 200)
    });
    let Some(check) = page else { return true };
    let pass = cx.gate().pass(1).ok();
    let version = cx.plan.to.version.to_string();
    let tester = Tester {
        base_url: &cx.target.gate_url,
        pass: pass.as_ref().map(|(header, _)| header),
        dir: &cx.target.root,
        timeout_ms: cx.target.hooks.timeout_ms,
        version: &version,
    };
    tester.check(check, &mut Jar::default(), None).is_ok()
}

fn unwell(verdict: &Verdict) -> Fault {
    Fault::new(FaultKind::Unwell, say(verdict))
        .hint("`entracte rollback` goes back; `entracte history` shows what it would cost")
}

/// A verdict for people.
fn say(verdict: &Verdict) -> String {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    match verdict {
        Verdict::Pass => "the watch saw nothing wrong".to_owned(),
        Verdict::Degraded { what, seen, expected, .. }
        | Verdict::Fail { what, seen, expected, .. } => match what {
            What::Errors => format!(
                "{} of sessions meet errors, at most {} are normal",
                percent(*seen),
                percent(*expected)
            ),
            What::Slowness => format!(
                "{} of sessions wait longer than usual, at most {} are normal",
                percent(*seen),
                percent(*expected)
            ),
            What::Probe => format!("{seen:.0} probes in a row failed"),
            What::Hang => "requests are under way and none is completed".to_owned(),
            What::Dead => "the game does not run".to_owned(),
        },
        Verdict::Inconclusive { smallest_effect: Some(effect) } => format!(
            "nothing wrong was seen; with so few players only errors in {} of sessions would have been",
            percent(*effect)
        ),
        Verdict::Inconclusive { smallest_effect: None } => {
            "nothing wrong was seen, by too few players to say more".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_is_what_lies_above_the_ninety_fifth_percentile() {
        let bin = |counts: &[u64]| Bin { latency_ms_log2: counts.to_vec(), ..Bin::default() };
        assert_eq!(slow_bucket(&[]), usize::MAX);
        assert_eq!(slow_bucket(&[bin(&[50, 45, 5])]), 2);
        assert_eq!(slow_bucket(&[bin(&[0, 10]), bin(&[0, 0, 1])]), 3);
    }
}
