//! `cargo xtask bench`: the benchmarks, each an example `bench_NAME.rs` of a crate.
//!
//! The program that it measures is built before it, for release (with `--dev`, as in development).
//! Where a benchmark compares, both sides run in it, on the same machine.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{cargo, run};

struct Bench {
    name: String,
    about: String,
}

/// Prints the benchmarks that there are.
pub fn list() -> Result<(), String> {
    let benches = benches(&crate::root())?;
    if benches.is_empty() {
        println!("there are no benchmarks (they would be crates/*/examples/bench_NAME.rs)");
    }
    for bench in benches {
        println!("{:12} {}", bench.name, bench.about);
    }
    Ok(())
}

/// Runs the benchmark `name` with its arguments.
pub fn bench(name: &str, args: &[&str]) -> Result<(), String> {
    let root = crate::root();
    let benches = benches(&root)?;
    let Some(bench) = benches.iter().find(|bench| bench.name == name) else {
        let names: Vec<&str> = benches.iter().map(|bench| bench.name.as_str()).collect();
        return Err(format!("there is no benchmark `{name}`; there are: {}", names.join(", ")));
    };
    // A development build is there in a moment; its figures are worth less, and say so.
    let (dev, args): (Vec<&str>, Vec<&str>) = args.iter().partition(|arg| **arg == "--dev");
    let profile: &[&str] = if dev.is_empty() { &["--release"] } else { &[] };
    let mut build = cargo();
    // In one build: asked for by package, the dependencies would be compiled again with fewer
    // features.
    let example = format!("bench_{}", bench.name);
    build.arg("build").args(profile).args(["--workspace", "--bins", "--example", &example]);
    run(build)?;
    let folder = if dev.is_empty() { "release" } else { "debug" };
    let program = target()?.join(folder).join("examples").join(example);
    let mut command = Command::new(program);
    command.args(args).current_dir(&root);
    run(command)
}

/// The build's folder, in which this very program lies too.
fn target() -> Result<PathBuf, String> {
    let program =
        env::current_exe().map_err(|error| format!("where this program lies: {error}"))?;
    let target = program.parent().and_then(Path::parent).map(Path::to_owned);
    target.ok_or_else(|| format!("{} is in no build's folder", program.display()))
}

fn benches(root: &Path) -> Result<Vec<Bench>, String> {
    let mut benches = Vec::new();
    for folder in entries(&root.join("crates"))? {
        for file in entries(&folder.join("examples")).unwrap_or_default() {
            let file_name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = file_name.strip_prefix("bench_").and_then(|name| name.strip_suffix(".rs"));
            let Some(name) = name else { continue };
            let text = read(&file)?;
            let about = text.lines().find_map(|line| line.strip_prefix("//! ")).unwrap_or_default();
            benches.push(Bench { name: name.to_owned(), about: about.to_owned() });
        }
    }
    benches.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(benches)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_benchmark_is_found_and_says_what_it_measures() {
        let found = benches(&crate::root()).unwrap();
        let names: Vec<&str> = found.iter().map(|bench| bench.name.as_str()).collect();
        assert_eq!(names, ["backup", "flood", "gate", "hold", "script", "ship", "window"]);
        for bench in found {
            assert!(
                !bench.about.is_empty(),
                "bench_{}.rs begins without a line of //!",
                bench.name
            );
        }
    }
}
