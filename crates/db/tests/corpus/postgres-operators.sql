CREATE TABLE t (a int, b text, j jsonb);
INSERT INTO t VALUES (5 -1, 'a', '{"k;": [1, 2]}'), (5--1 is a comment here;
, 'b', NULL);
INSERT INTO t VALUES (@ -5, $$it's; $$ || $a$$b$; $a$, '{}'), ((|/ 25)::int, E'\\', '[]'), (2 # 3, '--', NULL);
INSERT INTO t (b) SELECT "u;v" FROM (SELECT 'w;' AS "u;v") x WHERE 'a;' ~ '^a' AND NOT 'b' LIKE '%;';
INSERT INTO t (b) VALUES ('a;'
  -- between; the parts
  'b;'), (/* /* a; */ b; */ 'c'), (e'\x3b;'), (b'101'::text), (n'n;');
COMMENT ON TABLE t IS $comment$a; $$ b; $comment$;
