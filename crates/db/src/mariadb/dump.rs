//! Dumps by the distribution's own programs: a backup must be readable without us.

use std::io::{Cursor, Read, Write};

use super::connect::{self, Server};
use super::definitions::Definitions;
use super::exact_floats::Relay;
use super::{point, rebuild};
use crate::database::Progress;
use crate::error::DbError;
use crate::settings::MariadbSettings;
use crate::tool::{self, Passed};

/// The program that dumps, by its new and its old name.
pub(super) const DUMP_TOOLS: &[&str] = &["mariadb-dump", "mysqldump"];
/// The client program, by its new and its old name.
pub(super) const CLIENT_TOOLS: &[&str] = &["mariadb", "mysql"];
/// How a complete dump ends.
const END: &str = "-- Dump completed";
/// How the first line of newer dumps begins: a command of the client, which older ones and the
/// server do not know.
const SANDBOX: [&[u8]; 2] = [b"/*M!999999\\-", b"/*!999999\\-"];
const FIRST_LINE_BYTES_MAX: usize = 256;

/// What goes into a dump.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Tables and their rows, in statements as long as the server likes: quick to load.
    TablesOnly,
    /// The same as of one moment, and the place in the binary log that belongs to it.
    TablesAtPlace,
    /// Everything, a statement for each row in the order of the key: a day's change stays a
    /// small change of the dump.
    Everything,
}

/// Writes a dump to `out`; the number of bytes.
pub(super) fn write(
    settings: &MariadbSettings,
    definitions: &Definitions,
    scope: Scope,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, DbError> {
    let program = tool::find(DUMP_TOOLS)?;
    let relay = Relay::start(settings, definitions.tables.iter())?;
    let options = tool::option_file(relay.as_ref().map_or(settings, Relay::settings))?;
    let mut command = tool::command(&program, &options);
    if relay.is_some() {
        // Newer programs would encrypt what has to be read on its way; our own sessions do not
        // either. The one word is MariaDB's, the other MySQL's.
        command.args(["--loose-skip-ssl", "--loose-ssl-mode=DISABLED"]);
    }
    command.args([
        "--default-character-set=utf8mb4",
        "--quote-names",
        "--hex-blob",
        "--quick",
        "--no-tablespaces",
        "--skip-dump-date",
        // Under a lock of its own table alone, a table whose numbers come from a sequence takes
        // no rows.
        "--skip-add-locks",
        "--max-allowed-packet=1G",
    ]);
    let transactional = definitions.tables.iter().all(|table| table.engine == "InnoDB");
    if transactional {
        // Both: the lock of its own default would end the transaction's point.
        command.args(["--single-transaction", "--skip-lock-tables"]);
    } else {
        command.arg("--lock-tables");
    }
    if definitions.tables.iter().any(|table| table.versioned) {
        command.arg("--dump-history");
    }
    match scope {
        Scope::TablesOnly | Scope::TablesAtPlace => {
            if scope == Scope::TablesAtPlace {
                command.arg("--master-data=2");
            }
            command.args(["--skip-triggers", "--skip-routines", "--skip-events"]);
            command.arg(&settings.database);
            command.args(definitions.tables.iter().map(|table| &table.name));
        }
        Scope::Everything => {
            command.args(["--routines", "--events", "--triggers"]);
            command.args(["--order-by-primary", "--skip-extended-insert", "--no-autocommit"]);
            command.arg(&settings.database);
        }
    }
    let estimate: u64 = definitions.tables.iter().map(|table| table.bytes).sum();
    let mut note = |done: u64| {
        let total = estimate.max(done);
        progress(Progress { done, total, unit: "bytes", note: "dumping".to_owned() });
    };
    let passed = tool::read_from(command, out, &mut note);
    if let Some(source) = relay.as_ref().and_then(Relay::failure) {
        let target = connect::target(settings);
        return Err(DbError::Unreachable { target, source: mysql::Error::from(source).into() });
    }
    let passed = passed?;
    see_its_end(&passed)?;
    relay.map_or(Ok(()), |relay| relay.see_all_exact())?;
    Ok(passed.bytes)
}

/// Gives a dump to the client program; `first` is executed before it.
pub(super) fn read(
    settings: &MariadbSettings,
    input: &mut dyn Read,
    total: Option<u64>,
    first: Option<&str>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DbError> {
    let program = tool::find(CLIENT_TOOLS)?;
    let options = tool::option_file(settings)?;
    let mut command = tool::command(&program, &options);
    command.args([
        "--batch",
        "--binary-mode",
        "--default-character-set=utf8mb4",
        "--max-allowed-packet=1G",
    ]);
    if let Some(first) = first {
        command.arg(format!("--init-command={first}"));
    }
    command.arg(&settings.database);
    let mut note = |done: u64| {
        let total = total.unwrap_or(done);
        progress(Progress { done, total, unit: "bytes", note: "loading".to_owned() });
    };
    let mut input = without_sandbox_line(input)?;
    let passed = tool::write_to(command, &mut input, &mut note)?;
    see_its_end(&passed)
}

/// Replaces everything in the database with a dump.
///
/// A crash or a cut stream leaves part of the dump; the next load begins from the start.
pub(super) fn load(
    settings: &MariadbSettings,
    input: &mut dyn Read,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DbError> {
    let mut server: Server = connect::admin(settings)?;
    point::take_lock(&mut server, settings)?;
    // The dump itself says how each object was made; one that stays would be in its way.
    rebuild::empty(&mut server, &[])?;
    let name = connect::literal(&point::client_lock_name(settings));
    read(settings, input, None, Some(&format!("DO GET_LOCK({name}, 0)")), progress)
}

fn see_its_end(passed: &Passed) -> Result<(), DbError> {
    let tail = String::from_utf8_lossy(&passed.tail);
    let last = tail.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("");
    if last.starts_with(END) {
        return Ok(());
    }
    Err(DbError::TruncatedDump {
        expected: format!("`{END}`"),
        found: last.chars().take(80).collect(),
    })
}

/// The dump without its first line, where that is the client's command.
fn without_sandbox_line<'a>(input: &'a mut dyn Read) -> Result<impl Read + 'a, DbError> {
    let mut head = Vec::new();
    let mut limited = (&mut *input).take(FIRST_LINE_BYTES_MAX as u64);
    limited.read_to_end(&mut head).map_err(DbError::Stream)?;
    if SANDBOX.iter().any(|line| head.starts_with(line)) {
        let end = head.iter().position(|byte| *byte == b'\n').map_or(head.len(), |at| at + 1);
        head.drain(..end);
    }
    Ok(Cursor::new(head).chain(input))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(dump: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut input = dump;
        without_sandbox_line(&mut input).unwrap().read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn the_sandbox_line_is_left_out_and_nothing_else() {
        let line = b"/*M!999999\\- enable the sandbox mode */ \n".as_slice();
        let rest = [b"-- x\n".as_slice(), &b"y".repeat(1000)].concat();
        assert_eq!(through(&[line, &rest].concat()), rest);
        assert_eq!(through(&rest), rest);
        assert_eq!(through(b""), b"");
    }

    #[test]
    fn a_dump_without_its_last_line_is_not_complete() {
        let end = |tail: &[u8]| see_its_end(&Passed { bytes: 0, tail: tail.to_vec() });
        assert!(end(b"UNLOCK TABLES;\n-- Dump completed\n\n").is_ok());
        assert!(end(b"-- Dump completed on 2026-01-01  1:02:03\n").is_ok());
        let said = end(b"INSERT INTO `t` VALUES (1").unwrap_err().to_string();
        assert!(said.contains("INSERT INTO"), "{said}");
    }
}
