<section class="card"><h1><?= t('menu_news') ?></h1><p><?= t('news_text') ?></p></section>
