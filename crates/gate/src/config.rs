//! What a gate is told when it starts.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use entracte_model::gate::LoginRule;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::GateError;
use crate::limits::Limits;
use crate::tls::Tls;

/// The configuration of a gate.
#[derive(Clone, Deserialize, Serialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct GateConfig {
    /// Where players connect. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where the game answers.
    pub upstream: Upstream,
    /// The gate's own folder (made with mode 0700): state, keys, sessions, bins.
    pub state_dir: PathBuf,
    /// The control socket; its folder is made with mode 0700 if it is not there.
    pub control_socket: PathBuf,
    /// Which requests are logins: `"POST /login.php"`, `"/register*"`.
    #[serde(default)]
    pub login: Vec<String>,
    /// The game's session cookies, by name (`PHPSESSID`).
    #[serde(default)]
    pub session_cookies: Vec<String>,
    /// Paths of health checks, answered 200 by the gate while the game is closed.
    #[serde(default)]
    pub health_paths: Vec<String>,
    /// A folder served read-only under `/_entracte/news/`.
    #[serde(default)]
    pub news_dir: Option<PathBuf>,
    /// Languages of the pages, the first one being the default. Empty: English and French.
    #[serde(default)]
    pub languages: Vec<String>,
    /// The game's name, as players know it.
    #[serde(default)]
    pub game_name: String,
    /// Proxies before the gate whose forwarded headers are believed: addresses or networks
    /// (`"127.0.0.1"`, `"10.0.0.0/8"`).
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
    /// A log of requests in the combined format. Queries are left out: they can hold secrets.
    #[serde(default)]
    pub access_log: Option<PathBuf>,
    /// A PEM file with the certificate and its chain. With it, players connect by TLS.
    #[serde(default)]
    pub tls_cert: Option<PathBuf>,
    /// A PEM file with the certificate's private key.
    #[serde(default)]
    pub tls_key: Option<PathBuf>,
    /// Where metrics are served besides the control socket; best an address of this machine only.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// Puts the widget's script tag into the game's HTML pages (uncompressed ones only).
    #[serde(default)]
    pub inject_widget: bool,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
}

/// Where the game answers: `host:port`, or `unix:/path/to/socket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// A TCP address; the name is looked up at each new connection.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl FromStr for Upstream {
    type Err = GateError;

    fn from_str(text: &str) -> Result<Self, GateError> {
        let bad = || GateError::Config {
            key: "upstream",
            expected: "host:port or unix:/path",
            found: text.chars().take(80).collect(),
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(bad()) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().map_err(|_| bad())?;
        if host.is_empty() || host.contains('/') {
            return Err(bad());
        }
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for Upstream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A network of addresses that are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    base: IpAddr,
    bits: u32,
}

impl Network {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let shift = 32 - self.bits;
                u64::from(u32::from(base)) >> shift == u64::from(u32::from(address)) >> shift
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let (base, address) = (u128::from(base), u128::from(address));
                base.checked_shr(128 - self.bits) == address.checked_shr(128 - self.bits)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = GateError;

    fn from_str(text: &str) -> Result<Self, GateError> {
        let bad = || GateError::Config {
            key: "trusted_proxies",
            expected: "an address like 127.0.0.1 or a network like 10.0.0.0/8",
            found: text.chars().take(80).collect(),
        };
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits.parse::<u32>().map_err(|_| bad())?)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| bad())?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        match bits.unwrap_or(width) {
            bits if bits <= width => Ok(Self { base, bits }),
            _ => Err(bad()),
        }
    }
}

/// What is parsed out of the configuration once.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) login: Vec<LoginRule>,
    pub(crate) trusted: Vec<Network>,
}

impl GateConfig {
    /// The certificate, where one is configured: both files or none.
    pub(crate) fn tls(&self) -> Result<Option<Tls>, GateError> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Tls::load(cert.clone(), key.clone()).map(Some),
            (None, None) => Ok(None),
            (Some(lonely), None) | (None, Some(lonely)) => Err(GateError::Config {
                key: "tls_cert",
                expected: "tls_cert and tls_key together",
                found: lonely.display().to_string(),
            }),
        }
    }
}

impl Parsed {
    pub(crate) fn of(config: &GateConfig) -> Result<Self, GateError> {
        let login = config.login.iter().map(|rule| {
            rule.parse::<LoginRule>().map_err(|bad| GateError::Config {
                key: "login",
                expected: "rules like \"POST /login.php\" or \"/register*\"",
                found: bad.found,
            })
        });
        Ok(Self {
            login: login.collect::<Result<_, _>>()?,
            trusted: config
                .trusted_proxies
                .iter()
                .map(|text| text.parse())
                .collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_read_and_written_alike() {
        for text in ["127.0.0.1:8080", "game.internal:80", "[::1]:80", "unix:/run/game.sock"] {
            assert_eq!(text.parse::<Upstream>().unwrap().to_string(), text);
        }
        for text in ["", "8080", "host:", ":80", "unix:relative", "http://host:80", "host:99999"] {
            assert!(text.parse::<Upstream>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn networks_hold_their_addresses_only() {
        let inside = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        assert!(inside("10.0.0.0/8", "10.200.3.4"));
        assert!(!inside("10.0.0.0/8", "11.0.0.1"));
        assert!(inside("127.0.0.1", "127.0.0.1"));
        assert!(!inside("127.0.0.1", "127.0.0.2"));
        assert!(inside("0.0.0.0/0", "8.8.8.8"));
        assert!(inside("127.0.0.1", "::ffff:127.0.0.1"));
        assert!(inside("fd00::/8", "fd12::1"));
        assert!(inside("::/0", "fd12::1"));
        assert!(!inside("::1", "127.0.0.1"));
        assert!("10.0.0.0/33".parse::<Network>().is_err());
    }
}
