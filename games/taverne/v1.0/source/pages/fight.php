<?php $others = rows('SELECT id, name, level, avatar FROM players WHERE id <> ? AND ABS(CAST(level AS SIGNED) - ?) < 6 ORDER BY (id * 7919 + ?) % 1009 LIMIT 8', [$me['id'], $me['level'], $me['xp']]) ?>
<section class="card"><h1><?= t('menu_fight') ?></h1><p><?= t('fight_text') ?></p>
<ul class="foes"><?php foreach ($others as $other): ?>
<li><?= avatar($other) ?><b><?= h($other['name']) ?></b> ★ <?= h($other['level']) ?> <?= action_button('fight', t('do_fight'), ['to' => $other['id']], 'fight') ?></li>
<?php endforeach ?></ul></section>
