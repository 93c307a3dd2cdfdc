<?php
require __DIR__ . '/inc/bootstrap.php';

$pages = ['tavern', 'market', 'inventory', 'fight', 'messages', 'chat', 'ranking', 'rules', 'news', 'profile'];
$page = $_GET['p'] ?? 'tavern';
if (!in_array($page, $pages, true)) {
    http_response_code(404);
    page_head(t('not_found'));
    echo '<h1>', t('not_found'), '</h1>';
    page_foot();
    exit;
}
if (!in_array($page, ['ranking', 'rules', 'news'], true)) {
    must_be_in();
}
page_head(t("menu_$page"));
include __DIR__ . "/pages/$page.php";
page_foot();
