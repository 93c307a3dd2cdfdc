//! The game, its server and its players, before anything is released onto them.

#![allow(clippy::unwrap_used, reason = "the helpers of tests may panic as the tests do")]

use std::process::Command;

use entracte_testbed::http::Client;
use entracte_testbed::players::{self, Load, Outcome, Players};
use entracte_testbed::process::wait_until;
use entracte_testbed::taverne::{Options, SEED_PASSWORD, Taverne};
use mysql::prelude::Queryable;

/// The smallest PNG: one pixel.
const PIXEL: &[u8] =
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\
\0\0\0\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\0\x05\0\x01\xff\x89\x99=\x1d\0\0\0\0IEND\xaeB`\x82";

fn small() -> Options {
    Options { players: 300, ..Options::default() }
}

fn sh(command: &str) {
    let done = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

fn text(browser: &mut Client, path: &str) -> String {
    let answer = browser.get(path).unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.text()
}

fn ok(answer: std::io::Result<entracte_testbed::http::Answer>, id: &str) {
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.text()), (200, format!("ok {id}\n")));
}

fn number(game: &Taverne, sql: &str) -> i64 {
    game.connection().query_first(sql).unwrap().unwrap()
}

#[test]
fn a_player_registers_acts_uploads_and_sees_the_ranking() {
    let game = Taverne::start(&small());
    let mut browser = game.browser();
    assert_eq!(browser.get("/").unwrap().header("location"), Some("/login.php"));
    ok(
        browser.post(
            "/register.php",
            "test-register",
            &[("name", "Éloïse la Rousse"), ("password", "chopine")],
        ),
        "test-register",
    );
    let page = text(&mut browser, "/");
    assert!(page.contains("Éloïse la Rousse") && page.contains("Taverne 1.0.0"), "{page}");

    ok(browser.post("/action.php", "test-work-1", &[("act", "work")]), "test-work-1");
    ok(browser.post("/action.php", "test-work-1", &[("act", "work")]), "test-work-1");
    assert_eq!(number(&game, "SELECT COUNT(*) FROM ledger WHERE request_id = 'test-work-1'"), 1);
    assert_eq!(number(&game, "SELECT COUNT(*) FROM wrong_purses"), 0);
    let refused = browser
        .post("/action.php", "test-buy-99", &[("act", "buy"), ("item", "7"), ("qty", "99")])
        .unwrap();
    assert_eq!(refused.text(), "refused test-buy-99 too_poor\n");

    ok(browser.upload("/avatar.php", "test-avatar", "avatar", ("moi.png", PIXEL)), "test-avatar");
    let profile = text(&mut browser, "/?p=profile");
    let at = profile.find("/uploads/avatars/").expect("the profile shows the picture");
    let picture = profile[at..].split('"').next().unwrap();
    assert_eq!(browser.get(picture).unwrap().body, PIXEL);

    assert!(text(&mut browser, "/?p=ranking").contains("Joueur"));
    for page in ["market", "inventory", "fight", "messages", "chat", "rules", "news"] {
        assert!(!text(&mut browser, &format!("/?p={page}")).contains("error"), "{page}");
    }
    assert!(text(&mut browser, "/api/?do=me").contains("\"gold\":1"));
    let mut old = game.browser();
    ok(
        old.post("/login.php", "test-login", &[("name", "Joueur 7"), ("password", SEED_PASSWORD)]),
        "test-login",
    );
    for hidden in [
        "/config.php",
        "/inc/db.php",
        "/cron/tick.php",
        "/.htaccess",
        "/tools/check-names.sh",
        "/cache/tick.lock",
    ] {
        assert_eq!(old.get(hidden).unwrap().status, 404, "{hidden}");
    }
}

#[test]
fn a_form_of_a_browser_needs_its_token_and_ends_on_a_page() {
    let game = Taverne::start(&small());
    let mut browser = game.browser();
    ok(
        browser.post(
            "/register.php",
            "form-register",
            &[("name", "Basile"), ("password", "chopine")],
        ),
        "form-register",
    );
    let page = text(&mut browser, "/");
    let field = |name: &str| {
        let from = page.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap();
        from.split('"').next().unwrap().to_owned()
    };
    let kind = "application/x-www-form-urlencoded";
    let form = format!("act=work&csrf={}&request_id={}", field("csrf"), field("request_id"));
    let answer = browser.request("POST", "/action.php", &[], kind, form.as_bytes()).unwrap();
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")));
    assert_eq!(
        number(
            &game,
            "SELECT COUNT(*) FROM ledger WHERE kind = 'work' AND request_id LIKE 'web-%'"
        ),
        1
    );
    browser
        .request("POST", "/action.php", &[], kind, b"act=work&csrf=wrong&request_id=forged-00001")
        .unwrap();
    assert_eq!(number(&game, "SELECT COUNT(*) FROM ledger WHERE request_id = 'forged-00001'"), 0);
}

#[test]
fn the_cron_ticks_and_can_be_stopped_and_started() {
    let game = Taverne::start(&Options { counters: true, ..small() });
    let ticks = || number(&game, "SELECT value + 0 FROM settings WHERE name = 'ticks'");
    assert!(wait_until(20_000, || ticks() >= 2), "ticked {} times", ticks());
    sh(&game.workers_stop);
    let stopped = ticks();
    assert!(!game.cron.runs());
    sh(&game.workers_start);
    assert!(wait_until(20_000, || ticks() > stopped));
    text(&mut game.browser(), "/?p=ranking");
    assert!(number(&game, "SELECT SUM(hits) FROM page_hits") > 0, "the old counters count");
}

#[test]
fn new_code_is_seen_after_a_reload_only() {
    let game = Taverne::start(&Options { cron: false, ..small() });
    let code =
        |browser: &mut Client| text(browser, "/version.php").lines().nth(1).unwrap().to_owned();
    let mut browser = game.browser();
    // Each worker has compiled the page before the file changes.
    for _ in 0..50 {
        assert_eq!(code(&mut browser), "code 1.0.0");
    }
    let file = game.docroot.join("inc/version.php");
    std::fs::write(&file, "<?php\nconst VERSION = '9.9.9';\n").unwrap();
    assert_eq!(code(&mut browser), "code 1.0.0");
    sh(&game.reload_command);
    assert!(wait_until(20_000, || code(&mut browser) == "code 9.9.9"));
}

#[test]
fn fifty_requests_a_second_are_all_answered_and_all_kept() {
    let game = Taverne::start(&small());
    let players = Players::start(&game.url, &Load::new(25, 50.0)).unwrap();
    let enough = |players: &Players| players.so_far().ok + players.so_far().refused >= 250;
    assert!(wait_until(60_000, || enough(&players)), "{:?}", players.so_far());
    let played = players.stop();
    let odd = played.with(|outcome| !outcome.is_played());
    assert!(odd.is_empty(), "{odd:?}");
    assert_eq!(played.closed_ms, None);
    assert!(played.oks.len() > 100, "{} actions", played.oks.len());
    let mut db = game.connection();
    assert_eq!(players::missing(&mut db, &played.oks), Vec::<String>::new());
    assert_eq!(players::missing(&mut db, &["never-sent".into()]), ["never-sent"]);
    assert_eq!(players::wrong_purses(&mut db), 0);
    let refused = played.with(|outcome| *outcome == Outcome::Refused);
    let ids: Vec<String> = refused.iter().map(|record| record.id.clone()).collect();
    assert_eq!(players::missing(&mut db, &ids).len(), ids.len(), "what was refused left a trace");
}

#[test]
fn players_see_the_maintenance_page_of_an_admin_and_come_back() {
    let game = Taverne::start(&small());
    let players = Players::start(&game.url, &Load::new(10, 50.0)).unwrap();
    assert!(wait_until(30_000, || players.so_far().ok >= 20));
    std::fs::write(game.nginx.maintenance_flag(), "").unwrap();
    assert!(wait_until(30_000, || players.so_far().page >= 10), "{:?}", players.so_far());
    let (name, pass) = entracte_testbed::nginx::ADMIN_HEADER;
    assert!(text(&mut game.browser().always(name, pass), "/version.php").contains("code 1.0.0"));
    std::fs::remove_file(game.nginx.maintenance_flag()).unwrap();
    let before = players.so_far().ok;
    assert!(wait_until(30_000, || players.so_far().ok > before + 20));
    let played = players.stop();
    assert!(played.lost().is_empty(), "{:?}", played.lost());
    assert!(played.closed_ms.unwrap() > 0 && played.longest_gap_ms > 0);
    assert!(players::missing(&mut game.connection(), &played.oks).is_empty());
}

/// What the settings of the database say.
fn database_version(game: &Taverne) -> String {
    game.connection()
        .query_first("SELECT value FROM settings WHERE name = 'version'")
        .unwrap()
        .unwrap()
}

/// Puts the tree of a version in the place of the live one, roughly.
fn put_tree(game: &Taverne, version: &str) {
    let from = game.tree(version).join("source");
    sh(&format!("cp -R '{}/.' '{}/'", from.display(), game.docroot.display()));
    sh(&game.reload_command);
}

fn run_scripts(game: &Taverne, version: &str) -> std::process::Output {
    let folder = game.tree(version).join("SQL");
    let scripts: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(scripts.len(), 1, "{scripts:?}");
    game.run_sql(&scripts[0])
}

#[test]
fn each_version_does_what_is_said_of_it() {
    let game = Taverne::start(&Options { cron: false, ..small() });
    let mut browser = game.browser();
    let page = |browser: &mut Client, path: &str| text(browser, path);

    // The code of 1.1 on the database of 1.0: broken, with status 200.
    put_tree(&game, "1.1");
    assert!(wait_until(20_000, || page(&mut browser, "/version.php")
        .contains("code 1.1.0\ndatabase 1.0.0")));
    assert!(page(&mut browser, "/?p=ranking").contains("Undefined array key"));
    ok(
        browser.post(
            "/register.php",
            "version-register",
            &[("name", "Cunégonde"), ("password", "chopine")],
        ),
        "version-register",
    );
    assert!(page(&mut browser, "/?p=market").contains("Fatal error"));

    let done = run_scripts(&game, "1.1");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(database_version(&game), "1.1.0");
    assert_eq!(number(&game, "SELECT COUNT(*) FROM players WHERE reputation <> xp DIV 50"), 0);
    std::fs::remove_dir_all(game.docroot.join("cache")).unwrap();
    assert!(page(&mut browser, "/?p=market").contains("5 %"));
    ok(
        browser.post(
            "/action.php",
            "version-found",
            &[("act", "found"), ("name", "Les Chopes d'Or")],
        ),
        "version-found",
    );
    assert!(page(&mut browser, "/?p=guild").contains("Chopes"));
    let offer = number(&game, "SELECT MIN(id) FROM market_open WHERE price <= 50");
    ok(
        browser.post(
            "/action.php",
            "version-take",
            &[("act", "take"), ("offer", &offer.to_string())],
        ),
        "version-take",
    );
    assert_eq!(number(&game, "SELECT COUNT(*) FROM players WHERE reputation = xp DIV 50 + 1"), 1);
    assert_eq!(number(&game, "SELECT COUNT(*) FROM wrong_purses"), 0);

    // 1.3 first: 1.2 would leave the database torn.
    put_tree(&game, "1.3");
    let done = run_scripts(&game, "1.3");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(wait_until(20_000, || page(&mut browser, "/version.php")
        .contains("code 1.3.0\ndatabase 1.3.0")));
    assert!(page(&mut browser, "/?p=ranking").contains("Fatal error"));
    assert!(page(&mut browser, "/api/?do=status").contains("\"version\":\"1.2.0\""));

    let done = run_scripts(&game, "1.2");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("1054") && said.contains("rarety"), "{said}");
    assert_eq!(database_version(&game), "1.2.0", "the version was set before the failure");
    assert_eq!(number(&game, "SELECT MIN(rarity) FROM items"), 1);
    assert!(
        players::wrong_purses(&mut game.connection()) > 0,
        "the present of 25 gold is not in the ledger"
    );
    assert_eq!(
        number(
            &game,
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_name = 'item_stories' AND table_schema = DATABASE()"
        ),
        0
    );
}

#[test]
fn players_who_meet_a_broken_version_say_so() {
    let game = Taverne::start(&Options { cron: false, ..small() });
    let players = Players::start(&game.url, &Load::new(10, 50.0)).unwrap();
    put_tree(&game, "1.1");
    assert!(wait_until(60_000, || players.so_far().broken >= 5), "{:?}", players.so_far());
    let played = players.stop();
    assert!(played.lost().iter().any(|record| record.status == 200), "{:?}", played.lost());
    assert!(players::missing(&mut game.connection(), &played.oks).is_empty());
}
