//! The command line: one file a command.

mod abort;
pub mod adopt;
mod agent;
mod backup;
mod bootstrap;
mod completions;
mod demo;
pub mod deploy;
mod diff;
pub mod doctor;
pub mod draft;
pub mod follow;
pub mod front;
pub mod gate;
mod history;
mod init;
mod key;
pub mod log;
mod note;
mod pack;
pub mod plan;
mod quiet;
pub mod rehearse;
pub mod resume;
pub mod rollback;
mod run;
mod scripts;
mod serve;
pub mod sql;
mod status;
mod up;
pub mod verify;
mod when;

pub use abort::Args as AbortArgs;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use clap::{Parser, Subcommand};
use entracte_release::{Store, StoreError, Target};

use crate::config::{Config, ConfigError};
use crate::exit::{Exit, Failure, TABLE};
use crate::remote::{self, Remote};
use crate::report::{Meter, Paint, out};

/// Puts a new version of a live browser game into production, and takes it back if it breaks.
#[derive(Debug, Parser)]
#[command(name = "entracte", version, after_help = TABLE, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// The configuration; without it, the nearest entracte.toml at or above this folder
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "ENTRACTE_CONFIG",
        help_heading = "Global options"
    )]
    pub config: Option<PathBuf>,
    /// The target; without it, the only one, or `production`
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub target: Option<String>,
    /// Print JSON for programs instead of text for people
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Print only what went wrong
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(demo::Args),
    Init(init::Args),
    Bootstrap(bootstrap::Args),
    Note(note::Args),
    Status(status::Args),
    Diff(diff::Args),
    Pack(pack::Args),
    Verify(verify::Args),
    Adopt(adopt::Args),
    Key(key::Args),
    Rehearse(rehearse::Args),
    Plan(plan::Args),
    Deploy(deploy::Args),
    Log(log::Args),
    Resume(resume::Args),
    Abort(abort::Args),
    Rollback(rollback::Args),
    History(history::Args),
    Gate(gate::Args),
    Backup(backup::Args),
    Sql(sql::Args),
    Up(up::Args),
    Serve(serve::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Run(run::Args),
    #[command(hide = true)]
    Agent(agent::Args),
    #[command(hide = true)]
    DemoGame(demo::GameArgs),
}

/// What a command works with, opened as it is needed.
pub struct App {
    /// The options that every command takes.
    pub global: Global,
    /// How to print.
    pub paint: Paint,
    /// The connection to the target, where it is on another machine and was asked already.
    pub link: Mutex<Option<Remote>>,
}

impl App {
    /// The configuration. A wrong one is a usage error.
    pub fn config(&self) -> Result<Config, Failure> {
        Config::load(self.global.config.as_deref()).map_err(|error| {
            let hint = match &error {
                ConfigError::NotFound { .. } => Some("`entracte init` writes one"),
                ConfigError::UnknownKey { .. } => Some("docs/configuration.md lists every key"),
                _ => None,
            };
            let failure = Failure::usage(entracte_release::fault::chain(&error));
            match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })
    }

    /// The target that this command is about.
    pub fn target(&self, config: &Config) -> Result<Target, Failure> {
        let usage = |error: ConfigError| Failure::usage(entracte_release::fault::chain(&error));
        let name = config.target_name(self.global.target.as_deref()).map_err(usage)?;
        config.target(&name).map_err(usage)
    }

    /// Shows how far something has come, to whoever looks.
    pub fn meter(&self) -> Meter {
        Meter::new(self.paint.terminal && !self.global.json && !self.global.quiet)
    }

    /// The target with its store, which must be there.
    pub fn production(&self) -> Result<(Config, Target, Store), Failure> {
        let config = self.config()?;
        let target = self.target(&config)?;
        if let Some(store) = remote::mirror(self, &config, &target)? {
            return Ok((config, target, store));
        }
        let store = Store::open_existing(&target.store()).map_err(|error| {
            let exit = match &error {
                StoreError::Missing { .. } => Exit::Refused,
                _ => Exit::Broken,
            };
            Failure { exit, ..Failure::from(error) }
                .hint("`entracte init --production-version 1.0` takes production as it stands")
        })?;
        Ok((config, target, store))
    }

    /// As [`App::production`], also where production holds nothing yet and is not known.
    pub fn production_to_fill(&self) -> Result<(Config, Target, Store), Failure> {
        let config = self.config()?;
        let target = self.target(&config)?;
        let store = match remote::mirror(self, &config, &target)? {
            Some(store) => store,
            None => {
                std::fs::create_dir_all(&target.state)?;
                Store::open(&target.store())?
            }
        };
        Ok((config, target, store))
    }

    /// Prints `text` for people, or `value` for programs.
    pub fn print(&self, text: impl std::fmt::Display, value: &serde_json::Value) {
        if self.global.json {
            out::line(value);
        } else if !self.global.quiet {
            out::line(text);
        }
    }

    /// Prints one of several lines for people; programs get one document at the end.
    pub fn say(&self, text: impl std::fmt::Display) {
        if !self.global.json && !self.global.quiet {
            out::line(text);
        }
    }

    /// Prints the one document that programs get.
    pub fn document(&self, value: &serde_json::Value) {
        if self.global.json {
            out::line(value);
        }
    }

    /// Prints what is wrong: people who want quiet want to know that.
    pub fn complain(&self, text: impl std::fmt::Display, value: &serde_json::Value) {
        match (self.global.json, self.global.quiet) {
            (true, _) => out::line(value),
            (false, true) => out::note(text),
            (false, false) => out::line(text),
        }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let app = App { paint: Paint::detect(), global: cli.global, link: Mutex::default() };
    match run(&app, cli.command) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            report(&app, &failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn report(app: &App, failure: &Failure) {
    if app.global.json {
        let value = serde_json::json!({
            "error": out::plain(&failure.message), "hint": failure.hint, "exit": failure.exit as u8,
        });
        out::line(value);
        return;
    }
    let paint = app.paint;
    out::note(format!("{} {}", paint.bad("error:"), failure.message));
    if let Some(hint) = &failure.hint {
        out::note(format!("{}  {hint}", paint.dim("hint:")));
    }
}

/// A command line that is wrong, or that asks for help or the version.
fn usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && json {
        let text = error.render().to_string();
        let said = text.split("\n\nUsage:").next().unwrap_or_default().trim();
        let message = said.strip_prefix("error: ").unwrap_or(said);
        let value = serde_json::json!({ "error": message, "hint": "entracte --help", "exit": Exit::Usage as u8 });
        out::line(value);
    } else if error.use_stderr() {
        out::note(error.render().ansi().to_string().trim_end());
    } else {
        out::line(error.render().ansi().to_string().trim_end());
    }
    if error.use_stderr() { ExitCode::from(Exit::Usage as u8) } else { ExitCode::SUCCESS }
}

fn run(app: &App, command: Command) -> Result<Exit, Failure> {
    if let Some(exit) = remote::elsewhere(app, &command)? {
        return Ok(exit);
    }
    match command {
        Command::Demo(args) => demo::run(app, &args),
        Command::DemoGame(args) => demo::game(&args),
        Command::Init(args) => init::run(app, &args),
        Command::Note(args) => note::run(app, &args),
        Command::Status(args) => status::run(app, &args),
        Command::Diff(args) => diff::run(app, &args),
        Command::Pack(args) => pack::run(app, &args),
        Command::Verify(args) => verify::run(app, &args),
        Command::Adopt(args) => adopt::run(app, &args),
        Command::Key(args) => key::run(app, &args),
        Command::Rehearse(args) => rehearse::run(app, &args),
        Command::Plan(args) => plan::run(app, &args),
        Command::Deploy(args) => deploy::run(app, &args),
        Command::Log(args) => log::run(app, &args),
        Command::Resume(args) => resume::run(app, &args),
        Command::Abort(args) => abort::run(app, &args),
        Command::Rollback(args) => rollback::run(app, &args),
        Command::History(args) => history::run(app, &args),
        Command::Gate(args) => gate::run(app, &args),
        Command::Backup(args) => backup::run(app, &args),
        Command::Sql(args) => sql::run(app, &args),
        Command::Up(args) => up::run(app, &args),
        Command::Serve(args) => serve::run(app, &args),
        Command::Doctor(args) => doctor::run(app, &args),
        Command::Completions(args) => completions::run(&args),
        Command::Run(args) => run::run(app, &args),
        Command::Agent(args) => agent::run(app, &args),
        Command::Bootstrap(args) => bootstrap::run(app, &args),
    }
}

/// The whole command line, for completions, the manual page and tests.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in super::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("entracte "), "{} shows no example", command.get_name());
        }
    }
}
