//! Where what arrives is kept until the package is complete.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use entracte_model::{Hash, Manifest};

use super::{BadThin, Objects, Wants};
use crate::PackageError;
use crate::archive::small::{self, Small};
use crate::archive::{Verified, layout};
use crate::error::At;
use crate::files::{hash_into, sync_above};

const PART: &str = ".part";

/// The receiving side of one package: a folder of objects by hash, parts of them, and one file with
/// all small ones.
///
/// It is durable from [`Inbox::finish`] on. A crash before that can cost what arrived and was not
/// written to the disk yet; what stays of it is read again by the next [`Inbox::open`], and only what
/// is right counts.
pub struct Inbox {
    pub(super) dir: PathBuf,
    pub(super) verified: Verified,
    pub(super) base: Manifest,
    pub(super) objects: Objects,
    /// By number: whether the object is here, or how many bytes of it.
    pub(super) state: Vec<State>,
    pub(super) drifted: BTreeSet<u32>,
    pub(super) small: Small,
}

/// How much of an object is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Here,
    Part(u64),
}

/// What one stream brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// Contents copied from what was here.
    pub copied: u64,
    /// Contents made of patches.
    pub patched: u64,
    /// Contents that came whole.
    pub added: u64,
    /// Contents that could not be made, since what they build upon is not here as the base lists
    /// it: the next [`Inbox::wants`] asks for them in another way.
    pub refused: u64,
    /// The bytes of the stream.
    pub bytes: u64,
}

impl Inbox {
    /// Opens the inbox in the folder `dir`, made if missing, for a record that is verified and
    /// judged. `base` is the manifest that the record builds upon (an empty one for a first
    /// installation). What an earlier transfer left is read again and kept where it is right;
    /// what belongs to other packages goes.
    pub fn open(dir: &Path, verified: &Verified, base: &Manifest) -> Result<Self, PackageError> {
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).at("create the folder", dir);
            }
            Ok(()) | Err(_) => {}
        }
        let expected = verified.record.base.as_ref().map(|base| base.manifest);
        let found = base.hash();
        if expected.unwrap_or_else(|| Manifest::default().hash()) != found {
            return Err(crate::archive::BadArchive::Base { found }.into());
        }
        let objects = Objects::of(&verified.record);
        let state = vec![State::Part(0); objects.len()];
        let (dir, verified, base) = (dir.to_owned(), verified.clone(), base.clone());
        let small = kept(&dir, &objects)?;
        let drifted = BTreeSet::new();
        let mut inbox = Self { dir, verified, base, objects, state, drifted, small };
        inbox.take_up()?;
        Ok(inbox)
    }

    /// What is still missing.
    pub fn wants(&self) -> Wants {
        let mut wants = Wants { drifted: self.drifted.clone(), ..Wants::default() };
        for ((number, _), state) in self.objects.iter().zip(&self.state) {
            if let State::Part(from) = state {
                wants.push(number, *from);
            }
        }
        wants
    }

    /// The objects of the record.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Makes the complete package of what is here, a folder at `into` on the same file system, which
    /// [`crate::archive::open`] opens. What was there is replaced.
    ///
    /// Everything is synced, then the folder gets its name. A crash can cost the package that was
    /// there before, and leaves what arrived in one of the two places, whole.
    pub fn finish(self, into: &Path) -> Result<(), PackageError> {
        let missing = self.wants().len();
        if missing > 0 {
            return Err(BadThin::Missing(missing).into());
        }
        let head = [
            (layout::RECORD, self.verified.text.as_slice()),
            (layout::SIGNATURE, self.verified.signature.as_bytes()),
        ];
        for (name, bytes) in head {
            let path = self.dir.join(name);
            fs::write(&path, bytes).at("write", &path)?;
        }
        self.small.trim()?;
        // One call for the whole file system, instead of one for each of thousands of files.
        let dir = File::open(&self.dir).at("open the folder", &self.dir)?;
        rustix::fs::syncfs(&dir).at("sync the file system of", &self.dir)?;
        let removed = match into.symlink_metadata() {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(into),
            Ok(_) => fs::remove_file(into),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        removed.at("remove", into)?;
        fs::rename(&self.dir, into).at("rename", &self.dir)?;
        sync_above(into)
    }

    pub(super) fn place(&self, hash: &Hash) -> PathBuf {
        self.dir.join(hash.to_string())
    }

    pub(super) fn part(&self, hash: &Hash) -> PathBuf {
        self.dir.join(format!("{hash}{PART}"))
    }

    /// Looks at what is in the folder.
    fn take_up(&mut self) -> Result<(), PackageError> {
        for number in self.small.hashes().filter_map(|hash| self.objects.number(hash)) {
            self.state[number as usize] = State::Here;
        }
        for entry in fs::read_dir(&self.dir).at("read the folder", &self.dir)? {
            let entry = entry.at("read the folder", &self.dir)?;
            let path = entry.path();
            let foreign = || PackageError::from(BadThin::Foreign(self.dir.clone()));
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(foreign)?;
            if name == small::NAME {
                continue;
            }
            if name == layout::RECORD || name == layout::SIGNATURE {
                // Of a package that was being finished, perhaps another one.
                fs::remove_file(&path).at("remove", &path)?;
                continue;
            }
            let (hash, part) = match name.strip_suffix(PART) {
                Some(hash) => (hash, true),
                None => (name, false),
            };
            let hash: Hash = hash.parse().map_err(|_| foreign())?;
            let kind = entry.file_type().at("look at", &path)?;
            if !kind.is_file() {
                return Err(foreign());
            }
            let keep = match self.objects.number(&hash) {
                Some(number) => self.known(number, &path, part)?,
                None => false,
            };
            if !keep {
                fs::remove_file(&path).at("remove", &path)?;
            }
        }
        Ok(())
    }

    /// Takes up one file; says whether it is of use.
    fn known(&mut self, number: u32, path: &Path, part: bool) -> Result<bool, PackageError> {
        let (Some(object), Ok(at)) = (self.objects.get(number), usize::try_from(number)) else {
            return Ok(false);
        };
        let mut file = File::open(path).at("open", path)?;
        if part {
            let size = file.metadata().at("look at", path)?.len();
            // An object that is here makes a part of it useless, whichever is found first.
            let useful = size < object.size && self.state[at] != State::Here;
            if useful {
                self.state[at] = State::Part(size);
            }
            return Ok(useful);
        }
        let right = hash_into(&mut file, |_| Ok(()), path)? == (object.size, object.hash);
        if right {
            self.state[at] = State::Here;
        }
        Ok(right)
    }
}

/// The small objects that an earlier transfer left in `dir`. If anything else is among them, the file
/// is made anew: under another name, and renamed, so that a crash costs nothing of it.
fn kept(dir: &Path, objects: &Objects) -> Result<Small, PackageError> {
    let path = dir.join(small::NAME);
    let open = |path: &Path, anew| {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(anew);
        options.open(path).at("open", path)
    };
    let found = Small::of(open(&path, false)?, &path)?;
    let mut good = Vec::new();
    for hash in found.hashes() {
        let size = objects.number(hash).and_then(|number| objects.get(number));
        let size = size.map(|object| object.size);
        let Some(mut content) = found.content(hash) else { continue };
        let (length, is) = hash_into(&mut content, |_| Ok(()), &path)?;
        if is == *hash && size == Some(length) {
            good.push(*hash);
        }
    }
    if good.len() == found.hashes().count() {
        return Ok(found);
    }
    let part = dir.join(format!("{}{PART}", small::NAME));
    let mut anew = Small::of(open(&part, true)?, &part)?;
    for hash in good {
        let Some(mut content) = found.content(&hash) else { continue };
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).at("read", &path)?;
        anew.add(hash, &bytes)?;
    }
    fs::rename(&part, &path).at("rename", &part)?;
    Ok(anew)
}
