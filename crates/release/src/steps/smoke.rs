//! Smoke: the game is tested through the gate, by a tester, while players still wait.

use entracte_model::journal::{Fault, FaultKind};
use entracte_model::plan::Step;
use entracte_model::progress::Probe;
use serde_json::{Value, json};

use super::Act;
use super::close::unfence;
use crate::context::Context;
use crate::fault::{Doing, chain};
use crate::gate_goal;
use crate::smoke::{Jar, Tester};

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
        let pass = cx.gate().pass(PASS_MINUTES).doing("asking the gate for a tester's pass")?;
        let target = cx.target;
        let version = cx.plan.to.version.to_string();
        let tester = Tester {
            base_url: &target.gate_url,
            pass: Some(&pass.header),
            dir: &target.root,
            timeout_ms: target.hooks.timeout_ms,
            version: &version,
        };
        let total = u64::from(target.smoke_passes) * target.smoke.len() as u64;
        let mut done = 0;
        for pass_number in 1..=target.smoke_passes {
            let mut jar = Jar::default();
            for check in &target.smoke {
                cx.safe_point("testing")?;
                let mut database = cx.database()?;
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
