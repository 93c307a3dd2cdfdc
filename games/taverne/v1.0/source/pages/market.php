<?php $offers = rows('SELECT m.*, p.name AS seller, i.name AS item FROM market_open m JOIN players p ON p.id = m.seller_id JOIN items i ON i.id = m.item_id ORDER BY m.id DESC LIMIT 40') ?>
<section class="card"><h1><?= t('shop') ?></h1>
<table><thead><tr><th><?= t('item') ?></th><th class="n"><?= t('price') ?></th><th></th></tr></thead><tbody>
<?php foreach (items() as $item): ?>
<tr><td><?= h($item['name']) ?></td><td class="n"><?= h($item['price']) ?></td><td><?= action_button('buy', t('do_buy'), ['item' => $item['id']], 'market') ?></td></tr>
<?php endforeach ?></tbody></table></section>
<section class="card"><h2><?= t('offers') ?></h2>
<table><thead><tr><th><?= t('item') ?></th><th><?= t('seller') ?></th><th class="n"><?= t('price') ?></th><th></th></tr></thead><tbody>
<?php foreach ($offers as $offer): ?>
<tr><td><?= h($offer['quantity']) ?> × <?= h($offer['item']) ?></td><td><?= h($offer['seller']) ?></td><td class="n"><?= h($offer['price']) ?></td><td><?= action_button('take', t('do_buy'), ['offer' => $offer['id']], 'market') ?></td></tr>
<?php endforeach ?></tbody></table></section>
