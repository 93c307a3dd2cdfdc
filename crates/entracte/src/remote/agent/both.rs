//! What needs both machines at once: their databases compared, and production as it stands taken.
//!
//! A connection whose configuration is fixed (`agent --fixed`) releases and does nothing of this: a
//! comparison executes SQL, though on a private copy, and the other two change what a release is
//! compared with.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use entracte_host::wire::message::Declared;
use entracte_host::wire::{Tell, frame};
use entracte_model::Hash;
use entracte_model::manifest::Entry;
use entracte_release::Store;
use entracte_release::drift::{self, Sides};

use super::{Agent, Answered, End};
use crate::cli::adopt::{self, Seen};
use crate::cli::{deploy, sql};
use crate::exit::{Failure, of_fault};
use crate::remote::compare::{Answer, QUESTION_BYTES_MAX, Question};
use crate::remote::edits::{EDITS_BYTES_MAX, Edits};

impl Agent {
    /// Compares this machine's database with what the question describes.
    pub(super) fn compare(&mut self, bytes: u64) -> Answered {
        if bytes > QUESTION_BYTES_MAX {
            let message = format!("a comparison of {bytes} bytes; at most {QUESTION_BYTES_MAX}");
            return Err(End::Told(Failure::usage(message)));
        }
        let packed = self.blob(bytes)?;
        match self.compared(&packed) {
            Ok(answer) => self.tell_blob(&answer),
            Err(failure) => Ok(Err(failure)),
        }
    }

    fn compared(&self, packed: &[u8]) -> Result<Vec<u8>, Failure> {
        self.not_fixed("compares nothing")?;
        let target = self.target()?;
        let (question, scripts) = Question::unpack(packed, &target)?;
        let production = target.database.as_ref().ok_or_else(|| {
            Failure::usage("the configuration there has no database to compare with")
                .hint("`entracte bootstrap` brings the configuration")
        })?;
        let dir = tempfile::tempdir()?;
        let sides = Sides {
            production,
            wanted: &question.wanted,
            scripts: &scripts,
            seed_tables: &question.seed_tables,
            dir: dir.path(),
        };
        let found = match question.mend {
            Some(drops) => drift::mend(sides, drops).map(|(drift, mended)| (drift, Some(mended))),
            None => drift::look(sides).map(|drift| (drift, None)),
        };
        let (drift, mended) = found.map_err(|fault| of_fault(&fault))?;
        Ok(serde_json::to_vec(&Answer { drift, mended }).map_err(std::io::Error::from)?)
    }

    /// Tells what was changed in the tree by hand, and the contents of what was.
    pub(super) fn edits(&mut self) -> Answered {
        let (edits, seen) = match self.edited() {
            Ok(edited) => edited,
            Err(failure) => return Ok(Err(failure)),
        };
        let list = serde_json::to_vec(&edits).map_err(std::io::Error::from)?;
        if let Err(failure) = self.tell_blob(&list)? {
            return Ok(Err(failure));
        }
        self.tell(&Tell::Blob { bytes: edits.bytes() })?;
        for path in edits.files() {
            // What changes meanwhile, its length among it, is seen by its hash at the other end.
            let Some(Entry::File { size, .. }) = edits.delta.put.get(path) else { continue };
            let content = read(&seen.root.join(path), *size);
            frame::write_data(&mut self.out, &content)?;
        }
        self.out.flush()?;
        Ok(Ok(()))
    }

    fn edited(&self) -> Result<(Edits, Seen), Failure> {
        self.not_fixed("shows no files")?;
        let target = self.target()?;
        let store = self.store()?;
        let (base, held) = held(&store)?;
        let seen = adopt::look_at(&target, &held, &mut |_| {})?;
        let edits =
            Edits { base, delta: held.delta_to(&seen.production), changes: seen.changes.clone() };
        if edits.bytes() > EDITS_BYTES_MAX {
            return Err(Failure::refused(format!(
                "the files that were changed by hand have {} bytes; at most {EDITS_BYTES_MAX} are \
                 brought",
                edits.bytes()
            ))
            .hint("`entracte verify` lists them; fetch the large ones with scp"));
        }
        Ok((edits, seen))
    }

    /// Takes the tree as it stands, where it is still what the other side saw.
    pub(super) fn adopt(&mut self, base: &Hash, manifest: &Hash) -> Answered {
        let adopted = self.adopted(base, manifest);
        self.done(adopted)
    }

    fn adopted(&self, base: &Hash, manifest: &Hash) -> Result<(), Failure> {
        self.not_fixed("takes nothing as it stands")?;
        let target = self.target()?;
        let mut store = Store::open_existing(&target.store())?;
        deploy::nothing_under_way(&mut store, &target)?;
        let (found, held) = held(&store)?;
        let production = store.production()?.map(|production| production.base);
        let seen = adopt::look_at(&target, &held, &mut |_| {})?;
        match production {
            Some(known) if found == *base && seen.production.hash() == *manifest => {
                adopt::take_as_it_stands(&mut store, &known, &seen.production)
            }
            _ => Err(Failure::refused("production was changed meanwhile")
                .hint("`entracte adopt` shows what it holds now")),
        }
    }

    /// Counts scripts as run.
    pub(super) fn declare(&mut self, scripts: &[Declared]) -> Answered {
        let declared = self.declared(scripts);
        self.done(declared)
    }

    fn declared(&self, scripts: &[Declared]) -> Result<(), Failure> {
        self.not_fixed("declares nothing")?;
        let target = self.target()?;
        let store = Store::open_existing(&target.store())?;
        sql::declare_in(&target, &store, scripts)
    }

    fn not_fixed(&self, what: &str) -> Result<(), Failure> {
        match self.fixed {
            false => Ok(()),
            true => Err(Failure::refused(format!("this agent {what} (`--fixed`)"))
                .hint("docs/ssh.md: what a key may do")),
        }
    }

    fn tell_blob(&mut self, bytes: &[u8]) -> Answered {
        self.tell(&Tell::Blob { bytes: bytes.len() as u64 })?;
        frame::write_data(&mut self.out, bytes)?;
        self.out.flush()?;
        Ok(Ok(()))
    }
}

/// What production is known to hold.
fn held(store: &Store) -> Result<(Hash, entracte_model::Manifest), Failure> {
    let production =
        store.production()?.ok_or_else(|| Failure::refused("production is not known yet"))?;
    let manifest = store.manifest(&production.base.manifest)?;
    Ok((production.base.manifest, manifest))
}

/// So many bytes of a file; what it lacks is filled up, and its hash will not be right.
fn read(path: &std::path::Path, size: u64) -> Vec<u8> {
    use std::io::Read;
    let no_links = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(no_links).open(path);
    let mut content = Vec::new();
    if let Ok(file) = file {
        // What cannot be read is short, and seen by its hash, too.
        let _ = file.take(size).read_to_end(&mut content);
    }
    content.resize(usize::try_from(size).unwrap_or(usize::MAX), 0);
    content
}
