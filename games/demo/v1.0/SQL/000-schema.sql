CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO settings VALUES ('schema', '1');

CREATE TABLE players (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  gold INTEGER NOT NULL DEFAULT 20 CHECK (gold >= 0)
);
CREATE INDEX players_by_gold ON players (gold);

CREATE TABLE sessions (
  token TEXT PRIMARY KEY,
  player INTEGER NOT NULL REFERENCES players (id)
) WITHOUT ROWID;

-- Every action of a player, once: the row is there before the player is told "ok".
CREATE TABLE ledger (
  id INTEGER PRIMARY KEY,
  request_id TEXT NOT NULL UNIQUE,
  player INTEGER NOT NULL REFERENCES players (id),
  kind TEXT NOT NULL,
  gold INTEGER NOT NULL,
  at INTEGER NOT NULL
);
