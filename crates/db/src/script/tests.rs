use super::*;

fn texts(engine: Engine, script: &str) -> Vec<String> {
    let whole = statements(engine, script.as_bytes()).unwrap();
    // Read in small pieces, the result is the same.
    let mut reader = StatementReader::new(engine, QuoteMode::default(), Slow(script.as_bytes()));
    let mut streamed = Vec::new();
    while let Some(statement) = reader.next_statement().unwrap() {
        streamed.push(statement);
    }
    assert_eq!(streamed, whole);
    for statement in &whole {
        let offset = usize::try_from(statement.offset).unwrap();
        let line = 1 + script[..offset].matches('\n').count() as u64;
        assert_eq!(statement.line, line, "{statement:?}");
        let there = script[offset..].replace("\r\n", "\n");
        assert!(there.starts_with(&statement.text), "{statement:?} is not at its offset");
    }
    whole.into_iter().map(|statement| statement.text).collect()
}

fn mariadb(script: &str) -> Vec<String> {
    texts(Engine::Mariadb, script)
}

fn sqlite(script: &str) -> Vec<String> {
    texts(Engine::Sqlite, script)
}

fn refused(engine: Engine, script: &[u8]) -> ScriptError {
    statements(engine, script).unwrap_err()
}

/// A stream that gives one byte at a time.
struct Slow<'a>(&'a [u8]);

impl std::io::Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.len().min(buffer.len()).min(1);
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

/// Windows of every length lead to the same statements: nothing depends on where one ends.
#[test]
fn every_window_gives_the_same_statements() {
    let script = "-- head\nSELECT 'a;''b' /* ; */, \"x\\\";\" ; # c\nDELIMITER //\nCREATE TRIGGER t \
                  BEGIN x; END//\ndelimiter ;\n/*!40101 SET NAMES 'utf8' */;\nINSERT INTO a VALUES \
                  (1, '--x'), (5--1);CREATE PROCEDURE p() BEGIN IF 1 THEN SELECT 1; END IF; END;\nx";
    let whole = statements(Engine::Mariadb, script.as_bytes()).unwrap();
    assert_eq!(whole.len(), 6);
    for step in 1..60 {
        let mut splitter = Splitter::new(Engine::Mariadb, QuoteMode::default());
        let (mut start, mut end, mut found) = (0, step, Vec::new());
        loop {
            let cut = end.min(script.len());
            let window = &script.as_bytes()[start..cut];
            match splitter.next(window, cut == script.len()).unwrap() {
                Found::Statement { statement, consumed } => {
                    found.push(statement);
                    start += consumed;
                }
                Found::NeedMore => end += step,
                Found::End => break,
            }
        }
        assert_eq!(found, whole, "step {step}");
    }
}

#[test]
fn delimiters_in_strings_and_comments_end_nothing() {
    assert_eq!(
        mariadb("SELECT 'a;b', \"c;d\", `e;f`, 'g'';h', 'i\\';j' -- k;l\n, 1 /* m;n */ # o;p\n;x"),
        ["SELECT 'a;b', \"c;d\", `e;f`, 'g'';h', 'i\\';j' -- k;l\n, 1 /* m;n */ # o;p", "x"]
    );
    assert_eq!(
        sqlite("SELECT 'a;b\\', \"c;\"\"d\", `e;f`, [g;h] --k;l\n;x"),
        ["SELECT 'a;b\\', \"c;\"\"d\", `e;f`, [g;h] --k;l", "x"]
    );
}

#[test]
fn two_dashes_are_a_comment_only_before_a_space_in_mariadb() {
    assert_eq!(mariadb("SELECT 5--1; SELECT 2"), ["SELECT 5--1", "SELECT 2"]);
    assert_eq!(mariadb("--head without a space\nSELECT 1"), ["SELECT 1"]);
    assert_eq!(mariadb("SELECT 1 --\n+ 1; x"), ["SELECT 1 --\n+ 1", "x"]);
}

#[test]
fn what_is_only_comment_is_no_statement() {
    assert!(mariadb(" ;; -- a\n/* b */ # c\n;").is_empty());
    assert!(sqlite("-- a\n;;/* b */").is_empty());
    assert_eq!(mariadb("/*!40101 SET NAMES utf8 */;"), ["/*!40101 SET NAMES utf8 */"]);
    assert_eq!(mariadb("/*M!100100 SELECT ';' */; x"), ["/*M!100100 SELECT ';' */", "x"]);
}

#[test]
fn the_first_line_of_newer_dumps_is_taken_for_a_comment() {
    let dump = "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump\nSELECT 1;";
    assert_eq!(mariadb(dump), ["SELECT 1"]);
}

#[test]
fn delimiters_of_the_clients_own_are_obeyed() {
    assert_eq!(mariadb("DELIMITER //\nA; B//\nC;//\nDELIMITER ;\nD;"), ["A; B", "C;", "D"]);
    assert_eq!(
        mariadb("delimiter $$\nSELECT $$\nSELECT 2$$delimiter ;\nx"),
        ["SELECT", "SELECT 2", "x"]
    );
    assert_eq!(mariadb("DELIMITER ;;\nA; B;;\nDELIMITER ;;\nC;;"), ["A; B", "C"]);
    assert_eq!(mariadb("DELIMITER #\nA; B#\nC#\nDELIMITER ;\n# gone\nD"), ["A; B", "C", "D"]);
    assert_eq!(mariadb("Delimiter '//'  rest\nA;//"), ["A;"]);
    assert_eq!(mariadb("DELIMITER //\r\nA\r\n//\r\nDELIMITER ;\r\nB;\r\n"), ["A", "B"]);
    // Without its delimiter the last statement counts, as it does for the client.
    assert_eq!(mariadb("DELIMITER //\nA; B\n"), ["A; B"]);
    // A statement that was not ended is ended by the next DELIMITER, as the client does it.
    assert_eq!(mariadb("DELIMITER //\nA; END\nDELIMITER ;\nB;"), ["A; END", "B"]);
    // A column of this name is none.
    assert_eq!(mariadb("CREATE TABLE t (a INT,\n  delimiter CHAR(1)\n); x").len(), 2);
    let error = refused(Engine::Mariadb, b"SELECT 1;\nDELIMITER \nSELECT 2;");
    assert_eq!(error.line, 2);
}

#[test]
fn stored_programs_need_no_delimiter() {
    let programs = [
        "CREATE TRIGGER t BEFORE INSERT ON x FOR EACH ROW BEGIN SET NEW.a = 1; SET NEW.b = 2; END",
        "CREATE TRIGGER t AFTER INSERT ON x FOR EACH ROW FOLLOWS `u;v` BEGIN a; END",
        "CREATE TRIGGER t AFTER INSERT ON x FOR EACH ROW PRECEDES begin IF a THEN b; END IF",
        "CREATE DEFINER=`a;b`@`c` TRIGGER t AFTER DELETE ON x FOR EACH ROW INSERT INTO y VALUES (1)",
        "CREATE TRIGGER t AFTER DELETE ON x FOR EACH ROW IF OLD.a THEN b; ELSEIF c THEN d; ELSE e; END IF",
        "/*!50003 CREATE*/ /*!50017 DEFINER=`r`@`l`*/ /*!50003 TRIGGER t BEFORE INSERT ON x FOR EACH ROW BEGIN a; END */",
        "CREATE OR REPLACE PROCEDURE p(IN `a;` INT, OUT b VARCHAR(3)) COMMENT 'IF;' BEGIN SELECT 1; END",
        "CREATE PROCEDURE p() BEGIN DECLARE CONTINUE HANDLER FOR NOT FOUND SET a = 1; b; END",
        "CREATE PROCEDURE p() BEGIN DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN a; ROLLBACK; END; b; END",
        "CREATE PROCEDURE p() a: BEGIN b: LOOP IF c THEN LEAVE b; END IF; END LOOP b; END a",
        "CREATE PROCEDURE p() BEGIN WHILE a DO b; END WHILE; REPEAT c; UNTIL d END REPEAT; END",
        "CREATE PROCEDURE p() BEGIN FOR i IN 1..3 DO b; END FOR; SELECT 1; END",
        "CREATE PROCEDURE p() BEGIN CASE a WHEN 1 THEN b; ELSE BEGIN END; END CASE; c; END",
        "CREATE PROCEDURE p() BEGIN SET a = CASE WHEN b THEN IF(c, 1, 2) ELSE 3 END; d; END",
        "CREATE PROCEDURE p() BEGIN SET a = IF(b, REPEAT('x', 3), 'y'); SELECT begin FROM t; d; END",
        "CREATE PROCEDURE p() BEGIN SELECT NEW.end, t.begin, @if := 1; d; END",
        "CREATE PROCEDURE p() SELECT 1",
        "CREATE FUNCTION f(a INT) RETURNS VARCHAR(9) CHARACTER SET utf8mb4 DETERMINISTIC RETURN IF(a, CASE a WHEN 1 THEN 'x' END, 2)",
        "CREATE FUNCTION IF NOT EXISTS f() RETURNS INT READS SQL DATA BEGIN RETURN 1; END",
        "CREATE FUNCTION soundex2 RETURNS STRING SONAME 'x.so'",
        "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO BEGIN a; b; END",
        "CREATE DEFINER=event@localhost EVENT e ON SCHEDULE AT NOW() ON COMPLETION PRESERVE DO DELETE FROM t",
        "ALTER EVENT e DO BEGIN a; END",
        "BEGIN NOT ATOMIC a; IF b THEN c; END IF; END",
        "IF a THEN b; END IF",
        "CREATE TABLE if_it (begin INT, `end` INT)",
        "CREATE VIEW v AS SELECT CASE a WHEN 1 THEN 2 END FROM t",
        "START TRANSACTION",
        "BEGIN",
        "COMMIT",
        "BEGIN WORK",
        "DROP TABLE IF EXISTS t",
    ];
    for program in programs {
        assert_eq!(mariadb(&format!("{program};\nSELECT 1;")), [program, "SELECT 1"]);
        let whole = format!("DELIMITER //\n{program};//\nDELIMITER ;\nSELECT 1;");
        assert_eq!(mariadb(&whole), [format!("{program};").as_str(), "SELECT 1"]);
    }
    let triggers = [
        "CREATE TRIGGER t AFTER INSERT ON x BEGIN UPDATE y SET a = CASE WHEN b THEN 1 ELSE 2 END; END",
        "CREATE TEMP TRIGGER IF NOT EXISTS t AFTER INSERT ON x BEGIN SELECT 1; SELECT 2; END",
        "create temporary trigger t after insert on x begin select 'a;'; end",
        "CREATE TABLE t (trigger INT)",
    ];
    for trigger in triggers {
        assert_eq!(sqlite(&format!("{trigger};\nSELECT 1;")), [trigger, "SELECT 1"]);
        assert_eq!(sqlite(trigger), [trigger]);
    }
}

#[test]
fn what_is_not_ended_is_refused_with_the_line_where_it_began() {
    for (engine, script, line) in [
        (Engine::Mariadb, "SELECT 1;\nSELECT 'a\nb\n", 2),
        (Engine::Mariadb, "SELECT 1;\n\nSELECT /* a\nb\n", 3),
        (Engine::Mariadb, "\n/*!40101 SET x", 2),
        (Engine::Mariadb, "SELECT `a", 1),
        (Engine::Mariadb, "CREATE PROCEDURE p()\nBEGIN\n SELECT 1;\n", 2),
        (Engine::Sqlite, "SELECT [a\n", 1),
        (Engine::Sqlite, "x;\nCREATE TRIGGER t AFTER INSERT ON x BEGIN SELECT 1;", 2),
    ] {
        assert_eq!(refused(engine, script.as_bytes()).line, line, "{script}");
    }
}

#[test]
fn commands_of_the_clients_are_refused() {
    for (engine, script, line) in [
        (Engine::Mariadb, "SELECT 1;\nsource other.sql\n", 2),
        (Engine::Mariadb, "\\. other.sql\n", 1),
        (Engine::Mariadb, "SELECT 1 \\! rm\n", 1),
        (Engine::Mariadb, "system ls\n", 1),
        (Engine::Sqlite, "SELECT 1;\n.read other.sql\n", 2),
    ] {
        let error = refused(engine, script.as_bytes());
        assert_eq!(error.line, line, "{script}");
        assert!(error.found.contains("program"), "{error}");
    }
    assert_eq!(
        mariadb("SELECT \\N; SELECT 2\\G SELECT 3\\g"),
        ["SELECT \\N", "SELECT 2", "SELECT 3"]
    );
    assert_eq!(mariadb("INSERT INTO source VALUES (1)"), ["INSERT INTO source VALUES (1)"]);
    assert_eq!(sqlite("SELECT 1\n.5;"), ["SELECT 1\n.5"]);
    assert_eq!(sqlite("# a comment of the shell\nSELECT 1;"), ["SELECT 1"]);
}

#[test]
fn encodings_other_than_utf8_are_refused() {
    for engine in [Engine::Mariadb, Engine::Sqlite] {
        for script in [&b"\xff\xfeS\0E\0"[..], b"\xfe\xff\0S\0E", b"S\0E\0L\0", b"\0S\0E"] {
            assert!(refused(engine, script).found.contains("UTF-16"));
        }
        let latin = refused(engine, b"SELECT 1;\nSELECT '\xe9';");
        assert_eq!((latin.line, latin.expected.as_str()), (2, "UTF-8 text"));
        assert!(refused(engine, b"SELECT 1;\nSELECT 'a\0';").found.contains("NUL"));
        assert_eq!(texts(engine, "\u{feff}SELECT 1;"), ["SELECT 1"]);
    }
}

#[test]
fn line_ends_are_those_that_the_client_would_send() {
    assert_eq!(mariadb("SELECT 'a\r\nb',\r\n1;\r\nx\r\n"), ["SELECT 'a\nb',\n1", "x"]);
    assert_eq!(sqlite("SELECT 'a\r\nb';\r\n"), ["SELECT 'a\nb'"]);
}

#[test]
fn a_change_of_the_sql_mode_changes_the_quotes() {
    let script = "SET sql_mode = 'NO_BACKSLASH_ESCAPES';SELECT 'a\\';SET SQL_MODE=@OLD_SQL_MODE;\
                  SELECT 'b\\';';x";
    assert_eq!(mariadb(script).len(), 5);
    let script = "SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='ANSI_QUOTES,NO_BACKSLASH_ESCAPES';\
                  SELECT \"a\\\", 'b\\';x";
    assert_eq!(mariadb(script).len(), 3);
    let mode = QuoteMode::of("NO_BACKSLASH_ESCAPES");
    assert_eq!(statements_in(Engine::Mariadb, mode, b"SELECT 'a\\';x").unwrap().len(), 2);
}

#[test]
fn hashes_do_not_depend_on_line_ends_or_the_byte_order_mark() {
    let hash = normalised_hash(b"a\nb\nc");
    assert_eq!(normalised_hash(b"\xef\xbb\xbfa\r\nb\r\nc"), hash);
    assert_eq!(hash, entracte_model::Hash::of(b"a\nb\nc"));
    for other in [&b"a\nb\nc\n"[..], b"a\rb\nc", b"a\n\nb\nc", b"a\nb \nc"] {
        assert_ne!(normalised_hash(other), hash);
    }
}

#[test]
fn excerpts_are_short_and_on_one_line() {
    assert_eq!(excerpt("SELECT\n  1,\t2", 200), "SELECT 1, 2");
    assert_eq!(excerpt(&"é".repeat(500), 200).chars().count(), 200);
    assert_eq!(
        leading_words(Engine::Mariadb, "/*!40000 create*/ -- x\n `t` table", 3),
        ["CREATE", "T", "TABLE"]
    );
}

#[test]
fn a_statement_without_an_end_is_refused_within_a_bound() {
    let script = format!("SELECT 1;\nSELECT '{}", "x".repeat(3 << 20));
    let reader = |bound| {
        let mode = QuoteMode::default();
        let mut reader =
            StatementReader::new(Engine::Mariadb, mode, script.as_bytes()).with_bound(bound);
        assert_eq!(reader.next_statement().unwrap().unwrap().text, "SELECT 1");
        reader.next_statement().unwrap_err().to_string()
    };
    let bounded = reader(1 << 20);
    assert!(
        bounded.starts_with("line 1: expected the end of a statement within 1048576"),
        "{bounded}"
    );
    assert!(reader(1 << 30).contains("line 2: expected the closing '"), "{}", reader(1 << 30));
}

/// Found by the fuzzer: what is no space for the engine is part of the statement, and says so.
#[test]
fn only_what_the_engine_takes_for_space_is_left_out() {
    assert_eq!(mariadb("\n\u{b}"), Vec::<String>::new());
    assert_eq!(mariadb("SELECT 1\u{b};\u{b};\u{b}SELECT 2\u{b}"), ["SELECT 1", "SELECT 2"]);
    assert_eq!(mariadb("SELECT 1\u{a0}; \u{a0};"), ["SELECT 1\u{a0}", "\u{a0}"]);
    assert_eq!(sqlite("SELECT 1\u{c};\u{b}"), ["SELECT 1", "\u{b}"]);
    assert_eq!(texts(Engine::Postgres, "\u{b}"), ["\u{b}"]);
}

/// Found by the fuzzer: this was read for ever.
#[test]
fn the_word_delimiter_is_a_command_only_before_a_space() {
    for script in ["DELIMITER;", "SELECT 1;\ndelimiter;\nSELECT 2;", "DELIMITER //\ndelimiter//"] {
        let error = refused(Engine::Mariadb, script.as_bytes());
        assert!(error.expected.contains("after DELIMITER"), "{script}: {error:?}");
    }
    assert_eq!(mariadb("SELECT 1\ndelimiter;\nSELECT 2;"), ["SELECT 1\ndelimiter", "SELECT 2"]);
    assert_eq!(mariadb("delimiter=5;\nx"), ["delimiter=5", "x"]);
    assert_eq!(mariadb("DELIMITER //\na//\ndelimiter;\nb//"), ["a", "delimiter;\nb"]);
    assert_eq!(mariadb("\ndelimiter\u{4}#\n"), ["delimiter\u{4}#"]);
}
