//! A file of over 4 GiB goes the whole way: scanned, packed, sent, received. It is sparse,
//! and stays so, so that it costs neither disk nor much time.
#![allow(clippy::unwrap_used, reason = "a test stops where something goes wrong")]

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::AtomicBool;

use common::{game, quiet, rel, scanned};
use entracte_model::manifest::Entry;
use entracte_package::thin::{self, Inbox, Level, Olds, Parcel};

#[test]
fn a_file_of_over_4_gib_goes_the_whole_way() {
    const SIZE: u64 = (1 << 32) + 12_345;
    static GO: AtomicBool = AtomicBool::new(false);
    let game = game();
    let world = fs::File::create(game.dev.join("world.db")).unwrap();
    world.set_len(SIZE).unwrap();
    world.write_all_at(b"the end of the world", SIZE - 20).unwrap();
    let packed = game.pack();
    let archive = game.open(&packed.archive).unwrap();
    let base = scanned(&game.live);

    let mut inbox = Inbox::open(&game.path("inbox"), archive.verified(), &base).unwrap();
    let wants = inbox.wants();
    let (mut from, mut into) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let parcel =
                Parcel { archive: &archive, base: &base, wants: &wants, level: Level::Fixed(1) };
            let sent =
                thin::send(&parcel, &mut Olds::none(), &mut into, &mut quiet(), &GO).unwrap();
            assert!(sent.bytes < 2_000_000, "{} bytes", sent.bytes);
        });
        inbox.receive(&mut from, &game.live, &mut quiet(), &GO).unwrap();
    });
    let wanted = rel("world.db");
    let Some(Entry::File { hash, .. }) = archive.record().delta.put.get(&wanted) else {
        panic!("it is not in the package");
    };
    let arrived = fs::File::open(game.path("inbox").join(hash.to_string())).unwrap();
    let meta = arrived.metadata().unwrap();
    assert_eq!(meta.len(), SIZE);
    assert!(meta.blocks() * 512 < 100 << 20, "{} blocks are filled", meta.blocks());
    let mut end = [0; 20];
    arrived.read_exact_at(&mut end, SIZE - 20).unwrap();
    assert_eq!(&end, b"the end of the world");
}
