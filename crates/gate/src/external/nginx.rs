//! nginx: flag files asked for at each request, and an include with what the times are.

use entracte_model::UnixMs;
use entracte_model::gate::State;

use super::Settings;
use super::folder::{languages, retry_at};
use super::recipe::{PASS, PASS_COOKIE, head, literal, paths, quoted, sessions};
use crate::pages::alone::policies;

/// The file with the times. It is small and changes with each closing.
pub(super) const RETRY: &str = "nginx-retry.conf";

pub(super) fn files(settings: &Settings, recipe: &str) -> Vec<(&'static str, String)> {
    vec![
        ("nginx-http.conf", http(settings, recipe)),
        ("nginx-server.conf", server(settings, recipe)),
    ]
}

/// When to come back, spread over a fifth of the time so that not all come at once.
pub(super) fn retry(state: &State, now: UnixMs) -> String {
    let at = |fifths: u64| retry_at(state, now, fifths * 5);
    format!(
        "split_clients \"$remote_addr$request_id\" $entracte_retry {{\n    25% \"{}\";\n    25% \
         \"{}\";\n    25% \"{}\";\n    * \"{}\";\n}}\n",
        at(0),
        at(1),
        at(2),
        at(3)
    )
}

fn http(settings: &Settings, recipe: &str) -> String {
    let mut text = head(recipe);
    let mut languages = languages(settings).into_iter();
    let default = languages.next().unwrap_or("en");
    let others: String = languages.map(|lang| format!("    \"~*^{lang}\" {lang};\n")).collect();
    let logins: String = settings
        .login
        .iter()
        .map(|rule| {
            let method = rule.parts().0.map_or("[A-Z]+".to_owned(), literal);
            let path = paths(rule);
            format!("    \"~^{method}:{}\" 1;\n", path.trim_start_matches('^'))
        })
        .collect();
    let health: String = settings
        .health_paths
        .iter()
        .map(|path| format!("    \"~^{}$\" 1;\n", literal(path)))
        .collect();
    let newcomers = match sessions(settings) {
        Some(cookies) => format!("    default 1;\n    \"~{cookies}\" \"\";\n"),
        None => "    default \"\";\n".to_owned(),
    };
    text.push_str(&format!(
        "include {retry};
map $http_accept $entracte_ext {{
    default problem;
    \"~*text/html\" html;
}}
map $http_accept_language $entracte_lang {{
    default {default};
{others}}}
map \"$http_x_entracte_pass:$cookie_{PASS_COOKIE}\" $entracte_given {{
    default none;
    \"~^(?<entracte_by_header>{PASS}):\" $entracte_by_header;
    \"~:(?<entracte_by_cookie>{PASS})$\" $entracte_by_cookie;
}}
map \"$request_method:$uri\" $entracte_login {{
    default \"\";
{logins}}}
map $uri $entracte_health {{
    default \"\";
{health}}}
map $http_cookie $entracte_newcomer {{
{newcomers}}}
",
        retry = quoted(&settings.folder.join(RETRY)),
    ));
    text
}

fn server(settings: &Settings, recipe: &str) -> String {
    let dir = settings.folder.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    let (policy, pass_policy) = policies();
    let kept = "add_header Cache-Control no-store always;";
    let page = |kind: &str| {
        format!(
            "location = /_entracte/shut/{kind} {{
    internal;
    error_page 503 /_entracte/page/{kind};
    return 503;
}}
location = /_entracte/page/{kind} {{
    internal;
    auth_basic off;
    root \"{dir}/pages\";
    etag off;
    types {{ text/html html; application/problem+json problem; }}
    charset utf-8;
    add_header Retry-After $entracte_retry always;
    {kept}
    add_header Vary \"Accept, Accept-Language, Cookie\" always;
    add_header X-Content-Type-Options nosniff always;
    add_header Content-Security-Policy \"{policy}\" always;
    rewrite ^ /{kind}.$entracte_lang.$entracte_ext break;
}}
"
        )
    };
    format!(
        "{head}open_file_cache off;
set $entracte_shut \"\";
if (-f \"{dir}/flags/draining\") {{ set $entracte_shut \"$entracte_login$entracte_newcomer\"; }}
if ($entracte_shut) {{ set $entracte_shut login; }}
if (-f \"{dir}/flags/closed\") {{ set $entracte_shut \"closed$entracte_health\"; }}
if (-f \"{dir}/pass/$entracte_given\") {{ set $entracte_shut \"\"; }}
if ($uri ~ \"^/_entracte/(?!door$)\") {{ set $entracte_shut \"\"; }}
if ($entracte_shut = login) {{ rewrite ^ /_entracte/shut/login last; }}
if ($entracte_shut = closed) {{ rewrite ^ /_entracte/shut/closed last; }}
if ($entracte_shut = closed1) {{ rewrite ^ /_entracte/shut/health last; }}
location ^~ /_entracte/ {{ return 404; }}
location = /_entracte/door {{ default_type text/plain; {kept} return 200 open; }}
location = /_entracte/ready {{ default_type text/plain; {kept} return 200 \"{recipe}\"; }}
location = /_entracte/shut/health {{ internal; default_type text/plain; return 200 ok; }}
location = /_entracte/v1/status {{
    auth_basic off;
    default_type application/json;
    etag off;
    {kept}
    alias \"{dir}/pages/status.json\";
}}
location = /_entracte/pass {{
    auth_basic off;
    default_type text/html;
    charset utf-8;
    {kept}
    add_header Content-Security-Policy \"{pass_policy}\" always;
    alias \"{dir}/pages/pass.html\";
}}
{closed}{login}",
        head = head(recipe),
        closed = page("closed"),
        login = page("login"),
    )
}
