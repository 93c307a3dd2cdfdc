//! `entracte plan`: what a deployment will do, and how long the game will be closed.

use std::path::{Path, PathBuf};

use entracte_backup::Repository;
use entracte_model::Version;
use entracte_model::plan::{Plan, Step};
use entracte_model::time::{human_bytes, human_ms};
use entracte_model::way::Choice;
use entracte_package::archive::{self, Archive};
use entracte_release::{Store, Target, backups, planner, rehearse};
use serde_json::{Value, json};

use super::App;
use crate::config::Config;
use crate::exit::{Exit, Failure};

/// Show what a deployment will do, and predict the closed time
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte plan
  entracte plan 1.1
  entracte plan dist/taverne-1.1.0.tar.zst --json")]
pub struct Args {
    /// A version or a package; without it, the newest package
    package: Option<String>,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let (config, target, store) = app.production()?;
    let path = find(&config, args.package.as_deref())?;
    let archive = open(&path, &target)?;
    let plan = planner::deploy(&target, &store, archive.record(), &path)?;
    let mut text = render(app, &plan);
    let rehearsal = rehearse::last(&store, &archive.record().version.to_string())?;
    let last_resort = last_resort(&target);
    text.push_str(&about_the_point(&plan, rehearsal.as_ref(), last_resort.as_ref()));
    text.push_str(&super::front::about(&target));
    if let Some(rehearsal) = rehearsal {
        text.push_str(&format!(
            "\nRehearsed on backup {} at {}: scripts {}, way back {}.",
            rehearsal.snapshot,
            crate::report::local(rehearsal.at),
            human_ms(rehearsal.migrate_ms),
            human_ms(rehearsal.way_back_ms)
        ));
    }
    let mut document = serde_json::to_value(&plan)?;
    document["last_resort"] = match &last_resort {
        Some((ms, snapshot)) => json!({ "snapshot": snapshot, "ms": ms }),
        None => Value::Null,
    };
    app.print(text, &document);
    Ok(Exit::Done)
}

/// Which way back the plan takes, what it costs inside the closed time, and what on disk; what the
/// other ways would, and the last resort behind all of them.
fn about_the_point(
    plan: &Plan,
    rehearsal: Option<&rehearse::Rehearsal>,
    last_resort: Option<&(u64, String)>,
) -> String {
    if plan.find(|step| matches!(step, Step::WindowCopy {})).is_none() {
        return "\nRollback point: none is needed, the database stays as it is.".to_owned();
    }
    let mut text = match (&plan.point, rehearsal) {
        (Some(choice), _) => about_the_ways(choice),
        (None, Some(rehearsal)) if !rehearsal.point_way.is_empty() => format!(
            "\nRollback point: {} ({} on disk), {} of the closed time, as rehearsed.",
            rehearsal.point_way,
            human_bytes(rehearsal.point_bytes),
            human_ms(rehearsal.point_ms)
        ),
        _ => "\nRollback point: the database cannot be asked from here.".to_owned(),
    };
    text.push_str(&match last_resort {
        Some((ms, snapshot)) => format!(
            "\nLast resort: backup {snapshot} back into the database, about {}.",
            human_ms(*ms)
        ),
        None => "\nLast resort: no backup was restored yet, so its time is not known; \
                 `entracte backup check` measures it."
            .to_owned(),
    });
    text
}

fn about_the_ways(choice: &Choice) -> String {
    let mut text = match choice.taken() {
        None => "\nRollback point: none can be taken.".to_owned(),
        Some(taken) => {
            let ahead = match taken.ahead_ms {
                0 => String::new(),
                ms => format!(", after {} of work while the game runs", human_ms(ms)),
            };
            let source = if taken.is_measured { "as measured" } else { "by the sizes" };
            format!(
                "\nRollback point: {} ({} on disk), {} of the closed time{ahead}; the way back {} \
                 ({source}).",
                taken.way.what(),
                human_bytes(taken.disk_bytes),
                human_ms(taken.window_ms),
                human_ms(taken.back_ms)
            )
        }
    };
    for other in choice.others() {
        let why = other.why_not.as_deref().unwrap_or("not chosen");
        text.push_str(&format!(
            "\n  not {}: {why} ({} closed, {} on disk, way back {})",
            other.way,
            human_ms(other.window_ms),
            human_bytes(other.disk_bytes),
            human_ms(other.back_ms)
        ));
    }
    text
}

/// How long the newest backup would take back into the database, and which it is, where that was
/// measured.
fn last_resort(target: &Target) -> Option<(u64, String)> {
    let backup = &target.backup;
    if !backup.repository.exists() {
        return None;
    }
    let repository = Repository::open(&backup.repository, &backup.password_file).ok()?;
    let snapshots = repository.list().ok()?;
    let (ms, newest) = backups::last_resort(&snapshots)?;
    Some((ms, newest.short.clone()))
}

/// The plan for people.
pub fn render(app: &App, plan: &Plan) -> String {
    let paint = app.paint;
    let from = plan.from.as_ref().map_or("nothing".to_owned(), |base| base.version.to_string());
    let mut lines = vec![format!(
        "{} {} → {} on {}",
        plan.project,
        from,
        paint.bold(&plan.to.version),
        plan.environment
    )];
    for planned in &plan.steps {
        let door = match (planned.step.in_window(), plan.holds()) {
            (true, true) => "held",
            (true, false) => "closed",
            (false, _) => "",
        };
        let door = paint.warn(format!("{door:6}"));
        lines.push(format!(
            "  {door} {:12} {:26} {}",
            planned.step.name(),
            planned.expected.to_string(),
            paint.dim(planner::what(planned.step, plan))
        ));
    }
    lines.push(paint.bold(planner::window(plan)).to_string());
    lines.push(
        "If anything fails up to the reopening, files and data come back as they were.".into(),
    );
    lines.join("\n")
}

/// The package that is meant: a path, a version in `dist`, or the newest one there.
pub fn find(config: &Config, wanted: Option<&str>) -> Result<PathBuf, Failure> {
    let dist = config.at(&config.file.source.dist);
    if let Some(wanted) = wanted {
        let path = Path::new(wanted);
        if path.is_file() || archive::has_arrived(path) {
            return Ok(path.to_owned());
        }
        let version: Version =
            wanted.parse().map_err(|error: entracte_model::version::BadVersion| {
                Failure::usage(format!("{wanted} is neither a package nor a version: {error}"))
            })?;
        let path = dist.join(format!("{}-{version}.tar.zst", config.file.project));
        if path.is_file() {
            return Ok(path);
        }
        return Err(Failure::refused(format!(
            "there is no package of {version} in {}",
            dist.display()
        ))
        .hint(format!("`entracte pack {version}` makes it")));
    }
    newest(&dist, &config.file.project)?.ok_or_else(|| {
        Failure::refused(format!("there is no package in {}", dist.display()))
            .hint("`entracte pack` makes one")
    })
}

fn newest(dist: &Path, project: &str) -> Result<Option<PathBuf>, Failure> {
    // No folder is no package; what cannot be read is said by whoever packs into it.
    let Ok(entries) = std::fs::read_dir(dist) else { return Ok(None) };
    let mut packages: Vec<(Version, PathBuf)> = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let version = name
            .strip_prefix(&format!("{project}-"))
            .and_then(|rest| rest.strip_suffix(".tar.zst"));
        if let Some(version) = version.and_then(|version| version.parse().ok()) {
            packages.push((version, path));
        }
    }
    Ok(packages.into_iter().max().map(|(_, path)| path))
}

/// Opens a package whose signature must be good.
pub fn open(path: &Path, target: &Target) -> Result<Archive, Failure> {
    archive::open(path, &target.trusted_keys).map_err(|error| {
        Failure { exit: Exit::Refused, ..Failure::from(error) }
            .hint("packages are trusted by `keys` of the target in entracte.toml")
    })
}

/// Plans the installation of a package that lies on the target.
pub fn deployment(target: &Target, store: &Store, archive: &Archive) -> Result<Plan, Failure> {
    Ok(planner::deploy(target, store, archive.record(), archive.path())?)
}
