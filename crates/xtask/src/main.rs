//! `cargo xtask`: what developers of Entracte run, besides cargo itself.
//!
//! No dependencies: it is built before anything else, and in seconds.

mod bench;
mod picture;
mod programs;
mod run;
mod setup;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask <command>

  setup                    install what the tests need (Debian packages, with sudo where not root)
  test [--fast] [-- ARGS]  setup, fmt, clippy, tidy, build, all tests; ARGS go to `cargo test`
                           --fast leaves out fmt and clippy
  ci                       the same as `test`: what runs for every change
  tidy                     the rules of this repository that no compiler knows
  tidy --write             write the tables in docs/ that are made from the code
  bench                    list the benchmarks
  bench NAME [ARGS]        run one, in a release build
  picture                  run the demo and write docs/demo.svg, the picture in the README";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["setup"] => setup::setup(),
        ["ci"] => test::Options::parse(&[]).and_then(|options| test::test(&options)),
        ["test", rest @ ..] => test::Options::parse(rest).and_then(|options| test::test(&options)),
        ["tidy"] => tidy::tidy(),
        ["tidy", "--write"] => tidy::write(),
        ["bench"] => bench::list(),
        ["bench", name, rest @ ..] => bench::bench(name, rest),
        ["picture"] => picture::picture(),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        [] => Err(USAGE.to_owned()),
        other => Err(format!("`{}` is not understood\n\n{USAGE}", other.join(" "))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate lies two folders below the workspace").to_owned()
}
