//! The far end: answers a development machine until it ends the connection.
//!
//! What arrives is an enemy's until it is proven otherwise: frames are bounded, messages are a
//! closed set, packages are taken only with a good signature, commands come from a short list. It
//! holds no lock and owns no release: gone at any moment, nothing is lost but the connection.

mod both;
mod follow;
mod receive;
mod run;

use std::io::{self, StdoutLock, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use entracte_host::lock::{Lock, LockError, Owner};
use entracte_host::wire::{Ask, Frame, Greeting, PROTOCOL, Tell, WireError, frame};
use entracte_model::Hash;
use entracte_release::{Store, Target};

use crate::config::Config;
use crate::exit::{Exit, Failure};

/// The longest configuration.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// How many happenings wait to be looked at.
const AHEAD_MAX: usize = 8;
/// How long a connection may say nothing where it must not, in milliseconds.
const SILENCE_MS_MAX: u64 = 120_000;
/// How long it may say nothing where it may, in milliseconds: a person reads a plan.
const IDLE_MS_MAX: u64 = 3_600_000;
/// How long another connection's work is waited for, in milliseconds: longer than one that died takes
/// to be given up.
const TURN_MS_MAX: u64 = 180_000;
/// Names of notes that a development machine may keep with production.
const NOTE: &str = "commit of ";
/// The longest note.
const NOTE_BYTES_MAX: usize = 200;

/// What an agent waits for.
enum Happening {
    /// The next frame, or why there is none.
    Frame(Result<Frame, WireError>),
    /// What a command printed; nothing at its end.
    Printed { error: bool, bytes: Vec<u8> },
}

/// Why the agent stops answering.
enum End {
    /// The connection is gone, or is no longer understood.
    Gone,
    /// It was told why, and what it still sends is not looked at.
    Told(Failure),
}

impl From<WireError> for End {
    fn from(_: WireError) -> Self {
        End::Gone
    }
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        End::Gone
    }
}

/// What comes of one wish: done or refused, and the connection goes on; or it does not.
type Answered = Result<Result<(), Failure>, End>;

/// One connection at a time: waits for its turn, and says who has it where that takes too long.
fn turn(path: &Path, doing: &str) -> Result<Lock, Failure> {
    let patience = Duration::from_millis(TURN_MS_MAX);
    Lock::take_within(path, &Owner::this(doing), patience).map_err(|error| match &error {
        LockError::Busy { .. } => Failure { exit: Exit::Busy, ..Failure::from(error) },
        LockError::Io { .. } => Failure::from(error),
    })
}

struct Agent {
    config: PathBuf,
    target: String,
    fixed: bool,
    happenings: Receiver<Happening>,
    sender: SyncSender<Happening>,
    out: StdoutLock<'static>,
}

/// Answers until the connection ends.
pub fn serve(config: &Path, target: &str, fixed: bool) -> Result<Exit, Failure> {
    let (sender, happenings) = mpsc::sync_channel(AHEAD_MAX);
    let frames = sender.clone();
    std::thread::spawn(move || {
        let mut from = io::stdin().lock();
        loop {
            let read = frame::read(&mut from).and_then(|frame| frame.ok_or(WireError::Cut));
            let is_last = read.is_err();
            if frames.send(Happening::Frame(read)).is_err() || is_last {
                return;
            }
        }
    });
    let mut agent = Agent {
        config: std::path::absolute(config)?,
        target: target.to_owned(),
        fixed,
        happenings,
        sender,
        out: io::stdout().lock(),
    };
    Greeting::this(env!("CARGO_PKG_VERSION")).write(&mut agent.out)?;
    match agent.answer_all() {
        Ok(()) | Err(End::Gone) => Ok(Exit::Done),
        Err(End::Told(failure)) => {
            // Whoever does not hear it has gone already.
            let _ = agent.failed(&failure);
            Ok(failure.exit)
        }
    }
}

impl Agent {
    fn answer_all(&mut self) -> Result<(), End> {
        self.greet()?;
        loop {
            let ask = frame::message(&self.frame(IDLE_MS_MAX)?);
            let answered = match ask {
                Ok(ask) => self.answer(ask)?,
                Err(error) => {
                    return Err(End::Told(Failure::usage(entracte_release::fault::chain(&error))));
                }
            };
            if let Err(failure) = answered {
                self.failed(&failure)?;
            }
        }
    }

    /// The first message must say who is there, and in which protocol.
    fn greet(&mut self) -> Result<(), End> {
        let ask: Ask = frame::message(&self.frame(SILENCE_MS_MAX)?)?;
        let Ask::Hello { protocol, project, .. } = ask else {
            return Err(End::Told(Failure::usage("expected a hello first")));
        };
        if protocol != PROTOCOL {
            let message = format!("expected protocol {PROTOCOL}, found {protocol}");
            return Err(End::Told(Failure::usage(message).hint("`entracte bootstrap`")));
        }
        let text = std::fs::read(&self.config).ok();
        if let Some(known) = text.as_ref().and_then(|_| Config::load(Some(&self.config)).ok())
            && known.file.project != project
        {
            let message = format!(
                "{} is about the game {}, not {project}",
                self.config.display(),
                known.file.project
            );
            return Err(End::Told(
                Failure::refused(message).hint("`state` of the target must be a folder of its own"),
            ));
        }
        let host = rustix::system::uname();
        let host =
            format!("{}, {}", host.nodename().to_string_lossy(), host.machine().to_string_lossy());
        let config = text.map(|text| Hash::of(&text));
        self.tell(&Tell::Welcome { config, fixed: self.fixed, host })
    }

    fn answer(&mut self, ask: Ask) -> Answered {
        match ask {
            Ask::Hello { .. } => Ok(Err(Failure::usage("that was said already"))),
            Ask::Configure { bytes } => self.configure(bytes),
            Ask::Excerpt { have } => self.excerpt(have),
            Ask::Remember { name, value } => {
                let kept = self.remember(&name, &value);
                self.done(kept)
            }
            Ask::Compare { bytes } => self.compare(bytes),
            Ask::Edits {} => self.edits(),
            Ask::Adopt { base, manifest } => self.adopt(&base, &manifest),
            Ask::Declare { scripts } => self.declare(&scripts),
            Ask::Offer { bytes } => self.receive(bytes),
            Ask::Begin { args, expects } => self.begin(&args, expects.as_ref()),
            Ask::Run { args, colour } => self.run(&args, colour),
            Ask::Follow { release, after, runner } => self.follow(release, after, runner),
            // What it was to stop has ended meanwhile.
            Ask::Stop {} => Ok(Ok(())),
        }
    }

    fn configure(&mut self, bytes: u64) -> Answered {
        if bytes > CONFIG_BYTES_MAX {
            return Err(End::Told(Failure::usage(format!("a configuration of {bytes} bytes"))));
        }
        let text = self.blob(bytes)?;
        let kept = self.keep_configuration(&text);
        match kept {
            Ok(note) => self.tell(&Tell::Done { note }).map(Ok),
            Err(failure) => Ok(Err(failure)),
        }
    }

    fn keep_configuration(&self, text: &[u8]) -> Result<Option<String>, Failure> {
        if self.fixed {
            return Err(Failure::refused("this agent keeps its configuration (`--fixed`)"));
        }
        let usage = |error| Failure::usage(entracte_release::fault::chain(&error));
        let text = String::from_utf8_lossy(text);
        let config = Config::parse(&self.config, &text).map_err(usage)?;
        config.target_name(Some(&self.target)).map_err(usage)?;
        if let Some(folder) = self.config.parent() {
            std::fs::create_dir_all(folder).map_err(|error| {
                Failure::broken(format!("{} cannot be made: {error}", folder.display()))
                    .hint("make it on the machine of the game, for the user of the connection")
            })?;
        }
        // Addresses of channels may hold secrets: it is for its owner only.
        entracte_host::durable::write(&self.config, text.as_bytes(), 0o600)?;
        // What is not there yet, such as a file with a password, is said and does not keep it out.
        Ok(config.target(&self.target).err().map(|error| entracte_release::fault::chain(&error)))
    }

    fn excerpt(&mut self, have: Option<Hash>) -> Answered {
        match self.excerpted(have.as_ref()) {
            Ok(bytes) => {
                self.tell(&Tell::Blob { bytes: bytes.len() as u64 })?;
                frame::write_data(&mut self.out, &bytes)?;
                self.out.flush()?;
                Ok(Ok(()))
            }
            Err(failure) => Ok(Err(failure)),
        }
    }

    fn excerpted(&self, have: Option<&Hash>) -> Result<Vec<u8>, Failure> {
        let dir = tempfile::tempdir()?;
        let path = self.target()?.store();
        let store = match Store::open_to_read(&path)? {
            // Copying a store counts as writing for SQLite, though nothing of it changes.
            Some(_) => Store::open_existing(&path)?,
            // Nothing is known yet, and looking does not change that.
            None => Store::open(&dir.path().join("nothing.sqlite"))?,
        };
        let path = dir.path().join("excerpt.sqlite");
        store.excerpt(&path, have)?;
        Ok(zstd::encode_all(std::fs::File::open(&path)?, 3)?)
    }

    fn remember(&self, name: &str, value: &str) -> Result<(), Failure> {
        let fits = name.starts_with(NOTE)
            && name.len() <= NOTE_BYTES_MAX
            && value.len() <= NOTE_BYTES_MAX
            && !value.contains(char::is_control);
        if !fits {
            return Err(Failure::usage("expected a note about a commit"));
        }
        Ok(Store::open_existing(&self.target()?.store())?.set_setting(name, Some(value))?)
    }

    /// The target, as the configuration of this machine has it now.
    fn target(&self) -> Result<Target, Failure> {
        let usage = |error| {
            Failure::usage(entracte_release::fault::chain(&error))
                .hint("`entracte bootstrap` brings the configuration")
        };
        let config = Config::load(Some(&self.config)).map_err(usage)?;
        config.target(&self.target).map_err(usage)
    }

    /// What production knows of itself, to read.
    fn store(&self) -> Result<Store, Failure> {
        Store::open_to_read(&self.target()?.store())?.ok_or_else(|| {
            Failure::refused("production is not known yet")
                .hint("`entracte init --production-version 1.0` takes it as it stands")
        })
    }

    fn done(&mut self, result: Result<(), Failure>) -> Answered {
        match result {
            Ok(()) => self.tell(&Tell::Done { note: None }).map(Ok),
            Err(failure) => Ok(Err(failure)),
        }
    }

    fn tell(&mut self, tell: &Tell) -> Result<(), End> {
        Ok(frame::write(&mut self.out, tell)?)
    }

    fn failed(&mut self, failure: &Failure) -> Result<(), End> {
        let (exit, message) = (failure.exit as u8, crate::report::out::plain(&failure.message));
        self.tell(&Tell::Failed { exit, message, hint: failure.hint.clone() })
    }

    /// The next frame, which must come in time.
    fn frame(&mut self, wait_ms: u64) -> Result<Frame, End> {
        loop {
            match self.happening(wait_ms)? {
                Some(Happening::Frame(frame)) => return Ok(frame?),
                Some(Happening::Printed { .. }) => {}
                None => return Err(End::Gone),
            }
        }
    }

    /// What happens next, or nothing where nothing did in time.
    fn happening(&mut self, wait_ms: u64) -> Result<Option<Happening>, End> {
        match self.happenings.recv_timeout(Duration::from_millis(wait_ms)) {
            Ok(happening) => Ok(Some(happening)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(End::Gone),
        }
    }

    /// So many bytes of data, which a message announced and whose number was judged.
    fn blob(&mut self, bytes: u64) -> Result<Vec<u8>, End> {
        let mut blob = Vec::new();
        while (blob.len() as u64) < bytes {
            match self.frame(SILENCE_MS_MAX)? {
                Frame::Data(piece) if (blob.len() + piece.len()) as u64 <= bytes => {
                    blob.extend(piece);
                }
                Frame::Data(_) | Frame::Message(_) => {
                    return Err(End::Told(Failure::usage(
                        "expected the bytes that were announced",
                    )));
                }
            }
        }
        Ok(blob)
    }
}
