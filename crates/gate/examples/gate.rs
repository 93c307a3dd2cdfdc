//! A gate as a process of its own, for tests: `gate <configuration.json>`.
//!
//! Prints `ready <address>` when players can connect, and ends on SIGTERM.

use std::error::Error;
use std::io::Write;

use tokio::signal::unix::{SignalKind, signal};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: gate <configuration.json>")?;
    let config = serde_json::from_slice(&std::fs::read(path)?)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let ready = |address| {
            let mut out = std::io::stdout();
            // Whoever started this sees a closed pipe itself.
            let _ = writeln!(out, "ready {address}").and_then(|()| out.flush());
        };
        entracte_gate::run(config, ready, terminate.recv()).await?;
        Ok(())
    })
}
