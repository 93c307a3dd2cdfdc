//! A package through the thin stream: only what is missing travels, cuts are taken up, and nothing
//! that an enemy sends is believed.
#![allow(clippy::unwrap_used, reason = "a test stops where something goes wrong")]

mod common;
#[macro_use]
#[path = "common/ship.rs"]
mod ship;

use std::fs;
use std::sync::atomic::AtomicBool;

use common::{Game, game, quiet, write};
use entracte_model::{Hash, Manifest};
use entracte_package::archive::BadArchive;
use entracte_package::thin::{self, BadThin, Inbox, Level, Offer, Olds, Parcel, Sent, Wants};
use entracte_package::{PackageError, archive};
use ship::{GO, Ship, noise, ship};

/// A game with large files too: patched, moved, new, one of them nothing like its old form.
fn large() -> Game {
    let game = game();
    let big = noise(1, 700_000);
    let mut edited = big.clone();
    edited.splice(300_000..300_010, *b"twelve bytes");
    write(&game.live, "assets/map.bin", &big);
    write(&game.dev, "assets/map.bin", &edited);
    write(&game.live, "assets/old.bin", noise(2, 400_000));
    write(&game.dev, "assets/moved/old.bin", noise(2, 400_000));
    write(&game.live, "assets/music.ogg", noise(3, 300_000));
    write(&game.dev, "assets/music.ogg", noise(4, 310_000));
    write(&game.dev, "assets/new.bin", noise(5, 500_000));
    let code = |edit: &str| (0..400).map(|n| format!("line {n} {edit}\n")).collect::<String>();
    for file in 0..40 {
        write(&game.live, &format!("src/{file}.php"), code(&format!("{file}")));
        write(&game.dev, &format!("src/{file}.php"), code(&format!("{file}")) + "// edited\n");
    }
    game
}

#[test]
fn what_was_packed_arrives_as_the_same_archive() {
    for game in [game(), large()] {
        let ship = ship(game);
        let mut inbox = ship.inbox();
        let (bytes, sent) = ship.stream(&inbox.wants());
        let received = ship.receive(&mut inbox, &bytes).unwrap();
        assert!(inbox.wants().is_empty());
        assert_eq!(received.bytes, bytes.len() as u64);
        assert_eq!(
            (sent.copied, sent.patched, sent.added),
            (received.copied, received.patched, received.added)
        );
        assert!(sent.copied >= 1 && sent.patched >= 1 && sent.added >= 1, "{sent:?}");
        ship.finished_is_the_same(inbox);
        assert!(!ship.inbox_dir().exists());
    }
}

#[test]
fn only_the_difference_travels() {
    let ship = ship(large());
    let wants = ship.inbox().wants();
    let (bytes, _) = ship.stream(&wants);
    // What is really new is noise: 310,000 and 500,000 bytes. The rest is a few edits.
    assert!(bytes.len() < 830_000, "{} bytes", bytes.len());
    let (whole, sent) = ship.stream_with(&wants, Olds::none());
    assert_eq!(sent.patched, 0);
    assert!(whole.len() > 1_500_000, "{} bytes", whole.len());
}

#[test]
fn old_contents_come_from_earlier_packages_too() {
    let mut game = large();
    // A first installation of what is live now, as its package.
    std::mem::swap(&mut game.live, &mut game.dev);
    let first = common::Variant { base: None, out: game.path("first"), ..game.variant() };
    let first = game.pack_as(&first).unwrap();
    std::mem::swap(&mut game.live, &mut game.dev);
    let ship = ship(game);
    let mut inbox = ship.inbox();
    let olds = Olds::none().archive(ship.game.open(&first.archive).unwrap());
    let (bytes, sent) = ship.stream_with(&inbox.wants(), olds);
    assert!(sent.patched > 40, "{sent:?}");
    assert!(bytes.len() < 830_000, "{} bytes", bytes.len());
    ship.receive(&mut inbox, &bytes).unwrap();
    ship.finished_is_the_same(inbox);
}

#[test]
fn a_first_installation_and_one_without_any_content() {
    let game = game();
    let packed = game.pack_as(&common::Variant { base: None, ..game.variant() }).unwrap();
    let archive = game.open(&packed.archive).unwrap();
    let ship = Ship { archive, base: Manifest::default(), game };
    let mut inbox = ship.inbox();
    let (bytes, sent) = ship.stream(&inbox.wants());
    assert_eq!((sent.copied, sent.patched), (0, 0));
    ship.receive(&mut inbox, &bytes).unwrap();
    let (bytes, sent) = ship.stream(&inbox.wants());
    assert_eq!(sent, Sent { bytes: bytes.len() as u64, level: 3, ..Sent::default() });
    assert_eq!(ship.receive(&mut inbox, &bytes).unwrap().bytes, bytes.len() as u64);
    ship.finished_is_the_same(inbox);
}

#[test]
fn a_package_that_was_being_finished_is_taken_up_again_and_an_earlier_one_replaced() {
    let ship = ship(game());
    let mut inbox = ship.inbox();
    let (bytes, _) = ship.stream(&inbox.wants());
    ship.receive(&mut inbox, &bytes).unwrap();
    // It died before the folder had its name.
    drop(inbox);
    for name in ["release.json", "release.json.minisig"] {
        write(&ship.inbox_dir(), name, "half of it");
    }
    let inbox = ship.inbox();
    assert!(inbox.wants().is_empty());
    write(&ship.game.path("arrived"), "something", "of an attempt before");
    ship.finished_is_the_same(inbox);
    assert!(!ship.game.path("arrived/something").exists());
}

#[test]
fn an_arrived_package_is_believed_no_more_than_a_file() {
    let ship = ship(large());
    let mut inbox = ship.inbox();
    let (bytes, _) = ship.stream(&inbox.wants());
    ship.receive(&mut inbox, &bytes).unwrap();
    ship.finished_is_the_same(inbox);
    let arrived = ship.game.path("arrived");
    let open = || archive::open(&arrived, &ship.game.trusted);
    let verified = || open().unwrap().verify_all(&mut quiet());
    let wrong = |outcome: Result<(), PackageError>| match outcome {
        Err(PackageError::Archive(BadArchive::Content(found))) => found,
        other => panic!("{other:?}"),
    };
    // One content has a file of its own, one is among the small ones.
    let place = arrived.join(Hash::of(&noise(5, 500_000)).to_string());
    let good = fs::read(&place).unwrap();
    for bad in [&good[1..], &[&good[..], b"more"].concat(), b""] {
        fs::write(&place, bad).unwrap();
        assert_eq!(wrong(verified()), "source/assets/new.bin");
    }
    fs::write(&place, &good).unwrap();
    let small = fs::read(arrived.join("small")).unwrap();
    let mut bad = small.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(arrived.join("small"), &bad).unwrap();
    assert!(wrong(verified()).starts_with("source/"));
    fs::write(arrived.join("small"), &small[..small.len() - 1]).unwrap();
    assert!(matches!(verified(), Err(PackageError::Io { doing: "open", .. })));
    fs::write(arrived.join("small"), &small).unwrap();

    // A link is not followed, not even to the right content.
    fs::write(arrived.join("aside"), &good).unwrap();
    fs::remove_file(&place).unwrap();
    std::os::unix::fs::symlink("aside", &place).unwrap();
    assert!(matches!(verified(), Err(PackageError::Io { doing: "open", .. })));
    fs::remove_file(&place).unwrap();
    assert!(matches!(verified(), Err(PackageError::Io { doing: "open", .. })));
    fs::write(&place, &good).unwrap();
    verified().unwrap();
    let saved = ship.game.path("saved.tar.zst");
    fs::write(&place, &good[1..]).unwrap();
    assert!(open().unwrap().save(&saved, &mut quiet()).is_err());
    assert!(archive::open(&saved, &ship.game.trusted).is_ok(), "the one before is whole");
    assert!(!ship.game.path("saved.tar.zst.part").exists());

    let text = fs::read(arrived.join("release.json")).unwrap();
    fs::write(arrived.join("release.json"), [&text[..], b" "].concat()).unwrap();
    assert!(matches!(open(), Err(PackageError::Key(_))));
    fs::write(arrived.join("release.json.minisig"), vec![b'R'; 100_000]).unwrap();
    assert!(matches!(open(), Err(PackageError::Archive(BadArchive::TooLong { .. }))));
    fs::remove_file(arrived.join("release.json")).unwrap();
    assert!(matches!(open(), Err(PackageError::Archive(BadArchive::NotAPackage { .. }))));
    // Neither is the folder beside the archive, for people to read, one in which something arrived.
    let readable = ship.game.out.join(record_folder(&ship));
    assert!(readable.join("release.json").exists());
    let opened = archive::open(&readable, &ship.game.trusted);
    assert!(matches!(opened, Err(PackageError::Archive(BadArchive::NotAPackage { .. }))));
}

fn record_folder(ship: &Ship) -> String {
    ship.verified().record.version.folder()
}

#[test]
fn small_objects_of_another_package_go_and_damaged_ones_are_fetched_again() {
    let ship = ship(large());
    let mut inbox = ship.inbox();
    let (bytes, _) = ship.stream(&inbox.wants());
    ship.receive(&mut inbox, &bytes).unwrap();
    drop(inbox);
    let place = ship.inbox_dir().join("small");
    let good = fs::read(&place).unwrap();
    let foreign = [&Hash::of(b"x").0[..], &[1, 0, 0, 0], b"x"].concat();
    fs::write(&place, [&good[..], &foreign].concat()).unwrap();
    assert!(ship.inbox().wants().is_empty());
    assert_eq!(fs::metadata(&place).unwrap().len(), good.len() as u64);
    let mut bad = fs::read(&place).unwrap();
    bad[40] ^= 1;
    fs::write(&place, &bad).unwrap();
    let mut inbox = ship.inbox();
    assert_eq!(inbox.wants().len(), 1);
    let (bytes, _) = ship.stream(&inbox.wants());
    ship.receive(&mut inbox, &bytes).unwrap();
    ship.finished_is_the_same(inbox);
}

#[test]
fn a_transfer_that_is_cut_again_and_again_ends_in_the_exact_package() {
    let ship = ship(large());
    let mut total = 0;
    let mut cuts = 0_u64;
    loop {
        // A new process each time: nothing is known but what is in the folder.
        let mut inbox = ship.inbox();
        let (bytes, _) = ship.stream(&inbox.wants());
        let random = u64::from_le_bytes(noise(cuts, 8).try_into().unwrap());
        let length = bytes.len().min(usize::try_from(random % 16_000).unwrap());
        total += length;
        let outcome = ship.receive(&mut inbox, &bytes[..length]);
        if inbox.wants().is_empty() && outcome.is_ok() {
            ship.finished_is_the_same(inbox);
            break;
        }
        let error = outcome.unwrap_err();
        assert!(matches!(error, PackageError::Thin(BadThin::Truncated)), "{error:?}");
        cuts += 1;
        assert!(cuts < 1_000, "it does not come to an end");
    }
    assert!(cuts >= 100, "only {cuts} cuts");
    let (whole, _) = ship
        .stream(&Inbox::open(&ship.game.path("b"), ship.verified(), &ship.base).unwrap().wants());
    assert!(total < 3 * whole.len(), "{total} bytes for {}", whole.len());
}

#[test]
fn what_was_damaged_in_the_folder_is_noticed_and_fetched_again() {
    let ship = ship(large());
    let mut inbox = ship.inbox();
    let (bytes, _) = ship.stream(&inbox.wants());
    ship.receive(&mut inbox, &bytes).unwrap();
    let new = Hash::of(&noise(5, 500_000));
    let place = ship.inbox_dir().join(new.to_string());
    let mut content = fs::read(&place).unwrap();
    content[123_456] ^= 1;
    fs::write(&place, &content).unwrap();
    let mut inbox = ship.inbox();
    assert_eq!(inbox.wants().len(), 1);
    // A part with a wrong beginning is only noticed at its end, and is then fetched as a whole.
    fs::write(ship.inbox_dir().join(format!("{new}.part")), &content[..200_000]).unwrap();
    drop(inbox);
    inbox = ship.inbox();
    assert_eq!(inbox.wants().from.values().collect::<Vec<_>>(), [&200_000]);
    let (bytes, _) = ship.stream(&inbox.wants());
    let error = ship.receive(&mut inbox, &bytes).unwrap_err();
    assert!(matches!(error, PackageError::Thin(BadThin::Content(hash)) if hash == new));
    let (bytes, _) = ship.stream(&inbox.wants());
    ship.receive(&mut inbox, &bytes).unwrap();
    ship.finished_is_the_same(inbox);
}

#[test]
fn a_base_that_drifted_costs_bytes_and_nothing_else() {
    let ship = ship(large());
    let mut inbox = ship.inbox();
    // The sender still has the old contents; production does not.
    let sent_from = ship.game.path("kept");
    common::run_ok("cp", &[&"-a", &ship.game.live, &sent_from]);
    write(&ship.game.live, "src/7.php", "edited by hand");
    fs::remove_file(ship.game.live.join("assets/old.bin")).unwrap();
    write(&ship.game.live, "assets/map.bin", noise(9, 700_000));
    let olds = || Olds::none().tree(&sent_from);
    let (bytes, _) = ship.stream_with(&inbox.wants(), olds());
    let received = ship.receive(&mut inbox, &bytes).unwrap();
    assert!(received.refused >= 3, "{received:?}");
    assert_eq!(inbox.wants().drifted.len(), 3);
    let (bytes, _) = ship.stream_with(&inbox.wants(), olds());
    let received = ship.receive(&mut inbox, &bytes).unwrap();
    assert_eq!(received.refused, 0);
    ship.finished_is_the_same(inbox);
}

#[test]
fn an_offer_is_believed_for_its_signature_only() {
    let ship = ship(game());
    let offer = Offer::of(ship.verified());
    let arrived = Offer::from_bytes(&offer.to_bytes()).unwrap();
    assert_eq!(arrived.verify(&ship.game.trusted).unwrap(), *ship.verified());
    let edited = Offer { text: [&offer.text[..], b" "].concat(), ..offer };
    assert!(matches!(edited.verify(&ship.game.trusted), Err(PackageError::Key(_))));
}

#[test]
fn an_inbox_takes_only_its_own_folder_and_a_fitting_base() {
    let ship = ship(game());
    write(&ship.inbox_dir(), "notes.txt", "mine");
    let refused = Inbox::open(&ship.inbox_dir(), ship.verified(), &ship.base);
    assert!(matches!(refused, Err(PackageError::Thin(BadThin::Foreign(_)))));
    assert!(ship.inbox_dir().join("notes.txt").exists());
    let other = Inbox::open(&ship.game.path("b"), ship.verified(), &Manifest::default());
    assert!(matches!(other, Err(PackageError::Archive(archive::BadArchive::Base { .. }))));
    let half = Inbox::open(&ship.game.path("c"), ship.verified(), &ship.base).unwrap();
    let refused = half.finish(&ship.game.path("x"));
    assert!(matches!(refused, Err(PackageError::Thin(BadThin::Missing(_)))));
    // Objects of another package go; what both need stays.
    let stray = ship.game.path("c").join(Hash::of(b"x").to_string());
    fs::write(&stray, "x").unwrap();
    Inbox::open(&ship.game.path("c"), ship.verified(), &ship.base).unwrap();
    assert!(!stray.exists());
}

#[test]
fn wants_of_a_hostile_receiver() {
    let ship = ship(game());
    let refused = |wants: Wants| {
        let parcel = Parcel {
            archive: &ship.archive,
            base: &ship.base,
            wants: &wants,
            level: Level::Fixed(3),
        };
        let mut olds = ship.olds();
        thin::send(&parcel, &mut olds, &mut Vec::new(), &mut quiet(), &GO).unwrap_err()
    };
    let missing = |missing: &[(u32, u32)]| Wants { missing: missing.to_vec(), ..Wants::default() };
    for wants in [
        missing(&[(0, u32::MAX)]),
        missing(&[(1, 1), (0, 1)]),
        missing(&[(0, 2), (1, 1)]),
        missing(&[(0, 0)]),
        Wants { from: [(0, u64::MAX)].into(), ..missing(&[(0, 1)]) },
        Wants { from: [(9_999, 0)].into(), ..missing(&[(0, 1)]) },
    ] {
        assert!(matches!(refused(wants), PackageError::Thin(BadThin::Wants(_))));
    }
}

fn frame(content: &[u8], with: impl FnOnce(&mut zstd::Encoder<'_, Vec<u8>>)) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.set_pledged_src_size(Some(content.len() as u64)).unwrap();
    with(&mut encoder);
    std::io::Write::write_all(&mut encoder, content).unwrap();
    encoder.finish().unwrap()
}

/// One data unit of object `number` from byte 0 without a base, in one piece.
fn data(number: u8, frame: &[u8]) -> Vec<u8> {
    let mut unit = vec![2, 1, number, 0, 0];
    let length = u16::try_from(frame.len()).unwrap();
    unit.push(u8::try_from(length & 0x7F).unwrap() | 0x80);
    unit.push(u8::try_from(length >> 7).unwrap());
    unit.extend_from_slice(frame);
    unit.push(0);
    unit
}

#[test]
fn headers_and_numbers_of_an_enemy() {
    let ship = ship(game());
    let (good, _) = ship.stream(&Wants::default());
    refused_as!(ship.refused(b"SSH-2.0-OpenSSH_9.2 and more"), BadThin::NotThin);
    let edited = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        ship.refused(&bytes)
    };
    refused_as!(edited(8), BadThin::Format(3));
    refused_as!(edited(10), BadThin::OtherTree { .. });
    refused_as!(edited(42), BadThin::OtherBase { .. });
    refused_as!(ship.refused(&ship.forged(&[9])), BadThin::Unit(9));
    refused_as!(ship.refused(&ship.forged(&[1, 120, 0])), BadThin::NoObject(120));
    refused_as!(ship.refused(&ship.forged(&[1, 0, 120])), BadThin::NoBase(120));
    // A copy of another content than the object's.
    refused_as!(ship.refused(&ship.forged(&[1, 0, 0])), BadThin::Content(_));
    refused_as!(ship.refused(&ship.forged(&[0x02, 0])), BadThin::Group(0));
    refused_as!(ship.refused(&ship.forged(&[2, 0xFF, 0xFF, 3])), BadThin::Group(65_535));
    refused_as!(ship.refused(&ship.forged(&[2, 1, 0, 0, 0xFF, 0xFF, 3])), BadThin::Group(_));
    refused_as!(ship.refused(&ship.forged(&[2, 1, 0, 7])), BadThin::Offset { found: 7, .. });
    refused_as!(ship.refused(&ship.forged(&[2, 2, 0, 0, 0, 0])), BadThin::NotWanted(_));
    refused_as!(ship.refused(&ship.forged(&[2, 1, 0, 0, 1, 99])), BadThin::NoBase(99));
    refused_as!(ship.refused(&ship.forged(&[0x01; 1])), BadThin::Truncated);
    let endless = [&[1][..], &[0xFF; 12]].concat();
    refused_as!(ship.refused(&ship.forged(&endless)), BadThin::Number);
    let piece = [2, 1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0x7F];
    refused_as!(ship.refused(&ship.forged(&piece)), BadThin::Piece { .. });
}

#[test]
fn data_of_an_enemy() {
    let ship = ship(game());
    let first = Inbox::open(&ship.game.path("x"), ship.verified(), &ship.base).unwrap();
    let object = first.objects().get(0).unwrap();
    let right = ship.archive.document("2-first.down.sql").unwrap();
    assert_eq!(Hash::of(&right), object.hash, "documents come first, by name");
    let unit = |frame: &[u8]| ship.refused(&ship.forged(&data(0, frame)));
    let good = frame(&right, |_| {});

    refused_as!(unit(b"PK\x03\x04 this is a zip and no zstd"), BadThin::Damaged(..));
    refused_as!(unit(&good[..good.len() - 5]), BadThin::Damaged(..));
    refused_as!(unit(&[&good[..], b"more"].concat()), BadThin::Trailing(_));
    refused_as!(unit(&[&good[..], &good[..]].concat()), BadThin::Trailing(_));
    refused_as!(unit(&frame(&right[1..], |_| {})), BadThin::Size { .. });
    refused_as!(unit(&frame(&[&right[..], b"x"].concat(), |_| {})), BadThin::Size { .. });
    refused_as!(
        unit(&frame(&right, |e| e.include_contentsize(false).unwrap())),
        BadThin::Size { .. }
    );
    let mut other = right.clone();
    other.reverse();
    refused_as!(unit(&frame(&other, |_| {})), BadThin::Content(_));
    // RFC 8878, 3.1.1.1: no single segment, a size of four bytes, a window of 2^31 bytes.
    let size = u32::try_from(right.len()).unwrap().to_le_bytes();
    let window = [&[0x28, 0xB5, 0x2F, 0xFD, 0x80, 21 << 3][..], &size, &[0; 16]].concat();
    refused_as!(unit(&window), BadThin::Window { found, .. } if *found == 1 << 31);
    let dictionary = [&[0x28, 0xB5, 0x2F, 0xFD, 0xA1, 7][..], &size, &[0; 16]].concat();
    refused_as!(unit(&dictionary), BadThin::Dictionary(7));
    // The same object twice.
    let twice = [data(0, &good), data(0, &good)].concat();
    refused_as!(ship.refused(&ship.forged(&twice)), BadThin::NotWanted(_));
    // Nothing of all that was left behind under the name of an object.
    let _ = fs::remove_dir_all(ship.inbox_dir());
    assert_eq!(ship.inbox().wants().bytes(first.objects()), first.wants().bytes(first.objects()));
}

#[test]
fn one_flipped_bit_or_a_cut_anywhere_never_makes_a_wrong_object() {
    let ship = ship(game());
    let (good, _) = ship.stream(&ship.inbox().wants());
    let step = (good.len() / 150).max(1);
    for at in (0..good.len()).step_by(step) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        let _ = fs::remove_dir_all(ship.inbox_dir());
        let mut inbox = ship.inbox();
        let _ = ship.receive(&mut inbox, &bytes);
        for entry in fs::read_dir(ship.inbox_dir()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if !name.ends_with(".part") && name != "small" {
                assert_eq!(Hash::of(&fs::read(&path).unwrap()).to_string(), name, "byte {at}");
            }
        }
        // What is right is found again, and nothing else was taken.
        assert_eq!(ship.inbox().wants().missing, inbox.wants().missing, "byte {at}");
        // Whatever happened, the rest can still be fetched.
        for _ in 0..3 {
            let wants = inbox.wants();
            if wants.is_empty() {
                break;
            }
            let _ = ship.receive(&mut inbox, &ship.stream(&wants).0);
        }
        assert!(inbox.wants().is_empty(), "byte {at}");
    }
}

#[test]
fn a_connection_that_breaks_tells_the_sender_so() {
    struct Broken(u64);
    impl std::io::Write for Broken {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(std::io::ErrorKind::ConnectionReset)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let ship = ship(large());
    let wants = ship.inbox().wants();
    let parcel =
        Parcel { archive: &ship.archive, base: &ship.base, wants: &wants, level: Level::Measured };
    for writes in [0, 1, 5, 12] {
        let sent = thin::send(&parcel, &mut ship.olds(), &mut Broken(writes), &mut quiet(), &GO);
        let error = sent.unwrap_err();
        assert!(error.to_string().contains("write to the connection"), "{error:?}");
    }
    let stop = AtomicBool::new(true);
    let stopped = thin::send(&parcel, &mut ship.olds(), &mut std::io::sink(), &mut quiet(), &stop);
    assert!(matches!(stopped, Err(PackageError::Stopped)));
}
