//! `entracte run`: one release, one process, detached from whoever asked for it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use entracte_model::plan::ReleaseId;
use entracte_release::{Ended, EngineError, Wishes};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::App;
use crate::exit::{Exit, Failure, of_outcome, question};

/// Carry out a planned release (started by deploy, rollback, resume and abort)
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The release
    #[arg(long)]
    release: ReleaseId,
    /// Take it back, if players are not in yet
    #[arg(long)]
    abort: bool,
    /// Try again what could not be undone
    #[arg(long)]
    retry: bool,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    // A session of its own: a closed terminal or a lost connection reaches it no more. It fails
    // only where this process leads a session already, which is as good.
    let _ = rustix::process::setsid();
    let (_, target, store) = app.production()?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let wishes = Wishes { abort: args.abort, retry: args.retry };
    match entracte_release::run(&target, args.release, wishes, &stop) {
        Ok(Ended::Finished(outcome)) => {
            let plan = store.release(args.release)?.plan;
            Ok(of_outcome(&outcome, &plan, &store.entries(args.release, 0)?))
        }
        Ok(Ended::Asked(asked)) => Err(question(&asked)),
        Err(error @ EngineError::Busy(_)) => {
            Err(Failure { exit: Exit::Busy, ..Failure::from(error) })
        }
        Err(error) => Err(error.into()),
    }
}
