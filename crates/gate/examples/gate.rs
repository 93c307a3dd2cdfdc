//! A gate as a process of its own, for tests: `gate <configuration.json> [--take-over]`.
//!
//! Prints `ready <address>` when players can connect, and ends on SIGTERM. SIGHUP and SIGUSR2 do
//! what they do in `entracte gate serve`.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use entracte_gate::{Order, Place, Successor};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let path = args.next().ok_or("usage: gate <configuration.json> [--take-over]")?;
    let take_over = args.next().is_some_and(|arg| arg == "--take-over");
    let config = serde_json::from_slice(&std::fs::read(&path)?)?;
    let threads =
        std::env::var("GATE_THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    // Tests put another program in its place by this variable.
    let program = std::env::var_os("GATE_SUCCESSOR").map(Into::into);
    let program = program.map_or_else(std::env::current_exe, Ok)?;
    let successor = Some(Successor { program, args: vec![path, "--take-over".into()] });
    if let Some(path) = std::env::var_os("GATE_CLOCK") {
        std::thread::spawn(move || follow_clock(&path.into()));
    }
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let (mut hang_up, mut user2) =
            (signal(SignalKind::hangup())?, signal(SignalKind::user_defined2())?);
        let (give, orders) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let order = tokio::select! {
                    _ = hang_up.recv() => Order::Reload,
                    _ = user2.recv() => Order::Upgrade,
                };
                if give.send(order).await.is_err() {
                    return;
                }
            }
        });
        let ready = |address| {
            let mut out = std::io::stdout();
            // Whoever started this sees a closed pipe itself.
            let _ = writeln!(out, "ready {address}").and_then(|()| out.flush());
        };
        let place = Place { take_over, successor, orders: Some(orders) };
        entracte_gate::run_at(config, place, ready, terminate.recv()).await?;
        Ok(())
    })
}

/// Sets the wall clock off by the milliseconds in a file, and says so in another one beside it.
fn follow_clock(path: &PathBuf) {
    loop {
        if let Ok(text) = std::fs::read_to_string(path)
            && let Ok(off_ms) = text.trim().parse()
        {
            entracte_gate::WALL_CLOCK_OFF_MS.store(off_ms, Ordering::SeqCst);
            // The test waits for it, and fails where it does not come.
            let _ = std::fs::write(path.with_extension("followed"), text);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
