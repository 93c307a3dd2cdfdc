-- Songs make a name: a column, a beginning for everybody, and a trigger that keeps the count.
ALTER TABLE players ADD COLUMN renown INTEGER NOT NULL DEFAULT 0;
UPDATE players SET renown = gold / 25;

CREATE TRIGGER a_song_is_remembered AFTER INSERT ON ledger WHEN NEW.kind = 'sing'
BEGIN
  UPDATE players SET renown = renown + 1 WHERE id = NEW.player;
  UPDATE settings SET value = value + 1 WHERE name = 'songs';
END;

INSERT INTO settings VALUES ('songs', '0');
UPDATE settings SET value = '2' WHERE name = 'schema';
