CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT);
INSERT INTO t VALUES (1, 'two
lines'),
(2, 'a''
b');
-- end
INSERT INTO t VALUES (3, 'last')