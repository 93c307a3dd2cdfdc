//! Pages that are the same for everybody for a moment, rendered once in that moment.
//!
//! While a game is closed its players ask all the time, and a page must cost less than the answer
//! that it stands for. A page says how long it still takes, so it is kept for a part of a second
//! only; and several are kept, each with its own time to come back, so that those who got the same
//! one are not all sent back in the same second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use entracte_model::gate::PageKind;
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};

use crate::body::Answer;

/// How long a page is kept.
const KEPT_MS: u64 = 250;
/// How many of the same kind are kept, each with its own time to come back.
const TWINS: usize = 8;
/// How many are kept in all; wishes for languages that nobody else has are not worth more.
const PAGES_MAX: usize = 256;

/// What a page depends on, besides the moment and the state of the gate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    kind: PageKind,
    html: bool,
    accept_language: String,
    twin: usize,
}

#[derive(Debug)]
struct Kept {
    /// How many states were in force before the page's.
    acts: u64,
    made: Instant,
    head: HeaderMap,
    body: Bytes,
}

/// The kept pages, bounded.
#[derive(Debug, Default)]
pub(crate) struct KeptPages {
    pages: Mutex<HashMap<Key, Kept>>,
    turn: AtomicUsize,
}

impl KeptPages {
    /// The page of this moment; `render` makes its head and body where none is kept.
    pub(crate) fn get(
        &self,
        kind: PageKind,
        html: bool,
        accept_language: &str,
        acts: u64,
        render: impl FnOnce() -> (HeaderMap, Bytes),
    ) -> Response<Answer> {
        let twin = self.turn.fetch_add(1, Ordering::Relaxed) % TWINS;
        let key = Key { kind, html, accept_language: accept_language.to_owned(), twin };
        let now = Instant::now();
        let limit = Duration::from_millis(KEPT_MS);
        let fresh =
            |kept: &Kept| kept.acts == acts && now.saturating_duration_since(kept.made) < limit;
        let found = {
            let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
            let found = pages.get(&key).filter(|kept| fresh(kept));
            found.map(|kept| (kept.head.clone(), kept.body.clone()))
        };
        let (head, body) = found.unwrap_or_else(|| {
            let (head, body) = render();
            let kept = Kept { acts, made: now, head: head.clone(), body: body.clone() };
            let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
            if pages.len() >= PAGES_MAX {
                pages.retain(|_, kept| fresh(kept));
            }
            if pages.len() < PAGES_MAX {
                pages.insert(key, kept);
            }
            (head, body)
        });
        let mut response = Response::new(Answer::whole(body));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        *response.headers_mut() = head;
        response
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_page_is_made_once_a_moment_for_each_kind_and_anew_for_another_state() {
        let (pages, made) = (KeptPages::default(), Cell::new(0));
        let get = |language: &str, acts: u64| {
            pages.get(PageKind::Closed, true, language, acts, || {
                made.set(made.get() + 1);
                (HeaderMap::new(), Bytes::from_static(b"page"))
            })
        };
        for _ in 0..10 * TWINS {
            assert_eq!(get("en", 1).status(), StatusCode::SERVICE_UNAVAILABLE);
        }
        // On a very slow machine the moment can pass meanwhile.
        assert!((TWINS..10 * TWINS).contains(&made.get()), "{}", made.get());
        for expected in [("fr", 1), ("en", 2)] {
            let before = made.get();
            get(expected.0, expected.1);
            assert_eq!(made.get(), before + 1, "{expected:?}");
        }
    }

    #[test]
    fn strange_wishes_fill_no_memory() {
        let pages = KeptPages::default();
        for n in 0..2 * PAGES_MAX {
            let render = || (HeaderMap::new(), Bytes::new());
            pages.get(PageKind::Closed, true, &n.to_string(), 1, render);
        }
        assert!(pages.pages.lock().unwrap().len() <= PAGES_MAX);
    }
}
