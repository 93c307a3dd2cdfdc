//! Reading an archive as what it may be: an enemy's file.
//!
//! The signature is verified before anything behind it is looked at; then only what the signed
//! record lists is taken, each thing once, at its size, with its hash. Nothing is ever unpacked by
//! a path that the archive gives: paths come from the record, through a directory handle.

mod bad;
pub(crate) mod frame;
pub(crate) mod layout;
pub(crate) mod loose;
pub(crate) mod reading;
pub(crate) mod record;
pub(crate) mod small;
mod tar;
pub(crate) mod walk;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use entracte_model::manifest::Entry;
use entracte_model::record::{Named, Record};
use entracte_model::{Hash, Manifest, RelPath};

pub use bad::BadArchive;
pub(crate) use walk::{Flow, Item};

use crate::beneath::Root;
use crate::error::At;
use crate::files::{Scrap, Sparse, hash_into, part_of, sync_above};
use crate::keys::{self, KeyId};
use crate::pack::tarball::{self, Head};
use crate::{PackageError, Progress, scripts};

/// The longest record in bytes: a delta of some 200,000 files.
pub const RECORD_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The longest document in bytes: they are read as a whole.
pub const DOCUMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The longest script in bytes: they go from the archive to the disk, never into memory.
pub const SCRIPT_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// A record whose signature is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What was signed.
    pub record: Record,
    /// Who signed it.
    pub key: KeyId,
    /// The very bytes that were signed, as for a transfer or the journal.
    pub text: Vec<u8>,
    /// The signature over them.
    pub signature: String,
}

/// An archive whose record is verified, and whose payload is when it is read.
///
/// It is the one file that [`crate::pack::write`] makes and [`Archive::save`] keeps, or the folder
/// in which a package arrives ([`crate::thin::Inbox::finish`]): both hold the same.
#[derive(Debug)]
pub struct Archive {
    /// The file; none for a folder.
    file: Option<File>,
    path: PathBuf,
    verified: Verified,
}

/// Verifies the signature and the form of a record that arrived on its own.
pub fn verify_record(
    text: &[u8],
    signature: &str,
    trusted: &[String],
) -> Result<Verified, PackageError> {
    let key = keys::verify(trusted, text, signature)?;
    let record = record::parse(text)?;
    record::check(&record)?;
    Ok(Verified { record, key, text: text.to_vec(), signature: signature.to_owned() })
}

/// Whether `path` is a folder in which a package arrived, as far as its names tell.
pub fn has_arrived(path: &Path) -> bool {
    [layout::RECORD, layout::SIGNATURE, small::NAME].iter().all(|name| path.join(name).is_file())
}

/// Opens an archive and verifies its record against the `trusted` public keys.
///
/// Whether the record fits this machine is not decided here: [`Record::judge`] does that.
pub fn open(path: &Path, trusted: &[String]) -> Result<Archive, PackageError> {
    if path.is_dir() {
        if !has_arrived(path) {
            let (found, expected) = (path.display().to_string(), "a package's .tar.zst");
            return Err(BadArchive::NotAPackage { found, expected }.into());
        }
        let (text, signature) = loose::head(path)?;
        let verified = verify_record(&text, &signature, trusted)?;
        return Ok(Archive { file: None, path: path.to_owned(), verified });
    }
    let file = File::open(path).at("open", path)?;
    let head = walk::Walk::new(&file, path)?.head()?;
    let verified = verify_record(&head.text, &head.signature, trusted)?;
    let folder = verified.record.version.folder();
    if head.folder != folder {
        return Err(BadArchive::Folder { found: head.folder, expected: folder }.into());
    }
    Ok(Archive { file: Some(file), path: path.to_owned(), verified })
}

impl Archive {
    /// The verified record.
    pub fn record(&self) -> &Record {
        &self.verified.record
    }

    /// The key that signed it.
    pub fn key(&self) -> KeyId {
        self.verified.key
    }

    /// The record, who signed it, and the bytes of both.
    pub fn verified(&self) -> &Verified {
        &self.verified
    }

    /// Where the archive is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The full manifest of the new tree: the base and the delta, checked against what was signed.
    pub fn new_manifest(&self, base: &Manifest) -> Result<Manifest, PackageError> {
        let record = self.record();
        let expected = record.base.as_ref().map(|base| base.manifest);
        let found = base.hash();
        if expected.unwrap_or_else(|| Manifest::default().hash()) != found {
            return Err(BadArchive::Base { found }.into());
        }
        let new = base.apply(&record.delta).map_err(BadArchive::Delta)?;
        let same = new.hash() == record.manifest
            && new.files() == record.files
            && new.bytes() == record.bytes;
        if !same {
            let found = new.hash();
            return Err(BadArchive::Manifest { expected: record.manifest, found }.into());
        }
        Ok(new)
    }

    /// The content of one script of the record.
    pub fn script(&self, name: &str) -> Result<Vec<u8>, PackageError> {
        self.one(name, |item| matches!(item, Item::Script(named) if named.name.as_str() == name))
    }

    /// Unpacks all scripts into an empty folder; names and paths in the order in which they run.
    ///
    /// Nothing is synced, and on an error what was written until then stays: the files are only
    /// to be used after `Ok`, which says that every byte of them was verified.
    pub fn unpack_scripts(&self, into: &Path) -> Result<Vec<(String, PathBuf)>, PackageError> {
        let root = Root::open(into)?;
        let mut missing = self.record().scripts.len();
        if missing > 0 {
            self.walk(&mut |item, reader| {
                if let Item::Script(named) = item {
                    let (size, hash) = (named.size, named.hash);
                    let entry = Entry::File { size, hash, exec: false };
                    write_new(&root, &named.name, &entry, reader)?;
                    missing -= 1;
                }
                Ok(if missing == 0 { Flow::Enough } else { Flow::Next })
            })?;
        }
        let in_order = self.record().scripts.iter();
        Ok(in_order.map(|named| (named.name.to_string(), root.full(&named.name))).collect())
    }

    /// The script that takes `script` back, where the package has one.
    pub fn down(&self, script: &str) -> Result<Option<Vec<u8>>, PackageError> {
        let Some(stem) = script.strip_suffix(".sql") else { return Ok(None) };
        let down = format!("{stem}.down.sql");
        if !self.record().documents.iter().any(|named| named.name.as_str() == down) {
            return Ok(None);
        }
        self.document(&down).map(Some)
    }

    /// The content of one document of the record.
    pub fn document(&self, name: &str) -> Result<Vec<u8>, PackageError> {
        self.one(name, |item| matches!(item, Item::Document(named) if named.name.as_str() == name))
    }

    /// Reads every byte and compares it with the record: nothing missing, nothing more.
    pub fn verify_all(&self, progress: &mut dyn FnMut(Progress)) -> Result<(), PackageError> {
        let total = self.record().delta.bytes();
        let mut done = 0;
        self.walk(&mut |item, reader| {
            if let Item::Source(path, entry) = item {
                hash_into(reader, |_| Ok(()), &self.path)?;
                done += entry.size();
                progress(Progress {
                    done,
                    total,
                    unit: "bytes",
                    note: format!("verifying {path}"),
                });
            }
            Ok(Flow::Next)
        })
    }

    /// Unpacks the new and changed files into an empty folder.
    ///
    /// Nothing is synced, and on an error what was written until then stays: the folder is only
    /// to be used after `Ok`, which says that every byte was verified.
    pub fn unpack_source(
        &self,
        into: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), PackageError> {
        let root = Root::open(into)?;
        let total = self.record().delta.bytes();
        let mut done = 0;
        self.walk(&mut |item, reader| {
            let Item::Source(path, entry) = item else { return Ok(Flow::Next) };
            root.mkdir_above(path)?;
            match entry {
                Entry::Dir {} => root.mkdir(path, 0o755)?,
                Entry::Link { target } => root.symlink(path, Path::new(target))?,
                Entry::File { exec, .. } => {
                    let mode = if *exec { 0o755 } else { 0o644 };
                    let file = write_new(&root, path, entry, reader)?;
                    let mode = std::fs::Permissions::from_mode(mode);
                    file.set_permissions(mode).at("change the mode of", &root.full(path))?;
                }
            }
            done += entry.size();
            progress(Progress { done, total, unit: "bytes", note: format!("unpacking {path}") });
            Ok(Flow::Next)
        })
    }

    /// Writes the one file to `into`: the same bytes as it was packed with, signature included.
    /// Under another name, synced, renamed.
    ///
    /// A crash can cost a left-over named `.part`, which the next call replaces.
    pub fn save(
        &self,
        into: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), PackageError> {
        let part = part_of(into);
        let scrap = Scrap::new(&part);
        match &self.file {
            Some(file) => {
                let copy = || {
                    let mut to = File::create(&part)?;
                    io::copy(&mut reading::FromStart::buffered(file), &mut to)?;
                    to.sync_all()
                };
                copy().at("write", &part)?;
            }
            None => {
                let Verified { record, text, signature, .. } = &self.verified;
                let folder = loose::Folder::open(&self.path)?;
                let content = |_: &str, hash: &Hash, size| folder.content(hash, size);
                tarball::write(&Head { text, signature }, &content, record, &part, progress)?;
            }
        }
        fs::rename(&part, into).at("rename", &part)?;
        scrap.keep();
        sync_above(into)
    }

    /// Gives each thing that the record lists to `visit`, in the archive's order. What `visit`
    /// leaves unread is read and verified after it. Without [`Flow::Enough`], `Ok` says that
    /// the archive held everything that the record lists, and, where it is a file, nothing else; what
    /// else lies in a folder is never read.
    pub(crate) fn walk(&self, visit: &mut walk::Visit<'_>) -> Result<(), PackageError> {
        match &self.file {
            Some(file) => walk::Walk::new(file, &self.path)?.payload(&self.verified, visit),
            None => loose::walk(&self.path, &self.verified, visit),
        }
    }

    fn one(&self, name: &str, wanted: impl Fn(&Item<'_>) -> bool) -> Result<Vec<u8>, PackageError> {
        let mut content = None;
        self.walk(&mut |item, reader| match item {
            Item::Script(named) | Item::Document(named) if wanted(&item) => {
                content = Some(read_all(named, reader, &self.path)?);
                Ok(Flow::Enough)
            }
            _ => Ok(Flow::Next),
        })?;
        content.ok_or_else(|| BadArchive::NotListed(name.to_owned()).into())
    }
}

/// Creates the file of `entry` at `path` from `reader`. If the content is another one than the
/// record lists, nothing stays under its name.
pub(crate) fn write_new(
    root: &Root,
    path: &RelPath,
    entry: &Entry,
    reader: &mut dyn Read,
) -> Result<File, PackageError> {
    let mut file = root.create(path)?;
    let full = root.full(path);
    let mut sparse = Sparse::new(&mut file);
    let written = hash_into(reader, |chunk| sparse.put(chunk).at("write", &full), &full);
    let written = written.and_then(|written| {
        sparse.end().at("write", &full)?;
        Ok(written)
    });
    match (written, entry) {
        (Ok((size, hash)), Entry::File { size: wanted, hash: right, .. })
            if size == *wanted && hash == *right =>
        {
            Ok(file)
        }
        (outcome, _) => {
            let removed = root.unlink(path);
            outcome?;
            removed?;
            Err(BadArchive::Content(path.to_string()).into())
        }
    }
}

fn read_all(named: &Named, reader: &mut dyn Read, path: &Path) -> Result<Vec<u8>, PackageError> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|error| reading::fault(error, path))?;
    if named.hash != Hash::of(&bytes) {
        return Err(BadArchive::Content(named.name.to_string()).into());
    }
    Ok(bytes)
}

/// Whether a document lies in `SQL/` instead of `documentation/`: scripts that take one back do.
fn lies_in_sql(document: &Named) -> bool {
    scripts::is_down(document.name.as_str())
}
