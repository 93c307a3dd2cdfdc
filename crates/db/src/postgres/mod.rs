//! PostgreSQL.

mod connect;
mod definitions;
mod dump;
mod emptying;
mod fence;
mod point;
mod properties;
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
use crate::error::DbError;
use crate::facts::{Facts, Sums};
use crate::point::Point;
use crate::script::{self, Engine, leading_words};
use crate::settings::PostgresSettings;

pub use self::point::PostgresPoint;
pub(crate) use self::scratch::{Goal, live_goal, prepare};
pub(crate) use self::snapshot::{Grants, copy_definitions, seed_table, snapshot};

/// A database on a server. Every operation has connections of its own: what a session carries
/// over from one to the next is nothing, and no session of ours is in the way of a clone.
#[derive(Debug)]
pub(crate) struct Postgres {
    settings: PostgresSettings,
    wish: Wish,
}

impl Postgres {
    /// Enters the database once to see that it is there.
    pub(crate) fn open(settings: &PostgresSettings) -> Result<Self, DbError> {
        connect::plain(settings)?;
        Ok(Self { settings: settings.clone(), wish: Wish::Any })
    }
}

impl Database for Postgres {
    fn facts(&mut self) -> Result<Facts, DbError> {
        sums::facts(&self.settings)
    }

    fn schema(&mut self) -> Result<Schema, DbError> {
        Ok(Definitions::read(&self.settings)?.schema())
    }

    fn sums(&mut self) -> Result<Sums, DbError> {
        sums::sums(&self.settings)
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
        _dir: &Path,
        _progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<u64>, DbError> {
        ways::checkpoint(&self.settings, self.wish)
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
        point::drop_point(&self.settings, point)
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
        sessions::end_orphans(&self.settings, connection_ids, patience)
    }

    fn dump(
        &mut self,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<u64, DbError> {
        dump::write(&self.settings, dump::Scope::Everything, out, 0, progress)
    }

    fn dump_with_contents(
        &mut self,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(u64, Contents), DbError> {
        let before = self.schema()?;
        let mut counting = Counting::new(Form::Postgres, out);
        let bytes = self.dump(&mut counting, progress)?;
        let tables = counting.finish();
        Ok((bytes, Contents::new(tables, &before, &self.schema()?)))
    }

    fn load(
        &mut self,
        input: &mut dyn Read,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), DbError> {
        dump::load(&self.settings, input, None, progress)
    }

    fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, DbError> {
        let refused = |what: &str| DbError::Refused {
            script: "query".to_owned(),
            line: 1,
            what: what.to_owned(),
            hint: "ask with one SELECT".to_owned(),
        };
        let statements = script::statements(Engine::Postgres, sql.as_bytes())
            .map_err(|source| DbError::Script { script: "query".to_owned(), source })?;
        let [only] = statements.as_slice() else {
            return Err(refused("not exactly one statement"));
        };
        let first = leading_words(Engine::Postgres, &only.text, 1).pop().unwrap_or_default();
        const DOING: &str = "answering a query";
        let mut server = connect::plain(&self.settings)?;
        server.run_for("BEGIN READ ONLY", DOING)?;
        if matches!(first.as_str(), "SHOW" | "EXPLAIN") {
            return server.rows_for(&only.text, DOING);
        }
        if !matches!(first.as_str(), "SELECT" | "WITH" | "VALUES" | "TABLE") {
            return Err(refused("a statement that is no question"));
        }
        // A cursor, so that an answer without an end does not fill the memory.
        let declare = format!("DECLARE entracte NO SCROLL CURSOR FOR {}", only.text);
        server.run_for(&declare, DOING)?;
        let fetch = format!("FETCH FORWARD {} FROM entracte", QUERY_ROWS_MAX + 1);
        let answer = server.rows_for(&fetch, DOING)?;
        if answer.len() > QUERY_ROWS_MAX {
            return Err(refused("an answer of more than 10,000 rows"));
        }
        Ok(answer)
    }
}
