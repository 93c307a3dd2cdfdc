//! `entracte gate`: the door by hand, and the gate process itself.

use std::io::{IsTerminal, Write};

use entracte_gate::control::{Client, ControlError, Status};
use entracte_model::gate::{Goal, Phase};
use entracte_model::time::human_ms;
use entracte_release::clock::now;
use entracte_release::{Store, Target, front};
use serde_json::json;

use super::App;
use super::front::{failed, ours_only};
use crate::config::units::Duration;
use crate::daemon;
use crate::exit::{Exit, Failure};
use crate::report::out;

/// Open, drain or close the game by hand, see who is in, or run the gate
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte gate status
  entracte gate status --watch
  entracte gate close --for 10min --message \"The database moves house\"
  entracte gate open
  entracte gate pass              (a link for a tester, while the game is closed)
  entracte gate metrics           (for Prometheus' textfile collector, or to look at)
  entracte gate reload            (after the log was moved away or the certificate renewed)
  entracte gate snippet           (what your nginx, Caddy, HAProxy or Apache includes)
  entracte gate upgrade           (after a new version of entracte was installed)
  entracte gate serve             (the gate process, as a service runs it)")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

impl Args {
    /// Whether the gate process itself is meant.
    pub fn is_service(&self) -> bool {
        matches!(self.what, What::Serve { .. })
    }
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show the phase, who is in, and whether the game answers
    Status {
        /// Show it live: players in and left, requests, parked, admitted
        #[arg(long)]
        watch: bool,
    },
    /// Let everybody in
    Open {
        /// Even though a release has closed the gate
        #[arg(long)]
        force: bool,
    },
    /// Close the login; players who are in go on
    Drain(Words),
    /// Show the maintenance page
    Close(Words),
    /// Make a tester's pass
    Pass {
        /// For how many minutes
        #[arg(long, default_value_t = 60)]
        minutes: u32,
    },
    /// Print the gate's metrics in Prometheus' text format
    Metrics,
    /// Begin a new access log, and take a renewed certificate into use
    Reload,
    /// Print what belongs into the configuration of your own nginx, Caddy, HAProxy or Apache
    Snippet,
    /// Let the installed program take over from the running gate; no connection is closed
    Upgrade,
    /// Run the gate in the foreground
    Serve {
        /// Take over from the gate that runs
        #[arg(long, hide = true)]
        take_over: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Words {
    /// How long it will take; shown to the players with a countdown
    #[arg(long = "for", value_name = "DURATION")]
    length: Option<Duration>,
    /// A text for the players, in the first configured language
    #[arg(long)]
    message: Option<String>,
    /// Even though a release is at work
    #[arg(long)]
    force: bool,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let config = app.config()?;
    let target = app.target(&config)?;
    match &args.what {
        What::Status { watch: false } => show(app, &target),
        What::Snippet => super::front::snippet(app, &target),
        What::Open { force } => {
            not_during_a_release(&target, *force)?;
            set(app, &target, Phase::Open, |_| {})
        }
        What::Drain(words) => by_hand(app, &config, &target, Phase::Draining, words),
        What::Close(words) => by_hand(app, &config, &target, Phase::Closed, words),
        What::Pass { minutes } => pass(app, &target, *minutes),
        own => {
            ours_only(&target, "this")?;
            of_our_own(app, &config, &target, own)
        }
    }
}

/// What only our own gate can be asked.
fn of_our_own(
    app: &App,
    config: &crate::config::Config,
    target: &Target,
    what: &What,
) -> Result<Exit, Failure> {
    let client = Client::new(&target.gate_socket);
    match what {
        What::Serve { take_over } => daemon::gate(config, target, *take_over),
        What::Metrics => {
            let text = client.metrics().map_err(unreached)?;
            app.print(text.trim_end(), &json!({ "metrics": text }));
            Ok(Exit::Done)
        }
        What::Reload => {
            let status = client.reload().map_err(unreached)?;
            app.print(line(app, &status), &serde_json::to_value(&status)?);
            Ok(Exit::Done)
        }
        What::Upgrade => {
            let pid = client.upgrade().map_err(unreached)?;
            app.print(format!("process {pid} has the door now"), &json!({ "pid": pid }));
            Ok(Exit::Done)
        }
        // Everything else is asked of any gate.
        _ => watch(app, &client),
    }
}

fn by_hand(
    app: &App,
    config: &crate::config::Config,
    target: &Target,
    phase: Phase,
    words: &Words,
) -> Result<Exit, Failure> {
    not_during_a_release(target, words.force)?;
    let language = config.file.languages.first().cloned().unwrap_or_else(|| "en".into());
    set(app, target, phase, |goal| {
        if let Some(length) = words.length {
            goal.reopens_p50 = Some(now() + length.ms);
            goal.reopens_p90 = Some(now() + length.ms);
        }
        if let Some(message) = &words.message {
            goal.message.insert(language.clone(), message.clone());
        }
        if phase == Phase::Draining {
            goal.deadline = Some(now() + target.pace.drain_ms);
        }
    })
}

/// A hand on the door while a release stands in it could let players into half a version.
fn not_during_a_release(target: &Target, force: bool) -> Result<(), Failure> {
    if force {
        return Ok(());
    }
    let Some(store) = Store::open_to_read(&target.store())? else { return Ok(()) };
    match store.unfinished()? {
        Some(release) if release.start_at.is_none() => {
            let message = format!("{} is not finished; the gate is its to move", release.id);
            Err(Failure { exit: Exit::Busy, message, hint: None }
                .hint("`entracte log` shows it; --force moves the gate all the same"))
        }
        _ => Ok(()),
    }
}

fn set(
    app: &App,
    target: &Target,
    phase: Phase,
    edit: impl FnOnce(&mut Goal),
) -> Result<Exit, Failure> {
    let gate = front::driver(target);
    let before = gate.status().map_err(failed)?;
    let mut goal = Goal::new(before.generation + 1, phase, "by hand");
    goal.version = before.goal.version;
    goal.notes_url = before.goal.notes_url;
    edit(&mut goal);
    gate.set(&goal).map_err(failed)?;
    show(app, target)
}

/// The gate at this moment.
fn show(app: &App, target: &Target) -> Result<Exit, Failure> {
    if target.front.is_some() {
        let status = front::driver(target).status().map_err(failed)?;
        let text = super::front::line(app, front::kind(target), &status);
        app.print(text, &serde_json::to_value(&status)?);
        return Ok(Exit::Done);
    }
    let status = Client::new(&target.gate_socket).status().map_err(unreached)?;
    app.print(line(app, &status), &serde_json::to_value(&status)?);
    Ok(Exit::Done)
}

fn pass(app: &App, target: &Target, minutes: u32) -> Result<Exit, Failure> {
    let url = target.gate_url.trim_end_matches('/');
    if target.front.is_some() {
        let ((name, value), token) = front::driver(target).pass(minutes).map_err(failed)?;
        let link = format!("{url}/_entracte/pass#{token}");
        app.print(
            format!(
                "Good until the next closing.\nFor a browser: {link}\nFor a program, as a header: {name}: {value}"
            ),
            &json!({ "link": link, "header": name, "value": value, "expires": null }),
        );
        return Ok(Exit::Done);
    }
    let pass = Client::new(&target.gate_socket).pass(minutes).map_err(unreached)?;
    let link = format!("{url}/_entracte/pass#{}", pass.url_token);
    app.print(
        format!("For a browser, once: {link}\nFor a program, as a header: {}: {}", pass.header.0, pass.header.1),
        &json!({ "link": link, "header": pass.header.0, "value": pass.header.1, "expires": pass.expires }),
    );
    Ok(Exit::Done)
}

/// How often the gate is asked while it is watched.
const WATCH_MS: u64 = 500;

/// Shows the gate until interrupted: on a terminal in place, else a line for each change. A gate
/// that ends meanwhile (a restart) is waited for: whoever watches wants to see it come back.
fn watch(app: &App, client: &Client) -> Result<Exit, Failure> {
    let mut status = client.status().map_err(unreached)?;
    let in_place = !app.global.json && !app.global.quiet && std::io::stdout().is_terminal();
    let (mut shown, mut rows) = (None, 0);
    loop {
        let what = live(app, &status);
        if in_place {
            let up = if rows > 0 { format!("\x1b[{rows}A\x1b[J") } else { String::new() };
            rows = what.lines().count();
            println!("{up}{what}");
            std::io::stdout().flush()?;
        } else if app.global.json || shown.as_ref() != Some(&what) {
            app.print(&what, &serde_json::to_value(&status)?);
            shown = Some(what);
        }
        std::thread::sleep(std::time::Duration::from_millis(WATCH_MS));
        status = loop {
            match client.status() {
                Ok(status) => break status,
                Err(ControlError::NotRunning { .. } | ControlError::Broken { .. }) => {
                    std::thread::sleep(std::time::Duration::from_millis(WATCH_MS));
                }
                Err(other) => return Err(unreached(other)),
            }
        };
    }
}

/// The gate at one moment, on a few lines.
fn live(app: &App, status: &Status) -> String {
    let mut rows = vec![
        ("players", format!("{} in, {} not left yet", status.sessions_in, status.players_left)),
        (
            "requests",
            format!(
                "{:.1}/s, {} in the game ({} of them WebSockets)",
                status.requests_per_s, status.in_flight, status.tunnels
            ),
        ),
        ("parked", status.parked.to_string()),
        (
            "admission",
            format!(
                "{} waiting, {} let in, {:.1}/s",
                status.waiting, status.admitted, status.admission_per_s
            ),
        ),
    ];
    if status.testers_in_flight > 0 {
        rows.push(("testers", format!("{} in the game", status.testers_in_flight)));
    }
    let rows: Vec<String> =
        rows.into_iter().map(|(name, value)| format!("  {name:10} {value}")).collect();
    format!("{}\n{}", line(app, status), rows.join("\n"))
}

/// A gate that cannot be asked. Nothing is known of the game then, only of the gate.
pub fn unreached(error: ControlError) -> Failure {
    match &error {
        ControlError::NotRunning { path, .. } => {
            Failure::broken(format!("the gate does not run: nobody answers at {}", path.display()))
                .hint("start it: `entracte up`, or `entracte gate serve`")
        }
        ControlError::Refused(_) => Failure { exit: Exit::Refused, ..Failure::from(error) },
        _ => Failure::from(error),
    }
}

fn line(app: &App, status: &Status) -> String {
    let paint = app.paint;
    let phase = match status.phase {
        Phase::Open => paint.good(status.phase.name()),
        Phase::Closed | Phase::Holding => paint.bad(status.phase.name()),
        Phase::Announced | Phase::Draining | Phase::Reopening => paint.warn(status.phase.name()),
    };
    let mut text = format!(
        "{phase} for {}: {} in, {} in the game, {:.1} requests/s",
        human_ms(status.server_time.since(status.since)),
        out::count(usize::try_from(status.sessions_in).unwrap_or(usize::MAX), "player"),
        out::count(usize::try_from(status.in_flight).unwrap_or(usize::MAX), "request"),
        status.requests_per_s
    );
    if status.phase == Phase::Draining {
        text.push_str(&format!(", {} left to leave", status.players_left));
    }
    if status.parked > 0 || status.waiting > 0 {
        text.push_str(&format!(", {} parked, {} waiting", status.parked, status.waiting));
    }
    text.push_str(&why_shut(status.phase, &status.goal));
    if !status.upstream_ok {
        text.push_str(&format!("; {}", paint.bad("the game does not answer")));
    }
    if let Some(alarm) = &status.alarm {
        text.push_str(&format!("\n  {} {alarm}", paint.bad("ALARM:")));
    }
    text
}

/// Why it is not open, and when it should be again; nothing where it is.
pub(super) fn why_shut(phase: Phase, goal: &Goal) -> String {
    if phase == Phase::Open {
        return String::new();
    }
    let by = goal.release.as_ref().map_or(String::new(), |id| format!("{id}, "));
    let back = goal
        .reopens_p50
        .map_or(String::new(), |back| format!(", expected back at {}", crate::report::local(back)));
    format!("\n  {by}{}{back}", goal.reason)
}
