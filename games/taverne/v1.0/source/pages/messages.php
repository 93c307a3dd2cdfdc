<?php $letters = rows('SELECT m.*, p.name AS sender FROM messages m JOIN players p ON p.id = m.from_id WHERE m.to_id = ? ORDER BY m.id DESC LIMIT 20', [$me['id']]) ?>
<section class="card"><h1><?= t('menu_messages') ?></h1>
<form method="post" action="/action.php"><?= form_fields() ?><input type="hidden" name="act" value="message"><input type="hidden" name="back" value="messages">
<label><?= t('to_player') ?> <input name="to" type="number" min="1" required></label>
<label><?= t('text') ?> <textarea name="text" rows="3" maxlength="2000" required></textarea></label><button><?= t('send') ?></button></form></section>
<?php foreach ($letters as $letter): ?>
<article class="card letter"><header><?= h($letter['sender']) ?> · <time><?= h($letter['at']) ?></time></header><p><?= nl2br(h($letter['body'])) ?></p></article>
<?php endforeach ?>
