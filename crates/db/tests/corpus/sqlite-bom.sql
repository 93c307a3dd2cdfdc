CREATE TABLE t (a INT, b TEXT);
INSERT INTO t VALUES (1, 'two
lines');
/* a;
 comment */ INSERT INTO t VALUES (2, 'x');