//! The fence: the game's accounts locked, their sessions ended, open transactions waited for,
//! events off, and the proof that nothing changes any more.

use std::thread;
use std::time::{Duration, Instant};

use super::connect::{self, Row, Server, account, code, column, ident, split_account};
use super::orphans::kill;
use super::rights::Rights;
use super::sessions::{self, Other};
use crate::database::FenceProof;
use crate::error::{DbError, EngineError, Session};
use crate::script::excerpt;
use crate::settings::MariadbSettings;

const EXCERPT_CHARS_MAX: usize = 80;
const POLL_MS: u64 = 50;
/// The time between two readings of counters that have to be equal.
const QUIET_MS: u64 = 120;
/// The same for `UPDATE_TIME`, which counts in seconds.
const QUIET_SECONDS_MS: u64 = 1_100;
/// How long ended sessions are given to be gone.
const ENDED_MS_MAX: u64 = 10_000;

/// What [`fence`] is about to change.
pub(super) fn intent(settings: &MariadbSettings) -> Result<FenceProof, DbError> {
    let mut server = connect::admin(settings)?;
    let mut proof = FenceProof::default();
    plan(&mut server, settings, &mut proof)?;
    Ok(proof)
}

/// Fills in what is to be locked and switched off, and notes what cannot be.
fn plan(
    server: &mut Server,
    settings: &MariadbSettings,
    proof: &mut FenceProof,
) -> Result<Rights, DbError> {
    let rights = Rights::read(server, &settings.database)?;
    let own = account(&rights.account);
    if !settings.game_users.is_empty() && !rights.global("CREATE USER") {
        proof.notes.push("without CREATE USER the game's accounts are not locked".to_owned());
    } else {
        for user in &settings.game_users {
            if account(user) == own {
                proof.notes.push(format!("{user} is our own account too, so it is not locked"));
            } else {
                proof.locked.push(user.clone());
            }
        }
    }
    let events = firing_events(server)?;
    if !events.is_empty() {
        if rights.global("SUPER") {
            proof.event_scheduler_off = true;
        } else {
            let names: Vec<&str> = events.iter().map(|event| event.user.as_str()).collect();
            let note = format!(
                "{} may fire while the game is closed: GRANT SUPER ON *.* TO {own}, or switch it \
                 off in workers_stop",
                names.join(", ")
            );
            proof.notes.push(note);
        }
    }
    Ok(rights)
}

/// The events of the database that its server's scheduler executes, as those who may write.
fn firing_events(server: &mut Server) -> Result<Vec<Session>, DbError> {
    const DOING: &str = "looking at the events";
    if server.text_for("SELECT @@GLOBAL.event_scheduler", DOING)? != "ON" {
        return Ok(Vec::new());
    }
    let enabled = "SELECT EVENT_NAME, DEFINER, COALESCE(CONCAT('every ', INTERVAL_VALUE, ' ',
                     INTERVAL_FIELD), 'once'), EVENT_DEFINITION FROM information_schema.EVENTS
                   WHERE EVENT_SCHEMA = DATABASE() AND STATUS = 'ENABLED' ORDER BY EVENT_NAME";
    let event = |row: &Row| Session {
        id: 0,
        user: format!("the event {} of {}", column(row, 0), column(row, 1)),
        host: "the server's scheduler".to_owned(),
        doing: format!("{}: {}", column(row, 2), excerpt(&column(row, 3), EXCERPT_CHARS_MAX)),
        since_s: None,
    };
    Ok(server.rows_for(enabled, DOING)?.iter().map(event).collect())
}

pub(super) fn fence(
    settings: &MariadbSettings,
    patience: Duration,
    say: &mut dyn FnMut(&str),
) -> Result<FenceProof, DbError> {
    let deadline = Instant::now() + patience;
    let mut server = connect::admin(settings)?;
    let mut proof = FenceProof::default();
    let rights = plan(&mut server, settings, &mut proof)?;
    for user in &proof.locked {
        lock_account(&mut server, user)?;
    }
    if proof.event_scheduler_off {
        let sql = "SET GLOBAL event_scheduler = OFF";
        server.run_for(sql, "switching the event scheduler off")?;
    }
    let can_kill = rights.global("CONNECTION ADMIN") && !proof.locked.is_empty();
    wait_for_others(&mut server, settings, &mut proof, can_kill, deadline, say)?;
    // Whoever was ended at the deadline has yet to be undone.
    let grace = Duration::from_millis(if proof.sessions_ended > 0 { ENDED_MS_MAX } else { 0 });
    let deadline = deadline.max(Instant::now() + grace);
    hold_every_table(&mut server, settings, &mut proof, deadline, say)?;
    prove(&mut server, settings, &mut proof, deadline, say)?;
    Ok(proof)
}

fn lock_account(server: &mut Server, user: &str) -> Result<(), DbError> {
    match server.run(&format!("ALTER USER {} ACCOUNT LOCK", account(user))) {
        Ok(_) => Ok(()),
        Err(error) if error.code == Some(code::NO_SUCH_ACCOUNT) => Err(DbError::Unsupported {
            what: format!("the configured game account {user} does not exist on the server"),
            hint: "correct the database's game_users (as user@host)".to_owned(),
        }),
        Err(error) => Err(DbError::engine(format!("locking the account {user}"))(error)),
    }
}

/// Waits until nobody has a statement or a transaction under way that can concern the database,
/// then ends what idles in the game's accounts: a lock of an account stops no live session.
fn wait_for_others(
    server: &mut Server,
    settings: &MariadbSettings,
    proof: &mut FenceProof,
    can_kill: bool,
    deadline: Instant,
    say: &mut dyn FnMut(&str),
) -> Result<(), DbError> {
    let mut said = String::new();
    loop {
        let others = concerned(server, settings)?;
        let busy: Vec<&Other> =
            others.iter().filter(|other| other.is_executing || other.in_transaction).collect();
        if busy.is_empty() {
            break;
        }
        let names: Vec<String> = busy.iter().map(|other| other.session.to_string()).collect();
        let names = names.join("; ");
        if said.is_empty() {
            say(&format!("waiting for {names}"));
        }
        said = names;
        if Instant::now() >= deadline {
            // Their time is over. What a session of the game had not committed is undone.
            let all_of_the_game = busy.iter().all(|other| is_locked(proof, &other.session));
            if !(can_kill && all_of_the_game) {
                return Err(still_writing(busy.into_iter().map(|o| o.session.clone()).collect()));
            }
            break;
        }
        thread::sleep(Duration::from_millis(POLL_MS));
    }
    if can_kill {
        end_sessions(server, settings, proof)?;
    }
    Ok(())
}

/// The sessions that can concern the database: in it, in none, or of the game.
fn concerned(server: &mut Server, settings: &MariadbSettings) -> Result<Vec<Other>, DbError> {
    let mut others = sessions::others(server)?;
    others.retain(|other| {
        let of_the_game =
            settings.game_users.iter().any(|user| split_account(user).0 == other.session.user);
        of_the_game || other.database.is_empty() || other.database == settings.database
    });
    Ok(others)
}

fn is_locked(proof: &FenceProof, session: &Session) -> bool {
    proof.locked.iter().any(|user| split_account(user).0 == session.user)
}

fn end_sessions(
    server: &mut Server,
    settings: &MariadbSettings,
    proof: &mut FenceProof,
) -> Result<(), DbError> {
    let deadline = Instant::now() + Duration::from_millis(ENDED_MS_MAX);
    let mut ended = Vec::new();
    loop {
        let mut left = concerned(server, settings)?;
        left.retain(|other| is_locked(proof, &other.session));
        if left.is_empty() {
            proof.sessions_ended += ended.len() as u64;
            return Ok(());
        }
        for other in &left {
            if !ended.contains(&other.session.id) {
                kill(server, other.session.id)?;
                ended.push(other.session.id);
            }
        }
        if Instant::now() >= deadline {
            return Err(still_writing(left.into_iter().map(|other| other.session).collect()));
        }
        thread::sleep(Duration::from_millis(POLL_MS));
    }
}

/// Takes the write lock of every table and gives it back. The server grants it only when no
/// open transaction has touched any of them: a proof that needs no right to see others.
fn hold_every_table(
    server: &mut Server,
    settings: &MariadbSettings,
    proof: &mut FenceProof,
    deadline: Instant,
    say: &mut dyn FnMut(&str),
) -> Result<(), DbError> {
    let sql = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()
               AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')";
    let names: Vec<String> = server
        .rows_for(sql, "listing the tables")?
        .iter()
        .map(|row| format!("{} WRITE", ident(&column(row, 0))))
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    let doing = "locking every table once";
    // Short, and again: a lock that is waited for keeps others waiting behind it.
    server.run_for("SET SESSION lock_wait_timeout = 1", doing)?;
    let lock = format!("LOCK TABLES {}", names.join(", "));
    let mut said = false;
    loop {
        let Err(error) = server.run(&lock) else {
            server.run_for("UNLOCK TABLES", doing)?;
            let count = names.len().to_string();
            proof.evidence.push(("tables locked for writing".to_owned(), count));
            return Ok(());
        };
        if is_denied(&error) {
            let note = "without LOCK TABLES a transaction that was left open may go unseen";
            proof.notes.push(note.to_owned());
            return Ok(());
        }
        if error.code != Some(code::LOCK_WAIT) {
            return Err(DbError::engine(doing)(error));
        }
        let others = concerned(server, settings)?;
        let sessions: Vec<Session> = others.into_iter().map(|other| other.session).collect();
        if Instant::now() >= deadline {
            return Err(still_writing(sessions));
        }
        if !std::mem::replace(&mut said, true) {
            let names: Vec<String> = sessions.iter().map(ToString::to_string).collect();
            say(&format!("waiting for an open transaction, perhaps of {}", names.join("; ")));
        }
    }
}

/// Reads what counts the changes twice, until both readings are equal.
fn prove(
    server: &mut Server,
    settings: &MariadbSettings,
    proof: &mut FenceProof,
    deadline: Instant,
    say: &mut dyn FnMut(&str),
) -> Result<(), DbError> {
    let mut said = false;
    loop {
        let first = server_activity(server)?;
        thread::sleep(Duration::from_millis(QUIET_MS));
        if first == server_activity(server)? {
            proof.evidence.extend(first);
            return Ok(());
        }
        // Other databases of the server may be at work: then ours is looked at alone.
        let first = database_activity(server)?;
        thread::sleep(Duration::from_millis(QUIET_SECONDS_MS));
        if first == database_activity(server)? {
            proof.evidence.extend(first);
            proof.notes.push("other databases of the server are being written to".to_owned());
            return Ok(());
        }
        if !std::mem::replace(&mut said, true) {
            say("waiting until nothing changes any more");
        }
        if Instant::now() >= deadline {
            let mut sessions: Vec<Session> =
                concerned(server, settings)?.into_iter().map(|other| other.session).collect();
            let events =
                if proof.event_scheduler_off { Vec::new() } else { firing_events(server)? };
            if events.is_empty() {
                return Err(still_writing(sessions));
            }
            // First: a list of many names is cut.
            sessions.splice(0..0, events);
            let own = server.text_for("SELECT CURRENT_USER()", "reading the account")?;
            return Err(DbError::StillWriting {
                sessions,
                hint: format!(
                    "GRANT SUPER ON *.* TO {}, so that a release switches the scheduler off; or \
                     ALTER EVENT ... DISABLE in workers_stop and ENABLE in workers_start",
                    account(&own)
                ),
            });
        }
    }
}

type Evidence = Vec<(String, String)>;

/// Counters of the whole server, and the position of its binary log where it keeps one.
fn server_activity(server: &mut Server) -> Result<Evidence, DbError> {
    let doing = "reading the server's counters";
    let sql = "SHOW GLOBAL STATUS WHERE Variable_name IN
               ('Handler_write', 'Handler_update', 'Handler_delete')";
    let mut evidence: Evidence = server.rows_for(sql, doing)?.iter().map(pair).collect();
    match server.rows("SHOW MASTER STATUS") {
        Ok(rows) => evidence
            .extend(rows.iter().map(|row| {
                ("binlog".to_owned(), format!("{}:{}", column(row, 0), column(row, 1)))
            })),
        Err(error) if is_denied(&error) => {}
        Err(error) => return Err(DbError::engine(doing)(error)),
    }
    Ok(evidence)
}

/// When each table of ours was last changed, and how often as far as the server lets us see it.
fn database_activity(server: &mut Server) -> Result<Evidence, DbError> {
    let doing = "reading the tables' counters";
    let sql = "SELECT TABLE_NAME, COALESCE(UPDATE_TIME, '') FROM information_schema.TABLES
               WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE <> 'VIEW' ORDER BY TABLE_NAME";
    let mut evidence: Evidence = server.rows_for(sql, doing)?.iter().map(pair).collect();
    let counters = "SELECT NAME, MODIFIED_COUNTER FROM information_schema.INNODB_SYS_TABLESTATS
                    WHERE NAME LIKE CONCAT(REPLACE(DATABASE(), '_', '\\_'), '/%') ORDER BY NAME";
    // Not there on MySQL, and not shown without PROCESS: the times above have to do.
    if let Ok(rows) = server.rows(counters) {
        evidence.extend(rows.iter().map(pair));
    }
    Ok(evidence)
}

fn pair(row: &Row) -> (String, String) {
    (column(row, 0), column(row, 1))
}

fn is_denied(error: &EngineError) -> bool {
    matches!(error.code, Some(code::DENIED | code::TABLE_DENIED | code::DATABASE_DENIED))
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
    settings: &MariadbSettings,
    proof: Option<&FenceProof>,
) -> Result<(), DbError> {
    let users = proof.map_or(&settings.game_users, |proof| &proof.locked);
    let scheduler = proof.is_some_and(|proof| proof.event_scheduler_off);
    if users.is_empty() && !scheduler {
        return Ok(());
    }
    let mut server = connect::admin(settings)?;
    for user in users {
        match server.run(&format!("ALTER USER {} ACCOUNT UNLOCK", account(user))) {
            Ok(_) => {}
            // Gone, or never ours to lock.
            Err(error) if error.code == Some(code::NO_SUCH_ACCOUNT) => {}
            Err(error) if proof.is_none() && is_denied(&error) => {}
            Err(error) => {
                return Err(DbError::engine(format!("unlocking the account {user}"))(error));
            }
        }
    }
    if scheduler {
        let sql = "SET GLOBAL event_scheduler = ON";
        server.run_for(sql, "switching the event scheduler on")?;
    }
    Ok(())
}
