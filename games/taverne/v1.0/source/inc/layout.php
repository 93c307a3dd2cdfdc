<?php
declare(strict_types=1);

const MENU = ['tavern', 'market', 'inventory', 'fight', 'messages', 'chat', 'ranking', 'rules'];

function page_head(string $title): void
{
    global $me, $lang;
    header('Content-Type: text/html; charset=utf-8');
    header('Cache-Control: no-store');
    ?>
<!DOCTYPE html>
<html lang="<?= h($lang) ?>">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title><?= h($title) ?> · Taverne</title>
<link rel="stylesheet" href="/assets/style.css?v=<?= h(VERSION) ?>">
<link rel="icon" href="/assets/icons/mug.svg" type="image/svg+xml">
</head>
<body>
<header class="top">
  <a class="sign" href="/"><img src="/assets/icons/mug.svg" alt="" width="36" height="36"> Taverne</a>
<?php if ($me): ?>
  <p class="purse"><strong><?= h($me['name']) ?></strong>
    <span title="<?= t('gold') ?>">● <?= h($me['gold']) ?></span>
    <span title="<?= t('energy') ?>">⚡ <?= h($me['energy']) ?></span>
    <span title="<?= t('level') ?>">★ <?= h($me['level']) ?></span></p>
  <form method="post" action="/logout.php"><?= form_fields() ?><button class="quiet"><?= t('logout') ?></button></form>
<?php endif ?>
</header>
<?php if ($me): ?>
<nav><?php foreach (MENU as $entry): ?><a href="/?p=<?= $entry ?>"<?= ($_GET['p'] ?? 'tavern') === $entry ? ' aria-current="page"' : '' ?>><?= t("menu_$entry") ?></a><?php endforeach ?></nav>
<?php endif ?>
<main>
<?php
    if (isset($_SESSION['flash'])) {
        [$mood, $text] = $_SESSION['flash'];
        unset($_SESSION['flash']);
        echo '<p class="flash ', h($mood), '" role="status">', h($text), "</p>\n";
    }
}

function page_foot(): void
{
    ?>
</main>
<footer>Taverne <?= h(VERSION) ?> · <a href="/version.php"><?= t('state') ?></a></footer>
<script src="/assets/game.js?v=<?= h(VERSION) ?>" defer></script>
</body>
</html>
<?php
}

/** One button that is a whole form. */
function action_button(string $action, string $label, array $hidden = [], string $back = ''): string
{
    $html = '<form method="post" action="/action.php" class="inline">' . form_fields()
        . '<input type="hidden" name="act" value="' . h($action) . '"><input type="hidden" name="back" value="' . h($back) . '">';
    foreach ($hidden as $name => $value) {
        $html .= '<input type="hidden" name="' . h($name) . '" value="' . h($value) . '">';
    }
    return $html . '<button>' . h($label) . '</button></form>';
}

function avatar(array $player): string
{
    $file = $player['avatar'] !== '' ? '/uploads/avatars/' . $player['avatar'] : '/assets/Portraits%20%28anciens%29/aubergiste%20%5B2%5D.svg';
    return '<img class="avatar" src="' . h($file) . '" alt="" width="64" height="64">';
}
