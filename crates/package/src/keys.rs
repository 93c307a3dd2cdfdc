//! Signing keys and signatures in the format of minisign (<https://jedisct1.github.io/minisign/>).
//!
//! Only prehashed signatures are written and taken, as the ordinary `minisign -V` does by default.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use minisign::{KeyPair, SecretKey, SecretKeyBox, SignatureBones, SignatureBox};

use crate::PackageError;
use crate::error::At;
use crate::files::sync_dir;

/// The longest text that can be a key or a signature, in bytes.
pub const TEXT_BYTES_MAX: usize = 4_096;

/// A public key: the one line that begins with `RW`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKeyText(pub String);

impl fmt::Display for PublicKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number by which a key is known, written as minisign writes it: 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub u64);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

/// Why a key or a signature is not good. No message holds anything of a secret key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A key is already there.
    #[error("{} exists already; keys are never overwritten, name another file or move this one away", .0.display())]
    Exists(PathBuf),
    /// No key could be made.
    #[error("could not generate a key")]
    Generate(#[source] minisign::PError),
    /// The secret key can be read by others.
    #[error("{} can be read by others (mode {mode:o}); run `chmod 600` on it", path.display())]
    Exposed {
        /// The secret key.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The secret key is encrypted, or is no secret key.
    #[error("{} is not an unencrypted minisign secret key; `entracte init` makes one", .0.display())]
    NotASecretKey(PathBuf),
    /// The signing itself failed.
    #[error("could not sign")]
    Sign(#[source] minisign::PError),
    /// A comment that would break the form of a signature.
    #[error("a trusted comment is one line of at most 1,024 bytes")]
    Comment,
    /// One of the trusted keys is not a key.
    #[error(
        "trusted key number {0} is not a minisign public key: a line that begins with RW is expected"
    )]
    BadTrustedKey(usize),
    /// The signature is not of the form.
    #[error("the signature is not a minisign signature (four lines are expected)")]
    Malformed,
    /// A text that is not a public key.
    #[error(
        "{0:?} is not a minisign public key: a line that begins with RW is expected, or a file that holds one"
    )]
    NotAPublicKey(String),
    /// A new key that nobody vouches for.
    #[error(
        "key {0} is not signed by a key that is trusted here; `entracte key rotate` signs the new key with the old one"
    )]
    NotVouchedFor(KeyId),
    /// Signed by somebody else.
    #[error(
        "signed with key {found}, which is not trusted here (trusted: {trusted}); if it is yours, add its public key to the target"
    )]
    Untrusted {
        /// The key that signed.
        found: KeyId,
        /// The keys that would be taken.
        trusted: String,
    },
    /// Made in the old mode of minisign.
    #[error(
        "key {0} signed in the legacy mode, which is not taken; sign again with a current minisign (without -l)"
    )]
    Legacy(KeyId),
    /// The data are not what was signed.
    #[error("the signature of key {0} does not fit: the content was changed after it was signed")]
    Wrong(KeyId),
    /// The data are, but the comment is not.
    #[error("the trusted comment was edited after key {0} signed it")]
    EditedComment(KeyId),
}

/// Makes a new key. The secret half goes to `secret_path` (mode 0600, unencrypted: a machine
/// signs); the public half is given back.
///
/// A crash can cost an empty or half-written file at `secret_path`, which never signs anything.
pub fn generate(secret_path: &Path) -> Result<PublicKeyText, PackageError> {
    let pair = KeyPair::generate_unencrypted_keypair().map_err(KeyError::Generate)?;
    let text = pair.sk.to_box(Some("entracte secret key")).map_err(KeyError::Generate)?;
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(secret_path);
    let mut file = match file {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(KeyError::Exists(secret_path.to_owned()).into());
        }
        other => other.at("create", secret_path)?,
    };
    file.write_all(&text.to_bytes()).at("write", secret_path)?;
    file.sync_all().at("write", secret_path)?;
    match secret_path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent)?,
        _ => sync_dir(Path::new("."))?,
    }
    Ok(PublicKeyText(pair.pk.to_base64()))
}

/// The public half of the secret key at `secret_path`.
pub fn public(secret_path: &Path) -> Result<PublicKeyText, PackageError> {
    let secret = load(secret_path)?;
    let public = minisign::PublicKey::from_secret_key(&secret)
        .map_err(|_| KeyError::NotASecretKey(secret_path.to_owned()))?;
    Ok(PublicKeyText(public.to_base64()))
}

/// The number of a public key: its line, or the text of a `.pub` file.
pub fn id(public: &str) -> Result<KeyId, PackageError> {
    let keys = trusted_keys(&[public.to_owned()]);
    let not_a_key = || KeyError::NotAPublicKey(public.chars().take(80).collect());
    Ok(keys.ok().and_then(|keys| keys.first().map(|(id, _, _)| *id)).ok_or_else(not_a_key)?)
}

/// The line of a public key in the text of a `.pub` file.
pub fn line(text: &str) -> Result<PublicKeyText, PackageError> {
    id(text)?;
    let line = text.lines().map(str::trim).find(|line| line.starts_with("RW"));
    Ok(PublicKeyText(line.unwrap_or_default().to_owned()))
}

/// The text of a `.pub` file, as minisign writes it.
pub fn public_file(public: &PublicKeyText) -> Result<String, PackageError> {
    Ok(format!("untrusted comment: minisign public key {}\n{public}\n", id(&public.0)?))
}

/// Signs a new public key (the text of its `.pub` file) with the old secret key.
pub fn vouch(old_secret: &Path, new_public_file: &str) -> Result<String, PackageError> {
    let (old, new) = (id(&public(old_secret)?.0)?, id(new_public_file)?);
    let comment = format!("entracte key {old} vouches for key {new}");
    sign(old_secret, new_public_file.as_bytes(), &comment)
}

/// Verifies that a `trusted` key signed a new public key (the text of its `.pub` file); gives the
/// key that did.
pub fn vouched(
    trusted: &[String],
    new_public_file: &str,
    signature: &str,
) -> Result<KeyId, PackageError> {
    let new = id(new_public_file)?;
    match judge(trusted, new_public_file.as_bytes(), signature) {
        // A key that vouches for itself proves nothing.
        Ok(found) if found == new => Err(KeyError::NotVouchedFor(new).into()),
        Err(KeyError::Untrusted { .. }) => Err(KeyError::NotVouchedFor(new).into()),
        other => Ok(other?),
    }
}

/// Signs `data`. The comment is signed too: one line.
///
/// Two signatures of the same data differ (the signer mixes randomness in); both are good.
pub fn sign(
    secret_path: &Path,
    data: &[u8],
    trusted_comment: &str,
) -> Result<String, PackageError> {
    if trusted_comment.len() > 1_024 || trusted_comment.chars().any(char::is_control) {
        return Err(KeyError::Comment.into());
    }
    let secret = load(secret_path)?;
    // With the public half, the signer verifies what it signed: a damaged key is noticed here.
    let public = minisign::PublicKey::from_secret_key(&secret).map_err(KeyError::Sign)?;
    let signature = minisign::sign(
        Some(&public),
        &secret,
        Cursor::new(data),
        Some(trusted_comment.trim()),
        Some("signed by entracte"),
    )
    .map_err(KeyError::Sign)?;
    Ok(signature.into_string())
}

fn load(secret_path: &Path) -> Result<SecretKey, PackageError> {
    let file = fs::File::open(secret_path).at("open the secret key", secret_path)?;
    let mode = file.metadata().at("look at", secret_path)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: secret_path.to_owned(), mode }.into());
    }
    let mut text = String::new();
    let bytes_max = TEXT_BYTES_MAX as u64;
    file.take(bytes_max).read_to_string(&mut text).at("read the secret key", secret_path)?;
    let not_a_key = || KeyError::NotASecretKey(secret_path.to_owned());
    let boxed = SecretKeyBox::from_string(&text).map_err(|_| not_a_key())?;
    if let Ok(secret) = boxed.into_unencrypted_secret_key() {
        return Ok(secret);
    }
    Ok(without_checksum(&text).ok_or_else(not_a_key)?)
}

/// A key as `minisign -G -W` writes it: unencrypted, with zeros where the checksum would be.
fn without_checksum(text: &str) -> Option<SecretKey> {
    use base64::Engine;
    /// Two letters each for signature, key derivation (none: zeros) and checksum.
    const DERIVATION: std::ops::Range<usize> = 2..4;
    const SECRET_KEY_BYTES: usize = 158;
    const CHECKSUM_BYTES: usize = 32;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.lines().nth(1)?).ok()?;
    let zero = |range: std::ops::Range<usize>| bytes[range].iter().all(|byte| *byte == 0);
    let whole = bytes.len() == SECRET_KEY_BYTES;
    if !whole || !zero(DERIVATION) || !zero(SECRET_KEY_BYTES - CHECKSUM_BYTES..SECRET_KEY_BYTES) {
        return None;
    }
    SecretKey::from_bytes(&bytes).ok()
}

/// Verifies that one of the `trusted` keys (one line, or a `.pub` file's text) signed `data`.
pub fn verify(trusted: &[String], data: &[u8], signature: &str) -> Result<KeyId, PackageError> {
    Ok(judge(trusted, data, signature)?)
}

fn judge(trusted: &[String], data: &[u8], signature: &str) -> Result<KeyId, KeyError> {
    if signature.len() > TEXT_BYTES_MAX {
        return Err(KeyError::Malformed);
    }
    // This one checks every length first; the other then can be asked for the parts.
    let strict = minisign_verify::Signature::decode(signature).map_err(|_| KeyError::Malformed)?;
    let parts = SignatureBox::from_string(signature).map_err(|_| KeyError::Malformed)?;
    let found = key_id(parts.keynum());
    let keys = trusted_keys(trusted)?;
    let fitting: Vec<_> = keys.iter().filter(|(id, _, _)| *id == found).collect();
    if fitting.is_empty() {
        let trusted = keys.iter().map(|(id, _, _)| id.to_string()).collect::<Vec<_>>();
        let trusted = if trusted.is_empty() { "none".to_owned() } else { trusted.join(", ") };
        return Err(KeyError::Untrusted { found, trusted });
    }
    if !parts.is_prehashed() {
        return Err(KeyError::Legacy(found));
    }
    if fitting.iter().any(|(_, key, _)| key.verify(data, &strict, false).is_ok()) {
        return Ok(found);
    }
    // Only to say which of the two it is: without its comments, does the signature fit?
    let bare: SignatureBox = SignatureBones::from(parts).into();
    let fits = |key: &minisign::PublicKey| {
        minisign::verify(key, &bare, Cursor::new(data), true, false, false).is_ok()
    };
    if fitting.iter().any(|(_, _, key)| fits(key)) {
        return Err(KeyError::EditedComment(found));
    }
    Err(KeyError::Wrong(found))
}

type TrustedKey = (KeyId, minisign_verify::PublicKey, minisign::PublicKey);

fn trusted_keys(trusted: &[String]) -> Result<Vec<TrustedKey>, KeyError> {
    let parse = |text: &String| {
        let line = text.lines().map(str::trim).find(|line| line.starts_with("RW"))?;
        let strict = minisign_verify::PublicKey::from_base64(line).ok()?;
        let parts = minisign::PublicKey::from_base64(line).ok()?;
        Some((key_id(parts.keynum()), strict, parts))
    };
    let numbered = trusted.iter().enumerate();
    numbered.map(|(at, text)| parse(text).ok_or(KeyError::BadTrustedKey(at + 1))).collect()
}

fn key_id(keynum: &[u8]) -> KeyId {
    KeyId(keynum.iter().rev().fold(0, |id, byte| id << 8 | u64::from(*byte)))
}
