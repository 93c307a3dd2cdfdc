//! Old forms, read ahead by a thread of their own: while one content is packed, the old form of the
//! next is read and looked through.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::matches::{Index, Stored};
use super::pairs::BaseFile;
use super::{Object, Olds};
use crate::archive::small;

/// Contents above this size, in bytes, and contents with such an old form are never in memory as a
/// whole.
pub(super) const STREAM_BYTES: u64 = 4 * 1024 * 1024;
/// How many old forms wait: of those in memory, at most 32 MiB.
const WAITING_MAX: usize = 8;

/// What a content was before, looked through where it does not go together with others.
pub(super) enum OldForm {
    Held(Vec<u8>, Option<Index>),
    Large(Stored, Index),
}

/// The end that takes them.
pub(super) struct Ahead(Receiver<(u32, Option<OldForm>)>);

/// The end that reads them.
pub(super) struct Reader(SyncSender<(u32, Option<OldForm>)>);

pub(super) fn channel() -> (Reader, Ahead) {
    let (reader, ahead) = sync_channel(WAITING_MAX);
    (Reader(reader), Ahead(ahead))
}

impl Reader {
    /// Reads the old forms of `todo`, in the order of the numbers, until nobody takes them any more.
    pub(super) fn all(self, todo: &BTreeMap<u32, (Object, BaseFile<'_>)>, olds: &Olds) {
        for (number, (object, file)) in todo {
            if self.0.send((*number, form(object, file, olds))).is_err() {
                return;
            }
        }
    }
}

impl Ahead {
    /// The old form of this object, if it is nowhere another one. Those of objects with lower numbers
    /// are gone then: contents come in the order of their numbers.
    pub(super) fn take(&self, number: u32) -> Option<OldForm> {
        self.0.iter().find(|(found, _)| *found >= number).filter(|(found, _)| *found == number)?.1
    }
}

fn form(object: &Object, file: &BaseFile<'_>, olds: &Olds) -> Option<OldForm> {
    let larger = object.size.max(file.size);
    if larger <= STREAM_BYTES {
        let old = olds.read(file.path, file.size, &file.hash)?;
        let index = (larger > small::BYTES_MAX).then(|| Index::of_bytes(&old));
        return Some(OldForm::Held(old, index));
    }
    olds.stored(file.path, file.size, &file.hash).into_iter().find_map(|stored| {
        let (index, hash) = Index::of(&stored).ok()?;
        (hash == file.hash).then_some(OldForm::Large(stored, index))
    })
}
