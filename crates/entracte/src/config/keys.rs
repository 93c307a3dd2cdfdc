//! Every key that `entracte.toml` may hold: one table for the check of a file and for its manual.

/// A key: its path (`*` stands for a name of one's own), what it takes, and what it is for.
pub struct Key {
    /// Where it stands, with dots.
    pub path: &'static str,
    /// What it takes.
    pub takes: &'static str,
    /// What it is where it is not given.
    pub default: &'static str,
    /// What it is for.
    pub help: &'static str,
}

const fn key(
    path: &'static str,
    takes: &'static str,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key { path, takes, default, help }
}

/// All keys, in the order of the manual.
pub const KEYS: &[Key] = &[
    key(
        "project",
        "name",
        "required",
        "The short name of the game, used in file names: letters, digits, `-`.",
    ),
    key("name", "text", "the project", "What players call the game."),
    key("languages", "list", "[\"en\"]", "The players' languages; the first is the default."),
    key("source.dir", "folder", "\".\"", "The development tree, as it is to stand on the server."),
    key("source.scripts", "folder", "\"SQL\"", "The database scripts of the coming version."),
    key(
        "source.changes",
        "folder",
        "\"changes\"",
        "The change fragments that `entracte note` writes.",
    ),
    key("source.dist", "folder", "\"dist\"", "Where packages are made."),
    key(
        "source.allow",
        "list",
        "[]",
        "Findings that are all right, as `status` prints them: `untracked:notes.txt`.",
    ),
    key("source.file_max", "size", "\"256MB\"", "A file above this size is a finding."),
    key(
        "source.key",
        "file",
        "~/.config/entracte/PROJECT.key",
        "The secret key that signs packages.",
    ),
    key(
        "development.database.*",
        "as below",
        "none",
        "The development database, for finding forgotten SQL.",
    ),
    key(
        "development.seed_tables",
        "list",
        "[]",
        "Tables whose rows come with the game (items, levels): their rows are compared, too.",
    ),
    key(
        "development.placeholders.*",
        "text",
        "none",
        "What stands for `%NAME%` in scripts that run on the development database.",
    ),
    key("announce.news_url", "address", "the gate's", "Where players reach the news pages."),
    key(
        "announce.channels.*",
        "address",
        "none",
        "A channel: `https://…`, `webhook+https://secret@…`, `discord://id/token`, or `env:NAME`.",
    ),
    key(
        "target.*.ssh",
        "user@host",
        "none",
        "The machine of the game, as your `ssh` knows it; without it, this machine.",
    ),
    key("target.*.ssh_options", "list", "[]", "Options for `ssh`, as after its `-o`."),
    key(
        "target.*.remote_binary",
        "file",
        "`.local/bin/entracte`",
        "Where the program is on that machine, from the user's home there.",
    ),
    key("target.*.root", "folder", "required", "The tree that the web server serves."),
    key(
        "target.*.state",
        "folder",
        "required",
        "Where Entracte keeps its journal, packages, backups and keys.",
    ),
    key(
        "target.*.persist",
        "list",
        "[]",
        "Files and folders that belong to production: configuration, uploads.",
    ),
    key(
        "target.*.volatile",
        "list",
        "[]",
        "Caches inside the tree: each version begins with empty ones.",
    ),
    key(
        "target.*.layout",
        "exchange, symlink, inplace",
        "\"exchange\"",
        "How a new tree takes the live one's place.",
    ),
    key(
        "target.*.hardlink",
        "true or false",
        "false",
        "Share unchanged files by hard links, where nothing writes in place.",
    ),
    key("target.*.keys", "list", "required", "Public keys whose packages this production takes."),
    key("target.*.keep", "number", "3", "How many replaced trees and rollback points are kept."),
    key(
        "target.*.dashboard",
        "address",
        "none",
        "Where `entracte up` shows releases in a browser: `127.0.0.1:8090`.",
    ),
    key(
        "target.*.smoke_passes",
        "number",
        "2",
        "How many times in a row all smoke tests must pass.",
    ),
    key(
        "target.*.database.engine",
        "mariadb, postgres, sqlite",
        "required",
        "The kind of database (`mysql` is the same as `mariadb`).",
    ),
    key("target.*.database.path", "file", "-", "SQLite: the database file."),
    key(
        "target.*.database.socket",
        "file",
        "-",
        "MariaDB: its unix socket; PostgreSQL: the folder of its socket.",
    ),
    key(
        "target.*.database.host",
        "name",
        "127.0.0.1",
        "The server's host, where no socket is given.",
    ),
    key("target.*.database.port", "number", "3306 or 5432", "The server's port."),
    key("target.*.database.user", "name", "-", "The account that Entracte uses."),
    key(
        "target.*.database.password_env",
        "name",
        "-",
        "The environment variable with the password.",
    ),
    key(
        "target.*.database.password_file",
        "file",
        "-",
        "The file with the password, readable by its owner only.",
    ),
    key("target.*.database.database", "name", "-", "The game's database."),
    key(
        "target.*.database.data_dir",
        "folder",
        "-",
        "MariaDB: its data directory, where Entracte can reach it.",
    ),
    key(
        "target.*.database.point",
        "text",
        "\"auto\"",
        "The way to the rollback point: `auto`, or `files`, `binlog`, `clone`, `copy`, `dump` and no other.",
    ),
    key(
        "target.*.database.game_users",
        "list",
        "[]",
        "Accounts of the game, locked while it is closed.",
    ),
    key(
        "target.*.placeholders.*",
        "text",
        "none",
        "What stands for `%NAME%` in scripts: `PREFIX = \"game_\"` for `%PREFIX%players`.",
    ),
    key(
        "target.*.gate.kind",
        "entracte, nginx, caddy, haproxy, apache",
        "\"entracte\"",
        "What stands before the game: our gate, or the server that you keep ([gates](gates.md)).",
    ),
    key("target.*.gate.listen", "address", "\"127.0.0.1:8080\"", "Where players connect."),
    key(
        "target.*.gate.upstream",
        "address",
        "required",
        "Where the game answers: `127.0.0.1:8081`, `unix:/run/game.sock`.",
    ),
    key(
        "target.*.gate.url",
        "address",
        "from listen",
        "The gate's address as this machine reaches it; required for another kind than `entracte`.",
    ),
    key(
        "target.*.gate.login",
        "list",
        "[]",
        "Requests that begin a session: `POST /login.php`, `/register*`.",
    ),
    key(
        "target.*.gate.session_cookies",
        "list",
        "[]",
        "The game's session cookies, such as `PHPSESSID`.",
    ),
    key(
        "target.*.gate.health_paths",
        "list",
        "[]",
        "Health checks, answered 200 even while the game is closed.",
    ),
    key(
        "target.*.gate.trusted_proxies",
        "list",
        "[]",
        "Proxies before the gate whose forwarded headers are believed.",
    ),
    key("target.*.gate.access_log", "file", "none", "A log of requests in the combined format."),
    key(
        "target.*.gate.tls_cert",
        "file",
        "none",
        "A certificate with its chain (PEM): players connect by TLS. Read again when it changes.",
    ),
    key("target.*.gate.tls_key", "file", "none", "The certificate's private key (PEM)."),
    key(
        "target.*.gate.metrics",
        "address",
        "none",
        "Where Prometheus collects metrics, besides the control socket: `127.0.0.1:9180`.",
    ),
    key(
        "target.*.gate.inject_widget",
        "true or false",
        "false",
        "Put the in-game banner into the game's pages.",
    ),
    key("target.*.gate.control", "file", "state/gate/control.sock", "The gate's control socket."),
    key(
        "target.*.gate.player_left",
        "duration",
        "\"60s\"",
        "A player without a request for so long has left.",
    ),
    key(
        "target.*.gate.folder",
        "folder",
        "state/front",
        "Other kinds: what your server reads, at each request.",
    ),
    key(
        "target.*.gate.check",
        "command",
        "`nginx -t` and the like",
        "Other kinds: tests your server's configuration.",
    ),
    key(
        "target.*.gate.reload",
        "command",
        "`nginx -s reload` and the like",
        "Other kinds: reloads your server.",
    ),
    key(
        "target.*.gate.pid_file",
        "file",
        "/run/nginx.pid and the like",
        "nginx, Apache: the number of its main process.",
    ),
    key(
        "target.*.gate.admin",
        "address or file",
        "/run/haproxy/admin.sock, localhost:2019",
        "HAProxy, Caddy: the admin interface.",
    ),
    key(
        "target.*.gate.backends",
        "list",
        "HAProxy: all; Caddy: upstream",
        "HAProxy, Caddy: the backends whose requests are the game's.",
    ),
    key(
        "target.*.gate.grace",
        "duration",
        "\"5s\"",
        "Other kinds: how long requests get to end where the server cannot tell that they did.",
    ),
    key("target.*.hooks.reload", "list", "[]", "Commands that make the server take the new files."),
    key("target.*.hooks.workers_stop", "list", "[]", "Commands that stop workers and crons."),
    key("target.*.hooks.workers_start", "list", "[]", "Commands that start them again."),
    key(
        "target.*.hooks.timeout",
        "duration",
        "\"30s\"",
        "How long one command or smoke test may take.",
    ),
    key(
        "target.*.pace.notice",
        "duration",
        "\"0s\"",
        "Between the announcement and the closing of the login.",
    ),
    key("target.*.pace.drain", "duration", "\"2min\"", "How long players who are in may go on."),
    key(
        "target.*.pace.fence",
        "duration",
        "\"30s\"",
        "How long to wait for requests and transactions to end.",
    ),
    key(
        "target.*.pace.hold",
        "duration",
        "\"5s\"",
        "A release without SQL lets requests wait for so long before it closes; `0s`: it closes.",
    ),
    key(
        "target.*.pace.ramp",
        "duration",
        "\"60s\"",
        "From the first newcomer to everybody; `0s` opens at once.",
    ),
    key("target.*.pace.watch", "duration", "\"5min\"", "How long the new version is watched."),
    key(
        "target.*.backup.repository",
        "folder",
        "state/backup",
        "The backup repository, in the restic format.",
    ),
    key(
        "target.*.backup.password_file",
        "file",
        "state/backup.password",
        "Its password; made at the first backup. Keep a copy elsewhere.",
    ),
    key(
        "target.*.backup.daily_at",
        "time",
        "\"04:30\"",
        "When `entracte up` takes the daily backup, local time.",
    ),
    key("target.*.backup.daily", "number", "7", "Daily backups kept."),
    key("target.*.backup.weekly", "number", "4", "Weekly backups kept."),
    key("target.*.backup.monthly", "number", "12", "Monthly backups kept."),
    key(
        "target.*.rehearse.serve",
        "command",
        "none",
        "Starts the new version in a rehearsal: tree in `$ROOT`, port `$PORT` of 127.0.0.1, database in `$DB_…`.",
    ),
    key(
        "target.*.rehearse.files.*",
        "text",
        "none",
        "A file in that tree in place of production's own: `\"config.php\" = '...'`.",
    ),
    key("target.*.smoke.name", "text", "what is asked", "What a smoke test is called in the log."),
    key(
        "target.*.smoke.http",
        "METHOD /path",
        "-",
        "A page, asked for through the gate as a tester.",
    ),
    key("target.*.smoke.status", "number", "200", "The status that it must answer."),
    key(
        "target.*.smoke.contains",
        "text",
        "-",
        "A text that it must show; `{version}` is the new version.",
    ),
    key(
        "target.*.smoke.lacks",
        "text",
        "-",
        "A text that it must not show, besides the usual PHP errors.",
    ),
    key("target.*.smoke.form", "text", "-", "The body of a POST: `name=a&password=b`."),
    key(
        "target.*.smoke.json",
        "pointer",
        "-",
        "A place in a JSON answer, such as `/players/0/name`.",
    ),
    key(
        "target.*.smoke.equals",
        "value",
        "anything",
        "What must stand there, or what the query must answer.",
    ),
    key("target.*.smoke.within_ms", "number", "-", "The longest that it may take."),
    key("target.*.smoke.sql", "query", "-", "A question to the database instead of a page."),
    key(
        "target.*.smoke.command",
        "command",
        "-",
        "A command instead of a page; it must end with 0.",
    ),
];

/// The keys that may stand directly below `path`; nothing where `path` may hold any key.
pub fn below(path: &[&str]) -> Option<Vec<&'static str>> {
    let mut names: Vec<&'static str> = Vec::new();
    for key in KEYS {
        let mut parts = key.path.split('.');
        let fits =
            path.iter().all(|name| parts.next().is_some_and(|part| part == "*" || part == *name));
        match (fits, parts.next()) {
            (true, Some("*")) => return None,
            (true, Some(name)) if !names.contains(&name) => names.push(name),
            _ => {}
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ones_own_stand_where_the_table_says_so() {
        assert_eq!(below(&["target"]), None);
        assert!(below(&["target", "production"]).unwrap().contains(&"root"));
        assert!(below(&["target", "production", "gate"]).unwrap().contains(&"listen"));
        assert!(below(&[]).unwrap().contains(&"project"));
    }
}
