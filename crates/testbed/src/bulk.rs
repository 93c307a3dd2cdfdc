//! Databases of a stated size, made once and then started from copies: a benchmark's both sides
//! begin with the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use mysql::prelude::Queryable;
use tempfile::TempDir;

use crate::mariadb::Mariadb;
use crate::taverne::{self, DATABASE, Options};

/// Rows that one statement adds.
const ROWS_PER_BATCH: u64 = 200_000;
/// More batches than this are an error of ours, not a larger database.
const BATCHES_MAX: u64 = 2_000;

/// What makes a database large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bulk {
    /// Old deeds of the players, in a table that no release's script touches.
    Chronicle,
    /// Letters, in a table of which the script of 1.1 rewrites every row.
    Letters,
}

impl Bulk {
    fn table(self) -> &'static str {
        match self {
            Self::Chronicle => "chronicle",
            Self::Letters => "messages",
        }
    }

    fn prepare(self) -> Option<&'static str> {
        match self {
            Self::Chronicle => Some(
                "CREATE TABLE chronicle (
                     id        BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
                     player_id INT UNSIGNED NOT NULL,
                     at        DATETIME NOT NULL,
                     place     VARCHAR(40) NOT NULL,
                     deed      VARCHAR(300) NOT NULL,
                     KEY of_player (player_id, id)
                 ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
            ),
            Self::Letters => None,
        }
    }

    /// Rows as a game has them: about 250 bytes, each another one, compressible by a half.
    fn batch(self, from: u64, to: u64) -> String {
        let rows = format!("FROM seq_{from}_to_{to}");
        match self {
            Self::Chronicle => format!(
                "INSERT INTO chronicle (player_id, at, place, deed)
                 SELECT 1 + (seq * 7919) MOD 2000, '2022-01-01' + INTERVAL seq SECOND,
                        ELT(1 + seq MOD 5, 'La Taverne', 'Marais aux feux', 'Port-du-Nord',
                            'Forêt de Brume', 'Mine du roi'),
                        CONCAT('Le joueur ', 1 + (seq * 7919) MOD 2000, ' gagne ', (seq * 31) MOD 977,
                               ' pièces contre le joueur ', 1 + (seq * 104729) MOD 2000, ' (', MD5(seq),
                               ', manche ', 1 + seq MOD 9, ', ', MD5(seq * 3), ')') {rows}"
            ),
            Self::Letters => format!(
                "INSERT INTO messages (from_id, to_id, body, at)
                 SELECT 1 + (seq * 101) MOD 2000, 1 + (seq * 7919) MOD 2000,
                        CONCAT('Rendez-vous au comptoir, table ', seq, '. ', MD5(seq), ' ', MD5(seq * 3),
                               ' ', MD5(seq * 7), ' — à ce soir ! 🍺'),
                        '2022-06-01' + INTERVAL seq SECOND {rows}"
            ),
        }
    }
}

/// Options of a server with room, as production has one: the same for both sides.
pub const SERVER: [&str; 2] = ["--innodb-buffer-pool-size=512M", "--innodb-log-file-size=256M"];

/// The data directory of a server that was shut down in good order.
#[derive(Debug)]
pub struct Prepared {
    data_dir: PathBuf,
    bytes: u64,
    _dir: TempDir,
}

impl Prepared {
    /// Makes the database that `options` describe, and adds rows of `bulk` until their table has
    /// at least `bytes` bytes.
    ///
    /// # Panics
    /// Where the server refuses, or the disk is full.
    pub fn make(options: &Options, bulk: Bulk, bytes: u64) -> Self {
        let dir = tempfile::Builder::new().prefix("prepared-").tempdir();
        let dir = dir.expect("the temporary folder can be written");
        let mariadb = Mariadb::start_with(&SERVER);
        taverne::create_and_fill(&mariadb, dir.path(), options);
        let mut root = mariadb.root();
        let mut run = |sql: &str| {
            root.query_drop(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
        };
        run(&format!("USE {DATABASE}"));
        run("SET unique_checks = 0, foreign_key_checks = 0");
        bulk.prepare().into_iter().for_each(&mut run);
        let table = mariadb.data_dir().join(DATABASE).join(format!("{}.ibd", bulk.table()));
        let large = || fs::metadata(&table).is_ok_and(|meta| meta.len() >= bytes);
        let mut batches = 0;
        while !large() {
            assert!(batches < BATCHES_MAX, "{} does not grow", table.display());
            // Behind the rows that the seed made.
            let from = 10_000_000 + batches * ROWS_PER_BATCH;
            run(&bulk.batch(from, from + ROWS_PER_BATCH - 1));
            batches += 1;
        }
        drop(root);
        let bytes = files_bytes(&mariadb.data_dir().join(DATABASE));
        let data_dir = dir.path().join("data");
        mariadb.shut_down_into(&data_dir);
        Self { data_dir, bytes, _dir: dir }
    }

    /// `options` with this database in place of a new one.
    pub fn options(&self, options: &Options) -> Options {
        Options {
            prepared: Some(self.data_dir.clone()),
            server: SERVER.map(str::to_owned).to_vec(),
            ..options.clone()
        }
    }

    /// The size of the database's files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn files_bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).expect("the database's folder can be read").flatten();
    files.map(|file| file.metadata().map_or(0, |meta| meta.len())).sum()
}
