<?php
// Included first by every page: configuration, session, language, the player.
declare(strict_types=1);

error_reporting(E_ALL);
date_default_timezone_set('UTC');
define('ROOT', dirname(__DIR__));

if (!is_file(ROOT . '/config.php')) {
    http_response_code(500);
    exit("config.php is missing: copy config.sample.php and fill it in.\n");
}
$config = require ROOT . '/config.php';

if (!is_dir(ROOT . '/cache')) {
    @mkdir(ROOT . '/cache', 0775);
}

require ROOT . '/inc/version.php';
require ROOT . '/inc/db.php';
require ROOT . '/inc/cache.php';
require ROOT . '/inc/functions.php';
require ROOT . '/inc/actions.php';
require ROOT . '/inc/layout.php';

if (PHP_SAPI !== 'cli') {
    ob_start();
    if (!empty($config['session_path'])) {
        session_save_path($config['session_path']);
    }
    session_set_cookie_params(['httponly' => true, 'samesite' => 'Lax']);
    session_start();
}

$lang = choose_language();
$words = require ROOT . "/lang/$lang.php";
$me = isset($_SESSION['player']) ? player((int) $_SESSION['player']) : null;

if (!empty($config['counters']) && PHP_SAPI !== 'cli') {
    count_visit();
}
