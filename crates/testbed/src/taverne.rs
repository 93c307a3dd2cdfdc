//! The whole production server of the game Taverne: MariaDB, php-fpm, nginx, the cron loop, players' data.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::cron::CronLoop;
use crate::http::Client;
use crate::mariadb::Mariadb;
use crate::nginx::Nginx;
use crate::php::PhpFpm;
use crate::process::program;

/// The database of the game, and the account that it uses.
pub const DATABASE: &str = "taverne";
/// The password of the game's account.
const PASSWORD: &str = r#"tonneau 42#""#;
/// The password of every player that the seed makes.
pub const SEED_PASSWORD: &str = "chopine";

/// What is put on the server before it opens.
#[derive(Debug, Clone)]
pub struct Options {
    /// A version that `games/taverne` holds whole, with its schema.
    pub version: String,
    /// Players in the database.
    pub players: u32,
    /// Lines of the ledger for each of them.
    pub ledger_per_player: u32,
    /// Letters for each of them; one is about 250 bytes with its index.
    pub messages_per_player: u32,
    /// Whether the old visit counters are there: a MyISAM and a MEMORY table.
    pub counters: bool,
    /// Whether the cron loop runs.
    pub cron: bool,
    /// The data directory of a server that was shut down, with the game's database in it, in place
    /// of a new one: see [`crate::bulk`].
    pub prepared: Option<PathBuf>,
    /// Further options of the database server.
    pub server: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: "1.0".into(),
            players: 2_000,
            ledger_per_player: 5,
            messages_per_player: 3,
            counters: false,
            cron: true,
            prepared: None,
            server: Vec::new(),
        }
    }
}

/// How to reach the game's database.
#[derive(Debug, Clone)]
pub struct DatabaseAccess {
    /// The server's unix socket.
    pub socket: PathBuf,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// The database.
    pub name: String,
    /// The game's own account, with every right on this database and none elsewhere.
    pub user: String,
    /// Its password.
    pub password: String,
    /// An option file with all that, mode 0600, for `mariadb --defaults-file=`.
    pub defaults_file: PathBuf,
}

/// A running production server. Dropping it stops everything and removes its files.
#[derive(Debug)]
pub struct Taverne {
    /// The live tree, a real folder. Its parent is on the same file system and may be written.
    pub docroot: PathBuf,
    /// Configuration, sockets, logs and sessions of the servers.
    pub run_dir: PathBuf,
    /// The way to the database.
    pub database: DatabaseAccess,
    /// Where nginx answers, such as `http://127.0.0.1:8080`.
    pub url: String,
    /// Makes php-fpm see new code.
    pub reload_command: String,
    /// Stops the cron loop; works whether it runs or not.
    pub workers_stop: String,
    /// Starts the cron loop; works whether it runs or not.
    pub workers_start: String,
    /// The cron loop.
    pub cron: CronLoop,
    /// The web server.
    pub nginx: Nginx,
    /// The PHP processes.
    pub php: PhpFpm,
    /// The database server.
    pub mariadb: Mariadb,
    dir: TempDir,
}

/// The folder of the game's sources in this workspace.
pub fn game_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../games/taverne")
}

/// Builds the complete development tree of a version into `into`, which gets the folders
/// `source/`, `SQL/` and `changes/`.
///
/// # Panics
/// Where there is no such version, or `into` is not empty.
pub fn make(version: &str, into: &Path) {
    let made = Command::new("sh").arg(game_dir().join("make.sh")).arg(version).arg(into).output();
    expect_success("make.sh", &made.unwrap_or_else(|error| panic!("cannot run make.sh: {error}")));
}

impl Taverne {
    /// Starts the whole server and fills its database.
    ///
    /// # Panics
    /// With what a program said, where any part of it does not come up.
    pub fn start(options: &Options) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("taverne-")
            .tempdir()
            .expect("the temporary folder can be written");
        let run_dir = dir.path().join("run");
        fs::create_dir(&run_dir).expect("the temporary folder can be written");
        let server: Vec<&str> = options.server.iter().map(String::as_str).collect();
        let (mariadb, database) = match &options.prepared {
            Some(data) => {
                let mariadb = Mariadb::start_on(data, &server);
                let database = access(&mariadb, &run_dir);
                (mariadb, database)
            }
            None => {
                let mariadb = Mariadb::start_with(&server);
                let database = create_and_fill(&mariadb, &run_dir, options);
                (mariadb, database)
            }
        };

        let tree = dir.path().join("trees").join(&options.version);
        make(&options.version, &tree);
        let docroot = dir.path().join("live");
        fs::rename(tree.join("source"), &docroot).expect("both are in the temporary folder");
        fs::create_dir_all(docroot.join("uploads/avatars")).expect("the tree was just made");
        fs::write(docroot.join("config.php"), game_config(&database, options))
            .expect("the tree was just made");
        fs::remove_dir_all(&tree).expect("the tree was just made");

        let php = PhpFpm::start(&docroot, &run_dir);
        let nginx = Nginx::start(&docroot, &php);
        let tick = docroot.join("cron/tick.php");
        let cron = match options.cron {
            true => CronLoop::start(&tick, &run_dir, &[]),
            false => CronLoop::stopped(&tick, &run_dir, &[]),
        };
        Self {
            url: nginx.url(),
            reload_command: php.reload_command(),
            workers_stop: cron.stop_command(),
            workers_start: cron.start_command(),
            docroot,
            run_dir,
            database,
            cron,
            nginx,
            php,
            mariadb,
            dir,
        }
    }

    /// The temporary folder that holds everything but the database.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Builds the development tree of `version` beside the live one and returns its folder, which
    /// holds `source/`, `SQL/` and `changes/`.
    ///
    /// # Panics
    /// Where there is no such version.
    pub fn tree(&self, version: &str) -> PathBuf {
        let into = self.dir.path().join("trees").join(version);
        if !into.exists() {
            make(version, &into);
        }
        into
    }

    /// A browser before the front door.
    pub fn browser(&self) -> Client {
        Client::new(&self.url)
    }

    /// Runs a file through the plain `mariadb` client, as an admin would.
    ///
    /// # Panics
    /// Where the client or the file is missing; an error in the script is in the output.
    pub fn run_sql(&self, file: &Path) -> Output {
        run_sql(&self.database, "", file)
    }

    /// A connection under the game's own account.
    ///
    /// # Panics
    /// Where the server does not take it.
    pub fn connection(&self) -> mysql::Conn {
        let options = mysql::OptsBuilder::new()
            .socket(Some(self.database.socket.to_string_lossy()))
            .user(Some(&self.database.user))
            .pass(Some(&self.database.password))
            .db_name(Some(&self.database.name));
        mysql::Conn::new(options)
            .unwrap_or_else(|error| panic!("cannot connect to the game's database: {error}"))
    }
}

/// Makes the game's database on a new server, with what `options` say in it. Files that are needed
/// for it go into `dir`.
pub(crate) fn create_and_fill(mariadb: &Mariadb, dir: &Path, options: &Options) -> DatabaseAccess {
    mariadb.create_database(DATABASE, DATABASE, PASSWORD);
    let database = access(mariadb, dir);
    let tree = dir.join("seed-tree");
    make(&options.version, &tree);
    fill(&database, &tree, options);
    fs::remove_dir_all(&tree).expect("the tree was just made");
    database
}

fn access(mariadb: &Mariadb, run_dir: &Path) -> DatabaseAccess {
    let password = PASSWORD.to_owned();
    let defaults_file = run_dir.join("client.cnf");
    let socket = mariadb.socket().to_path_buf();
    let escaped = password.replace('\\', r"\\").replace('"', "\\\"");
    let text =
        format!("[client]\nuser={DATABASE}\npassword=\"{escaped}\"\nsocket={}\n", socket.display());
    let file = File::options().write(true).create_new(true).mode(0o600).open(&defaults_file);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", defaults_file.display()));
    DatabaseAccess {
        socket,
        port: mariadb.port(),
        name: DATABASE.into(),
        user: DATABASE.into(),
        password,
        defaults_file,
    }
}

fn game_config(database: &DatabaseAccess, options: &Options) -> String {
    let php = |text: &str| format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"));
    let dsn = format!(
        "mysql:unix_socket={};dbname={};charset=utf8mb4",
        database.socket.display(),
        database.name
    );
    format!(
        "<?php\nreturn [\n    'dsn' => {},\n    'user' => {},\n    'password' => {},\n    'lang' => 'fr',\n    \
         'bcrypt_cost' => 4, // many players log in at once\n    'session_path' => '',\n    'counters' => {},\n];\n",
        php(&dsn),
        php(&database.user),
        php(&database.password),
        options.counters,
    )
}

fn fill(database: &DatabaseAccess, tree: &Path, options: &Options) {
    let mut scripts: Vec<PathBuf> = fs::read_dir(tree.join("SQL"))
        .expect("make.sh makes this folder")
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    scripts.sort();
    if options.counters {
        scripts.push(game_dir().join("counters.sql"));
    }
    let sizes = format!(
        "SET @players={}, @ledger_per_player={}, @messages_per_player={}",
        options.players, options.ledger_per_player, options.messages_per_player
    );
    scripts.push(game_dir().join("seed.sql"));
    for script in scripts {
        expect_success(&script.display().to_string(), &run_sql(database, &sizes, &script));
    }
}

fn run_sql(database: &DatabaseAccess, first: &str, file: &Path) -> Output {
    let input =
        File::open(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
    let mut client = Command::new(program(&["mariadb", "mysql"]));
    client.arg(format!("--defaults-file={}", database.defaults_file.display()));
    if !first.is_empty() {
        client.arg(format!("--init-command={first}"));
    }
    let done =
        client.arg("--default-character-set=utf8mb4").arg(&database.name).stdin(input).output();
    done.unwrap_or_else(|error| panic!("cannot run the mariadb client: {error}"))
}

fn expect_success(what: &str, done: &Output) {
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{what} failed ({}): {said}", done.status);
}
