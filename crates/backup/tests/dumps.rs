//! Dumps: only whole ones count.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::io::Write;

use common::{Place, noise, restore_dump, silent, store_dump, tags};
use entracte_backup::{BackupError, Kind, Repository};

/// A dump by table in key order, `rows` rows; each row whose number is in `changed` has another
/// content of another length.
fn dump(rows: u64, changed: impl Fn(u64) -> bool) -> Vec<u8> {
    let mut text = String::from("CREATE TABLE players (id int, name text, gold int, seen int);\n");
    for id in 0..rows {
        if id % 200 == 0 {
            text.push_str("INSERT INTO `players` VALUES\n");
        }
        let mut mix = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66;
        mix ^= mix >> 29;
        let gold = if changed(id) { mix % 7 } else { mix % 1_000_000 };
        let end = if id % 200 == 199 || id + 1 == rows { ';' } else { ',' };
        writeln!(
            text,
            "({id},'player{:x}','{:x}@example.org',{gold},{},'{:016x}'){end}",
            mix % 65_537,
            mix % 0xFFFF_FFFF,
            1_700_000_000 + mix % 8_000_000,
            mix.rotate_left(23)
        )
        .unwrap();
    }
    text.push_str("-- Dump completed\n");
    text.into_bytes()
}

#[test]
fn a_dump_comes_back_exactly_from_us_and_from_restic() {
    let place = Place::new();
    let mut repository = place.open();
    let first = dump(40_000, |_| false);
    let snapshot = store_dump(&mut repository, &first).unwrap();
    assert_eq!((snapshot.kind, snapshot.name.as_str()), (Kind::Database, "taverne.sql"));
    assert_eq!(snapshot.bytes, first.len() as u64);
    assert_eq!(snapshot.tags.len(), 4);
    assert_eq!(repository.list().unwrap(), std::slice::from_ref(&snapshot));
    assert!(restore_dump(&repository, &snapshot.id) == first);

    place.assert_whole();
    let theirs = place.path("theirs");
    place.restic("dumps", &["restore", "latest", "--verify", "--target", theirs.to_str().unwrap()]);
    assert!(fs::read(theirs.join("taverne.sql")).unwrap() == first);
    assert!(place.restic("dumps", &["dump", "latest", "/taverne.sql"]).into_bytes() == first);
    let listed = place.restic("dumps", &["snapshots", "--json", "--tag", "project=taverne"]);
    assert!(listed.contains(&snapshot.id), "{listed}");
}

#[test]
fn the_same_name_and_size_never_brings_the_old_dump_back() {
    let place = Place::new();
    let mut repository = place.open();
    let old = noise(1, 500_000);
    let new = noise(2, 500_000);
    store_dump(&mut repository, &old).unwrap();
    let snapshot = store_dump(&mut repository, &new).unwrap();
    assert!(restore_dump(&repository, &snapshot.id) == new);
}

#[test]
fn a_second_day_with_scattered_edits_adds_little() {
    let place = Place::new();
    let mut repository = place.open();
    let first = dump(250_000, |_| false);
    store_dump(&mut repository, &first).unwrap();
    let packed_first = place.packed("dumps");
    // 0.05 % of the rows, spread over the whole table.
    let second = dump(250_000, |id| id.wrapping_mul(2_654_435_761) % 2_000 == 0);
    assert!(first != second);
    let snapshot = store_dump(&mut repository, &second).unwrap();
    let added = place.packed("dumps") - packed_first;
    println!("dump {} packed {packed_first} added {added}", first.len());
    assert!(added * 100 <= packed_first * 15, "{added} of {packed_first} bytes were added");
    assert!(restore_dump(&repository, &snapshot.id) == second);
}

#[test]
fn a_failing_producer_leaves_no_snapshot() {
    let place = Place::new();
    let mut repository = place.open();
    let half = noise(3, 2_000_000);
    let mut write = |out: &mut dyn Write| {
        out.write_all(&half).map_err(|error| error.to_string())?;
        Err("mariadb-dump ended with exit code 2".to_owned())
    };
    let error =
        repository.store_stream("taverne.sql", &tags(), &mut write, &mut silent()).unwrap_err();
    assert!(matches!(error, BackupError::Producer { .. }), "{error}");
    assert!(error.to_string().contains("exit code 2"), "{error}");
    assert!(repository.list().unwrap().is_empty());
    let listed = place.restic("dumps", &["snapshots", "--json"]);
    assert!(!listed.contains("tree"), "{listed}");
    place.assert_whole();
    // What was left behind does not hinder the next one.
    let snapshot = store_dump(&mut repository, &half).unwrap();
    assert!(restore_dump(&repository, &snapshot.id) == half);
}

#[test]
fn a_producer_that_wrote_nothing_or_miscounts_leaves_no_snapshot() {
    let place = Place::new();
    let mut repository = place.open();
    let error = store_dump(&mut repository, b"").unwrap_err();
    assert!(matches!(error, BackupError::Producer { .. }), "{error}");
    let mut write = |out: &mut dyn Write| {
        out.write_all(b"half").map_err(|error| error.to_string())?;
        Ok(8)
    };
    let error =
        repository.store_stream("taverne.sql", &tags(), &mut write, &mut silent()).unwrap_err();
    assert!(matches!(error, BackupError::Differs { .. }), "{error}");
    assert!(repository.list().unwrap().is_empty());
}

#[test]
fn a_panicking_producer_leaves_no_snapshot_and_frees_the_repository() {
    let place = Place::new();
    let mut repository = place.open();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut write = |out: &mut dyn Write| -> Result<u64, String> {
            out.write_all(&noise(4, 1_000_000)).unwrap();
            panic!("the producer broke")
        };
        repository.store_stream("taverne.sql", &tags(), &mut write, &mut silent())
    }));
    assert!(panicked.is_err());
    let repository = place.open();
    assert!(repository.list().unwrap().is_empty());
    place.assert_whole();
}

#[test]
fn many_dumps_are_many_snapshots_each_with_its_own_content() {
    let place = Place::new();
    let mut repository = place.open();
    let mut stored = Vec::new();
    for n in 0..12 {
        let name = format!("db{}.sql", n % 3);
        let content = noise(n + 50, 30_000);
        let mut write = |out: &mut dyn Write| {
            out.write_all(&content).map_err(|error| error.to_string())?;
            Ok(content.len() as u64)
        };
        let snapshot = repository.store_stream(&name, &tags(), &mut write, &mut silent()).unwrap();
        assert_eq!(snapshot.name, name);
        stored.push((snapshot.id, noise(n + 50, 30_000)));
    }
    assert_eq!(repository.list().unwrap().len(), stored.len());
    for (id, content) in &stored {
        assert!(restore_dump(&repository, id) == *content);
        let files = place.restic("dumps", &["ls", id]);
        assert_eq!(files.lines().filter(|line| line.starts_with('/')).count(), 1, "{files}");
    }
}

#[test]
fn a_flipped_bit_is_found_by_check_and_by_restoring() {
    let place = Place::new();
    let mut repository = place.open();
    let snapshot = store_dump(&mut repository, &noise(5, 300_000)).unwrap();
    let mut packs = Vec::new();
    for folder in fs::read_dir(place.repository().join("dumps/data")).unwrap() {
        for pack in fs::read_dir(folder.unwrap().path()).unwrap() {
            let pack = pack.unwrap();
            packs.push((pack.metadata().unwrap().len(), pack.path()));
        }
    }
    let (_, pack) = packs.into_iter().max().unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, bytes).unwrap();
    assert!(matches!(repository.check(true), Err(BackupError::Faults { .. })));
    let error = repository.restore_stream(&snapshot.id, &mut Vec::new(), &mut silent());
    assert!(error.is_err());
}

#[test]
fn a_missing_pack_is_found_without_reading_the_data() {
    let place = Place::new();
    let mut repository = place.open();
    store_dump(&mut repository, &noise(6, 300_000)).unwrap();
    for folder in fs::read_dir(place.repository().join("dumps/data")).unwrap() {
        for pack in fs::read_dir(folder.unwrap().path()).unwrap() {
            fs::remove_file(pack.unwrap().path()).unwrap();
        }
    }
    assert!(matches!(repository.check(false), Err(BackupError::Faults { .. })));
}

#[test]
fn a_tree_is_not_restored_as_a_dump_nor_the_other_way_round() {
    let place = Place::new();
    let mut repository = place.open();
    let dump = store_dump(&mut repository, b"-- a dump").unwrap();
    let root = place.path("game");
    fs::create_dir(&root).unwrap();
    let tree = common::store_tree(&mut repository, &root).unwrap();
    let error = repository.restore_stream(&tree.id, &mut Vec::new(), &mut silent()).unwrap_err();
    assert!(matches!(error, BackupError::WrongKind { .. }), "{error}");
    let error = repository.restore_tree(&dump.id, &place.path("x"), &mut silent()).unwrap_err();
    assert!(matches!(error, BackupError::WrongKind { .. }), "{error}");
}

#[test]
fn a_reader_that_cannot_take_more_is_the_reason_that_is_told() {
    struct Short(usize);
    impl Write for Short {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(rustix::io::Errno::NOSPC.into());
            }
            self.0 -= 1;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let place = Place::new();
    let mut repository = place.open();
    let snapshot = store_dump(&mut repository, &noise(8, 300_000)).unwrap();
    let error = repository.restore_stream(&snapshot.id, &mut Short(2), &mut silent()).unwrap_err();
    assert!(matches!(error, BackupError::Full { .. }), "{error}");
}

#[test]
fn the_command_line_and_its_secrets_are_not_stored() {
    let place = Place::new();
    let mut repository = place.open();
    let snapshot = store_dump(&mut repository, b"-- a dump").unwrap();
    let stored = place.restic("dumps", &["cat", "snapshot", &snapshot.id]);
    let program = std::env::args().next().unwrap();
    assert!(!stored.contains(&program), "{stored}");
    let debug = format!("{:?}", Repository::open(&place.repository(), &place.password()).unwrap());
    let password = fs::read_to_string(place.password()).unwrap();
    assert!(!debug.contains(password.trim()) && !debug.contains("encrypt"), "{debug}");
}
