//! The server's binary log, read event by event: that nothing is missing between two places, and
//! that what happened to a database there is rows and nothing that would have to be executed anew.
//!
//! Only the frame of the format is ours to know (a header of 19 bytes, the names in two kinds of
//! event). What the rows hold stays with the distribution's own program.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::DbError;
use crate::files::private_file;

const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];
/// Where the first event of a log begins.
pub(super) const FIRST: u64 = MAGIC.len() as u64;
const HEADER_BYTES: usize = 19;
/// More than any server lets an event be.
const EVENT_BYTES_MAX: usize = 2 << 30;
/// Within a statement that is several events, the last has this flag.
const STATEMENT_ENDS: u64 = 1;
/// Where a rows event has its flags, behind the header and the table's number.
const FLAGS_AT: usize = HEADER_BYTES + 6;
/// What stands behind every event where the server sums them up.
const SUM_BYTES: usize = 4;
/// Of a transaction in two phases that another session may end.
const PREPARED: u64 = 64 | 128;
const SHOWN_CHARS_MAX: usize = 80;

/// A place in the server's binary logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) position: u64,
}

/// What a kind of event is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Says how the others are written.
    Format,
    /// A statement in words.
    Query,
    /// Names the table that rows belong to.
    Table,
    Rows,
    /// The end of a transaction.
    Commit,
    /// The beginning of one.
    Begin,
    /// Says nothing of the contents.
    Nothing,
    /// What we do not read.
    Other(u8),
}

impl Kind {
    fn of(byte: u8) -> Self {
        match byte {
            15 => Kind::Format,
            2 => Kind::Query,
            19 => Kind::Table,
            23..=25 | 30..=32 | 166..=171 => Kind::Rows,
            16 => Kind::Commit,
            162 => Kind::Begin,
            // Ends of files, values for statements (which are looked at themselves), comments,
            // and what the log keeps of itself.
            3 | 4 | 5 | 13 | 14 | 27 | 160 | 161 | 163 => Kind::Nothing,
            other => Kind::Other(other),
        }
    }
}

/// One event, with its header.
struct Event {
    bytes: Vec<u8>,
    kind: Kind,
    /// Where the next one begins in the server's file; 0 for one that lies in no file. Of a
    /// longer file, the lower half.
    end: u32,
}

impl Event {
    fn body(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// A number of `length` bytes, the lowest first.
    fn number(&self, at: usize, length: usize) -> Option<u64> {
        let bytes = self.body().get(at..at + length)?;
        Some(bytes.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    /// A database's or table's name, with its length in front.
    fn name(&self, at: usize) -> Option<String> {
        let length = usize::from(*self.body().get(at)?);
        let name = self.body().get(at + 1..at + 1 + length)?;
        Some(String::from_utf8_lossy(name).into_owned())
    }
}

/// What came of reading a part of a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sifted {
    /// Everything up to this place is there, and what concerns the database was kept.
    UpTo(u64),
    /// It cannot be used; why.
    Unusable(String),
}

/// Reads the log file `raw`, whose first event is at `from` of the server's file, up to `to` or
/// its end, and keeps in `kept` what happened to the rows of `database`.
pub(super) fn sift(
    raw: &Path,
    from: u64,
    to: Option<u64>,
    keep: Keep<'_>,
    kept: &Path,
) -> Result<Sifted, DbError> {
    let file = File::open(raw).map_err(DbError::io("open", raw))?;
    let out = private_file(kept)?;
    let mut sieve = Sieve {
        out: BufWriter::new(out),
        keep,
        has_sums: false,
        tables: BTreeMap::new(),
        in_statement: [false; 2],
        rows_since_commit: false,
    };
    let sifted = sieve.all(BufReader::new(file), from, to).map_err(DbError::io("read", raw))?;
    let out =
        sieve.out.into_inner().map_err(|error| DbError::io("write", kept)(error.into_error()))?;
    out.sync_all().map_err(DbError::io("sync", kept))?;
    Ok(sifted)
}

/// What is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep<'a> {
    /// Rows of this database.
    pub(super) database: &'a str,
    /// The longest event that the server takes when it is repeated.
    pub(super) event_bytes_max: u64,
}

struct Sieve<'a> {
    out: BufWriter<File>,
    keep: Keep<'a>,
    /// Whether a sum stands behind every event.
    has_sums: bool,
    /// The numbers that stand for tables at the moment, with the event that said so where the table
    /// is of our database.
    tables: BTreeMap<u64, Option<Vec<u8>>>,
    /// Whether the statement at hand changes tables of others, and of ours.
    in_statement: [bool; 2],
    rows_since_commit: bool,
}

impl Sieve<'_> {
    fn all(&mut self, mut raw: impl Read, from: u64, to: Option<u64>) -> io::Result<Sifted> {
        let mut magic = [0; MAGIC.len()];
        raw.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Ok(Sifted::Unusable("a file that is no binary log".to_owned()));
        }
        self.out.write_all(&magic)?;
        let mut at = from;
        while to != Some(at) {
            let Some(event) = next(&mut raw)? else {
                return Ok(match to {
                    Some(to) => Sifted::Unusable(format!("the log ends at {at}, not at {to}")),
                    None => Sifted::UpTo(at),
                });
            };
            if event.end != 0 {
                let end = at + event.bytes.len() as u64;
                // The field has 32 bits; a log can be longer.
                if u64::from(event.end) != end & u64::from(u32::MAX) {
                    let why = format!("an event is missing behind {at}: {} follows", event.end);
                    return Ok(Sifted::Unusable(why));
                }
                at = end;
            }
            match self.judge(&event) {
                Ok(true) if event.kind == Kind::Rows => self.rows(event)?,
                Ok(true) => self.out.write_all(&event.bytes)?,
                Ok(false) => {}
                Err(why) => return Ok(Sifted::Unusable(why)),
            }
        }
        Ok(Sifted::UpTo(at))
    }

    /// Keeps rows as a statement of their own, with the table that they belong to: a statement is
    /// repeated in one piece, and the server takes none that is longer than its packets.
    fn rows(&mut self, event: Event) -> io::Result<()> {
        let table = event.number(0, 6).and_then(|table| self.tables.get(&table)?.as_ref());
        self.out.write_all(table.map_or(&[], Vec::as_slice))?;
        let flags = event.number(6, 2).unwrap_or(0);
        let mut bytes = event.bytes;
        if flags & STATEMENT_ENDS == 0 {
            // Its lowest bit.
            bytes[FLAGS_AT] |= 1;
            if self.has_sums {
                let summed = bytes.len() - SUM_BYTES;
                let sum = crc32(&bytes[..summed]).to_le_bytes();
                bytes[summed..].copy_from_slice(&sum);
            }
        }
        self.out.write_all(&bytes)?;
        if flags & STATEMENT_ENDS != 0 {
            self.tables.clear();
        }
        Ok(())
    }

    /// Whether the event is kept; or why the log cannot be used.
    fn judge(&mut self, event: &Event) -> Result<bool, String> {
        let cut = || "an event that is cut".to_owned();
        match event.kind {
            Kind::Format => {
                // The last of it: which sum, and its own.
                let kind = event.bytes.len().checked_sub(SUM_BYTES + 1);
                self.has_sums = kind.is_some_and(|at| event.bytes[at] == 1);
                Ok(true)
            }
            Kind::Nothing => Ok(false),
            Kind::Begin => {
                // Number, domain, flags.
                match event.number(12, 1).ok_or_else(cut)? & PREPARED {
                    0 => Ok(false),
                    _ => Err("a transaction in two phases (XA)".to_owned()),
                }
            }
            Kind::Commit => Ok(std::mem::take(&mut self.rows_since_commit)),
            Kind::Table => {
                let is_ours = self.is_ours(&event.name(8).ok_or_else(cut)?);
                let named = is_ours.then(|| event.bytes.clone());
                self.tables.insert(event.number(0, 6).ok_or_else(cut)?, named);
                self.in_statement[usize::from(is_ours)] = true;
                // Written with each of its rows.
                Ok(false)
            }
            Kind::Rows => {
                let table = event.number(0, 6).ok_or_else(cut)?;
                let flags = event.number(6, 2).ok_or_else(cut)?;
                let is_ours = self.tables.get(&table).is_some_and(Option::is_some);
                let [others, ours] = self.in_statement;
                if ours && others {
                    return Err("a statement that changes our tables and others at once".into());
                }
                let bytes = event.bytes.len() as u64;
                if is_ours && bytes > self.keep.event_bytes_max {
                    return Err(format!("a row of {bytes} bytes, too long to be repeated"));
                }
                if flags & STATEMENT_ENDS != 0 {
                    self.in_statement = [false; 2];
                    if !is_ours {
                        self.tables.clear();
                    }
                }
                self.rows_since_commit |= is_ours;
                Ok(is_ours)
            }
            Kind::Query => {
                let kept = self.query(event).ok_or_else(cut)?;
                if kept == Ok(true) {
                    self.rows_since_commit = true;
                }
                kept
            }
            Kind::Other(kind) => Err(format!("an event of the kind {kind}")),
        }
    }

    fn is_ours(&self, database: &str) -> bool {
        // Servers differ in whether the case of names counts.
        database.eq_ignore_ascii_case(self.keep.database)
    }

    /// A statement in words; none where it is cut.
    fn query(&self, event: &Event) -> Option<Result<bool, String>> {
        // Connection, time, length of the name, error, length of the settings.
        let name_bytes = usize::try_from(event.number(8, 1)?).ok()?;
        let settings_bytes = usize::try_from(event.number(11, 2)?).ok()?;
        let name_at = 13 + settings_bytes;
        let name = event.body().get(name_at..name_at + name_bytes)?;
        let sql = event.body().get(name_at + name_bytes + 1..)?;
        Some(self.statement(&String::from_utf8_lossy(name), &String::from_utf8_lossy(sql)))
    }

    /// Whether a statement is executed again; or that it cannot be.
    fn statement(&self, database: &str, sql: &str) -> Result<bool, String> {
        /// Part of a transaction of rows that needs no repeating.
        const CONTROL: [&str; 3] = ["BEGIN", "SAVEPOINT ", "RELEASE SAVEPOINT "];
        /// Accounts and caches: no part of the database, and not to be done twice.
        const BESIDE: [&str; 15] = [
            "ALTER USER ",
            "CREATE USER ",
            "DROP USER ",
            "RENAME USER ",
            "CREATE ROLE ",
            "DROP ROLE ",
            "GRANT ",
            "REVOKE ",
            "SET PASSWORD",
            "SET DEFAULT ROLE",
            "FLUSH ",
            "ANALYZE ",
            "DROP TEMPORARY ",
            "DROP /*!40005 TEMPORARY",
            "CREATE TEMPORARY ",
        ];
        let upper = sql.trim_start().to_ascii_uppercase();
        let begins = |words: &[&str]| words.iter().any(|word| upper.starts_with(word));
        let ours = self.is_ours(database);
        if upper.starts_with("XA ") {
            return Err("a transaction in two phases (XA)".to_owned());
        }
        if upper.starts_with("ROLLBACK TO ") {
            return Err("rows that were written and taken back within a transaction".to_owned());
        }
        if begins(&CONTROL) {
            return Ok(false);
        }
        if begins(&["COMMIT", "ROLLBACK"]) {
            return Ok(self.rows_since_commit);
        }
        // From another database, a statement on ours has to name it.
        if !ours && !upper.contains(&self.keep.database.to_ascii_uppercase()) {
            return Ok(false);
        }
        if begins(&BESIDE) {
            return Ok(false);
        }
        if ours && begins(&["TRUNCATE "]) {
            return Ok(true);
        }
        let shown: String = sql.chars().take(SHOWN_CHARS_MAX).collect();
        let shown: Vec<&str> = shown.split_whitespace().collect();
        Err(format!("`{}`", shown.join(" ")))
    }
}

/// The sum that the server puts behind an event.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut at = 0_u32;
        while at < 256 {
            let (mut sum, mut bit) = (at, 0);
            while bit < 8 {
                sum = if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
                bit += 1;
            }
            table[at as usize] = sum;
            at += 1;
        }
        table
    };
    let step = |sum: u32, byte: &u8| TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize] ^ (sum >> 8);
    !bytes.iter().fold(!0, step)
}

/// The next event; none at the end.
fn next(raw: &mut impl Read) -> io::Result<Option<Event>> {
    let mut header = [0; HEADER_BYTES];
    if raw.read(&mut header[..1])? == 0 {
        return Ok(None);
    }
    raw.read_exact(&mut header[1..])?;
    let word = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let length = word(9) as usize;
    if !(HEADER_BYTES..=EVENT_BYTES_MAX).contains(&length) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "an event of a length that is none",
        ));
    }
    let mut bytes = header.to_vec();
    // A length that is wrong must not take the memory for it.
    raw.take((length - HEADER_BYTES) as u64).read_to_end(&mut bytes)?;
    if bytes.len() != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(Event { kind: Kind::of(header[4]), end: word(13), bytes }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    /// A log, event by event.
    struct Log(Vec<u8>);

    impl Log {
        fn new() -> Self {
            let mut log = Self(MAGIC.to_vec());
            log.add(15, b"format");
            log
        }

        fn add(&mut self, kind: u8, body: &[u8]) {
            let length = u32::try_from(HEADER_BYTES + body.len()).unwrap();
            let end = u32::try_from(self.0.len()).unwrap() + length;
            self.0.extend([0, 0, 0, 0, kind, 1, 0, 0, 0]);
            self.0.extend(length.to_le_bytes());
            self.0.extend(end.to_le_bytes());
            self.0.extend([0, 0]);
            self.0.extend(body);
        }

        fn query(&mut self, database: &str, sql: &str) {
            let mut body = vec![0; 8];
            body.push(u8::try_from(database.len()).unwrap());
            body.extend([0, 0, 3, 0, 9, 9, 9]);
            body.extend(database.bytes().chain([0]).chain(sql.bytes()));
            self.add(2, &body);
        }

        fn rows(&mut self, table: u8, database: &str, ends: bool) {
            let mut body = vec![table, 0, 0, 0, 0, 0, 1, 0];
            body.push(u8::try_from(database.len()).unwrap());
            body.extend(database.bytes().chain(*b"\0\x01t\0"));
            self.add(19, &body);
            let mut body = vec![table, 0, 0, 0, 0, 0, u8::from(ends), 0];
            // The last four bytes are the sum, where the log has sums.
            body.extend(b"r-SUM");
            self.add(23, &body);
        }

        fn sift(&self, from: u64, to: Option<u64>) -> (Sifted, Vec<u8>) {
            let dir = tempfile::tempdir().unwrap();
            let (raw, kept) = (dir.path().join("raw"), dir.path().join("kept"));
            std::fs::write(&raw, &self.0).unwrap();
            let keep = Keep { database: "game", event_bytes_max: 200 };
            let sifted = sift(&raw, from, to, keep, &kept).unwrap();
            (sifted, std::fs::read(&kept).unwrap())
        }

        fn why(&self) -> String {
            match self.sift(FIRST, None).0 {
                Sifted::Unusable(why) => why,
                Sifted::UpTo(at) => format!("usable up to {at}"),
            }
        }
    }

    #[test]
    fn rows_of_the_database_are_kept_and_those_of_others_are_not() {
        let mut log = Log::new();
        log.add(162, &[0; 19]);
        log.rows(7, "game", true);
        log.add(16, b"commit-1");
        let ours = log.0.len();
        log.rows(8, "other", true);
        log.add(16, b"commit-2");
        log.query("other", "ALTER TABLE t ADD x INT");
        log.query("game", "ALTER USER a ACCOUNT LOCK");
        log.query("game", "truncate t");
        log.add(4, b"next file");
        let (sifted, kept) = log.sift(FIRST, None);
        assert_eq!(sifted, Sifted::UpTo(log.0.len() as u64));
        let text = String::from_utf8_lossy(&kept);
        assert!(text.contains("commit-1") && text.contains("truncate"), "{text}");
        assert!(!text.contains("commit-2") && !text.contains("other"), "{text}");
        assert!(!text.contains("ALTER"), "{text}");
        // Up to a place in the middle, and to one that is none.
        assert_eq!(log.sift(FIRST, Some(ours as u64)).0, Sifted::UpTo(ours as u64));
        assert!(matches!(log.sift(FIRST, Some(ours as u64 + 1)).0, Sifted::Unusable(_)));
    }

    #[test]
    fn what_would_have_to_be_executed_anew_makes_it_unusable() {
        for (database, sql) in [
            ("game", "ALTER TABLE t ADD x INT"),
            ("GAME", "UPDATE t SET x = NOW()"),
            ("other", "INSERT INTO `Game`.t VALUES (1)"),
            ("", "CREATE TABLE game.u (a INT)"),
            ("other", "TRUNCATE game.t"),
            ("game", "/* TRUNCATE t */ DELETE FROM t"),
            ("other", "XA COMMIT 'a'"),
        ] {
            let mut log = Log::new();
            log.query(database, sql);
            assert!(!log.why().starts_with("usable"), "{database}: {sql}");
        }
        let mut log = Log::new();
        log.rows(7, "other", false);
        log.rows(8, "game", true);
        assert!(log.why().contains("others at once"), "{}", log.why());
        let mut log = Log::new();
        log.add(26, b"incident");
        assert!(log.why().contains("kind 26"), "{}", log.why());
    }

    #[test]
    fn each_rows_event_is_a_statement_of_its_own() {
        let mut log = Log(MAGIC.to_vec());
        log.add(15, b"format\x01sums");
        log.rows(7, "game", false);
        log.add(23, b"\x07\0\0\0\0\0\0\0more-rows-SUM!");
        log.add(23, b"\x07\0\0\0\0\0\x01\0the-last-SUM!");
        let (sifted, kept) = log.sift(FIRST, None);
        assert_eq!(sifted, Sifted::UpTo(log.0.len() as u64));
        let mut events = Vec::new();
        let mut rest = &kept[MAGIC.len()..];
        while let Some(event) = next(&mut rest).unwrap() {
            events.push(event);
        }
        let kinds: Vec<Kind> = events.iter().map(|event| event.kind).collect();
        use Kind::{Format, Rows, Table};
        assert_eq!(kinds, [Format, Table, Rows, Table, Rows, Table, Rows]);
        for rows in events.iter().filter(|event| event.kind == Rows) {
            assert_eq!(rows.number(6, 2), Some(1));
        }
        let more = &events[4].bytes;
        let (summed, sum) = more.split_at(more.len() - SUM_BYTES);
        assert_eq!(sum, crc32(summed).to_le_bytes());
        assert!(events[6].bytes.ends_with(b"the-last-SUM!"));
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let mut log = Log::new();
        log.rows(7, "game", false);
        log.add(23, &[&b"\x07\0\0\0\0\0\x01\0"[..], &[b'x'; 300]].concat());
        assert!(log.why().contains("too long"), "{}", log.why());
    }

    #[test]
    fn a_gap_is_seen_and_a_cut_event_is_an_error() {
        let mut log = Log::new();
        let gap = log.0.len();
        log.add(160, b"a comment");
        let behind = log.0.len();
        log.add(16, b"xid");
        let whole = log.0.clone();
        log.0.drain(gap..behind);
        assert!(log.why().contains("missing"), "{}", log.why());
        // Fetched from the middle, as a server sends it.
        assert_eq!(Log(whole.clone()).sift(FIRST, None).0, Sifted::UpTo(whole.len() as u64));
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("raw");
        std::fs::write(&raw, &whole[..whole.len() - 2]).unwrap();
        let keep = Keep { database: "game", event_bytes_max: 200 };
        assert!(sift(&raw, FIRST, None, keep, &dir.path().join("kept")).is_err());
    }
}
