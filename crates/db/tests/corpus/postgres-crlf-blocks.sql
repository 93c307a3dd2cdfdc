-- BOM
CREATE TABLE t (a int, b text);
INSERT INTO t VALUES (1, 'two
lines;');
DO $$
BEGIN
  INSERT INTO t VALUES (2, 'x');
END
$$;
