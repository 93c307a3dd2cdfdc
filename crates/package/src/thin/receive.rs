//! The receiving side of a stream: every number, size and window is checked before it is used.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use entracte_model::Hash;

use super::inbox::State;
use super::pairs::{BaseFile, BaseFiles};
use super::patch::{Fault, Patched};
use super::wire::{COPY, DATA, END, GROUP_MAX, PATCH, Reader};
use super::{BASE_BYTES_MAX, BadThin, Inbox, Object, Received, zip};
use crate::archive::reading::FromStart;
use crate::archive::small;
use crate::beneath::Root;
use crate::error::At;
use crate::files::{CHUNK_BYTES, Sparse, hash_into};
use crate::{PackageError, Progress};

impl Inbox {
    /// Takes one stream, up to its end and not a byte further. `live` is the tree that holds the
    /// base version; it is only read. Give a buffered reader: numbers are read byte by byte.
    ///
    /// On an error what arrived is kept: ask for [`Inbox::wants`] and take the next stream.
    pub fn receive(
        &mut self,
        from: &mut dyn Read,
        live: &Path,
        progress: &mut dyn FnMut(Progress),
        stop: &AtomicBool,
    ) -> Result<Received, PackageError> {
        let base = self.base.clone();
        let files = BaseFiles::of(&base);
        let live = match base.entries.is_empty() {
            true => None,
            false => Some(Root::open(live)?),
        };
        let mut reader = Reader::new(from);
        reader.header(&self.verified.record.manifest, &base.hash())?;
        let (total, received) = (self.wants().bytes(&self.objects), Received::default());
        let mut taker = Taker { inbox: self, files: &files, live, received, done: 0, total };
        let outcome = taker.units(&mut reader, progress, stop);
        let received = Received { bytes: reader.count, ..taker.received };
        outcome?;
        // Nothing is synced here, but when everything is there: a crash before that costs at most that
        // the same is sent again, since what is here is read again and only what is right counts.
        Ok(received)
    }
}

struct Taker<'a> {
    inbox: &'a mut Inbox,
    files: &'a BaseFiles<'a>,
    live: Option<Root>,
    received: Received,
    done: u64,
    total: u64,
}

impl Taker<'_> {
    fn units(
        &mut self,
        reader: &mut Reader<'_>,
        progress: &mut dyn FnMut(Progress),
        stop: &AtomicBool,
    ) -> Result<(), PackageError> {
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(PackageError::Stopped);
            }
            match reader.byte()? {
                COPY => self.copy(reader)?,
                DATA => self.data(reader)?,
                PATCH => self.patch(reader)?,
                END => return Ok(()),
                other => return Err(BadThin::Unit(other).into()),
            }
            let (done, total) = (self.done, self.total);
            let note = "receiving".to_owned();
            progress(Progress { done, total, unit: "bytes", note });
        }
    }

    /// The object with this number, if it is wanted, and how much of it is here.
    fn wanted(&self, number: u32) -> Result<(Object, u64), PackageError> {
        let object = self.inbox.objects.get(number).ok_or(BadThin::NoObject(number))?;
        match self.inbox.state.get(number as usize) {
            Some(State::Part(from)) => Ok((object, *from)),
            Some(State::Here) | None => Err(BadThin::NotWanted(object.hash).into()),
        }
    }

    fn copy(&mut self, reader: &mut Reader<'_>) -> Result<(), PackageError> {
        let (number, base) = (reader.index()?, reader.index()?);
        let (object, _) = self.wanted(number)?;
        let file = self.files.get(base).ok_or(BadThin::NoBase(base))?;
        if (file.hash, file.size) != (object.hash, object.size) {
            return Err(BadThin::Content(object.hash).into());
        }
        let Some(mut source) = self.live.as_ref().and_then(|live| live.read(file.path).ok()) else {
            return self.drifted(&[base], 1);
        };
        if object.size <= small::BYTES_MAX {
            let mut content = Vec::new();
            let limited = &mut Read::by_ref(&mut source).take(object.size + 1);
            limited.read_to_end(&mut content).at("read", file.path.as_ref())?;
            if (content.len() as u64, Hash::of(&content)) != (object.size, object.hash) {
                return self.drifted(&[base], 1);
            }
            self.received.copied += 1;
            return self.keep(number, object, &content);
        }
        let part = self.inbox.part(&object.hash);
        self.inbox.state[number as usize] = State::Part(0);
        let mut target = File::create(&part).at("create", &part)?;
        // No more than it should be: a log that grows is not copied without end.
        let limited = &mut Read::by_ref(&mut source).take(object.size + 1);
        let sink = |chunk: &[u8]| target.write_all(chunk).at("write", &part);
        if hash_into(limited, sink, &part)? != (object.size, object.hash) {
            self.discard(number, &object.hash)?;
            return self.drifted(&[base], 1);
        }
        self.received.copied += 1;
        self.complete(number, object)
    }

    fn drifted(&mut self, bases: &[u32], objects: u64) -> Result<(), PackageError> {
        self.inbox.drifted.extend(bases);
        self.received.refused += objects;
        Ok(())
    }

    /// Puts a small object, whose hash is right, to the others.
    fn keep(&mut self, number: u32, object: Object, content: &[u8]) -> Result<(), PackageError> {
        self.inbox.small.add(object.hash, content)?;
        self.inbox.state[number as usize] = State::Here;
        self.done += object.size;
        Ok(())
    }

    fn complete(&mut self, number: u32, object: Object) -> Result<(), PackageError> {
        let (part, place) = (self.inbox.part(&object.hash), self.inbox.place(&object.hash));
        fs::rename(&part, &place).at("rename", &part)?;
        self.inbox.state[number as usize] = State::Here;
        self.done += object.size;
        Ok(())
    }

    fn discard(&mut self, number: u32, hash: &Hash) -> Result<(), PackageError> {
        let part = self.inbox.part(hash);
        self.inbox.state[number as usize] = State::Part(0);
        match fs::remove_file(&part) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).at("remove", &part),
            _ => Ok(()),
        }
    }

    fn data(&mut self, reader: &mut Reader<'_>) -> Result<(), PackageError> {
        let numbers = self.numbers(reader)?;
        let offset = reader.number()?;
        let mut objects = Vec::with_capacity(numbers.len());
        for number in &numbers {
            let (object, from) = self.wanted(*number)?;
            if objects.iter().any(|(_, known): &(u32, Object)| known.hash == object.hash) {
                return Err(BadThin::NotWanted(object.hash).into());
            }
            if offset != from {
                let hash = object.hash;
                return Err(BadThin::Offset { hash, found: offset, expected: from }.into());
            }
            objects.push((*number, object));
        }
        if offset > 0 && objects.len() > 1 {
            return Err(BadThin::Group(objects.len() as u64).into());
        }
        let bases = self.bases(reader)?;
        let mut pieces = reader.pieces();
        let Some(base) = self.old(&bases)? else {
            pieces.drain()?;
            return self.drifted_among(&bases, numbers.len() as u64);
        };
        let outcome = self.unpack(&objects, offset, &base, &mut pieces);
        if let Some(fault) = pieces.fault.take() {
            return Err(fault);
        }
        outcome?;
        if pieces.drain()? {
            return Err(BadThin::Trailing(objects[0].1.hash).into());
        }
        match bases.is_empty() {
            true => self.received.added += numbers.len() as u64,
            false => self.received.patched += numbers.len() as u64,
        }
        Ok(())
    }

    fn patch(&mut self, reader: &mut Reader<'_>) -> Result<(), PackageError> {
        let number = reader.index()?;
        let found = reader.number()?;
        let base = reader.index()?;
        let (object, expected) = self.wanted(number)?;
        if found != expected {
            return Err(BadThin::Offset { hash: object.hash, found, expected }.into());
        }
        let file = self.files.get(base).ok_or(BadThin::NoBase(base))?;
        let source = self.live.as_ref().and_then(|live| live.read(file.path).ok());
        let source = source.filter(|source| source.metadata().is_ok_and(|meta| meta.is_file()));
        let mut pieces = reader.pieces();
        let made = match &source {
            Some(source) => self.make((number, object), found, (source, file), &mut pieces),
            None => Ok(false),
        };
        if let Some(fault) = pieces.fault.take() {
            return Err(fault);
        }
        if made? {
            if pieces.drain()? {
                return Err(BadThin::Trailing(object.hash).into());
            }
            self.received.patched += 1;
            return Ok(());
        }
        pieces.drain()?;
        self.drifted(&[base], 1)
    }

    /// Makes an object of an old file by the instructions in `pieces`; `false` where the file is not
    /// what the base lists. That is only looked at where the outcome is wrong.
    fn make(
        &mut self,
        (number, object): (u32, Object),
        offset: u64,
        (source, file): (&File, BaseFile<'_>),
        pieces: &mut dyn Read,
    ) -> Result<bool, PackageError> {
        let decoder = zip::decoder(pieces, &[], None, object.hash)?;
        let decoder = BufReader::with_capacity(CHUNK_BYTES, decoder);
        let left = object.size - offset;
        let mut patched = Patched::new(decoder, (source, file.size), object.hash, left);
        let outcome = self.write(number, object, offset, &mut patched);
        match (patched.fault.take(), outcome) {
            (None, Ok(())) => {}
            (Some(Fault::Bad(bad)), _) => return Err(bad.into()),
            (Some(Fault::Unreadable(error)), _) => {
                return Err(error).at("read", file.path.as_ref());
            }
            (Some(Fault::OtherOld), _) => {
                self.discard(number, &object.hash)?;
                return Ok(false);
            }
            (None, Err(PackageError::Thin(BadThin::Content(hash)))) => {
                let mut whole = FromStart::buffered(source).take(file.size + 1);
                let (size, found) = hash_into(&mut whole, |_| Ok(()), file.path.as_ref())?;
                return match (size, found) == (file.size, file.hash) {
                    true => Err(BadThin::Content(hash).into()),
                    false => Ok(false),
                };
            }
            (None, Err(error)) => return Err(error),
        }
        let rest = patched.end()?.into_inner().finish();
        match rest.buffer().is_empty() {
            true => Ok(true),
            false => Err(BadThin::Trailing(object.hash).into()),
        }
    }

    fn numbers(&self, reader: &mut Reader<'_>) -> Result<Vec<u32>, PackageError> {
        let count = reader.number()?;
        if count == 0 || count > GROUP_MAX {
            return Err(BadThin::Group(count).into());
        }
        (0..count).map(|_| reader.index()).collect()
    }

    /// The base files of a unit, their sizes checked before any is read.
    fn bases(&self, reader: &mut Reader<'_>) -> Result<Vec<u32>, PackageError> {
        let count = reader.number()?;
        if count > GROUP_MAX {
            return Err(BadThin::Group(count).into());
        }
        let mut found = 0_u64;
        let mut bases = Vec::new();
        for _ in 0..count {
            let number = reader.index()?;
            let file = self.files.get(number).ok_or(BadThin::NoBase(number))?;
            found = found.saturating_add(file.size);
            if found > BASE_BYTES_MAX {
                return Err(BadThin::BaseTooLarge { found, max: BASE_BYTES_MAX }.into());
            }
            bases.push(number);
        }
        Ok(bases)
    }

    /// The old contents, one behind the other; `None` where one is not what the base lists.
    fn old(&self, bases: &[u32]) -> Result<Option<Vec<u8>>, PackageError> {
        let mut all = Vec::new();
        for number in bases {
            let Some(bytes) = self.old_file(*number)? else { return Ok(None) };
            all.extend_from_slice(&bytes);
        }
        Ok(Some(all))
    }

    fn old_file(&self, number: u32) -> Result<Option<Vec<u8>>, PackageError> {
        let file = self.files.get(number).ok_or(BadThin::NoBase(number))?;
        let Some(source) = self.live.as_ref().and_then(|live| live.read(file.path).ok()) else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(usize::try_from(file.size).unwrap_or(0));
        source.take(file.size + 1).read_to_end(&mut bytes).at("read", file.path.as_ref())?;
        let right = bytes.len() as u64 == file.size && Hash::of(&bytes) == file.hash;
        Ok(right.then_some(bytes))
    }

    fn drifted_among(&mut self, bases: &[u32], objects: u64) -> Result<(), PackageError> {
        let mut wrong = Vec::new();
        for number in bases {
            if self.old_file(*number)?.is_none() {
                wrong.push(*number);
            }
        }
        // Changed back meanwhile: then none of them holds still.
        let wrong = if wrong.is_empty() { bases.to_vec() } else { wrong };
        self.drifted(&wrong, objects)
    }

    /// Decodes one frame into the objects that it holds.
    fn unpack(
        &mut self,
        objects: &[(u32, Object)],
        offset: u64,
        base: &[u8],
        pieces: &mut dyn Read,
    ) -> Result<(), PackageError> {
        let size: u64 = objects.iter().map(|(_, object)| object.size).sum();
        let first = objects[0].1.hash;
        let mut decoder = zip::decoder(pieces, base, Some(size - offset), first)?;
        for (number, object) in objects {
            self.write(*number, *object, offset, &mut decoder)?;
        }
        // Reads the end of the frame: it must be there, and hold nothing more.
        match decoder.read(&mut [0]) {
            Ok(0) => {}
            Ok(_) => {
                let (found, expected) = (size + 1, size);
                return Err(BadThin::Size { hash: first, found, expected }.into());
            }
            Err(error) => return Err(BadThin::Damaged(first, error).into()),
        }
        let rest = decoder.finish();
        match rest.buffer().is_empty() {
            true => Ok(()),
            false => Err(BadThin::Trailing(first).into()),
        }
    }

    /// Takes a small object from `decoder`. If it is cut off, what came of it is kept for the next
    /// connection; a crash costs the little that is in memory.
    fn write_small(
        &mut self,
        number: u32,
        object: Object,
        decoder: &mut dyn Read,
    ) -> Result<(), PackageError> {
        let mut content = Vec::new();
        let outcome = decoder.take(object.size).read_to_end(&mut content);
        let found = content.len() as u64;
        if found < object.size {
            if found > 0 && fs::write(self.inbox.part(&object.hash), &content).is_ok() {
                self.inbox.state[number as usize] = State::Part(found);
            }
            return Err(match outcome {
                Ok(_) => BadThin::Size { hash: object.hash, found, expected: object.size },
                Err(error) => BadThin::Damaged(object.hash, error),
            }
            .into());
        }
        if Hash::of(&content) != object.hash {
            return Err(BadThin::Content(object.hash).into());
        }
        self.keep(number, object, &content)
    }

    /// Writes one object from `decoder`, behind what is here of it.
    fn write(
        &mut self,
        number: u32,
        object: Object,
        offset: u64,
        decoder: &mut dyn Read,
    ) -> Result<(), PackageError> {
        if object.size <= small::BYTES_MAX && offset == 0 {
            return self.write_small(number, object, decoder);
        }
        let path = self.inbox.part(&object.hash);
        let mut hasher = blake3::Hasher::new();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).at("open", &path)?;
        // What is longer was not counted; what is shorter ended in a hole, and was nothing but zeros.
        file.set_len(offset).at("write", &path)?;
        if offset > 0 {
            let mut here = Read::by_ref(&mut file).take(offset);
            let sink = |chunk: &[u8]| {
                hasher.update(chunk);
                Ok(())
            };
            hash_into(&mut here, sink, &path)?;
        }
        self.inbox.state[number as usize] = State::Part(offset);
        let mut left = object.size - offset;
        let mut sparse = Sparse::new(&mut file);
        let mut buffer = vec![0; CHUNK_BYTES];
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = match decoder.read(&mut buffer[..want]) {
                Ok(0) => {
                    let (found, expected) = (object.size - left, object.size);
                    return Err(BadThin::Size { hash: object.hash, found, expected }.into());
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(BadThin::Damaged(object.hash, error).into()),
            };
            hasher.update(&buffer[..count]);
            sparse.put(&buffer[..count]).at("write", &path)?;
            left -= count as u64;
            self.inbox.state[number as usize] = State::Part(object.size - left);
        }
        sparse.end().at("write", &path)?;
        if Hash::from(hasher.finalize()) != object.hash {
            self.discard(number, &object.hash)?;
            return Err(BadThin::Content(object.hash).into());
        }
        self.complete(number, object)
    }
}
