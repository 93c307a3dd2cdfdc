CREATE TABLE c (a text);
INSERT INTO c VALUES ('two
lines'), ('é🐉');
CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$
BEGIN RETURN 1; END $$;
-- end