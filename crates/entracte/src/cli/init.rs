//! `entracte init`: looks at the tree, writes `entracte.toml`, makes a key, takes production as it stands.

use std::path::{Path, PathBuf};

use entracte_model::record::Base;
use entracte_model::{RelPath, Version};
use entracte_package::{keys, scan};
use entracte_release::clock::now;
use entracte_release::{Store, Target};
use serde_json::json;

use super::App;
use crate::config::keys::KEYS;
use crate::config::{Config, NAME};
use crate::exit::{Exit, Failure};
use crate::remote;

/// Write entracte.toml with what is found here, and make production known
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte init
  entracte init --root /var/www/game --upstream 127.0.0.1:8081
  entracte init --ssh deploy@game.example.org --root /var/www/game
  entracte init --production-version 1.0     (take production as it stands for 1.0)

A file that is there is never overwritten.")]
pub struct Args {
    /// The tree that the web server serves
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Where Entracte keeps its journal, packages and backups
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Where the game answers, behind the gate
    #[arg(long, value_name = "HOST:PORT")]
    upstream: Option<String>,
    /// The short name of the game; without it, the folder's
    #[arg(long)]
    project: Option<String>,
    /// Take production as it stands for this version
    #[arg(long, value_name = "VERSION")]
    production_version: Option<Version>,
    /// The machine of the game, where it is another than this one
    #[arg(long, value_name = "USER@HOST")]
    ssh: Option<String>,
    /// Make no signing key: on the machine of the game there is none
    #[arg(long, hide = true)]
    no_key: bool,
    /// Explain every key of the configuration, and write nothing
    #[arg(long)]
    explain: bool,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    if args.explain {
        explain(app);
        return Ok(Exit::Done);
    }
    let path = match &app.global.config {
        Some(path) if path.is_dir() => std::path::absolute(path.join(NAME))?,
        Some(path) => std::path::absolute(path)?,
        None => std::env::current_dir()?.join(NAME),
    };
    let mut did = Vec::new();
    if !path.exists() {
        let dir = path.parent().unwrap_or(Path::new(".")).to_owned();
        let found = Found::look(&dir);
        let project = args.project.clone().unwrap_or_else(|| found.project.clone());
        let key_path = key_path(&project);
        let public = key(&key_path, &mut did)?;
        let text = found.render(args, &project, &public);
        entracte_host::durable::write(&path, text.as_bytes(), 0o644)?;
        did.push(format!(
            "wrote {}: read it, it says what was found and what to complete",
            path.display()
        ));
    }
    let config = Config::load(Some(&path))
        .map_err(|error| Failure::usage(entracte_release::fault::chain(&error)))?;
    let secret = config.secret_key();
    if !secret.exists() && !args.no_key {
        let public = key(&secret, &mut did)?;
        did.push(format!("add its public key to `keys` of the target: {public}"));
    }
    if let Some(version) = &args.production_version {
        did.push(baseline(app, &config, version)?);
    } else if did.is_empty() {
        did.push(format!("{} is there already; nothing to do", path.display()));
    }
    did.push(match &args.production_version {
        None => "next: complete the file, then `entracte init --production-version 1.0`".into(),
        Some(_) => "next: `entracte up` in another window, then `entracte doctor`".into(),
    });
    app.print(did.join("\n"), &json!({ "config": path, "did": did }));
    Ok(Exit::Done)
}

/// The manual of the configuration.
fn explain(app: &App) {
    for key in KEYS {
        let (takes, default) = (key.takes, key.default);
        app.say(format!(
            "{}\n    {} {}",
            app.paint.bold(key.path),
            key.help,
            app.paint.dim(match default {
                "-" | "none" => format!("({takes})"),
                "required" => format!("({takes}, required)"),
                _ => format!("({takes}, default {default})"),
            })
        ));
    }
    let value = KEYS.iter().map(|key| {
        json!({ "key": key.path, "takes": key.takes, "default": key.default, "help": key.help })
    });
    app.document(&value.collect());
}

fn key_path(project: &str) -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    home.join(".config/entracte").join(format!("{project}.key"))
}

/// The public key that belongs to the secret key at `path`, which is made where there is none.
fn key(path: &Path, did: &mut Vec<String>) -> Result<String, Failure> {
    if path.exists() {
        return Ok(keys::public(path)?.0);
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let public = keys::generate(path)?.0;
    did.push(format!("made the signing key {}; keep a copy of it", path.display()));
    Ok(public)
}

/// Takes production as it stands: its tree becomes the manifest that the first release builds upon.
fn baseline(app: &App, config: &Config, version: &Version) -> Result<String, Failure> {
    let target = app.target(config)?;
    if let Some(said) = remote::baseline(app, config, version)? {
        return Ok(said);
    }
    std::fs::create_dir_all(&target.state).map_err(|error| {
        Failure::broken(format!("{} cannot be made: {error}", target.state.display()))
            .hint("make it for this user, or set `state` of the target to another folder")
    })?;
    let mut store = Store::open(&target.store())?;
    super::deploy::nothing_under_way(&mut store, &target)?;
    if let Some(production) = store.production()?
        && production.release.0 > 0
    {
        return Err(Failure::refused(format!(
            "production is {} by release {}; it is not taken as it stands again",
            production.base.version, production.release
        )));
    }
    let manifest = scan_production(app, &target)?;
    let base = Base { version: version.clone(), manifest: manifest.hash() };
    store.baseline(&base, &manifest, now())?;
    Ok(format!(
        "production is taken as it stands for {version}: {} files at {}",
        manifest.files(),
        target.root.display()
    ))
}

fn scan_production(app: &App, target: &Target) -> Result<entracte_model::Manifest, Failure> {
    if !target.root.is_dir() {
        return Err(Failure::refused(format!("{} is no folder", target.root.display()))
            .hint("set `root` of the target to the tree that the web server serves"));
    }
    let rules =
        scan::Rules { ignore_files: false, skip: target.outside(), file_bytes_max: u64::MAX };
    Ok(scan::tree(
        &target.root,
        &rules,
        Some(&target.scan_cache()),
        &mut app.meter().of("reading"),
    )?
    .manifest)
}

/// What a look at a development tree finds.
struct Found {
    dir: &'static str,
    project: String,
    php: bool,
    node: bool,
    persist: Vec<RelPath>,
    volatile: Vec<RelPath>,
    login: Vec<&'static str>,
}

impl Found {
    fn look(dir: &Path) -> Self {
        let name =
            dir.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let project: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        // A team that keeps its tree apart from scripts and notes.
        let apart = dir.join("source").is_dir();
        let dir = &if apart { dir.join("source") } else { dir.to_owned() };
        let there = |names: &[&str]| -> Vec<RelPath> {
            let present = names.iter().filter(|name| dir.join(name).exists());
            present.filter_map(|name| name.parse().ok()).collect()
        };
        let logins = [("login.php", "POST /login.php"), ("register.php", "/register.php*")];
        Self {
            dir: if apart { "source" } else { "." },
            project: if project.trim_matches('-').is_empty() { "game".into() } else { project },
            php: dir.join("index.php").exists() || dir.join("composer.json").exists(),
            node: dir.join("package.json").exists(),
            persist: there(&["config.php", ".env", "uploads", "avatars", "storage"]),
            volatile: there(&["cache", "tmp"]),
            login: logins
                .iter()
                .filter(|(file, _)| dir.join(file).exists())
                .map(|(_, rule)| *rule)
                .collect(),
        }
    }

    fn render(&self, args: &Args, project: &str, public: &str) -> String {
        let list = |paths: &[RelPath]| -> String {
            paths.iter().map(|path| format!("{:?}", path.as_str())).collect::<Vec<_>>().join(", ")
        };
        let path = |given: &Option<PathBuf>, default: String| match given {
            Some(path) => path.display().to_string(),
            None => default,
        };
        let root = path(&args.root, format!("/var/www/{project}"));
        let state = path(&args.state, format!("/var/lib/entracte/{project}"));
        let upstream = args.upstream.clone().unwrap_or_else(|| "127.0.0.1:8081".into());
        let cookies = if self.php {
            "\"PHPSESSID\""
        } else if self.node {
            "\"connect.sid\""
        } else {
            ""
        };
        let login =
            self.login.iter().map(|rule| format!("{rule:?}")).collect::<Vec<_>>().join(", ");
        let reload = if self.php { "\"systemctl reload php8.2-fpm\"" } else { "" };
        let persist = list(&self.persist);
        let volatile = list(&self.volatile);
        let ssh = match &args.ssh {
            Some(host) => format!("ssh = {host:?}"),
            None => "# ssh = \"deploy@game.example.org\"".into(),
        };
        let lines = [
            (
                "# What Entracte found here. `entracte init --explain` says what every key is for.",
                "",
            ),
            (&format!("project = {project:?}"), ""),
            ("languages = [\"en\"]", "the players' languages, the default one first"),
            ("", ""),
            ("[source]", ""),
            (
                &format!("dir = {:?}", self.dir),
                "the development tree, as it is to stand on the server",
            ),
            ("scripts = \"SQL\"", "database scripts of the coming version: 010-add-market.sql"),
            ("changes = \"changes\"", "what `entracte note` writes"),
            ("", ""),
            ("[target.production]", ""),
            (&ssh, "the machine of the game, as your `ssh` knows it"),
            (&format!("root = {root:?}"), "what the web server serves"),
            (&format!("state = {state:?}"), "where Entracte keeps journal, packages, backups"),
            (&format!("persist = [{persist}]"), "belongs to production: configuration, uploads"),
            (&format!("volatile = [{volatile}]"), "caches: each version begins with empty ones"),
            ("# whose packages production takes:", ""),
            (&format!("keys = [{public:?}]"), ""),
            ("", ""),
            ("[target.production.gate]", ""),
            (
                "listen = \"127.0.0.1:8080\"",
                "players connect here (nginx or Caddy with TLS before it)",
            ),
            (&format!("upstream = {upstream:?}"), "where the game answers"),
            (&format!("login = [{login}]"), "requests that begin a session: \"POST /login.php\""),
            (&format!("session_cookies = [{cookies}]"), "such as \"PHPSESSID\""),
            ("", ""),
            ("[target.production.hooks]", ""),
            (&format!("reload = [{reload}]"), "what makes the server take the new files"),
            ("workers_stop = []", "crons and workers: they write, too"),
            ("workers_start = []", ""),
            ("", ""),
            ("# [target.production.database]", ""),
            ("# engine = \"mariadb\"", "or sqlite, with path = \"/var/lib/game.sqlite\""),
            ("# socket = \"/run/mysqld/mysqld.sock\"", ""),
            ("# user = \"entracte\"", ""),
            (&format!("# password_file = \"{state}/database.password\""), ""),
            (&format!("# database = {project:?}"), ""),
            ("", ""),
            ("[[target.production.smoke]]", ""),
            ("http = \"GET /\"", "asked through the gate before any player is let in"),
            ("# contains = \"a text that the page must show\"", ""),
        ];
        lines.map(|(line, comment)| commented(line, comment)).concat()
    }
}

/// Where comments begin, in characters, if the line leaves room for them.
const COMMENT_COLUMN: usize = 40;

fn commented(line: &str, comment: &str) -> String {
    match comment {
        "" => format!("{line}\n"),
        _ => format!("{line:COMMENT_COLUMN$} # {comment}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_back() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["index.php", "config.php", "login.php"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("cache")).unwrap();
        let args = Args {
            root: None,
            state: None,
            upstream: None,
            project: None,
            production_version: None,
            ssh: None,
            no_key: false,
            explain: false,
        };
        let text = Found::look(dir.path()).render(&args, "taverne", "RWQkey");
        let config = Config::parse(Path::new("/srv/x/entracte.toml"), &text).unwrap();
        let target = config.target("production").unwrap();
        assert_eq!(target.persist[0].as_str(), "config.php");
        assert_eq!(target.volatile[0].as_str(), "cache");
        assert_eq!(config.gate("production").unwrap().login, ["POST /login.php"]);
    }
}
