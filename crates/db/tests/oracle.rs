//! Scripts, executed by us and by the engine's own client: afterwards the two databases hold the
//! same. Those of `corpus/`, those that a seeded generator glues together, and very long ones.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "oracle/clients.rs"]
mod clients;
#[path = "oracle/generated.rs"]
mod generated;
#[path = "oracle/pieces.rs"]
mod pieces;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clients::{Both, Mariadbs, Postgreses, Sqlites, by_us};
use entracte_db::{DbError, Script, open};

/// Scripts with this prefix, and what the client is given: a file of its own where it lies
/// beside (for what the client needs a delimiter and we do not).
fn corpus(prefix: &str) -> Vec<(PathBuf, PathBuf)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut found: Vec<(PathBuf, PathBuf)> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "sql"))
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix))
        .map(|path| {
            let own = path.with_extension("client");
            let for_client = if own.exists() { own } else { path.clone() };
            (path, for_client)
        })
        .collect();
    found.sort();
    assert!(found.len() >= 8, "{found:?}");
    found
}

fn the_corpus(both: &mut dyn Both) {
    for (path, for_client) in corpus(both.prefix()) {
        let shown = path.display();
        let (ours, theirs) = both.fresh();
        let script = Script::file("x.sql", &path);
        let result = by_us(&mut *open(&ours).unwrap(), script);
        if path.to_string_lossy().contains("refused") {
            // What only the client can do, or nobody can read: said, and nothing is executed.
            assert!(
                matches!(&result, Err(DbError::Script { .. } | DbError::Refused { .. })),
                "{shown}: {result:?}"
            );
            assert!(open(&ours).unwrap().sums().unwrap().tables.is_empty(), "{shown}");
            continue;
        }
        let client = both.client(&for_client);
        let said = String::from_utf8_lossy(&client.stderr);
        assert_eq!(result.is_ok(), client.status.success(), "{shown}: {result:?}, {said}");
        assert_eq!(result.is_ok(), !path.to_string_lossy().contains("fails"), "{shown}: {said}");
        let (a, b) = (open(&ours).unwrap().sums().unwrap(), open(&theirs).unwrap().sums().unwrap());
        assert!(!b.tables.is_empty(), "{shown}");
        assert_eq!(b.differences(&a), Vec::<String>::new(), "{shown}");
    }
}

/// A script with one `INSERT` of 64 MB, read from its file.
fn one_long_statement(both: &mut dyn Both) {
    const BYTES: usize = 64_000_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.sql");
    let mut file = std::io::BufWriter::new(fs::File::create(&path).unwrap());
    file.write_all(b"CREATE TABLE t (a INT, b TEXT);\nINSERT INTO t VALUES (0, ';')").unwrap();
    // Few rows, so that what is slow is the length and not the engine.
    let row = format!(",\n(1, 'it''s; {}')", "x".repeat(40_000));
    for _ in 0..BYTES / row.len() {
        file.write_all(row.as_bytes()).unwrap();
    }
    file.write_all(b";\nINSERT INTO t VALUES (2, 'behind it');\n").unwrap();
    file.into_inner().unwrap();
    let (ours, theirs) = both.fresh();
    by_us(&mut *open(&ours).unwrap(), Script::file("long.sql", &path)).unwrap();
    let client = both.client(&path);
    assert!(client.status.success(), "{}", String::from_utf8_lossy(&client.stderr));
    let (a, b) = (open(&ours).unwrap().sums().unwrap(), open(&theirs).unwrap().sums().unwrap());
    assert_eq!(b.differences(&a), Vec::<String>::new());
    assert!(a.tables["t"].rows > 1_000);
}

#[test]
fn mariadb_holds_the_same_after_us_and_after_its_client() {
    let mut both = Mariadbs::start(&[]);
    the_corpus(&mut both);
    generated::compare(&mut both);
}

#[test]
fn sqlite_holds_the_same_after_us_and_after_its_client() {
    let mut both = Sqlites::start();
    the_corpus(&mut both);
    generated::compare(&mut both);
}

#[test]
fn postgres_holds_the_same_after_us_and_after_its_client() {
    let mut both = Postgreses::start();
    the_corpus(&mut both);
    generated::compare(&mut both);
}

#[test]
fn one_insert_of_64_mb_is_executed() {
    one_long_statement(&mut Sqlites::start());
    one_long_statement(&mut Mariadbs::start(&["--max-allowed-packet=1G"]));
    one_long_statement(&mut Postgreses::start());
}

/// What the server would not take costs nothing: it is known before the first statement.
#[test]
fn a_statement_that_the_server_does_not_take_is_refused_before_the_first() {
    let mut both = Mariadbs::start(&["--max-allowed-packet=1M"]);
    let (ours, _) = both.fresh();
    let text =
        format!("CREATE TABLE t (a TEXT);\nINSERT INTO t VALUES ('{}');", "x".repeat(1 << 20));
    let error = by_us(&mut *open(&ours).unwrap(), Script::held("long.sql", text)).unwrap_err();
    assert!(matches!(&error, DbError::Refused { line: 2, .. }), "{error:?}");
    assert!(error.to_string().contains("max_allowed_packet"), "{error}");
    assert!(open(&ours).unwrap().sums().unwrap().tables.is_empty());
}
