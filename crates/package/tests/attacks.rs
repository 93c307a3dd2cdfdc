//! Archives as an enemy would build them: each is refused by its own error, and writes nothing
//! outside the folder that it was unpacked into.
#![allow(clippy::unwrap_used, reason = "a test stops where something goes wrong")]

mod common;

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use common::{Game, game, quiet, rel, write};
use entracte_model::manifest::{BadDelta, Entry};
use entracte_model::record::{Named, Record};
use entracte_model::{Hash, RelPath};
use entracte_package::PackageError;
use entracte_package::archive::BadArchive;
use entracte_package::keys::{self, KeyError};
use tar::{EntryType, Header};

/// Whether an error is the one that an attack is to have.
type IsRight = fn(&BadArchive) -> bool;

/// A member of a tar, with anything in any field.
#[derive(Clone)]
struct Member {
    path: Vec<u8>,
    kind: EntryType,
    mode: u32,
    data: Vec<u8>,
    link: Vec<u8>,
    /// What the header says instead of the real size.
    size: Option<u64>,
}

/// An honest package, taken apart.
struct Forge {
    game: Game,
    record: Record,
    members: Vec<Member>,
}

fn forge() -> Forge {
    let game = game();
    let packed = game.pack();
    let tar = zstd::decode_all(fs::File::open(&packed.archive).unwrap()).unwrap();
    let mut archive = tar::Archive::new(&tar[..]);
    let members = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        Member {
            path: entry.path_bytes().into_owned(),
            kind: entry.header().entry_type(),
            mode: entry.header().mode().unwrap(),
            link: entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default(),
            data,
            size: None,
        }
    });
    let members = members.collect();
    Forge { game, record: packed.record, members }
}

fn block(member: &Member, kind: EntryType, name: &[u8], link: &[u8], data: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(member.mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(member.size.unwrap_or(data.len() as u64));
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name);
    old.linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn tar_of(members: &[Member]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for member in members {
        let mut name = member.path.as_slice();
        if name.len() > 100 {
            let long = [name, b"\0"].concat();
            let plain = Member { mode: 0o644, size: None, ..member.clone() };
            bytes.extend(block(&plain, EntryType::GNULongName, b"././@LongLink", b"", &long));
            name = &name[..100];
        }
        bytes.extend(block(member, member.kind, name, &member.link, &member.data));
    }
    bytes.extend([0; 1_024]);
    bytes
}

fn compressed(tar: &[u8]) -> Vec<u8> {
    zstd::encode_all(tar, 3).unwrap()
}

impl Forge {
    fn member(&mut self, name: &str) -> &mut Member {
        let path = format!("v1.1.0/{name}").into_bytes();
        self.members.iter_mut().find(|member| member.path == path).expect("a member of that name")
    }

    fn add(&mut self, name: &str, kind: EntryType, data: &[u8]) -> &mut Member {
        let path = name.as_bytes().to_vec();
        let data = data.to_vec();
        self.members.push(Member { path, kind, mode: 0o644, data, link: vec![], size: None });
        self.members.last_mut().unwrap()
    }

    /// Signs the record as edited, with the trusted key: the signer is the enemy.
    fn sign(&mut self, edit: impl FnOnce(&mut Record)) {
        edit(&mut self.record);
        let mut text = serde_json::to_vec_pretty(&self.record).unwrap();
        text.push(b'\n');
        self.sign_text(&text);
    }

    fn sign_text(&mut self, text: &[u8]) {
        let signature = keys::sign(&self.game.key, text, "forged").unwrap();
        self.member("release.json").data = text.to_vec();
        self.member("release.json.minisig").data = signature.into_bytes();
    }

    /// Puts a file into the record and into the archive.
    fn smuggle(&mut self, path: &str, entry: Entry) {
        self.sign(|record| {
            record.delta.put.insert(rel(path), entry);
        });
    }

    fn refused(&self) -> PackageError {
        self.refused_bytes(&compressed(&tar_of(&self.members)))
    }

    /// Both ways of reading it all must refuse, and the disk around must stay as it was.
    fn refused_bytes(&self, bytes: &[u8]) -> PackageError {
        let path = self.game.path("forged.tar.zst");
        fs::write(&path, bytes).unwrap();
        let archive = match self.game.open(&path) {
            Err(error) => return error,
            Ok(archive) => archive,
        };
        let error = archive.verify_all(&mut quiet()).expect_err("verify_all took it");
        let cage = tempfile::tempdir().unwrap();
        let into = cage.path().join("into");
        fs::create_dir(&into).unwrap();
        archive.unpack_source(&into, &mut quiet()).expect_err("unpack_source took it");
        assert_eq!(fs::read_dir(cage.path()).unwrap().count(), 1, "something got out");
        error
    }

    fn bad(&self) -> BadArchive {
        bad(self.refused())
    }
}

fn bad(error: PackageError) -> BadArchive {
    match error {
        PackageError::Archive(bad) => bad,
        other => panic!("expected a bad archive, found {other:?}"),
    }
}

fn key(error: PackageError) -> KeyError {
    match error {
        PackageError::Key(error) => error,
        other => panic!("expected a bad signature, found {other:?}"),
    }
}

macro_rules! refused_as {
    ($error:expr, $($pattern:tt)+) => {
        let error = $error;
        assert!(matches!(&error, $($pattern)+), "{error:?}");
    };
}

fn file(content: &[u8]) -> Entry {
    Entry::File { size: content.len() as u64, hash: Hash::of(content), exec: false }
}

#[test]
fn the_forge_itself_makes_good_archives() {
    let mut forge = forge();
    forge.sign(|_| {});
    let path = forge.game.path("forged.tar.zst");
    fs::write(&path, compressed(&tar_of(&forge.members))).unwrap();
    let archive = forge.game.open(&path).unwrap();
    archive.verify_all(&mut quiet()).unwrap();
    let into = forge.game.path("into");
    fs::create_dir(&into).unwrap();
    archive.unpack_source(&into, &mut quiet()).unwrap();
}

#[test]
fn signatures() {
    let mut unsigned = forge();
    unsigned.members.remove(2);
    refused_as!(unsigned.bad(), BadArchive::Unsigned(_));

    let mut stranger = forge();
    let theirs = stranger.game.path("stranger.key");
    keys::generate(&theirs).unwrap();
    let text = stranger.member("release.json").data.clone();
    let signature = keys::sign(&theirs, &text, "me too").unwrap();
    stranger.member("release.json.minisig").data = signature.into_bytes();
    refused_as!(key(stranger.refused()), KeyError::Untrusted { .. });

    let mut edited = forge();
    let text = String::from_utf8(edited.member("release.json").data.clone()).unwrap();
    edited.member("release.json").data = text.replace("\"sequence\": 8", "\"sequence\": 9").into();
    refused_as!(key(edited.refused()), KeyError::Wrong(_));

    let mut comment = forge();
    let text = String::from_utf8(comment.member("release.json.minisig").data.clone()).unwrap();
    comment.member("release.json.minisig").data = text.replace("sequence 8", "sequence 9").into();
    refused_as!(key(comment.refused()), KeyError::EditedComment(_));

    let mut garbage = forge();
    garbage.member("release.json.minisig").data = b"trust me".to_vec();
    refused_as!(key(garbage.refused()), KeyError::Malformed);
}

#[test]
fn a_signature_of_the_old_mode_is_refused_though_its_key_is_trusted() {
    let mut forge = forge();
    let (public, secret) = (forge.game.path("m.pub"), forge.game.path("m.key"));
    common::run_ok("minisign", &[&"-G", &"-W", &"-p", &public, &"-s", &secret]);
    let text = forge.member("release.json").data.clone();
    write(forge.game.dir.path(), "data", &text);
    let data = forge.game.path("data");
    common::run_ok("minisign", &[&"-S", &"-l", &"-W", &"-s", &secret, &"-m", &data]);
    let signature = fs::read(forge.game.path("data.minisig")).unwrap();
    forge.member("release.json.minisig").data = signature;
    forge.game.trusted.push(fs::read_to_string(public).unwrap());
    refused_as!(key(forge.refused()), KeyError::Legacy(_));
}

#[test]
fn a_key_that_is_no_longer_trusted_signs_nothing() {
    let mut forge = forge();
    forge.game.trusted.clear();
    refused_as!(key(forge.refused()), KeyError::Untrusted { .. });
    forge.game.trusted.push("RWQ nonsense".into());
    refused_as!(key(forge.refused()), KeyError::BadTrustedKey(1));
}

#[test]
fn the_signature_of_another_release_does_not_fit() {
    let (mut forge, mut other) = (forge(), forge());
    other.sign(|record| record.sequence = 9);
    let theirs = other.members[2].data.clone();
    forge.member("release.json.minisig").data = theirs;
    forge.game.trusted.clone_from(&other.game.trusted);
    refused_as!(key(forge.refused()), KeyError::Wrong(_));
}

#[test]
fn scripts_of_another_release_are_noticed() {
    let mut forge = forge();
    forge.member("SQL/2-first.sql").data = b"DROP   TABLE players;  \n\n\n".to_vec();
    let size = usize::try_from(forge.record.scripts[0].size).unwrap();
    forge.member("SQL/2-first.sql").data.resize(size, b' ');
    refused_as!(forge.bad(), BadArchive::Content(path) if path.contains("2-first.sql"));
    forge.sign(|record| record.scripts.swap(0, 1));
    refused_as!(forge.bad(), BadArchive::Listing(_));
}

#[test]
fn paths_that_lead_elsewhere() {
    let cases: [(&str, IsRight); 7] = [
        ("/etc/cron.d/evil", |bad| matches!(bad, BadArchive::Absolute(_))),
        ("v1.1.0/source/../../../evil", |bad| matches!(bad, BadArchive::Climbs(_))),
        ("v1.1.0/source/./evil", |bad| matches!(bad, BadArchive::Climbs(_))),
        ("v1.1.0/source//evil", |bad| matches!(bad, BadArchive::Path(_))),
        ("v1.1.0/source/a\\evil", |bad| matches!(bad, BadArchive::Path(_))),
        ("v1.1.0/evil", |bad| matches!(bad, BadArchive::Stray(_))),
        ("evil", |bad| matches!(bad, BadArchive::Stray(_))),
    ];
    for (path, right) in cases {
        let mut forge = forge();
        forge.add(path, EntryType::Regular, b"evil");
        let bad = forge.bad();
        assert!(right(&bad), "{path}: {bad:?}");
    }
    let mut empty = forge();
    empty.add("", EntryType::Regular, b"evil");
    refused_as!(empty.bad(), BadArchive::Path(_));
    let mut latin = forge();
    latin.add("v1.1.0/source/x", EntryType::Regular, b"").path = b"v1.1.0/source/\xe9".to_vec();
    refused_as!(latin.bad(), BadArchive::NotUtf8(_));
    let mut nul = forge();
    nul.add(&format!("v1.1.0/source/{}\0evil", "x".repeat(100)), EntryType::Regular, b"");
    refused_as!(nul.bad(), BadArchive::Path(_));
    let mut long = forge();
    long.add(&format!("v1.1.0/source/{}", "x".repeat(256)), EntryType::Regular, b"");
    refused_as!(long.bad(), BadArchive::Path(_));
    let mut endless = forge();
    endless.add(&format!("v1.1.0/source/{}", "x/".repeat(4_000)), EntryType::Regular, b"");
    refused_as!(endless.bad(), BadArchive::TooLong { .. });
}

#[test]
fn things_that_the_record_does_not_list_as_they_are() {
    let mut unlisted = forge();
    unlisted.add("v1.1.0/source/shell.php", EntryType::Regular, b"evil");
    refused_as!(unlisted.bad(), BadArchive::Unlisted(_));

    let mut unlisted = forge();
    unlisted.add("v1.1.0/SQL/99-evil.sql", EntryType::Regular, b"evil");
    refused_as!(unlisted.bad(), BadArchive::Unlisted(_));

    let mut twice = forge();
    let again = twice.member("source/index.php").clone();
    twice.members.push(again);
    refused_as!(twice.bad(), BadArchive::Duplicate(_));

    let mut second_record = forge();
    let again = second_record.member("release.json").clone();
    second_record.members.push(again);
    refused_as!(second_record.bad(), BadArchive::Duplicate(_));

    let mut missing = forge();
    missing.members.retain(|member| member.path != b"v1.1.0/source/index.php");
    refused_as!(missing.bad(), BadArchive::Missing(path) if path == "source/index.php");

    let mut other = forge();
    other.member("source/index.php").data.reverse();
    refused_as!(other.bad(), BadArchive::Content(_));

    let mut longer = forge();
    longer.member("source/index.php").data.push(b'!');
    refused_as!(longer.bad(), BadArchive::Size { .. });

    let mut folder = forge();
    folder.member("source/index.php").kind = EntryType::Directory;
    folder.member("source/index.php").data.clear();
    refused_as!(folder.bad(), BadArchive::OtherKind(_));

    let mut target = forge();
    target.member("source/lib/up.php").link = b"../../../etc/passwd".to_vec();
    refused_as!(target.bad(), BadArchive::OtherKind(_));
}

#[test]
fn kinds_that_no_package_holds() {
    let kinds: [(EntryType, IsRight); 7] = [
        (EntryType::Link, |bad| matches!(bad, BadArchive::HardLink(_))),
        (EntryType::Char, |bad| matches!(bad, BadArchive::Device(_))),
        (EntryType::Block, |bad| matches!(bad, BadArchive::Device(_))),
        (EntryType::Fifo, |bad| matches!(bad, BadArchive::Fifo(_))),
        (EntryType::GNUSparse, |bad| matches!(bad, BadArchive::Kind { .. })),
        (EntryType::XHeader, |bad| matches!(bad, BadArchive::Kind { .. })),
        (EntryType::Continuous, |bad| matches!(bad, BadArchive::Kind { .. })),
    ];
    for (kind, right) in kinds {
        let mut forge = forge();
        let member = forge.member("source/index.php");
        member.kind = kind;
        member.data.clear();
        member.link = b"/etc/passwd".to_vec();
        let bad = forge.bad();
        assert!(right(&bad), "{kind:?}: {bad:?}");
    }
    for mode in [0o4755, 0o2755, 0o1777] {
        let mut forge = forge();
        forge.member("source/bin/tick.sh").mode = mode;
        refused_as!(forge.bad(), BadArchive::SetUid { .. });
    }
}

#[test]
fn records_of_a_hostile_signer() {
    let link = |target: &str| Entry::Link { target: target.into() };
    for target in ["/etc", "../..", "lib/../../x"] {
        let mut forge = forge();
        forge.smuggle("door", link(target));
        refused_as!(forge.bad(), BadArchive::LinkLeaves { .. });
    }
    let mut through = forge();
    through.smuggle("door", link("lib"));
    through.smuggle("door/file.php", file(b"x"));
    refused_as!(through.bad(), BadArchive::Delta(BadDelta::NotAFolder { .. }));

    let mut below_file = forge();
    below_file.smuggle("index.php/x", file(b"x"));
    refused_as!(below_file.bad(), BadArchive::Delta(BadDelta::NotAFolder { .. }));

    for twin in ["INDEX.php", "e\u{301}te\u{301}"] {
        let mut forge = forge();
        forge.smuggle(twin, file(b"x"));
        refused_as!(forge.bad(), BadArchive::Delta(BadDelta::Collides(..)));
    }
    for name in [".git/hooks/post-checkout", "a/.GIT/config", ".entracte-heal"] {
        let mut forge = forge();
        forge.smuggle(name, file(b"x"));
        refused_as!(forge.bad(), BadArchive::Reserved(_));
    }
    let mut both = forge();
    both.sign(|record| {
        record.delta.delete.insert(rel("index.php"));
    });
    refused_as!(both.bad(), BadArchive::Delta(BadDelta::DeletesAndPuts(_)));

    let named = |name: &str| Named {
        name: name.parse::<RelPath>().unwrap(),
        size: 1,
        hash: Hash::of(b"x"),
    };
    for script in ["evil.sql", "2-again.sql", "3.down.sql", "sub/3.sql"] {
        let mut forge = forge();
        forge.sign(|record| record.scripts.insert(1, named(script)));
        refused_as!(forge.bad(), BadArchive::Listing(_));
    }
    let mut huge = forge();
    huge.sign(|record| record.scripts[0].size = u64::MAX);
    refused_as!(huge.bad(), BadArchive::Listing(_));
}

#[test]
fn texts_of_a_record_that_are_none() {
    let mut newer = forge();
    newer.sign_text(b"{\"format\": 99, \"something\": \"new\"}");
    refused_as!(newer.bad(), BadArchive::Format(99));

    let mut unknown = forge();
    unknown.sign_text(b"{\"format\": 1, \"something\": \"new\"}");
    refused_as!(unknown.bad(), BadArchive::Record(_));

    let mut spaced = forge();
    let mut text = spaced.member("release.json").data.clone();
    text.push(b' ');
    spaced.sign_text(&text);
    refused_as!(spaced.bad(), BadArchive::NotCanonical);

    let mut climbing = forge();
    let text = String::from_utf8(climbing.member("release.json").data.clone()).unwrap();
    climbing.sign_text(text.replace("\"bin/tick.sh\"", "\"../tick.sh\"").as_bytes());
    refused_as!(climbing.bad(), BadArchive::Record(_));

    let mut folder = forge();
    folder.sign(|record| record.version = common::version("1.2"));
    refused_as!(folder.bad(), BadArchive::Folder { .. });
}

#[test]
fn a_base_that_is_not_the_right_one() {
    let mut forge = forge();
    let packed = forge.game.out.join("taverne-1.1.0.tar.zst");
    let archive = forge.game.open(&packed).unwrap();
    let base = common::scanned(&forge.game.live);
    archive.new_manifest(&base).unwrap();
    write(&forge.game.live, "index.php", "drifted");
    let drifted = common::scanned(&forge.game.live);
    refused_as!(bad(archive.new_manifest(&drifted).unwrap_err()), BadArchive::Base { .. });

    let reopen = |forge: &Forge| {
        let path: PathBuf = forge.game.path("forged.tar.zst");
        fs::write(&path, compressed(&tar_of(&forge.members))).unwrap();
        forge.game.open(&path).unwrap().new_manifest(&base).unwrap_err()
    };
    forge.sign(|record| record.manifest = Hash::of(b"another tree"));
    refused_as!(bad(reopen(&forge)), BadArchive::Manifest { .. });
    let right = archive.record().clone();
    forge.sign(|record| *record = Record { files: right.files + 1, ..right.clone() });
    refused_as!(bad(reopen(&forge)), BadArchive::Manifest { .. });
    forge.sign(|record| {
        *record = right.clone();
        record.delta.delete.insert(rel("never-there"));
    });
    refused_as!(bad(reopen(&forge)), BadArchive::Delta(BadDelta::DeletesMissing(_)));
}

#[test]
fn compression() {
    let forge = forge();
    let tar = tar_of(&forge.members);
    let good = compressed(&tar);
    refused_as!(bad(forge.refused_bytes(&tar)), BadArchive::NotZstd);

    let with_window = |log: u32| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(log).unwrap();
        std::io::Write::write_all(&mut encoder, &tar).unwrap();
        encoder.finish().unwrap()
    };
    refused_as!(bad(forge.refused_bytes(&with_window(28))), BadArchive::Window { found, .. } if *found == 1 << 28);
    refused_as!(bad(forge.refused_bytes(&with_window(31))), BadArchive::Window { .. });

    // A frame that declares one byte more than it holds.
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.set_pledged_src_size(Some(tar.len() as u64)).unwrap();
    std::io::Write::write_all(&mut encoder, &tar).unwrap();
    let mut lying = encoder.finish().unwrap();
    // RFC 8878, 3.1.1.1.4: two bytes hold the size less 256.
    let size = u16::try_from(tar.len() - 256).unwrap().to_le_bytes();
    let at = lying.windows(2).position(|two| two == size).expect("the declared size");
    assert!(at < 8, "that is not in the frame's header");
    lying[at] ^= 1;
    refused_as!(bad(forge.refused_bytes(&lying)), BadArchive::Damaged(_));

    let twice = [good.as_slice(), good.as_slice()].concat();
    refused_as!(bad(forge.refused_bytes(&twice)), BadArchive::Trailing);
    let skippable = [good.as_slice(), &[0x50, 0x2A, 0x4D, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]].concat();
    refused_as!(bad(forge.refused_bytes(&skippable)), BadArchive::Trailing);
    let garbage = [good.as_slice(), b"x"].concat();
    refused_as!(bad(forge.refused_bytes(&garbage)), BadArchive::Trailing);
    let hidden = compressed(&[tar.as_slice(), b"hidden behind the end"].concat());
    refused_as!(bad(forge.refused_bytes(&hidden)), BadArchive::Trailing);
    let endless = compressed(&[tar.as_slice(), &[0; 3 * 1024 * 1024]].concat());
    refused_as!(bad(forge.refused_bytes(&endless)), BadArchive::Trailing);
    let endless = compressed(&tar[..tar.len() - 1_024]);
    refused_as!(bad(forge.refused_bytes(&endless)), BadArchive::Truncated);
}

#[test]
fn a_size_that_goes_on_for_ever_allocates_nothing() {
    for name in ["release.json", "release.json.minisig"] {
        let mut forge = forge();
        forge.member(name).size = Some(1 << 60);
        refused_as!(forge.bad(), BadArchive::TooLong { .. });
    }
    let mut forge = forge();
    forge.member("source/index.php").size = Some(1 << 60);
    refused_as!(forge.bad(), BadArchive::Size { .. });
}

/// The smallest package, so that every offset can be tried.
fn small() -> (Forge, Vec<u8>) {
    let mut forge = forge();
    for root in [&forge.game.live, &forge.game.dev] {
        fs::remove_dir_all(root).unwrap();
        write(root, "a", "old");
    }
    write(&forge.game.dev, "b", "new");
    forge.game.scripts.clear();
    let packed = forge.game.pack();
    let bytes = fs::read(packed.archive).unwrap();
    forge.record = packed.record;
    (forge, bytes)
}

/// Reads everything; gives what was unpacked.
fn read(forge: &Forge, bytes: &[u8]) -> Result<(Record, entracte_model::Manifest), PackageError> {
    let path = forge.game.path("flipped.tar.zst");
    fs::write(&path, bytes).unwrap();
    let archive = forge.game.open(&path)?;
    archive.verify_all(&mut quiet())?;
    let into = tempfile::tempdir().unwrap();
    archive.unpack_source(into.path(), &mut quiet())?;
    Ok((archive.record().clone(), common::scanned(into.path())))
}

#[test]
fn one_flipped_bit_anywhere_is_an_error_or_the_same_content() {
    let (forge, good) = small();
    let right = read(&forge, &good).unwrap();
    let mut bytes = good.clone();
    for at in 0..bytes.len() {
        let bit = 1 << (at % 8);
        bytes[at] ^= bit;
        if let Ok(found) = read(&forge, &bytes) {
            assert!(found == right, "byte {at}");
        }
        bytes[at] ^= bit;
    }
    // The same below the compression, whose checksum would notice most of it.
    let mut tar = zstd::decode_all(&good[..]).unwrap();
    for at in 0..tar.len() {
        let bit = 1 << (at % 8);
        tar[at] ^= bit;
        if let Ok(found) = read(&forge, &compressed(&tar)) {
            assert!(found == right, "byte {at} of the tar");
        }
        tar[at] ^= bit;
    }
}

#[test]
fn an_archive_cut_anywhere_is_an_error() {
    let (forge, good) = small();
    for length in 0..good.len() {
        let error = read(&forge, &good[..length]).expect_err("a cut archive was taken");
        assert!(matches!(error, PackageError::Archive(_)), "{length}: {error:?}");
    }
}
