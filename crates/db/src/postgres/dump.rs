//! Dumps by the distribution's own programs: a backup must be readable without us. Loading one
//! is a single transaction that is committed only when the dump's last line has been seen.

use std::io::{self, Cursor, Read, Write};
use std::path::Path;
use std::process::Command;

use super::connect::{self, DEFAULT_HOST};
use super::emptying;
use crate::database::Progress;
use crate::error::DbError;
use crate::settings::PostgresSettings;
use crate::tool::{self, OptionFile, Passed};

/// The programs that are needed: the one that dumps, and the client.
pub(super) const TOOLS: [&str; 2] = ["pg_dump", "psql"];
/// How a complete dump ends.
const END: &str = "-- PostgreSQL database dump complete";
/// How much of the end of a dump is looked at.
const TAIL_BYTES: usize = 256;
/// Newer dumps open with a command of the client that names a random key. With a key that is
/// always the same, equal contents make equal dumps.
const RESTRICT_KEY: &str = "--restrict-key=entracte";

/// What goes into a dump.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Definitions without rows.
    SchemaOnly,
    /// Everything. Rows are in the order of the table's file: `pg_dump` knows no other.
    Everything,
}

/// A client program that enters the database as we do. It never asks for a password.
fn command(settings: &PostgresSettings, program: &Path, password: &OptionFile) -> Command {
    let mut command = Command::new(program);
    // Nothing of our own environment leads it elsewhere.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("PGPASSFILE", password.path()).env("PGAPPNAME", "entracte");
    command.env("PGCLIENTENCODING", "UTF8");
    match (&settings.socket_dir, &settings.host) {
        (Some(dir), _) => command.env("PGHOST", dir),
        (None, host) => command.env("PGHOST", host.as_deref().unwrap_or(DEFAULT_HOST)),
    };
    command
        .env("PGPORT", settings.port.to_string())
        .env("PGUSER", &settings.user)
        .env("PGDATABASE", &settings.database)
        .arg("--no-password");
    command
}

/// Writes a dump to `out`; the number of bytes. `estimate` is its likely size.
pub(super) fn write(
    settings: &PostgresSettings,
    scope: Scope,
    out: &mut dyn Write,
    estimate: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, DbError> {
    let program = tool::find_postgres("pg_dump")?;
    let password = tool::pass_file(&settings.password)?;
    let mut command = command(settings, &program, &password);
    command.args(["--format=plain", "--encoding=UTF8", "--lock-wait-timeout=60s"]);
    if knows_restrict_key(&program) {
        command.arg(RESTRICT_KEY);
    }
    if scope == Scope::SchemaOnly {
        command.arg("--schema-only");
    }
    let mut note = |done: u64| {
        let total = estimate.max(done);
        progress(Progress { done, total, unit: "bytes", note: "dumping".to_owned() });
    };
    let passed = tool::read_from(command, out, &mut note)?;
    see_its_end(&passed.tail)?;
    Ok(passed.bytes)
}

fn knows_restrict_key(program: &Path) -> bool {
    let help = Command::new(program).arg("--help").output();
    help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--restrict-key"))
}

/// Replaces everything in the database with a dump, in one transaction: a crash, a stream that
/// fails and a dump that is cut leave the database as it was.
pub(super) fn load(
    settings: &PostgresSettings,
    input: &mut dyn Read,
    total: Option<u64>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DbError> {
    let mut server = connect::admin(settings)?;
    let before = emptying::script(&mut server)?;
    drop(server);
    let program = tool::find_postgres("psql")?;
    let password = tool::pass_file(&settings.password)?;
    let mut command = command(settings, &program, &password);
    command.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"]);
    let mut note = |done: u64| {
        let total = total.unwrap_or(done);
        progress(Progress { done, total, unit: "bytes", note: "loading".to_owned() });
    };
    let mut wrapped = Whole {
        before: Cursor::new(format!("BEGIN;\n{before}\n").into_bytes()),
        dump: input,
        tail: Vec::new(),
        state: State::Before,
        // Triggers of events would meddle with what is brought back.
        after: Cursor::new(b"\nCOMMIT;\n".to_vec()),
    };
    let result = tool::write_to(command, &mut wrapped, &mut note);
    match (result, &wrapped.state) {
        (Err(_), State::Cut) => Err(see_its_end(&wrapped.tail).expect_err("it was found cut")),
        (result, _) => result.map(|_: Passed| ()),
    }
}

/// A dump between the beginning and the end of a transaction. The end follows only a whole dump.
struct Whole<'a> {
    before: Cursor<Vec<u8>>,
    dump: &'a mut dyn Read,
    tail: Vec<u8>,
    state: State,
    after: Cursor<Vec<u8>>,
}

enum State {
    Before,
    Dump,
    Cut,
    After,
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.state {
                State::Before => match self.before.read(buffer)? {
                    0 => self.state = State::Dump,
                    read => return Ok(read),
                },
                State::Dump => match self.dump.read(buffer)? {
                    0 if see_its_end(&self.tail).is_ok() => self.state = State::After,
                    0 => {
                        self.state = State::Cut;
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                    }
                    read => {
                        tool::keep_end(&mut self.tail, &buffer[..read], TAIL_BYTES);
                        return Ok(read);
                    }
                },
                State::Cut => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                State::After => return self.after.read(buffer),
            }
        }
    }
}

fn see_its_end(tail: &[u8]) -> Result<(), DbError> {
    let tail = String::from_utf8_lossy(tail);
    let mut lines = tail.lines().rev();
    // Behind the last words stand an empty comment, empty lines and the client's closing command.
    let last = lines
        .find(|line| {
            let line = line.trim();
            !(line.is_empty() || line == "--" || line.starts_with("\\unrestrict "))
        })
        .unwrap_or("");
    if last == END {
        return Ok(());
    }
    Err(DbError::TruncatedDump {
        expected: format!("`{END}`"),
        found: last.chars().take(80).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transaction_ends_only_behind_a_whole_dump() {
        let read = |dump: &str| {
            let mut input = dump.as_bytes();
            let mut whole = Whole {
                before: Cursor::new(b"BEGIN;\n".to_vec()),
                dump: &mut input,
                tail: Vec::new(),
                state: State::Before,
                after: Cursor::new(b"COMMIT;\n".to_vec()),
            };
            let mut all = String::new();
            whole.read_to_string(&mut all).map(|_| all)
        };
        let whole = format!("SELECT 1;\n--\n{END}\n--\n\n\\unrestrict x\n\n");
        assert_eq!(read(&whole).unwrap(), format!("BEGIN;\n{whole}COMMIT;\n"));
        assert!(read("SELECT 1;\n").is_err() && read("").is_err());
    }
}
