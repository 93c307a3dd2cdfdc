//! Programs that are started from here: shown first, and an error where they fail.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Folders in which Debian keeps servers and which an ordinary user's `PATH` lacks.
const SERVER_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The cargo that runs this program.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::root());
    command
}

/// The command as one would type it.
pub fn shown(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs the command and lets it print.
pub fn run(mut command: Command) -> Result<(), String> {
    let shown = shown(&command);
    println!("$ {shown}");
    let status = command.status().map_err(|error| format!("`{shown}` cannot start: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}` ended with {status}")) }
}

/// Runs the command, prints what it prints, and gives each line to `look` as well. Whether it
/// succeeded is the result, so that what was looked at can be told in both cases.
pub fn run_and_look(mut command: Command, mut look: impl FnMut(&str)) -> Result<bool, String> {
    let shown = shown(&command);
    println!("$ {shown}");
    let broken = |error: std::io::Error| format!("`{shown}`: {error}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(broken)?;
    let out = child.stdout.take().expect("the pipe was asked for in the line above");
    let mut screen = std::io::stdout();
    for line in BufReader::new(out).split(b'\n') {
        let line = line.map_err(broken)?;
        let text = String::from_utf8_lossy(&line);
        writeln!(screen, "{text}").map_err(broken)?;
        look(&text);
    }
    Ok(child.wait().map_err(broken)?.success())
}

/// What a command prints, where it succeeds.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The first program whose name `fits`, on the `PATH` or where servers are kept.
pub fn find(fits: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(SERVER_FOLDERS.iter().map(PathBuf::from));
    folders
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .flatten()
        .find_map(|entry| entry.file_name().to_str().is_some_and(&fits).then(|| entry.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_looked_at_and_a_failure_is_told() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let mut lines = Vec::new();
        let passed =
            run_and_look(shell("echo a; echo b; exit 3"), |line| lines.push(line.to_owned()));
        assert_eq!((passed, lines), (Ok(false), vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(run(shell("exit 0")), Ok(()));
        assert!(run(shell("exit 3")).unwrap_err().contains("exit status: 3"));
        assert!(run(Command::new("entracte-no-such-program")).is_err());
    }

    #[test]
    fn servers_are_found_outside_of_the_path() {
        assert!(find(|name| name == "sh").is_some());
        assert_eq!(find(|name| name == "entracte-no-such-program"), None);
    }
}
