<?php
declare(strict_types=1);

/** What the rules of the game do not allow. Its message is a key of lang/. */
class Refused extends Exception
{
}

function choose_language(): string
{
    global $config;
    $wanted = $_COOKIE['lang'] ?? substr($_SERVER['HTTP_ACCEPT_LANGUAGE'] ?? '', 0, 2);
    return in_array($wanted, ['fr', 'en'], true) ? $wanted : $config['lang'];
}

/** The text of $key in the player's language. */
function t(string $key, mixed ...$values): string
{
    global $words;
    return vsprintf($words[$key] ?? $key, $values);
}

/** $text, safe inside HTML. */
function h(mixed $text): string
{
    return htmlspecialchars((string) $text, ENT_QUOTES | ENT_SUBSTITUTE, 'UTF-8');
}

function player(int $id): ?array
{
    return row('SELECT * FROM players WHERE id = ?', [$id]);
}

function items(): array
{
    return cached('items', 60, fn () => array_column(rows('SELECT * FROM items ORDER BY id'), null, 'id'));
}

function ranking(): array
{
    return cached('ranking', 2, fn () => rows('SELECT * FROM ranking LIMIT 50'));
}

/** The id of this request: from the header of a program, else from the form. */
function request_id(): string
{
    $id = (string) ($_SERVER['HTTP_X_REQUEST_ID'] ?? $_POST['request_id'] ?? '');
    return preg_match('/^[A-Za-z0-9._:-]{8,64}$/', $id) ? $id : '';
}

function new_request_id(): string
{
    return 'web-' . bin2hex(random_bytes(12));
}

/** A program (it sends X-Request-Id) wants one line of text, a browser wants a page. */
function wants_text(): bool
{
    return isset($_SERVER['HTTP_X_REQUEST_ID']);
}

function csrf(): string
{
    return $_SESSION['csrf'] ??= bin2hex(random_bytes(16));
}

/** Browsers must show that the form is ours; the header of a program cannot be sent from another site. */
function check_form(): void
{
    if (!wants_text() && !hash_equals(csrf(), (string) ($_POST['csrf'] ?? ''))) {
        throw new Refused('form_expired');
    }
    if (request_id() === '') {
        throw new Refused('no_request_id');
    }
}

function form_fields(): string
{
    return '<input type="hidden" name="csrf" value="' . h(csrf()) . '">'
        . '<input type="hidden" name="request_id" value="' . h(new_request_id()) . '">';
}

function redirect(string $to): never
{
    header("Location: $to", true, 303);
    exit;
}

/** Answers a request that changed something: only ever called after COMMIT. */
function answer_ok(string $request_id, string $message, string $to): never
{
    if (wants_text()) {
        header('Content-Type: text/plain; charset=utf-8');
        exit("ok $request_id\n");
    }
    $_SESSION['flash'] = ['good', $message];
    redirect($to);
}

function answer_refused(string $key, string $to): never
{
    if (wants_text()) {
        header('Content-Type: text/plain; charset=utf-8');
        exit('refused ' . request_id() . " $key\n");
    }
    $_SESSION['flash'] = ['bad', t($key)];
    redirect($to);
}

function must_be_in(): array
{
    global $me;
    if ($me === null) {
        if (wants_text()) {
            http_response_code(401);
            header('Content-Type: text/plain; charset=utf-8');
            exit("login\n");
        }
        redirect('/login.php');
    }
    return $me;
}

/** The old counters: losing one on a crash is fine, so they live in MyISAM and MEMORY tables. */
function count_visit(): void
{
    query('INSERT INTO page_hits (page, hits) VALUES (?, 1) ON DUPLICATE KEY UPDATE hits = hits + 1',
        [substr($_SERVER['SCRIPT_NAME'] ?? '', 0, 60)]);
    if (isset($_SESSION['player'])) {
        query('REPLACE INTO online (player_id, seen) VALUES (?, UTC_TIMESTAMP())', [$_SESSION['player']]);
    }
}
