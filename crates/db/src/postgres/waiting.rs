//! Whom a statement waits for and how far it is, seen from another connection.

use super::connect::{self, Server, column, number};
use super::sessions;
use crate::script::run::{Seen, Watcher};
use crate::settings::PostgresSettings;

/// The views in which the server says how far a long statement is, as (phase, done, of).
const STAGES: &str = "
    SELECT 'index: ' || phase, blocks_done + tuples_done, blocks_total + tuples_total
      FROM pg_stat_progress_create_index WHERE pid = {pid}
    UNION ALL SELECT 'cluster: ' || phase, heap_blks_scanned, heap_blks_total
      FROM pg_stat_progress_cluster WHERE pid = {pid}
    UNION ALL SELECT 'vacuum: ' || phase, heap_blks_scanned, heap_blks_total
      FROM pg_stat_progress_vacuum WHERE pid = {pid}
    UNION ALL SELECT 'analyze: ' || phase, sample_blks_scanned, sample_blks_total
      FROM pg_stat_progress_analyze WHERE pid = {pid}";

/// Looks at one connection from another one, which is made when it is first needed.
pub(super) struct Outside {
    settings: PostgresSettings,
    /// The connection that is looked at.
    id: u64,
    cancel: Box<dyn Fn() + Send>,
    server: Option<Server>,
}

impl Outside {
    pub(super) fn new(settings: &PostgresSettings, of: &Server) -> Self {
        let cancel = Box::new(of.canceller());
        Self { settings: settings.clone(), id: of.id(), cancel, server: None }
    }
}

impl Watcher for Outside {
    fn interrupt(&mut self) {
        (self.cancel)();
    }

    fn look(&mut self) -> Seen {
        if self.server.is_none() {
            // The server may be gone or full: then there is nothing to see, and the script's own
            // connection says what is wrong.
            self.server = connect::plain(&self.settings).ok();
        }
        let Some(server) = &mut self.server else { return Seen::default() };
        let sql = format!("SELECT unnest(pg_blocking_pids({}))", self.id);
        let Ok(blocking) = server.rows(&sql) else {
            self.server = None;
            return Seen::default();
        };
        let blocking: Vec<u64> = blocking.iter().filter_map(|row| number(row, 0)).collect();
        if !blocking.is_empty() {
            let mut others = sessions::others(server, &self.settings.database).unwrap_or_default();
            others.retain(|other| blocking.contains(&other.session.id));
            let holders = others.into_iter().map(|other| other.session).collect();
            return Seen { holders, stage: None };
        }
        // An older server lacks one of the views: then nothing is said.
        let sql = STAGES.replace("{pid}", &self.id.to_string());
        let stages = server.rows(&sql).unwrap_or_default();
        let stage = stages.first().map(|row| {
            let (done, of) = (number(row, 1).unwrap_or(0), number(row, 2).unwrap_or(0));
            let percent = done.saturating_mul(100).checked_div(of);
            let percent = percent.map(|percent| format!(", {percent} %")).unwrap_or_default();
            format!("{}{percent}", column(row, 0))
        });
        Seen { holders: Vec::new(), stage }
    }
}
