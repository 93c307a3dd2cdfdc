//! Counts and gauges in Prometheus' text format, on the control socket and on an address.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use entracte_model::gate::Phase;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::core::Core;

const ACCEPT_PAUSE_MS: u64 = 50;
/// How long a collector may take for one question.
const ASK_MS: u64 = 5_000;
const ASK_BYTES_MAX: usize = 8 * 1_024;

/// Everything, as text.
pub(crate) fn text(core: &Core) -> String {
    let (totals, status) = (core.totals(), core.status(core.pool.last_reached()));
    let sum = &totals.sum;
    let mut out = String::with_capacity(8 * 1_024);
    let mut metric = |name: &str, kind: &str, help: &str, values: &[(String, f64)]| {
        // A text takes every write.
        let _ =
            write!(out, "# HELP entracte_gate_{name} {help}\n# TYPE entracte_gate_{name} {kind}\n");
        for (labels, value) in values {
            let _ = writeln!(out, "entracte_gate_{name}{labels} {value}");
        }
    };
    let plain = |value: u64| [(String::new(), float(value))];
    let counter = "counter";
    metric("requests_total", counter, "Players' requests for the game.", &plain(sum.requests));
    let classes =
        (1..6).map(|class| (format!("{{class=\"{class}xx\"}}"), float(totals.by_class[class])));
    metric("game_answers_total", counter, "Answers of the game.", &classes.collect::<Vec<_>>());
    metric(
        "gate_answers_total",
        counter,
        "Pages of the gate in the game's place.",
        &plain(sum.gate_answers),
    );
    metric(
        "unreachable_total",
        counter,
        "Requests that the game gave no answer to.",
        &plain(sum.unreachable),
    );
    metric(
        "abandoned_total",
        counter,
        "Requests whose client left before the answer.",
        &plain(sum.abandoned),
    );
    metric(
        "retries_total",
        counter,
        "Requests sent again, or connections tried again.",
        &plain(sum.retries),
    );
    metric("parked_total", counter, "Requests that were parked.", &plain(sum.parked));
    metric(
        "overflow_total",
        counter,
        "Requests that found no place to be parked.",
        &plain(sum.overflow),
    );
    metric(
        "new_sessions_total",
        counter,
        "Sessions seen for the first time.",
        &plain(sum.new_sessions),
    );
    metric("logins_total", counter, "Logins that the game answered below 400.", &plain(sum.logins));
    metric(
        "login_errors_total",
        counter,
        "Logins that failed with 5xx or without an answer.",
        &plain(sum.login_errors),
    );
    let lost = core.log.as_ref().map_or(0, crate::access_log::AccessLog::lost);
    metric(
        "access_log_lost_total",
        counter,
        "Lines of the access log lost to a slow disk.",
        &plain(lost),
    );
    let gauge = "gauge";
    let connections = core.connections.load(Ordering::Relaxed);
    metric("connections", gauge, "Connections of clients.", &plain(connections));
    metric("in_flight", gauge, "Players' requests in the game.", &plain(status.in_flight));
    metric("tunnels", gauge, "Of these, WebSockets.", &plain(status.tunnels));
    metric(
        "testers_in_flight",
        gauge,
        "Testers' requests in the game.",
        &plain(status.testers_in_flight),
    );
    metric("parked", gauge, "Requests parked now.", &plain(status.parked));
    metric("waiting", gauge, "Newcomers in the waiting room.", &plain(status.waiting));
    metric(
        "admission_per_second",
        gauge,
        "Newcomers let in, a second.",
        &[(String::new(), status.admission_per_s)],
    );
    metric(
        "sessions_in",
        gauge,
        "Sessions seen in the last five minutes.",
        &plain(status.sessions_in),
    );
    metric(
        "players_left",
        gauge,
        "Players who have not left while draining.",
        &plain(status.players_left),
    );
    let phases = Phase::ALL.map(|phase| {
        (format!("{{phase=\"{phase}\"}}"), if phase == status.phase { 1.0 } else { 0.0 })
    });
    metric("phase", gauge, "1 for the phase of the gate.", &phases);
    metric("generation", gauge, "The generation of the goal.", &plain(status.generation));
    metric(
        "game_reachable",
        gauge,
        "The game took the last connection.",
        &plain(u64::from(status.upstream_ok)),
    );
    metric("alarm", gauge, "An operator has to look.", &plain(u64::from(status.alarm.is_some())));
    latency(&mut out, &sum.latency_ms_log2, totals.latency_ms, sum.completed);
    out
}

/// Buckets by powers of two: bucket n ends below 2^n milliseconds.
fn latency(out: &mut String, buckets: &[u64], sum_ms: u64, count: u64) {
    let name = "entracte_gate_latency_seconds";
    let _ = write!(
        out,
        "# HELP {name} From the request to the head of the game's answer, parked time left out.\n\
         # TYPE {name} histogram\n"
    );
    let mut below = 0;
    for (n, in_bucket) in (0u32..).zip(buckets.iter().take(buckets.len().saturating_sub(1))) {
        below += in_bucket;
        let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {below}", float(1 << n) / 1_000.0);
    }
    let _ = write!(
        out,
        "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {}\n{name}_count {count}\n",
        float(sum_ms) / 1_000.0
    );
}

/// Counts here stay below 2^53, up to which a float is exact.
#[allow(clippy::cast_precision_loss)]
fn float(n: u64) -> f64 {
    n as f64
}

/// Answers collectors, any path, until dropped.
pub(crate) async fn serve(core: Arc<Core>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(core.config.limits.metrics_clients_max.max(1)));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let core = Arc::clone(&core);
                tokio::spawn(async move {
                    let _permit = permit;
                    // A collector that breaks off asks again.
                    let _ = timeout(Duration::from_millis(ASK_MS), answer(&core, stream)).await;
                });
            }
            Err(_) => sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await,
        }
    }
}

async fn answer(core: &Core, mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > ASK_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let text = text(core);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
