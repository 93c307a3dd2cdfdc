<?php /* Reglement du jeu - fichier de 2009, ne pas toucher aux accents ! */ ?>
<section class="card">
<h1><?= t('menu_rules') ?></h1>
<ol>
<li>Un seul compte par aventurier. / One account an adventurer.</li>
<li>On reste poli au comptoir. / Be polite at the bar.</li>
<li>Les dettes de jeu se paient. / Gambling debts are paid.</li>
</ol>
</section>
