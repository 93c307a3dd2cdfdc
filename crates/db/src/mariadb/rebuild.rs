//! Emptying a database and making its objects again.

use super::connect::{Server, account, column, ident, literal};
use super::definitions::{self, Definitions, Program, Sequence};
use crate::error::{DbError, EngineError};

/// A session of its own that holds this lock is at work on a restore; a later restore ends it.
pub(super) fn lock_name(database: &str) -> String {
    let hash = blake3::hash(database.as_bytes()).to_hex();
    // The server's limit is 64 characters.
    format!("entracte restore {}", &hash[..16])
}

/// Drops everything in the current database except programs that are as `keep` has them: a
/// routine that is dropped loses the rights that were granted on it.
pub(super) fn empty(server: &mut Server, keep: &[Program]) -> Result<(), DbError> {
    const DOING: &str = "emptying the database";
    // A crash can leave objects that cannot be read any more; they are dropped unread.
    let kept = |program: &Program| keep.contains(program);
    let there = definitions::programs(server).unwrap_or_default();
    let is_kept = |kind: &str, name: &str| {
        there.iter().any(|program| program.kind == kind && program.name == name && kept(program))
    };
    for (kind, sql) in [
        (
            "EVENT",
            "SELECT EVENT_NAME, 'EVENT' FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE()",
        ),
        (
            "VIEW",
            "SELECT TABLE_NAME, 'VIEW' FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE = 'VIEW'",
        ),
        (
            "",
            "SELECT ROUTINE_NAME, ROUTINE_TYPE FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE() ORDER BY ROUTINE_TYPE DESC",
        ),
    ] {
        for row in server.rows_for(sql, DOING)? {
            let (name, kind_there) = (column(&row, 0), column(&row, 1));
            let kind = if kind.is_empty() { kind_there.as_str() } else { kind };
            if !is_kept(kind, &name) {
                server.run_for(&format!("DROP {kind} IF EXISTS {}", ident(&name)), DOING)?;
            }
        }
    }
    drop_tables(server)
}

/// Drops every table and sequence. A parent cannot be dropped while its child is without rows in
/// the middle of an interrupted restore; then the child goes first.
fn drop_tables(server: &mut Server) -> Result<(), DbError> {
    let sql = "SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES
               WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE <> 'VIEW'";
    let mut missing = usize::MAX;
    loop {
        let there = server.rows_for(sql, "listing the tables")?;
        if there.is_empty() {
            return Ok(());
        }
        let fewer = there.len() < std::mem::replace(&mut missing, there.len());
        for row in there {
            let kind = if column(&row, 1) == "SEQUENCE" { "SEQUENCE" } else { "TABLE" };
            let name = column(&row, 0);
            let dropped = server.run(&format!("DROP {kind} IF EXISTS {}", ident(&name)));
            if let (Err(error), false) = (dropped, fewer) {
                return Err(DbError::engine(format!("dropping the table {name}"))(error));
            }
        }
    }
}

/// Drops the sequences, whose places in defaults stay.
pub(super) fn drop_sequences(server: &mut Server, all: &[Sequence]) -> Result<(), DbError> {
    for sequence in all {
        let sql = format!("DROP SEQUENCE IF EXISTS {}", ident(&sequence.name));
        server.run_for(&sql, &format!("dropping the sequence {}", sequence.name))?;
    }
    Ok(())
}

/// Makes the sequences, each where it stood. Before the tables, whose defaults may use them.
pub(super) fn sequences(server: &mut Server, sequences: &[Sequence]) -> Result<(), DbError> {
    for sequence in sequences {
        let doing = format!("making the sequence {}", sequence.name);
        server.run_for(&sequence.create, &doing)?;
        let set = format!(
            "SELECT SETVAL({}, {}, 0, {})",
            ident(&sequence.name),
            sequence.next,
            sequence.cycles
        );
        server.run_for(&set, &doing)?;
    }
    Ok(())
}

/// Gives the database its defaults and makes its programs, in the order that they stand in;
/// views that show other views wait for those.
pub(super) fn programs(server: &mut Server, wanted: &Definitions) -> Result<(), DbError> {
    let mut missing: Vec<&Program> = Vec::new();
    // What cannot be read is not there as it was, and is made again below.
    let there = definitions::programs(server).unwrap_or_default();
    let mut maker = Maker { server, database_collation: None };
    for program in wanted.programs.iter().filter(|program| !there.contains(program)) {
        missing.push(program);
    }
    while !missing.is_empty() {
        let mut left = Vec::new();
        let mut last = None;
        let before = missing.len();
        for program in missing {
            if let Err(error) = maker.make(program) {
                last = Some((program, error));
                left.push(program);
            }
        }
        if let (Some((program, source)), true) = (last, left.len() == before) {
            let doing = format!("making the {} {}", program.kind.to_lowercase(), program.name);
            return Err(DbError::Engine { doing, source });
        }
        missing = left;
    }
    let defaults =
        format!("ALTER DATABASE CHARACTER SET {} COLLATE {}", wanted.charset, wanted.collation);
    server.run_for(&defaults, "setting the database's character set")?;
    Ok(())
}

struct Maker<'a> {
    server: &'a mut Server,
    database_collation: Option<String>,
}

impl Maker<'_> {
    /// Makes a program in a session like the one in which it was made first.
    fn make(&mut self, program: &Program) -> Result<(), EngineError> {
        if program.database_collation != self.database_collation
            && let Some(collation) = &program.database_collation
        {
            self.server.run(&format!("ALTER DATABASE COLLATE {collation}"))?;
            self.database_collation = Some(collation.clone());
        }
        // We send UTF-8. For another character set that is the same only where the text is
        // ASCII; elsewhere the text is kept rather than the name of its character set.
        let as_sent = program.create.is_ascii() || program.charset.starts_with("utf8");
        let (charset, collation) = if as_sent {
            (program.charset.as_str(), program.collation.as_str())
        } else {
            ("utf8mb4", "utf8mb4_general_ci")
        };
        let mode = program.sql_mode.as_deref().unwrap_or("");
        let zone = program.time_zone.as_deref().unwrap_or("SYSTEM");
        let prepare = format!(
            "SET SESSION character_set_client = {charset}, collation_connection = {collation}, \
             sql_mode = {}, time_zone = {}",
            literal(mode),
            literal(zone)
        );
        let result = self.server.run(&prepare).and_then(|_| self.server.run(&program.create));
        self.server.run(
            "SET SESSION character_set_client = utf8mb4, collation_connection = DEFAULT, \
             sql_mode = '', time_zone = DEFAULT",
        )?;
        result.map(|_| ())
    }
}

/// Gives every table its next automatic value back where it has another.
pub(super) fn next_values(server: &mut Server, wanted: &Definitions) -> Result<(), DbError> {
    let there = definitions::tables(server)?;
    for table in &wanted.tables {
        let found = there.iter().find(|found| found.name == table.name);
        let found = found.and_then(|found| found.auto_increment);
        if let (Some(next), true) = (table.auto_increment, found != table.auto_increment) {
            let sql = format!("ALTER TABLE {} AUTO_INCREMENT = {next}", ident(&table.name));
            let doing = format!("setting the next automatic value of {}", table.name);
            server.run_for(&sql, &doing)?;
        }
    }
    Ok(())
}

/// The programs that this account could not make again, because others defined them.
pub(super) fn of_other_definers<'a>(
    definitions: &'a Definitions,
    own_account: &str,
) -> Vec<&'a Program> {
    let own = account(own_account);
    definitions.programs.iter().filter(|program| account(&program.definer) != own).collect()
}
