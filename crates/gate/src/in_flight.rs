//! One request in the game. While it lives, the gate counts it.

use std::sync::Arc;
use std::time::Instant;

use crate::bins::Ended;
use crate::core::{Core, elapsed_ms};
use crate::tokens::SessionKey;
use crate::who::Who;

/// Counts a request as in flight until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    core: Arc<Core>,
    session: SessionKey,
    pub(crate) is_login: bool,
    /// The player was in when the request came.
    pub(crate) was_in: bool,
    is_tester: bool,
    is_tunnel: bool,
    began: Instant,
    counted: bool,
}

impl InFlight {
    /// Does not touch the counts itself: whoever makes it holds the lock and has raised them.
    pub(crate) fn new(core: &Arc<Core>, who: &Who, was_in: bool) -> Self {
        let mut guard = Self::released(core);
        guard.claim(who);
        guard.was_in = was_in;
        guard.is_tester = who.is_tester;
        guard
    }

    /// For a parked request, which says who it is when it takes the guard.
    pub(crate) fn released(core: &Arc<Core>) -> Self {
        Self {
            core: Arc::clone(core),
            session: [0; 16],
            is_login: false,
            was_in: false,
            is_tester: false,
            is_tunnel: false,
            began: Instant::now(),
            counted: false,
        }
    }

    /// Says who a released request is.
    pub(crate) fn claim(&mut self, who: &Who) {
        self.session = who.session;
        self.is_login = who.is_login;
    }

    /// The game began its answer.
    pub(crate) fn answered(&mut self, status: u16) {
        let latency_ms = elapsed_ms(self.began);
        self.ended(Ended::Answered { status, latency_ms });
    }

    /// The game gave no answer.
    pub(crate) fn unreachable(&mut self) {
        self.ended(Ended::Unreachable);
    }

    /// The gate answered in the game's place after all.
    pub(crate) fn turned_away(&mut self) {
        if !std::mem::replace(&mut self.counted, true) && !self.is_tester {
            self.core.count(|bin| bin.gate_answers += 1);
        }
    }

    pub(crate) fn retried(&self) {
        if !self.is_tester {
            self.core.count(|bin| bin.retries += 1);
        }
    }

    /// From now on the request is a tunnel.
    pub(crate) fn tunnel(&mut self) {
        if !self.is_tester && !std::mem::replace(&mut self.is_tunnel, true) {
            self.core.became_tunnel();
        }
    }

    pub(crate) fn is_tester(&self) -> bool {
        self.is_tester
    }

    fn ended(&mut self, how: Ended) {
        if !std::mem::replace(&mut self.counted, true) && !self.is_tester {
            self.core.ended(self.session, self.is_login, how);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.ended(Ended::Abandoned);
        self.core.leave(self.is_tester, self.is_tunnel);
    }
}
