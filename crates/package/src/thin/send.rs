//! The sending side: one pass over the archive, each wanted content in the shortest form.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use entracte_model::{Hash, Manifest};

use super::ahead::{self, Ahead, OldForm};
use super::matches::{self, Index, Stored};
use super::outgoing::{self, LevelNow, Out, PieceWriter};
use super::pairs::{self, BaseFiles, Pair};
use super::wire::{self, CONNECTION, COPY, DATA, END, GROUP_MAX, PATCH};
use super::{Object, Objects, Olds, Wants, zip};
use crate::archive::{Archive, Flow, Item, small};
use crate::error::At;
use crate::files::CHUNK_BYTES;
use crate::{PackageError, Progress};

/// Contents up to this size go together with others in one frame, and are kept together.
const SMALL_BYTES: u64 = small::BYTES_MAX;
/// What goes together, contents and their bases, in bytes.
const GROUP_BYTES: u64 = 1024 * 1024;
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
    let mut patched = BTreeMap::new();
    for (number, object) in &todo {
        if let Some(Pair::Patch(base)) = pairs.get(&object.hash)
            && let Some(file) = files.get(*base)
        {
            patched.insert(*number, (*object, file));
        }
    }
    olds.prepare(patched.values().map(|(_, file)| file))?;
    let olds = &*olds;
    let (out_pieces, waiting) = outgoing::channel();
    let (reader, ahead) = ahead::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| reader.all(&patched, olds));
        let writer = scope.spawn(move || outgoing::write_all(&waiting, out));
        let mut sender = Sender {
            objects: &objects,
            pairs: &pairs,
            wants,
            ahead,
            total: wants.bytes(&objects),
            done: 0,
            left: todo.keys().copied().collect(),
            level: LevelNow::new(level),
            adds: Group::default(),
            patches: Group::default(),
            out: out_pieces,
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
    pairs: &'a BTreeMap<Hash, Pair>,
    wants: &'a Wants,
    ahead: Ahead,
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
            Some(Pair::Patch(base)) => Some(*base),
            Some(Pair::Copy(_) | Pair::Add) | None => None,
        };
        let rest = Rest { number, from, bytes: object.size - from };
        match (base, base.and_then(|_| self.ahead.take(number))) {
            (Some(base), Some(OldForm::Large(old, index))) => {
                self.stream_patch(rest, base, (&old, &index), reader)
            }
            (Some(base), Some(OldForm::Held(old, index))) => {
                self.like(rest, base, (&old, index), reader)
            }
            (None, _) | (_, None) => self.whole(rest, reader),
        }
        .at("write to", connection)?;
        for patch in [false, true] {
            let group = if patch { &self.patches } else { &self.adds };
            let bytes = (group.content.len() + group.base.len()) as u64;
            if bytes >= GROUP_BYTES || group.objects.len() as u64 == GROUP_MAX {
                self.flush(patch).at("write to", connection)?;
            }
        }
        Ok(())
    }

    /// Something that has nothing of before.
    fn whole(&mut self, rest: Rest, reader: &mut dyn Read) -> io::Result<()> {
        if rest.is_small() {
            self.adds.objects.push(rest.number);
            reader.read_to_end(&mut self.adds.content)?;
            return Ok(());
        }
        let level = self.level.measure(self.out.waited, LevelNow::LARGE);
        self.sent.added += 1;
        self.out.put(unit_head(&[rest.number], rest.from, &[]))?;
        let pieces = PieceWriter::new(&mut self.out);
        let mut encoder = zip::encoder(pieces, level, &[], rest.bytes)?;
        pass_on(reader, &mut encoder)?;
        encoder.finish()?.end()
    }

    /// Something whose old form is in memory.
    fn like(
        &mut self,
        rest: Rest,
        base: u32,
        (old, index): (&[u8], Option<Index>),
        reader: &mut dyn Read,
    ) -> io::Result<()> {
        if rest.is_small() && old.len() as u64 <= SMALL_BYTES {
            self.patches.objects.push(rest.number);
            self.patches.bases.push(base);
            self.patches.base.extend_from_slice(old);
            reader.read_to_end(&mut self.patches.content)?;
            return Ok(());
        }
        let mut content = Vec::with_capacity(usize::try_from(rest.bytes).unwrap_or(0));
        reader.read_to_end(&mut content)?;
        let level = self.level.measure(self.out.waited, LevelNow::HIGHEST);
        let index = index.unwrap_or_else(|| Index::of_bytes(old));
        match shortest(level, (old, &index), &content)? {
            Form::Patch(frame) => {
                self.sent.patched += 1;
                self.out.put(patch_head(rest, base))?;
                let mut pieces = PieceWriter::new(&mut self.out);
                pieces.write_all(&frame)?;
                pieces.end()
            }
            Form::Like(frame) => self.unit(&[rest.number], rest.from, &[base], &frame),
            Form::Whole(frame) => self.unit(&[rest.number], rest.from, &[], &frame),
        }
    }

    /// Something large that has an old form: neither is ever in memory as a whole.
    fn stream_patch(
        &mut self,
        rest: Rest,
        base: u32,
        (old, index): (&Stored, &Index),
        reader: &mut dyn Read,
    ) -> io::Result<()> {
        let level = self.level.measure(self.out.waited, LevelNow::LARGE);
        self.sent.patched += 1;
        self.out.put(patch_head(rest, base))?;
        let mut encoder = zip::plain(PieceWriter::new(&mut self.out), level)?;
        matches::write(old, index, reader, &mut encoder)?;
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
        let mut pieces = PieceWriter::new(&mut self.out);
        pieces.write_all(frame)?;
        pieces.end()
    }
}

/// What is to be sent of an object.
#[derive(Clone, Copy)]
struct Rest {
    number: u32,
    from: u64,
    bytes: u64,
}

impl Rest {
    fn is_small(self) -> bool {
        self.from == 0 && self.bytes <= SMALL_BYTES
    }
}

/// How a content with an old form is sent, compressed.
enum Form {
    /// As instructions.
    Patch(Vec<u8>),
    /// With the old form as reference.
    Like(Vec<u8>),
    Whole(Vec<u8>),
}

/// The shortest form. Long stretches in common are found quickly; the compressor, which finds short
/// ones too, takes many times as long and is only asked where there may be any.
fn shortest(level: i32, (old, index): (&[u8], &Index), content: &[u8]) -> io::Result<Form> {
    let mut instructions = Vec::new();
    let copied = matches::write(&old, index, &mut &content[..], &mut instructions)?;
    let new = content.len() - usize::try_from(copied).unwrap_or(0);
    let form: fn(Vec<u8>) -> Form = if copied == 0 { Form::Whole } else { Form::Patch };
    let frame = zip::compress(level, &[], if copied == 0 { content } else { &instructions })?;
    // Noise to every compressor, as pictures and sounds are, or hardly anything at all.
    if new < content.len() / 16 || frame.len() > new - new / 50 {
        return Ok(form(frame));
    }
    let like = zip::compress(level, old, content)?;
    Ok(if frame.len() <= like.len() { form(frame) } else { Form::Like(like) })
}

/// As `io::copy`, with room for whole blocks of a decoder.
fn pass_on(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn patch_head(rest: Rest, base: u32) -> Vec<u8> {
    let mut head = vec![PATCH];
    wire::put_number(&mut head, rest.number.into());
    wire::put_number(&mut head, rest.from);
    wire::put_number(&mut head, base.into());
    head
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
