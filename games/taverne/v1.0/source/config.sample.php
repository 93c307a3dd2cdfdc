<?php
// Copy this file to config.php and fill it in. config.php is not under version control.
return [
    'dsn'          => 'mysql:host=127.0.0.1;dbname=taverne;charset=utf8mb4',
    'user'         => 'taverne',
    'password'     => '',
    'lang'         => 'fr',          // language of players whose browser says nothing: fr or en
    'bcrypt_cost'  => 10,
    'session_path' => '',            // '' = as in php.ini
    'counters'     => false,         // the old visit counters (tables page_hits and online)
];
