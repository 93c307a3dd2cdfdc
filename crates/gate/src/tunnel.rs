//! A WebSocket through the gate: bytes both ways, cut politely when the gate closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{sleep, timeout};

use crate::core::{Core, elapsed_ms};
use crate::in_flight::InFlight;
use crate::tokens::jitter01;

/// "Service restart" (RFC 6455, 7.4, and the registry of close codes), unmasked as servers send it.
const CLOSE_SERVICE_RESTART: [u8; 4] = [0x88, 0x02, 0x03, 0xF4];
/// How long the game may take to finish a frame before the tunnel is cut inside it.
const BORDER_MS: u64 = 1_000;
/// How long the close frame may take to be sent.
const FAREWELL_MS: u64 = 500;
const BUFFER_BYTES: usize = 16 * 1024;

type Reader = ReadHalf<TokioIo<Upgraded>>;
type Writer = WriteHalf<TokioIo<Upgraded>>;

/// Follows the frames of one direction (RFC 6455, 5.2), to know where one ends.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// What is read of the present frame's head.
    head: Vec<u8>,
    /// What is missing of its payload.
    payload_left: u64,
}

impl Frames {
    /// True between two frames.
    pub(crate) fn at_border(&self) -> bool {
        self.head.is_empty() && self.payload_left == 0
    }

    /// Takes in the next bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let step =
                    usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
                self.payload_left -= u64::try_from(step).unwrap_or(u64::MAX);
                bytes = &bytes[step..];
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if let Some(payload) = payload_of(&self.head) {
                self.payload_left = payload;
                self.head.clear();
            }
        }
    }
}

/// The payload's length, once the head is complete.
fn payload_of(head: &[u8]) -> Option<u64> {
    let second = *head.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let short = second & 0x7f;
    let extended = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    if head.len() < 2 + extended + mask {
        return None;
    }
    let bytes = head.get(2..2 + extended)?;
    let long = bytes.iter().fold(0u64, |length, byte| length << 8 | u64::from(*byte));
    Some(if extended == 0 { u64::from(short) } else { long })
}

/// Carries bytes until one side ends, both say nothing for long, or the gate closes.
pub(crate) async fn run(core: Arc<Core>, client: OnUpgrade, game: OnUpgrade, guard: InFlight) {
    let (Ok(client), Ok(game)) = tokio::join!(client, game) else { return };
    let (client_in, mut client_out) = tokio::io::split(TokioIo::new(client));
    let (game_in, mut game_out) = tokio::io::split(TokioIo::new(game));
    let limits = &core.config.limits;
    let last = Activity {
        start: Instant::now(),
        at_ms: AtomicU64::new(0),
        limit_ms: limits.tunnel_idle_ms,
    };
    let cut = async {
        let mut phase = core.phase.subscribe();
        // The sender lives as long as the gate.
        let _ = phase.wait_for(|phase| phase.is_fenced() && !guard.is_tester()).await;
        let spread = Duration::from_millis(limits.tunnel_close_spread_ms);
        sleep(spread.mul_f64(jitter01())).await;
    };
    let stopping = async {
        let mut stop = core.stop.subscribe();
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let cut = async {
        tokio::select! { () = cut => {} () = stopping => {} }
    };
    let up = pump(client_in, &mut game_out, &last);
    let down = down(game_in, &mut client_out, &last, cut);
    tokio::select! { () = up => {} () = down => {} () = last.idle() => {} }
    // Both ends are told; whether they still listen does not matter.
    let ends = async {
        let _ = tokio::join!(client_out.shutdown(), game_out.shutdown());
    };
    let _ = timeout(Duration::from_millis(FAREWELL_MS), ends).await;
}

/// When bytes last passed in either direction.
struct Activity {
    start: Instant,
    at_ms: AtomicU64,
    limit_ms: u64,
}

impl Activity {
    fn note(&self) {
        self.at_ms.store(elapsed_ms(self.start), Ordering::Relaxed);
    }

    async fn idle(&self) {
        loop {
            let quiet_ms =
                elapsed_ms(self.start).saturating_sub(self.at_ms.load(Ordering::Relaxed));
            match self.limit_ms.checked_sub(quiet_ms).filter(|left| *left > 0) {
                Some(left_ms) => sleep(Duration::from_millis(left_ms)).await,
                None => return,
            }
        }
    }
}

async fn pump(mut from: Reader, to: &mut Writer, last: &Activity) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        last.note();
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// From the game to the client, with a close frame between two frames when the gate cuts.
async fn down(
    mut game: Reader,
    client: &mut Writer,
    last: &Activity,
    cut: impl Future<Output = ()>,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut frames = Frames::default();
    tokio::pin!(cut);
    loop {
        tokio::select! {
            biased;
            () = &mut cut => break,
            read = game.read(&mut buffer) => {
                let Ok(count @ 1..) = read else { return };
                last.note();
                frames.feed(&buffer[..count]);
                if client.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
    let to_border = async {
        while !frames.at_border() {
            let Ok(count @ 1..) = game.read(&mut buffer).await else { return };
            frames.feed(&buffer[..count]);
            if client.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    let _ = timeout(Duration::from_millis(BORDER_MS), to_border).await;
    if frames.at_border() {
        let farewell = client.write_all(&CLOSE_SERVICE_RESTART);
        let _ = timeout(Duration::from_millis(FAREWELL_MS), farewell).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_are_found_whatever_the_length_and_the_cuts() {
        let mut stream = vec![0x81, 5];
        stream.extend([b'a'; 5]);
        let first = stream.len();
        stream.extend([0x82, 126, 0x01, 0x00]);
        stream.extend([7; 256]);
        let second = stream.len();
        stream.extend([0x82, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0, 9, 9, 9, 9]);
        stream.extend(vec![1; 65_536]);
        let third = stream.len();
        stream.extend([0x89, 0]);
        let borders = [0, first, second, third, stream.len()];
        for step in [1, 2, 3, 7, 1_000, 100_000] {
            let mut frames = Frames::default();
            let mut at = 0;
            for chunk in stream.chunks(step) {
                frames.feed(chunk);
                at += chunk.len();
                assert_eq!(frames.at_border(), borders.contains(&at), "at {at}, steps of {step}");
            }
        }
    }
}
