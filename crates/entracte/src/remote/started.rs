//! Commands that start a release there: the wish is sent until it is known to have arrived, and
//! never starts two.

use std::time::Instant;

use entracte_host::wire::message::Expected;
use entracte_host::wire::{Ask, SshError, Tell};
use entracte_model::plan::{Plan, ReleaseId};
use serde_json::Value;

use super::link::{document, failure};
use super::{Remote, follow, with_link};
use crate::cli::{AbortArgs, App, resume as resume_cli, rollback as cli};
use crate::config::{Config, Far};
use crate::exit::{Exit, Failure};
use crate::report::out;

/// A release that was started.
pub struct Begun {
    /// Which one.
    pub release: ReleaseId,
    /// The process that carries it out, if it was started just now.
    pub runner: Option<u32>,
    /// What the command said.
    value: Value,
}

/// Sends the wish, again over a new connection where the old one is lost before the answer.
pub fn begin(
    remote: &mut Remote,
    args: &[String],
    expects: Option<&Expected>,
    since: Instant,
) -> Result<Begun, Failure> {
    follow::signals()?;
    loop {
        match attempt(remote, args, expects) {
            Ok(value) => return begun(value?),
            // Without a mark by which it would be known again, it is not repeated.
            Err(lost) if lost.is_lost() && expects.is_some() => remote.again(lost, since)?,
            Err(lost) if lost.is_lost() => {
                return Err(failure(lost).hint("`entracte log -f` shows whether it began"));
            }
            Err(error) => return Err(failure(error)),
        }
    }
}

fn begun(value: Value) -> Result<Begun, Failure> {
    let release = value["release"].as_str().and_then(|id| id.parse().ok());
    let runner = value["runner"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    match release {
        Some(release) => Ok(Begun { release, runner, value }),
        None => Err(Failure::broken(format!("the far command named no release: {value}"))),
    }
}

fn attempt(
    remote: &mut Remote,
    args: &[String],
    expects: Option<&Expected>,
) -> Result<Result<Value, Failure>, SshError> {
    remote.try_ask(&Ask::Begin { args: args.to_vec(), expects: expects.cloned() })?;
    let mut printed = Vec::new();
    loop {
        match remote.try_hear()? {
            Ok(Tell::Output { error }) => {
                let bytes = remote.try_hear_data()?;
                match error {
                    true => out::note(String::from_utf8_lossy(&bytes).trim_end()),
                    false => printed.extend(bytes),
                }
            }
            Ok(Tell::Said { value }) => return Ok(Ok(value)),
            Ok(Tell::Exited { code }) => return Ok(document(&printed, code)),
            Ok(other) => return Ok(Err(remote.wrong("that it began", &other))),
            Err(failure) => return Ok(Err(failure)),
        }
    }
}

/// Says what began, for whoever does not follow it.
pub fn say(app: &App, begun: &Begun) -> Result<Exit, Failure> {
    let id = app.paint.bold(begun.release);
    let text = match begun.value["start_at"].as_i64() {
        Some(at) => format!(
            "{id} will start at {}; `entracte abort` calls it off",
            crate::report::local(entracte_model::UnixMs(at))
        ),
        None => format!("{id} is under way; `entracte log -f` follows it"),
    };
    app.print(text, &begun.value);
    Ok(Exit::Done)
}

/// Back to the version before: the price is asked there and said here.
pub fn rollback(app: &App, config: &Config, far: Far, args: &cli::Args) -> Result<Exit, Failure> {
    with_link(app, config, far, |remote| {
        remote.note_configuration();
        let mut words = vec!["rollback".to_owned()];
        words.extend(args.release.map(|id| id.to_string()));
        words.extend(args.with_data.then(|| "--with-data".to_owned()));
        let asked: Vec<&str> = words.iter().map(String::as_str).chain(["--dry-run"]).collect();
        let value = remote.said(&asked)?;
        let plan: Plan = serde_json::from_value(value["plan"].clone())?;
        let price = value["price_in_words"].as_str().unwrap_or_default().to_owned();
        if args.dry_run {
            app.print(format!("{}\n{price}", crate::cli::plan::render(app, &plan)), &value);
            return Ok(Exit::Done);
        }
        cli::confirm(app, args, &plan, &price)?;
        words.extend(["--yes".to_owned(), "--detach".to_owned()]);
        let expected =
            Expected { at_least: plan.id, sequence: plan.sequence, manifest: plan.to.manifest };
        let begun = begin(remote, &words, Some(&expected), Instant::now())?;
        if args.detach {
            return say(app, &begun);
        }
        follow::follow(app, remote, Some(begun.release), begun.runner, true)
    })
}

/// Goes on with an interrupted release.
pub fn resume(
    app: &App,
    config: &Config,
    far: Far,
    args: &resume_cli::Args,
) -> Result<Exit, Failure> {
    with_link(app, config, far, |remote| {
        let words = ["resume".to_owned(), "--detach".to_owned()];
        let begun = begin(remote, &words, None, Instant::now())?;
        if args.detach {
            return say(app, &begun);
        }
        follow::follow(app, remote, Some(begun.release), begun.runner, true)
    })
}

/// Takes a release back, or calls it off.
pub fn abort(app: &App, config: &Config, far: Far, args: &AbortArgs) -> Result<Exit, Failure> {
    with_link(app, config, far, |remote| {
        let words = ["abort".to_owned(), "--detach".to_owned()];
        let value = attempt(remote, &words, None).map_err(failure)??;
        if let Some(id) = value["called_off"].as_str() {
            app.print(format!("{id} was called off"), &value);
            return Ok(Exit::Done);
        }
        let begun = begun(value)?;
        if args.detach {
            return say(app, &begun);
        }
        follow::follow(app, remote, Some(begun.release), begun.runner, true)
    })
}
