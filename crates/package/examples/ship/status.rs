//! `entracte status` and `git status` on very many files of which none changed, as a person runs
//! them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Verdict, trees};

/// How often each of the two is run, in turns.
const RUNS: usize = 15;

/// Compares the medians.
pub fn compare(dir: &Path, count: usize, verdict: &mut Verdict) -> String {
    let tree = dir.join("many");
    trees::make_many(&tree, count);
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        // A clean-up in the background would write to the tree while it is measured.
        command.args(["-c", "gc.auto=0", "-c", "maintenance.auto=false"]).arg("-C").arg(&tree);
        command.args(args);
        command
    };
    let ours = |args: &[&str]| {
        let program = std::env::current_exe().expect("this program has a path");
        let program = program.parent().and_then(Path::parent).expect("it lies in `examples`");
        let mut command = Command::new(program.join("entracte"));
        command.current_dir(&tree).env("HOME", dir).env_remove("XDG_CACHE_HOME").args(args);
        command
    };
    // Production holds the same.
    super::run(Command::new("cp").arg("-a").arg(&tree).arg(dir.join("production")));
    let init = ["init", "--project", "bench", "--root", "../production", "--state", "../state"];
    let known = ["--upstream", "127.0.0.1:8081", "--production-version", "1.0"];
    quiet(&mut ours(&[&init[..], &known[..]].concat()));
    quiet(&mut git(&["init", "-q"]));
    quiet(&mut git(&["add", "-A"]));
    quiet(&mut git(&["-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "all"]));
    // Entries as young as the index are read again, by git and by us.
    std::thread::sleep(Duration::from_millis(1_100));
    quiet(&mut git(&["status"]));
    quiet(&mut ours(&["status"]));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (times, command) in times.iter_mut().zip([git(&["status"]), ours(&["status"])]) {
            let mut command = command;
            let started = Instant::now();
            quiet(&mut command);
            times.push(started.elapsed());
        }
    }
    for made in ["many", "production", "state"] {
        std::fs::remove_dir_all(dir.join(made)).expect("the trees are removed");
    }
    let [git, ours] = times.map(|mut times| {
        times.sort();
        times[RUNS / 2].as_secs_f64() * 1_000.0
    });
    verdict.status = ours / git;
    let text = format!(
        "| looking at {count} unchanged files | median of {RUNS}, in turns |\n|---|---|\n\
         | `git status` | {git:.0} ms |\n| `entracte status` | {ours:.0} ms |\n\n"
    );
    eprint!("{text}");
    text
}

fn quiet(command: &mut Command) {
    super::run(command.stdout(Stdio::null()));
}
