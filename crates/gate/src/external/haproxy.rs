//! HAProxy: a map that is changed through its admin socket, and kept in a file for its next start.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::folder::languages;
use super::recipe::{PASS_COOKIE, literal, paths, quoted, sessions};
use super::{DriverError, Kind, Settings, http};
use crate::pages::alone::policies;

/// The folder's file with the configuration.
pub(super) const RECIPE: &str = "haproxy-frontend.cfg";

pub(super) fn files(settings: &Settings, recipe: &str) -> Vec<(&'static str, String)> {
    vec![(RECIPE, text(settings, recipe))]
}

/// The map's file.
pub(super) fn map_file(settings: &Settings) -> PathBuf {
    settings.folder.join("haproxy.map")
}

/// What a text with spaces looks like in the map.
pub(super) fn packed(text: &str) -> String {
    STANDARD.encode(text)
}

fn text(settings: &Settings, recipe: &str) -> String {
    let file = map_file(settings);
    let map = file.display();
    let mut out = format!(
        "# Made by entracte ({recipe}). Put in anew when `entracte gate snippet` prints another.\n"
    );
    let mut line = |text: String| {
        out.push_str("    ");
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("http-request set-var(txn.entracte) str(state),map({map},open)"));
    line(format!("http-request set-var(txn.entracte_pass) str(pass),map({map},none)"));
    line(format!("http-request set-var(txn.entracte_given) req.cook({PASS_COOKIE})"));
    line(
        "http-request set-var(txn.entracte_given) req.hdr(x-entracte-pass) if { req.hdr(x-entracte-pass) -m found }"
            .into(),
    );
    // Escapes and doubled slashes are other spellings of the same path.
    line("http-request set-var(txn.entracte_path) path,url_dec,regsub(//+,/,g)".into());
    line("acl entracte_closed var(txn.entracte) -m str closed".into());
    line("acl entracte_draining var(txn.entracte) -m str draining".into());
    line("acl entracte_html req.fhdr(accept) -i -m sub text/html".into());
    line("acl entracte_tester var(txn.entracte_given),strcmp(txn.entracte_pass) eq 0".into());
    line("acl entracte_is_pass var(txn.entracte_given) -m len 43".into());
    for rule in &settings.login {
        let method =
            rule.parts().0.map_or(String::new(), |method| format!(" {{ method {method} }}"));
        line(format!(
            "http-request set-var(txn.entracte_shut) str(login) if entracte_draining{method} {{ var(txn.entracte_path) -m reg {} }}",
            single(&paths(rule))
        ));
    }
    // What a game may resolve to a login: nobody's browser sends it.
    line("http-request set-var(txn.entracte_shut) str(login) if entracte_draining { var(txn.entracte_path) -m sub /./ /../ }".into());
    if let Some(cookies) = sessions(settings) {
        line(format!(
            "http-request set-var(txn.entracte_shut) str(login) if entracte_draining !{{ req.fhdr(cookie) -m reg {} }}",
            single(&cookies)
        ));
    }
    line("http-request set-var(txn.entracte_shut) str(closed) if entracte_closed".into());
    for path in &settings.health_paths {
        line(format!(
            "http-request return status 200 content-type text/plain string ok if entracte_closed {{ path -m reg {} }}",
            single(&format!("^{}$", literal(path)))
        ));
    }
    line(
        "http-request set-var(txn.entracte_shut) str(no) if entracte_tester entracte_is_pass"
            .into(),
    );
    line("http-request set-var(txn.entracte_shut) str(no) if { path_beg /_entracte/ } !{ path /_entracte/door }".into());
    answers(settings, recipe, &mut line);
    line("http-request del-header X-Entracte-Pass".into());
    line(format!(
        "http-request replace-header Cookie '(.*; ?|){PASS_COOKIE}=[^;]*(; ?)?(.*)' '\\1\\3'"
    ));
    out
}

fn answers(settings: &Settings, recipe: &str, line: &mut impl FnMut(String)) {
    let file = map_file(settings);
    let map = file.display();
    let (policy, pass_policy) = policies();
    let languages = languages(settings);
    let kept = "hdr Cache-Control no-store";
    let retry = format!("hdr Retry-After \"%[str(retry),map({map}),b64dec]\"");
    let vary = "hdr Vary \"Accept, Accept-Language, Cookie\"";
    let file = |name: &str| quoted(&settings.folder.join("pages").join(name));
    for kind in ["closed", "login"] {
        let shut = format!("{{ var(txn.entracte_shut) -m str {kind} }}");
        // The last is the default, and has no condition of its own.
        for (number, lang) in languages.iter().enumerate().rev() {
            let spoken = match number {
                0 => String::new(),
                _ => format!(" {{ req.fhdr(accept-language) -i -m beg {lang} }}"),
            };
            line(format!(
                "http-request return status 503 content-type \"text/html; charset=utf-8\" file {} {retry} {kept} {vary} hdr X-Content-Type-Options nosniff hdr Content-Security-Policy \"{policy}\" if {shut} entracte_html{spoken}",
                file(&format!("{kind}.{lang}.html"))
            ));
            line(format!(
                "http-request return status 503 content-type application/problem+json lf-string \"%[str({kind}.{lang}),map({map}),b64dec]\" {retry} {kept} {vary} if {shut}{spoken}"
            ));
        }
    }
    line(format!(
        "http-request return status 200 content-type application/json lf-string \"%[str(status),map({map}),b64dec]\" {kept} if {{ path /_entracte/v1/status }}"
    ));
    line(format!(
        "http-request return status 200 content-type \"text/html; charset=utf-8\" file {} {kept} hdr Content-Security-Policy \"{pass_policy}\" if {{ path /_entracte/pass }}",
        file("pass.html")
    ));
    line(format!(
        "http-request return status 200 content-type text/plain string open {kept} if {{ path /_entracte/door }}"
    ));
    line(format!(
        "http-request return status 200 content-type text/plain string {recipe} {kept} if {{ path /_entracte/ready }}"
    ));
    line("http-request return status 404 content-type text/plain string \"not here\" if { path_beg /_entracte/ }".into());
}

/// A word that HAProxy takes as it is.
fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Tells the running HAProxy the map's values, the state last, and looks whether it took them.
pub(super) fn tell(
    settings: &Settings,
    values: &BTreeMap<String, String>,
) -> Result<(), DriverError> {
    let file = map_file(settings);
    let state = values.iter().filter(|(key, _)| *key == "state");
    let rest = values.iter().filter(|(key, _)| *key != "state");
    for (key, value) in rest.chain(state) {
        let asked = format!("set map {} {key} {value}", file.display());
        let said = ask(settings, &asked)?;
        if !said.trim().is_empty() {
            return Err(strange(settings, format!("set map … {key}"), "nothing", &said));
        }
    }
    Ok(())
}

/// Requests that the game has, as HAProxy counts them for each backend.
pub(super) fn in_flight(settings: &Settings) -> Result<u64, DriverError> {
    let text = ask(settings, "show stat -1 2 -1")?;
    let mut lines = text.lines();
    let names: Vec<&str> =
        lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let column = |name: &str| names.iter().position(|found| *found == name);
    let bad = || {
        strange(settings, "show stat".into(), "the backends (`gate.backends` names them)", &text)
    };
    let (Some(name), Some(count)) = (column("pxname"), column("scur")) else { return Err(bad()) };
    let mut counts = Vec::new();
    for fields in lines.map(|line| line.split(',').collect::<Vec<_>>()) {
        let (Some(name), Some(count)) = (fields.get(name), fields.get(count)) else { continue };
        if settings.backends.is_empty() || settings.backends.iter().any(|wanted| wanted == name) {
            counts.extend(count.parse::<u64>().ok());
        }
    }
    if counts.is_empty() { Err(bad()) } else { Ok(counts.iter().sum()) }
}

fn strange(settings: &Settings, asked: String, expected: &'static str, said: &str) -> DriverError {
    DriverError::AdminSaid {
        kind: Kind::Haproxy,
        at: settings.admin.clone(),
        asked,
        expected,
        found: said.trim().chars().take(200).collect(),
    }
}

fn ask(settings: &Settings, line: &str) -> Result<String, DriverError> {
    http::talk(&settings.admin, &format!("{line}\n")).map_err(|source| DriverError::Admin {
        kind: Kind::Haproxy,
        at: settings.admin.clone(),
        source,
    })
}
