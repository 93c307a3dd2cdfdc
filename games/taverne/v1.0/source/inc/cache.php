<?php
declare(strict_types=1);

/** What $make gives, kept in cache/ for some seconds. Files carry the version: old ones are never read. */
function cached(string $name, int $seconds, callable $make): mixed
{
    $file = ROOT . "/cache/$name-" . VERSION . '.json';
    if (is_file($file) && filemtime($file) > time() - $seconds) {
        $kept = json_decode((string) file_get_contents($file), true);
        if ($kept !== null) {
            return $kept;
        }
    }
    $fresh = $make();
    $temporary = $file . '.' . getmypid();
    if (@file_put_contents($temporary, json_encode($fresh)) !== false) {
        rename($temporary, $file);
    }
    return $fresh;
}
