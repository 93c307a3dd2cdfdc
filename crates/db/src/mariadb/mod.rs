//! MariaDB and MySQL.

mod binlog;
mod connect;
mod definitions;
mod dump;
mod exact_floats;
mod fence;
mod orphans;
mod point;
mod point_ahead;
mod point_binlog;
mod point_dump;
mod point_files;
mod rebuild;
mod rights;
mod scratch;
mod scripts;
mod sessions;
mod snapshot;
mod sums;
mod waiting;
mod ways;

use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use entracte_model::schema::Schema;
use entracte_model::way::{Offer, Wish};

use self::definitions::Definitions;
use crate::contents::{Contents, Counting, Form};
use crate::database::{
    Database, FenceProof, Progress, QUERY_ROWS_MAX, Script, ScriptsDone, StatementLog,
};
use crate::error::{DbError, EngineError};
use crate::facts::{Facts, Sums};
use crate::point::Point;
use crate::script::{self, Engine, leading_words, squeeze};
use crate::settings::MariadbSettings;

pub(crate) use self::connect::DEFAULT_HOST;
pub use self::point::MariadbPoint;
pub(crate) use self::scratch::{ScratchGoal, live_goal, prepare_scratch};
pub(crate) use self::snapshot::{copy_definitions, seed_table, snapshot};

/// A database on a server. Every operation has connections of its own: what a session carries
/// over from one to the next is nothing.
#[derive(Debug)]
pub(crate) struct Mariadb {
    settings: MariadbSettings,
    wish: Wish,
}

impl Mariadb {
    /// Enters the database once to see that it is there.
    pub(crate) fn open(settings: &MariadbSettings) -> Result<Self, DbError> {
        connect::plain(settings)?;
        Ok(Self { settings: settings.clone(), wish: Wish::Any })
    }
}

impl Database for Mariadb {
    fn facts(&mut self) -> Result<Facts, DbError> {
        sums::facts(&mut connect::admin(&self.settings)?, &self.settings)
    }

    fn schema(&mut self) -> Result<Schema, DbError> {
        Ok(Definitions::read(&mut connect::admin(&self.settings)?)?.schema())
    }

    fn sums(&mut self) -> Result<Sums, DbError> {
        sums::sums(&mut connect::admin(&self.settings)?)
    }

    fn fence_intent(&mut self) -> Result<FenceProof, DbError> {
        fence::intent(&self.settings)
    }

    fn fence(
        &mut self,
        patience: Duration,
        say: &mut dyn FnMut(&str),
    ) -> Result<FenceProof, DbError> {
        fence::fence(&self.settings, patience, say)
    }

    fn unfence(&mut self, proof: Option<&FenceProof>) -> Result<(), DbError> {
        fence::unfence(&self.settings, proof)
    }

    fn wish_for(&mut self, wish: Wish) {
        self.wish = wish;
    }

    fn ways(&mut self, dir: &Path) -> Result<Vec<Offer>, DbError> {
        ways::offers(&self.settings, dir)
    }

    fn prepare_point(
        &mut self,
        dir: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<u64>, DbError> {
        point::prepare(&self.settings, self.wish, dir, progress)
    }

    fn take_point(
        &mut self,
        dir: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Point, DbError> {
        point::take(&self.settings, self.wish, dir, progress)
    }

    fn probe_point(&mut self, dir: &Path) -> Result<Option<Point>, DbError> {
        crate::point::probe(dir)
    }

    fn restore_point(
        &mut self,
        point: &Point,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), DbError> {
        crate::point::check(point, &connect::target(&self.settings))?;
        point::restore(&self.settings, point, progress)
    }

    fn drop_point(&mut self, point: &Point) -> Result<(), DbError> {
        crate::point::drop_point(point)
    }

    fn run_scripts(
        &mut self,
        scripts: &[Script],
        log: &mut dyn StatementLog,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<ScriptsDone, DbError> {
        scripts::run(&self.settings, scripts, log, stop, progress)
    }

    fn end_orphans(&mut self, connection_ids: &[u64], patience: Duration) -> Result<(), DbError> {
        orphans::end(&self.settings, connection_ids, patience)
    }

    fn dump(
        &mut self,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<u64, DbError> {
        let definitions = Definitions::read(&mut connect::admin(&self.settings)?)?;
        dump::write(&self.settings, &definitions, dump::Scope::Everything, out, progress)
    }

    fn dump_with_contents(
        &mut self,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(u64, Contents), DbError> {
        let before = self.schema()?;
        let mut counting = Counting::new(Form::Mariadb, out);
        let bytes = self.dump(&mut counting, progress)?;
        let tables = counting.finish();
        Ok((bytes, Contents::new(tables, &before, &self.schema()?)))
    }

    fn load(
        &mut self,
        input: &mut dyn Read,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), DbError> {
        dump::load(&self.settings, input, progress)
    }

    fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, DbError> {
        let refused = |what: &str| DbError::Refused {
            script: "query".to_owned(),
            line: 1,
            what: what.to_owned(),
            hint: "ask with one SELECT".to_owned(),
        };
        let statements = script::statements(Engine::Mariadb, sql.as_bytes())
            .map_err(|source| DbError::Script { script: "query".to_owned(), source })?;
        let [only] = statements.as_slice() else {
            return Err(refused("not exactly one statement"));
        };
        if !is_question(&only.text) {
            return Err(refused("a statement that is no question"));
        }
        let mut server = connect::plain(&self.settings)?;
        let doing = "answering a query";
        // For the session, not for one transaction: nothing in a function can end it.
        server.run_for("SET SESSION TRANSACTION READ ONLY", doing)?;
        server.run_for("START TRANSACTION READ ONLY", doing)?;
        let mut answer = Vec::new();
        let mut too_many = false;
        let asked = server.each_row(&only.text, |row| {
            too_many = answer.len() == QUERY_ROWS_MAX;
            if too_many {
                return Err(EngineError { code: None, message: String::new() });
            }
            answer.push(row.iter().map(connect::text).collect());
            Ok(())
        });
        if too_many {
            return Err(refused("an answer of more than 10,000 rows"));
        }
        asked.map_err(DbError::engine(doing))?;
        Ok(answer)
    }
}

/// A statement that reads. `SELECT ... INTO OUTFILE` writes a file on the server.
fn is_question(sql: &str) -> bool {
    const QUESTIONS: [&str; 9] =
        ["SELECT", "WITH", "SHOW", "EXPLAIN", "DESCRIBE", "DESC", "VALUES", "TABLE", "CHECKSUM"];
    let first = leading_words(Engine::Mariadb, sql, 1).pop().unwrap_or_default();
    let text = squeeze(Engine::Mariadb, sql).to_ascii_uppercase();
    let writes_file = text.split(' ').any(|word| matches!(word, "OUTFILE" | "DUMPFILE"));
    QUESTIONS.contains(&first.as_str()) && !writes_file
}
