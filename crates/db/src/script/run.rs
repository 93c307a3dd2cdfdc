//! Executing scripts statement by statement, whatever the engine: each announced before, reported
//! afterwards, and watched while it is at work.
//!
//! A statement is executed by a thread of its own, so that this one can say whom it waits for and
//! how far it is, and can end it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::survey::{ScriptReader, Surveyed};
use super::{Engine, QuoteMode, Statement, excerpt};
use crate::database::{Progress, SQL_EXCERPT_CHARS_MAX, ScriptDone, StatementAt, StatementLog};
use crate::error::{DbError, EngineError, Session};

/// How often the wish to stop is looked at while a statement is at work.
const POLL_MS: u64 = 50;
/// How long a statement may be at work before it is looked at from another connection.
const LOOK_AFTER_MS: u64 = 300;
/// How often it is looked at from then on.
const LOOK_EVERY_MS: u64 = 1_000;
/// How long the end of a statement is given before it is asked for again.
const ASK_AGAIN_AFTER_MS: u64 = 500;
/// The most warnings of a script that are told.
const WARNINGS_MAX: usize = 20;

/// Executes statements, in a thread of its own.
pub(crate) trait Executor: Send {
    /// The server's number of the connection.
    fn connection_id(&self) -> Option<u64>;

    /// Executes one statement to its end.
    fn execute(&mut self, sql: &str) -> Result<Executed, Failed>;

    /// Whether the transaction around all scripts still stands, asked after each statement; true
    /// where there is none.
    fn stands(&mut self) -> Result<bool, EngineError>;
}

/// What a statement came to.
pub(crate) struct Executed {
    pub(crate) rows: u64,
    pub(crate) warnings: Vec<String>,
}

/// A statement that was refused.
pub(crate) struct Failed {
    pub(crate) error: EngineError,
    /// It waited for somebody's lock, in vain.
    pub(crate) waited_for_lock: bool,
}

/// Looks at the statement that is at work, from outside of its connection.
pub(crate) trait Watcher {
    /// Ends it. Called again while it goes on.
    fn interrupt(&mut self);

    /// Whom it waits for, and how far it is. What cannot be seen is left out.
    fn look(&mut self) -> Seen;

    /// Who holds the lock that it waited for in vain.
    fn holders(&mut self) -> Vec<Session> {
        self.look().holders
    }
}

/// What a watcher saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Who holds what the statement waits for.
    pub(crate) holders: Vec<Session>,
    /// How far it is, in the server's words.
    pub(crate) stage: Option<String>,
}

impl Seen {
    /// In words; nothing where nothing was seen.
    fn words(&self) -> Option<String> {
        if self.holders.is_empty() {
            return self.stage.clone();
        }
        Some(format!("waits for {}", names(&self.holders)))
    }
}

fn names(holders: &[Session]) -> String {
    const SHOWN_MAX: usize = 3;
    let mut names: Vec<String> = holders.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    if holders.len() > SHOWN_MAX {
        names.push(format!("and {} more", holders.len() - SHOWN_MAX));
    }
    names.join("; ")
}

/// Why a statement is the last one.
enum Bad {
    Statement(Failed),
    /// The transaction around all scripts is no more.
    Ended(Option<EngineError>),
}

/// One run over all scripts.
pub(crate) struct Run<'a> {
    engine: Engine,
    mode: QuoteMode,
    log: &'a mut dyn StatementLog,
    stop: &'a AtomicBool,
    progress: &'a mut dyn FnMut(Progress),
    done_bytes: u64,
    total_bytes: u64,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        (engine, mode): (Engine, QuoteMode),
        surveyed: &[Surveyed<'_>],
        log: &'a mut dyn StatementLog,
        stop: &'a AtomicBool,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Self {
        let total_bytes = surveyed.iter().map(|script| script.hashes.bytes).sum();
        Self { engine, mode, log, stop, progress, done_bytes: 0, total_bytes }
    }

    /// Executes one script. A crash between the intent of a statement and what follows it leaves
    /// open whether it was executed: the point is restored, never the rest executed.
    pub(crate) fn script<E: Executor>(
        &mut self,
        surveyed: &Surveyed<'_>,
        executor: &mut E,
        watcher: &mut dyn Watcher,
    ) -> Result<ScriptDone, DbError> {
        let id = executor.connection_id();
        let (ask, asked) = sync_channel::<String>(0);
        let (answer, answers) = sync_channel(1);
        thread::scope(|scope| {
            scope.spawn(move || {
                // Ends when the other side hangs up.
                while let Ok(sql) = asked.recv() {
                    if answer.send(execute(executor, &sql)).is_err() {
                        return;
                    }
                }
            });
            let mut execute = |sql: String| {
                // A thread that is gone panicked, and the scope passes its panic on.
                drop(ask.send(sql));
                &answers
            };
            let done = self.statements(surveyed, id, &mut execute, watcher);
            drop(ask);
            done
        })
    }

    fn statements<'b>(
        &mut self,
        surveyed: &Surveyed<'_>,
        id: Option<u64>,
        execute: &mut dyn FnMut(String) -> &'b Receiver<Result<Executed, Bad>>,
        watcher: &mut dyn Watcher,
    ) -> Result<ScriptDone, DbError> {
        let began = Instant::now();
        let script = surveyed.script;
        let before_bytes = self.done_bytes;
        let mut reader = ScriptReader::open(self.engine, self.mode, script)?;
        let mut done = ScriptDone {
            name: script.name.clone(),
            statements: 0,
            rows: 0,
            warnings: Vec::new(),
            duration_ms: 0,
        };
        while let Some(statement) = reader.next_statement()? {
            done.statements += 1;
            let line = statement.line;
            let end = before_bytes + statement.offset + statement.text.len() as u64;
            let note = format!(
                "{}, statement {} of {}",
                script.name, done.statements, surveyed.statements
            );
            let at = self.at(&script.name, done.statements, &statement, id);
            let executed = self.statement(&at, statement.text, &note, execute, watcher)?;
            done.rows += executed.rows;
            let room = WARNINGS_MAX - done.warnings.len();
            let told = executed.warnings.iter().take(room);
            done.warnings.extend(told.map(|said| format!("line {line}: {said}")));
            self.done_bytes = end.min(self.total_bytes);
            self.tell(note);
        }
        if reader.hashes().raw != surveyed.hashes.raw {
            return Err(DbError::Refused {
                script: script.name.clone(),
                line: 1,
                what: "the file was changed while it was run".to_owned(),
                hint: "let nobody write into it, and begin again".to_owned(),
            });
        }
        self.done_bytes = before_bytes + surveyed.hashes.bytes;
        self.tell(format!("{}, all {} statements", script.name, done.statements));
        done.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(done)
    }

    fn at(&self, script: &str, number: u64, statement: &Statement, id: Option<u64>) -> StatementAt {
        StatementAt {
            script: script.to_owned(),
            number,
            line: statement.line,
            offset: statement.offset,
            sql: excerpt(&statement.text, SQL_EXCERPT_CHARS_MAX),
            connection_id: id,
        }
    }

    fn statement<'b>(
        &mut self,
        at: &StatementAt,
        sql: String,
        note: &str,
        execute: &mut dyn FnMut(String) -> &'b Receiver<Result<Executed, Bad>>,
        watcher: &mut dyn Watcher,
    ) -> Result<Executed, DbError> {
        let stopped = || DbError::Stopped { script: at.script.clone(), line: at.line };
        if self.stop.load(Ordering::SeqCst) {
            return Err(stopped());
        }
        let logged = |result: Result<(), String>| result.map_err(|said| DbError::Log { said });
        logged(self.log.intent(at))?;
        let mut last = Seen::default();
        let answer = self.wait(execute(sql), note, watcher, &mut last);
        let failed = match answer {
            Ok(executed) => {
                logged(self.log.done(at, executed.rows, &executed.warnings))?;
                return Ok(executed);
            }
            Err(Bad::Ended(why)) => return Err(self.ended(at, why)),
            Err(Bad::Statement(failed)) => failed,
        };
        let source = named(failed, last, watcher);
        logged(self.log.failed(at, &source.to_string()))?;
        if self.stop.load(Ordering::SeqCst) {
            return Err(stopped());
        }
        let StatementAt { script, line, number, sql, .. } = at.clone();
        Err(DbError::Statement { script, line, number, sql, source })
    }

    /// Waits for the statement's end; says whom it waits for, and ends it when asked to.
    fn wait(
        &mut self,
        answers: &Receiver<Result<Executed, Bad>>,
        note: &str,
        watcher: &mut dyn Watcher,
        last: &mut Seen,
    ) -> Result<Executed, Bad> {
        let mut look_at = Instant::now() + Duration::from_millis(LOOK_AFTER_MS);
        let mut asked: Option<Instant> = None;
        loop {
            match answers.recv_timeout(Duration::from_millis(POLL_MS)) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => return Err(Bad::Ended(None)),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let again = Duration::from_millis(ASK_AGAIN_AFTER_MS);
            if self.stop.load(Ordering::SeqCst) && asked.is_none_or(|at| at.elapsed() >= again) {
                asked = Some(Instant::now());
                watcher.interrupt();
            } else if Instant::now() >= look_at {
                let seen = watcher.look();
                let words = seen.words().map(|words| format!("{note}: {words}"));
                self.tell(words.unwrap_or_else(|| note.to_owned()));
                *last = seen;
                look_at = Instant::now() + Duration::from_millis(LOOK_EVERY_MS);
            }
        }
    }

    /// Why the transaction around the scripts is no more.
    fn ended(&self, at: &StatementAt, why: Option<EngineError>) -> DbError {
        if self.stop.load(Ordering::SeqCst) {
            return DbError::Stopped { script: at.script.clone(), line: at.line };
        }
        match why {
            Some(source) => DbError::Engine { doing: "looking at the transaction".into(), source },
            None => DbError::Refused {
                script: at.script.clone(),
                line: at.line,
                what: "the statement ended the transaction around the scripts".to_owned(),
                hint: "do without COMMIT and ROLLBACK in programs and conflict clauses".to_owned(),
            },
        }
    }

    fn tell(&mut self, note: String) {
        let (done, total) = (self.done_bytes, self.total_bytes);
        (self.progress)(Progress { done, total, unit: "bytes", note });
    }
}

fn execute(executor: &mut impl Executor, sql: &str) -> Result<Executed, Bad> {
    let executed = executor.execute(sql).map_err(Bad::Statement)?;
    match executor.stands() {
        Ok(true) => Ok(executed),
        Ok(false) => Err(Bad::Ended(None)),
        Err(error) => Err(Bad::Ended(Some(error))),
    }
}

/// What the engine said, with who held the lock that was waited for.
fn named(failed: Failed, last: Seen, watcher: &mut dyn Watcher) -> EngineError {
    let Failed { mut error, waited_for_lock } = failed;
    if waited_for_lock {
        // The wait is over; whoever held the lock most probably still does.
        let holders = if last.holders.is_empty() { watcher.holders() } else { last.holders };
        let who = if holders.is_empty() {
            "held by somebody that our rights do not let us see".to_owned()
        } else {
            format!("held by {}", names(&holders))
        };
        error.message = format!("{}; the lock was {who}", error.message);
    }
    error
}
