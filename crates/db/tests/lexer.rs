//! The lexer on inputs that nobody meant: the properties of the fuzz targets, over scripts that are
//! glued together from what a lexer can stumble over, cut anywhere.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../fuzz/src/lib.rs"]
mod properties;

use std::fs;
use std::path::Path;

use entracte_db::Engine;

/// How many inputs each dialect is given.
const INPUTS: u64 = 4_000;
/// How many pieces an input has at most.
const PIECES_MAX: u64 = 14;
const ENGINES: [Engine; 3] = [Engine::Sqlite, Engine::Mariadb, Engine::Postgres];

const PIECES: &[&[u8]] = &[
    b"'",
    b"\"",
    b"`",
    b"[",
    b"]",
    b";",
    b"\\",
    b"\n",
    b"\r\n",
    b"\r",
    b" ",
    b"\t",
    b"--",
    b"-- ",
    b"-",
    b"#",
    b"/*",
    b"*/",
    b"/*!",
    b"/*!50000 ",
    b"/*M!100100 ",
    b"/*M!999999\\-",
    b"$$",
    b"$a$",
    b"$1",
    b"$",
    b"(",
    b")",
    b":",
    b":=",
    b"=",
    b"@",
    b".",
    b",",
    b"e'",
    b"E'",
    b"\\g",
    b"\\G",
    b"\\N",
    b"\\.",
    b"\\!",
    b"delimiter //",
    b"\nDELIMITER $$\n",
    b"\ndelimiter ;\n",
    b"DELIMITER",
    b"\ndelimiter;\n",
    b"\ndelimiter\x04",
    b"\x0b",
    b"\xc2\xa0",
    b"//",
    b";;",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xc3\xa9",
    b"\xc3",
    b"x",
    b"1",
    b"select",
    b"insert into t values (1)",
    b"create",
    b"table",
    b"trigger",
    b"procedure",
    b"function",
    b"event",
    b"view",
    b"row",
    b"do",
    b"begin",
    b"end",
    b"if",
    b"then",
    b"else",
    b"case",
    b"when",
    b"loop",
    b"while",
    b"repeat",
    b"until",
    b"for",
    b"not",
    b"atomic",
    b"declare",
    b"handler",
    b"return",
    b"returns",
    b"or",
    b"replace",
    b"definer",
    b"follows",
    b"precedes",
    b"copy t from stdin",
    b"source x",
    b".read",
    b"set sql_mode = 'ansi'",
    b"set sql_mode='no_backslash_escapes'",
    b"rule",
    b"end if",
    b"explain",
    b"temp",
    b"alter",
    b"label:",
];

/// Numbers that are the same on every machine and in every run (splitmix).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }
}

fn glued(random: &mut Random) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..random.below(PIECES_MAX) {
        input.extend_from_slice(PIECES[random.index(PIECES.len())]);
        if random.below(3) > 0 {
            input.push(b' ');
        }
    }
    input
}

#[test]
fn the_properties_hold_for_what_nobody_meant() {
    for engine in ENGINES {
        for seed in 0..INPUTS {
            let input = glued(&mut Random(seed));
            let result = std::panic::catch_unwind(|| properties::hold(engine, &input));
            assert!(
                result.is_ok(),
                "{engine:?}, seed {seed}: {:?}",
                String::from_utf8_lossy(&input)
            );
        }
    }
}

#[test]
fn the_properties_hold_for_the_corpus_and_for_its_beginnings() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    for entry in fs::read_dir(dir).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let mut random = Random(bytes.len() as u64);
        for engine in ENGINES {
            properties::hold(engine, &bytes);
            for _ in 0..20 {
                properties::hold(engine, &bytes[..random.index(bytes.len())]);
            }
        }
    }
}
