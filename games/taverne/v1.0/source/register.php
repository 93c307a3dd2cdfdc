<?php
require __DIR__ . '/inc/bootstrap.php';

$problem = '';
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    try {
        check_form();
        $id = register(trim((string) ($_POST['name'] ?? '')), (string) ($_POST['password'] ?? ''), request_id());
        session_regenerate_id(true);
        $_SESSION['player'] = $id;
        answer_ok(request_id(), t('welcome'), '/');
    } catch (Refused $e) {
        if (wants_text()) {
            answer_refused($e->getMessage(), '/register.php');
        }
        $problem = t($e->getMessage());
    }
}
page_head(t('register'));
?>
<section class="card narrow">
<h1><?= t('register') ?></h1>
<?php if ($problem): ?><p class="flash bad" role="alert"><?= h($problem) ?></p><?php endif ?>
<form method="post" action="/register.php"><?= form_fields() ?>
  <label><?= t('name') ?> <input name="name" required minlength="3" maxlength="24" autocomplete="username" value="<?= h($_POST['name'] ?? '') ?>"></label>
  <label><?= t('password') ?> <input name="password" type="password" required minlength="6" autocomplete="new-password"></label>
  <button><?= t('start') ?></button>
</form>
<p><a href="/login.php"><?= t('have_account') ?></a></p>
</section>
<?php page_foot();
