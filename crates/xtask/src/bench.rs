//! `cargo xtask bench`: the benchmarks, each an example `bench_NAME.rs` of a crate.
//!
//! The program that it measures is built before it, for release (with `--dev`, as in development).
//! Where a benchmark compares, both sides run in it, on the same machine.

use std::path::Path;

use crate::run::{cargo, run};

struct Bench {
    name: String,
    krate: String,
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
    build.arg("build").args(profile).args(["--package", "entracte"]);
    run(build)?;
    let mut command = cargo();
    command.arg("run").args(profile).args(["--package", &bench.krate, "--example"]);
    command.arg(format!("bench_{name}")).arg("--").args(args);
    run(command)
}

fn benches(root: &Path) -> Result<Vec<Bench>, String> {
    let mut benches = Vec::new();
    for folder in entries(&root.join("crates"))? {
        for file in entries(&folder.join("examples")).unwrap_or_default() {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let Some(name) = stem.strip_prefix("bench_") else { continue };
            let text = read(&file)?;
            let about = text.lines().find_map(|line| line.strip_prefix("//! ")).unwrap_or_default();
            let manifest = read(&folder.join("Cargo.toml"))?;
            let krate = manifest.lines().find_map(|line| line.strip_prefix("name = "));
            benches.push(Bench {
                name: name.to_owned(),
                krate: krate.unwrap_or_default().trim_matches('"').to_owned(),
                about: about.to_owned(),
            });
        }
    }
    benches.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(benches)
}

fn entries(dir: &Path) -> Result<Vec<std::path::PathBuf>, String> {
    let entries = std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
