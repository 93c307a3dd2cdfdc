<?php $mine = rows('SELECT v.*, i.name, i.price FROM inventory v JOIN items i ON i.id = v.item_id WHERE v.player_id = ? AND v.quantity > 0 ORDER BY i.name', [$me['id']]) ?>
<section class="card"><h1><?= t('menu_inventory') ?></h1>
<?php if (!$mine): ?><p><?= t('empty_bag') ?></p><?php endif ?>
<table><tbody><?php foreach ($mine as $thing): ?>
<tr><td><?= h($thing['quantity']) ?> × <?= h($thing['name']) ?></td>
<td><?= action_button('sell', t('do_sell', intdiv($thing['price'] * 6, 10)), ['item' => $thing['item_id']], 'inventory') ?></td>
<td><?= action_button('offer', t('do_offer', $thing['price']), ['item' => $thing['item_id'], 'price' => $thing['price']], 'inventory') ?></td></tr>
<?php endforeach ?></tbody></table></section>
