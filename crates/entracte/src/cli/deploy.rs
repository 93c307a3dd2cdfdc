//! `entracte deploy`: one command for the whole procedure.

use std::io::{BufRead, IsTerminal};

use entracte_model::Version;
use entracte_model::plan::Plan;
use entracte_model::record::{Refusal, Standing};
use entracte_package::archive::Archive;
use entracte_release::clock::now;
use entracte_release::{Store, Target};
use serde_json::json;

use super::plan::{deployment, find, open, render};
use super::when::When;
use super::{App, follow, pack};
use crate::config::Config;
use crate::daemon;
use crate::exit::{Exit, Failure};
use crate::report::out;

/// Put a version into production, and take it back if it breaks
#[derive(Debug, clap::Args)]
#[command(
    after_help = "It packs if needed, backs up, tells the players, closes, installs, tests, reopens, tells, watches.

Examples:
  entracte deploy 1.1
  entracte deploy                    (the newest package, or a new one)
  entracte deploy 1.1 --dry-run      (the plan, and nothing else)
  entracte deploy 1.1 --at quietest  (when the fewest players lose the least)
  entracte deploy 1.1 --at 04:30 --yes
  entracte deploy 1.1 --at 2026-12-01T04:30 --yes

Ctrl-C asks for the release to be taken back at its next safe point; a second one stops watching,
and the release goes on by itself."
)]
pub struct Args {
    /// A version or a package; without it, the newest package, or a new one of the next version
    pub package: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Show the plan and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Start at this local time, after so long (`+2h`), or in the `quietest` hour of the coming
    /// week; `entracte up` or `entracte serve` must run then
    #[arg(long, value_name = "WHEN")]
    pub at: Option<String>,
    /// Start it and do not follow it
    #[arg(long)]
    pub detach: bool,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let (config, target, mut store) = app.production()?;
    nothing_under_way(&mut store, &target)?;
    not_frozen(&store)?;
    // What is wrong with the command line is said before anything is made.
    let at = args.at.as_deref().map(When::parse).transpose()?;
    if !args.dry_run && !args.yes {
        somebody_to_ask(app)?;
    }
    let packed = match package(app, args, &config, &target, &store)? {
        Package::There(path) => path,
        Package::Foreseen(plan) => {
            app.print(render(app, &plan), &serde_json::to_value(&plan)?);
            return Ok(Exit::Done);
        }
    };
    let judged = open(&packed, &target)?;
    judge(&target, &store, judged.record())?;
    let plan = deployment(&target, &store, &judged)?;
    if args.dry_run {
        app.print(render(app, &plan), &serde_json::to_value(&plan)?);
        return Ok(Exit::Done);
    }
    let start_at = at.map(|at| at.of(&target, &plan)).transpose()?;
    confirm(app, args, &plan)?;
    let kept = bring(app, &judged, &target)?;
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
        if entracte_host::lock::Lock::holder(&daemon::lock(&target)).is_none() {
            out::note(format!(
                "{} nothing runs that would start it: `entracte up`, or `entracte serve`",
                app.paint.warn("warning:")
            ));
        }
        return Ok(Exit::Done);
    }
    let runner = follow::start(&config, &target, plan.id, &[])?;
    if args.detach {
        return follow::detached(app, &target, plan.id, runner);
    }
    follow::follow(app, &target, plan.id, Some(runner))
}

/// How long the process of a release may take to write its first entry, in milliseconds.
const STARTING_MS_MAX: u64 = 10_000;

/// One release at a time; an interrupted one comes first.
pub fn nothing_under_way(store: &mut Store, target: &Target) -> Result<(), Failure> {
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
    if store.entries(id, 0)?.is_empty() {
        if now().since(release.created) > STARTING_MS_MAX {
            // Its process died before it did anything: there is nothing to resume nor to undo.
            store.forget_unbegun(id)?;
            return Ok(());
        }
        let message = format!("{id} is just about to begin");
        return Err(Failure { exit: Exit::Busy, message, hint: None }
            .hint("`entracte log -f` follows it; nothing was changed"));
    }
    let message = format!("{id} was interrupted and is not finished");
    Err(Failure { exit: Exit::Busy, message, hint: None }
        .hint("`entracte resume` goes on, `entracte abort` takes it back"))
}

/// A freeze is for everybody, whatever the package.
pub fn not_frozen(store: &Store) -> Result<(), Failure> {
    match store.setting("freeze")? {
        Some(why) => Err(Failure::refused(format!("releases are frozen: {why}"))
            .hint("`entracte history --unfreeze` ends the freeze")),
        None => Ok(()),
    }
}

/// What is deployed.
pub enum Package {
    /// A package that is there, or was just made.
    There(std::path::PathBuf),
    /// Only its plan: a dry run makes nothing.
    Foreseen(Box<Plan>),
}

/// The package that is meant, made first where it is not there yet.
pub fn package(
    app: &App,
    args: &Args,
    config: &Config,
    target: &Target,
    store: &Store,
) -> Result<Package, Failure> {
    let wanted = args.package.as_deref();
    let version = wanted.and_then(|wanted| wanted.parse::<Version>().ok());
    let found = find(config, wanted).ok().filter(|path| {
        // Without a version, only a package is meant that production would take.
        let fits = || open(path, target).and_then(|found| judge(target, store, found.record()));
        wanted.is_some() || fits().is_ok()
    });
    if let Some(path) = found {
        return Ok(Package::There(path));
    }
    if wanted.is_some() && version.is_none() {
        return find(config, wanted).map(Package::There);
    }
    let pack_args = pack::Args {
        version,
        allow: vec![],
        allow_dirty: false,
        full: false,
        dry_run: false,
        expires: 30,
    };
    if args.dry_run {
        let plan = pack::foresee(app, &pack_args, config, target, store)?;
        return Ok(Package::Foreseen(Box::new(plan)));
    }
    let packed = pack::pack(app, &pack_args, config, target, store)?;
    let packed = packed.map(|packed| Package::There(packed.archive));
    packed.ok_or_else(|| Failure::broken("nothing was packed"))
}

/// What preflight would refuse anyway is refused before anything is planned.
pub fn judge(
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
    record.judge(&standing).map_err(|refusal| {
        let failure = Failure::refused(refusal.to_string());
        match refusal {
            Refusal::Replayed { .. } | Refusal::WrongBase { .. } | Refusal::Expired(_) => {
                failure.hint(format!("`entracte pack {}` makes it anew", record.version))
            }
            _ => failure,
        }
    })
}

pub fn confirm(app: &App, args: &Args, plan: &Plan) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    out::line(render(app, plan));
    match agreed(&format!("Deploy {}?", plan.to.version))? {
        true => Ok(()),
        false => Err(Failure::refused("not deployed; nothing was changed")),
    }
}

/// Whether there is a person at the terminal who can be asked.
pub fn somebody_to_ask(app: &App) -> Result<(), Failure> {
    if std::io::stdin().is_terminal() && !app.global.json {
        return Ok(());
    }
    Err(Failure::usage("nobody is there to be asked").hint("add --yes"))
}

/// Asks for a yes or a no; anything but a yes is a no.
pub fn agreed(question: &str) -> Result<bool, Failure> {
    out::ask(format!("{question} [y/N]"));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes" | "o" | "oui"))
}

/// Brings the package to where the target keeps its packages, whole or not at all. One that arrived
/// by a connection is not needed any more then: sent again, it is found where it is kept.
fn bring(app: &App, package: &Archive, target: &Target) -> Result<std::path::PathBuf, Failure> {
    let kept = target.package(&package.record().version);
    if package.path() == kept {
        return Ok(kept);
    }
    if let Some(folder) = kept.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // The old package of the same version, if a failed attempt left one, is replaced whole.
    package.save(&kept, &mut app.meter().of("keeping the package"))?;
    if package.path().starts_with(target.incoming()) {
        std::fs::remove_dir_all(package.path())?;
    }
    Ok(kept)
}
