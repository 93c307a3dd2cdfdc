<?php $chat = rows('SELECT p.name, c.body FROM chat c JOIN players p ON p.id = c.player_id ORDER BY c.id DESC LIMIT 5') ?>
<section class="card hero">
  <?= avatar($me) ?>
  <div>
    <h1><?= t('at_the_tavern', h($me['name'])) ?></h1>
    <p><?= t('tavern_text') ?></p>
    <p class="row"><?= action_button('work', t('do_work'), [], 'tavern') ?> <?= action_button('drink', t('do_drink'), [], 'tavern') ?> <a href="/?p=profile"><?= t('menu_profile') ?></a></p>
  </div>
</section>
<section class="card"><h2><?= t('overheard') ?></h2>
<ul class="talk"><?php foreach ($chat as $line): ?><li><b><?= h($line['name']) ?></b> <?= h($line['body']) ?></li><?php endforeach ?></ul></section>
<section class="card"><h2><?= t('bank') ?></h2>
<p><?= t('bank_text', (int) $me['bank']) ?></p>
<form method="post" action="/action.php" class="row"><?= form_fields() ?><input type="hidden" name="act" value="bank">
<label><?= t('amount') ?> <input name="amount" type="number" value="10"></label><button><?= t('do_bank') ?></button></form></section>
