//! Brings a package: its signed record first, then only what the machine lacks of it, as often as
//! the connection breaks.

use std::io::{self, Write};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use entracte_host::wire::{Ask, SshError, Tell};
use entracte_model::{Manifest, Version};
use entracte_package::archive::Archive;
use entracte_package::thin::{self, Level, Offer, Olds, Parcel, Wants};
use entracte_package::{PackageError, Progress, archive};
use entracte_release::{Store, Target};

use super::Remote;
use super::link::failure;
use crate::cli::App;
use crate::config::Config;
use crate::exit::Failure;

/// The longest list of what a machine lacks.
const WANTS_BYTES_MAX: u64 = 64 << 20;
/// How many streams one connection may ask for: the second one where files of production are not
/// what they should be, and cannot be built upon.
const STREAMS_MAX: usize = 4;

/// A package that is to be brought.
pub struct Freight<'a> {
    archive: &'a Archive,
    base: Manifest,
    earlier: Vec<std::path::PathBuf>,
    trusted: &'a [String],
}

impl<'a> Freight<'a> {
    /// The package with what patches of it can be made of: the packages of earlier versions.
    pub fn new(
        config: &Config,
        target: &'a Target,
        store: &Store,
        archive: &'a Archive,
    ) -> Result<Self, Failure> {
        let base = match &archive.record().base {
            Some(base) => store.manifest(&base.manifest)?,
            None => Manifest::default(),
        };
        let earlier = earlier(config, &archive.record().version);
        Ok(Self { archive, base, earlier, trusted: &target.trusted_keys })
    }

    fn olds(&self) -> Olds {
        let opened = self.earlier.iter().filter_map(|path| archive::open(path, self.trusted).ok());
        opened.fold(Olds::none(), Olds::archive)
    }
}

/// The packages of versions before this one that lie where packages are made.
fn earlier(config: &Config, version: &Version) -> Vec<std::path::PathBuf> {
    let (dist, project) = (config.at(&config.file.source.dist), &config.file.project);
    let entries = std::fs::read_dir(dist).into_iter().flatten().flatten();
    let of = |path: &std::path::Path| {
        let name = path.file_name()?.to_str()?;
        let version = name.strip_prefix(&format!("{project}-"))?.strip_suffix(".tar.zst")?;
        version.parse::<Version>().ok()
    };
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| of(path).is_some_and(|found| found < *version)).collect()
}

/// Brings the package, and returns where it is there. Lost connections are made again, as long as
/// each brings something.
pub fn bring(app: &App, remote: &mut Remote, freight: &Freight<'_>) -> Result<String, Failure> {
    let meter = app.meter();
    let mut sending = meter.of("sending");
    let mut since = Instant::now();
    let mut least = u64::MAX;
    loop {
        let mut lacking = least;
        match attempt(remote, freight, &mut sending, &mut lacking) {
            Ok(told) => {
                return told;
            }
            Err(lost) if lost.is_lost() => {
                // Time only runs out for connections that bring nothing.
                if lacking < least {
                    (least, since) = (lacking, Instant::now());
                }
                remote.again(lost, since)?;
            }
            Err(error) => return Err(failure(error)),
        }
    }
}

/// One attempt: the answer of the agent, or a connection that was lost on the way to it.
fn attempt(
    remote: &mut Remote,
    freight: &Freight<'_>,
    say: &mut dyn FnMut(Progress),
    lacking: &mut u64,
) -> Result<Result<String, Failure>, SshError> {
    let offer = Offer::of(freight.archive.verified()).to_bytes();
    remote.try_ask(&Ask::Offer { bytes: offer.len() as u64 })?;
    remote.try_send(&offer)?;
    for _ in 0..STREAMS_MAX {
        let bytes = match remote.try_hear()? {
            Ok(Tell::Received { path }) => return Ok(Ok(path)),
            Ok(Tell::Blob { bytes }) if bytes <= WANTS_BYTES_MAX => bytes,
            Ok(other) => return Ok(Err(remote.wrong("what is lacking", &other))),
            Err(failure) => return Ok(Err(failure)),
        };
        let mut json = Vec::new();
        while (json.len() as u64) < bytes {
            json.extend(remote.try_hear_data()?);
        }
        let wants: Wants = match serde_json::from_slice(&json) {
            Ok(wants) => wants,
            Err(error) => return Ok(Err(error.into())),
        };
        *lacking = wants.bytes(&thin::Objects::of(freight.archive.record()));
        if let Err(failure) = stream(remote, freight, &wants, say)? {
            return Ok(Err(failure));
        }
    }
    Ok(Err(Failure::broken(format!("{} asks for the same again and again", remote.host()))))
}

/// Sends one stream with all that is wanted.
fn stream(
    remote: &mut Remote,
    freight: &Freight<'_>,
    wants: &Wants,
    say: &mut dyn FnMut(Progress),
) -> Result<Result<(), Failure>, SshError> {
    let Freight { archive, base, .. } = freight;
    let parcel = Parcel { archive, base, wants, level: Level::Measured };
    let mut line = Line { remote, lost: None };
    let sent = thin::send(&parcel, &mut freight.olds(), &mut line, say, &AtomicBool::new(false));
    match (line.lost.take(), sent) {
        (Some(lost), _) => Err(lost),
        (None, sent) => Ok(sent.map(|_| ()).map_err(|error: PackageError| error.into())),
    }
}

/// The connection as something that can be written to.
struct Line<'a> {
    remote: &'a mut Remote,
    lost: Option<SshError>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.remote.try_send(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(lost) => {
                self.lost = Some(lost);
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
