-- quotes; of every kind
CREATE TABLE q (id int, t text, u text);
INSERT INTO q VALUES (1, 'a;b', 'it''s'), (2, E'a\';b', e'\\'), (3, E'x''y\';', 'back\'), (4, $$a;'b$$, $tag$ $$ ; $tag$);
INSERT INTO q VALUES (5, U&'d\0061t;a', $é$;$é$), (6, 'two' 
  'parts', N'n;');
CREATE TABLE "odd;""name" ("a;b" int);
/* nested /* ; */ ; */ INSERT INTO "odd;""name" VALUES (1);
INSERT INTO q SELECT 7, 'a' || 'b' /* c ; */, '--;' -- comment ; '
;
PREPARE p AS SELECT $1::int; EXECUTE p(1); DEALLOCATE p;
INSERT INTO q (id) VALUES (8);; ;
CREATE TABLE a$b$c (x int); INSERT INTO a$b$c VALUES (1);
CREATE TABLE arr (a int[], j jsonb); INSERT INTO arr VALUES ('{1,2}', '{"a": [1]}'), (ARRAY[3,4], '{}');
INSERT INTO arr SELECT a[1:1], j #> '{a}' FROM arr WHERE j ? 'a' OR j @> '{}'
