-- Taverne 1.3.0: quests. The script is right; the code that goes with it is not (see README.md).

CREATE TABLE quests (
    id    SMALLINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    title VARCHAR(120) NOT NULL,
    prize INT UNSIGNED NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

INSERT INTO quests (title, prize) VALUES
    ('Les rats de la cave', 15), ('Le tonneau; volé', 40), ('Une lettre pour l''ermite', 25);

ALTER TABLE players ADD COLUMN quests_done INT UNSIGNED NOT NULL DEFAULT 0;

UPDATE players SET quests_done = xp DIV 400;

UPDATE settings SET value = '1.3.0' WHERE name = 'version';
