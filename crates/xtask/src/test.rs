//! `cargo xtask test`: everything that must hold before a change is taken.

use std::time::Instant;

use crate::run::{cargo, run, run_and_look};
use crate::{programs, setup, tidy};

/// What `cargo xtask test` was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Leave out the formatting and clippy.
    fast: bool,
    /// What goes on to `cargo test`.
    rest: Vec<String>,
}

impl Options {
    /// Reads the arguments behind `test`.
    pub fn parse(args: &[&str]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match *arg {
                "--fast" => options.fast = true,
                "--" => options.rest.extend(args.by_ref().map(|arg| (*arg).to_owned())),
                other => {
                    return Err(format!(
                        "`{other}`: expected --fast, or -- and arguments of cargo test"
                    ));
                }
            }
        }
        Ok(options)
    }
}

/// Runs all of it, the cheap things first, and ends with one line that says how it went.
pub fn test(options: &Options) -> Result<(), String> {
    let began = Instant::now();
    setup::setup()?;
    if !options.fast {
        let mut fmt = cargo();
        fmt.args(["fmt", "--all", "--check"]);
        run(fmt)?;
        let mut clippy = cargo();
        clippy.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
        run(clippy)?;
    }
    tidy::tidy()?;
    // Tests start the real program, from where cargo puts it.
    let mut build = cargo();
    build.args(["build", "--package", "entracte"]);
    run(build)?;
    let mut counts = Counts::default();
    let passed = if options.rest.is_empty() {
        let programs = programs::run_all(|line| counts.take(line))?;
        let mut examples = cargo();
        examples.args(["test", "--workspace", "--doc", "--no-fail-fast"]);
        run_and_look(examples, |line| counts.take(line))? && programs
    } else {
        let mut tests = cargo();
        tests.args(["test", "--workspace", "--no-fail-fast"]).args(&options.rest);
        run_and_look(tests, |line| counts.take(line))?
    };
    let seconds = began.elapsed().as_secs();
    let summary = format!(
        "{} tests passed, {} failed, {} ignored, in {} min {} s",
        counts.passed,
        counts.failed,
        counts.ignored,
        seconds / 60,
        seconds % 60
    );
    if !passed || counts.failed > 0 {
        return Err(summary);
    }
    if counts.ignored > 0 {
        return Err(format!("{summary}: no test is left out here, mend it or remove it"));
    }
    if counts.passed == 0 {
        return Err(format!("{summary}: nothing was tested"));
    }
    println!("\n{summary}");
    Ok(())
}

/// The sum of what the test programs report.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
    fn take(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            let Some((number, what)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let mut counts = Counts::default();
        counts.take("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; finished in 0.1s");
        counts.take("test a_test ... ok");
        counts.take("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured");
        assert_eq!(counts, Counts { passed: 5, failed: 1, ignored: 1 });
    }

    #[test]
    fn arguments_behind_the_dashes_go_to_cargo() {
        let options = Options::parse(&["--fast", "--", "--package", "x", "--", "--nocapture"]);
        let rest = ["--package", "x", "--", "--nocapture"].map(str::to_owned).to_vec();
        assert_eq!(options, Ok(Options { fast: true, rest }));
        assert!(Options::parse(&["--quick"]).is_err());
    }
}
