//! `entracte`: puts a new version of a live browser game into production, and takes it back if it breaks.

mod cli;
mod config;
mod daemon;
mod dashboard;
mod demo;
mod duties;
mod exit;
mod remote;
mod report;

fn main() -> std::process::ExitCode {
    cli::main()
}
