//! `cargo xtask tidy`: the rules of this repository that no compiler knows, and documents that
//! must not drift from the code.

mod commands;
mod crates;
mod files;
mod keys;
mod links;
mod style;

use std::fmt;

use files::Files;

/// Something that is not as it must be, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    file: String,
    /// From 1; 0 where it is about the whole file.
    line: usize,
    what: String,
}

impl Finding {
    fn new(file: impl Into<String>, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.into(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// Checks every rule and names everything that breaks one.
pub fn tidy() -> Result<(), String> {
    println!("$ tidy");
    let files = Files::read(&crate::root())?;
    for warning in style::warnings(&files) {
        println!("warning: {warning}");
    }
    let mut findings = Vec::new();
    findings.extend(style::check(&files));
    findings.extend(crates::check(&files));
    findings.extend(links::check(&files));
    findings.extend(keys::check(&files));
    findings.extend(commands::check(&files));
    if findings.is_empty() {
        return Ok(());
    }
    findings.sort();
    for finding in &findings {
        eprintln!("{finding}");
    }
    Err(format!("tidy: {} things are not as they must be", findings.len()))
}

/// Writes what documents take from the code.
pub fn write() -> Result<(), String> {
    let root = crate::root();
    let files = Files::read(&root)?;
    let Some((name, text)) = keys::written(&files)? else {
        println!("nothing to write: docs/ is up to date");
        return Ok(());
    };
    std::fs::write(root.join(&name), text).map_err(|error| format!("{name}: {error}"))?;
    println!("wrote {name}");
    Ok(())
}
