-- A populated 1.0 database, the same every time. Needs MariaDB's sequence engine. Sizes by session variables:
--   mariadb --init-command='SET @players=20000, @messages_per_player=50' taverne < seed.sql
-- Every seeded player is called "Joueur <n>" and has the password "chopine".
SET @players = COALESCE(@players, 2000);
SET @ledger_per_player = COALESCE(@ledger_per_player, 5);
SET @messages_per_player = COALESCE(@messages_per_player, 3);

INSERT INTO players (id, name, password, bank, xp, energy, created)
    SELECT seq, CONCAT('Joueur ', seq), '$2y$04$asVKDs1iIbDMZi3y6jlhzOfUUA54drTv/d36gMDcI3LhStFwT4Lnm',
           (seq * 7919) MOD 5000, (seq * 104729) MOD 3000, 20 + seq MOD 81, '2021-03-01 12:00:00' + INTERVAL seq MINUTE
    FROM seq_1_to_2000000 WHERE seq <= @players;

INSERT INTO ledger (request_id, player_id, kind, gold_delta, at)
    SELECT CONCAT('seed-', seq), 1 + (seq - 1) MOD @players,
           IF(seq <= @players, 'register', ELT(1 + seq MOD 4, 'work', 'sell', 'chat', 'offer')),
           IF(seq <= @players, 100, (seq * 31) MOD 17), '2022-01-01 00:00:00' + INTERVAL seq SECOND
    FROM seq_1_to_50000000 WHERE seq <= @players * @ledger_per_player;

INSERT INTO inventory (player_id, item_id, quantity)
    SELECT seq, 1 + seq MOD 10, 1 + seq MOD 5 FROM seq_1_to_2000000 WHERE seq <= @players;

INSERT INTO market (seller_id, item_id, quantity, price, sold_at, buyer_id)
    SELECT 1 + (seq * 13) MOD @players, 1 + seq MOD 10, 1 + seq MOD 3, 2 + (seq * 37) MOD 90,
           IF(seq MOD 3 = 0, NULL, '2023-05-05 05:05:05'), IF(seq MOD 3 = 0, NULL, 1 + (seq * 17) MOD @players)
    FROM seq_1_to_2000000 WHERE seq <= @players;

INSERT INTO messages (from_id, to_id, body, at)
    SELECT 1 + (seq * 101) MOD @players, 1 + (seq * 211) MOD @players,
           CONCAT('Rendez-vous au comptoir, table ', seq, '. ', MD5(seq), ' ', MD5(seq * 3), ' ', MD5(seq * 7), ' — à ce soir ! 🍺'),
           '2022-06-01 00:00:00' + INTERVAL seq SECOND
    FROM seq_1_to_50000000 WHERE seq <= @players * @messages_per_player;

INSERT INTO chat (player_id, body) SELECT seq, CONCAT('Une tournée pour la table ', seq, ' !') FROM seq_1_to_50 WHERE seq <= @players;

-- A gap at the end of the ids, as real games have: an undo must not give these ids again.
DELETE FROM messages ORDER BY id DESC LIMIT 7;
