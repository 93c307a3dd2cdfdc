<?php $guilds = rows('SELECT g.id, g.name, COUNT(p.id) AS members FROM guilds g LEFT JOIN players p ON p.guild_id = g.id GROUP BY g.id, g.name ORDER BY members DESC, g.id LIMIT 40') ?>
<section class="card"><h1><?= t('menu_guild') ?></h1>
<form method="post" action="/action.php" class="row"><?= form_fields() ?><input type="hidden" name="act" value="found"><input type="hidden" name="back" value="guild">
<label class="grow"><?= t('guild_name') ?> <input name="name" minlength="3" maxlength="40" required></label><button><?= t('do_found') ?></button></form>
<table><thead><tr><th><?= t('name') ?></th><th class="n"><?= t('members') ?></th><th></th></tr></thead><tbody>
<?php foreach ($guilds as $guild): ?>
<tr><td><?= h($guild['name']) ?></td><td class="n"><?= h($guild['members']) ?></td><td><?= (int) $me['guild_id'] === $guild['id'] ? '✓' : action_button('join', t('do_join'), ['guild' => $guild['id']], 'guild') ?></td></tr>
<?php endforeach ?></tbody></table></section>
