//! Takes a package: its record is verified and judged before anything of its content is taken.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use entracte_host::lock::{Lock, LockError, Owner};
use entracte_host::wire::{Frame, Tell, frame};
use entracte_model::Manifest;
use entracte_model::record::Record;
use entracte_package::PackageError;
use entracte_package::archive::{self, RECORD_BYTES_MAX, Verified};
use entracte_package::thin::{Inbox, Offer};
use entracte_release::{Store, Target};

use super::{Agent, Answered, End, Happening, SILENCE_MS_MAX, turn};
use crate::cli::deploy::judge;
use crate::exit::{Exit, Failure};

/// How many streams are asked for: one that refers to files which are not what they should be is
/// followed by one without them.
const STREAMS_MAX: usize = 3;

/// How long a connection may say nothing where another one waits to bring the same, in milliseconds:
/// it is that of a machine that has another address by now, and cannot say that it is gone.
const SILENCE_WAITED_MS_MAX: u64 = 15_000;
/// How often a silent connection is looked at, in milliseconds.
const LOOK_MS: u64 = 1_000;
/// The lock of whoever waits for its turn, in the folder of what comes in.
const WAITING: &str = "waiting";

/// A package whose record was judged, and where it goes.
struct Awaited {
    target: Target,
    verified: Verified,
    base: Manifest,
    /// Where the complete package is put.
    whole: PathBuf,
    /// Held as long as something arrives; the kernel drops it with us.
    _turn: Lock,
}

impl Agent {
    /// Takes the package that is offered, of which earlier connections may have brought a part.
    pub(super) fn receive(&mut self, bytes: u64) -> Answered {
        if bytes > RECORD_BYTES_MAX {
            let message = format!("an offer of {bytes} bytes; at most {RECORD_BYTES_MAX}");
            return Err(End::Told(Failure::refused(message)));
        }
        let offer = self.blob(bytes)?;
        let awaited = match self.judged(&offer) {
            Ok(awaited) => awaited,
            Err(failure) => return Ok(Err(failure)),
        };
        if let Some(path) = awaited.is_there() {
            return self.received(&path);
        }
        match self.streams(&awaited)? {
            Ok(()) => self.received(&awaited.whole),
            Err(failure) => Ok(Err(failure)),
        }
    }

    fn received(&mut self, path: &Path) -> Answered {
        self.tell(&Tell::Received { path: path.display().to_string() }).map(Ok)
    }

    /// Whether a release would take this package, as far as its record tells.
    fn judged(&self, offer: &[u8]) -> Result<Awaited, Failure> {
        let target = self.target()?;
        let offer = Offer::from_bytes(offer).map_err(PackageError::from).map_err(refused)?;
        let verified = offer.verify(&target.trusted_keys).map_err(refused)?;
        let store = match &verified.record.base {
            Some(_) => self.store()?,
            None => to_fill(&target)?,
        };
        judge(&target, &store, &verified.record)?;
        let base = match &verified.record.base {
            Some(base) => store.manifest(&base.manifest)?,
            None => Manifest::default(),
        };
        let folder = target.incoming();
        std::fs::create_dir_all(&folder)?;
        let record = &verified.record;
        let whole = folder.join(format!("{}-{}", record.project, record.version));
        let turn = in_turn(&folder, &transfer(record))?;
        Ok(Awaited { target, verified, base, whole, _turn: turn })
    }

    /// Asks for what is lacking until nothing is, and makes the package of it.
    fn streams(&mut self, awaited: &Awaited) -> Answered {
        let dir = awaited.target.gathering();
        let mut inbox = match Inbox::open(&dir, &awaited.verified, &awaited.base) {
            Ok(inbox) => inbox,
            Err(error) => return Ok(Err(refused(error))),
        };
        for _ in 0..STREAMS_MAX {
            let wants = inbox.wants();
            if wants.is_empty() {
                return Ok(finish(inbox, awaited));
            }
            let json = serde_json::to_vec(&wants).map_err(io::Error::from)?;
            self.tell(&Tell::Blob { bytes: json.len() as u64 })?;
            frame::write_data(&mut self.out, &json)?;
            self.out.flush()?;
            self.stream(&mut inbox, awaited)?;
        }
        Ok(match inbox.wants().is_empty() {
            true => finish(inbox, awaited),
            false => Err(Failure::broken("the package did not arrive whole").hint("try again")),
        })
    }

    /// Takes one stream. After one that cannot be understood the connection ends: nobody knows
    /// where in it the next message would begin.
    fn stream(&mut self, inbox: &mut Inbox, awaited: &Awaited) -> Result<(), End> {
        let mut stream = Stream { agent: self, awaited, piece: Vec::new(), at: 0, end: None };
        let never = AtomicBool::new(false);
        let taken = inbox.receive(&mut stream, &awaited.target.root, &mut |_| {}, &never);
        let (end, is_used_up) = (stream.end.take(), stream.at == stream.piece.len());
        match (end, taken) {
            (Some(end), _) => Err(end),
            (None, Err(error)) => Err(End::Told(refused(error))),
            (None, Ok(_)) if is_used_up => Ok(()),
            (None, Ok(_)) => Err(End::Told(Failure::usage("more came than the stream has"))),
        }
    }
}

/// One transfer at a time. A connection that died without our knowing falls silent, and then gives up
/// its turn: soon, where it sees that somebody waits for it.
fn in_turn(folder: &Path, doing: &str) -> Result<Lock, Failure> {
    let lock = folder.join("lock");
    match Lock::try_take(&lock, &Owner::this(doing)) {
        Err(LockError::Busy { .. }) => {
            let _waiting = turn(&folder.join(WAITING), doing)?;
            turn(&lock, doing)
        }
        taken => Ok(taken?),
    }
}

/// What a transfer is called among those who wait.
fn transfer(record: &Record) -> String {
    format!("the transfer of {}", record.version)
}

impl Awaited {
    /// Whether another connection waits to bring the same package.
    fn is_waited_for(&self) -> bool {
        let waiting = Lock::holder(&self.target.incoming().join(WAITING));
        waiting.is_some_and(|owner| owner.release == transfer(&self.verified.record))
    }

    /// Where exactly this package is, if it arrived before: as it came, or as a release took it.
    fn is_there(&self) -> Option<PathBuf> {
        let kept = self.target.package(&self.verified.record.version);
        let same = |path: &PathBuf| {
            archive::open(path, &self.target.trusted_keys).is_ok_and(|archive| {
                archive.verified().text == self.verified.text
                    && archive.verify_all(&mut |_| {}).is_ok()
            })
        };
        [&self.whole, &kept].into_iter().find(|path| same(path)).cloned()
    }
}

/// The store of a production that may hold nothing yet: a first installation makes it.
fn to_fill(target: &Target) -> Result<Store, Failure> {
    std::fs::create_dir_all(&target.state)?;
    Ok(Store::open(&target.store())?)
}

fn finish(inbox: Inbox, awaited: &Awaited) -> Result<(), Failure> {
    Ok(inbox.finish(&awaited.whole)?)
}

fn refused(error: PackageError) -> Failure {
    Failure { exit: Exit::Refused, ..Failure::from(error) }
        .hint("packages are trusted by `keys` of the target in entracte.toml")
}

/// The data frames of a connection as one stream.
struct Stream<'a> {
    agent: &'a mut Agent,
    awaited: &'a Awaited,
    piece: Vec<u8>,
    at: usize,
    end: Option<End>,
}

impl Stream<'_> {
    fn frame(&mut self) -> Result<Frame, End> {
        let mut silent_ms = 0;
        while silent_ms < SILENCE_MS_MAX {
            match self.agent.happening(LOOK_MS)? {
                Some(Happening::Frame(frame)) => return Ok(frame?),
                Some(Happening::Printed { .. }) => {}
                None => silent_ms += LOOK_MS,
            }
            if silent_ms >= SILENCE_WAITED_MS_MAX && self.awaited.is_waited_for() {
                break;
            }
        }
        Err(End::Gone)
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.frame() {
                Ok(Frame::Data(piece)) => (self.piece, self.at) = (piece, 0),
                Ok(Frame::Message(_)) => {
                    let told = Failure::usage("expected the rest of a package");
                    self.end = Some(End::Told(told));
                }
                Err(end) => self.end = Some(end),
            }
            if self.end.is_some() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let read = into.len().min(self.piece.len() - self.at);
        into[..read].copy_from_slice(&self.piece[self.at..self.at + read]);
        self.at += read;
        Ok(read)
    }
}
