//! The fence: the game's accounts locked, their sessions ended, open transactions waited for, and
//! the proof that nothing changes any more.
//!
//! `NOLOGIN` leaves live sessions writing, so they are ended. `default_transaction_read_only` is
//! not used: any session may set it back.

use std::thread;
use std::time::{Duration, Instant};

use super::connect::{self, Refusal, Server, code, column, ident, literal};
use super::rights::Rights;
use super::sessions::{self, Other};
use super::sums::OURS;
use crate::database::FenceProof;
use crate::error::{DbError, Session};
use crate::settings::PostgresSettings;

const POLL_MS: u64 = 50;
/// The time between two readings of the log's position that have to be equal.
const QUIET_MS: u64 = 120;
/// The same for counters, which sessions report up to a second late.
const QUIET_COUNTERS_MS: u64 = 1_100;
/// How long ended sessions are given to be gone.
const ENDED_MS_MAX: u64 = 10_000;

/// What [`fence`] is about to change.
pub(super) fn intent(settings: &PostgresSettings) -> Result<FenceProof, DbError> {
    let mut server = connect::admin(settings)?;
    let mut proof = FenceProof::default();
    plan(&mut server, settings, &mut proof)?;
    Ok(proof)
}

/// Fills in which accounts are to be locked, and notes what cannot be.
fn plan(
    server: &mut Server,
    settings: &PostgresSettings,
    proof: &mut FenceProof,
) -> Result<Rights, DbError> {
    let rights = Rights::read(server)?;
    if !settings.game_users.is_empty() && !rights.may_create_roles {
        proof.notes.push("without CREATEROLE the game's accounts are not locked".to_owned());
        return Ok(rights);
    }
    for user in &settings.game_users {
        let is_super = format!("SELECT rolsuper FROM pg_roles WHERE rolname = {}", literal(user));
        let is_super = server.text_for(&is_super, "looking at the game's accounts")?;
        if *user == rights.account {
            proof.notes.push(format!("{user} is our own account too, so it is not locked"));
        } else if is_super == "t" && !rights.superuser {
            proof.notes.push(format!("{user} is a superuser, whom only another one can lock"));
        } else {
            proof.locked.push(user.clone());
        }
    }
    Ok(rights)
}

pub(super) fn fence(
    settings: &PostgresSettings,
    patience: Duration,
    say: &mut dyn FnMut(&str),
) -> Result<FenceProof, DbError> {
    let deadline = Instant::now() + patience;
    let mut server = connect::admin(settings)?;
    let mut proof = FenceProof::default();
    let rights = plan(&mut server, settings, &mut proof)?;
    for user in &proof.locked {
        set_login(&mut server, user, false).map_err(|error| {
            if error.is(code::UNDEFINED_OBJECT) {
                return DbError::Unsupported {
                    what: format!("the configured game account {user} does not exist"),
                    hint: "correct the database's game_users".to_owned(),
                };
            }
            DbError::engine::<Refusal>(format!("locking the account {user}"))(error)
        })?;
    }
    let mut fence = Fence { server, settings, proof, rights, deadline, say };
    fence.wait_for_others()?;
    // Whoever was ended at the deadline has yet to be undone.
    let grace = if fence.proof.sessions_ended > 0 { ENDED_MS_MAX } else { 0 };
    fence.deadline = deadline.max(Instant::now() + Duration::from_millis(grace));
    fence.no_prepared_transactions()?;
    fence.hold_every_table()?;
    fence.prove()?;
    Ok(fence.proof)
}

fn set_login(server: &mut Server, user: &str, may: bool) -> Result<(), Refusal> {
    let word = if may { "LOGIN" } else { "NOLOGIN" };
    server.run(&format!("ALTER ROLE {} {word}", ident(user))).map(drop)
}

struct Fence<'a> {
    server: Server,
    settings: &'a PostgresSettings,
    proof: FenceProof,
    rights: Rights,
    deadline: Instant,
    say: &'a mut dyn FnMut(&str),
}

impl Fence<'_> {
    /// Waits until nobody has a statement or a transaction under way in the database, then ends
    /// what idles in the game's accounts.
    fn wait_for_others(&mut self) -> Result<(), DbError> {
        let mut said = false;
        loop {
            let others = sessions::others(&mut self.server, &self.settings.database)?;
            let busy: Vec<&Other> = others.iter().filter(|other| other.is_busy).collect();
            if busy.is_empty() {
                break;
            }
            if !std::mem::replace(&mut said, true) {
                let names: Vec<String> = busy.iter().map(|o| o.session.to_string()).collect();
                (self.say)(&format!("waiting for {}", names.join("; ")));
            }
            if Instant::now() >= self.deadline {
                // Their time is over. What a session of the game had not committed is undone.
                if busy.iter().all(|other| self.may_end(&other.session)) {
                    break;
                }
                return Err(still_writing(busy.iter().map(|o| o.session.clone()).collect()));
            }
            thread::sleep(Duration::from_millis(POLL_MS));
        }
        self.end_sessions()
    }

    fn may_end(&self, session: &Session) -> bool {
        self.rights.signals && self.proof.locked.contains(&session.user)
    }

    fn end_sessions(&mut self) -> Result<(), DbError> {
        let deadline = Instant::now() + Duration::from_millis(ENDED_MS_MAX);
        let mut ended = Vec::new();
        loop {
            let mut left = sessions::others(&mut self.server, &self.settings.database)?;
            left.retain(|other| self.may_end(&other.session));
            if left.is_empty() {
                self.proof.sessions_ended += ended.len() as u64;
                return Ok(());
            }
            for Other { session, .. } in &left {
                if !ended.contains(&session.id)
                    && sessions::terminate(&mut self.server, session.id)?
                {
                    ended.push(session.id);
                }
            }
            if Instant::now() >= deadline {
                return Err(still_writing(left.into_iter().map(|o| o.session).collect()));
            }
            thread::sleep(Duration::from_millis(POLL_MS));
        }
    }

    /// A prepared transaction belongs to no session and can be committed by anybody later.
    fn no_prepared_transactions(&mut self) -> Result<(), DbError> {
        let sql = "SELECT gid, owner, to_char(prepared, 'YYYY-MM-DD HH24:MI:SS TZ'),
                   floor(extract(epoch FROM clock_timestamp() - prepared))
                   FROM pg_prepared_xacts WHERE database = current_database() ORDER BY 1";
        let rows = self.server.rows_for(sql, "looking for prepared transactions")?;
        if rows.is_empty() {
            return Ok(());
        }
        let sessions = rows
            .iter()
            .map(|row| Session {
                id: 0,
                user: column(row, 1),
                host: "no session".to_owned(),
                doing: format!("the prepared transaction {} of {}", column(row, 0), column(row, 2)),
                since_s: connect::number(row, 3),
            })
            .collect();
        Err(DbError::StillWriting {
            sessions,
            hint: "end it with COMMIT PREPARED or ROLLBACK PREPARED".to_owned(),
        })
    }

    /// Takes a lock on every table that no writer shares, and gives it back. It is granted only
    /// when no open transaction has changed any: a proof that needs no right to see others.
    fn hold_every_table(&mut self) -> Result<(), DbError> {
        let sql = format!(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c
             JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE {OURS} AND c.relkind IN ('r', 'p') ORDER BY 1"
        );
        let names = self.server.list_for(&sql, "listing the tables")?;
        if names.is_empty() {
            return Ok(());
        }
        let doing = "locking every table once";
        // Short, and again: a lock that is waited for keeps others waiting behind it.
        let lock = format!(
            "BEGIN; SET LOCAL lock_timeout = '500ms'; LOCK TABLE {} IN SHARE MODE; COMMIT",
            names.join(", ")
        );
        let mut said = false;
        loop {
            let Err(error) = self.server.run(&lock) else {
                let count = names.len().to_string();
                self.proof.evidence.push(("tables locked against writing".to_owned(), count));
                return Ok(());
            };
            self.server.run_for("ROLLBACK", doing)?;
            if error.is(code::DENIED) {
                let note = "without rights on every table a transaction may go unseen";
                self.proof.notes.push(note.to_owned());
                return Ok(());
            }
            if !error.is(code::LOCK_WAIT) {
                return Err(DbError::engine::<Refusal>(doing)(error));
            }
            let sessions = self.sessions()?;
            if Instant::now() >= self.deadline {
                return Err(still_writing(sessions));
            }
            if !std::mem::replace(&mut said, true) {
                let names: Vec<String> = sessions.iter().map(ToString::to_string).collect();
                (self.say)(&format!("waiting for an open transaction of {}", names.join("; ")));
            }
        }
    }

    /// Reads what counts the changes twice, until both readings are equal.
    fn prove(&mut self) -> Result<(), DbError> {
        let mut said = false;
        loop {
            let first = self.log_position()?;
            thread::sleep(Duration::from_millis(QUIET_MS));
            if first == self.log_position()? {
                self.proof.evidence.push(("write-ahead log".to_owned(), first));
                return Ok(());
            }
            // Other databases of the server may be at work: then ours is looked at alone.
            let first = self.counters()?;
            thread::sleep(Duration::from_millis(QUIET_COUNTERS_MS));
            if first == self.counters()? {
                self.proof.evidence.push(("rows inserted, updated, deleted".to_owned(), first));
                let note = "the server's log goes on: other databases are being written to";
                self.proof.notes.push(note.to_owned());
                return Ok(());
            }
            if !std::mem::replace(&mut said, true) {
                (self.say)("waiting until nothing changes any more");
            }
            if Instant::now() >= self.deadline {
                return Err(still_writing(self.sessions()?));
            }
        }
    }

    fn sessions(&mut self) -> Result<Vec<Session>, DbError> {
        let others = sessions::others(&mut self.server, &self.settings.database)?;
        Ok(others.into_iter().map(|other| other.session).collect())
    }

    fn log_position(&mut self) -> Result<String, DbError> {
        let doing = "reading the position of the server's log";
        self.server.text_for("SELECT pg_current_wal_insert_lsn()", doing)
    }

    fn counters(&mut self) -> Result<String, DbError> {
        let sql = "SELECT tup_inserted || ' ' || tup_updated || ' ' || tup_deleted
                   FROM pg_stat_database WHERE datname = current_database()";
        self.server.text_for(sql, "reading the database's counters")
    }
}

fn still_writing(sessions: Vec<Session>) -> DbError {
    DbError::StillWriting {
        sessions,
        hint: "add their account to the database's game_users, or the program to the workers and \
               crons that a release stops"
            .to_owned(),
    }
}

/// Unlocks what the proof says, or every configured account.
pub(super) fn unfence(
    settings: &PostgresSettings,
    proof: Option<&FenceProof>,
) -> Result<(), DbError> {
    let users = proof.map_or(&settings.game_users, |proof| &proof.locked);
    if users.is_empty() {
        return Ok(());
    }
    let mut server = connect::admin(settings)?;
    for user in users {
        match set_login(&mut server, user, true) {
            Ok(()) => {}
            // Gone, or never ours to lock.
            Err(error) if error.is(code::UNDEFINED_OBJECT) => {}
            Err(error) if proof.is_none() && error.is(code::DENIED) => {}
            Err(error) => {
                let doing = format!("unlocking the account {user}");
                return Err(DbError::engine::<Refusal>(doing)(error));
            }
        }
    }
    Ok(())
}
