//! One pass over an archive: head, then payload, each member against the record.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use entracte_model::manifest::Entry;
use entracte_model::path::BadPath;
use entracte_model::record::{Named, Record};
use entracte_model::{Hash, RelPath};

use super::layout::{self, Place};
use super::reading::{FromStart, HashRead, fault};
use super::tar::{Kind, Member, Members};
use super::{BadArchive, RECORD_BYTES_MAX, Verified, frame, lies_in_sql};
use crate::error::At;
use crate::files::hash_into;
use crate::{PackageError, keys};

/// Something that the record lists.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item<'a> {
    Document(&'a Named),
    Script(&'a Named),
    Source(&'a RelPath, &'a Entry),
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Next,
    /// The rest of the archive is not looked at.
    Enough,
}

/// Takes an item and its content.
pub(crate) type Visit<'v> = dyn FnMut(Item<'_>, &mut dyn Read) -> Result<Flow, PackageError> + 'v;

/// What stands at the beginning, before anything is believed.
pub(crate) struct Head {
    /// The folder around everything.
    pub folder: String,
    pub text: Vec<u8>,
    pub signature: String,
}

type Decoder<'a> = zstd::Decoder<'static, BufReader<FromStart<'a>>>;

/// A pass over an archive.
pub(crate) struct Walk<'a> {
    members: Members<'a, Decoder<'a>>,
    path: &'a Path,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(file: &'a File, path: &'a Path) -> Result<Self, PackageError> {
        let mut start = Vec::with_capacity(frame::HEADER_BYTES_MAX);
        FromStart::buffered(file)
            .take(frame::HEADER_BYTES_MAX as u64)
            .read_to_end(&mut start)
            .at("read", path)?;
        frame::check(&start)?;
        let mut decoder =
            zstd::Decoder::with_buffer(FromStart::buffered(file)).at("decode", path)?;
        decoder.window_log_max(frame::WINDOW_LOG_MAX).at("decode", path)?;
        let members = Members::new(decoder.single_frame(), path);
        Ok(Self { members, path })
    }

    /// Reads the folder, the record and the signature, in this order.
    pub(crate) fn head(&mut self) -> Result<Head, PackageError> {
        let expected = "the version's folder";
        let first = self.members.next()?;
        let not_a_package = |found: Option<Member>, expected| {
            let found = found.map_or_else(|| "the end".to_owned(), |member| member.path);
            PackageError::from(BadArchive::NotAPackage { found, expected })
        };
        let folder = match first {
            Some(Member { path, kind: Kind::Dir, .. }) if !path.contains('/') => path,
            other => return Err(not_a_package(other, expected)),
        };
        let record_path = format!("{folder}/{}", layout::RECORD);
        let text = match self.members.next()? {
            Some(member) if member.path == record_path && member.kind == Kind::File => {
                self.members.small(&member, RECORD_BYTES_MAX)?
            }
            other => return Err(not_a_package(other, layout::RECORD)),
        };
        let signature_path = format!("{folder}/{}", layout::SIGNATURE);
        let signature = match self.members.next()? {
            Some(member) if member.path == signature_path && member.kind == Kind::File => {
                self.members.small(&member, keys::TEXT_BYTES_MAX as u64)?
            }
            other => {
                let found = other.map_or_else(|| "the end".to_owned(), |member| member.path);
                return Err(BadArchive::Unsigned(found).into());
            }
        };
        let signature = String::from_utf8(signature).map_err(|_| keys::KeyError::Malformed)?;
        Ok(Head { folder, text, signature })
    }

    /// Goes over everything behind the head.
    pub(crate) fn payload(
        mut self,
        verified: &Verified,
        visit: &mut Visit<'_>,
    ) -> Result<(), PackageError> {
        let head = self.head()?;
        if head.text != verified.text || head.folder != verified.record.version.folder() {
            return Err(BadArchive::Replaced.into());
        }
        let mut listing = Listing::new(&verified.record);
        while let Some(member) = self.members.next()? {
            let Some(item) = listing.find(&head.folder, &member)? else { continue };
            if one(item, &mut self.members, self.path, &member.path, visit)? == Flow::Enough {
                return Ok(());
            }
        }
        listing.complete()?;
        let decoder = self.members.finish()?;
        let mut rest = decoder.finish();
        if !rest.fill_buf().at("read", self.path)?.is_empty() {
            return Err(BadArchive::Trailing.into());
        }
        Ok(())
    }
}

/// Gives one item to `visit`, and verifies its content, also what was left unread. `name` is what a
/// message calls it; `reading` is where it comes from.
pub(super) fn one(
    item: Item<'_>,
    content: &mut dyn Read,
    reading: &Path,
    name: &str,
    visit: &mut Visit<'_>,
) -> Result<Flow, PackageError> {
    let mut watched = Watched { inner: content, failed: None };
    let mut reader = HashRead::new(&mut watched);
    let flow = visit(item, &mut reader).and_then(|flow| {
        // What was not asked for is verified all the same.
        hash_into(&mut reader, |_| Ok(()), reading)?;
        Ok(flow)
    });
    let (size, hash) = reader.finish();
    if let Some(error) = watched.failed {
        return Err(fault(error, reading));
    }
    match expected(item) {
        // A visitor's own error, a full disk for one, comes before what it left unread.
        Some(right) if flow.is_ok() && right != (size, hash) => {
            Err(BadArchive::Content(name.to_owned()).into())
        }
        _ => flow,
    }
}

/// Keeps the archive's own read error apart from those of whoever reads from it.
struct Watched<'m> {
    inner: &'m mut dyn Read,
    failed: Option<io::Error>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failed = Some(error);
            }
            kind.into()
        })
    }
}

/// The size and hash of the content that an item must have; none for what has no content.
pub(super) fn expected(item: Item<'_>) -> Option<(u64, Hash)> {
    match item {
        Item::Document(named) | Item::Script(named) => Some((named.size, named.hash)),
        Item::Source(_, Entry::File { size, hash, .. }) => Some((*size, *hash)),
        Item::Source(..) => None,
    }
}

/// What the record lists, and what of it was seen.
struct Listing<'r> {
    documents: BTreeMap<&'r str, &'r Named>,
    sql: BTreeMap<&'r str, Item<'r>>,
    record: &'r Record,
    seen: BTreeSet<String>,
    /// How many listed things are still to come.
    missing: usize,
}

impl<'r> Listing<'r> {
    fn new(record: &'r Record) -> Self {
        let (down, documents): (Vec<_>, Vec<_>) =
            record.documents.iter().partition(|named| lies_in_sql(named));
        let scripts = record.scripts.iter().map(|named| (named.name.as_str(), Item::Script(named)));
        let down = down.into_iter().map(|named| (named.name.as_str(), Item::Document(named)));
        Self {
            documents: documents.iter().map(|named| (named.name.as_str(), *named)).collect(),
            sql: scripts.chain(down).collect(),
            record,
            seen: BTreeSet::new(),
            missing: record.documents.len() + record.scripts.len() + record.delta.put.len(),
        }
    }

    /// The item that `member` is; `None` for one of the package's own folders.
    fn find(&mut self, folder: &str, member: &Member) -> Result<Option<Item<'r>>, BadArchive> {
        let path = checked(&member.path)?;
        let stray = || BadArchive::Stray(path.to_string());
        let inside = path.as_str().strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
        let inside = inside.ok_or_else(stray)?;
        if !self.seen.insert(inside.to_owned()) {
            return Err(BadArchive::Duplicate(path.to_string()));
        }
        let unlisted = || BadArchive::Unlisted(path.to_string());
        let item = match layout::place(inside) {
            Place::Folder if member.kind == Kind::Dir => return Ok(None),
            Place::Folder => return Err(BadArchive::OtherKind(path.to_string())),
            Place::Head => return Err(BadArchive::Duplicate(path.to_string())),
            Place::Stray => return Err(stray()),
            Place::Documentation(name) => {
                Item::Document(self.documents.get(name).ok_or_else(unlisted)?)
            }
            Place::Sql(name) => *self.sql.get(name).ok_or_else(unlisted)?,
            Place::Source(name) => {
                let rel: RelPath = name.parse().map_err(BadArchive::Path)?;
                let (rel, entry) =
                    self.record.delta.put.get_key_value(&rel).ok_or_else(unlisted)?;
                Item::Source(rel, entry)
            }
        };
        fits(item, member)?;
        self.missing -= 1;
        Ok(Some(item))
    }

    /// Whether everything was there; if not, names the first that was not.
    fn complete(self) -> Result<(), BadArchive> {
        if self.missing == 0 {
            return Ok(());
        }
        let documents =
            self.documents.keys().map(|name| format!("{}/{name}", layout::DOCUMENTATION));
        let sql = self.sql.keys().map(|name| format!("{}/{name}", layout::SQL));
        let put = self.record.delta.put.keys().map(|path| format!("{}/{path}", layout::SOURCE));
        let mut all = documents.chain(sql).chain(put);
        let first = all.find(|path| !self.seen.contains(path));
        Err(BadArchive::Missing(first.unwrap_or_default()))
    }
}

fn checked(path: &str) -> Result<RelPath, BadArchive> {
    path.parse().map_err(|bad| match bad {
        BadPath::Absolute(path) => BadArchive::Absolute(path),
        BadPath::Climbs(path, _) => BadArchive::Climbs(path),
        other => BadArchive::Path(other),
    })
}

/// Whether kind and size are those that the record lists.
fn fits(item: Item<'_>, member: &Member) -> Result<(), BadArchive> {
    let right = match item {
        Item::Document(_) | Item::Script(_) | Item::Source(_, Entry::File { .. }) => Kind::File,
        Item::Source(_, Entry::Dir {}) => Kind::Dir,
        Item::Source(_, Entry::Link { target }) => Kind::Link(target.clone()),
    };
    if member.kind != right {
        return Err(BadArchive::OtherKind(member.path.clone()));
    }
    match expected(item) {
        Some((expected, _)) if expected != member.size => {
            Err(BadArchive::Size { path: member.path.clone(), found: member.size, expected })
        }
        _ => Ok(()),
    }
}
