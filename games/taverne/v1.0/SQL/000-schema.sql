-- Taverne 1.0.0: the whole database, for a new installation.

CREATE TABLE settings (
    name  VARCHAR(40)  NOT NULL PRIMARY KEY,
    value VARCHAR(200) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE players (
    id         INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name       VARCHAR(24)  NOT NULL,
    password   VARCHAR(255) NOT NULL,
    gold       INT UNSIGNED NOT NULL DEFAULT 0,
    bank       INT UNSIGNED NOT NULL DEFAULT 0,
    energy     TINYINT UNSIGNED NOT NULL DEFAULT 100,
    xp         INT UNSIGNED NOT NULL DEFAULT 0,
    level      INT UNSIGNED AS (1 + xp DIV 100) PERSISTENT,
    avatar     VARCHAR(60)  NOT NULL DEFAULT '',
    created    DATETIME     NOT NULL DEFAULT CURRENT_TIMESTAMP,
    last_login DATETIME     NOT NULL DEFAULT '0000-00-00 00:00:00',
    last_fight DATETIME     NOT NULL DEFAULT '0000-00-00 00:00:00',
    UNIQUE KEY name (name),
    KEY wealth (gold)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE items (
    id    SMALLINT UNSIGNED NOT NULL PRIMARY KEY,
    name  VARCHAR(60) NOT NULL,
    price INT UNSIGNED NOT NULL,
    kind  ENUM('drink','food','weapon','armour','trinket') NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE inventory (
    player_id INT UNSIGNED NOT NULL,
    item_id   SMALLINT UNSIGNED NOT NULL,
    quantity  INT UNSIGNED NOT NULL,
    PRIMARY KEY (player_id, item_id),
    CONSTRAINT inventory_player FOREIGN KEY (player_id) REFERENCES players (id) ON DELETE CASCADE,
    CONSTRAINT inventory_item FOREIGN KEY (item_id) REFERENCES items (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE market (
    id        INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    seller_id INT UNSIGNED NOT NULL,
    buyer_id  INT UNSIGNED DEFAULT NULL,
    item_id   SMALLINT UNSIGNED NOT NULL,
    quantity  INT UNSIGNED NOT NULL,
    price     INT UNSIGNED NOT NULL,
    sold_at   DATETIME DEFAULT NULL,
    KEY open_offers (sold_at, id),
    CONSTRAINT market_seller FOREIGN KEY (seller_id) REFERENCES players (id) ON DELETE CASCADE,
    CONSTRAINT market_item FOREIGN KEY (item_id) REFERENCES items (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE messages (
    id      INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    from_id INT UNSIGNED NOT NULL,
    to_id   INT UNSIGNED NOT NULL,
    body    TEXT NOT NULL,
    at      DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
    KEY mailbox (to_id, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE chat (
    id        INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    player_id INT UNSIGNED NOT NULL,
    body      VARCHAR(400) NOT NULL,
    at        DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

-- One line for each request that changed something. Its trigger is the only place where gold moves.
CREATE TABLE ledger (
    id         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    request_id VARCHAR(72) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    player_id  INT UNSIGNED NOT NULL,
    kind       VARCHAR(16) NOT NULL,
    gold_delta INT NOT NULL,
    at         TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    UNIQUE KEY request (request_id),
    KEY of_player (player_id, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE VIEW ranking AS
    SELECT id, name, level, gold + bank AS wealth FROM players ORDER BY level DESC, gold + bank DESC, id;

CREATE VIEW market_open AS
    SELECT id, seller_id, item_id, quantity, price FROM market WHERE sold_at IS NULL;

-- Players whose purse is not what their ledger says: always empty.
CREATE VIEW wrong_purses AS
    SELECT p.id, p.name, p.gold, COALESCE(SUM(l.gold_delta), 0) AS expected
    FROM players p LEFT JOIN ledger l ON l.player_id = p.id
    GROUP BY p.id, p.name, p.gold HAVING p.gold <> COALESCE(SUM(l.gold_delta), 0);

DELIMITER //
CREATE TRIGGER ledger_moves_gold AFTER INSERT ON ledger FOR EACH ROW
BEGIN
    IF NEW.gold_delta <> 0 THEN
        UPDATE players SET gold = gold + NEW.gold_delta WHERE id = NEW.player_id;
    END IF;
END//

CREATE PROCEDURE pay_interest(IN every_ticks INT, IN slice INT)
BEGIN
    -- A slice of the players each tick; one coin in two hundred.
    UPDATE players SET bank = bank + bank DIV 200 WHERE bank >= 200 AND id MOD every_ticks = slice;
END//

CREATE FUNCTION title_of(xp INT UNSIGNED) RETURNS VARCHAR(20) CHARSET utf8mb4 DETERMINISTIC
    RETURN CASE WHEN xp < 100 THEN 'novice' WHEN xp < 1000 THEN 'aventurier' ELSE 'légende' END//

CREATE EVENT forget_old_chat ON SCHEDULE EVERY 1 DAY DISABLE DO
BEGIN
    DELETE FROM chat WHERE at < UTC_TIMESTAMP() - INTERVAL 7 DAY;
END//
DELIMITER ;

INSERT INTO items (id, name, price, kind) VALUES
    (1, 'Chope d''hydromel', 4, 'drink'), (2, 'Soupe à l’oignon', 6, 'food'), (3, 'Pain de seigle', 2, 'food'),
    (4, 'Dague rouillée; encore bonne', 18, 'weapon'), (5, 'Épée longue', 60, 'weapon'), (6, 'Bouclier « tenu à deux »', 45, 'armour'),
    (7, 'Cotte de mailles', 120, 'armour'), (8, 'Anneau -- maudit ?', 30, 'trinket'), (9, 'Luth du barde 🎵', 25, 'trinket'), (10, 'Tonneau #10', 15, 'drink');

INSERT INTO settings (name, value) VALUES ('version', '1.0.0'), ('ticks', '0'), ('last_tick', '');
