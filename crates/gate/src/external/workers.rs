//! Worker processes of a server, by which it is told that nobody is in the game any more: a worker
//! that a reload replaced ends when the last request that it began has ended.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One process, told from a later one with the same number by when it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Worker {
    pid: u32,
    began: u64,
}

impl Worker {
    /// Whether it still runs.
    pub(super) fn runs(&self) -> bool {
        look(self.pid).is_some_and(|found| found.began == self.began && found.state != 'Z')
    }
}

struct Look {
    name: String,
    state: char,
    parent: u32,
    began: u64,
}

/// The workers of the server whose main process wrote its number into `pid_file`: its children that
/// are of its own name. Nothing where the file or the process cannot be seen.
pub(super) fn of(pid_file: &Path) -> Option<Vec<Worker>> {
    let main: u32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let name = look(main)?.name;
    let mut workers = Vec::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse().ok()) else {
            continue;
        };
        if let Some(found) = look(pid)
            && (found.parent, &found.name) == (main, &name)
            && found.state != 'Z'
        {
            workers.push(Worker { pid, began: found.began });
        }
    }
    Some(workers)
}

/// What `/proc` tells of a process: see proc_pid_stat(5).
fn look(pid: u32) -> Option<Look> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (front, rest) = stat.rsplit_once(')')?;
    let (_, name) = front.split_once('(')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Look {
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        began: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_of_the_same_name_are_workers_until_they_end() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("main.pid");
        fs::write(&pid_file, format!("{}\n", std::process::id())).unwrap();
        let mut other = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let found = of(&pid_file).unwrap();
        assert!(found.iter().all(|worker| worker.pid != other.id()), "{found:?}");
        let began = look(other.id()).unwrap().began;
        let worker = Worker { pid: other.id(), began };
        assert!(worker.runs());
        assert!(!Worker { began: began + 1, ..worker.clone() }.runs());
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!worker.runs());
        assert!(of(&dir.path().join("none.pid")).is_none());
    }
}
