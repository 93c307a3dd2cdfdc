CREATE TABLE t (id int, s text, begin int, atomic int);
CREATE TABLE log (s text);
CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC
  INSERT INTO log VALUES ('f; ' || a);
  SELECT CASE WHEN a > 1 THEN CASE a WHEN 2 THEN 20 ELSE 30 END ELSE 10 END;
END;
SELECT f(1); SELECT f(2), f(3);
CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC INSERT INTO log VALUES ('p;'); DELETE FROM log WHERE s = ';'; END;
CALL p();
CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO log VALUES ('rule; one'); INSERT INTO log VALUES ('rule; two'));
INSERT INTO t VALUES (1, 'a', 2, 3);
DO $$ BEGIN FOR i IN 1..3 LOOP INSERT INTO log VALUES ('do; ' || i); END LOOP; END $$;
DO LANGUAGE plpgsql 'BEGIN INSERT INTO log VALUES (''quoted;''); END';
PREPARE make (text) AS INSERT INTO log VALUES ($1); EXECUTE make('prepared;'); DEALLOCATE make;
DO $x$ BEGIN EXECUTE 'CREATE TABLE made (a int); INSERT INTO made VALUES (1)'; END $x$;
CREATE FUNCTION begin_atomic() RETURNS text LANGUAGE sql AS 'SELECT ''BEGIN ATOMIC;''';
INSERT INTO log SELECT begin_atomic();
UPDATE t SET begin = 5, atomic = 6 WHERE begin = 2
