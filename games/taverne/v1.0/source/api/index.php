<?php
// GET  /api/?do=status|me|ranking|chat        POST /api/?do=act (fields as in action.php)
require dirname(__DIR__) . '/inc/bootstrap.php';

function answer(array $what, int $status = 200): never
{
    http_response_code($status);
    header('Content-Type: application/json; charset=utf-8');
    header('Cache-Control: no-store');
    exit(json_encode($what, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES) . "\n");
}

$do = $_GET['do'] ?? 'status';
if ($do === 'status') {
    answer(['game' => 'taverne', 'version' => VERSION, 'players' => (int) value('SELECT COUNT(*) FROM players')]);
}
if ($do === 'ranking') {
    answer(['ranking' => ranking()]);
}
if ($me === null) {
    answer(['error' => 'login'], 401);
}
if ($do === 'me') {
    answer(['name' => $me['name'], 'gold' => $me['gold'], 'bank' => $me['bank'], 'energy' => $me['energy'], 'level' => $me['level']]);
}
if ($do === 'chat') {
    answer(['chat' => rows('SELECT c.id, p.name, c.body, c.at FROM chat c JOIN players p ON p.id = c.player_id ORDER BY c.id DESC LIMIT 30')]);
}
if ($do === 'act' && $_SERVER['REQUEST_METHOD'] === 'POST') {
    try {
        check_form();
        act($me['id'], (string) ($_POST['act'] ?? ''), $_POST, request_id());
    } catch (Refused $e) {
        answer(['ok' => false, 'refused' => $e->getMessage(), 'request_id' => request_id()]);
    }
    answer(['ok' => true, 'request_id' => request_id()]);
}
answer(['error' => 'no such thing'], 404);
