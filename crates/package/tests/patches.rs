//! Large files that changed: what they have in common with before stays where it is, whatever moved,
//! and neither side holds them in memory.
#![allow(clippy::unwrap_used, reason = "a test stops where something goes wrong")]

mod common;
#[macro_use]
#[path = "common/ship.rs"]
mod ship;

use std::fs;

use common::{Game, Variant, game, write};
use entracte_model::Hash;
use entracte_model::manifest::Entry;
use entracte_package::PackageError;
use entracte_package::thin::{BadThin, Inbox, Objects, Olds};
use ship::{Ship, noise, ship};

/// A large file of the game.
const PACK: &str = "data/world.pak";
/// Its bytes.
const PACK_BYTES: usize = 6_000_000;
/// What its new form has that is new, in bytes.
const NEW_BYTES: usize = 3 * 20_000;

/// A pack with something put in, something taken out, and two parts in another order.
fn repacked() -> Game {
    let game = game();
    let mut pack = noise(1, PACK_BYTES);
    write(&game.live, PACK, &pack);
    for (seed, at) in [(11, 5_000_001), (12, 3_333_333), (13, 77)] {
        pack.splice(at..at, noise(seed, 20_000));
    }
    pack.drain(1_000_003..1_500_007);
    pack.rotate_left(2_345_678);
    write(&game.dev, PACK, &pack);
    game
}

/// The number of the pack among the files of the base, and among the objects.
fn numbers(ship: &Ship) -> (u8, u8) {
    let files = ship.base.entries.iter().filter(|(_, entry)| matches!(entry, Entry::File { .. }));
    let base = files.map(|(path, _)| path.as_str()).position(|path| path == PACK).unwrap();
    let object = Objects::of(&ship.verified().record).number(&object_of(ship)).unwrap();
    (u8::try_from(base).unwrap(), u8::try_from(object).unwrap())
}

fn object_of(ship: &Ship) -> Hash {
    match ship.verified().record.delta.put.get(&PACK.parse().unwrap()) {
        Some(Entry::File { hash, .. }) => *hash,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_is_new_of_a_large_file_travels() {
    let ship = ship(repacked());
    let mut inbox = ship.inbox();
    let (bytes, sent) = ship.stream(&inbox.wants());
    assert!(bytes.len() < NEW_BYTES + 5_000, "{} bytes", bytes.len());
    assert!(sent.patched >= 1, "{sent:?}");
    ship.receive(&mut inbox, &bytes).unwrap();
    ship.finished_is_the_same(inbox);
}

#[test]
fn the_old_form_may_come_from_the_package_before() {
    let mut game = repacked();
    std::mem::swap(&mut game.live, &mut game.dev);
    let first = game.pack_as(&Variant { base: None, out: game.path("first"), ..game.variant() });
    let first = first.unwrap();
    std::mem::swap(&mut game.live, &mut game.dev);
    let ship = ship(game);
    let mut inbox = ship.inbox();
    let olds = Olds::none().archive(ship.game.open(&first.archive).unwrap());
    let (bytes, _) = ship.stream_with(&inbox.wants(), olds);
    assert!(bytes.len() < NEW_BYTES + 5_000, "{} bytes", bytes.len());
    ship.receive(&mut inbox, &bytes).unwrap();
    ship.finished_is_the_same(inbox);
}

#[test]
fn an_old_form_that_is_another_one_here_is_not_used() {
    let ship = ship(repacked());
    let other = ship.game.path("other");
    write(&other, PACK, noise(99, PACK_BYTES));
    let mut inbox = ship.inbox();
    let (bytes, sent) = ship.stream_with(&inbox.wants(), Olds::none().tree(&other));
    assert_eq!(sent.patched, 0);
    assert!(bytes.len() > PACK_BYTES - 600_000);
    ship.receive(&mut inbox, &bytes).unwrap();
    ship.finished_is_the_same(inbox);
}

#[test]
fn a_cut_anywhere_in_a_patch_is_taken_up_there() {
    let ship = ship(repacked());
    let (whole, _) = ship.stream(&ship.inbox().wants());
    for tenth in 1..10 {
        let _ = fs::remove_dir_all(ship.inbox_dir());
        let mut inbox = ship.inbox();
        let cut = whole.len() * tenth / 10;
        let error = ship.receive(&mut inbox, &whole[..cut]).unwrap_err();
        assert!(matches!(error, PackageError::Thin(BadThin::Truncated)), "{error:?}");
        // Another process goes on.
        let mut inbox = ship.inbox();
        let wants = inbox.wants();
        let (rest, _) = ship.stream(&wants);
        assert!(rest.len() < whole.len() - cut + 25_000, "{} after {cut}", rest.len());
        ship.receive(&mut inbox, &rest).unwrap();
        ship.finished_is_the_same(inbox);
    }
}

#[test]
fn a_base_that_is_another_one_there_is_noticed_and_the_whole_asked_for() {
    let damages: [fn(&mut Vec<u8>); 3] = [
        |pack| pack[4_000_000] ^= 1,
        |pack| pack.truncate(1_000),
        |pack| pack.extend_from_slice(b"a line more"),
    ];
    for damage in damages {
        let ship = ship(repacked());
        let kept = ship.game.path("kept");
        common::run_ok("cp", &[&"-a", &ship.game.live, &kept]);
        let path = ship.game.live.join(PACK);
        let mut pack = fs::read(&path).unwrap();
        damage(&mut pack);
        fs::write(&path, &pack).unwrap();
        let mut inbox = ship.inbox();
        let (bytes, _) = ship.stream_with(&inbox.wants(), Olds::none().tree(&kept));
        let received = ship.receive(&mut inbox, &bytes).unwrap();
        // What was put behind its end is not copied, and does no harm.
        let harmless = pack.len() > PACK_BYTES;
        assert_eq!(received.refused, u64::from(!harmless));
        assert_eq!(inbox.wants().drifted.len(), usize::from(!harmless));
        let (bytes, _) = ship.stream_with(&inbox.wants(), Olds::none().tree(&kept));
        ship.receive(&mut inbox, &bytes).unwrap();
        ship.finished_is_the_same(inbox);
    }
}

/// A unit of the pack with these instructions, as one frame in one piece.
fn unit(ship: &Ship, instructions: &[u8]) -> Vec<u8> {
    let (base, object) = numbers(ship);
    let frame = zstd::encode_all(instructions, 3).unwrap();
    let length = u8::try_from(frame.len()).unwrap();
    assert!(length < 128, "its length is one byte");
    [&[4, object, 0, base, length][..], &frame, &[0]].concat()
}

#[test]
fn instructions_of_an_enemy() {
    let ship = ship(repacked());
    let (base, object) = numbers(&ship);
    let refused = |instructions: &[u8]| ship.refused(&ship.forged(&unit(&ship, instructions)));
    let head = |bytes: &[u8]| ship.refused(&ship.forged(bytes));
    refused_as!(head(&[4, 120, 0, base]), BadThin::NoObject(120));
    refused_as!(head(&[4, object, 7, base]), BadThin::Offset { found: 7, .. });
    refused_as!(head(&[4, object, 0, 120]), BadThin::NoBase(120));
    refused_as!(head(&[4, object, 0, base]), BadThin::Truncated);
    // Nothing new and nothing copied: without end.
    refused_as!(refused(&[0, 0, 0, 0]), BadThin::Instruction(_));
    refused_as!(refused(&[1, b'x', 0, 0, 0]), BadThin::Instruction(_));
    // More than the content has.
    refused_as!(refused(&[0xFF, 0xFF, 0xFF, 0x7F]), BadThin::Instruction(_));
    refused_as!(refused(&[0, 0xFF, 0xFF, 0xFF, 0x7F, 0]), BadThin::Instruction(_));
    // From beyond the old one's end, and so far beyond that the sum is no number any more.
    refused_as!(refused(&[0, 100, 0x80, 0x9B, 0xEE, 0x02]), BadThin::Beyond { .. });
    let far = [&[0, 100][..], &[0xFF; 8], &[0x7F]].concat();
    refused_as!(refused(&far), BadThin::Beyond { .. });
    refused_as!(refused(&[&[0][..], &[0xFF; 12]].concat()), BadThin::Number);
    // Too early: between two instructions, in a number, in new bytes.
    refused_as!(refused(&[0, 100, 0]), BadThin::Size { found: 100, .. });
    refused_as!(refused(&[]), BadThin::Size { found: 0, .. });
    refused_as!(refused(&[0, 0x80]), BadThin::Damaged(..));
    refused_as!(refused(&[9, b'x']), BadThin::Damaged(..));
    let dictionary = [0x28, 0xB5, 0x2F, 0xFD, 0x21, 7, 0, 0, 0, 0, 0, 0];
    let length = u8::try_from(dictionary.len()).unwrap();
    let raw = [&[4, object, 0, base, length][..], &dictionary, &[0]].concat();
    refused_as!(head(&raw), BadThin::Dictionary(7));
    let window = [0x28, 0xB5, 0x2F, 0xFD, 0, 21 << 3, 0, 0, 0, 0, 0, 0];
    let raw = [&[4, object, 0, base, length][..], &window, &[0]].concat();
    refused_as!(head(&raw), BadThin::Window { found, .. } if *found == 1 << 31);
    // The right length of another content.
    let size = ship.verified().record.delta.put.get(&PACK.parse().unwrap());
    let size = size.unwrap().size();
    let mut length = Vec::new();
    let mut left = size;
    while left > 0x7F {
        length.push(u8::try_from(left & 0x7F).unwrap() | 0x80);
        left >>= 7;
    }
    length.push(u8::try_from(left).unwrap());
    refused_as!(refused(&[&[0][..], &length, &[0]].concat()), BadThin::Content(_));
}

#[test]
fn nothing_follows_a_complete_patch() {
    let mut game = game();
    game.scripts.clear();
    write(&game.live, PACK, noise(1, PACK_BYTES));
    // All that is to be done is to leave the last byte away.
    write(&game.dev, PACK, &noise(1, PACK_BYTES)[..100]);
    let ship = ship(game);
    assert_eq!(Hash::of(&noise(1, PACK_BYTES)[..100]), object_of(&ship));
    let received = |instructions: &[u8]| {
        let _ = fs::remove_dir_all(ship.inbox_dir());
        let mut inbox = ship.inbox();
        let mut stream = ship.forged(&unit(&ship, instructions));
        stream.push(3);
        let outcome = ship.receive(&mut inbox, &stream).map(|received| received.patched);
        (outcome, Inbox::open(&ship.inbox_dir(), ship.verified(), &ship.base).unwrap())
    };
    assert!(matches!(received(&[0, 100, 0]), (Ok(1), _)));
    let new = [&[100][..], &noise(1, PACK_BYTES)[..20]].concat();
    assert!(matches!(received(&new), (Err(PackageError::Thin(BadThin::Damaged(..))), _)));
    for trailing in [&[0, 100, 0, 0][..], &[0, 100, 0, 1, b'x', 0]] {
        let (outcome, _) = received(trailing);
        assert!(matches!(outcome, Err(PackageError::Thin(BadThin::Trailing(_)))), "{outcome:?}");
    }
    let mixed = [&[20][..], &noise(1, PACK_BYTES)[..20], &[80, 20]].concat();
    assert!(matches!(received(&mixed), (Ok(1), _)));
}
