//! Brings the program and the configuration to the machine of the game.

use std::path::{Path, PathBuf};

use entracte_host::wire::script::{self, Ended};
use entracte_host::wire::ssh::quoted;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Remote;
use super::link::failure;
use crate::cli::App;
use crate::config::{Config, Far};
use crate::exit::{Exit, Failure};

/// Exit codes of the scripts below, away from those that shells and ssh have.
const NOT_WHOLE: i32 = 61;
const DOES_NOT_RUN: i32 = 62;

/// Puts the program where it belongs, unless it is there already, and the configuration beside the
/// state.
pub fn run(app: &App, config: &Config, far: &Far, with: Option<&Path>) -> Result<Exit, Failure> {
    let program = match with {
        Some(path) => path.to_owned(),
        None => own_program()?,
    };
    let bytes = std::fs::read(&program).map_err(|error| {
        Failure::usage(format!("{} cannot be read: {error}", program.display()))
    })?;
    let sum = hex(&Sha256::digest(&bytes));
    let sent = match there(far, &sum)? {
        true => false,
        false => {
            bring(far, &bytes, &sum)?;
            true
        }
    };
    let mut remote = Remote::open(&config.file.project, far.clone())?;
    let configured = !remote.is_configured();
    remote.configure()?;
    let text = format!(
        "{} {}: entracte {} {}, configuration {}",
        app.paint.good("Ready:"),
        remote.host(),
        remote.tool(),
        if sent { "brought" } else { "is there already" },
        if configured { "brought" } else { "is there already" }
    );
    app.print(
        format!("{text}\nnext: `entracte init --production-version 1.0` takes production as it stands, then `entracte doctor`"),
        &json!({
            "host": remote.host(), "machine": remote.machine(), "tool": remote.tool(),
            "program": far.binary, "program_sent": sent, "configuration_sent": configured,
        }),
    );
    Ok(Exit::Done)
}

/// This very program, even where it was replaced on the disk since it was started.
fn own_program() -> Result<PathBuf, Failure> {
    Ok(PathBuf::from("/proc/self/exe").canonicalize().unwrap_or(std::env::current_exe()?))
}

fn binary(far: &Far) -> String {
    quoted(far.binary.strip_prefix("~/").unwrap_or(&far.binary))
}

/// Whether exactly this program is there already.
fn there(far: &Far, sum: &str) -> Result<bool, Failure> {
    let script = format!(
        "echo '{sum}  '{} | sha256sum -c --status 2>/dev/null || exit {NOT_WHOLE}",
        binary(far)
    );
    match ssh(far, &script, &[])? {
        Ended { code: Some(0), .. } => Ok(true),
        Ended { code: Some(NOT_WHOLE), .. } => Ok(false),
        Ended { code, said } => Err(failure(far.at.explain(code, &said))),
    }
}

/// Sends the program: beside its place, compared, tried, and then renamed over the old one. A
/// connection that is cut leaves the old one, and perhaps a `.part`, which the next attempt
/// replaces.
fn bring(far: &Far, bytes: &[u8], sum: &str) -> Result<(), Failure> {
    let binary = binary(far);
    let script = format!(
        "set -e; b={binary}; mkdir -p \"$(dirname \"$b\")\"; p=\"$b.part\"; umask 022; cat >\"$p\"; \
         echo \"{sum}  $p\" | sha256sum -c --status || exit {NOT_WHOLE}; chmod 755 \"$p\"; \
         case \"$p\" in */*) r=\"$p\";; *) r=\"./$p\";; esac; \
         \"$r\" --version >/dev/null || exit {DOES_NOT_RUN}; \
         sync \"$p\"; mv -f \"$p\" \"$b\"; sync \"$(dirname \"$b\")\""
    );
    match ssh(far, &script, bytes)? {
        Ended { code: Some(0), .. } => Ok(()),
        Ended { code: Some(NOT_WHOLE), .. } => Err(Failure::broken(format!(
            "the program arrived damaged at {}; what was there is untouched",
            far.at.host
        ))
        .hint("try again")),
        Ended { code: Some(DOES_NOT_RUN), said } => Err(Failure::refused(format!(
            "this program does not run on {}: {}",
            far.at.host,
            said.lines().last().unwrap_or("it gave no reason")
        ))
        .hint(
            "build it for that machine (`cargo build --release --target …`) and give it with --with",
        )),
        Ended { code, said } => Err(failure(far.at.explain(code, &said))),
    }
}

/// Runs a script of ours there.
fn ssh(far: &Far, script: &str, input: &[u8]) -> Result<Ended, Failure> {
    script::run(&far.at, script, input).map_err(failure)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
