-- Taverne 1.1.0: reputation, a fee for each offer on the market, guilds.

CREATE TABLE guilds (
    id         INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name       VARCHAR(40) NOT NULL,
    founder_id INT UNSIGNED NOT NULL,
    founded    DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
    UNIQUE KEY name (name),
    CONSTRAINT guild_founder FOREIGN KEY (founder_id) REFERENCES players (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

ALTER TABLE players
    ADD COLUMN reputation INT NOT NULL DEFAULT 0 AFTER xp,
    ADD COLUMN guild_id INT UNSIGNED DEFAULT NULL,
    ADD KEY guild (guild_id);

ALTER TABLE market
    ADD COLUMN fee INT UNSIGNED NOT NULL DEFAULT 0 AFTER price,
    ADD COLUMN listed_at DATETIME NOT NULL DEFAULT '2021-01-01 00:00:00';
ALTER TABLE market ALTER COLUMN listed_at SET DEFAULT CURRENT_TIMESTAMP;

-- Old players are known already; old offers were free of charge and stay so.
UPDATE players SET reputation = xp DIV 50;
UPDATE market SET listed_at = COALESCE(sold_at - INTERVAL 1 DAY, '2023-06-01 12:00:00');
UPDATE messages SET body = REPLACE(body, ', table ', '; à la table ');

CREATE OR REPLACE VIEW ranking AS
    SELECT id, name, level, gold + bank AS wealth, reputation
    FROM players ORDER BY level DESC, gold + bank DESC, id;

CREATE OR REPLACE VIEW market_open AS
    SELECT id, seller_id, item_id, quantity, price, fee FROM market WHERE sold_at IS NULL;

delimiter $$
CREATE TRIGGER market_sold AFTER UPDATE ON market FOR EACH ROW
BEGIN
    -- Who sells is known; a sale counts once.
    IF OLD.sold_at IS NULL AND NEW.sold_at IS NOT NULL THEN
        UPDATE players SET reputation = reputation + 1 WHERE id = NEW.seller_id;
    END IF;
END$$
delimiter ;

UPDATE settings SET value = '1.1.0' WHERE name = 'version';
