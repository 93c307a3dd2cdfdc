//! The main job over ssh: real sshd, nginx, php-fpm and MariaDB, with players in the game.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

mod common;

use common::{Account, ENTRACTE, Site, assert_same_data};
use entracte_testbed::players::{self, Load, Players};
use entracte_testbed::sshd::Sshd;
use entracte_testbed::taverne::Options;

#[test]
fn a_game_on_another_machine_is_released_and_a_broken_version_taken_back() {
    let site = Site::start(&Options::default(), Account::Administrator);
    let sshd = Sshd::start(&site.taverne.dir().join("ssh"), &[]);
    let path = site.dev.join("entracte.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let way = format!(
        "[target.production]\nssh = \"game\"\nssh_options = {:?}\nremote_binary = {ENTRACTE:?}\n",
        sshd.options(sshd.port)
    );
    std::fs::write(&path, text.replacen("[target.production]\n", &way, 1)).unwrap();
    site.ok(&["bootstrap"]);
    site.ok(&["doctor"]);
    let players = Players::start(&site.url, &Load::new(20, 20.0)).unwrap();

    site.check_out("1.1");
    let before = sshd.logins();
    let released = site.ok(&["deploy", "1.1", "--yes"]);
    assert!(released.contains("1.1.0 is live"), "{released}");
    assert_eq!(sshd.logins() - before, 1, "one connection: {}", sshd.log());
    site.assert_tree("1.1");
    let expected = site.migrated(&site.dump_at("closed", "r1"), "1.1");
    assert_same_data("r1, released", &expected, &site.dump_at("opened", "r1"));
    site.ok(&["verify"]);

    site.check_out("1.2");
    // This version broke so early that nobody had written it down.
    site.ok(&["pack", "1.2", "--allow", "unmentioned"]);
    let taken_back = site.exits(4, &["deploy", "1.2", "--yes"]);
    assert!(taken_back.contains("production is 1.1.0, to the byte"), "{taken_back}");
    site.assert_tree("1.1");
    assert_same_data(
        "r2, taken back",
        &site.dump_at("closed", "r2"),
        &site.dump_at("opened", "r2"),
    );

    let played = players.stop();
    let mut database = site.taverne.connection();
    assert_eq!(players::missing(&mut database, &played.oks), Vec::<String>::new());
    assert_eq!(players::wrong_purses(&mut database), 0);
}
