//! From objects to the ordinary archive, as the packing side made it.

use std::fs;
use std::path::Path;

use super::{BadThin, Inbox};
use crate::archive::record;
use crate::error::At;
use crate::files::{Scrap, part_of, sync_dir};
use crate::pack::tarball::{self, Head};
use crate::{PackageError, Progress};

impl Inbox {
    /// Makes the archive at `into` of what is here: the same content, signature included, as the
    /// one that was packed. Written under another name, synced, renamed.
    ///
    /// A crash can cost a left-over named `.part`, which the next call replaces.
    pub fn assemble(
        &self,
        into: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), PackageError> {
        let missing = self.wants().len();
        if missing > 0 {
            return Err(BadThin::Missing(missing).into());
        }
        record::check(&self.verified.record)?;
        let part = part_of(into);
        let scrap = Scrap::new(&part);
        let head = Head { text: &self.verified.text, signature: &self.verified.signature };
        let place = |_: &str, hash: &entracte_model::Hash| self.place(hash);
        tarball::write(&head, &place, &self.verified.record, &part, progress)?;
        fs::rename(&part, into).at("rename", &part)?;
        scrap.keep();
        match into.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
            _ => sync_dir(Path::new(".")),
        }
    }
}
