<?php
declare(strict_types=1);

function db(): PDO
{
    static $pdo = null;
    global $config;
    if ($pdo === null) {
        $pdo = new PDO($config['dsn'], $config['user'], $config['password'], [
            PDO::ATTR_ERRMODE            => PDO::ERRMODE_EXCEPTION,
            PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC,
            PDO::ATTR_EMULATE_PREPARES   => false,
            PDO::MYSQL_ATTR_INIT_COMMAND => "SET time_zone = '+00:00'",
        ]);
    }
    return $pdo;
}

function query(string $sql, array $values = []): PDOStatement
{
    $statement = db()->prepare($sql);
    $statement->execute($values);
    return $statement;
}

function row(string $sql, array $values = []): ?array
{
    return query($sql, $values)->fetch() ?: null;
}

function rows(string $sql, array $values = []): array
{
    return query($sql, $values)->fetchAll();
}

function value(string $sql, array $values = []): mixed
{
    return query($sql, $values)->fetchColumn();
}

function mysql_code(Throwable $e): int
{
    return $e instanceof PDOException ? (int) ($e->errorInfo[1] ?? 0) : 0;
}

/** Runs $do in one transaction. A deadlock or lock wait gives it another try, five in all. */
function transaction(callable $do): mixed
{
    for ($try = 1; ; $try++) {
        db()->beginTransaction();
        try {
            $result = $do();
            db()->commit();
            return $result;
        } catch (Throwable $e) {
            if (db()->inTransaction()) {
                db()->rollBack();
            }
            if ($try < 5 && in_array(mysql_code($e), [1205, 1213], true)) {
                usleep(random_int(2, 20) * 1000);
                continue;
            }
            throw $e;
        }
    }
}
