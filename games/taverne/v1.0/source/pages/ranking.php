<section class="card"><h1><?= t('menu_ranking') ?></h1>
<table><thead><tr><th class="n">#</th><th><?= t('name') ?></th><th class="n"><?= t('level') ?></th><th class="n"><?= t('wealth') ?></th></tr></thead><tbody>
<?php foreach (ranking() as $place => $who): ?>
<tr><td class="n"><?= $place + 1 ?></td><td><?= h($who['name']) ?></td><td class="n"><?= h($who['level']) ?></td><td class="n"><?= h($who['wealth']) ?></td></tr>
<?php endforeach ?></tbody></table></section>
