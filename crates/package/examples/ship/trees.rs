//! The trees of the bench, the same in every run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One update.
pub struct Update {
    pub name: &'static str,
    pub about: String,
    pub assets: bool,
    pub changes: bool,
    make: Box<dyn Fn(&Path)>,
}

impl Update {
    /// Makes `old` and `new` in `place`.
    pub fn make(&self, place: &Path) {
        fs::create_dir_all(place).expect("a folder");
        (self.make)(place);
    }
}

/// How many small files are shipped without a change.
pub fn many(quick: bool) -> usize {
    if quick { 5_000 } else { 100_000 }
}

/// How many small files are looked at, by `git status` and by us: the goal is about so many, and it
/// takes no minute.
pub const LOOKED_AT: usize = 100_000;

/// How many small files make the whole way: packed, staged, exchanged, verified.
pub fn round(quick: bool) -> usize {
    if quick { 10_000 } else { 200_000 }
}

pub fn all(quick: bool) -> Vec<Update> {
    let files = if quick { 1_000 } else { 3_000 };
    let megabytes = if quick { 60 } else { 500 };
    let count = many(quick);
    let update = |name, about, assets, changes, make: Box<dyn Fn(&Path)>| Update {
        name,
        about,
        assets,
        changes,
        make,
    };
    let few = Box::new(move |place: &Path| source(place, files, 22, 2));
    let wide = Box::new(move |place: &Path| source(place, files, files * 800 / 3_000, 12));
    vec![
        update("few", format!("{files} source files, 22 edited"), false, true, few),
        update(
            "wide",
            format!("{files} source files, {} edited", files * 800 / 3_000),
            false,
            true,
            wide,
        ),
        update(
            "assets",
            format!("{megabytes} MB of assets, changed, moved, re-encoded"),
            true,
            true,
            Box::new(move |place: &Path| assets(place, megabytes)),
        ),
        update(
            "none",
            format!("{count} small files, none changed"),
            false,
            false,
            Box::new(move |place: &Path| {
                make_many(&place.join("old"), count);
                copy(place);
            }),
        ),
    ]
}

/// A small generator (xorshift64*): the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }

    fn noise(&mut self, bytes: usize) -> Vec<u8> {
        let mut noise = Vec::with_capacity(bytes + 8);
        while noise.len() < bytes {
            noise.extend_from_slice(&self.next().to_le_bytes());
        }
        noise.truncate(bytes);
        noise
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder");
    fs::write(path, bytes).expect("a file");
}

fn copy(place: &Path) {
    let (old, new) = (place.join("old"), place.join("new"));
    let status = Command::new("cp").args(["-a", "--reflink=auto"]).arg(old).arg(new).status();
    assert!(status.expect("cp").success(), "the old tree is copied");
}

const WORDS: [&str; 32] = [
    "return",
    "function",
    "player",
    "$gold",
    "->query(",
    "if (",
    ") {",
    "}",
    "market",
    "foreach",
    "array(",
    "isset",
    "session",
    "'SELECT * FROM inventory WHERE id = ?'",
    "=>",
    "null",
    "item",
    "count(",
    "public",
    "static",
    "// check the price first",
    "guild",
    "echo",
    "htmlspecialchars(",
    "$row['name']",
    "===",
    "&&",
    "new",
    "Exception",
    "->add(",
    "private",
    "level",
];

fn line(numbers: &mut Numbers) -> String {
    let words: Vec<String> = (0..3 + numbers.below(8))
        .map(|_| match numbers.below(6) {
            0 => format!("$v{}", numbers.below(5_000)),
            _ => WORDS[numbers.below(WORDS.len())].to_owned(),
        })
        .collect();
    format!("{}{}\n", " ".repeat(4 * numbers.below(4)), words.join(" "))
}

fn source_path(tree: &Path, file: usize) -> PathBuf {
    tree.join(format!("lib{}/part{}/file{file}.php", file % 13, file % 101))
}

fn source(place: &Path, files: usize, edited: usize, lines: usize) {
    let mut numbers = Numbers(0x00C0_FFEE);
    let old = place.join("old");
    for file in 0..files {
        let count = 60 + numbers.below(900);
        let text: String = (0..count).map(|_| line(&mut numbers)).collect();
        write(&source_path(&old, file), text.as_bytes());
    }
    copy(place);
    let new = place.join("new");
    for edit in 0..edited {
        let path = source_path(&new, edit * files / edited);
        let text = fs::read_to_string(&path).expect("a source file");
        let mut all: Vec<String> = text.lines().map(|line| format!("{line}\n")).collect();
        for _ in 0..1 + numbers.below(lines) {
            let at = numbers.below(all.len());
            match numbers.below(3) {
                0 => all.insert(at, line(&mut numbers)),
                1 => all[at] = line(&mut numbers),
                _ => drop(all.remove(at)),
            }
        }
        fs::write(&path, all.concat()).expect("an edited file");
    }
    for added in 0..edited / 20 {
        let text: String = (0..200).map(|_| line(&mut numbers)).collect();
        write(&new.join(format!("added/file{added}.php")), text.as_bytes());
    }
}

/// Pictures and sounds: noise to every compressor. One large pack of them, as games have.
fn assets(place: &Path, megabytes: usize) {
    let mut numbers = Numbers(0x00A5_5E75);
    let old = place.join("old");
    let path = |tree: &Path, file: usize| tree.join(format!("art/{}/{file}.webp", file % 17));
    let mut left = megabytes * 1_000_000;
    let pack = left / 5;
    write(&old.join("data/world.pak"), &numbers.noise(pack));
    left -= pack;
    let mut files = 0;
    while left > 0 {
        let size = (100_000 + numbers.below(900_000)).min(left);
        write(&path(&old, files), &numbers.noise(size));
        (files, left) = (files + 1, left - size);
    }
    copy(place);
    let new = place.join("new");
    let mut at = 0;
    let mut next = || {
        at += 1;
        at * 7 % files
    };
    for _ in 0..files / 40 {
        // Re-encoded: another content of about the same size.
        let path = path(&new, next());
        let size = fs::metadata(&path).expect("an asset").len();
        let size = usize::try_from(size).expect("it fits") * 99 / 100;
        fs::write(&path, numbers.noise(size)).expect("an asset");
    }
    for _ in 0..files / 20 {
        // Edited in places: metadata, a layer.
        let path = path(&new, next());
        let mut bytes = fs::read(&path).expect("an asset");
        let from = numbers.below(bytes.len());
        bytes.splice(from..from, numbers.noise(3_000));
        fs::write(&path, bytes).expect("an asset");
    }
    for moved in 0..10 {
        let to = new.join(format!("moved/{moved}.webp"));
        fs::create_dir_all(new.join("moved")).expect("a folder");
        fs::rename(path(&new, next()), to).expect("an asset moves");
    }
    let pak = new.join("data/world.pak");
    let mut bytes = fs::read(&pak).expect("the pack");
    for _ in 0..20 {
        let from = numbers.below(bytes.len());
        bytes.splice(from..from, numbers.noise(20_000));
    }
    fs::write(&pak, bytes).expect("the pack");
}

pub fn make_many(tree: &Path, count: usize) {
    let mut numbers = Numbers(77);
    for file in 0..count {
        let bytes = numbers.noise(40 + file % 200);
        write(&many_path(tree, file), &bytes);
    }
}

/// Changes one in a hundred of them.
pub fn edit_many(tree: &Path, count: usize) {
    let mut numbers = Numbers(78);
    for file in (0..count).step_by(100) {
        let bytes = numbers.noise(60 + file % 200);
        write(&many_path(tree, file), &bytes);
    }
}

fn many_path(tree: &Path, file: usize) -> PathBuf {
    tree.join(format!("d{}/e{}/f{file}", file % 100, file % 1_000))
}
