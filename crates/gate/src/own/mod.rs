//! The gate's own paths, answered whatever the state of the game.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::body::Answer;
use crate::core::Core;
use crate::pages;
use crate::who::{PASS_COOKIE, PASS_COOKIE_HOST, Who, text};

mod news;

const WIDGET: &str = include_str!("widget.js");
const PASS_SCRIPT: &str = include_str!("pass.js");
/// The longest form that is read.
const FORM_BYTES_MAX: usize = 4 * 1024;

static WIDGET_ETAG: LazyLock<String> = LazyLock::new(|| etag(WIDGET.as_bytes()));

fn etag(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    let digits: String = hash[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}

/// Answers one of the gate's own paths.
pub(crate) async fn answer(
    core: &Arc<Core>,
    who: &Who,
    parts: Parts,
    body: Incoming,
) -> Response<Answer> {
    let path = who.path().strip_prefix("/_entracte/").unwrap_or("");
    if path == "pass" && parts.method == Method::POST {
        return enter(core, who, &parts, body).await;
    }
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        let mut response = pages::plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD only");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "live" => pages::plain(StatusCode::OK, "ok"),
        "ready" => match core.pool.is_reachable().await {
            true => pages::plain(StatusCode::OK, "ok"),
            false => {
                pages::plain(StatusCode::SERVICE_UNAVAILABLE, "the game accepts no connection")
            }
        },
        "v1/status" => status(core, who, &parts).await,
        "widget.js" => {
            let mut response = Response::new(Answer::whole(WIDGET));
            let kind = HeaderValue::from_static("text/javascript; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            with_etag(&parts, response, &WIDGET_ETAG, "public, max-age=300")
        }
        "pass" => pages::pass_form(core, who, PASS_SCRIPT, false),
        "news" => moved("/_entracte/news/"),
        _ => match (path.strip_prefix("news/"), &core.config.news_dir) {
            (Some(file), Some(dir)) => {
                news::serve(dir, file, &parts, core.config.limits.news_file_bytes_max).await
            }
            _ => pages::plain(StatusCode::NOT_FOUND, "not here"),
        },
    }
}

fn moved(to: &'static str) -> Response<Answer> {
    let mut response = pages::plain(StatusCode::PERMANENT_REDIRECT, "moved");
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
    response
}

/// Adds the tag, and leaves the content out where the client has it.
fn with_etag(
    parts: &Parts,
    mut response: Response<Answer>,
    tag: &str,
    cache: &'static str,
) -> Response<Answer> {
    let known = text(&parts.headers, "if-none-match");
    let same = known
        .split(',')
        .any(|held| held.trim().trim_start_matches("W/") == tag || held.trim() == "*");
    if same {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Answer::empty();
    }
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// No field allows other origins, so browsers keep the answer to the game's own pages.
async fn status(core: &Core, who: &Who, parts: &Parts) -> Response<Answer> {
    let ready = core.pool.seems_reachable().await;
    let view = core.view(who, None);
    let mut content = pages::status_json(core, who, &view, ready);
    let whole = content.to_string();
    // The clock is no change.
    content["server_time"] = serde_json::Value::Null;
    let tag = etag(content.to_string().as_bytes());
    let mut response = Response::new(Answer::whole(whole));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Language, Cookie"));
    with_etag(parts, response, &tag, "private, no-cache")
}

/// Exchanges a one-time token for a pass. From our own page only: the field tells.
async fn enter(core: &Core, who: &Who, parts: &Parts, body: Incoming) -> Response<Answer> {
    let site = text(&parts.headers, "sec-fetch-site");
    if !matches!(site, "" | "same-origin" | "none") {
        return pages::plain(StatusCode::FORBIDDEN, "from another site");
    }
    let limit = Duration::from_millis(core.config.limits.body_idle_ms);
    let Ok(Ok(form)) = timeout(limit, Limited::new(body, FORM_BYTES_MAX).collect()).await else {
        return pages::plain(StatusCode::BAD_REQUEST, "the form did not arrive, or is too long");
    };
    let form = form.to_bytes();
    let token = std::str::from_utf8(&form)
        .ok()
        .and_then(|form| form.split('&').find_map(|pair| pair.strip_prefix("token=")))
        .map_or("", |token| token.trim_matches(['+', ' ']));
    let pass = core.pass_tokens.take(token, core.clock.now()).and_then(|expires| {
        let seconds = expires.since(core.clock.now()) / 1_000;
        Some((core.keys.pass(expires, &who.host()).ok()?, seconds))
    });
    let Some((pass, seconds)) = pass else {
        return pages::pass_form(core, who, PASS_SCRIPT, true);
    };
    let (name, secure) =
        if who.secure { (PASS_COOKIE_HOST, "; Secure") } else { (PASS_COOKIE, "") };
    let cookie =
        format!("{name}={pass}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    let mut response = pages::plain(StatusCode::SEE_OTHER, "you are a tester now");
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_static("/"));
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    response
}
