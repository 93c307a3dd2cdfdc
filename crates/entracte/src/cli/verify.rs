//! `entracte verify`: a package against its signature, or production against its manifest.

use std::collections::BTreeMap;
use std::path::PathBuf;

use entracte_model::manifest::Change;
use entracte_model::{Manifest, RelPath, Version};
use entracte_package::archive::{self, Archive};
use entracte_package::verify;
use entracte_release::{Store, Target};
use serde_json::json;

use super::App;
use crate::exit::{Exit, Failure};
use crate::report::out;

/// Compare production with what was released, or a package with its signature
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte verify                              (production, file by file)
  entracte verify --heal                       (and repair it from the packages it was given)
  entracte verify dist/taverne-1.1.0.tar.zst   (a package, byte by byte)")]
pub struct Args {
    /// A package; without it, production is verified
    pub package: Option<PathBuf>,
    /// Repair production from the packages that it was given
    #[arg(long, conflicts_with = "package")]
    heal: bool,
}

/// Releases whose kept trees are looked for: retention keeps far fewer.
const RELEASES_MAX: u32 = 50;

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    match &args.package {
        Some(package) => verify_package(app, package),
        None => verify_production(app, args.heal),
    }
}

fn verify_package(app: &App, path: &std::path::Path) -> Result<Exit, Failure> {
    let config = app.config()?;
    let target = app.target(&config)?;
    let refused = |error: entracte_package::PackageError| Failure {
        exit: Exit::Refused,
        ..Failure::from(error)
    };
    let archive = archive::open(path, &target.trusted_keys).map_err(refused)?;
    archive.verify_all(&mut app.meter().of("verifying")).map_err(refused)?;
    let record = archive.record();
    app.print(
        format!(
            "{} {} {} for {}, sequence {}, {} files, signed by a trusted key",
            app.paint.good("Good:"),
            record.project,
            record.version,
            record.environment,
            record.sequence,
            record.files
        ),
        &json!({ "good": true, "record": record }),
    );
    Ok(Exit::Done)
}

fn verify_production(app: &App, heal: bool) -> Result<Exit, Failure> {
    let (_, target, store) = app.production()?;
    let production =
        store.production()?.ok_or_else(|| Failure::refused("production is not known yet"))?;
    let expected = store.manifest(&production.base.manifest)?;
    let outside = target.outside();
    let mut repaired = Vec::new();
    let cache = target.scan_cache();
    let mut changes = verify::tree(
        &target.root,
        &expected,
        &outside,
        Some(&cache),
        &mut app.meter().of("reading"),
    )?;
    if heal && !changes.is_empty() {
        let archives = packages(&target)?;
        let archives: Vec<&Archive> = archives.iter().collect();
        let kept = kept_trees(&target, &store)?;
        let trees: Vec<_> =
            kept.iter().map(|(root, manifest)| verify::Tree { root, manifest }).collect();
        let healed = verify::heal(&target.root, &expected, &archives, &trees, &outside)?;
        for path in &healed.repaired {
            app.say(format!("  {} {path}", app.paint.good("repaired")));
        }
        repaired = healed.repaired;
        changes = healed.left;
    }
    for (path, change) in &changes {
        let (sign, what) = match change {
            Change::Created => (app.paint.good("+"), "is not part of it"),
            Change::Modified => (app.paint.warn("~"), "was changed"),
            Change::Deleted => (app.paint.bad("-"), "is missing"),
        };
        if !app.global.json {
            app.complain(format!("  {sign} {path} {}", app.paint.dim(what)), &json!(null));
        }
    }
    let version = &production.base.version;
    if changes.is_empty() {
        let text = format!(
            "{} {version}, {} files",
            app.paint.good("Production is exactly"),
            expected.files()
        );
        app.print(text, &value(version, &changes, &repaired));
        return Ok(Exit::Done);
    }
    let paths = out::count(changes.len(), "path");
    let are = if changes.len() == 1 { "is" } else { "are" };
    let hint = if !heal {
        "`entracte verify --heal` puts back what the packages hold"
    } else if changes.values().all(|change| *change == Change::Created) {
        "what is not part of it is never removed by itself: look at it, and remove it by hand"
    } else {
        "no package that production was given holds the rest: a backup does (`entracte backup list`)"
    };
    let text = format!(
        "{}\n{}  {hint}",
        app.paint.bad(format!("{paths} {are} not as {version} has them")),
        app.paint.dim("hint:")
    );
    app.complain(text, &value(version, &changes, &repaired));
    Ok(Exit::Refused)
}

fn value(
    version: &Version,
    changes: &BTreeMap<RelPath, Change>,
    repaired: &[RelPath],
) -> serde_json::Value {
    json!({
        "good": changes.is_empty(), "version": version, "changes": changes, "repaired": repaired,
    })
}

/// The trees that earlier releases replaced and that are still kept, with what they hold.
fn kept_trees(target: &Target, store: &Store) -> Result<Vec<(PathBuf, Manifest)>, Failure> {
    let mut trees = Vec::new();
    for release in store.releases(RELEASES_MAX)? {
        let slot = target.slot(release.id);
        if let Some(from) = release.plan.from.as_ref().filter(|_| slot.exists()) {
            trees.push((slot, store.manifest(&from.manifest)?));
        }
    }
    Ok(trees)
}

/// Every package that production was given and whose signature is still good.
fn packages(target: &Target) -> Result<Vec<Archive>, Failure> {
    let Ok(entries) = std::fs::read_dir(target.packages()) else { return Ok(vec![]) };
    let mut archives = Vec::new();
    for entry in entries {
        if let Ok(archive) = archive::open(&entry?.path(), &target.trusted_keys) {
            archives.push(archive);
        }
    }
    Ok(archives)
}
