//! `entracte doctor`: looks at everything a release will need, before one needs it.

use std::path::Path;

use entracte_gate::control::{Client, ControlError};
use entracte_gate::external::{GateDriver as _, Kind};
use entracte_host::facts::facts;
use entracte_model::gate::Phase;
use entracte_model::time::human_bytes;
use entracte_release::fault::chain;
use entracte_release::smoke::{Check, Jar, Tester};
use entracte_release::target::Layout;
use entracte_release::{Store, Target, backups, front};
use serde_json::{Value, json};

use super::App;
use crate::exit::{Exit, Failure};
use crate::report::out;

/// Look at everything that a release will need, and say what is missing
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte doctor
  entracte doctor --json")]
pub struct Args {}

/// What a look found.
enum Finding {
    Good(String),
    Worth(String, &'static str),
    Bad(String, &'static str),
}

pub fn run(app: &App, _: &Args) -> Result<Exit, Failure> {
    let config = app.config()?;
    let target = app.target(&config)?;
    let mut findings = vec![
        key(&config.secret_key(), &target),
        tree(&target),
        known(&target),
        gate(&target),
        database(&target),
        backup(&target),
        room(&target),
        hooks(&target),
    ];
    findings.extend(cannot(&target));
    findings.extend(opcache(&target));
    findings.extend(smoke(&target));
    let bad = findings.iter().filter(|finding| matches!(finding, Finding::Bad(..))).count();
    print(app, &findings);
    Ok(if bad == 0 { Exit::Done } else { Exit::Refused })
}

fn print(app: &App, findings: &[Finding]) {
    show(app, &findings.iter().map(value).collect::<Vec<_>>());
}

fn value(finding: &Finding) -> Value {
    let (level, text, hint) = match finding {
        Finding::Good(text) => ("good", text, None),
        Finding::Worth(text, hint) => ("warning", text, Some(*hint)),
        Finding::Bad(text, hint) => ("bad", text, Some(*hint)),
    };
    json!({ "level": level, "text": text, "hint": hint })
}

/// Whether the key that signs here is one that the target takes.
pub fn own_key(config: &crate::config::Config, target: &Target) -> Value {
    value(&key(&config.secret_key(), target))
}

/// Shows findings, of this machine or another one.
pub fn show(app: &App, findings: &[Value]) {
    for finding in findings {
        let level = finding["level"].as_str().unwrap_or_default();
        let sign = match level {
            "good" => app.paint.good("✓"),
            "warning" => app.paint.warn("!"),
            _ => app.paint.bad("✗"),
        };
        let (text, hint) = (finding["text"].as_str().unwrap_or_default(), finding["hint"].as_str());
        let mut lines = format!("{sign} {text}");
        if let Some(hint) = hint {
            lines.push_str(&format!("\n    {}", app.paint.dim(hint)));
        }
        match level {
            "bad" if app.global.quiet && !app.global.json => out::note(lines),
            _ => app.say(lines),
        }
    }
    app.document(&json!(findings));
}

fn key(secret: &Path, target: &Target) -> Finding {
    match entracte_package::keys::public(secret) {
        Ok(public) if target.trusted_keys.contains(&public.0) => {
            Finding::Good("the signing key is trusted by the target".into())
        }
        Ok(_) => Finding::Bad(
            "the target does not trust the signing key".into(),
            "add the key that `entracte init` printed to `keys` of the target",
        ),
        Err(_) if target.trusted_keys.is_empty() => {
            Finding::Bad("the target trusts no key".into(), "`entracte init` makes one")
        }
        Err(_) => Finding::Worth(
            format!("there is no signing key at {}", secret.display()),
            "right on a production machine; packages are signed on the development machine",
        ),
    }
}

fn tree(target: &Target) -> Finding {
    let root = &target.root;
    if !root.is_dir() {
        return Finding::Bad(
            format!("{} is no folder", root.display()),
            "set `root` of the target",
        );
    }
    let parent = root.parent().unwrap_or(root);
    let probe = parent.join(format!(".entracte-probe-{}", std::process::id()));
    match std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe)) {
        Ok(()) => Finding::Good(format!("{} can be exchanged as a whole", root.display())),
        Err(error) => Finding::Bad(
            format!("{} cannot be written: {error}", parent.display()),
            "the new tree is built beside the root: let this user write there",
        ),
    }
}

fn known(target: &Target) -> Finding {
    let store = match Store::open_to_read(&target.store()) {
        Ok(Some(store)) => store,
        Ok(None) => {
            return Finding::Bad(
                "production is not known yet".into(),
                "`entracte init --production-version 1.0` takes it as it stands",
            );
        }
        Err(error) => return Finding::Bad(chain(&error), "look at the state folder"),
    };
    match (store.production(), store.unfinished()) {
        (_, Ok(Some(release))) => Finding::Bad(
            format!("{} is not finished", release.id),
            "`entracte resume` goes on, `entracte abort` takes it back",
        ),
        (Ok(Some(production)), _) => {
            Finding::Good(format!("production is {}", production.base.version))
        }
        (Ok(None), _) => Finding::Bad(
            "production is not known yet".into(),
            "`entracte init --production-version 1.0` takes it as it stands",
        ),
        (Err(error), _) => Finding::Bad(chain(&error), "look at the state folder"),
    }
}

/// A server of the team's: whether it has taken what it is to include, asked through it.
fn server(target: &Target, settings: &entracte_gate::external::Settings) -> Finding {
    const INCLUDE: &str = "`entracte gate snippet` prints what belongs into its configuration";
    let kind = settings.kind;
    let front = front::server(settings);
    if let Err(error) = front.included() {
        return Finding::Bad(chain(&error), INCLUDE);
    }
    match front.status() {
        Err(error) => Finding::Bad(chain(&error), "look at `[target.NAME.gate]`"),
        Ok(status) if !status.upstream_ok => Finding::Bad(
            format!("{kind} runs, the game behind it does not answer at gate.upstream"),
            "start the game",
        ),
        Ok(status) if status.phase == Phase::Open => {
            Finding::Good(format!("{kind} is open at {} and has taken our lines", target.gate_url))
        }
        Ok(status) => {
            Finding::Worth(format!("{kind} is {}", status.phase), "`entracte gate status` says why")
        }
    }
}

/// What the server in our gate's place cannot do, and what happens instead.
fn cannot(target: &Target) -> Vec<Finding> {
    let kind = front::kind(target);
    let all = kind.capabilities().shortcomings();
    let news = (kind != Kind::Entracte && target.announce.news_url.contains("/_entracte/news"))
        .then(|| {
            Finding::Worth(
                format!("{kind} does not show the news pages of {}", target.news().display()),
                "let it serve that folder, and set announce.news_url",
            )
        });
    all.iter()
        .map(|text| Finding::Worth(format!("{kind}: {text}"), "docs/gates.md compares the servers"))
        .chain(news)
        .collect()
}

fn gate(target: &Target) -> Finding {
    if let Some(settings) = &target.front {
        return server(target, settings);
    }
    match Client::new(&target.gate_socket).status() {
        Err(ControlError::NotRunning { .. }) => {
            Finding::Bad("the gate does not run".into(), "start it: `entracte up`")
        }
        Ok(status) if !status.upstream_ok => Finding::Bad(
            "the gate runs, the game behind it does not answer".into(),
            "start the game",
        ),
        Ok(status) if status.phase == Phase::Open => {
            Finding::Good(format!("the gate is open at {}", status.listen))
        }
        Ok(status) => Finding::Worth(
            format!("the gate is {}", status.phase),
            "`entracte gate status` says why",
        ),
        Err(error) => Finding::Bad(chain(&error), "start it: `entracte up`"),
    }
}

fn database(target: &Target) -> Finding {
    let Some(settings) = &target.database else {
        return Finding::Worth(
            "no database is configured".into(),
            "right for a game without one; else add [target.NAME.database]",
        );
    };
    match entracte_db::open(settings).and_then(|mut database| database.facts()) {
        Ok(facts) if facts.notes.is_empty() => Finding::Good(format!(
            "{}: {}, {}",
            facts.engine,
            out::count(facts.tables.len(), "table"),
            human_bytes(facts.bytes)
        )),
        Ok(facts) => Finding::Worth(
            format!("{}: {}", facts.engine, facts.notes.join("; ")),
            "a release works all the same, as said",
        ),
        Err(error) => Finding::Bad(chain(&error), "correct [target.NAME.database]"),
    }
}

fn backup(target: &Target) -> Finding {
    if !target.backup.repository.exists() {
        let text = "there is no backup yet; a release takes one, too";
        return Finding::Worth(text.into(), "`entracte backup now` takes the first one");
    }
    match backups::list(target) {
        Ok(list) if list.iter().any(|snapshot| snapshot.restored.is_some()) => {
            Finding::Good(format!(
                "{}, at least one of them proven by restoring",
                out::count(list.len(), "backup")
            ))
        }
        Ok(list) => Finding::Worth(
            format!("{}, none of them proven by restoring", out::count(list.len(), "backup")),
            "`entracte backup check` restores the newest one into a private instance",
        ),
        Err(fault) => Finding::Worth(fault.message, "`entracte backup now` takes the first one"),
    }
}

fn room(target: &Target) -> Finding {
    match facts(&[target.beside(), target.state.clone()]) {
        Ok(facts) => {
            let free = facts.paths.iter().map(|path| path.free_bytes).min().unwrap_or(0);
            Finding::Good(format!("{} free where releases need it", human_bytes(free)))
        }
        Err(error) => Finding::Bad(chain(&error), "look at `root` and `state` of the target"),
    }
}

fn hooks(target: &Target) -> Finding {
    let hooks = &target.hooks;
    match (hooks.workers_stop.is_empty(), hooks.workers_start.is_empty()) {
        (true, true) => Finding::Worth(
            "no workers or crons are configured".into(),
            "whatever else writes to the database must stop while it is migrated",
        ),
        (false, false) => Finding::Good("workers are stopped and started around a release".into()),
        _ => Finding::Bad(
            "workers are either only stopped or only started".into(),
            "set both hooks.workers_stop and hooks.workers_start",
        ),
    }
}

/// PHP keeps compiled code, and looks at each file again at a moment of its own: without a reload, a
/// page is made of two versions for as long as that takes.
fn opcache(target: &Target) -> Option<Finding> {
    let is_php = |entry: std::fs::DirEntry| {
        entry.path().extension().is_some_and(|extension| extension == "php")
    };
    // A tree that cannot be read has a finding of its own.
    let has_php = std::fs::read_dir(&target.root).ok()?.flatten().any(is_php);
    if !has_php || target.layout == Layout::Symlink {
        return None;
    }
    Some(match target.hooks.reload.is_empty() {
        false => Finding::Good("PHP is reloaded when the files change".into()),
        true => Finding::Worth(
            "the game is PHP, and nothing reloads it when the files change".into(),
            "opcache would mix files of two versions for seconds: set hooks.reload, such as \
             \"systemctl reload php8.2-fpm\"",
        ),
    })
}

/// Each smoke test on the version that is live: one that fails now would take every release back.
fn smoke(target: &Target) -> Vec<Finding> {
    if target.smoke.is_empty() {
        return vec![Finding::Worth(
            "no smoke tests are configured".into(),
            "without them nobody looks whether a new version works: add [[target.NAME.smoke]]",
        )];
    }
    let current = Store::open_to_read(&target.store()).ok().flatten();
    let current = current.and_then(|store| store.production().ok().flatten());
    let version = current.map_or(String::new(), |production| production.base.version.to_string());
    let Ok((pass, _)) = front::driver(target).pass(1) else {
        return vec![Finding::Worth(
            format!("{} not tried", out::count(target.smoke.len(), "smoke test")),
            "they go through the gate, which does not answer",
        )];
    };
    let tester = Tester {
        base_url: &target.gate_url,
        pass: Some(&pass),
        dir: &target.root,
        timeout_ms: target.hooks.timeout_ms,
        version: &version,
    };
    let mut jar = Jar::default();
    let mut look = |check: &Check| {
        let mut database =
            target.database.as_ref().and_then(|settings| entracte_db::open(settings).ok());
        match tester.check(check, &mut jar, database.as_deref_mut()) {
            Ok(()) => Finding::Good(format!("smoke test: {}", check.name())),
            Err(error) => Finding::Worth(
                format!("smoke test {}: {}", check.name(), chain(&error)),
                "fails on the live version; a release passes only if the new one mends it",
            ),
        }
    };
    target.smoke.iter().map(&mut look).collect()
}
