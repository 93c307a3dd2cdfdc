//! Scripts that a seeded generator glues together from pieces of SQL that are hard to take apart.

use std::fs;

use entracte_db::{Engine, Script, open};

use crate::clients::{Both, by_us};
use crate::pieces;

/// How many scripts are compared.
const SEEDS: u64 = 25;
/// How many pieces a script has.
const PIECES: usize = 40;

/// Numbers that are the same on every machine and in every run (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // The first numbers of neighbouring seeds are alike.
        (0..8).for_each(|_| {
            random.below(2);
        });
        random
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    pub fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// One script. Every piece leaves its mark in the table `t`, by a number of its own.
fn script(engine: Engine, random: &mut Random) -> String {
    // Functions of the script before depend on its table.
    let cascade = if engine == Engine::Postgres { " CASCADE" } else { "" };
    let mut text = format!("DROP TABLE IF EXISTS t{cascade};\nCREATE TABLE t (id INT, s TEXT);\n");
    for id in 0..PIECES {
        let literal = random.pick(pieces::literals(engine));
        let piece = random.pick(pieces::statements(engine));
        let mut delimiter = ";";
        if engine == Engine::Mariadb && piece.contains("{end}") {
            delimiter = random.pick(pieces::DELIMITERS);
            let command = random.pick(&["DELIMITER", "delimiter", "Delimiter"]);
            // The client obeys it at the start of a line only.
            text += &format!("\n{command} {delimiter}\n");
        }
        let number = id.to_string();
        text += &piece
            .replace("{literal}", literal)
            .replace("{id}", &number)
            .replace("{end}", delimiter);
        text += delimiter;
        if delimiter != ";" {
            text += "\nDELIMITER ;\n";
        }
        text += random.pick(pieces::gaps(engine));
    }
    text
}

/// Compares [`SEEDS`] scripts, all of which run to their end on both sides.
pub fn compare(both: &mut dyn Both) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("generated.sql");
    let (ours, theirs) = both.fresh();
    for seed in 0..SEEDS {
        let text = script(both.engine(), &mut Random::new(seed));
        fs::write(&path, &text).unwrap();
        let client = both.client(&path);
        let said = String::from_utf8_lossy(&client.stderr);
        assert!(client.status.success(), "seed {seed}: {said}\n{text}");
        let result = by_us(&mut *open(&ours).unwrap(), Script::file("generated.sql", &path));
        assert!(result.is_ok(), "seed {seed}: {result:?}\n{text}");
        let rows = "SELECT id, s FROM t ORDER BY id, s";
        let ours = open(&ours).unwrap().query(rows).unwrap();
        let theirs = open(&theirs).unwrap().query(rows).unwrap();
        assert!(theirs.len() >= PIECES, "seed {seed}: {theirs:?}\n{text}");
        assert_eq!(ours, theirs, "seed {seed}:\n{text}");
    }
}
