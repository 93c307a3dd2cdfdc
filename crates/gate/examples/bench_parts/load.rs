//! The load: keep-alive connections that ask again as soon as they are answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

const REQUEST: &[u8] = b"GET /page?turn=7 HTTP/1.1\r\nHost: game.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101\r\nAccept: text/html,application/xhtml+xml,*/*;q=0.8\r\nAccept-Language: fr,en;q=0.5\r\nAccept-Encoding: identity\r\nCookie: PHPSESSID=0123456789abcdef0123456789\r\n\r\n";
/// The first part of a run is not measured.
const WARM_UP: Duration = Duration::from_millis(300);

/// One run.
pub struct Measured {
    pub per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub cpu_us: f64,
}

/// Asks over `connections` for `time`; every answer must have `status`.
pub fn load(
    address: SocketAddr,
    connections: usize,
    time: Duration,
    status: u16,
    cpu: impl Fn() -> Duration,
) -> Measured {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let from = Instant::now() + WARM_UP;
        let to = from + time;
        let players: Vec<_> =
            (0..connections).map(|_| tokio::spawn(player(address, from, to, status))).collect();
        tokio::time::sleep_until(from.into()).await;
        let before = cpu();
        tokio::time::sleep_until(to.into()).await;
        let used = cpu() - before;
        let mut delays = Vec::new();
        for player in players {
            delays.extend(player.await.unwrap());
        }
        delays.sort_unstable();
        let count = u32::try_from(delays.len()).unwrap();
        assert!(count > 0, "no answer at {address}");
        let at = |share: f64| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let index = (f64::from(count - 1) * share) as usize;
            delays[index].as_secs_f64() * 1_000.0
        };
        Measured {
            per_s: f64::from(count) / time.as_secs_f64(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            cpu_us: used.as_secs_f64() * 1_000_000.0 / f64::from(count),
        }
    })
}

async fn player(address: SocketAddr, from: Instant, to: Instant, status: u16) -> Vec<Duration> {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let expected = format!("HTTP/1.1 {status} ");
    let (mut delays, mut buffer) = (Vec::new(), Vec::with_capacity(64 * 1_024));
    let mut request = REQUEST.to_vec();
    loop {
        let asked = Instant::now();
        if asked >= to {
            return delays;
        }
        if stream.write_all(&request).await.is_err() {
            stream = tokio::net::TcpStream::connect(address).await.unwrap();
            continue;
        }
        buffer.clear();
        let whole = loop {
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                break false;
            }
            if let Some(size) = size_of(&buffer)
                && buffer.len() >= size
            {
                break true;
            }
        };
        if !whole {
            // A proxy may end a connection after so many requests; the next one is another.
            stream = tokio::net::TcpStream::connect(address).await.unwrap();
            continue;
        }
        let text = String::from_utf8_lossy(&buffer[..buffer.len().min(60)]);
        assert!(buffer.starts_with(expected.as_bytes()), "{address}: {text}");
        if request.len() == REQUEST.len()
            && let Some(cookie) = cookie_of(&buffer)
        {
            // As a browser: what was set once is sent from then on.
            request.truncate(REQUEST.len() - b"\r\n\r\n".len());
            request.extend_from_slice(format!("; {cookie}\r\n\r\n").as_bytes());
        }
        if asked >= from {
            delays.push(asked.elapsed());
        }
    }
}

/// The first cookie that an answer sets, as `name=value`.
fn cookie_of(answer: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(answer);
    let head = text.split("\r\n\r\n").next()?;
    let set = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("set-cookie").then_some(value)
    })?;
    Some(set.split(';').next()?.to_owned())
}

/// Head and body together, once the head is there.
fn size_of(answer: &[u8]) -> Option<usize> {
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&answer[..head]).unwrap().to_ascii_lowercase();
    let length = text.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split('\r').next());
    Some(head + length.map_or(0, |length| length.trim().parse::<usize>().unwrap()))
}

/// Connections that had one answer and say nothing more.
pub fn idle(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let held = ask(address, count);
    for mut stream in &held {
        let mut buffer = Vec::new();
        while size_of(&buffer).is_none_or(|size| buffer.len() < size) {
            let mut piece = [0; 4_096];
            let got = stream.read(&mut piece).unwrap();
            assert!(got > 0, "{address} ended an idle connection");
            buffer.extend_from_slice(&piece[..got]);
        }
    }
    held
}

/// Connections that have asked once.
pub fn ask(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let one = |_| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(REQUEST).unwrap();
        stream
    };
    (0..count).map(one).collect()
}

/// How many of them are answered by the game.
pub fn answers(held: Vec<TcpStream>) -> usize {
    let answered = |mut stream: TcpStream| {
        let mut start = [0; 12];
        stream.read_exact(&mut start).is_ok() && start.starts_with(b"HTTP/1.1 200")
    };
    held.into_iter().map(answered).filter(|answered| *answered).count()
}

/// Waits for something.
pub fn until<T>(mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::sleep(Duration::from_millis(20));
    }
}
