<?php
// Everything that changes the world. Each action is one transaction and leaves one line in the ledger,
// under the id of its request: a request that is sent twice acts once.
declare(strict_types=1);

const START_GOLD = 100;

function ledger(string $request_id, int $player, string $kind, int $gold): void
{
    // The trigger on this table moves the gold.
    query('INSERT INTO ledger (request_id, player_id, kind, gold_delta) VALUES (?, ?, ?, ?)',
        [$request_id, $player, $kind, $gold]);
}

/** Locks players in the order of their ids, so that two fights never wait for each other. */
function lock_players(int ...$ids): array
{
    sort($ids);
    $locked = [];
    foreach (array_unique($ids) as $id) {
        $locked[$id] = row('SELECT * FROM players WHERE id = ? FOR UPDATE', [$id]) ?? throw new Refused('nobody');
    }
    return $locked;
}

/** Runs one action of a player who is logged in. */
function act(int $player, string $action, array $in, string $request_id): void
{
    $actions = [
        'work' => 'act_work', 'drink' => 'act_drink', 'buy' => 'act_buy', 'sell' => 'act_sell',
        'offer' => 'act_offer', 'take' => 'act_take', 'fight' => 'act_fight', 'bank' => 'act_bank',
        'message' => 'act_message', 'chat' => 'act_chat',
    ];
    $do = $actions[$action] ?? throw new Refused('no_such_action');
    once($request_id, $player, fn () => $do($player, $in, $request_id));
}

/** $do in a transaction, unless this request was already carried out. */
function once(string $request_id, int $player, callable $do): void
{
    $done = fn () => (int) value('SELECT player_id FROM ledger WHERE request_id = ?', [$request_id]) === $player;
    try {
        transaction(function () use ($done, $do) {
            if (!$done()) {
                $do();
            }
        });
    } catch (PDOException $e) {
        if (mysql_code($e) !== 1062 || !$done()) {
            throw $e;
        }
    }
}

function act_work(int $player, array $in, string $id): void
{
    $me = lock_players($player)[$player];
    if ($me['energy'] < 5) {
        throw new Refused('too_tired');
    }
    query('UPDATE players SET energy = energy - 5, xp = xp + 2 WHERE id = ?', [$player]);
    ledger($id, $player, 'work', random_int(8, 14));
}

function act_drink(int $player, array $in, string $id): void
{
    $me = lock_players($player)[$player];
    if ($me['gold'] < 3) {
        throw new Refused('too_poor');
    }
    query('UPDATE players SET energy = LEAST(100, energy + 12) WHERE id = ?', [$player]);
    ledger($id, $player, 'drink', -3);
}

function wanted_quantity(array $in): int
{
    return max(1, min(99, (int) ($in['qty'] ?? 1)));
}

function give(int $player, int $item, int $quantity): void
{
    query('INSERT INTO inventory (player_id, item_id, quantity) VALUES (?, ?, ?)
           ON DUPLICATE KEY UPDATE quantity = quantity + VALUES(quantity)', [$player, $item, $quantity]);
}

function take_away(int $player, int $item, int $quantity): void
{
    $changed = query('UPDATE inventory SET quantity = quantity - ? WHERE player_id = ? AND item_id = ? AND quantity >= ?',
        [$quantity, $player, $item, $quantity])->rowCount();
    if ($changed === 0) {
        throw new Refused('not_yours');
    }
}

function act_buy(int $player, array $in, string $id): void
{
    $me = lock_players($player)[$player];
    $item = row('SELECT * FROM items WHERE id = ?', [(int) ($in['item'] ?? 0)]) ?? throw new Refused('no_such_item');
    $quantity = wanted_quantity($in);
    $price = $item['price'] * $quantity;
    if ($me['gold'] < $price) {
        throw new Refused('too_poor');
    }
    give($player, $item['id'], $quantity);
    ledger($id, $player, 'buy', -$price);
}

function act_sell(int $player, array $in, string $id): void
{
    lock_players($player);
    $item = row('SELECT * FROM items WHERE id = ?', [(int) ($in['item'] ?? 0)]) ?? throw new Refused('no_such_item');
    $quantity = wanted_quantity($in);
    take_away($player, $item['id'], $quantity);
    ledger($id, $player, 'sell', intdiv($item['price'] * 6, 10) * $quantity);
}

function act_offer(int $player, array $in, string $id): void
{
    lock_players($player);
    $item = (int) ($in['item'] ?? 0);
    $quantity = wanted_quantity($in);
    take_away($player, $item, $quantity);
    query('INSERT INTO market (seller_id, item_id, quantity, price) VALUES (?, ?, ?, ?)',
        [$player, $item, $quantity, max(1, min(100000, (int) ($in['price'] ?? 1)))]);
    ledger($id, $player, 'offer', 0);
}

function act_take(int $player, array $in, string $id): void
{
    $offer = row('SELECT * FROM market_open WHERE id = ?', [(int) ($in['offer'] ?? 0)]) ?? throw new Refused('gone');
    $me = lock_players($player, $offer['seller_id'])[$player];
    $offer = row('SELECT * FROM market WHERE id = ? AND sold_at IS NULL FOR UPDATE', [$offer['id']]) ?? throw new Refused('gone');
    if ($me['gold'] < $offer['price']) {
        throw new Refused('too_poor');
    }
    query('UPDATE market SET sold_at = UTC_TIMESTAMP(), buyer_id = ? WHERE id = ?', [$player, $offer['id']]);
    give($player, $offer['item_id'], $offer['quantity']);
    ledger($id, $player, 'take', -$offer['price']);
    ledger("$id:seller", $offer['seller_id'], 'sold', $offer['price']);
}

function act_fight(int $player, array $in, string $id): void
{
    $other = (int) ($in['to'] ?? 0);
    if ($other === $player) {
        throw new Refused('nobody');
    }
    $both = lock_players($player, $other);
    if ($both[$player]['energy'] < 8) {
        throw new Refused('too_tired');
    }
    $mine = $both[$player]['level'] + random_int(1, 6);
    $theirs = $both[$other]['level'] + random_int(1, 6);
    $loser = $mine >= $theirs ? $other : $player;
    $purse = min(20, intdiv($both[$loser]['gold'], 20));
    query('UPDATE players SET energy = energy - 8, xp = xp + 5, last_fight = UTC_TIMESTAMP() WHERE id = ?', [$player]);
    ledger($id, $player, 'fight', $loser === $player ? -$purse : $purse);
    ledger("$id:other", $other, 'fight', $loser === $player ? $purse : -$purse);
}

function act_bank(int $player, array $in, string $id): void
{
    $me = lock_players($player)[$player];
    $amount = max(-1000000, min(1000000, (int) ($in['amount'] ?? 0)));
    if ($amount > $me['gold'] || -$amount > $me['bank']) {
        throw new Refused('too_poor');
    }
    query('UPDATE players SET bank = bank + ? WHERE id = ?', [$amount, $player]);
    ledger($id, $player, 'bank', -$amount);
}

function said(array $in, int $bytes_max): string
{
    $text = trim((string) ($in['text'] ?? ''));
    if ($text === '' || strlen($text) > $bytes_max || !preg_match('//u', $text)) {
        throw new Refused('say_something');
    }
    return $text;
}

function act_message(int $player, array $in, string $id): void
{
    $to = value('SELECT id FROM players WHERE id = ?', [(int) ($in['to'] ?? 0)]) ?: throw new Refused('nobody');
    query('INSERT INTO messages (from_id, to_id, body) VALUES (?, ?, ?)', [$player, $to, said($in, 2000)]);
    ledger($id, $player, 'message', 0);
}

function act_chat(int $player, array $in, string $id): void
{
    query('INSERT INTO chat (player_id, body) VALUES (?, ?)', [$player, said($in, 400)]);
    ledger($id, $player, 'chat', 0);
}

/** A new player. Returns the id. */
function register(string $name, string $password, string $request_id): int
{
    global $config;
    if (!preg_match('/^[\p{L}\p{N} _-]{3,24}$/u', $name) || strlen($password) < 6) {
        throw new Refused('bad_name');
    }
    $hash = password_hash($password, PASSWORD_BCRYPT, ['cost' => $config['bcrypt_cost']]);
    try {
        return transaction(function () use ($name, $hash, $request_id) {
            query('INSERT INTO players (name, password) VALUES (?, ?)', [$name, $hash]);
            $id = (int) db()->lastInsertId();
            ledger($request_id, $id, 'register', START_GOLD);
            return $id;
        });
    } catch (PDOException $e) {
        throw mysql_code($e) === 1062 ? new Refused('name_taken') : $e;
    }
}

/** The id of the player, whose password it is. */
function login(string $name, string $password, string $request_id): int
{
    $found = row('SELECT id, password FROM players WHERE name = ?', [$name]);
    if ($found === null || !password_verify($password, $found['password'])) {
        throw new Refused('wrong_password');
    }
    once($request_id, $found['id'], function () use ($found, $request_id) {
        query('UPDATE players SET last_login = UTC_TIMESTAMP() WHERE id = ?', [$found['id']]);
        ledger($request_id, $found['id'], 'login', 0);
    });
    return $found['id'];
}
