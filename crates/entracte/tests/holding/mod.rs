//! A production that releases without closing, and versions without SQL for it.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

use std::fs;

use entracte_testbed::players::Load;
use entracte_testbed::taverne::Options;

use crate::common::{Account, Site};

/// 200 requests a second by players who come from everywhere.
pub fn load() -> Load {
    Load { apart: true, ..Load::new(100, 200.0) }
}

/// A Taverne whose gate believes its players' forwarded addresses, as behind a front of one's own.
pub fn start(workers_stop: &str) -> Site {
    let options = Options { players: 300, ..Options::default() };
    let mut site = Site::start_undumped(&options, Account::Ordinary);
    site.kill_up();
    let path = site.dev.join("entracte.toml");
    let mut text = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("player_left = ", "trusted_proxies = [\"127.0.0.1\"]\nplayer_left = "),
        ("workers_stop = [", &format!("workers_stop = [{workers_stop:?}, ")),
        ("notice = ", "hold = \"15s\"\nnotice = "),
    ] {
        assert!(text.contains(from), "{from:?} is not in the configuration");
        text = text.replacen(from, to, 1);
    }
    fs::write(&path, text).unwrap();
    site.up();
    site
}

/// A version that differs from 1.0 in its code only.
pub fn develop(site: &Site, version: &str) {
    site.check_out("1.0");
    fs::remove_dir_all(site.dev.join("SQL")).unwrap();
    let path = site.dev.join("source/inc/version.php");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("'1.0.0'"), "{text}");
    fs::write(&path, text.replace("'1.0.0'", &format!("'{version}'"))).unwrap();
    let note = "+++\nkind = \"fixed\"\naudience = \"players\"\n+++\n\n## en\n\nThe beer is colder.\n\
                \n## fr\n\nLa bière est plus fraîche.\n";
    fs::create_dir_all(site.dev.join("changes")).unwrap();
    fs::write(site.dev.join("changes/beer.md"), note).unwrap();
    site.git(&["add", "-A"]);
    site.git(&["commit", "-qm", version]);
    site.ok(&["pack", version]);
}
