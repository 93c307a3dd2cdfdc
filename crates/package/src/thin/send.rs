//! The sending side: one pass over the archive, each wanted content in the shortest form.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use entracte_model::{Hash, Manifest, RelPath};

use super::pairs::{self, BaseFiles, Pair};
use super::wire::{self, CONNECTION, COPY, DATA, END, GROUP_MAX, PIECE_BYTES_MAX};
use super::{Object, Objects, Olds, Wants, zip};
use crate::archive::{Archive, Flow, Item};
use crate::error::At;
use crate::{PackageError, Progress};

/// Contents up to this size go together with others in one frame.
const SMALL_BYTES: u64 = 128 * 1024;
/// What goes together, contents and their bases, in bytes.
const GROUP_BYTES: u64 = 1024 * 1024;
/// Above this size, in bytes, a content is never in memory as a whole, and is sent while it is being
/// compressed.
const STREAM_BYTES: u64 = 4 * 1024 * 1024;
/// Pieces that wait for the connection: 512 KiB of them.
const WAITING_MAX: usize = 8;

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Always at this level of zstd, 1 to 19.
    Fixed(i32),
    /// Harder where the connection is what takes the time: measured while sending.
    Measured,
}

/// How the contents went over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Contents that the other side copies from what it holds.
    pub copied: u64,
    /// Contents that went as patches.
    pub patched: u64,
    /// Contents that went whole.
    pub added: u64,
    /// The bytes of the stream.
    pub bytes: u64,
    /// The highest level of compression that was used.
    pub level: i32,
}

/// What is to be sent.
#[derive(Debug)]
pub struct Parcel<'a> {
    /// The package.
    pub archive: &'a Archive,
    /// The manifest that its record builds upon; an empty one for a first installation.
    pub base: &'a Manifest,
    /// What the other side asked for.
    pub wants: &'a Wants,
    /// How hard to compress.
    pub level: Level,
}

/// Sends what is wanted of a package. `out` is flushed at the end.
///
/// Nothing is kept on this side: after a cut, ask the other side for its wants and send again.
pub fn send(
    parcel: &Parcel<'_>,
    olds: &mut Olds,
    out: &mut (dyn Write + Send),
    progress: &mut dyn FnMut(Progress),
    stop: &AtomicBool,
) -> Result<Sent, PackageError> {
    let Parcel { archive, base, wants, level } = *parcel;
    let record = archive.record();
    let objects = Objects::of(record);
    wants.check(&objects)?;
    let files = BaseFiles::of(base);
    let pairs = pairs::find(&record.delta, &files, &wants.drifted);
    let todo: BTreeMap<u32, Object> =
        wants.numbers(&objects).filter_map(|number| Some((number, objects.get(number)?))).collect();
    let mut patched: HashMap<Hash, (&RelPath, u64)> = HashMap::new();
    for object in todo.values() {
        if let Some(Pair::Patch(number)) = pairs.get(&object.hash)
            && let Some(file) = files.get(*number)
        {
            patched.insert(file.hash, (file.path, file.size));
        }
    }
    olds.prepare(&patched)?;
    let (pieces, waiting) = sync_channel(WAITING_MAX);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || write_all(&waiting, out));
        let mut sender = Sender {
            objects: &objects,
            files: &files,
            pairs: &pairs,
            wants,
            olds,
            total: wants.bytes(&objects),
            done: 0,
            left: todo.keys().copied().collect(),
            level: LevelNow::new(level),
            adds: Group::default(),
            patches: Group::default(),
            out: Out { pieces, bytes: 0, waited: Duration::ZERO },
            sent: Sent::default(),
        };
        let outcome = sender.all(archive, base, progress, stop);
        let sent = Sent { bytes: sender.out.bytes, level: sender.level.highest, ..sender.sent };
        // Ends the writer, once it has written what waits.
        drop(sender);
        match (writer.join(), outcome) {
            // Where the connection broke, this is why the sender could not go on.
            (Ok(Err(error)), _) => Err(error).at("write to", Path::new(CONNECTION)),
            (Ok(Ok(())), Ok(())) => Ok(sent),
            (Ok(Ok(())), Err(error)) => Err(error),
            (Err(panic), _) => std::panic::resume_unwind(panic),
        }
    })
}

fn write_all(waiting: &Receiver<Vec<u8>>, out: &mut (dyn Write + Send)) -> io::Result<()> {
    while let Ok(piece) = waiting.recv() {
        out.write_all(&piece)?;
    }
    out.flush()
}

/// Gives bytes to the thread that writes, and knows how long that kept it.
struct Out {
    pieces: SyncSender<Vec<u8>>,
    bytes: u64,
    waited: Duration,
}

impl Out {
    fn put(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        let before = Instant::now();
        let sent = self.pieces.send(bytes);
        self.waited += before.elapsed();
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Makes pieces of what an encoder writes.
struct PieceWriter<'a> {
    out: &'a mut Out,
    buffer: Vec<u8>,
}

impl PieceWriter<'_> {
    fn end(mut self) -> io::Result<()> {
        self.flush()?;
        self.out.put(vec![0])
    }
}

impl Write for PieceWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES_MAX - self.buffer.len();
        let count = bytes.len().min(room);
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PIECE_BYTES_MAX {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut piece = Vec::with_capacity(self.buffer.len() + 3);
        wire::put_number(&mut piece, self.buffer.len() as u64);
        piece.append(&mut self.buffer);
        self.out.put(piece)
    }
}

/// The level, as the connection calls for it.
struct LevelNow {
    fixed: Option<i32>,
    now: i32,
    highest: i32,
    since: Instant,
    waited: Duration,
}

impl LevelNow {
    const LOWEST: i32 = 3;
    const HIGHEST: i32 = 17;
    /// For a large file: above it, compressing would take longer than sending what it saves.
    const LARGE: i32 = 6;
    /// How long is measured before the level changes.
    const SPAN: Duration = Duration::from_millis(20);

    fn new(level: Level) -> Self {
        let fixed = match level {
            Level::Fixed(level) => Some(level),
            Level::Measured => None,
        };
        let now = fixed.unwrap_or(Self::LOWEST);
        Self { fixed, now, highest: now, since: Instant::now(), waited: Duration::ZERO }
    }

    /// Where most of the time goes into waiting, harder; where hardly any, easier. At most `max`.
    fn measure(&mut self, waited: Duration, max: i32) -> i32 {
        let span = self.since.elapsed();
        if self.fixed.is_none() && span >= Self::SPAN {
            let share = (waited - self.waited).as_secs_f64() / span.as_secs_f64();
            let step = match share {
                share if share > 0.5 => 2,
                share if share < 0.1 => -2,
                _ => 0,
            };
            self.now = (self.now + step).clamp(Self::LOWEST, Self::HIGHEST);
            (self.since, self.waited) = (Instant::now(), waited);
        }
        let level = self.fixed.unwrap_or(self.now.min(max));
        self.highest = self.highest.max(level);
        level
    }
}

/// Small contents that go together.
#[derive(Default)]
struct Group {
    objects: Vec<u32>,
    bases: Vec<u32>,
    content: Vec<u8>,
    base: Vec<u8>,
}

struct Sender<'a> {
    objects: &'a Objects,
    files: &'a BaseFiles<'a>,
    pairs: &'a BTreeMap<Hash, Pair>,
    wants: &'a Wants,
    olds: &'a Olds,
    total: u64,
    done: u64,
    /// What is still to be sent.
    left: HashSet<u32>,
    level: LevelNow,
    adds: Group,
    patches: Group,
    out: Out,
    sent: Sent,
}

impl Sender<'_> {
    fn all(
        &mut self,
        archive: &Archive,
        base: &Manifest,
        progress: &mut dyn FnMut(Progress),
        stop: &AtomicBool,
    ) -> Result<(), PackageError> {
        let connection = Path::new(CONNECTION);
        let header = wire::header(&archive.record().manifest, &base.hash());
        self.out.put(header).at("write to", connection)?;
        self.copies().at("write to", connection)?;
        if !self.left.is_empty() {
            archive.walk(&mut |item, reader| {
                if stop.load(Ordering::Relaxed) {
                    return Err(PackageError::Stopped);
                }
                if let Some((number, object, name)) = self.wanted(item) {
                    self.one(number, object, reader)?;
                    self.report(object, &name, progress);
                }
                Ok(if self.left.is_empty() { Flow::Enough } else { Flow::Next })
            })?;
        }
        for patch in [false, true] {
            self.flush(patch).at("write to", connection)?;
        }
        match self.left.iter().next().and_then(|number| self.objects.get(*number)) {
            Some(object) => Err(super::BadThin::NothingFor(object.hash).into()),
            None => self.out.put(vec![END]).at("write to", connection),
        }
    }

    fn copies(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut numbers: Vec<u32> = self.left.iter().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let Some(object) = self.objects.get(number) else { continue };
            if let Some(Pair::Copy(base)) = self.pairs.get(&object.hash) {
                bytes.push(COPY);
                wire::put_number(&mut bytes, number.into());
                wire::put_number(&mut bytes, (*base).into());
                self.left.remove(&number);
                self.sent.copied += 1;
                self.done += object.size;
            }
        }
        if bytes.is_empty() { Ok(()) } else { self.out.put(bytes) }
    }

    fn wanted(&self, item: Item<'_>) -> Option<(u32, Object, String)> {
        use entracte_model::manifest::Entry;
        let (hash, name) = match item {
            Item::Document(named) | Item::Script(named) => (named.hash, named.name.to_string()),
            Item::Source(path, Entry::File { hash, .. }) => (*hash, path.to_string()),
            Item::Source(..) => return None,
        };
        let number = self.objects.number(&hash)?;
        let object = self.objects.get(number)?;
        self.left.contains(&number).then_some((number, object, name))
    }

    fn report(&mut self, object: Object, name: &str, progress: &mut dyn FnMut(Progress)) {
        self.done += object.size;
        let note = format!("sending {name}");
        progress(Progress { done: self.done, total: self.total, unit: "bytes", note });
    }

    /// Sends one content, or puts it into a group.
    fn one(
        &mut self,
        number: u32,
        object: Object,
        reader: &mut dyn Read,
    ) -> Result<(), PackageError> {
        let connection = Path::new(CONNECTION);
        self.left.remove(&number);
        let from = self.wants.from.get(&number).copied().unwrap_or(0);
        io::copy(&mut reader.take(from), &mut io::sink()).at("read", connection)?;
        let base = match self.pairs.get(&object.hash) {
            Some(Pair::Patch(base)) => self.files.get(*base).map(|file| (*base, file)),
            Some(Pair::Copy(_) | Pair::Add) | None => None,
        };
        let base = base.and_then(|(number, file)| {
            Some((number, self.olds.read(file.path, file.size, &file.hash)?))
        });
        let small = object.size <= SMALL_BYTES && from == 0;
        match base {
            Some((base, old)) if small && old.len() as u64 <= SMALL_BYTES => {
                self.patches.objects.push(number);
                self.patches.bases.push(base);
                self.patches.base.extend_from_slice(&old);
                reader.read_to_end(&mut self.patches.content).at("read", connection)?;
            }
            Some((base, old)) if object.size - from > STREAM_BYTES => {
                self.stream(number, from, object.size - from, Some((base, &old)), reader)
                    .at("write to", connection)?;
            }
            Some((base, old)) => {
                let mut content = Vec::new();
                reader.read_to_end(&mut content).at("read", connection)?;
                self.large(number, from, base, &old, &content).at("write to", connection)?;
            }
            None if small => {
                self.adds.objects.push(number);
                reader.read_to_end(&mut self.adds.content).at("read", connection)?;
            }
            None => {
                self.stream(number, from, object.size - from, None, reader)
                    .at("write to", connection)?;
            }
        }
        for patch in [false, true] {
            let group = if patch { &self.patches } else { &self.adds };
            let bytes = (group.content.len() + group.base.len()) as u64;
            if bytes >= GROUP_BYTES || group.objects.len() as u64 == GROUP_MAX {
                self.flush(patch).at("write to", connection)?;
            }
        }
        Ok(())
    }

    /// A file of some size with its old form: as a patch, unless that is no smaller.
    fn large(
        &mut self,
        number: u32,
        from: u64,
        base: u32,
        old: &[u8],
        content: &[u8],
    ) -> io::Result<()> {
        let level = self.level.measure(self.out.waited, LevelNow::HIGHEST);
        let patch = zip::compress(level, old, content)?;
        // Plain compression seldom does better than a quarter: below it nothing is tried twice.
        let plain = match patch.len() < content.len() / 4 {
            true => None,
            false => Some(zip::compress(level, &[], content)?),
        };
        match plain.filter(|plain| plain.len() <= patch.len()) {
            Some(plain) => self.unit(&[number], from, &[], &plain),
            None => self.unit(&[number], from, &[base], &patch),
        }
    }

    /// A large file, with its old form where there is one. A patch is hardly ever longer than the
    /// whole, so that it is not tried without.
    fn stream(
        &mut self,
        number: u32,
        from: u64,
        size: u64,
        base: Option<(u32, &[u8])>,
        reader: &mut dyn Read,
    ) -> io::Result<()> {
        // With an old form, nearly all is found in it at the lowest level, too.
        let max = if base.is_some() { LevelNow::LOWEST } else { LevelNow::LARGE };
        let level = self.level.measure(self.out.waited, max);
        let (bases, old) = base.map_or((vec![], &[][..]), |(base, old)| (vec![base], old));
        match base {
            Some(_) => self.sent.patched += 1,
            None => self.sent.added += 1,
        }
        self.out.put(unit_head(&[number], from, &bases))?;
        let pieces = PieceWriter { out: &mut self.out, buffer: Vec::new() };
        let mut encoder = zip::encoder(pieces, level, old, size)?;
        io::copy(reader, &mut encoder)?;
        encoder.finish()?.end()
    }

    /// Sends a group, if there is anything in it.
    fn flush(&mut self, patch: bool) -> io::Result<()> {
        let group = std::mem::take(if patch { &mut self.patches } else { &mut self.adds });
        if group.objects.is_empty() {
            return Ok(());
        }
        let level = self.level.measure(self.out.waited, LevelNow::HIGHEST);
        let whole = zip::compress(level, &group.base, &group.content)?;
        if group.bases.is_empty() || whole.len() < group.content.len() / 4 {
            return self.unit(&group.objects, 0, &group.bases, &whole);
        }
        let plain = zip::compress(level, &[], &group.content)?;
        match plain.len() <= whole.len() {
            true => self.unit(&group.objects, 0, &[], &plain),
            false => self.unit(&group.objects, 0, &group.bases, &whole),
        }
    }

    fn unit(&mut self, objects: &[u32], from: u64, bases: &[u32], frame: &[u8]) -> io::Result<()> {
        let count = objects.len() as u64;
        match bases.is_empty() {
            true => self.sent.added += count,
            false => self.sent.patched += count,
        }
        self.out.put(unit_head(objects, from, bases))?;
        let mut pieces = PieceWriter { out: &mut self.out, buffer: Vec::new() };
        pieces.write_all(frame)?;
        pieces.end()
    }
}

fn unit_head(objects: &[u32], from: u64, bases: &[u32]) -> Vec<u8> {
    let mut head = vec![DATA];
    wire::put_number(&mut head, objects.len() as u64);
    for number in objects {
        wire::put_number(&mut head, (*number).into());
    }
    wire::put_number(&mut head, from);
    wire::put_number(&mut head, bases.len() as u64);
    for number in bases {
        wire::put_number(&mut head, (*number).into());
    }
    head
}
