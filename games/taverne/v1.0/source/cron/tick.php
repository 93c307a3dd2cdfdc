<?php
// One tick of the world; a loop runs it every second. Energy comes back, the bank pays, the chat is kept short.
if (PHP_SAPI !== 'cli') {
    http_response_code(404);
    exit;
}
require dirname(__DIR__) . '/inc/bootstrap.php';

$lock = fopen(ROOT . '/cache/tick.lock', 'c');
if (!flock($lock, LOCK_EX | LOCK_NB)) {
    fwrite(STDERR, "another tick is still running\n");
    exit(0);
}

const SLICE = 500;
const INTEREST_EVERY_TICKS = 30;

// A few players at a time: no lock is held long.
$last = (int) value('SELECT COALESCE(MAX(id), 0) FROM players');
for ($from = 1; $from <= $last; $from += SLICE) {
    transaction(fn () => query('UPDATE players SET energy = LEAST(100, energy + 5) WHERE energy < 100 AND id BETWEEN ? AND ?',
        [$from, $from + SLICE - 1]));
}
transaction(function () {
    $ticks = (int) value("SELECT value FROM settings WHERE name = 'ticks' FOR UPDATE") + 1;
    query('CALL pay_interest(?, ?)', [INTEREST_EVERY_TICKS, $ticks % INTEREST_EVERY_TICKS]);
    query("UPDATE settings SET value = ? WHERE name = 'ticks'", [$ticks]);
    query("UPDATE settings SET value = UTC_TIMESTAMP() WHERE name = 'last_tick'");
});
