//! Caddy: flag files asked for by its `file` matcher at each request. The name of the one file in
//! `retry` is the time to come back, so that nothing needs a reload to change.

use super::folder::languages;
use super::recipe::{PASS, PASS_COOKIE, head, quoted, sessions};
use super::{DriverError, Kind, Settings, http};
use crate::config::Upstream;
use crate::pages::alone::policies;

pub(super) fn files(settings: &Settings, recipe: &str) -> Vec<(&'static str, String)> {
    vec![("caddy.conf", text(settings, recipe))]
}

fn text(settings: &Settings, recipe: &str) -> String {
    let dir = quoted(&settings.folder);
    let pages = quoted(&settings.folder.join("pages"));
    let (policy, pass_policy) = policies();
    let not_tester = format!(
        "    not {{
        header_regexp X-Entracte-Pass ^{PASS}$
        file {{
            root {dir}
            try_files /pass/{{http.request.header.X-Entracte-Pass}}
        }}
    }}
    not {{
        vars_regexp {{http.request.cookie.{PASS_COOKIE}}} ^{PASS}$
        file {{
            root {dir}
            try_files /pass/{{http.request.cookie.{PASS_COOKIE}}}
        }}
    }}
"
    );
    let when = |name: &str, flag: &str, more: &str| {
        format!(
            "@entracte_{name} {{
    file {{
        root {dir}
        try_files /flags/{flag}
    }}
    not path /_entracte/v1/status /_entracte/pass /_entracte/ready
{not_tester}{more}}}
"
        )
    };
    let shut = |name: &str, kind: &str| {
        format!(
            "handle @entracte_{name} {{
    route {{
        @entracte_{name}_retry file {{
            root {retry}
            try_files /*
        }}
        header Retry-After 30
        header @entracte_{name}_retry Retry-After \"{{http.matchers.file.relative}}\"
        header Cache-Control no-store
        header Vary \"Accept, Accept-Language, Cookie\"
        header X-Content-Type-Options nosniff
        header Content-Security-Policy \"{policy}\"
        header Content-Type {{entracte_type}}
        request_header -Range
        request_header -If-None-Match
        request_header -If-Modified-Since
        method GET
        rewrite * /{kind}.{{entracte_lang}}.{{entracte_ext}}
        file_server {{
            root {pages}
            status 503
        }}
    }}
}}
",
            retry = quoted(&settings.folder.join("retry")),
        )
    };
    let mut out = head(recipe);
    out.push_str(&choices(settings));
    if !settings.health_paths.is_empty() {
        let paths: Vec<String> = settings.health_paths.iter().map(|path| word(path)).collect();
        out.push_str(&when("health", "closed", &format!("    path {}\n", paths.join(" "))));
        out.push_str("handle @entracte_health {\n    respond ok 200\n}\n");
    }
    out.push_str(&when("closed", "closed", ""));
    out.push_str(&shut("closed", "closed"));
    for (number, rule) in settings.login.iter().enumerate() {
        let name = format!("login_{number}");
        let (method, path, prefix) = rule.parts();
        let mut more =
            format!("    path {}\n", word(&format!("{path}{}", if prefix { "*" } else { "" })));
        if let Some(method) = method {
            more.push_str(&format!("    method {method}\n"));
        }
        out.push_str(&when(&name, "draining", &more));
        out.push_str(&shut(&name, "login"));
    }
    if let Some(cookies) = sessions(settings) {
        let more = format!("    not header_regexp Cookie `{cookies}`\n");
        out.push_str(&when("newcomer", "draining", &more));
        out.push_str(&shut("newcomer", "login"));
    }
    out.push_str(&format!(
        "handle /_entracte/door {{
    header Cache-Control no-store
    respond open 200
}}
handle /_entracte/ready {{
    header Cache-Control no-store
    respond \"{recipe}\" 200
}}
handle /_entracte/v1/status {{
    header Cache-Control no-store
    header Content-Type application/json
    rewrite * /status.json
    file_server {{
        root {pages}
    }}
}}
handle /_entracte/pass {{
    header Cache-Control no-store
    header Content-Security-Policy \"{pass_policy}\"
    rewrite * /pass.html
    file_server {{
        root {pages}
    }}
}}
handle /_entracte/* {{
    respond 404
}}
request_header -X-Entracte-Pass
request_header Cookie {PASS_COOKIE}=[^;]* {PASS_COOKIE}=-
"
    ));
    out
}

/// Which of the pages a refused request gets.
fn choices(settings: &Settings) -> String {
    let languages = languages(settings);
    let default = languages.first().copied().unwrap_or("en");
    let others: String =
        languages.iter().skip(1).map(|lang| format!("    \"~(?i)^{lang}\" {lang}\n")).collect();
    format!(
        "map {{http.request.header.Accept-Language}} {{entracte_lang}} {{
{others}    default {default}
}}
map {{http.request.header.Accept}} {{entracte_ext}} {{entracte_type}} {{
    \"~(?i)text/html\" html \"text/html; charset=utf-8\"
    default problem application/problem+json
}}
"
    )
}

/// One word of a Caddyfile.
fn word(text: &str) -> String {
    format!("`{}`", text.replace('`', "?"))
}

/// Requests that the game has, as Caddy counts them for each upstream.
pub(super) fn in_flight(settings: &Settings) -> Result<u64, DriverError> {
    const PATH: &str = "/reverse_proxy/upstreams";
    let at = settings.admin.clone();
    let text = http::get(&at, PATH).map_err(|source| DriverError::Admin {
        kind: Kind::Caddy,
        at: at.clone(),
        source,
    })?;
    let wanted = match settings.backends.is_empty() {
        true => vec![address(&settings.upstream)],
        false => settings.backends.clone(),
    };
    let parsed: Option<Vec<serde_json::Value>> = serde_json::from_str(&text).ok();
    let counts: Vec<u64> = parsed
        .iter()
        .flatten()
        .filter(|upstream| wanted.iter().any(|name| upstream["address"] == name.as_str()))
        .filter_map(|upstream| upstream["num_requests"].as_u64())
        .collect();
    if counts.is_empty() {
        return Err(DriverError::AdminSaid {
            kind: Kind::Caddy,
            at,
            asked: format!("{} of {PATH}", wanted.join(", ")),
            expected: "its count of requests (`gate.backends` names the upstreams)",
            found: text.chars().take(200).collect(),
        });
    }
    Ok(counts.iter().sum())
}

/// An upstream as Caddy names it.
fn address(upstream: &Upstream) -> String {
    match upstream {
        Upstream::Tcp { .. } => upstream.to_string(),
        Upstream::Unix(path) => format!("unix/{}", path.display()),
    }
}
