//! One HTTP request, and what its end means.

use std::io::ErrorKind;
use std::time::Duration;

use ureq::Timeout;

use super::Sent;

/// The most of an answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// The pause where a 429 does not say how long.
const RETRY_AFTER_DEFAULT_MS: u64 = 60_000;

/// A request with a JSON body.
pub(super) struct Request<'a> {
    pub(super) method: &'static str,
    pub(super) url: &'a str,
    pub(super) headers: &'a [(&'static str, String)],
    pub(super) body: &'a [u8],
    /// Whether the other side takes the same request twice as once.
    pub(super) idempotent: bool,
}

/// The answer to a request that was understood.
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
}

impl Request<'_> {
    /// Sends it once. `Err` holds how the attempt ended where it was not taken.
    pub(super) fn send(&self, timeout: Duration) -> Result<Answer, Sent> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A place that moved is told to the operator: following would post to whoever has the name now.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // The environment is not this crate's to read.
            .proxy(None)
            .timeout_global(Some(timeout))
            .user_agent(concat!("entracte/", env!("CARGO_PKG_VERSION")))
            .build();
        let agent = config.new_agent();
        let mut request = ureq::http::Request::builder()
            .method(self.method)
            .uri(self.url)
            .header("content-type", "application/json");
        for (name, value) in self.headers {
            request = request.header(*name, value);
        }
        // The error may repeat the address, which may hold a secret.
        let bad_request = |_| Sent::Dead {
            why: "the address or the message's id cannot stand in a request".to_owned(),
        };
        let request = request.body(self.body).map_err(bad_request)?;
        match agent.run(request) {
            Ok(answer) => self.judge(answer),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn judge(&self, mut answer: ureq::http::Response<ureq::Body>) -> Result<Answer, Sent> {
        let status = answer.status().as_u16();
        let header = answer
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        // The status has decided already; a body that breaks off takes nothing back.
        let read = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = read.unwrap_or_default();
        match status {
            200..300 => Ok(Answer { body }),
            429 => {
                let asked = retry_after_ms(header.as_deref(), &body);
                Err(Sent::RateLimited { retry_after_ms: asked.unwrap_or(RETRY_AFTER_DEFAULT_MS) })
            }
            // The gateway gave up waiting; what is behind it may have posted all the same.
            504 if !self.idempotent => {
                Err(Sent::Unknown { why: "it answered 504 after it had the message".to_owned() })
            }
            408 | 425 | 500.. => Err(Sent::Retry { why: format!("it answered {status}") }),
            300..=399 => Err(Sent::Dead {
                why: format!("it answered {status}: the address has moved, correct it"),
            }),
            401 | 403 => Err(Sent::Dead {
                why: format!("it answered {status}: the secret is wrong or was revoked"),
            }),
            404 | 410 => Err(Sent::Dead {
                why: format!("it answered {status}: nothing is at this address any more"),
            }),
            _ => Err(Sent::Dead {
                why: format!("it answered {status}: it does not take this message"),
            }),
        }
    }

    fn failed(&self, error: &ureq::Error) -> Sent {
        // Only what is put together here is shown: the library's own text may repeat the address.
        let (why, sent) = match error {
            ureq::Error::Timeout(Timeout::Resolve) => ("its name was not resolved in time", false),
            ureq::Error::Timeout(Timeout::Connect) => ("no connection in time", false),
            ureq::Error::Timeout(_) => ("no answer in time", true),
            ureq::Error::HostNotFound => ("its name is not known", false),
            ureq::Error::ConnectionFailed => ("no connection", false),
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => {
                ("no encrypted connection", false)
            }
            ureq::Error::Io(error) if never_connected(error.kind()) => ("no connection", false),
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                return Sent::Dead { why: "the address is none that can be posted to".to_owned() };
            }
            _ => ("the connection broke off", true),
        };
        let why = why.to_owned();
        if sent && !self.idempotent { Sent::Unknown { why } } else { Sent::Retry { why } }
    }
}

/// Errors of a connection that never was, so that nothing can have been sent over it.
fn never_connected(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable
    )
}

/// How long the other side wants to be left alone: Discord's finer figure in the body, else the
/// header, in seconds or as a date.
fn retry_after_ms(header: Option<&str>, body: &[u8]) -> Option<u64> {
    let from_body = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|json| json.get("retry_after")?.as_f64())
        .and_then(seconds_to_ms);
    let from_header = header.map(str::trim).and_then(|text| match text.parse::<u64>() {
        Ok(seconds) => seconds.checked_mul(1_000),
        Err(_) => until_ms(text),
    });
    // The longer of the two: a proxy in front may know of another limit.
    from_body.into_iter().chain(from_header).max()
}

fn seconds_to_ms(seconds: f64) -> Option<u64> {
    // Through Duration, which refuses negative, endless and impossible figures.
    Duration::try_from_secs_f64(seconds).ok().and_then(|time| u64::try_from(time.as_millis()).ok())
}

fn until_ms(date: &str) -> Option<u64> {
    let then = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let wait = then.as_millisecond() - jiff::Timestamp::now().as_millisecond();
    Some(u64::try_from(wait).unwrap_or(0))
}
