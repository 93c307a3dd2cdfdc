//! Commands that run on the machine of the game, and print here.

use std::io::{IsTerminal, Write};

use entracte_host::wire::{Ask, Tell, frame};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::link::failure;
use super::upload::Freight;
use super::{Remote, mirror, upload, with_link};
use crate::cli::{App, doctor as own, plan, rehearse as cli};
use crate::config::{Config, Far};
use crate::exit::{Exit, Failure};
use crate::report::out;

/// How long to wait for output before looking whether somebody pressed Ctrl-C, in milliseconds.
const POLL_MS: u64 = 100;
/// Global options with a value of their own, which the far machine chooses itself.
const OURS: [&str; 2] = ["--config", "--target"];

/// Runs the very command that was typed.
pub fn run(app: &App, config: &Config, far: Far) -> Result<Exit, Failure> {
    let args = typed(std::env::args().skip(1));
    with_link(app, config, far, |remote| {
        remote.note_configuration();
        pass_on(remote, args)
    })
}

/// The command line without the options that are about this machine.
fn typed(args: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut args = args.peekable();
    while let Some(arg) = args.next() {
        if OURS.contains(&arg.as_str()) {
            args.next();
        } else if !OURS.iter().any(|ours| arg.starts_with(&format!("{ours}="))) {
            kept.push(arg);
        }
    }
    kept
}

/// Runs a command there and prints what it prints.
fn pass_on(remote: &mut Remote, args: Vec<String>) -> Result<Exit, Failure> {
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, std::sync::Arc::clone(&stop))?;
    }
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    remote.ask(&Ask::Run { args, colour })?;
    loop {
        if stop.swap(false, std::sync::atomic::Ordering::SeqCst) {
            remote.ask(&Ask::Stop {})?;
        }
        let Some(frame) = remote.frame_within(POLL_MS).map_err(failure)? else { continue };
        match frame::message::<Tell>(&frame)? {
            Tell::Output { error } => print(error, &remote.hear_data()?),
            Tell::Exited { code } => return Ok(Exit::of(code)),
            Tell::Failed { exit, message, hint } => {
                return Err(Failure { exit: Exit::of(exit), message, hint });
            }
            other => return Err(remote.wrong("what the command prints", &other)),
        }
    }
}

fn print(error: bool, bytes: &[u8]) {
    match error {
        // Where nobody can read it there is nobody left to tell.
        true => drop(std::io::stderr().write_all(bytes)),
        false => out::bytes(bytes),
    }
}

/// Looks at the way to the machine first, then at everything there.
pub fn doctor(app: &App, config: &Config, far: Far) -> Result<Exit, Failure> {
    let target = app.target(config)?;
    let mut remote = match Remote::open(&config.file.project, far) {
        Ok(remote) => remote,
        Err(failure) => {
            let hint = failure.hint.unwrap_or_default();
            own::show(app, &[json!({ "level": "bad", "text": failure.message, "hint": hint })]);
            return Ok(Exit::Refused);
        }
    };
    let mut findings = vec![way(&remote), configuration(&remote), own::own_key(config, &target)];
    let told = remote.said(&["doctor"])?;
    findings.extend(told.as_array().into_iter().flatten().cloned());
    own::show(app, &findings);
    let bad = findings.iter().any(|finding| finding["level"] == "bad");
    Ok(if bad { Exit::Refused } else { Exit::Done })
}

fn way(remote: &Remote) -> Value {
    let text =
        format!("{} answers ({}, entracte {})", remote.host(), remote.machine(), remote.tool());
    json!({ "level": "good", "text": text, "hint": null })
}

fn configuration(remote: &Remote) -> Value {
    match (remote.is_configured(), remote.is_fixed()) {
        (true, _) => {
            let text = "the configuration there is the one of this machine";
            json!({ "level": "good", "text": text, "hint": null })
        }
        (false, fixed) => json!({
            "level": "warning", "text": "the configuration there is another one than here",
            "hint": if fixed { "it is kept there by hand (`agent --fixed`)" }
                    else { "`entracte bootstrap` and `entracte deploy` bring it" },
        }),
    }
}

/// Rehearses a package there, which is brought first.
pub fn rehearse(app: &App, config: &Config, far: Far, args: &cli::Args) -> Result<Exit, Failure> {
    let target = app.target(config)?;
    let path = plan::find(config, args.package.as_deref())?;
    let archive = plan::open(&path, &target)?;
    with_link(app, config, far, |remote| {
        remote.configure()?;
        let store = mirror::store(remote, config, &target)?;
        let freight = Freight::new(config, &target, &store, &archive)?;
        let brought = upload::bring(app, remote, &freight)?;
        let mut args = vec!["rehearse".to_owned(), brought];
        args.extend(app.global.json.then(|| "--json".to_owned()));
        args.extend(app.global.quiet.then(|| "--quiet".to_owned()));
        pass_on(remote, args)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_far_machine_chooses_its_configuration_itself() {
        let line = "--target production backup --config=x.toml restore 1f /tmp/x --json --config y";
        let args = typed(line.split(' ').map(str::to_owned));
        assert_eq!(args, ["backup", "restore", "1f", "/tmp/x", "--json"]);
    }
}
