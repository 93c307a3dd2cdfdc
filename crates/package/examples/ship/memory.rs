//! The most memory that the processes of each side had, looked at every few milliseconds.

use std::process::{Child, ExitStatus};
use std::time::Duration;

use super::link::far_side;

const EVERY: Duration = Duration::from_millis(5);

/// Waits for `child`; gives the largest memory of a process on this side of the link, and on the
/// other, in bytes.
pub fn watch(mut child: Child) -> (ExitStatus, u64, u64) {
    let (mut here, mut there) = (0, 0);
    loop {
        look(child.id(), false, &mut here, &mut there);
        if let Some(far) = far_side() {
            look(far.sshd, true, &mut here, &mut there);
        }
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            return (status, here, there);
        }
        std::thread::sleep(EVERY);
    }
}

fn look(pid: u32, beyond: bool, here: &mut u64, there: &mut u64) {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return };
    let relay = line.split(|byte| *byte == 0).nth(1) == Some(b"relay");
    let high = read("status").ok().and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    // ssh is the same for all, and larger than some of them.
    let ssh = read("comm").is_ok_and(|name| matches!(name.trim_end(), "ssh" | "sshd"));
    if let Some(high) = high
        && !relay
        && !ssh
    {
        let side = if beyond { &mut *there } else { &mut *here };
        *side = (*side).max(high * 1_024);
    }
    let children = read(&format!("task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        look(child, beyond || relay, here, there);
    }
}
