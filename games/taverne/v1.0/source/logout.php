<?php
require __DIR__ . '/inc/bootstrap.php';

if ($_SERVER['REQUEST_METHOD'] === 'POST' && (wants_text() || hash_equals(csrf(), (string) ($_POST['csrf'] ?? '')))) {
    $_SESSION = [];
    session_destroy();
    setcookie(session_name(), '', 1, '/');
}
redirect('/login.php');
