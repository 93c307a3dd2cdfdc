//! `entracte gate`: the door by hand, and the gate process itself.

use entracte_gate::control::{Client, ControlError, Status};
use entracte_model::gate::{Goal, Phase};
use entracte_model::time::human_ms;
use entracte_release::clock::now;
use entracte_release::{Store, Target};
use serde_json::json;

use super::App;
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
  entracte gate serve             (the gate process, as a service runs it)")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

impl Args {
    /// Whether the gate process itself is meant.
    pub fn is_service(&self) -> bool {
        matches!(self.what, What::Serve)
    }
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show the phase, who is in, and whether the game answers
    Status {
        /// Show it again every second
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
    /// Run the gate in the foreground
    Serve,
}

#[derive(Debug, clap::Args)]
struct Words {
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
    let client = Client::new(&target.gate_socket);
    match &args.what {
        What::Serve => daemon::gate(&config, &target),
        What::Status { watch } => status(app, &client, *watch),
        What::Open { force } => {
            not_during_a_release(&target, *force)?;
            set(app, &client, Phase::Open, |_| {})
        }
        What::Drain(words) => by_hand(app, &config, &target, &client, Phase::Draining, words),
        What::Close(words) => by_hand(app, &config, &target, &client, Phase::Closed, words),
        What::Pass { minutes } => pass(app, &target, &client, *minutes),
    }
}

fn by_hand(
    app: &App,
    config: &crate::config::Config,
    target: &Target,
    client: &Client,
    phase: Phase,
    words: &Words,
) -> Result<Exit, Failure> {
    not_during_a_release(target, words.force)?;
    let language = config.file.languages.first().cloned().unwrap_or_else(|| "en".into());
    set(app, client, phase, |goal| {
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
    client: &Client,
    phase: Phase,
    edit: impl FnOnce(&mut Goal),
) -> Result<Exit, Failure> {
    let before = client.status().map_err(unreached)?;
    let mut goal = Goal::new(before.generation + 1, phase, "by hand");
    goal.version = before.goal.version;
    goal.notes_url = before.goal.notes_url;
    edit(&mut goal);
    let status = client.set(&goal).map_err(unreached)?;
    app.print(line(app, &status), &serde_json::to_value(&status)?);
    Ok(Exit::Done)
}

fn pass(app: &App, target: &Target, client: &Client, minutes: u32) -> Result<Exit, Failure> {
    let pass = client.pass(minutes).map_err(unreached)?;
    let link = format!("{}/_entracte/pass#{}", target.gate_url, pass.url_token);
    app.print(
        format!("For a browser, once: {link}\nFor a program, as a header: {}: {}", pass.header.0, pass.header.1),
        &json!({ "link": link, "header": pass.header.0, "value": pass.header.1, "expires": pass.expires }),
    );
    Ok(Exit::Done)
}

fn status(app: &App, client: &Client, watch: bool) -> Result<Exit, Failure> {
    loop {
        let status = client.status().map_err(unreached)?;
        app.print(line(app, &status), &serde_json::to_value(&status)?);
        if !watch {
            return Ok(Exit::Done);
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
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
    if status.phase != Phase::Open {
        let by = status.goal.release.as_ref().map_or(String::new(), |id| format!("{id}, "));
        text.push_str(&format!("\n  {by}{}", status.goal.reason));
        if let Some(back) = status.goal.reopens_p50 {
            text.push_str(&format!(", expected back at {}", crate::report::local(back)));
        }
    }
    if !status.upstream_ok {
        text.push_str(&format!("; {}", paint.bad("the game does not answer")));
    }
    if let Some(alarm) = &status.alarm {
        text.push_str(&format!("\n  {} {alarm}", paint.bad("ALARM:")));
    }
    text
}
