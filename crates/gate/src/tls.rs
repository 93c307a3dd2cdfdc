//! TLS by a certificate file and a key file, read again when they change.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::GateError;

/// The certificate in use, and where it comes from.
#[derive(Debug)]
pub(crate) struct Tls {
    cert: PathBuf,
    key: PathBuf,
    used: RwLock<(Arc<ServerConfig>, Stamp)>,
}

/// When the two files were last changed.
type Stamp = [Option<SystemTime>; 2];

impl Tls {
    /// Reads both files; a gate that was told to speak TLS does not start without.
    pub(crate) fn load(cert: PathBuf, key: PathBuf) -> Result<Self, GateError> {
        let stamp = stamp(&cert, &key);
        let config = read(&cert, &key)?;
        Ok(Self { cert, key, used: RwLock::new((config, stamp)) })
    }

    /// What new connections use.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.used.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Takes changed files into use. Files that do not fit (half of a renewal) leave the old
    /// certificate in use; what is wrong is told once for each change.
    pub(crate) fn refresh(&self) -> Result<(), GateError> {
        let now = stamp(&self.cert, &self.key);
        if now == self.used.read().unwrap_or_else(PoisonError::into_inner).1 {
            return Ok(());
        }
        let read = read(&self.cert, &self.key);
        let mut used = self.used.write().unwrap_or_else(PoisonError::into_inner);
        used.1 = now;
        used.0 = read?;
        Ok(())
    }
}

fn stamp(cert: &PathBuf, key: &PathBuf) -> Stamp {
    [cert, key].map(|path| path.metadata().and_then(|about| about.modified()).ok())
}

fn read(cert: &PathBuf, key: &PathBuf) -> Result<Arc<ServerConfig>, GateError> {
    // The parser's own messages are left out where they could quote a key.
    let bad = |path: &PathBuf, problem: String| GateError::Tls { path: path.clone(), problem };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad(cert, format!("no PEM certificates: {error}")))?;
    if chain.is_empty() {
        return Err(bad(cert, "it holds no PEM certificate".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|_| bad(key, "it holds no PEM private key that can be read".to_owned()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(cert, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| bad(cert, format!("it cannot be used with this key: {error}")))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new().map_err(|error| bad(key, error.to_string()))?;
    Ok(Arc::new(config))
}
