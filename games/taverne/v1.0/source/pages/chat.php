<?php $lines = rows('SELECT p.name, c.body, c.at FROM chat c JOIN players p ON p.id = c.player_id ORDER BY c.id DESC LIMIT 40') ?>
<section class="card"><h1><?= t('menu_chat') ?></h1>
<form method="post" action="/action.php" class="row"><?= form_fields() ?><input type="hidden" name="act" value="chat"><input type="hidden" name="back" value="chat">
<label class="grow"><span class="hidden"><?= t('text') ?></span><input name="text" maxlength="400" required></label><button><?= t('send') ?></button></form>
<ul class="talk" id="chat"><?php foreach ($lines as $line): ?><li><b><?= h($line['name']) ?></b> <?= h($line['body']) ?> <time><?= h($line['at']) ?></time></li><?php endforeach ?></ul></section>
