//! The archive of a package: the same contents always give the same bytes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use entracte_model::Hash;
use entracte_model::manifest::Entry;
use entracte_model::record::{Named, Record};
use tar::{EntryType, Header};

use super::PackFault;
use crate::archive::layout;
use crate::archive::reading::HashRead;
use crate::error::At;
use crate::scripts;
use crate::{PackageError, Progress};

/// Compression: at higher levels packing takes longer than sending what they save.
const LEVEL: i32 = 3;

/// What stands first in an archive.
pub(crate) struct Head<'a> {
    /// The text of the record.
    pub text: &'a [u8],
    /// The signature over it.
    pub signature: &'a str,
}

/// Opens a content, by its name in the package, its hash and its size.
pub(crate) type Contents<'a> =
    dyn Fn(&str, &Hash, u64) -> Result<Box<dyn io::Read + 'a>, PackageError> + 'a;

struct Tarball<'a, W: Write> {
    tar: tar::Builder<W>,
    contents: &'a Contents<'a>,
    /// The name of everything's folder, `v1.1.0`.
    top: String,
    mtime_s: u64,
    archive: &'a Path,
}

/// Writes the archive of what `contents` opens to `archive` and syncs it. Gives its size in bytes.
pub(crate) fn write<'a>(
    head: &Head<'_>,
    contents: &'a Contents<'a>,
    record: &Record,
    archive: &'a Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, PackageError> {
    let file = File::create(archive).at("create", archive)?;
    let encoder = || -> io::Result<_> {
        let mut encoder = zstd::Encoder::new(BufWriter::new(&file), LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(encoder)
    };
    let mut tarball = Tarball {
        tar: tar::Builder::new(encoder().at("compress", archive)?),
        contents,
        top: record.version.folder(),
        mtime_s: u64::try_from(record.created.0.div_euclid(1_000)).unwrap_or(0),
        archive,
    };
    tarball.all(head, record, progress)?;
    let encoder = tarball.tar.into_inner().at("write", archive)?;
    let mut writer = encoder.finish().at("write", archive)?;
    writer.flush().at("write", archive)?;
    drop(writer);
    file.sync_all().at("sync", archive)?;
    Ok(file.metadata().at("look at", archive)?.len())
}

impl<W: Write> Tarball<'_, W> {
    /// The record and its signature first: a reader believes nothing before them.
    fn all(
        &mut self,
        head: &Head<'_>,
        record: &Record,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), PackageError> {
        self.dir("")?;
        self.small(layout::RECORD, head.text)?;
        self.small(layout::SIGNATURE, head.signature.as_bytes())?;
        let (down, documents): (Vec<_>, Vec<_>) =
            record.documents.iter().partition(|named| scripts::is_down(named.name.as_str()));
        self.dir(layout::DOCUMENTATION)?;
        for named in documents {
            self.named(layout::DOCUMENTATION, named)?;
        }
        self.dir(layout::SQL)?;
        for named in record.scripts.iter().chain(down) {
            self.named(layout::SQL, named)?;
        }
        self.dir(layout::SOURCE)?;
        let total = record.delta.bytes();
        let mut done = 0;
        for (path, entry) in &record.delta.put {
            let name = format!("{}/{path}", layout::SOURCE);
            match entry {
                Entry::Dir {} => self.dir(&name)?,
                Entry::Link { target } => self.link(&name, target)?,
                Entry::File { size, hash, exec } => {
                    if self.file(&name, (*size, *hash), *exec)? != (*size, *hash) {
                        return Err(PackFault::Changed(path.clone()).into());
                    }
                }
            }
            done += entry.size();
            progress(Progress { done, total, unit: "bytes", note: format!("archiving {path}") });
        }
        Ok(())
    }

    fn named(&mut self, folder: &str, named: &Named) -> Result<(), PackageError> {
        let written =
            self.file(&format!("{folder}/{}", named.name), (named.size, named.hash), false)?;
        if written != (named.size, named.hash) {
            return Err(PackFault::Changed(named.name.clone()).into());
        }
        Ok(())
    }

    fn header(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(self.mtime_s);
        header.set_uid(0);
        header.set_gid(0);
        header
    }

    fn dir(&mut self, name: &str) -> Result<(), PackageError> {
        let mut header = self.header(EntryType::Directory, 0o755, 0);
        let slash = if name.is_empty() { "" } else { "/" };
        let path = format!("{}{slash}{name}/", self.top);
        self.tar.append_data(&mut header, path, io::empty()).at("write", self.archive)
    }

    fn link(&mut self, name: &str, target: &str) -> Result<(), PackageError> {
        let mut header = self.header(EntryType::Symlink, 0o777, 0);
        let path = format!("{}/{name}", self.top);
        self.tar.append_link(&mut header, path, target).at("write", self.archive)
    }

    fn small(&mut self, name: &str, bytes: &[u8]) -> Result<(), PackageError> {
        let mut header = self.header(EntryType::Regular, 0o644, bytes.len() as u64);
        let in_tar = format!("{}/{name}", self.top);
        self.tar.append_data(&mut header, in_tar, bytes).at("write", self.archive)
    }

    /// Adds a file, and says what was read: no more than it should have, padded where there was
    /// less.
    fn file(
        &mut self,
        name: &str,
        (size, hash): (u64, Hash),
        exec: bool,
    ) -> Result<(u64, Hash), PackageError> {
        let content = (self.contents)(name, &hash, size)?;
        let mut reader = HashRead::new(io::Read::take(content, size));
        let mut header = self.header(EntryType::Regular, if exec { 0o755 } else { 0o644 }, size);
        let in_tar = format!("{}/{name}", self.top);
        self.tar.append_data(&mut header, in_tar, &mut reader).at("write", self.archive)?;
        Ok(reader.finish())
    }
}
