//! Everything that is read from outside, as a fuzzer calls it: no input may panic, hang, take more
//! memory than is stated, or be believed without being right.
//!
//! The targets in `crates/package/fuzz` call these; so does a bounded test below.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use entracte_model::manifest::Delta;
use entracte_model::record::Base;
use entracte_model::{Hash, Manifest, UnixMs};

use crate::archive::{Verified, record, walk};
use crate::keys::KeyId;
use crate::scan::{self, Rules};
use crate::thin::{self, Inbox, Level, Offer, Olds, Parcel};
use crate::{PackageError, archive, keys, pack};

static GO: AtomicBool = AtomicBool::new(false);

/// The text of a record: what is taken has one text only, and that is it.
pub fn record(bytes: &[u8]) {
    if let Ok(found) = record::parse(bytes) {
        assert_eq!(record::text(&found), bytes);
        let _ = record::check(&found);
    }
}

/// A manifest and a delta, as JSON: what can be applied gives a tree that can be, and whose
/// difference from the base is the same tree again.
pub fn delta(bytes: &[u8]) {
    let Ok((base, delta)) = serde_json::from_slice::<(Manifest, Delta)>(bytes) else { return };
    if base.check().is_ok()
        && let Ok(new) = base.apply(&delta)
    {
        assert!(new.check().is_ok());
        assert_eq!(base.apply(&base.delta_to(&new)).as_ref(), Ok(&new));
    }
}

/// An offer.
pub fn offer(bytes: &[u8]) {
    let _ = Offer::from_bytes(bytes);
}

/// An archive, as if its signature were good: the fuzzer cannot sign, an enemy with a key could.
pub fn archive(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a file for the archive");
    file.write_all(bytes).expect("the archive is written");
    let path = file.path().to_owned();
    let read = |file: &File| -> Result<(), PackageError> {
        let head = walk::Walk::new(file, &path)?.head()?;
        let found = record::parse(&head.text)?;
        record::check(&found)?;
        let verified =
            Verified { record: found, key: KeyId(0), text: head.text, signature: head.signature };
        walk::Walk::new(file, &path)?.payload(&verified, &mut |_, _| Ok(walk::Flow::Next))
    };
    let _ = read(file.as_file());
}

/// A thin stream, of the package of `fixture`: whatever comes, an object has its own content.
pub fn thin(fixture: &Fixture, bytes: &[u8]) {
    let dir = tempfile::tempdir().expect("a folder for the inbox");
    let place = dir.path().join("inbox");
    let mut inbox = Inbox::open(&place, &fixture.verified, &fixture.base).expect("an inbox");
    let _ = inbox.receive(&mut &bytes[..], &fixture.live, &mut |_| {}, &GO);
    for entry in fs::read_dir(&place).expect("the inbox").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".part") && name != "small" {
            let content = fs::read(entry.path()).expect("an object");
            assert_eq!(Hash::of(&content).to_string(), name);
        }
    }
    let again = Inbox::open(&place, &fixture.verified, &fixture.base).expect("the same inbox");
    assert_eq!(again.wants().missing, inbox.wants().missing);
}

/// Instructions as they arrive, and those that are found for two contents: `bytes` are both.
pub fn patch(bytes: &[u8]) {
    thin::fuzz_patch(bytes);
}

/// A small real package, the tree that it builds upon, and a good stream of it.
pub struct Fixture {
    _dir: tempfile::TempDir,
    live: PathBuf,
    base: Manifest,
    verified: Verified,
    /// The archive's bytes.
    pub archive: Vec<u8>,
    /// The stream's bytes.
    pub stream: Vec<u8>,
}

impl Fixture {
    /// Makes it.
    ///
    /// # Errors
    /// Where the disk does not let it.
    pub fn make() -> Result<Self, PackageError> {
        let dir = tempfile::tempdir().expect("a folder for the fixture");
        let (live, dev) = (dir.path().join("live"), dir.path().join("dev"));
        let put = |root: &Path, name: &str, text: &[u8]| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("it has a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        let code = b"<?php function market() { return 1; }\n".repeat(40);
        put(&live, "index.php", &code);
        put(&live, "from.png", b"a picture that moves");
        put(&dev, "index.php", &[&code[..], b"// edited\n"].concat());
        put(&dev, "lib/to.png", b"a picture that moves");
        put(&dev, "new.php", b"<?php // new\n");
        let scan = |root: &Path| {
            let rules = Rules { ignore_files: false, skip: vec![], file_bytes_max: u64::MAX };
            scan::tree(root, &rules, None, &mut |_| {}).map(|scan| scan.manifest)
        };
        let (base, tree) = (scan(&live)?, scan(&dev)?);
        let secret_key = dir.path().join("key");
        let trusted = [keys::generate(&secret_key)?.0];
        let version = |text: &str| text.parse().expect("a version");
        let request = pack::Request {
            project: "fuzz",
            environment: "production",
            version: &version("1.1"),
            sequence: 1,
            base: Some((Base { version: version("1.0"), manifest: base.hash() }, &base)),
            tree: &tree,
            root: &dev,
            scripts: vec![],
            documents: vec![],
            fragments: vec![],
            created: UnixMs(0),
            expires: UnixMs(1),
            least_tool: version("0.1"),
            out_dir: &dir.path().join("dist"),
            secret_key: &secret_key,
        };
        let packed = pack::write(&request, &mut |_| {})?;
        let opened = archive::open(&packed.archive, &trusted)?;
        let verified = opened.verified().clone();
        let inbox = Inbox::open(&dir.path().join("inbox"), &verified, &base)?;
        let wants = inbox.wants();
        let parcel =
            Parcel { archive: &opened, base: &base, wants: &wants, level: Level::Fixed(3) };
        let mut stream = Vec::new();
        let mut olds = Olds::none().tree(&live);
        thin::send(&parcel, &mut olds, &mut stream, &mut |_| {}, &GO)?;
        let archive = fs::read(&packed.archive).expect("the archive");
        Ok(Self { live, base, verified, archive, stream, _dir: dir })
    }

    /// The text of the record.
    pub fn record(&self) -> &[u8] {
        &self.verified.text
    }

    /// The base and the delta, as [`delta`] takes them.
    pub fn delta(&self) -> Vec<u8> {
        serde_json::to_vec(&(&self.base, &self.verified.record.delta))
            .expect("they have a JSON form")
    }

    /// The offer.
    pub fn offer(&self) -> Vec<u8> {
        Offer::of(&self.verified).to_bytes()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// xorshift64*: the same inputs in every run.
    pub(crate) struct Numbers(pub(crate) u64);

    impl Numbers {
        pub(crate) fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16;
            usize::try_from(number % end.max(1) as u64).unwrap()
        }

        /// `good` with up to four flips, cuts, repetitions or insertions.
        fn mutate(&mut self, good: &[u8]) -> Vec<u8> {
            let mut bytes = good.to_vec();
            for _ in 0..=self.below(4) {
                let at = self.below(bytes.len());
                match self.below(5) {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at, u8::try_from(self.below(256)).unwrap()),
                    2 => {
                        let end = (at + self.below(40)).min(bytes.len());
                        let again = bytes[at..end].to_vec();
                        bytes.splice(at..at, again);
                    }
                    _ => {
                        if let Some(byte) = bytes.get_mut(at) {
                            *byte ^= 1 << self.below(8);
                        }
                    }
                }
            }
            bytes
        }
    }

    fn try_all(seed: u64, count: u32, good: &[u8], target: impl Fn(&[u8])) {
        target(good);
        let mut numbers = Numbers(seed);
        for _ in 0..count {
            target(&numbers.mutate(good));
        }
    }

    #[test]
    fn damaged_inputs_of_every_kind_are_refused_in_peace() {
        let fixture = Fixture::make().unwrap();
        try_all(1, 2_000, fixture.record(), record);
        try_all(2, 2_000, &fixture.delta(), delta);
        try_all(3, 1_000, &fixture.offer(), offer);
        try_all(4, 300, &fixture.archive, archive);
        // Below the compression, whose checksum would notice most of it.
        let tar = zstd::decode_all(&fixture.archive[..]).unwrap();
        try_all(5, 300, &tar, |tar| archive(&zstd::encode_all(tar, 1).unwrap()));
        try_all(6, 500, &fixture.stream, |bytes| thin(&fixture, bytes));
        // A stream whose first file comes as a patch.
        let kept = include_bytes!("../fuzz/corpus/thin/patch");
        let mut inbox =
            Inbox::open(&fixture.live.with_file_name("in"), &fixture.verified, &fixture.base)
                .unwrap();
        let received = inbox.receive(&mut &kept[..], &fixture.live, &mut |_| {}, &GO).unwrap();
        assert_eq!(received.patched, 1);
        try_all(9, 500, kept, |bytes| thin(&fixture, bytes));
        let mut numbers = Numbers(7);
        let old: Vec<u8> = (0..900).map(|_| u8::try_from(numbers.below(256)).unwrap()).collect();
        let instructions = [5, b'n', b'e', b'w', b'e', b'r', 100, 7, 0, 200, 1, 0x80, 5];
        let both = [&900_u16.to_le_bytes()[..], &old, &instructions, &old[300..]].concat();
        try_all(8, 500, &both, patch);
    }
}
