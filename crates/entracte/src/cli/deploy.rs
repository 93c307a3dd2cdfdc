//! `entracte deploy`: one command for the whole procedure.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use entracte_model::plan::Plan;
use entracte_model::record::Standing;
use entracte_model::{UnixMs, Version};
use entracte_release::clock::now;
use entracte_release::{Store, Target};
use serde_json::json;

use super::plan::{deployment, find, open, render};
use super::{App, follow, pack, quiet};
use crate::config::Config;
use crate::exit::{Exit, Failure};

/// Put a version into production: pack it if needed, back up, close, install, test, reopen, tell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte deploy 1.1
  entracte deploy                    (the newest package, or a new one)
  entracte deploy 1.1 --dry-run      (the plan, and nothing else)
  entracte deploy 1.1 --at quietest  (when the fewest players lose the least)
  entracte deploy 1.1 --at 2026-12-01T04:30 --yes

Ctrl-C asks for the release to be taken back at its next safe point; a second one stops watching,
and the release goes on by itself.")]
pub struct Args {
    /// A version or a package; without it, the newest package, or a new one of the next version
    package: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Show the plan and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Start at this local time, or in the quietest hour (needs `entracte up` or `entracte serve`)
    #[arg(long, value_name = "WHEN")]
    at: Option<String>,
    /// Start it and do not follow it
    #[arg(long)]
    detach: bool,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let (config, target, mut store) = app.production()?;
    nothing_under_way(&store, &target)?;
    let packed = package(app, args, &config, &target, &store)?;
    let judged = open(&packed, &target)?;
    judge(&target, &store, judged.record())?;
    let plan = deployment(&target, &store, &judged)?;
    if args.dry_run {
        app.print(render(app, &plan), &serde_json::to_value(&plan)?);
        return Ok(Exit::Done);
    }
    confirm(app, args, &plan)?;
    let start_at = args.at.as_deref().map(|at| when(at, &target, &plan)).transpose()?;
    let kept = bring(&packed, &target, &judged.record().version)?;
    let plan = deployment(&target, &store, &open(&kept, &target)?)?;
    store.create_release(&plan, now(), start_at)?;
    store.keep_fragments(plan.id, &judged.record().fragments)?;
    if let Some(at) = start_at {
        let text = format!(
            "{} will start at {}; `entracte abort` calls it off",
            app.paint.bold(plan.id),
            crate::report::local(at)
        );
        app.print(text, &json!({ "release": plan.id, "start_at": at }));
        return Ok(Exit::Done);
    }
    let runner = follow::start(&config, &target, plan.id, &[])?;
    if args.detach {
        let text =
            format!("{} is under way; `entracte log -f` follows it", app.paint.bold(plan.id));
        app.print(text, &json!({ "release": plan.id }));
        return Ok(Exit::Done);
    }
    follow::follow(app, &target, plan.id, Some(runner))
}

/// One release at a time; an interrupted one comes first.
pub fn nothing_under_way(store: &Store, target: &Target) -> Result<(), Failure> {
    let Some(release) = store.unfinished()? else { return Ok(()) };
    let id = release.id;
    if let Some(owner) = entracte_host::lock::Lock::holder(&target.lock()) {
        let message = format!(
            "{} is at work since {} (process {} of {})",
            owner.release,
            crate::report::local(owner.since),
            owner.pid,
            owner.user
        );
        return Err(Failure { exit: Exit::Busy, message, hint: None }
            .hint("`entracte log -f` follows it; nothing was changed"));
    }
    if let Some(at) = release.start_at {
        let message = format!("{id} is planned for {}", crate::report::local(at));
        return Err(
            Failure { exit: Exit::Busy, message, hint: None }.hint("`entracte abort` calls it off")
        );
    }
    let message = format!("{id} was interrupted and is not finished");
    Err(Failure { exit: Exit::Busy, message, hint: None }
        .hint("`entracte resume` goes on, `entracte abort` takes it back"))
}

/// The package that is meant, made first where it is not there yet.
fn package(
    app: &App,
    args: &Args,
    config: &Config,
    target: &Target,
    store: &Store,
) -> Result<std::path::PathBuf, Failure> {
    let wanted = args.package.as_deref();
    let version = wanted.and_then(|wanted| wanted.parse::<Version>().ok());
    let current = store.production()?.map(|production| production.base.version);
    let found = find(config, wanted).ok().filter(|path| {
        // Without a version, only a package that is newer than production is meant.
        wanted.is_some()
            || open(path, target)
                .is_ok_and(|archive| Some(&archive.record().version) > current.as_ref())
    });
    if let Some(path) = found {
        return Ok(path);
    }
    if wanted.is_some() && version.is_none() {
        return find(config, wanted);
    }
    let args =
        pack::Args { version, allow: vec![], allow_dirty: false, dry_run: false, expires: 30 };
    let packed = pack::pack(app, &args, config, target, store)?;
    packed.map(|packed| packed.archive).ok_or_else(|| Failure::broken("nothing was packed"))
}

/// What preflight would refuse anyway is refused before anything is planned.
fn judge(
    target: &Target,
    store: &Store,
    record: &entracte_model::record::Record,
) -> Result<(), Failure> {
    let production = store.production()?;
    let standing = Standing {
        project: target.project.clone(),
        environment: target.environment.clone(),
        current: production.as_ref().map(|production| production.base.clone()),
        sequence: production.map_or(0, |production| production.sequence),
        tool: env!("CARGO_PKG_VERSION").parse().expect("cargo only takes versions"),
        now: now(),
    };
    record.judge(&standing).map_err(|refusal| Failure::refused(refusal.to_string()))
}

fn confirm(app: &App, args: &Args, plan: &Plan) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || app.global.json {
        return Err(Failure::usage("nobody is there to be asked").hint("add --yes"));
    }
    anstream::println!("{}", render(app, plan));
    anstream::print!("Deploy {}? [y/N] ", plan.to.version);
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" | "o" | "oui" => Ok(()),
        _ => Err(Failure::refused("not deployed")),
    }
}

fn when(at: &str, target: &Target, plan: &Plan) -> Result<UnixMs, Failure> {
    if at == "quietest" {
        return quiet::quietest(target, plan);
    }
    let bad =
        || Failure::usage(format!("{at:?} is no time: expected 2026-12-01T04:30 or quietest"));
    let local: jiff::civil::DateTime = at.parse().map_err(|_| bad())?;
    let zoned = local.to_zoned_datetime(jiff::tz::TimeZone::system()).map_err(|_| bad())?;
    let start = UnixMs(zoned.timestamp().as_millisecond());
    if start <= now() {
        return Err(Failure::usage(format!("{at} is over")));
    }
    Ok(start)
}

/// Brings the package to where the target keeps its packages, whole or not at all.
fn bring(
    package: &Path,
    target: &Target,
    version: &Version,
) -> Result<std::path::PathBuf, Failure> {
    let kept = target.package(version);
    if let Some(folder) = kept.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let bytes = std::fs::read(package)?;
    // The old package of the same version, if a failed attempt left one, is replaced whole.
    entracte_host::durable::write(&kept, &bytes, 0o644)?;
    Ok(kept)
}
