-- The first line has set the version already when the third fails.
CREATE TABLE version (n INT);
INSERT INTO version VALUES (2);
ALTER TABLE players ADD COLUMN gold INT;
CREATE TABLE never (a INT);
