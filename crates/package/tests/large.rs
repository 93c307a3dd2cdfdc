//! A file of over 4 GiB goes the whole way: scanned, packed, sent, received, staged. It is sparse,
//! and stays so, so that it costs neither disk nor much time.
#![allow(clippy::unwrap_used, reason = "a test stops where something goes wrong")]

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::AtomicBool;

use common::{game, quiet, scanned};
use entracte_package::stage;
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
    let arrived = game.path("arrived.tar.zst");
    inbox.assemble(&arrived, &mut quiet()).unwrap();
    inbox.remove().unwrap();

    let arrived = game.open(&arrived).unwrap();
    let new = arrived.new_manifest(&base).unwrap();
    let request = stage::Request {
        live: &game.live,
        staged: &game.path("staged"),
        base: &base,
        new: &new,
        archive: &arrived,
        persist: &[],
        persist_from: &game.path("shared"),
        hardlink: false,
    };
    stage::build(&request, &mut quiet(), &GO).unwrap();
    let staged = fs::File::open(game.path("staged/world.db")).unwrap();
    let meta = staged.metadata().unwrap();
    assert_eq!(meta.len(), SIZE);
    assert!(meta.blocks() * 512 < 100 << 20, "{} blocks are filled", meta.blocks());
    let mut end = [0; 20];
    staged.read_exact_at(&mut end, SIZE - 20).unwrap();
    assert_eq!(&end, b"the end of the world");
}
