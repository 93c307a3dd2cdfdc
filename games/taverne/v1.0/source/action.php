<?php
require __DIR__ . '/inc/bootstrap.php';

$player = must_be_in();
$back = in_array($_POST['back'] ?? '', MENU, true) ? '/?p=' . $_POST['back'] : '/';
if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
    redirect($back);
}
try {
    check_form();
    act($player['id'], (string) ($_POST['act'] ?? ''), $_POST, request_id());
} catch (Refused $e) {
    answer_refused($e->getMessage(), $back);
}
answer_ok(request_id(), t('done'), $back);
