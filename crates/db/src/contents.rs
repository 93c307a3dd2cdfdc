//! What a dump holds, noted while it passes: a backup is proven by comparing this with what comes
//! back from it, and the live database of that moment is gone by then.

use std::collections::BTreeMap;
use std::io::{self, Write};

use entracte_model::Hash;
use entracte_model::schema::Schema;
use serde::{Deserialize, Serialize};

use crate::facts::Sums;

/// The format of [`Contents`]; of a later one nothing is known.
pub const CONTENTS_FORMAT: u32 = 1;
/// How much of a line is kept: more than any line that names a table has.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What a dump holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// See [`CONTENTS_FORMAT`].
    pub format: u32,
    /// Every table of which the dump holds rows or the definition.
    pub tables: BTreeMap<String, TableContents>,
    /// The definitions that stood still while the dump was made, each by a hash.
    pub objects: BTreeMap<String, Hash>,
}

/// What a dump holds of one table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableContents {
    /// Rows.
    pub rows: u64,
    /// A sum over all rows, whatever their order.
    pub sum: String,
}

impl Contents {
    /// `before` and `after` are the definitions around the dump: what somebody changed meanwhile
    /// cannot be promised.
    pub(crate) fn new(
        tables: BTreeMap<String, TableContents>,
        before: &Schema,
        after: &Schema,
    ) -> Self {
        let stood = before.objects.iter().filter(|(object, definition)| {
            after.objects.get(object).is_some_and(|later| later == *definition)
        });
        let objects =
            stood.map(|(object, definition)| (object.to_string(), Hash::of(definition.as_bytes())));
        Self { format: CONTENTS_FORMAT, tables, objects: objects.collect() }
    }

    /// All rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.values().map(|table| table.rows).sum()
    }

    /// What of this (expected) is not in `found`, in words; empty where all of it is.
    pub fn differences(&self, found: &Contents) -> Vec<String> {
        let mut said = Vec::new();
        for (name, expected) in &self.tables {
            let rows = expected.rows;
            match found.tables.get(name) {
                None => said.push(format!("table {name} is missing ({rows} rows)")),
                Some(table) if table.rows != rows => said.push(format!(
                    "table {name}: {rows} rows are expected, {} came back",
                    table.rows
                )),
                Some(table) if table.sum != expected.sum => {
                    said.push(format!("table {name}: the same number of rows, other contents"));
                }
                Some(_) => {}
            }
        }
        let extra = found.tables.keys().filter(|name| !self.tables.contains_key(*name));
        said.extend(extra.map(|name| format!("table {name} is not expected")));
        for (name, expected) in &self.objects {
            match found.objects.get(name) {
                None => said.push(format!("{name} is missing")),
                Some(found) if found != expected => {
                    said.push(format!("{name} is defined otherwise"));
                }
                Some(_) => {}
            }
        }
        said
    }
}

/// The tables of a database whose rows were summed up by its engine.
pub(crate) fn of_sums(sums: Sums) -> BTreeMap<String, TableContents> {
    let one = |(name, sum): (String, crate::facts::TableSum)| {
        (name, TableContents { rows: sum.rows, sum: sum.checksum })
    };
    sums.tables.into_iter().map(one).collect()
}

/// Whose words a dump is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `INSERT INTO`, a line for each row.
    Mariadb,
    /// `COPY ... FROM stdin;`, a line for each row up to `\.`.
    Postgres,
}

/// Passes a dump on and counts what is in it. Line breaks inside of values are written as escapes
/// by both programs, so a row is always one line.
pub(crate) struct Counting<'a> {
    out: &'a mut dyn Write,
    form: Form,
    head: Vec<u8>,
    hasher: blake3::Hasher,
    /// Inside of a routine, a trigger or an event: its lines are no rows.
    in_body: bool,
    copying: Option<String>,
    tables: BTreeMap<String, (u64, u128)>,
}

impl<'a> Counting<'a> {
    pub(crate) fn new(form: Form, out: &'a mut dyn Write) -> Self {
        Self {
            out,
            form,
            head: Vec::new(),
            hasher: blake3::Hasher::new(),
            in_body: false,
            copying: None,
            tables: BTreeMap::new(),
        }
    }

    pub(crate) fn finish(mut self) -> BTreeMap<String, TableContents> {
        if !self.head.is_empty() {
            self.line();
        }
        let one = |(name, (rows, sum))| (name, TableContents { rows, sum: format!("{sum:032x}") });
        self.tables.into_iter().map(one).collect()
    }

    fn see(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.part(&bytes[..end]);
            self.line();
            bytes = &bytes[end + 1..];
        }
        self.part(bytes);
    }

    fn part(&mut self, bytes: &[u8]) {
        let room = HEAD_BYTES_MAX - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.hasher.update(bytes);
    }

    fn line(&mut self) {
        let head = std::mem::take(&mut self.head);
        let table = match self.form {
            Form::Mariadb => self.mariadb_row(&head),
            Form::Postgres => self.postgres_row(&head),
        };
        if let Some(table) = table {
            let mut half = [0; 16];
            half.copy_from_slice(&self.hasher.finalize().as_bytes()[..16]);
            let entry = self.tables.entry(table).or_default();
            entry.0 += 1;
            entry.1 = entry.1.wrapping_add(u128::from_le_bytes(half));
        }
        self.hasher.reset();
        // The buffer is kept: a dump has millions of lines.
        self.head = head;
        self.head.clear();
    }

    /// The table of which the line is a row.
    fn mariadb_row(&mut self, line: &[u8]) -> Option<String> {
        if let Some(delimiter) = line.strip_prefix(b"DELIMITER ") {
            self.in_body = delimiter != b";";
        }
        if self.in_body {
            return None;
        }
        if let Some(rest) = line.strip_prefix(b"CREATE TABLE `") {
            self.tables.entry(in_backticks(rest)).or_default();
        }
        line.strip_prefix(b"INSERT INTO `").map(in_backticks)
    }

    fn postgres_row(&mut self, line: &[u8]) -> Option<String> {
        if line == b"\\." {
            self.copying = None;
        } else if self.copying.is_some() {
            return self.copying.clone();
        } else if let Some(rest) =
            line.strip_prefix(b"COPY ").filter(|_| line.ends_with(b" FROM stdin;"))
        {
            let name = String::from_utf8_lossy(rest);
            let name = name.split_once(" (").map_or(&*name, |(name, _)| name).to_owned();
            self.tables.entry(name.clone()).or_default();
            self.copying = Some(name);
        }
        None
    }
}

/// A name up to its closing backtick, of which two stand for one.
fn in_backticks(rest: &[u8]) -> String {
    let text = String::from_utf8_lossy(rest);
    let mut name = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '`' && chars.next_if_eq(&'`').is_none() {
            break;
        }
        name.push(c);
    }
    name
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.out.write(bytes)?;
        self.see(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(form: Form, dump: &str) -> BTreeMap<String, TableContents> {
        let whole = {
            let mut out = Vec::new();
            let mut counting = Counting::new(form, &mut out);
            counting.write_all(dump.as_bytes()).unwrap();
            counting.finish()
        };
        // Cut anywhere, it is the same.
        let mut out = Vec::new();
        let mut counting = Counting::new(form, &mut out);
        for byte in dump.as_bytes() {
            counting.write_all(&[*byte]).unwrap();
        }
        assert_eq!(counting.finish(), whole);
        assert_eq!(out, dump.as_bytes());
        whole
    }

    fn rows(counted: &BTreeMap<String, TableContents>) -> Vec<(&str, u64)> {
        counted.iter().map(|(name, table)| (name.as_str(), table.rows)).collect()
    }

    const MARIADB: &str = "CREATE TABLE `empty` (\n);\nCREATE TABLE `a``b` (\n);\n\
        INSERT INTO `a``b` VALUES (1,'x\\ny');\nINSERT INTO `a``b` VALUES (2,'INSERT INTO `c`');\n\
        DELIMITER ;;\nCREATE TRIGGER t BEGIN\nINSERT INTO `empty` VALUES (1);\nEND ;;\nDELIMITER ;\n";

    #[test]
    fn rows_are_counted_and_bodies_are_not() {
        assert_eq!(rows(&count(Form::Mariadb, MARIADB)), [("a`b", 2), ("empty", 0)]);
    }

    #[test]
    fn copied_rows_are_counted_whatever_they_say() {
        let dump = "COPY public.a (id, text) FROM stdin;\n1\tCOPY x FROM stdin;\n2\t\\\\.\n\\.\n\
                    COPY public.\"b c\" (id) FROM stdin;\n\\.\nSELECT 1;\n";
        assert_eq!(rows(&count(Form::Postgres, dump)), [("public.\"b c\"", 0), ("public.a", 2)]);
    }

    #[test]
    fn the_order_of_rows_does_not_matter_and_each_of_their_bytes_does() {
        let contents = |dump: &str| {
            let tables = count(Form::Mariadb, dump);
            Contents::new(tables, &Schema::default(), &Schema::default())
        };
        let (one, two) = ("INSERT INTO `t` VALUES (1);\n", "INSERT INTO `t` VALUES (2);\n");
        let first = contents(&format!("{one}{two}"));
        assert_eq!(first.differences(&contents(&format!("{two}{one}"))), Vec::<String>::new());
        let other = contents(&format!("{one}{one}"));
        assert!(first.differences(&other)[0].contains("other contents"));
        assert!(first.differences(&contents(one))[0].contains("2 rows are expected, 1 came back"));
        assert!(first.differences(&contents(""))[0].contains("missing"));
    }
}
