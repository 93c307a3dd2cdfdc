BEGIN; CREATE TABLE before (a int); INSERT INTO before VALUES (1); COMMIT;
INSERT INTO nowhere VALUES (1);
CREATE TABLE after (a int);
