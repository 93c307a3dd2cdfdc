//! A relay on loopback that cuts connections at bytes of its choice, in both directions.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// How much is passed on at once: small, so that cuts lie anywhere.
const PIECE: usize = 1 << 10;
/// A budget that is never used up.
const ENDLESS: i64 = i64::MAX / 2;

/// How many bytes the next connection passes on, counted in both directions, before it is cut.
pub type Budgets = Box<dyn FnMut() -> Option<u64> + Send>;

/// The connections that were passed on and not cut by hand: both ends of each.
type Open = Arc<Mutex<Vec<[TcpStream; 2]>>>;

/// The running relay.
pub struct Relay {
    /// The port of 127.0.0.1 that it listens on.
    pub port: u16,
    cuts: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    open: Open,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Passes connections on to `to`. Each asks `budgets` for how long it lives; nothing is for ever.
    ///
    /// # Panics
    /// Where no port can be had.
    pub fn start(to: u16, mut budgets: Budgets) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
        let port = listener.local_addr().expect("it is bound").port();
        let (cuts, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (connections, open) = (Arc::new(AtomicUsize::new(0)), Open::default());
        let (counted, ended) = (Arc::clone(&cuts), Arc::clone(&stop));
        let (met, kept) = (Arc::clone(&connections), Arc::clone(&open));
        let thread = thread::spawn(move || {
            for near in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(near) = near else { continue };
                let Ok(far) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], to))) else {
                    continue;
                };
                let budget = budgets().and_then(|bytes| i64::try_from(bytes).ok());
                let budget = Arc::new(AtomicI64::new(budget.unwrap_or(ENDLESS)));
                pass(&near, &far, &budget, &counted);
                pass(&far, &near, &budget, &counted);
                kept.lock().unwrap_or_else(PoisonError::into_inner).push([near, far]);
                met.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { port, cuts, connections, open, stop, thread: Some(thread) }
    }

    /// How many connections were passed on so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Cuts every connection that is open now.
    pub fn cut(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for end in open.drain(..).flatten() {
            // One that ended by itself needs no cut.
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// How many connections used their bytes up so far.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // The listener wakes up for one more connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn pass(from: &TcpStream, into: &TcpStream, budget: &Arc<AtomicI64>, cuts: &Arc<AtomicUsize>) {
    let (Ok(mut from), Ok(mut into)) = (from.try_clone(), into.try_clone()) else { return };
    let (budget, cuts) = (Arc::clone(budget), Arc::clone(cuts));
    thread::spawn(move || {
        let mut piece = [0; PIECE];
        while let Ok(read @ 1..) = from.read(&mut piece) {
            let length = i64::try_from(read).unwrap_or(0);
            let before = budget.fetch_sub(length, Ordering::SeqCst);
            let may = usize::try_from(before.clamp(0, length)).unwrap_or(0);
            if into.write_all(&piece[..may]).is_err() {
                break;
            }
            if may < read {
                // Only one of the two directions goes beyond the last byte, which may have been the
                // last one of a piece.
                if before >= 0 {
                    cuts.fetch_add(1, Ordering::SeqCst);
                }
                break;
            }
        }
        // Both directions, at once: as where a cable is pulled and a firewall answers.
        let _ = from.shutdown(Shutdown::Both);
        let _ = into.shutdown(Shutdown::Both);
    });
}
