-- Taverne 1.2.0: rare items, and a present for everybody.
-- This script fails on purpose, in its middle and after it has said that it is done: the fourth statement
-- has a misspelt column. What went before cannot be rolled back by the database itself (ALTER commits).

UPDATE settings SET value = '1.2.0' WHERE name = 'version';

ALTER TABLE items ADD COLUMN rarity TINYINT UNSIGNED NOT NULL DEFAULT 1;

UPDATE players SET gold = gold + 25;

UPDATE items SET rarety = 3 WHERE price > 50;

CREATE TABLE item_stories (
    item_id SMALLINT UNSIGNED NOT NULL PRIMARY KEY,
    story   TEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
