//! The pages of the dashboard as HTML.

use std::collections::BTreeMap;
use std::fmt::Write;

use entracte_gate::control::Client;
use entracte_model::html::escape;
use entracte_model::journal::{Entry, Event, Level, Outcome};
use entracte_model::plan::{ReleaseId, StepId};
use entracte_model::progress::{Progress, StepState, fold};
use entracte_model::time::human_ms;
use entracte_release::store::Release;
use entracte_release::{Store, StoreError, Target, history};
use hyper::StatusCode;

use crate::report::local;

/// Releases on the first page.
const RELEASES_SHOWN: u32 = 20;

type Page = Result<String, (StatusCode, String)>;

/// The page at a path: `/` or `/r7`.
pub fn at(target: &Target, path: &str) -> Page {
    let store = Store::open_to_read(&target.store()).map_err(|error| broken(&error))?;
    let Some(store) = store else {
        return Err((StatusCode::NOT_FOUND, "this production is not known yet".into()));
    };
    match path {
        "/" => overview(target, &store).map_err(|error| broken(&error)),
        path => match path.trim_start_matches('/').parse::<ReleaseId>() {
            Ok(id) => release(target, &store, id).map_err(|error| broken(&error)),
            Err(_) => Err((StatusCode::NOT_FOUND, "there is no such page".into())),
        },
    }
}

fn broken(error: &StoreError) -> (StatusCode, String) {
    let status = match error {
        StoreError::NoSuchRelease { .. } => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, entracte_release::fault::chain(error))
}

/// A page that says what is wrong.
pub fn error(target: &Target, message: &str) -> String {
    layout(
        target,
        None,
        &format!("<p class=bad>{}</p><p><a href=/>Overview</a></p>", escape(message)),
    )
}

fn overview(target: &Target, store: &Store) -> Result<String, StoreError> {
    let mut body = door(target);
    if let Some(production) = store.production()? {
        // Writing to a String cannot fail.
        let _ = write!(
            body,
            "<p>Production holds <b>{}</b> since {}.</p>",
            escape(&production.base.version.to_string()),
            local(production.since)
        );
    }
    if let Some(release) = store.unfinished()? {
        let log = store.entries(release.id, 0)?;
        let _ = write!(body, "<h2>{} is under way</h2>{}", release.id, steps(&release, &log));
    }
    body.push_str(
        "<h2>Releases</h2><table><thead><tr><th>release<th>planned<th>version<th>closed<th>ended<tbody>",
    );
    for release in store.releases(RELEASES_SHOWN)? {
        let closed = history::closed_ms(&release.plan, &store.entries(release.id, 0)?);
        let _ = write!(
            body,
            "<tr><td><a href=/{id}>{id}</a><td>{}<td>{}<td>{}<td>{}",
            local(release.created),
            escape(&release.plan.to.version.to_string()),
            closed.map_or("–".to_owned(), human_ms),
            ended(&release),
            id = release.id,
        );
    }
    body.push_str("</table><h2>Announcements</h2><p>");
    let counts = store.outbox_counts()?;
    let told: Vec<String> =
        counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    body.push_str(&if told.is_empty() { "none yet".to_owned() } else { escape(&told.join(", ")) });
    body.push_str("</p>");
    let refresh = store.unfinished()?.map(|_| 1).unwrap_or(10);
    Ok(layout(target, Some(refresh), &body))
}

fn release(target: &Target, store: &Store, id: ReleaseId) -> Result<String, StoreError> {
    let release = store.release(id)?;
    let log = store.entries(id, 0)?;
    let mut body = format!(
        "<p><a href=/>Overview</a></p><h2>{id}: {} → {}</h2><p>{}. Predicted closed time {}; measured {}.</p>{}",
        escape(
            &release
                .plan
                .from
                .as_ref()
                .map_or("nothing".to_owned(), |base| base.version.to_string())
        ),
        escape(&release.plan.to.version.to_string()),
        ended(&release),
        escape(&release.plan.closed.to_string()),
        history::closed_ms(&release.plan, &log).map_or("–".to_owned(), human_ms),
        steps(&release, &log),
    );
    body.push_str("<h2>Journal</h2><table><tbody>");
    for entry in &log {
        if let Some((class, text)) = line(&release, entry) {
            let _ = write!(body, "<tr><td>{}<td class={class}>{}", local(entry.at), escape(&text));
        }
    }
    body.push_str("</table>");
    Ok(layout(target, release.outcome.is_none().then_some(1), &body))
}

/// The server in our gate's place, in one line.
fn server(target: &Target) -> String {
    let gate = entracte_release::front::driver(target);
    match gate.status() {
        Ok(status) => format!(
            "<p>{} is <b class={}>{}</b> for {}{}.</p>",
            gate.kind(),
            if status.phase.is_fenced() { "bad" } else { "good" },
            status.phase,
            human_ms(status.server_time.since(status.since)),
            if status.upstream_ok { "" } else { "; <b class=bad>the game does not answer</b>" }
        ),
        Err(error) => {
            format!("<p class=bad>{}</p>", escape(&entracte_release::fault::chain(&error)))
        }
    }
}

/// The gate in one line.
fn door(target: &Target) -> String {
    if target.front.is_some() {
        return server(target);
    }
    match Client::new(&target.gate_socket).status() {
        Ok(status) => format!(
            "<p>The gate is <b class={}>{}</b> for {}: {} players in, {} requests in the game, {:.1} requests/s{}.</p>",
            if status.phase.is_fenced() { "bad" } else { "good" },
            status.phase,
            human_ms(status.server_time.since(status.since)),
            status.sessions_in,
            status.in_flight,
            status.requests_per_s,
            if status.upstream_ok { "" } else { "; <b class=bad>the game does not answer</b>" }
        ),
        Err(error) => {
            format!("<p class=bad>{}</p>", escape(&entracte_release::fault::chain(&error)))
        }
    }
}

fn steps(release: &Release, log: &[Entry]) -> String {
    let progress = match fold(&release.plan, log) {
        Ok(progress) => progress,
        Err(error) => return format!("<p class=bad>{}</p>", escape(&error.to_string())),
    };
    let took: BTreeMap<StepId, u64> =
        history::durations(log).into_iter().map(|took| (took.step, took.ms)).collect();
    let mut table = "<table><thead><tr><th>step<th>state<th>took<th>expected<tbody>".to_owned();
    for (index, planned) in release.plan.steps.iter().enumerate() {
        let id = StepId(index);
        let (class, state) = state(&progress, id);
        let _ = write!(
            table,
            "<tr><td>{}<td class={class}>{state}<td>{}<td>{}",
            planned.step.name(),
            took.get(&id).map_or("–".to_owned(), |ms| human_ms(*ms)),
            escape(&planned.expected.to_string())
        );
    }
    table + "</table>"
}

fn state(progress: &Progress, id: StepId) -> (&'static str, &'static str) {
    let state = &progress.steps[id.0];
    let class = match state {
        StepState::Pending => "dim",
        StepState::Running { .. } | StepState::Undoing { .. } | StepState::Undone => "warn",
        StepState::Done { .. } => "good",
        StepState::Interrupted { .. } | StepState::Failed { .. } | StepState::UndoFailed { .. } => {
            "bad"
        }
    };
    (class, state.name())
}

fn ended(release: &Release) -> String {
    match &release.outcome {
        Some(Outcome::Released { .. }) => "<span class=good>released</span>".into(),
        Some(Outcome::Unwell { fault }) => {
            format!("<span class=bad>unwell</span>: {}", escape(&fault.message))
        }
        Some(Outcome::TakenBack { fault }) => {
            format!("<span class=warn>taken back</span>: {}", escape(&fault.message))
        }
        None => match release.start_at {
            Some(at) => format!("planned for {}", local(at)),
            None => "<span class=warn>not finished</span>".into(),
        },
    }
}

/// An entry for people; progress is left out.
fn line(release: &Release, entry: &Entry) -> Option<(&'static str, String)> {
    let name = |step: &StepId| release.plan.step(*step).map_or("?", |step| step.name());
    let line = match &entry.event {
        Event::Began { pid, .. } => ("dim", format!("taken up by process {pid}")),
        Event::Started { step, .. } => ("dim", format!("{} begins", name(step))),
        Event::Progressed { .. } => return None,
        Event::Said { level: Level::Info, text, .. } => ("plain", text.clone()),
        Event::Said { level: Level::Warning, text, .. } => ("warn", text.clone()),
        Event::Said { level: Level::Alarm, text, .. } => ("bad", text.clone()),
        Event::Done { step, .. } => ("good", format!("{} is done", name(step))),
        Event::Failed { step, fault } => ("bad", format!("{}: {}", name(step), fault.message)),
        Event::UndoStarted { step } => ("dim", format!("{} is being taken back", name(step))),
        Event::Undone { step } => ("warn", format!("{} is taken back", name(step))),
        Event::UndoFailed { step, fault } => {
            ("bad", format!("{} could not be taken back: {}", name(step), fault.message))
        }
        Event::AbortRequested { by } => ("warn", format!("asked to stop by {by}")),
        Event::Asked { .. } => ("bad", "a person must decide: `entracte log` says what".into()),
        Event::Retried {} => ("dim", "tried again".into()),
        Event::Finished { .. } => ("dim", "over".into()),
    };
    Some(line)
}

fn layout(target: &Target, refresh_s: Option<u32>, body: &str) -> String {
    let refresh = refresh_s
        .map_or(String::new(), |seconds| format!("<meta http-equiv=refresh content={seconds}>"));
    let title = format!("{} on {}", escape(&target.game_name), escape(&target.environment));
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8>{refresh}\
         <meta name=viewport content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
         <style>{STYLE}</style><header><h1>{title}</h1></header><main>{body}</main></html>"
    )
}

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#f6f7f5;--fg:#16302f;--line:#cfd8d3;--dim:#5a6f6c;--good:#17683c;--warn:#8a5a00;--bad:#a4211b}\
@media(prefers-color-scheme:dark){:root{--bg:#0d1f22;--fg:#e6efec;--line:#2b4447;--dim:#9db3af;--good:#7fd6a0;--warn:#f0b849;--bad:#ff8f85}}\
body{margin:0;background:var(--bg);color:var(--fg);font:1rem/1.5 system-ui,sans-serif}\
header,main{max-width:60rem;margin:auto;padding:0 1rem}h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}\
main{overflow-x:auto;padding-bottom:3rem}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--dim);font-weight:600}\
a{color:inherit}.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}.dim{color:var(--dim)}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_players_or_scripts_wrote_cannot_become_markup() {
        assert_eq!(escape("<b>'\"&"), "&lt;b&gt;&#39;&quot;&amp;");
    }
}
