<?php
require __DIR__ . '/inc/bootstrap.php';

$problem = '';
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    try {
        check_form();
        $id = login((string) ($_POST['name'] ?? ''), (string) ($_POST['password'] ?? ''), request_id());
        session_regenerate_id(true);
        $_SESSION['player'] = $id;
        answer_ok(request_id(), t('welcome_back'), '/');
    } catch (Refused $e) {
        if (wants_text()) {
            answer_refused($e->getMessage(), '/login.php');
        }
        $problem = t($e->getMessage());
    }
}
page_head(t('login'));
?>
<section class="card narrow">
<h1><?= t('login') ?></h1>
<?php if ($problem): ?><p class="flash bad" role="alert"><?= h($problem) ?></p><?php endif ?>
<form method="post" action="/login.php"><?= form_fields() ?>
  <label><?= t('name') ?> <input name="name" required autocomplete="username" value="<?= h($_POST['name'] ?? '') ?>"></label>
  <label><?= t('password') ?> <input name="password" type="password" required autocomplete="current-password"></label>
  <button><?= t('enter') ?></button>
</form>
<p><a href="/register.php"><?= t('no_account') ?></a> · <a href="/?p=ranking"><?= t('menu_ranking') ?></a></p>
</section>
<?php page_foot();
