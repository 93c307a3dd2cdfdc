//! `entracte key`: the keys that sign packages, and those that production trusts.

use std::fs;
use std::path::{Path, PathBuf};

use entracte_host::durable;
use entracte_package::keys::{self, KeyId, PublicKeyText};
use serde_json::json;

use super::App;
use crate::config::{Config, edit};
use crate::exit::{Exit, Failure};

/// Make, list, trust and change the keys that sign packages
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte key list
  entracte key new --out backup-signer.key
  entracte key trust colleague.pub
  entracte key rotate

Keys and signatures are minisign's: `minisign -V -p old.pub -m new.pub` verifies a rotation.")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make a key (the secret half never leaves its file)
    New {
        /// Where the secret key is put; without it, where `pack` looks for it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show the key that signs here, and the keys that the target trusts
    List,
    /// Let the target take packages that another key signs
    Trust {
        /// A public key (RW...), or the .pub file that holds it
        key: String,
        /// Take it without a signature of a key that is trusted already
        #[arg(long)]
        unsigned: bool,
    },
    /// Sign with a new key from now on; the old one signs it, so that others can follow
    Rotate,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let config = app.config()?;
    match &args.what {
        What::New { out } => new(app, &out.clone().unwrap_or_else(|| config.secret_key())),
        What::List => list(app, &config),
        What::Trust { key, unsigned } => trust(app, &config, key, *unsigned),
        What::Rotate => rotate(app, &config),
    }
}

fn new(app: &App, secret: &Path) -> Result<Exit, Failure> {
    if let Some(folder) = secret.parent() {
        fs::create_dir_all(folder)?;
    }
    let public = keys::generate(secret)?;
    let file = write_public(secret, &public)?;
    let id = keys::id(&public.0)?;
    app.print(
        format!(
            "{} key {id}: {} (keep it safe), {}\n  {public}",
            app.paint.good("Made"),
            secret.display(),
            file.display()
        ),
        &json!({ "id": id.to_string(), "public": public.0, "secret": secret, "file": file }),
    );
    Ok(Exit::Done)
}

fn list(app: &App, config: &Config) -> Result<Exit, Failure> {
    let target = app.target(config)?;
    let secret = config.secret_key();
    let own = if secret.exists() { Some(keys::public(&secret)?) } else { None };
    let own_id = own.as_ref().map(|own| keys::id(&own.0)).transpose()?;
    match (&own, own_id) {
        (Some(own), Some(id)) => app.say(format!("Signs here: {id}  {own}")),
        _ => app.say(format!("Signs here: nobody ({} is not there)", secret.display())),
    }
    app.say(format!("Trusted by {}:", target.environment));
    let mut trusted = Vec::new();
    for key in &target.trusted_keys {
        let id = keys::id(key)?;
        let mine = if Some(id) == own_id { "  (signs here)" } else { "" };
        app.say(format!("  {id}  {key}{mine}"));
        trusted.push(json!({ "id": id.to_string(), "public": key }));
    }
    let knows_own = own_id.is_none_or(|id| target.trusted_keys.iter().any(|key| is(key, id)));
    if !knows_own {
        let warning = "production does not trust the key that signs here: `entracte key trust`";
        app.say(app.paint.warn(warning));
    }
    app.document(&json!({
        "signs": own.map(|own| own.0), "id": own_id.map(|id| id.to_string()),
        "trusted": trusted, "good": knows_own,
    }));
    Ok(Exit::Done)
}

fn is(key: &str, id: KeyId) -> bool {
    keys::id(key).is_ok_and(|found| found == id)
}

fn trust(app: &App, config: &Config, key: &str, unsigned: bool) -> Result<Exit, Failure> {
    let target = app.target(config)?;
    let path = Path::new(key);
    let text = if path.is_file() { fs::read_to_string(path)? } else { key.to_owned() };
    let (line, id) = (keys::line(&text)?, keys::id(&text)?);
    if target.trusted_keys.iter().any(|known| is(known, id)) {
        app.print(format!("Key {id} is trusted already."), &json!({ "id": id.to_string() }));
        return Ok(Exit::Done);
    }
    // The first key has nobody to vouch for it.
    if !unsigned && !target.trusted_keys.is_empty() {
        let signature = fs::read_to_string(signature_of(path)).unwrap_or_default();
        keys::vouched(&target.trusted_keys, &text, &signature).map_err(|error| {
            let hint = format!(
                "expected {} beside it, signed by a key of `entracte key list`; `--unsigned` takes it on your word",
                signature_of(path).display()
            );
            Failure { exit: Exit::Refused, ..Failure::from(error) }.hint(hint)
        })?;
    }
    add(config, &target.environment, &line)?;
    app.print(
        format!("{} takes packages of key {id} from now on.", target.environment),
        &json!({ "id": id.to_string(), "public": line.0 }),
    );
    Ok(Exit::Done)
}

/// Makes the new key, lets the old one sign it, lets the targets that trust the old one trust the
/// new one, and puts it in the old one's place: in this order, so that a crash anywhere leaves a key
/// that signs and is trusted. It can cost a left-over `.next` file, which the next call takes up.
fn rotate(app: &App, config: &Config) -> Result<Exit, Failure> {
    let secret = config.secret_key();
    if !secret.exists() {
        return Err(Failure::refused(format!("there is no key at {}", secret.display()))
            .hint("`entracte key new` makes the first one"));
    }
    let old = keys::id(&keys::public(&secret)?.0)?;
    let next = beside(&secret, ".next");
    let public = match next.exists() {
        true => keys::public(&next)?,
        false => keys::generate(&next)?,
    };
    let new = keys::id(&public.0)?;
    let text = keys::public_file(&public)?;
    let file = beside(&secret, &format!("-{new}.pub"));
    durable::write(&file, text.as_bytes(), 0o644)?;
    let signature = keys::vouch(&secret, &text)?;
    durable::write(&signature_of(&file), signature.as_bytes(), 0o644)?;
    let trusting = config.file.target.iter().filter(|(_, target)| {
        target.keys.iter().any(|key| is(key, old)) && !target.keys.iter().any(|key| is(key, new))
    });
    let trusting: Vec<String> = trusting.map(|(name, _)| name.clone()).collect();
    for name in &trusting {
        add(config, name, &public)?;
    }
    let kept = beside(&secret, &format!("-{old}.retired"));
    if !kept.exists() {
        fs::hard_link(&secret, &kept)?;
    }
    fs::rename(&next, &secret)?;
    durable::sync_parent(&secret)?;
    write_public(&secret, &public)?;
    app.print(
        format!(
            "{} key {old} is followed by {new}, and signed it ({}).\n  Trusted now by: {}.\n  \
             Elsewhere: `entracte key trust {}` (with its .minisig beside it).\n  When every \
             production has it, take {old} out of `keys`, and {} away.",
            app.paint.good("Rotated:"),
            signature_of(&file).display(),
            if trusting.is_empty() { "nobody".to_owned() } else { trusting.join(", ") },
            file.display(),
            kept.display()
        ),
        &json!({
            "old": old.to_string(), "new": new.to_string(), "public": public.0, "file": file,
            "signature": signature_of(&file), "trusted_by": trusting, "retired": kept,
        }),
    );
    Ok(Exit::Done)
}

/// Adds a key to a target's list in the file as it is now: an earlier call may have changed it.
fn add(config: &Config, target: &str, key: &PublicKeyText) -> Result<(), Failure> {
    let text = fs::read_to_string(&config.path)?;
    let new = edit::with_key(&text, target, &key.0).ok_or_else(|| {
        Failure::refused(format!(
            "{} has no list `keys` under [target.{target}]",
            config.path.display()
        ))
        .hint(format!("add it: keys = [{:?}]", key.0))
    })?;
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(&config.path)?.permissions().mode() & 0o7777;
    Ok(durable::write(&config.path, new.as_bytes(), mode)?)
}

/// Puts the public half beside the secret one, for people to give away.
fn write_public(secret: &Path, public: &PublicKeyText) -> Result<PathBuf, Failure> {
    let file = secret.with_extension("pub");
    durable::write(&file, keys::public_file(public)?.as_bytes(), 0o644)?;
    Ok(file)
}

/// `name` without its extension, with `suffix` behind it.
fn beside(secret: &Path, suffix: &str) -> PathBuf {
    let mut name = secret.file_stem().unwrap_or_default().to_os_string();
    name.push(suffix);
    secret.with_file_name(name)
}

fn signature_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_os_string();
    name.push(".minisig");
    PathBuf::from(name)
}
