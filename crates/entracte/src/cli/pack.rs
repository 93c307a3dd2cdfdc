//! `entracte pack`: the next version as one signed archive, computed from what production holds.

use entracte_model::plan::Plan;
use entracte_model::time::human_bytes;
use entracte_model::{UnixMs, Version};
use entracte_package::pack::{self, Packed};
use entracte_release::clock::now;
use entracte_release::{Store, Target, planner};
use serde_json::json;

use super::App;
use super::draft::{Draft, allowed, commit_of};
use super::status::list;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::remote;
use crate::report::out;

/// Make the signed package of the next version
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte pack 1.1
  entracte pack                      (the next minor version)
  entracte pack 1.1 --allow untracked:notes.txt
  entracte pack 1.1 --dry-run
  entracte pack 1.0 --full           (the first installation)")]
pub struct Args {
    /// The version; without it, the next minor one
    pub version: Option<Version>,
    /// Pack in spite of a finding, once: `untracked`, or `untracked:notes.txt` for one file
    #[arg(long, value_name = "FINDING")]
    pub allow: Vec<String>,
    /// Pack work that is not committed
    #[arg(long)]
    pub allow_dirty: bool,
    /// Pack the whole tree, for a production that holds nothing yet: the first installation
    #[arg(long)]
    pub full: bool,
    /// Look at everything, and make nothing
    #[arg(long)]
    pub dry_run: bool,
    /// For how many days production takes the package
    #[arg(long, default_value_t = 30, value_name = "DAYS")]
    pub expires: u16,
}

const DAY_MS: u64 = 24 * 3_600 * 1_000;

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let (config, target, store) = match args.full {
        true => app.production_to_fill()?,
        false => app.production()?,
    };
    let Some(packed) = pack(app, args, &config, &target, &store)? else { return Ok(Exit::Done) };
    let record = &packed.record;
    app.print(
        format!(
            "{} {} from {}: {} to write, {} to delete, {}\n  {} ({})",
            app.paint.good("Packed"),
            record.version,
            record.base.as_ref().map_or("nothing".to_owned(), |base| base.version.to_string()),
            out::count(record.delta.put.len(), "path"),
            record.delta.delete.len(),
            out::count(record.scripts.len(), "script"),
            packed.archive.display(),
            human_bytes(packed.archive_bytes)
        ),
        &json!({
            "version": record.version, "archive": packed.archive, "folder": packed.folder,
            "bytes": packed.archive_bytes, "sequence": record.sequence,
            "written": record.delta.put.len(), "deleted": record.delta.delete.len(),
            "scripts": record.scripts.len(),
        }),
    );
    Ok(Exit::Done)
}

/// Makes the package; nothing in a dry run.
pub fn pack(
    app: &App,
    args: &Args,
    config: &Config,
    target: &Target,
    store: &Store,
) -> Result<Option<Packed>, Failure> {
    let (version, draft) = prepare(app, args, config, target, store)?;
    if args.dry_run {
        let text = format!("{version} could be packed; nothing was made (dry run).");
        app.print(text, &json!({ "dry_run": true, "version": version, "ready": true }));
        return Ok(None);
    }
    let packed = write(app, args, config, target, store, &draft, &version)?;
    let name = commit_of(&draft.tree.hash());
    store.set_setting(&name, draft.commit.as_deref())?;
    remote::remember(app, &name, draft.commit.as_deref())?;
    Ok(Some(packed))
}

/// The plan of a release whose package is not made yet.
pub fn foresee(
    app: &App,
    args: &Args,
    config: &Config,
    target: &Target,
    store: &Store,
) -> Result<Plan, Failure> {
    let (version, draft) = prepare(app, args, config, target, store)?;
    plan(target, store, &draft, &version)
}

/// The version that is meant and what it would be made of, if nothing speaks against it.
fn prepare(
    app: &App,
    args: &Args,
    config: &Config,
    target: &Target,
    store: &Store,
) -> Result<(Version, Draft), Failure> {
    let current = store.production()?.map(|production| production.base.version);
    if let Some(current) = current.as_ref().filter(|_| args.full) {
        return Err(Failure::refused(format!("production holds {current} already"))
            .hint("without --full, the difference from it is packed"));
    }
    let version = args.version.clone().or_else(|| current.as_ref().map(Version::next_minor));
    let version = version.ok_or_else(|| {
        Failure::usage("which version? production is not known yet").hint("entracte pack 1.0")
    })?;
    if let Some(current) = &current
        && version <= *current
    {
        return Err(Failure::refused(format!(
            "{version} is not newer than production's {current}"
        ))
        .hint("versions do not go backwards; to go back: `entracte rollback`"));
    }
    let mut draft = Draft::look(app, config, target, store, &version, args.full)?;
    let mut allow = args.allow.clone();
    if args.allow_dirty {
        allow.push("uncommitted".into());
    }
    draft.findings.retain(|finding| !allowed(finding, &allow));
    refuse(app, &draft)?;
    Ok((version, draft))
}

/// Everything that is wrong in one list, and no package.
fn refuse(app: &App, draft: &Draft) -> Result<(), Failure> {
    if draft.is_empty() {
        return Err(Failure::refused(
            "the development tree is what production holds: nothing to pack",
        )
        .hint("`entracte status` shows what it compares"));
    }
    match draft.troubles() {
        0 => Ok(()),
        troubles => {
            let (are, list) = (if troubles == 1 { "is" } else { "are" }, list(app, draft));
            let things = out::count(troubles, "thing");
            Err(Failure::refused(format!("{things} {are} in the way:\n{}", list.join("\n"))))
        }
    }
}

fn write(
    app: &App,
    args: &Args,
    config: &Config,
    target: &Target,
    store: &Store,
    draft: &Draft,
    version: &Version,
) -> Result<Packed, Failure> {
    let secret_key = config.secret_key();
    if !secret_key.exists() {
        return Err(Failure::refused(format!(
            "there is no signing key at {}",
            secret_key.display()
        ))
        .hint("`entracte init` makes one"));
    }
    let created = now();
    let mut documents = draft.documents.clone();
    let plan = plan(target, store, draft, version)?;
    documents.push(("INSTALL.md".into(), planner::explain(&plan).into_bytes()));
    let request = pack::Request {
        project: &target.project,
        environment: &target.environment,
        version,
        sequence: draft.production.sequence + 1,
        base: draft.base(),
        tree: &draft.tree,
        root: &config.source_dir(),
        scripts: draft.scripts.clone(),
        documents,
        fragments: draft.named_fragments(),
        created,
        expires: created + u64::from(args.expires) * DAY_MS,
        least_tool: env!("CARGO_PKG_VERSION").parse().expect("cargo only takes versions"),
        out_dir: &config.at(&config.file.source.dist),
        secret_key: &secret_key,
    };
    Ok(pack::write(&request, &mut app.meter().of("packing"))?)
}

/// The installation procedure of this very package, as the planner will carry it out.
fn plan(target: &Target, store: &Store, draft: &Draft, version: &Version) -> Result<Plan, Failure> {
    use entracte_model::record::{FORMAT, Record};
    let names = entracte_package::scripts::order(draft.scripts.clone())?.up;
    let named = |name: &entracte_model::RelPath| entracte_model::record::Named {
        name: name.clone(),
        size: 0,
        hash: entracte_model::Hash::of(b""),
    };
    let record = Record {
        format: FORMAT,
        project: target.project.clone(),
        environment: target.environment.clone(),
        version: version.clone(),
        sequence: draft.production.sequence + 1,
        base: draft.base().map(|(base, _)| base),
        manifest: draft.tree.hash(),
        delta: draft.delta.clone(),
        scripts: names.iter().map(|script| named(&script.name)).collect(),
        documents: vec![],
        fragments: vec![],
        files: draft.tree.files(),
        bytes: draft.tree.bytes(),
        created: UnixMs(0),
        expires: UnixMs(0),
        least_tool: version.clone(),
    };
    Ok(planner::deploy(target, store, &record, std::path::Path::new("-"))?)
}
