//! `deploy` from a development machine: pack here, judge and ask here, bring, and follow.

use std::time::Instant;

use entracte_host::wire::message::Expected;
use entracte_release::{Store, Target};

use super::upload::Freight;
use super::{Remote, follow, mirror, started, upload, with_link};
use crate::cli::deploy::{self as local, Args, Package};
use crate::cli::{App, draft, plan};
use crate::config::{Config, Far};
use crate::exit::{Exit, Failure};

/// The whole of it, over one connection.
pub fn run(app: &App, config: &Config, far: Far, args: &Args) -> Result<Exit, Failure> {
    let target = app.target(config)?;
    if !args.dry_run && !args.yes {
        local::somebody_to_ask(app)?;
    }
    let mut store = with_link(app, config, far.clone(), |remote| {
        if args.dry_run {
            remote.note_configuration();
        } else {
            remote.configure()?;
        }
        mirror::store(remote, config, &target)
    })?;
    nothing_under_way(&mut store)?;
    local::not_frozen(&store)?;
    let path = match local::package(app, args, config, &target, &store)? {
        Package::There(path) => path,
        Package::Foreseen(plan) => {
            app.print(plan::render(app, &plan), &serde_json::to_value(&plan)?);
            return Ok(Exit::Done);
        }
    };
    let archive = plan::open(&path, &target)?;
    local::judge(&target, &store, archive.record())?;
    let foreseen = plan::deployment(&target, &store, &archive)?;
    if args.dry_run {
        app.print(plan::render(app, &foreseen), &serde_json::to_value(&foreseen)?);
        return Ok(Exit::Done);
    }
    local::confirm(app, args, &foreseen)?;
    let freight = Freight::new(config, &target, &store, &archive)?;
    with_link(app, config, far, |remote| {
        remember(remote, &store, &foreseen.to.manifest)?;
        let there = upload::bring(app, remote, &freight)?;
        let expected = Expected {
            at_least: foreseen.id,
            sequence: foreseen.sequence,
            manifest: foreseen.to.manifest,
        };
        begin(app, remote, args, there, &expected, &target)
    })
}

/// A release that is not finished comes first; who holds its lock is known there only.
fn nothing_under_way(store: &mut Store) -> Result<(), Failure> {
    let Some(release) = store.unfinished()? else { return Ok(()) };
    let (id, exit) = (release.id, Exit::Busy);
    if let Some(at) = release.start_at {
        let message = format!("{id} is planned for {}", crate::report::local(at));
        let failure = Failure { exit, message, hint: None };
        return Err(failure.hint("`entracte abort` calls it off"));
    }
    let message = format!("{id} is under way, or was interrupted");
    let hint = "`entracte log -f` follows it, `entracte resume` goes on with it, `entracte abort` \
                takes it back; nothing was changed";
    Err(Failure { exit, message, hint: None }.hint(hint))
}

/// Of which commit the tree was packed is kept with production: the next `status` begins there.
fn remember(
    remote: &mut Remote,
    store: &Store,
    manifest: &entracte_model::Hash,
) -> Result<(), Failure> {
    let name = draft::commit_of(manifest);
    match store.setting(&name)? {
        Some(commit) => remote.remember(&name, &commit),
        None => Ok(()),
    }
}

fn begin(
    app: &App,
    remote: &mut Remote,
    args: &Args,
    there: String,
    expected: &Expected,
    _: &Target,
) -> Result<Exit, Failure> {
    let mut words = vec!["deploy".to_owned(), there, "--yes".into(), "--detach".into()];
    if let Some(at) = &args.at {
        words.extend(["--at".to_owned(), at.clone()]);
    }
    let begun = started::begin(remote, &words, Some(expected), Instant::now())?;
    if args.detach || args.at.is_some() {
        return started::say(app, &begun);
    }
    follow::follow(app, remote, Some(begun.release), begun.runner, true)
}
