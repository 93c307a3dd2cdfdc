//! The main job over ssh: real sshd, nginx, php-fpm and MariaDB, with players in the game.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

mod common;

use std::fs;
use std::process::Command;

use common::{Account, ENTRACTE, Site, assert_same_data, said};
use entracte_testbed::players::{self, Load, Players};
use entracte_testbed::sshd::Sshd;
use entracte_testbed::taverne::Options;

/// From here on, production is another machine.
fn behind_ssh(site: &Site) -> Sshd {
    let sshd = Sshd::start(&site.taverne.dir().join("ssh"), &[]);
    let path = site.dev.join("entracte.toml");
    let text = fs::read_to_string(&path).unwrap();
    let way = format!(
        "[target.production]\nssh = \"game\"\nssh_options = {:?}\nremote_binary = {ENTRACTE:?}\n",
        sshd.options(sshd.port)
    );
    fs::write(&path, text.replacen("[target.production]\n", &way, 1)).unwrap();
    site.ok(&["bootstrap"]);
    sshd
}

#[test]
fn a_game_on_another_machine_is_released_and_a_broken_version_taken_back() {
    let site = Site::start(&Options::default(), Account::Administrator);
    let sshd = behind_ssh(&site);
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

/// Runs SQL as root in a database of the site's server.
fn sql(site: &Site, database: &str, sql: &str) {
    let socket = format!("--socket={}", site.taverne.database.socket.display());
    let flags = ["--no-defaults", "--default-character-set=utf8mb4", "--user=root"];
    let ran = Command::new("mariadb").args(flags).args([&socket, database, "-e", sql]).output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{sql}: {}", said(&ran));
}

/// A development database as it is for 1.1: production's tables, and the script run.
fn develop(site: &Site) {
    let name = "taverne_dev";
    site.taverne.mariadb.create_database(name, name, "x");
    let file = site.dev.join("../development.sql");
    fs::write(&file, site.dump()).unwrap();
    for script in [file, site.dev.join("SQL/010-market.sql")] {
        sql(site, name, &format!("source {}", script.display()));
    }
    let password = site.dev.join("../development.password");
    fs::write(&password, "").unwrap();
    let path = site.dev.join("entracte.toml");
    let development = format!(
        "\n[development]\nseed_tables = [\"items\"]\n\n[development.database]\n\
         engine = \"mariadb\"\nsocket = {:?}\nuser = \"root\"\npassword_file = {password:?}\n\
         database = {name:?}\n",
        site.taverne.database.socket
    );
    fs::write(&path, fs::read_to_string(&path).unwrap() + &development).unwrap();
}

#[test]
fn forgotten_sql_of_a_server_is_found_and_proposed_from_the_other_machine() {
    let site = Site::start(&Options::default(), Account::Administrator);
    let _sshd = behind_ssh(&site);
    site.check_out("1.1");
    develop(&site);
    let nothing = site.ok(&["diff"]);
    assert!(nothing.contains("Nothing is forgotten"), "{nothing}");
    sql(
        &site,
        "taverne_dev",
        "ALTER TABLE players ADD COLUMN title VARCHAR(40) DEFAULT 'a, b', ADD KEY by_gold (gold)",
    );
    let found = site.exits(3, &["diff"]);
    assert!(found.contains("table players") && found.contains("by_gold"), "{found}");
    let status = site.exits(3, &["status"]);
    assert!(status.contains("by_gold") && status.contains("diff --sql"), "{status}");
    let proposed = site.run(&["diff", "--sql"]);
    assert_eq!(proposed.status.code(), Some(0), "{}", said(&proposed));
    fs::write(site.dev.join("SQL/011-forgotten.sql"), &proposed.stdout).unwrap();
    let nothing = site.ok(&["diff"]);
    assert!(nothing.contains("Nothing is forgotten"), "{nothing}");
}
