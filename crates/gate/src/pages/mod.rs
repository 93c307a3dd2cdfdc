//! What players see in the game's place: pages for browsers, problem documents for programs.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use entracte_model::gate::{self, PageKind, Phase};
use entracte_model::html::escape;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::body::Answer;
use crate::core::{Core, View};
use crate::tokens::{Place, jitter01};
use crate::who::Who;

pub(crate) mod alone;
mod kept;
pub(crate) mod strings;
mod words;

pub(crate) use kept::KeptPages;
use strings::Strings;
pub(crate) use words::{Words, message_for};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Only our own style and script run on a page, whatever text gets into it.
fn policy(script: &str) -> HeaderValue {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    let text = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
        hash(STYLE),
        hash(script)
    );
    HeaderValue::try_from(text).expect("base64 and names only")
}

static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| policy(SCRIPT));

/// The page, or the problem document, of `kind`: 503, not to be kept, with the time to come back.
pub(crate) fn page(
    core: &Core,
    kind: PageKind,
    who: &Who,
    place: Option<Place>,
) -> Response<Answer> {
    if kind == PageKind::WaitingRoom {
        // It says the client's own place.
        return render(core, kind, who, place);
    }
    core.kept_pages.get(kind, who.wants_html, who.accept_language(), core.acts(), || {
        let (head, body) = render(core, kind, who, None).into_parts();
        (head.headers, body.into_whole())
    })
}

fn render(core: &Core, kind: PageKind, who: &Who, place: Option<Place>) -> Response<Answer> {
    let view = core.view(who, place);
    let strings = strings::choose(who.accept_language(), &core.config.languages);
    let retry_s = match view.ahead {
        Some((_, wait_s)) if kind == PageKind::WaitingRoom => wait_s.clamp(5, 900),
        _ => gate::retry_after_s(&view.state, view.now, jitter01()),
    };
    let words = Words::of(strings, kind, &view, &game_name(core, strings));
    let mut response = if who.wants_html {
        html(StatusCode::SERVICE_UNAVAILABLE, document(strings, &words, retry_s, retry_s), &POLICY)
    } else {
        problem(StatusCode::SERVICE_UNAVAILABLE, &words, &view, strings, retry_s)
    };
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_s));
    headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(strings.lang));
    not_kept(&mut response);
    response
}

/// The game gives no answer, and nobody planned it.
pub(crate) fn fault(core: &Core, status: StatusCode, who: &Who) -> Response<Answer> {
    let view = core.view(who, None);
    let strings = strings::choose(who.accept_language(), &core.config.languages);
    let words = Words::fault(strings, &view, &game_name(core, strings));
    let mut response = if who.wants_html {
        html(status, document(strings, &words, 10, 10), &POLICY)
    } else {
        problem(status, &words, &view, strings, 10)
    };
    not_kept(&mut response);
    response
}

fn not_kept(response: &mut Response<Answer>) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Language, Cookie"));
}

/// A few words for a program or a curious person.
pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response<Answer> {
    let mut response = Response::new(Answer::whole(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(crate) fn game_name(core: &Core, strings: &Strings) -> String {
    let name = core.config.game_name.trim();
    if name.is_empty() { strings.the_game.to_owned() } else { name.to_owned() }
}

fn html(status: StatusCode, text: String, policy: &HeaderValue) -> Response<Answer> {
    let mut response = Response::new(Answer::whole(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    response
}

/// RFC 9457.
fn problem(
    status: StatusCode,
    words: &Words,
    view: &View,
    strings: &Strings,
    retry_s: u64,
) -> Response<Answer> {
    let body = problem_of(status.as_u16(), words, view, strings, retry_s);
    let mut response = Response::new(Answer::whole(body.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

/// The problem document itself.
fn problem_of(status: u16, words: &Words, view: &View, strings: &Strings, retry_s: u64) -> Value {
    let goal = &view.state.goal;
    json!({
        "type": "about:blank",
        "title": words.title,
        "status": status,
        "detail": words.lead,
        "phase": view.state.phase,
        "retry_after_s": retry_s,
        "server_time": view.now,
        "closes_at": goal.closes_at,
        "reopens": { "p50": goal.reopens_p50, "p90": goal.reopens_p90 },
        "progress": goal.progress,
        "message": message_for(goal, strings),
        "version": goal.version,
        "notes_url": goal.notes_url,
    })
}

/// Fills `{{name}}` in one pass, so that a filled-in text is never searched again.
fn fill(template: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, from)) = rest.split_once("{{") {
        out.push_str(before);
        let (name, after) = from.split_once("}}").unwrap_or((from, ""));
        out.push_str(&value(name).unwrap_or_default());
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The page, whose script asks after `poll_s`, and which loads itself anew after `retry_s` where no
/// script runs.
fn document(strings: &Strings, words: &Words, poll_s: u64, retry_s: u64) -> String {
    fill(TEMPLATE, |name| {
        Some(match name {
            "lang" => strings.lang.to_owned(),
            "title" => escape(&words.title),
            "game" => escape(&words.game),
            "lead" => escape(&words.lead),
            "refresh" => retry_s.to_string(),
            "style" => STYLE.to_owned(),
            "script" => SCRIPT.to_owned(),
            "data" => escape(&words.data(strings, poll_s).to_string()),
            "clock" => clock(words),
            "progress" => {
                words.progress.map(|percent| progress(strings, percent)).unwrap_or_default()
            }
            "message" => message(strings, words),
            "after" => after(strings, words),
            _ => return None,
        })
    })
}

fn clock(words: &Words) -> String {
    let over = words.over.map(|over| format!("<p>{}</p>", escape(over))).unwrap_or_default();
    let big = words
        .big
        .as_ref()
        .map(|big| format!("<span class=\"big\" id=\"big\">{}</span>", escape(big)))
        .unwrap_or_default();
    let note = words
        .note
        .as_ref()
        .map(|note| format!("<p id=\"note\">{}</p>", escape(note)))
        .unwrap_or_default();
    if over.is_empty() && big.is_empty() && note.is_empty() {
        return String::new();
    }
    format!("<div class=\"clock\">{over}{big}{note}</div>")
}

fn progress(strings: &Strings, percent: u8) -> String {
    format!(
        "<div class=\"bar\"><label for=\"bar\" class=\"sr\">{}</label>\
         <progress id=\"bar\" max=\"100\" value=\"{percent}\">{percent} %</progress></div>",
        strings.progress
    )
}

fn message(strings: &Strings, words: &Words) -> String {
    words.message.as_ref().map_or(String::new(), |text| {
        format!(
            "<section class=\"word\"><h2>{}</h2><p>{}</p></section>",
            strings.message,
            escape(text)
        )
    })
}

fn after(strings: &Strings, words: &Words) -> String {
    let notes = words
        .notes_url
        .as_ref()
        .map(|url| format!("<a href=\"{}\">{}</a> · ", escape(url), strings.notes));
    let button =
        words.is_fault.then(|| format!("<a class=\"button\" href=\"\">{}</a><br>", strings.reload));
    format!("{}{}{}", button.unwrap_or_default(), notes.unwrap_or_default(), strings.by_itself)
}

/// The form in which a tester's browser exchanges its token for a pass.
pub(crate) fn pass_form(core: &Core, who: &Who, script: &str, wrong: bool) -> Response<Answer> {
    let strings = strings::choose(who.accept_language(), &core.config.languages);
    let form = format!(
        "<form method=\"post\" action=\"/_entracte/pass\"><label for=\"token\">{}</label>\
         <input id=\"token\" name=\"token\" autocomplete=\"off\" spellcheck=\"false\" required>\
         <button class=\"button\">{}</button></form>",
        strings.pass_token, strings.pass_enter
    );
    let text = fill(TEMPLATE, |name| {
        Some(match name {
            "lang" => strings.lang.to_owned(),
            "title" => strings.pass_title.to_owned(),
            "game" => escape(&game_name(core, strings)),
            "lead" => if wrong { strings.pass_wrong } else { strings.pass_lead }.to_owned(),
            // No-JavaScript refreshes would empty the field that is being filled in.
            "refresh" => "86400".to_owned(),
            "style" => STYLE.to_owned(),
            "script" => script.to_owned(),
            "data" => "{}".to_owned(),
            "clock" => form.clone(),
            _ => return None,
        })
    });
    let status = if wrong { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let mut response = html(status, text, &policy(script));
    not_kept(&mut response);
    response
}

/// What the status endpoint tells a page or a widget.
pub(crate) fn status_json(core: &Core, who: &Who, view: &View, ready: bool) -> Value {
    let strings = strings::choose(who.accept_language(), &core.config.languages);
    let goal = &view.state.goal;
    let kind = match view.state.phase {
        Phase::Draining => PageKind::LoginClosed,
        Phase::Reopening => PageKind::WaitingRoom,
        Phase::Open | Phase::Announced | Phase::Holding | Phase::Closed => PageKind::Closed,
    };
    let words = Words::of(strings, kind, view, &game_name(core, strings));
    let calm = matches!(view.state.phase, Phase::Open | Phase::Announced);
    let ahead = view
        .ahead
        .map(|(before, wait_s)| json!({ "count": before, "wait_s": wait_s, "text": words.note }));
    json!({
        "phase": view.state.phase,
        "generation": goal.generation,
        "since": view.state.since,
        "server_time": view.now,
        "closes_at": goal.closes_at,
        "deadline": goal.deadline,
        "reopens": { "p50": goal.reopens_p50, "p90": goal.reopens_p90 },
        "progress": goal.progress,
        "message": message_for(goal, strings),
        "version": goal.version,
        "notes_url": goal.notes_url,
        "enter": view.enter,
        "ready": ready,
        "ahead": ahead,
        "text": (!calm).then_some(words.spoken),
        "poll_after_ms": if calm { 30_000 } else { 5_000 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_is_never_searched_again() {
        let out = fill("<{{a}}|{{b}}|{{none}}>", |name| match name {
            "a" => Some("{{b}}".to_owned()),
            "b" => Some("x".to_owned()),
            _ => None,
        });
        assert_eq!(out, "<{{b}}|x|>");
    }

    #[test]
    fn no_text_becomes_markup() {
        assert_eq!(escape("<a href='x'>\"&"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;");
    }

    #[test]
    fn the_page_is_small_and_carries_all_it_needs() {
        assert!(TEMPLATE.len() + STYLE.len() + SCRIPT.len() < 12_000);
        for text in [TEMPLATE, STYLE, SCRIPT] {
            assert!(!text.contains("http://") && !text.contains("https://"));
        }
    }
}
