//! What generated scripts are made of: texts and statements that look as if they ended elsewhere.

use entracte_db::Engine;

/// Delimiters that none of the pieces contains by chance.
pub const DELIMITERS: &[&str] = &["//", "$$", ";;", "|||", "~", "END_OF_IT"];

/// What is put into a row.
pub fn literals(engine: Engine) -> &'static [&'static str] {
    match engine {
        Engine::Mariadb => MARIADB_LITERALS,
        Engine::Postgres => POSTGRES_LITERALS,
        Engine::Sqlite => SQLITE_LITERALS,
    }
}

/// Statements without their delimiter: `{id}` and `{literal}` are filled, `{end}` stands between
/// two statements where the delimiter is to be another than `;`.
pub fn statements(engine: Engine) -> &'static [&'static str] {
    match engine {
        Engine::Mariadb => MARIADB_STATEMENTS,
        Engine::Postgres => POSTGRES_STATEMENTS,
        Engine::Sqlite => SQLITE_STATEMENTS,
    }
}

/// What stands between two statements.
pub fn gaps(engine: Engine) -> &'static [&'static str] {
    match engine {
        Engine::Mariadb => MARIADB_GAPS,
        Engine::Postgres => POSTGRES_GAPS,
        Engine::Sqlite => SQLITE_GAPS,
    }
}

const MARIADB_LITERALS: &[&str] = &[
    "'a;b'",
    "'it''s;'",
    r"'it\'s; x'",
    "\"dq;''\"",
    r#""a\";b""#,
    "\"a\"\";b\"",
    "'-- x;'",
    "'/* ; */'",
    "'# ;'",
    r"'\\'",
    r"'\\\';'",
    "'a\nb;'",
    "'\nDELIMITER ?\n'",
    "'é🐉;'",
    "/*!50000 'x;y' */",
    "/*M!100000 'm;' */",
    "N'x;'",
    "_utf8mb4'x;'",
    "x'3b'",
    "''''",
    "''",
    "'a' ';b'",
    "5--1",
    "5 -- ; '\n - 1",
    "CONCAT('a', /* ; ' \" */ 'b')",
    "CONCAT('a', # ; ' \" `\n'b')",
    "(SELECT `x;y` FROM (SELECT 'v' AS `x;y`) AS `a``;b`)",
    "IF(1, 'then;', 'else;')",
    "CASE WHEN 1 THEN 'case;' ELSE 'end;' END",
    "REPEAT(';', 3)",
    "\\N",
];

const MARIADB_STATEMENTS: &[&str] = &[
    "INSERT INTO t VALUES ({id}, {literal})",
    "INSERT INTO t VALUES ({id}, {literal})",
    "insert into t (s, id) select {literal}, {id} from dual where 1",
    "SET @a = {literal}; INSERT INTO t VALUES ({id}, @a)",
    "START TRANSACTION; INSERT INTO t VALUES ({id}, {literal}); COMMIT",
    "BEGIN; INSERT INTO t VALUES ({id}, {literal}); COMMIT; BEGIN; DELETE FROM t; ROLLBACK",
    "PREPARE q FROM 'INSERT INTO t VALUES ({id}, ''q;'')'; EXECUTE q; DEALLOCATE PREPARE q",
    "SELECT {literal} \\G INSERT INTO t VALUES ({id}, {literal}) \\g",
    "/*!50000 INSERT INTO t VALUES ({id}, 'v;') */",
    "CREATE TABLE `end;{id}` (`begin` INT); DROP TABLE `end;{id}`; INSERT INTO t VALUES ({id}, 'n')",
    "DROP PROCEDURE IF EXISTS p{end}CREATE PROCEDURE p() BEGIN INSERT INTO t VALUES ({id}, {literal}); \
     END{end}CALL p()",
    "DROP PROCEDURE IF EXISTS p{end}\nCREATE PROCEDURE p(IN n INT)\nBEGIN\n  -- don't; end\n  \
     IF n > 1 THEN\n    INSERT INTO t VALUES ({id}, {literal});\n  ELSE SET @b = 1; END IF;\n  \
     WHILE n > 0 DO SET n = n - 1; END WHILE;\nEND{end}\nCALL p(2){end} CALL p(1)",
    "CREATE OR REPLACE TRIGGER g BEFORE INSERT ON t FOR EACH ROW BEGIN SET NEW.s = \
     CASE NEW.id WHEN {id} THEN CONCAT(NEW.s, ';') ELSE NEW.s END; END{end} INSERT INTO t VALUES \
     ({id}, {literal}){end} DROP TRIGGER g",
    "BEGIN NOT ATOMIC DECLARE a INT DEFAULT {id}; INSERT INTO t VALUES (a, {literal}); END{end}DO 1",
    "DROP FUNCTION IF EXISTS f{end}CREATE FUNCTION f() RETURNS TEXT DETERMINISTIC RETURN {literal}\
     {end}INSERT INTO t VALUES ({id}, f())",
];

const MARIADB_GAPS: &[&str] = &[
    "\n",
    "\r\n",
    " ",
    "",
    "\n\n-- it's; a comment\n",
    " # it's; another\n",
    "/* it's; a third */",
    "\n/* over;\nlines */\n",
    ";\n",
    " ; ;\n",
    "\t-- \n",
    "\n--\n",
];

const POSTGRES_LITERALS: &[&str] = &[
    "'a;b'",
    "'it''s;'",
    r"E'it\'s; x'",
    r"'back\'",
    r"e'\\'",
    r"E'\\\';'",
    "$$a;b$$",
    "$q$a;$$'b$q$",
    "$é$x;$é$",
    "$_1$;$_$$_1$",
    "'-- x;'",
    "'/* ; */'",
    "'a\nb;'",
    "'a;'\n'b;'",
    "'é🐉;'",
    r"U&'d\0061t;'",
    "(5 -- ; '\n)::text",
    "/* a /* nested; ' */ ; */ 'z'",
    "''''",
    "''",
    "B'101'::text",
    "(ARRAY['a;'])[1]",
    "1::text || ';'",
    "CASE WHEN true THEN 'case;' ELSE 'end;' END",
    "(SELECT \"x;y\" FROM (SELECT 'v' AS \"x;y\") AS \"a\"\";b\")",
    "(5 - -1)::text",
    "'{\"a\": \";\"}'::jsonb::text",
    "substring('a;b' from 2)",
];

const POSTGRES_STATEMENTS: &[&str] = &[
    "INSERT INTO t VALUES ({id}, {literal})",
    "INSERT INTO t VALUES ({id}, {literal})",
    "insert into t (s, id) select {literal}, {id} where true",
    "DO $do$ BEGIN INSERT INTO t VALUES ({id}, {literal}); END $do$",
    "DO LANGUAGE plpgsql $do$ DECLARE a int := {id}; BEGIN IF a >= 0 THEN INSERT INTO t VALUES (a, \
     {literal}); END IF; END; $do$",
    "PREPARE q (text) AS INSERT INTO t VALUES ({id}, $1); EXECUTE q('q;'); DEALLOCATE q",
    "CREATE OR REPLACE FUNCTION f{id}() RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO t VALUES \
     ({id}, {literal}); SELECT CASE WHEN true THEN NULL END; END; SELECT f{id}()",
    "CREATE OR REPLACE PROCEDURE p{id}() BEGIN ATOMIC\n INSERT INTO t VALUES ({id}, {literal});\n\
     END;\nCALL p{id}()",
    "CREATE FUNCTION g{id}() RETURNS text LANGUAGE sql AS $f$ SELECT 'END;'::text; $f$; INSERT INTO t \
     SELECT {id}, g{id}(); DROP FUNCTION g{id}()",
    "CREATE TABLE u{id} (a int); CREATE RULE r AS ON INSERT TO u{id} DO ALSO (INSERT INTO t VALUES \
     ({id}, {literal}); INSERT INTO t VALUES ({id}, 'two;')); INSERT INTO u{id} VALUES (1); DROP TABLE \
     u{id}",
    "BEGIN; INSERT INTO t VALUES ({id}, {literal}); COMMIT",
    "BEGIN; DELETE FROM t; ROLLBACK; INSERT INTO t VALUES ({id}, {literal})",
    "CREATE TABLE \"end;{id}\" (begin int); DROP TABLE \"end;{id}\"; INSERT INTO t VALUES ({id}, 'n')",
];

const POSTGRES_GAPS: &[&str] = &[
    "\n",
    "\r\n",
    " ",
    "",
    "\n\n-- it's; a comment\n",
    "--it's; another\n",
    "/* it's; a /* nested; */ third */",
    "\n/* over;\nlines */\n",
    ";\n",
    " ; ;\n",
];

const SQLITE_LITERALS: &[&str] = &[
    "'a;b'",
    "'it''s;'",
    "'back\\'",
    "'-- x;'",
    "'/* ; */'",
    "'a\nb;'",
    "'é🐉;'",
    "''''",
    "''",
    "x'3b'",
    "5--1;\n",
    "5 - -1",
    "/* ; ' */ 'c'",
    "CASE WHEN 1 THEN 'case;' ELSE 'end;' END",
    "(SELECT [x;y] FROM (SELECT 'v' AS [x;y]))",
    "(SELECT `x;y` FROM (SELECT 'v' AS `x;y`))",
    "(SELECT \"x\"\";y\" FROM (SELECT 'v' AS \"x\"\";y\"))",
    "'a' || ';' || 'b'",
    "1e3",
    "NULL",
];

const SQLITE_STATEMENTS: &[&str] = &[
    "INSERT INTO t VALUES ({id}, {literal})",
    "INSERT INTO t VALUES ({id}, {literal})",
    "insert into t (s, id) select {literal}, {id} where 1",
    "BEGIN; INSERT INTO t VALUES ({id}, {literal}); COMMIT",
    "BEGIN; DELETE FROM t; ROLLBACK; INSERT INTO t VALUES ({id}, {literal})",
    "CREATE TABLE u (x); CREATE TRIGGER g AFTER INSERT ON u BEGIN INSERT INTO t VALUES ({id}, \
     {literal}); SELECT CASE 1 WHEN 1 THEN 2 END; END; INSERT INTO u VALUES (1); DROP TABLE u",
    "CREATE TABLE u (x);\ncreate temp trigger g after insert on u\nbegin\n  -- end;\n  insert into t \
     values ({id}, {literal}); /* end; */\nend;\nINSERT INTO u VALUES (1); DROP TABLE u",
    "CREATE TABLE [end;{id}] (begin); DROP TABLE [end;{id}]; INSERT INTO t VALUES ({id}, 'n')",
    "CREATE VIEW v AS SELECT {literal} AS a; INSERT INTO t SELECT {id}, a FROM v; DROP VIEW v",
    "WITH c(a) AS (SELECT {literal}) INSERT INTO t SELECT {id}, a FROM c",
];

const SQLITE_GAPS: &[&str] = &[
    "\n",
    "\r\n",
    " ",
    "",
    "\n\n-- it's; a comment\n",
    "--it's; another\n",
    "/* it's; a third */",
    "\n/* over;\nlines */\n",
    ";\n",
    " ; ;\n",
    "\n# a line of the shell; it's\n",
];
