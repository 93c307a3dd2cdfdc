//! The long roles: the gate, and the daily duties.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use entracte_gate::{Order, Place, Successor};
use entracte_host::lock::{Lock, LockError, Owner};
use entracte_release::Target;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};

use crate::cli::App;
use crate::config::Config;
use crate::duties::duties;
use crate::exit::{Exit, Failure};
use crate::report::out;

/// Runs the gate until a signal ends it. SIGHUP and SIGUSR2 are orders here.
pub fn gate(config: &Config, target: &Target, take_over: bool) -> Result<Exit, Failure> {
    let stop = flag(&[SIGINT, SIGTERM])?;
    let successor = successor(take_over)?;
    run_gate(config, target, &stop, Place { take_over, successor: Some(successor), orders: None })
}

/// The same program with the same arguments, told to take over.
fn successor(was_told: bool) -> Result<Successor, Failure> {
    let program = std::env::current_exe()?;
    // Where the file was replaced while it ran, the system says so behind its name.
    let name = program.to_string_lossy();
    let program = name.strip_suffix(" (deleted)").map_or(program.clone(), PathBuf::from);
    let mut args: Vec<_> = std::env::args_os().skip(1).collect();
    if !was_told {
        args.push("--take-over".into());
    }
    Ok(Successor { program, args })
}

/// Runs the daily duties until a signal ends them.
pub fn serve(app: &App, config: &Config, target: &Target) -> Result<Exit, Failure> {
    let stop = signals()?;
    let _alone = alone(target)?;
    out::log(format!("the duties of {} are looked after", target.environment));
    std::thread::scope(|scope| {
        scope.spawn(|| dashboard(app, config, target, &stop));
        duties(app, config, target, &stop);
    });
    Ok(Exit::Done)
}

/// Runs both; the gate does not depend on the duties, and ends last.
pub fn up(app: &App, config: &Config, target: &Target) -> Result<Exit, Failure> {
    let stop = signals()?;
    let _alone = alone(target)?;
    std::thread::scope(|scope| {
        let duties = scope.spawn(|| duties(app, config, target, &stop));
        scope.spawn(|| dashboard(app, config, target, &stop));
        if target.front.is_some() {
            // The team's own server stands before the game.
            return duties.join().map(|()| Exit::Done).map_err(|_| {
                Failure::broken("the daily duties ended by a panic; its words are above")
            });
        }
        // Replaced by another process, the duties would go on in this one: no upgrade here.
        let gate = run_gate(config, target, &stop, Place::default());
        stop.store(true, Ordering::SeqCst);
        // The duties only end by `stop`; a panic in them is no reason to hide how the gate ended.
        let _ = duties.join();
        gate
    })
}

/// The lock that whoever looks after the duties of a production holds.
pub fn lock(target: &Target) -> PathBuf {
    target.state.join("serve.lock")
}

/// Duties are looked after once: two would start a planned release twice, and back up twice.
fn alone(target: &Target) -> Result<Lock, Failure> {
    std::fs::create_dir_all(&target.state)
        .map_err(|error| Failure::broken(format!("{}: {error}", target.state.display())))?;
    let path = lock(target);
    Lock::try_take(&path, &Owner::this("serve")).map_err(|error| match &error {
        LockError::Busy { .. } => {
            let holder = Lock::holder(&path).map_or(String::new(), |owner| {
                format!(" (process {} of {})", owner.pid, owner.user)
            });
            Failure::refused(format!(
                "another `entracte up` or `entracte serve` looks after {} already{holder}",
                target.environment
            ))
        }
        LockError::Io { .. } => Failure::from(error),
    })
}

/// The dashboard, where one is configured. Nothing else depends on it.
fn dashboard(app: &App, config: &Config, target: &Target, stop: &AtomicBool) {
    let listen = config.file.target.get(&target.environment).and_then(|file| file.dashboard);
    if let Some(listen) = listen
        && let Err(failure) = crate::dashboard::serve(target, listen, stop)
    {
        out::note(format!("{} the dashboard at {listen}: {failure}", app.paint.bad("error:")));
    }
}

fn signals() -> Result<Arc<AtomicBool>, Failure> {
    flag(&[SIGINT, SIGTERM, SIGHUP])
}

fn flag(signals: &[i32]) -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in signals {
        signal_hook::flag::register(*signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// SIGHUP and SIGUSR2 become orders.
fn orders() -> std::io::Result<Receiver<Order>> {
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut user2 = signal(SignalKind::user_defined2())?;
    let (give, orders) = channel(1);
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
    Ok(orders)
}

/// Tells systemd which process the service is now, where it asked to be told (`Type=notify`).
fn notify(take_over: bool) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let words = match take_over {
        true => format!("MAINPID={}\nREADY=1", std::process::id()),
        false => "READY=1".to_owned(),
    };
    let address = match path.to_str().and_then(|text| text.strip_prefix('@')) {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    // Where nobody listens, nobody waits for the word either.
    let _ = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(words.as_bytes(), &address));
}

fn run_gate(
    config: &Config,
    target: &Target,
    stop: &AtomicBool,
    mut place: Place,
) -> Result<Exit, Failure> {
    let settings = config.gate(&target.environment)?;
    std::fs::create_dir_all(target.news())?;
    let upstream = settings.upstream.to_string();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let scheme = if settings.tls_cert.is_some() { "https" } else { "http" };
    let take_over = place.take_over;
    let ready = move |address| {
        out::log(format!("the gate listens on {scheme}://{address}, the game is {upstream}"));
        notify(take_over);
    };
    let shutdown = async {
        while !stop.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    runtime.block_on(async {
        if place.successor.is_some() {
            place.orders = Some(orders()?);
        }
        entracte_gate::run_at(settings, place, ready, shutdown).await.map_err(Failure::from)
    })?;
    Ok(Exit::Done)
}
