# a comment that only the shell knows
CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT, [b;c] TEXT, `d``;` TEXT, "e"";" TEXT);
CREATE TABLE audit (what TEXT);
CREATE TRIGGER g AFTER INSERT ON t WHEN NEW.a <> ';' BEGIN
  -- a comment; in the body
  INSERT INTO audit VALUES (CASE WHEN NEW.a = 'x' THEN 'end;' ELSE NEW.a END);
  UPDATE t SET [b;c] = 'END;' WHERE id = NEW.id; /* END; */
END;
create temp trigger h after delete on t begin select 1; insert into audit values ('gone'); end ;
INSERT INTO t (a) VALUES ('x'), ('y;'), (';'), ('it''s');
DELETE FROM t WHERE a = 'y;';
INSERT INTO t VALUES (40, x'00ff', 5--1
, 1e300, -0.0);;
;
CREATE VIEW v AS SELECT a FROM t;
CREATE INDEX i ON t (a) WHERE a IS NOT NULL;
