//! The contents that a package brings, numbered, and what of them is wanted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use entracte_model::Hash;
use entracte_model::manifest::Entry;
use entracte_model::record::Record;
use serde::{Deserialize, Serialize};

use super::BadThin;

/// One content: what it is called does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    /// Its hash.
    pub hash: Hash,
    /// Its length in bytes.
    pub size: u64,
}

/// All contents that a record brings, each once, in an order that both sides know: documents,
/// scripts, then the files of the delta by path. Their numbers are their places in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objects {
    list: Vec<Object>,
    numbers: HashMap<Hash, u32>,
}

impl Objects {
    /// The objects of a record.
    pub fn of(record: &Record) -> Self {
        let named = record.documents.iter().chain(&record.scripts);
        let named = named.map(|named| Object { hash: named.hash, size: named.size });
        let files = record.delta.put.values().filter_map(|entry| match entry {
            Entry::File { size, hash, .. } => Some(Object { hash: *hash, size: *size }),
            Entry::Dir {} | Entry::Link { .. } => None,
        });
        let (mut list, mut numbers) = (Vec::new(), HashMap::new());
        for object in named.chain(files) {
            let number = u32::try_from(list.len()).expect("a record has fewer than 2^32 entries");
            if let std::collections::hash_map::Entry::Vacant(free) = numbers.entry(object.hash) {
                free.insert(number);
                list.push(object);
            }
        }
        Self { list, numbers }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether the record brings no content at all.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The object with this number.
    pub fn get(&self, number: u32) -> Option<Object> {
        self.list.get(usize::try_from(number).ok()?).copied()
    }

    /// The number of a content.
    pub fn number(&self, hash: &Hash) -> Option<u32> {
        self.numbers.get(hash).copied()
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Object)> + '_ {
        (0..).zip(self.list.iter().copied())
    }
}

/// What a receiver lacks of a record. Travels as JSON; small for whole trees too, since whole
/// stretches of numbers are one pair.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wants {
    /// The missing objects, as stretches of numbers: the first, and how many.
    pub missing: Vec<(u32, u32)>,
    /// From which byte on a missing object is wanted, where a part of it is there.
    pub from: BTreeMap<u32, u64>,
    /// Files of the base, by their number among its files, that the receiver does not hold as
    /// the base lists them: nothing can be copied or patched from them.
    pub drifted: BTreeSet<u32>,
}

impl Wants {
    /// Whether everything is there.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }

    /// How many objects are wanted.
    pub fn len(&self) -> u64 {
        self.missing.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// The bytes that are wanted, before compression.
    pub fn bytes(&self, objects: &Objects) -> u64 {
        let sizes = self.numbers(objects).filter_map(|number| {
            let from = self.from.get(&number).copied().unwrap_or(0);
            Some(objects.get(number)?.size.saturating_sub(from))
        });
        sizes.sum()
    }

    /// The numbers that are wanted, none beyond what `objects` holds.
    pub fn numbers<'a>(&'a self, objects: &'a Objects) -> impl Iterator<Item = u32> + 'a {
        let end = u32::try_from(objects.len()).unwrap_or(u32::MAX);
        self.missing
            .iter()
            .flat_map(move |(first, count)| *first..first.saturating_add(*count).min(end))
    }

    /// Refuses wants that cannot be meant for these objects: the sender trusts them no more than
    /// the receiver trusts the stream.
    pub fn check(&self, objects: &Objects) -> Result<(), BadThin> {
        let mut end = 0_u64;
        for (first, count) in &self.missing {
            if u64::from(*first) < end || *count == 0 {
                return Err(BadThin::Wants("its numbers do not ascend"));
            }
            end = u64::from(*first) + u64::from(*count);
        }
        if end > objects.len() as u64 {
            return Err(BadThin::Wants("it wants more objects than there are"));
        }
        let beyond = |(number, from): (&u32, &u64)| {
            objects.get(*number).is_none_or(|object| *from >= object.size)
        };
        if self.from.iter().any(beyond) {
            return Err(BadThin::Wants("it wants an object from beyond its end"));
        }
        Ok(())
    }

    pub(super) fn push(&mut self, number: u32, from: u64) {
        match self.missing.last_mut() {
            Some((first, count)) if first.checked_add(*count) == Some(number) => *count += 1,
            Some(_) | None => self.missing.push((number, 1)),
        }
        if from > 0 {
            self.from.insert(number, from);
        }
    }
}
