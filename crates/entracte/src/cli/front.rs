//! `entracte gate` where a team keeps its own server in front of the game.

use entracte_gate::external::{DriverError, Kind, Standing};
use entracte_model::gate::Phase;
use entracte_model::time::human_ms;
use entracte_release::{Target, front};
use serde_json::json;

use super::App;
use super::gate::unreached;
use crate::exit::{Exit, Failure};
use crate::report::out;

/// What a server that is not ours does not have.
pub fn ours_only(target: &Target, what: &str) -> Result<(), Failure> {
    match front::kind(target) {
        Kind::Entracte => Ok(()),
        kind => Err(Failure::refused(format!("{what} is our own gate's; this target's is {kind}"))
            .hint("docs/gates.md says what each server can do")),
    }
}

/// A gate that could not be asked, or did not do what it was told.
pub fn failed(error: DriverError) -> Failure {
    match error {
        DriverError::Own(error) => unreached(error),
        DriverError::Refused(_) | DriverError::Cannot { .. } | DriverError::Test { .. } => {
            Failure { exit: Exit::Refused, ..Failure::from(error) }
        }
        error => Failure::from(error).hint("`entracte doctor` looks at it"),
    }
}

/// Prints what belongs into the server's configuration, and writes what that includes.
pub fn snippet(app: &App, target: &Target) -> Result<Exit, Failure> {
    let Some(settings) = &target.front else {
        return Err(Failure::refused("our own gate needs nothing in anybody's configuration")
            .hint("gate.kind = \"nginx\", \"caddy\", \"haproxy\" or \"apache\" is for a server of yours"));
    };
    let snippets = front::server(settings).snippets().map_err(failed)?;
    for (number, snippet) in snippets.iter().enumerate() {
        let text = snippet.text.trim_end();
        app.say(format!("{}. {}:\n\n{text}\n", number + 1, app.paint.bold(snippet.place)));
    }
    app.say(format!(
        "Then reload {}, and ask `entracte doctor` whether it took it.",
        settings.kind
    ));
    let all: Vec<_> = snippets
        .iter()
        .map(|snippet| json!({ "place": snippet.place, "text": snippet.text }))
        .collect();
    app.document(&json!({ "kind": settings.kind, "folder": settings.folder, "snippets": all }));
    Ok(Exit::Done)
}

/// A server at one moment, on one line.
pub fn line(app: &App, kind: Kind, status: &Standing) -> String {
    let paint = app.paint;
    let phase = match status.phase {
        Phase::Open => paint.good(status.phase.name()),
        Phase::Closed | Phase::Holding => paint.bad(status.phase.name()),
        Phase::Announced | Phase::Draining | Phase::Reopening => paint.warn(status.phase.name()),
    };
    let requests = match status.in_flight {
        // Of a server that is reloaded for it, the workers that the reload replaced.
        Some(count) if kind.capabilities().reloads_at_closing => {
            format!("{count} old workers still at requests")
        }
        Some(count) => {
            let requests = out::count(usize::try_from(count).unwrap_or(usize::MAX), "request");
            format!("{requests} in the game")
        }
        None => "requests are not counted now".to_owned(),
    };
    let mut text = format!(
        "{phase} for {}: {kind} at {}, {requests}",
        human_ms(status.server_time.since(status.since)),
        status.at
    );
    text.push_str(&super::gate::why_shut(status.phase, &status.goal));
    if !status.upstream_ok {
        text.push_str(&format!("; {}", paint.bad("the game does not answer")));
    }
    text
}

/// What the plan of a release says of a server that is not ours.
pub fn about(target: &Target) -> String {
    let kind = front::kind(target);
    let lines: Vec<String> = kind
        .capabilities()
        .shortcomings()
        .iter()
        .map(|text| format!("\nThe gate is {kind}: {text}."))
        .collect();
    lines.concat()
}
