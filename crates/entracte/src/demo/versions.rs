//! The three versions of the demo's game, built into the program.

use std::io;
use std::path::Path;

/// A version of the game: how its tree comes out of the one before, and what goes with it.
pub struct GameVersion {
    /// Its number.
    pub number: &'static str,
    /// Files that it creates or changes, by their path in the tree.
    put: &'static [(&'static str, &'static str)],
    /// Files that it deletes.
    delete: &'static [&'static str],
    /// Files that it renames, from and to.
    rename: &'static [(&'static str, &'static str)],
    /// Its scripts, by name.
    pub scripts: &'static [(&'static str, &'static str)],
    /// What the players are told, by the name of the fragment.
    pub changes: &'static [(&'static str, &'static str)],
}

macro_rules! files {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../games/demo/", $folder, "/", $name)))),*]
    };
}

/// What production holds at first.
pub const V1_0: GameVersion = GameVersion {
    number: "1.0",
    put: files!("v1.0/source": "version.txt", "rules.json", "templates/layout.html",
        "templates/inn.html", "templates/play.html", "templates/house.html", "static/style.css",
        "static/sign.svg", "static/candle.svg"),
    delete: &[],
    rename: &[],
    scripts: files!("v1.0/SQL": "000-schema.sql"),
    changes: &[],
};

/// The release that works.
pub const V1_1: GameVersion = GameVersion {
    number: "1.1",
    put: files!("v1.1/overlay": "version.txt", "rules.json", "templates/layout.html",
        "templates/inn.html", "templates/play.html", "templates/songs.html",
        "templates/house.html", "static/style.css"),
    delete: &["static/candle.svg"],
    rename: &[("static/sign.svg", "static/lantern.svg")],
    scripts: files!("v1.1/SQL": "010-renown.sql"),
    changes: files!("v1.1/changes": "song-book.md", "cider.md"),
};

/// The release that does not: its page asks for a column that its script calls otherwise.
pub const V1_2: GameVersion = GameVersion {
    number: "1.2",
    put: files!("v1.2/overlay": "version.txt", "rules.json", "templates/play.html"),
    delete: &[],
    rename: &[],
    scripts: files!("v1.2/SQL": "020-charms.sql"),
    changes: files!("v1.2/changes": "charms.md"),
};

impl GameVersion {
    /// Makes `tree`, which holds the version before, into this version.
    pub fn put_into(&self, tree: &Path) -> io::Result<()> {
        for (from, to) in self.rename {
            std::fs::rename(tree.join(from), tree.join(to))?;
        }
        for path in self.delete {
            std::fs::remove_file(tree.join(path))?;
        }
        for (path, text) in self.put {
            let path = tree.join(path);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(path, text)?;
        }
        Ok(())
    }

    /// What it does to the tree before it, for people.
    pub fn summary(&self) -> String {
        let s = |count: usize| if count == 1 { "" } else { "s" };
        let mut parts = vec![format!("{} files written", self.put.len())];
        if !self.rename.is_empty() {
            parts.push(format!("{} renamed", self.rename.len()));
        }
        if !self.delete.is_empty() {
            parts.push(format!("{} deleted", self.delete.len()));
        }
        parts.push(format!("{} SQL script{}", self.scripts.len(), s(self.scripts.len())));
        parts.push(format!("{} note{} for the players", self.changes.len(), s(self.changes.len())));
        parts.join(", ")
    }
}
