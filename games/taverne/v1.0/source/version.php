<?php
// For people and for checks: which version is the code, which is the database?
require __DIR__ . '/inc/bootstrap.php';

header('Content-Type: text/plain; charset=utf-8');
header('Cache-Control: no-store');
echo "taverne\n";
echo 'code ', VERSION, "\n";
echo 'database ', value("SELECT value FROM settings WHERE name = 'version'"), "\n";
echo 'ticks ', value("SELECT value FROM settings WHERE name = 'ticks'"), "\n";
echo 'worker ', getmypid(), "\n";
