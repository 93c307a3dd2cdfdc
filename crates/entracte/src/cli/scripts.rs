//! The database scripts in their folder, seen beside those that production has had.

use std::fmt;
use std::path::PathBuf;

use entracte_db::{Placeholders, Script};
use entracte_package::scripts::{self, ScriptFault};
use entracte_release::Store;

use crate::config::Config;
use crate::exit::Failure;

/// What speaks against packing the scripts as they are. A release would refuse it, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptTrouble {
    /// It ran in production, and has another content now.
    Changed {
        /// Its name.
        name: String,
        /// Where it ran, in words.
        ran: String,
    },
    /// Its number lies below one that ran already.
    OutOfOrder {
        /// Its name.
        name: String,
        /// The script that ran, with the highest number.
        after: String,
        /// Where that ran, in words.
        ran: String,
    },
    /// Names without a clear order.
    Names(ScriptFault),
}

impl ScriptTrouble {
    /// A short name for the kind.
    pub fn code(&self) -> &'static str {
        match self {
            ScriptTrouble::Changed { .. } => "script-changed",
            ScriptTrouble::OutOfOrder { .. } => "script-order",
            ScriptTrouble::Names(_) => "script-name",
        }
    }

    /// How to mend it.
    pub fn hint(&self) -> &'static str {
        match self {
            ScriptTrouble::Changed { .. } => {
                "take the change back, and put it into a new script with a higher number"
            }
            ScriptTrouble::OutOfOrder { .. } => {
                "give it a higher number: production has run what comes after it"
            }
            ScriptTrouble::Names(_) => "rename the script",
        }
    }
}

impl fmt::Display for ScriptTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScriptTrouble::Changed { name, ran } => write!(
                f,
                "{name} {ran} and was changed since; a script that ran is never run again"
            ),
            ScriptTrouble::OutOfOrder { name, after, ran } => {
                write!(f, "{name} is new, and comes before {after}, which {ran} already")
            }
            ScriptTrouble::Names(fault) => fault.fmt(f),
        }
    }
}

/// The scripts in the order in which they run, with what stands for their placeholders.
pub fn read(files: Vec<PathBuf>, placeholders: &Placeholders) -> Result<Vec<Script>, Failure> {
    let ordered = scripts::order(files)?.up.into_iter();
    let with = |script: scripts::Script| {
        Script::file(script.name.as_str(), script.path).with(placeholders)
    };
    Ok(ordered.map(with).collect())
}

/// Scripts that production has not had, and what is wrong.
pub fn look(config: &Config, store: &Store) -> Result<(Vec<PathBuf>, Vec<ScriptTrouble>), Failure> {
    let all = files(config)?;
    let ordered = match scripts::order(all.clone()) {
        Ok(ordered) => ordered,
        Err(fault) => return Ok((all, vec![ScriptTrouble::Names(fault)])),
    };
    let mut fresh: Vec<PathBuf> = Vec::new();
    let mut troubles = Vec::new();
    let mut waiting: Vec<String> = Vec::new();
    for script in &ordered.up {
        let name = script.name.to_string();
        let Some(applied) = store.script(&name)? else {
            waiting.push(name);
            fresh.push(script.path.clone());
            continue;
        };
        let ran = applied.when();
        let out_of_order = |name: String| ScriptTrouble::OutOfOrder {
            name,
            after: script.name.to_string(),
            ran: ran.clone(),
        };
        troubles.extend(waiting.drain(..).map(out_of_order));
        if Script::file(&*name, &script.path).hashes()?.normalised != applied.hash {
            troubles.push(ScriptTrouble::Changed { name, ran });
        }
    }
    let names: Vec<Option<&str>> = fresh.iter().map(|path| path.file_name()?.to_str()).collect();
    let with = ordered.down.iter().filter(|down| {
        let up = down.name.as_str().replace(".down.sql", ".sql");
        names.contains(&Some(up.as_str()))
    });
    let with: Vec<PathBuf> = with.map(|down| down.path.clone()).collect();
    fresh.extend(with);
    Ok((fresh, troubles))
}

/// All scripts of the configured folder.
pub fn files(config: &Config) -> Result<Vec<PathBuf>, Failure> {
    let dir = config.at(&config.file.source.scripts);
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => {
            return Err(Failure::broken(format!("{} cannot be read: {error}", dir.display())));
        }
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        // `.SQL` counts, too: order() then says what is wrong with it, and it is not forgotten.
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("sql")) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
