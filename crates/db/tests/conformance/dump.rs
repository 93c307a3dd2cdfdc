//! Dumps, which are worth what their restoring is worth.

use std::io::{self, Read, Write};

use entracte_db::{DbError, open, scratch};

use crate::fixture::{Fixture, chain, quiet, run};

pub fn a_dump_brings_everything_into_an_empty_database(fixture: &Fixture) {
    let mut database = fixture.seeded();
    let (sums, schema) = (database.sums().unwrap(), database.schema().unwrap());
    let mut dump = Vec::new();
    let bytes = database.dump(&mut dump, &mut quiet).unwrap();
    assert_eq!(bytes, dump.len() as u64);
    assert_eq!(database.sums().unwrap(), sums, "dumping changed something");
    let scratch = scratch::start(&fixture.settings, &fixture.path().join("scratch")).unwrap();
    let mut copy = open(scratch.settings()).unwrap();
    copy.load(&mut dump.as_slice(), &mut quiet).unwrap();
    assert_eq!(sums.differences(&copy.sums().unwrap()), Vec::<String>::new());
    let differences = schema.differences(&copy.schema().unwrap());
    assert!(differences.is_empty(), "{differences:?}");
    // The same contents make the same dump: a second backup costs almost nothing.
    let mut again = Vec::new();
    database.dump(&mut again, &mut quiet).unwrap();
    assert!(again == dump, "two dumps of the same contents differ");
}

pub fn a_dump_replaces_what_was_there(fixture: &Fixture) {
    let mut database = fixture.seeded();
    let sums = database.sums().unwrap();
    let mut dump = Vec::new();
    database.dump(&mut dump, &mut quiet).unwrap();
    let damage = fixture.either(
        crate::point::DAMAGE_SQLITE,
        crate::point::DAMAGE_MARIADB,
        crate::point::DAMAGE_POSTGRES,
    );
    run(&mut *database, &[damage]).unwrap();
    database.load(&mut dump.as_slice(), &mut quiet).unwrap();
    assert_eq!(sums.differences(&database.sums().unwrap()), Vec::<String>::new());
}

pub fn a_cut_dump_is_refused(fixture: &Fixture) {
    let mut database = fixture.seeded();
    let mut dump = Vec::new();
    database.dump(&mut dump, &mut quiet).unwrap();
    // Cut behind a whole statement, where no reader of SQL would notice.
    let cut = if fixture.is_sqlite() {
        dump.len() / 2
    } else {
        let text = String::from_utf8_lossy(&dump);
        let end = fixture.either("", "-- Dump completed", "-- PostgreSQL database dump complete");
        text.rfind(end).unwrap()
    };
    let error = database.load(&mut &dump[..cut], &mut quiet).unwrap_err();
    assert!(matches!(error, DbError::TruncatedDump { .. }), "{error:?}");
    let mut broken = dump[..cut].chain(Broken);
    let error = database.load(&mut broken, &mut quiet).unwrap_err();
    assert!(chain(&error).contains("cable"), "{}", chain(&error));
    // And a place that takes nothing more is told of.
    let error = database.dump(&mut Broken, &mut quiet).unwrap_err();
    assert!(chain(&error).contains("cable"), "{}", chain(&error));
}

pub fn what_a_dump_holds_is_what_comes_back(fixture: &Fixture) {
    let mut database = fixture.seeded();
    let mut dump = Vec::new();
    let (bytes, held) = database.dump_with_contents(&mut dump, &mut quiet).unwrap();
    assert_eq!(bytes, dump.len() as u64);
    let rows: u64 = database.sums().unwrap().tables.values().map(|table| table.rows).sum();
    assert!(held.rows() > 0 && held.rows() <= rows, "{} of {rows}", held.rows());
    let read = |database: &mut dyn entracte_db::Database| {
        database.dump_with_contents(&mut io::sink(), &mut quiet).unwrap().1
    };
    database.load(&mut dump.as_slice(), &mut quiet).unwrap();
    assert_eq!(held.differences(&read(&mut *database)), Vec::<String>::new());
    let damage = fixture.either(
        crate::point::DAMAGE_SQLITE,
        crate::point::DAMAGE_MARIADB,
        crate::point::DAMAGE_POSTGRES,
    );
    run(&mut *database, &[damage]).unwrap();
    assert_ne!(held.differences(&read(&mut *database)), Vec::<String>::new());
}

/// A stream that fails.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("somebody stumbled over the cable"))
    }
}

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::other("somebody stumbled over the cable"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
