//! Smoke: the game is tested through the gate, by a tester, while players still wait.

use std::time::{Duration, Instant};

use entracte_model::journal::{Fault, FaultKind};
use entracte_model::plan::Step;
use entracte_model::progress::Probe;
use serde_json::{Value, json};

use super::Act;
use super::close::unfence;
use crate::context::Context;
use crate::fault::{Doing, chain};
use crate::gate_goal;
use crate::smoke::{Check, Jar, Tester};

/// How long the tests may go on failing before they count, in milliseconds. A reload returns before
/// the new workers are there, and what still answers then is the old version: a release that took
/// that for a verdict would take good versions back by chance.
const SETTLE_MS_MAX: u64 = 3_000;
/// The pause before they are tried again, in milliseconds: players wait meanwhile.
const SETTLE_POLL_MS: u64 = 10;
/// How long a tester's pass is good for, in minutes: far longer than any smoke test.
const PASS_MINUTES: u32 = 30;

pub(crate) struct Smoke;

impl Act for Smoke {
    fn before(&self, _: &mut Context<'_>) -> Result<Value, Fault> {
        Ok(Value::Null)
    }

    fn run(&self, cx: &mut Context<'_>, _: &Value) -> Result<Value, Fault> {
        gate_goal::show_progress(cx, Step::Smoke {});
        // The game itself must reach its database again; players still cannot reach the game.
        unfence(cx)?;
        let (pass, _) =
            cx.gate().pass(PASS_MINUTES).doing("asking the gate for a tester's pass")?;
        let target = cx.target;
        let version = cx.plan.to.version.to_string();
        let tester = Tester {
            base_url: &target.gate_url,
            pass: Some(&pass),
            dir: &target.root,
            timeout_ms: target.hooks.timeout_ms,
            version: &version,
        };
        let total = u64::from(target.smoke_passes) * target.smoke.len() as u64;
        // Where nothing is reloaded, the first answer is the new version's.
        let settle_ms = if target.hooks.reload.is_empty() { 0 } else { SETTLE_MS_MAX };
        let settled = Instant::now() + Duration::from_millis(settle_ms);
        // All passes in a row, or all of them again.
        while let Err(fault) = passes(cx, &tester, total) {
            if fault.kind != FaultKind::Broken || Instant::now() >= settled {
                return Err(fault);
            }
            std::thread::sleep(Duration::from_millis(SETTLE_POLL_MS));
        }
        if target.smoke.is_empty() {
            cx.say(
                entracte_model::journal::Level::Warning,
                "no smoke tests are configured: nobody looked whether the game works",
            );
        } else {
            cx.info(format!("{total} smoke tests passed"));
        }
        Ok(json!({ "tests": total }))
    }

    fn probe(&self, _: &mut Context<'_>, _: &Value) -> Probe {
        Probe::NotDone
    }
}

/// All tests, as often as configured, each time with fresh cookies.
fn passes(cx: &mut Context<'_>, tester: &Tester<'_>, total: u64) -> Result<(), Fault> {
    let target = cx.target;
    let mut done = 0;
    for pass_number in 1..=target.smoke_passes {
        let mut jar = Jar::default();
        for check in &target.smoke {
            cx.safe_point("testing")?;
            // Players wait: no connection is made for a test that asks none.
            let mut database = if check.asks_database() { cx.database()? } else { None };
            let result = tester.check(check, &mut jar, database.as_deref_mut());
            result.map_err(|error| {
                let message = format!(
                    "smoke test {} failed in pass {pass_number}: {}",
                    check.name(),
                    chain(&error)
                );
                Fault::new(FaultKind::Broken, message)
                    .hint("the answer is in the log; players saw nothing of it")
            })?;
            done += 1;
            cx.progress(done, total, "tests", check.name());
        }
    }
    Ok(())
}

/// Waits until the game answers as `version` again, before players are let back into it: a reload
/// returns before the workers that compiled the other version are gone, and those would work on data
/// that they do not know. False where it does not, or not with this version's smoke tests.
pub(crate) fn settle(cx: &mut Context<'_>, version: &str) -> Result<bool, Fault> {
    let target = cx.target;
    let telling: Vec<&Check> = target.smoke.iter().filter(|check| check.tells_version()).collect();
    if target.hooks.reload.is_empty() || telling.is_empty() {
        return Ok(true);
    }
    let (pass, _) = cx.gate().pass(PASS_MINUTES).doing("asking the gate for a tester's pass")?;
    let tester = Tester {
        base_url: &target.gate_url,
        pass: Some(&pass),
        dir: &target.root,
        timeout_ms: target.hooks.timeout_ms,
        version,
    };
    // Not a wait that a signal ends: the way back is what the signal asked for.
    let settled = Instant::now() + Duration::from_millis(SETTLE_MS_MAX);
    loop {
        let mut jar = Jar::default();
        if telling.iter().all(|check| tester.check(check, &mut jar, None).is_ok()) {
            return Ok(true);
        }
        if Instant::now() >= settled {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(SETTLE_POLL_MS));
    }
}
