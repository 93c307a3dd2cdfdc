//! `entracte sql`: which scripts ran where, and running them on the development database.
//!
//! Only the development database is written to by hand. On production a script runs as a part of a
//! release, with the game closed, everybody else locked out and a way back at hand; there is no
//! switch that leaves these away, for sooner or later somebody in a hurry would use it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use entracte_db::{
    Database, DbError, Engine, HistoryEntry, Nowhere, Script, ScriptHashes, history,
};
use entracte_host::lock::Lock;
use entracte_host::wire::message::Declared;
use entracte_model::UnixMs;
use entracte_model::time::human_ms;
use entracte_package::scripts;
use entracte_release::clock::now;
use entracte_release::{Store, Target};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::App;
use super::scripts::files;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::remote;
use crate::report::{local, out};

/// Which SQL scripts ran where; run them on development; declare them as run
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte sql status
  entracte sql run
  entracte sql baseline --up-to 040-market.sql
  entracte sql baseline --development 041-guilds.sql

On production, scripts run as a part of a release only (entracte deploy): with the game closed, a
rollback point taken, and a way back.

Ends with 3 where a script that ran was changed since, or where their order is not clear.")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List the scripts: which ran when, which wait, which were changed since they ran
    Status,
    /// Run the scripts that wait, on the development database
    Run,
    /// Declare scripts as run without running them, for a database that has them already
    Baseline {
        /// Their names
        #[arg(required_unless_present = "up_to", value_name = "SCRIPT")]
        names: Vec<String>,
        /// All up to this one, in their order
        #[arg(long, value_name = "SCRIPT", conflicts_with = "names")]
        up_to: Option<String>,
        /// In the development database instead of production
        #[arg(long)]
        development: bool,
    },
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    match &args.what {
        What::Status => status(app),
        What::Run => run_pending(app),
        What::Baseline { names, up_to, development } => {
            let config = app.config()?;
            let found = found(&config)?;
            let chosen = choose(&found, names, up_to.as_deref())?;
            match *development {
                true => declare_here(app, &config, &chosen),
                false => declare(app, &config, &chosen),
            }
        }
    }
}

/// A script in the folder.
struct Found {
    script: Script,
    hashes: ScriptHashes,
}

/// The scripts of the folder, in the order in which they run.
fn found(config: &Config) -> Result<Vec<Found>, Failure> {
    let ordered = scripts::order(files(config)?).map_err(|fault| {
        Failure::refused(fault.to_string()).hint("rename the script; nothing was run")
    })?;
    let placeholders = config
        .development_placeholders()
        .map_err(|error| Failure::usage(entracte_release::fault::chain(&error)))?;
    let found = |script: scripts::Script| {
        let read = Script::file(script.name.as_str(), &script.path).with(&placeholders);
        let hashes = read.hashes().map_err(|error| {
            Failure::broken(format!("{} cannot be read: {error}", script.path.display()))
        })?;
        Ok(Found { script: read, hashes })
    };
    ordered.up.into_iter().map(found).collect()
}

/// What is known of a script in one database.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ran {
    hash: String,
    raw_hash: String,
    at: UnixMs,
    /// The release; nothing where it ran by hand or was declared.
    release: Option<String>,
    declared: bool,
}

/// How a script stands in one database.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stand {
    Pending,
    Ran(Ran),
    /// It ran with other line ends or another BOM.
    LineEnds(Ran),
    /// It ran with another content.
    Changed(Ran),
}

impl Stand {
    fn of(ran: Option<Ran>, now: &ScriptHashes) -> Self {
        match ran {
            None => Stand::Pending,
            Some(ran) if ran.hash != now.normalised.to_string() => Stand::Changed(ran),
            Some(ran) if ran.raw_hash != now.raw.to_string() => Stand::LineEnds(ran),
            Some(ran) => Stand::Ran(ran),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Stand::Pending => "pending",
            Stand::Ran(_) => "ran",
            Stand::LineEnds(_) => "line-ends",
            Stand::Changed(_) => "changed",
        }
    }

    fn words(&self, now: &ScriptHashes) -> String {
        let when = |ran: &Ran| {
            let at = local(ran.at);
            match (&ran.release, ran.declared) {
                (Some(release), _) => format!("ran in {release}, {at}"),
                (None, true) => format!("declared as run, {at}"),
                (None, false) => format!("ran {at}"),
            }
        };
        match self {
            Stand::Pending => "waits".to_owned(),
            Stand::Ran(ran) => when(ran),
            Stand::LineEnds(ran) => format!(
                "{}; since then only line ends or a BOM changed (then {}, now {})",
                when(ran),
                short(&ran.raw_hash),
                now.raw.short()
            ),
            Stand::Changed(ran) => format!(
                "{}; CHANGED since then (then {}, now {})",
                when(ran),
                short(&ran.hash),
                now.normalised.short()
            ),
        }
    }

    fn value(&self) -> Value {
        match self {
            Stand::Pending => json!({ "state": self.code() }),
            Stand::Ran(ran) | Stand::LineEnds(ran) | Stand::Changed(ran) => json!({
                "state": self.code(), "hash": ran.hash, "raw_hash": ran.raw_hash, "at": ran.at,
                "release": ran.release, "declared": ran.declared,
            }),
        }
    }
}

fn short(hash: &str) -> &str {
    const SHOWN: usize = 12;
    hash.get(..SHOWN).unwrap_or(hash)
}

fn in_store(store: &Store, name: &str) -> Result<Option<Ran>, Failure> {
    Ok(store.script(name)?.map(|applied| Ran {
        hash: applied.hash.to_string(),
        raw_hash: applied.raw_hash.to_string(),
        at: applied.at,
        release: applied.release.map(|release| release.to_string()),
        declared: applied.release.is_none(),
    }))
}

fn in_mirror(mirror: &[HistoryEntry], name: &str) -> Option<Ran> {
    // The last word counts: a declaration follows the run that it corrects.
    let entry = mirror.iter().rfind(|entry| entry.script == name)?;
    Some(Ran {
        hash: entry.hash.clone(),
        raw_hash: entry.raw_hash.clone(),
        at: UnixMs(i64::try_from(entry.at_ms).unwrap_or(i64::MAX)),
        release: Some(entry.release.clone()).filter(|release| !release.is_empty()),
        declared: entry.release.is_empty() && entry.statements == 0,
    })
}

/// The development database, with what its mirror holds.
struct Development {
    database: Box<dyn Database>,
    engine: Engine,
    mirror: Vec<HistoryEntry>,
}

fn development(config: &Config) -> Result<Option<Development>, Failure> {
    let settings = config
        .development_database()
        .map_err(|error| Failure::usage(entracte_release::fault::chain(&error)))?;
    let Some(settings) = settings else { return Ok(None) };
    let engine = settings.engine();
    let mut database = entracte_db::open(&settings)?;
    let mirror = history::read(&mut *database, engine)?;
    Ok(Some(Development { database, engine, mirror }))
}

fn need_development(config: &Config) -> Result<Development, Failure> {
    development(config)?.ok_or_else(|| {
        Failure::refused("no development database is configured").hint(
            "add [development.database] to entracte.toml; on production, scripts run with \
             `entracte deploy` only",
        )
    })
}

fn status(app: &App) -> Result<Exit, Failure> {
    let (config, _, store) = app.production()?;
    let found = found(&config)?;
    let development = development(&config)?;
    let mut lines = vec![format!(
        "{} in {}",
        out::count(found.len(), "script"),
        config.at(&config.file.source.scripts).display()
    )];
    let (mut values, mut changed) = (Vec::new(), 0);
    for Found { script, hashes } in &found {
        let name = &script.name;
        let production = Stand::of(in_store(&store, name)?, hashes);
        let here = development
            .as_ref()
            .map(|development| Stand::of(in_mirror(&development.mirror, name), hashes));
        lines.push(format!("  {}", app.paint.bold(name)));
        lines.push(format!("    production   {}", painted(app, &production, hashes)));
        if let Some(here) = &here {
            lines.push(format!("    development  {}", painted(app, here, hashes)));
        }
        changed += usize::from(matches!(production, Stand::Changed(_)));
        values.push(json!({
            "script": name, "hash": hashes.normalised, "raw_hash": hashes.raw,
            "bytes": hashes.bytes, "production": production.value(),
            "development": here.as_ref().map(Stand::value),
        }));
    }
    let names = store.script_names()?;
    let gone: Vec<&String> =
        names.iter().filter(|name| found.iter().all(|found| found.script.name != **name)).collect();
    if !gone.is_empty() {
        let names: Vec<&str> = gone.iter().map(|name| name.as_str()).collect();
        lines.push(format!("Production ran these, which are no longer here: {}", names.join(", ")));
    }
    let value = json!({ "scripts": values, "gone": gone, "changed": changed });
    if changed > 0 {
        lines.push("A script that ran is never run again: take the change back, and put it into a new script with a higher number.".to_owned());
        app.complain(lines.join("\n"), &value);
        return Ok(Exit::Refused);
    }
    app.print(lines.join("\n"), &value);
    Ok(Exit::Done)
}

fn painted(app: &App, stand: &Stand, now: &ScriptHashes) -> String {
    let words = stand.words(now);
    match stand {
        Stand::Pending => app.paint.accent(words).to_string(),
        Stand::Ran(_) => app.paint.good(words).to_string(),
        Stand::LineEnds(_) => app.paint.warn(words).to_string(),
        Stand::Changed(_) => app.paint.bad(words).to_string(),
    }
}

fn run_pending(app: &App) -> Result<Exit, Failure> {
    if app.global.target.is_some() {
        return Err(Failure::usage(
            "`sql run` works on the development database only: on a target a script needs the \
             game closed, a rollback point and a way back",
        )
        .hint("entracte pack && entracte deploy"));
    }
    let config = app.config()?;
    let mut development = need_development(&config)?;
    let found = found(&config)?;
    let pending = pending(&found, &development.mirror)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let mut values = Vec::new();
    for Found { script, hashes } in pending {
        // One by one, each written down before the next: a later one that fails does not make
        // those before it run again.
        let done = development
            .database
            .run_scripts(std::slice::from_ref(script), &mut Nowhere, &stop, &mut |_| {})
            .map_err(|error| failed(development.engine, &error))?;
        let [done] = done.scripts.as_slice() else {
            return Err(Failure::broken(format!("{} was not run", script.name)));
        };
        let entry = HistoryEntry {
            statements: done.statements.max(1),
            rows: done.rows,
            duration_ms: done.duration_ms,
            ..entry(&script.name, hashes)
        };
        history::add(&mut *development.database, development.engine, &[entry])?;
        app.say(format!(
            "{} {}: {} statements, {} rows, {}",
            app.paint.good("ran"),
            done.name,
            done.statements,
            done.rows,
            human_ms(done.duration_ms)
        ));
        for warning in &done.warnings {
            app.say(format!("  {} {warning}", app.paint.warn("warning:")));
        }
        values.push(json!(done));
    }
    if values.is_empty() {
        app.say("Every script ran on the development database already.");
    }
    app.document(&json!({ "ran": values }));
    Ok(Exit::Done)
}

/// The scripts that the development database has not had.
fn pending<'a>(found: &'a [Found], mirror: &[HistoryEntry]) -> Result<Vec<&'a Found>, Failure> {
    let mut pending = Vec::new();
    for script in found {
        match Stand::of(in_mirror(mirror, &script.script.name), &script.hashes) {
            Stand::Pending => pending.push(script),
            Stand::Ran(_) | Stand::LineEnds(_) => {}
            stand @ Stand::Changed(_) => {
                let name = &script.script.name;
                return Err(Failure::refused(format!(
                    "{name} {}; nothing was run",
                    stand.words(&script.hashes)
                ))
                .hint(format!(
                    "begin with a fresh development database; or, where it has the change \
                     already, `entracte sql baseline --development {name}`"
                )));
            }
        }
    }
    Ok(pending)
}

fn failed(engine: Engine, error: &DbError) -> Failure {
    let failure = Failure::broken(entracte_release::fault::chain(error));
    match (engine, error) {
        (Engine::Mariadb, DbError::Statement { number, .. }) if *number > 1 => failure.hint(
            "MariaDB has no way back for what the script did before: mend it, and begin with a \
             fresh development database",
        ),
        _ => failure,
    }
}

fn entry(name: &str, hashes: &ScriptHashes) -> HistoryEntry {
    HistoryEntry {
        release: String::new(),
        version: String::new(),
        script: name.to_owned(),
        hash: hashes.normalised.to_string(),
        raw_hash: hashes.raw.to_string(),
        statements: 0,
        rows: 0,
        duration_ms: 0,
        at_ms: u64::try_from(now().0).unwrap_or(0),
    }
}

fn choose<'a>(
    found: &'a [Found],
    names: &[String],
    up_to: Option<&str>,
) -> Result<Vec<&'a Found>, Failure> {
    let place = |name: &str| {
        found.iter().position(|found| found.script.name == name).ok_or_else(|| {
            Failure::refused(format!("there is no script {name}"))
                .hint("`entracte sql status` lists them")
        })
    };
    if let Some(last) = up_to {
        return Ok(found[..=place(last)?].iter().collect());
    }
    names.iter().map(|name| Ok(&found[place(name)?])).collect()
}

fn declare(app: &App, config: &Config, chosen: &[&Found]) -> Result<Exit, Failure> {
    let named = |found: &&Found| Declared {
        name: found.script.name.clone(),
        normalised: found.hashes.normalised,
        raw: found.hashes.raw,
    };
    let scripts: Vec<Declared> = chosen.iter().map(named).collect();
    if !remote::declare(app, config, &scripts)? {
        let (_, target, store) = app.production()?;
        declare_in(&target, &store, &scripts)?;
    }
    declared(app, chosen, "production");
    Ok(Exit::Done)
}

/// Counts scripts as run in the production of this machine.
pub fn declare_in(target: &Target, store: &Store, scripts: &[Declared]) -> Result<(), Failure> {
    if Lock::holder(&target.lock()).is_some() {
        let failure = Failure::refused("a release is at work, and decides by what ran");
        return Err(Failure { exit: Exit::Busy, ..failure }.hint("wait for its end"));
    }
    for Declared { name, .. } in scripts {
        if let Some(applied) = store.script(name)?
            && let Some(release) = applied.release
        {
            return Err(Failure::refused(format!("{name} ran in {release}"))
                .hint("what a release ran needs no declaration, and is not rewritten by one"));
        }
    }
    for script in scripts {
        store.declare_script(&script.name, &script.normalised, &script.raw, now())?;
    }
    Ok(())
}

fn declare_here(app: &App, config: &Config, chosen: &[&Found]) -> Result<Exit, Failure> {
    let mut development = need_development(config)?;
    let entries: Vec<HistoryEntry> =
        chosen.iter().map(|found| entry(&found.script.name, &found.hashes)).collect();
    history::add(&mut *development.database, development.engine, &entries)?;
    declared(app, chosen, "development");
    Ok(Exit::Done)
}

fn declared(app: &App, chosen: &[&Found], place: &str) {
    let names: Vec<&str> = chosen.iter().map(|found| found.script.name.as_str()).collect();
    app.print(
        format!(
            "{} as run in {place}: {}. Nothing was executed.",
            app.paint.good("Declared"),
            names.join(", ")
        ),
        &json!({ "declared": names, "in": place }),
    );
}
