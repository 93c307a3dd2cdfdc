//! The test programs, several at a time.
//!
//! `cargo test` runs one after the other, and most of ours wait for servers: a run of all takes half
//! as long again as the machine needs. Cargo builds them and says where they are; they are started
//! as cargo would.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use crate::run::{cargo, shown};

/// How many run at a time. Each runs as many tests at once as there are processors.
const AT_A_TIME: usize = 2;
/// The longest of all come first, so that none of them is left alone at the end.
const LONGEST: [&str; 4] = ["kills", "crash", "conformance", "backups"];

/// A test program.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Program {
    /// The file.
    path: PathBuf,
    /// The folder of its crate, in which it runs.
    folder: PathBuf,
}

impl Program {
    /// What its source file is called; cargo adds a hash.
    fn name(&self) -> &str {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.rsplit_once('-').map_or(name, |(name, _)| name)
    }
}

/// Builds and runs all of them; `look` gets each line that they print. Whether all passed.
pub fn run_all(mut look: impl FnMut(&str) + Send) -> Result<bool, String> {
    let mut programs = build()?;
    if programs.is_empty() {
        return Err("cargo built no test program".to_owned());
    }
    programs.sort_by_key(|program| {
        LONGEST.iter().position(|name| *name == program.name()).unwrap_or(LONGEST.len())
    });
    programs.reverse();
    let (waiting, look) = (Mutex::new(programs), Mutex::new(&mut look));
    let one = || -> Result<bool, String> {
        let mut passed = true;
        loop {
            let next = waiting.lock().expect("no thread panics with the list").pop();
            let Some(program) = next else { return Ok(passed) };
            let (good, printed) = run(&program)?;
            passed &= good;
            let mut look = look.lock().expect("no thread panics while it prints");
            println!("\n     Running {} ({})", program.name(), program.path.display());
            for line in printed.lines() {
                println!("{line}");
                look(line);
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(one)).collect();
        let ends = threads.into_iter().map(|thread| thread.join().expect("it does not panic"));
        // All are waited for, also where one failed.
        ends.collect::<Vec<_>>().into_iter().try_fold(true, |all, passed| Ok(all & passed?))
    })
}

/// Builds them, and reads from cargo's messages where they are.
fn build() -> Result<Vec<Program>, String> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]);
    let shown = shown(&command);
    println!("$ {shown}");
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("`{shown}` cannot start: {error}"))?;
    if !output.status.success() {
        return Err(format!("`{shown}` ended with {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(program).collect())
}

/// The test program that a message of cargo tells of.
fn program(message: &str) -> Option<Program> {
    let is_test = message.contains(r#""reason":"compiler-artifact""#)
        && message.contains(r#""test":true},"features""#);
    let path = text(message, "executable").filter(|_| is_test)?;
    let folder = Path::new(&text(message, "manifest_path")?).parent()?.to_owned();
    Some(Program { path: path.into(), folder })
}

/// The text of a key, where it is a text without escapes: a path on Linux hardly ever has any.
fn text(message: &str, key: &str) -> Option<String> {
    let (_, rest) = message.split_once(&format!(r#""{key}":""#))?;
    rest.split_once('"').map(|(text, _)| text.to_owned())
}

/// Runs one, and returns whether it passed and what it printed: its failures stand there.
fn run(program: &Program) -> Result<(bool, String), String> {
    let output = Command::new(&program.path)
        .current_dir(&program.folder)
        .env("CARGO_MANIFEST_DIR", &program.folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} cannot start: {error}", program.path.display()))?;
    let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed.push_str(&String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        printed.push_str(&format!("{} ended with {}\n", program.name(), output.status));
    }
    Ok((output.status.success(), printed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_found_in_what_cargo_says() {
        let message = |test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"x","manifest_path":"/w/crates/gate/Cargo.toml","target":{{"kind":["test"],"name":"states","test":true}},"profile":{{"opt_level":"0","test":{test}}},"features":[],"executable":{executable},"fresh":true}}"#
            )
        };
        let found = program(&message(true, r#""/w/target/debug/deps/states-0f1e""#)).unwrap();
        assert_eq!(found.name(), "states");
        assert_eq!(found.folder, Path::new("/w/crates/gate"));
        assert_eq!(program(&message(false, r#""/w/target/debug/entracte""#)), None);
        assert_eq!(program(&message(true, "null")), None);
        assert_eq!(program(r#"{"reason":"build-finished","success":true}"#), None);
    }

    #[test]
    fn what_a_program_prints_and_how_it_ends_is_told() {
        let folder = tempfile_folder();
        let path = folder.join("fails-0f1e");
        std::fs::write(&path, "#!/bin/sh\necho test result: FAILED\nexit 3\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&path, mode).unwrap();
        let told = run(&Program { path, folder: folder.clone() });
        std::fs::remove_dir_all(&folder).unwrap();
        let (passed, printed) = told.unwrap();
        assert!(
            !passed && printed.contains("FAILED\nfails ended with exit status: 3"),
            "{printed}"
        );
    }

    fn tempfile_folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}
