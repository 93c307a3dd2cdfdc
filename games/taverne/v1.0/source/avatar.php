<?php
// A picture of the player, at most 256 KiB, kept under a name of our own in uploads/avatars/.
require __DIR__ . '/inc/bootstrap.php';

const AVATAR_BYTES_MAX = 262144;
const AVATAR_TYPES = ['image/png' => 'png', 'image/jpeg' => 'jpg', 'image/webp' => 'webp'];

$player = must_be_in();
try {
    check_form();
    $sent = $_FILES['avatar'] ?? null;
    if ($sent === null || $sent['error'] !== UPLOAD_ERR_OK || $sent['size'] > AVATAR_BYTES_MAX) {
        throw new Refused('bad_picture');
    }
    $type = (new finfo(FILEINFO_MIME_TYPE))->file($sent['tmp_name']);
    $ending = AVATAR_TYPES[$type] ?? throw new Refused('bad_picture');
    $name = $player['id'] . '-' . substr(hash_file('sha256', $sent['tmp_name']), 0, 16) . ".$ending";
    if (!is_dir(ROOT . '/uploads/avatars')) {
        mkdir(ROOT . '/uploads/avatars', 0775, true);
    }
    if (!move_uploaded_file($sent['tmp_name'], ROOT . "/uploads/avatars/$name")) {
        throw new Refused('bad_picture');
    }
    once(request_id(), $player['id'], function () use ($player, $name) {
        query('UPDATE players SET avatar = ? WHERE id = ?', [$name, $player['id']]);
        ledger(request_id(), $player['id'], 'avatar', 0);
    });
} catch (Refused $e) {
    answer_refused($e->getMessage(), '/?p=profile');
}
answer_ok(request_id(), t('done'), '/?p=profile');
