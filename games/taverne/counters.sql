-- Only for installations with 'counters' => true in config.php: the visit counters of old.
-- Losing them is fine, so they were never moved to InnoDB.
CREATE TABLE page_hits (
    page VARCHAR(60) NOT NULL PRIMARY KEY,
    hits INT UNSIGNED NOT NULL
) ENGINE=MyISAM DEFAULT CHARSET=utf8mb4;

CREATE TABLE online (
    player_id INT UNSIGNED NOT NULL PRIMARY KEY,
    seen      DATETIME NOT NULL
) ENGINE=MEMORY DEFAULT CHARSET=utf8mb4;
