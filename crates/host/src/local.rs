//! The machine that this process runs on.

use crate::op::{Host, Op, Progress, Reply};
use crate::{HostError, exchange, facts, hook, tree};

/// This machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local;

impl Host for Local {
    fn call(&mut self, op: &Op, say: &mut dyn FnMut(Progress)) -> Result<Reply, HostError> {
        match op {
            Op::Facts { paths } => facts::facts(paths).map(|facts| Reply::Facts { facts }),
            Op::Exchange { a, b } => {
                exchange::exchange(a, b).map(|(a, b)| Reply::Exchanged { a, b })
            }
            Op::PointLink { link, to } => {
                exchange::point_link(link, to).map(|previous| Reply::Linked { previous })
            }
            Op::Hook { name, command, dir, timeout_ms, env } => {
                let hook = hook::Hook { name, command, dir, timeout_ms: *timeout_ms, env };
                hook::run(&hook, say).map(|done| Reply::Hook { done })
            }
            Op::RemoveTree { path, marker } => {
                tree::remove(path, marker).map(|existed| Reply::Removed { existed })
            }
        }
    }
}
