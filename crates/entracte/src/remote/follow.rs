//! Follows a release that runs there, over one connection after another if need be. The release
//! does not notice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use entracte_host::wire::{Ask, SshError, Tell, frame};
use entracte_model::plan::ReleaseId;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::link::failure;
use super::{Remote, with_link};
use crate::cli::App;
use crate::config::{Config, Far};
use crate::exit::{Exit, Failure, question};
use crate::report::{Ending, Live, out};

/// How long to wait for the next entry before the spinner turns, in milliseconds.
const TICK_MS: u64 = 50;

/// `entracte log -f`.
pub fn last_or(
    app: &App,
    config: &Config,
    far: Far,
    release: Option<ReleaseId>,
) -> Result<Exit, Failure> {
    with_link(app, config, far, |remote| follow(app, remote, release, None, false))
}

/// Follows a release to its end. The first Ctrl-C asks for it to be taken back and goes on
/// following; the second one stops following, while the release goes on by itself. Whoever did
/// not start it (`owns` is false) only stops following.
pub fn follow(
    app: &App,
    remote: &mut Remote,
    release: Option<ReleaseId>,
    runner: Option<u32>,
    owns: bool,
) -> Result<Exit, Failure> {
    let mut follower =
        Follower { app, release, runner, live: None, interrupts: signals()?, asked: !owns };
    let mut since = Instant::now();
    loop {
        let seen = follower.seen();
        match follower.watch(remote) {
            Ok(ended) => return ended,
            Err(lost) if lost.is_lost() => {
                if follower.seen() > seen {
                    since = Instant::now();
                }
                remote.again(lost, since).map_err(|failure| follower.unwatched(failure))?;
            }
            Err(error) => return Err(failure(error)),
        }
    }
}

/// Counts Ctrl-C from here on. What was counted while a release was being started is its first.
pub fn signals() -> Result<&'static Arc<AtomicUsize>, Failure> {
    static COUNTED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();
    if let Some(counted) = COUNTED.get() {
        return Ok(counted);
    }
    let interrupts = COUNTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        // Counting is all that a signal handler may do here.
        signal_hook::flag::register_usize(signal, Arc::clone(interrupts), 1)?;
    }
    Ok(interrupts)
}

struct Follower<'a> {
    app: &'a App,
    release: Option<ReleaseId>,
    runner: Option<u32>,
    live: Option<Live>,
    interrupts: &'static Arc<AtomicUsize>,
    asked: bool,
}

impl Follower<'_> {
    fn seen(&self) -> u64 {
        self.live.as_ref().map_or(0, Live::seen)
    }

    /// Watches over one connection: how the release ended, or that the connection did.
    fn watch(&mut self, remote: &mut Remote) -> Result<Result<Exit, Failure>, SshError> {
        let (release, after, runner) = (self.release, self.seen(), self.runner);
        remote.try_ask(&Ask::Follow { release, after, runner })?;
        loop {
            if let Some(ended) = self.interrupted(remote)? {
                return Ok(Err(ended));
            }
            let Some(frame) = remote.frame_within(TICK_MS)? else {
                self.live.as_ref().inspect(|live| live.tick());
                continue;
            };
            let tell = match frame::message::<Tell>(&frame) {
                Ok(tell) => tell,
                Err(error) => return Ok(Err(error.into())),
            };
            if let Some(ended) = self.hear(remote, tell) {
                return Ok(ended);
            }
        }
    }

    fn hear(&mut self, remote: &Remote, tell: Tell) -> Option<Result<Exit, Failure>> {
        match tell {
            Tell::Following { plan } => {
                self.release = Some(plan.id);
                if self.live.is_none() {
                    let global = &self.app.global;
                    let live = Live::new(*plan, self.app.paint, global.json, global.quiet);
                    live.heading();
                    self.live = Some(live);
                }
            }
            Tell::Entry { entry } => {
                if let Some(live) = &mut self.live {
                    live.show(*entry);
                }
            }
            Tell::Still {} => {}
            Tell::Over { last } => return Some(self.end(&last)),
            Tell::Failed { exit, message, hint } => {
                return Some(Err(Failure { exit: Exit::of(exit), message, hint }));
            }
            other => return Some(Err(remote.wrong("what the release does", &other))),
        }
        None
    }

    fn end(&self, last: &str) -> Result<Exit, Failure> {
        let Some(live) = &self.live else {
            return Err(Failure::broken("the release was not told of"));
        };
        match live.ending() {
            Ending::Finished(outcome) => Ok(live.exit(outcome)),
            Ending::Asks(asked) => Err(question(asked)),
            Ending::NotYet => {
                let id = self.release.map_or_else(String::new, |id| id.to_string());
                Err(Failure::broken(format!("the process of {id} ended in the middle: {last}"))
                    .hint("`entracte resume` goes on, `entracte abort` takes it back"))
            }
        }
    }

    /// Looks whether somebody pressed Ctrl-C, and how often.
    fn interrupted(&mut self, remote: &mut Remote) -> Result<Option<Failure>, SshError> {
        if self.interrupts.swap(0, Ordering::SeqCst) == 0 {
            return Ok(None);
        }
        let id = self.release.map_or_else(|| "the release".to_owned(), |id| id.to_string());
        if self.asked {
            return Ok(Some(
                Failure::broken(format!("{id} goes on without an audience"))
                    .hint("`entracte log -f` follows it again"),
            ));
        }
        remote.try_ask(&Ask::Stop {})?;
        self.asked = true;
        out::note("asked it to stop at the next safe point; Ctrl-C again stops watching");
        Ok(None)
    }

    /// The connection could not be had again.
    fn unwatched(&self, failure: Failure) -> Failure {
        let id = self.release.map_or_else(|| "the release".to_owned(), |id| id.to_string());
        Failure { message: format!("{}; {id} goes on by itself", failure.message), ..failure }
            .hint("`entracte log -f` follows it again")
    }
}
