//! Apache: flag files asked for by mod_rewrite at each request. Pages are files of mod_asis, which
//! carry their own status and headers, so that nothing needs a reload to change.

use super::Settings;
use super::folder::languages;
use super::recipe::{PASS, PASS_COOKIE, head, literal, paths, quoted, sessions};

/// The status by which the rules reach the page, which then answers 503: one that no game uses,
/// because a document for 503 itself would also hide a game that is down.
const INNER_STATUS: u16 = 510;

pub(super) fn files(settings: &Settings, recipe: &str) -> Vec<(&'static str, String)> {
    vec![("apache.conf", text(settings, recipe))]
}

fn text(settings: &Settings, recipe: &str) -> String {
    let dir = settings.folder.to_string_lossy().replace('"', "\\\"");
    let pages = quoted(&settings.folder.join("pages"));
    let mut out = format!(
        "{}RewriteEngine On
<IfModule proxy_module>
    ProxyPass \"/_entracte/\" \"!\"
</IfModule>
Alias \"/_entracte/asis/\" \"{dir}/pages/\"
Alias \"/_entracte/v1/status\" \"{dir}/pages/status.asis\"
Alias \"/_entracte/pass\" \"{dir}/pages/pass.asis\"
Alias \"/_entracte/door\" \"{dir}/pages/door.asis\"
Alias \"/_entracte/ready\" \"{dir}/pages/ready-{recipe}.asis\"
<Directory {pages}>
    Require all granted
    AllowOverride None
    Options None
    SetHandler send-as-is
</Directory>
ErrorDocument {INNER_STATUS} /_entracte/page
RequestHeader unset X-Entracte-Pass
RequestHeader edit Cookie \"(^|;\\s*){PASS_COOKIE}=[^;]*\" \"\"
",
        head(recipe)
    );
    out.push_str(&page_choice(settings, &dir));
    let mut rule = |conditions: &[String], action: &str| {
        for condition in conditions {
            out.push_str(&format!("RewriteCond {condition}\n"));
        }
        out.push_str(&format!("RewriteRule {action}\n"));
    };
    rule(&[], "^ - [E=ENTRACTE_GIVEN:none]");
    rule(
        &[format!("\"%{{HTTP:Cookie}}\" \"(?:^|;\\s*){PASS_COOKIE}=({PASS})(?:;|$)\"")],
        "^ - [E=ENTRACTE_GIVEN:%1]",
    );
    rule(&[format!("\"%{{HTTP:X-Entracte-Pass}}\" \"^({PASS})$\"")], "^ - [E=ENTRACTE_GIVEN:%1]");
    rule(&[format!("\"{dir}/pass/%{{ENV:ENTRACTE_GIVEN}}\" -f")], "^ - [E=ENTRACTE_TESTER:1]");
    // Not a word of it in the environment of CGI programs.
    rule(&[], "^ - [E=!ENTRACTE_GIVEN]");
    let player = [
        "\"%{REQUEST_URI}\" \"!^/_entracte/(?!door$)\"".to_owned(),
        "\"%{ENV:ENTRACTE_TESTER}\" \"!1\"".to_owned(),
    ];
    let when = |flag: &str, more: Vec<String>| {
        let mut all = player.to_vec();
        all.push(format!("\"{dir}/flags/{flag}\" -f"));
        all.extend(more);
        all
    };
    for path in &settings.health_paths {
        let is_health = format!("\"%{{REQUEST_URI}}\" \"^{}$\"", literal(path));
        rule(&when("closed", vec![is_health]), "^ /_entracte/asis/health.asis [PT,L]");
    }
    let refused = format!("^ - [R={INNER_STATUS},L]");
    rule(&when("closed", vec![]), &refused);
    for login in &settings.login {
        let mut more = vec![format!("\"%{{REQUEST_URI}}\" \"{}\"", paths(login))];
        if let Some(method) = login.parts().0 {
            more.push(format!("\"%{{REQUEST_METHOD}}\" \"^{}$\"", literal(method)));
        }
        rule(&when("draining", more), &refused);
    }
    if let Some(cookies) = sessions(settings) {
        rule(&when("draining", vec![format!("\"%{{HTTP:Cookie}}\" \"!{cookies}\"")]), &refused);
    }
    out
}

/// Which of the pages a refused request gets.
fn page_choice(settings: &Settings, dir: &str) -> String {
    let languages = languages(settings);
    let default = languages.first().copied().unwrap_or("en");
    let page = "\"^/_entracte/page$\"";
    let mut out = format!(
        "RewriteRule {page} - [E=ENTRACTE_LANG:{default},E=ENTRACTE_KIND:login,E=ENTRACTE_EXT:problem]\n"
    );
    for lang in languages.iter().skip(1) {
        out.push_str(&format!(
            "RewriteCond \"%{{HTTP:Accept-Language}}\" \"^{lang}\" [NC]\nRewriteRule {page} - [E=ENTRACTE_LANG:{lang}]\n"
        ));
    }
    out.push_str(&format!(
        "RewriteCond \"{dir}/flags/closed\" -f
RewriteRule {page} - [E=ENTRACTE_KIND:closed]
RewriteCond \"%{{HTTP:Accept}}\" \"text/html\" [NC]
RewriteRule {page} - [E=ENTRACTE_EXT:html]
RewriteRule {page} \"/_entracte/asis/%{{ENV:ENTRACTE_KIND}}.%{{ENV:ENTRACTE_LANG}}.%{{ENV:ENTRACTE_EXT}}.asis\" [PT,L]
"
    ));
    out
}
