<section class="card"><h1><?= t('menu_profile') ?></h1>
<p><?= avatar($me) ?></p>
<form method="post" action="/avatar.php" enctype="multipart/form-data"><?= form_fields() ?>
<label><?= t('picture') ?> <input type="file" name="avatar" accept="image/png,image/jpeg,image/webp" required></label><button><?= t('send') ?></button></form></section>
