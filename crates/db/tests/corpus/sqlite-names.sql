CREATE TABLE t (id INTEGER PRIMARY KEY, begin TEXT, [a;b] TEXT, `c;d` TEXT, "end" TEXT);
INSERT INTO t (begin, [a;b], `c;d`, "end") VALUES ('x;', 5--1 is a comment;
, '/*', ';end;');
CREATE TABLE u (x);
CREATE TRIGGER trig UPDATE OF begin ON t BEGIN
  INSERT INTO u SELECT CASE WHEN NEW.begin = ';' THEN 'end; ' ELSE [a;b] END FROM t;
  -- END;
  SELECT CASE 1 WHEN 1 THEN 2 END; END;
UPDATE t SET begin = 'y';
CREATE TRIGGER "a trigger; begin" AFTER DELETE ON t BEGIN INSERT INTO u VALUES ('gone'); END; DELETE FROM t;
CREATE VIEW end AS SELECT 1 AS begin; INSERT INTO u SELECT begin FROM end;
EXPLAIN SELECT 1;
PRAGMA user_version = 12;
INSERT INTO u VALUES ('last') -- no semicolon; behind
