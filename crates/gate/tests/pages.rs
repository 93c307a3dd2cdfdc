//! What players read, and the gate's own paths.

mod common;

use std::fs;

use common::{Game, Gate};
use entracte_model::gate::Phase;

fn closed(gate: &Gate) {
    let now = gate.status().server_time;
    gate.set_with(Phase::Closed, |goal| {
        goal.reopens_p50 = Some(now + 180_000);
        goal.reopens_p90 = Some(now + 420_000);
        goal.progress = Some(40);
        goal.message.insert("en".into(), "New <market> & \"more\"".into());
        goal.message.insert("fr".into(), "Nouveau marché".into());
        goal.version = Some("1.1.0".into());
        goal.notes_url = Some("/_entracte/news/".into());
    });
}

#[test]
fn the_closed_page_speaks_the_players_language_and_tells_how_long() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    closed(&gate);
    let page = |language| gate.get("/", &[("Accept", "text/html"), ("Accept-Language", language)]);
    let (en, fr) = (page("en-GB"), page("fr-FR,fr;q=0.9,en;q=0.5"));
    assert_eq!(
        (en.header("content-language"), fr.header("content-language")),
        (Some("en"), Some("fr"))
    );
    let (en_text, fr_text) = (en.text(), fr.text());
    assert!(en_text.contains("<html lang=\"en\">") && fr_text.contains("<html lang=\"fr\">"));
    for part in [
        "We are changing the scenery",
        "Back in about",
        "3 minutes",
        "at most 7 minutes",
        "value=\"40\"",
        "New &lt;market&gt; &amp; &quot;more&quot;",
        "href=\"/_entracte/news/\"",
        "aria-live=\"polite\"",
        "Taverne",
    ] {
        assert!(en_text.contains(part), "{part} is missing in {en_text}");
    }
    for part in
        ["Changement de décor", "De retour dans environ", "7 minutes au plus", "Nouveau marché"]
    {
        assert!(fr_text.contains(part), "{part} is missing");
    }
    assert!(!en_text.contains("<market>"));
    let wait: u64 = en.header("retry-after").unwrap().parse().unwrap();
    assert!((170..=216).contains(&wait), "{wait}");
    // Without scripts the page comes again by itself, at the time that it promises.
    let refresh = format!("<noscript><meta http-equiv=\"refresh\" content=\"{wait}\"></noscript>");
    assert!(en_text.contains(&refresh));
    // Nothing is loaded from anywhere.
    let policy = en.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(!en_text.contains("https://") && !en_text.contains("src="));
}

#[test]
fn programs_get_a_problem_document() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    closed(&gate);
    let reply = gate.ask("POST", "/api/trade", &[("Accept", "application/json")], b"{}");
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    let problem = reply.json();
    assert_eq!((&problem["status"], &problem["phase"]), (&503.into(), &"closed".into()));
    assert_eq!(problem["retry_after_s"].to_string(), reply.header("retry-after").unwrap());
    assert_eq!(problem["message"], "New <market> & \"more\"");
    assert_eq!(problem["progress"], 40);
}

#[test]
fn the_status_is_told_in_every_state_with_a_tag_that_follows_its_content() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    let open = gate.get("/_entracte/v1/status", &[]);
    assert_eq!(open.json()["phase"], "open");
    assert_eq!(open.json()["enter"], true);
    let tag = open.header("etag").unwrap().to_owned();
    let same = gate.get("/_entracte/v1/status", &[("If-None-Match", &tag)]);
    assert_eq!((same.status, same.header("etag")), (304, Some(tag.as_str())));
    closed(&gate);
    let closed =
        gate.get("/_entracte/v1/status", &[("If-None-Match", &tag), ("Accept-Language", "fr")]);
    assert_eq!(closed.status, 200);
    let told = closed.json();
    assert_eq!((&told["phase"], &told["enter"]), (&"closed".into(), &false.into()));
    assert_eq!((&told["message"], &told["version"]), (&"Nouveau marché".into(), &"1.1.0".into()));
    assert!(told["reopens"]["p90"].as_i64() > told["reopens"]["p50"].as_i64());
    assert!(told["server_time"].as_i64().is_some());
    assert!(!closed.text().contains("\"test\""), "the operators' reason is shown to players");
    assert_eq!(closed.header("access-control-allow-origin"), None);
    let pass = gate.client().pass(5).unwrap();
    let tester = gate.get("/_entracte/v1/status", &[(&pass.header.0, &pass.header.1)]);
    assert_eq!(tester.json()["enter"], true);
}

#[test]
fn the_widget_is_small_and_served_while_closed() {
    let game = Game::start();
    let gate = Gate::start(game.address, |_| {});
    gate.set(Phase::Closed);
    let widget = gate.get("/_entracte/widget.js", &[]);
    assert_eq!(widget.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert!(widget.body.as_ref().unwrap().len() <= 6 * 1024);
    let tag = widget.header("etag").unwrap();
    assert_eq!(gate.get("/_entracte/widget.js", &[("If-None-Match", tag)]).status, 304);
    assert_eq!(gate.ask("HEAD", "/_entracte/widget.js", &[], b"").status, 200);
    assert_eq!(gate.ask("POST", "/_entracte/widget.js", &[], b"x").status, 405);
    assert_eq!(gate.get("/_entracte/nothing", &[]).status, 404);
    assert!(game.got().is_empty());
}

#[test]
fn news_are_served_from_their_folder_only_also_while_closed() {
    let game = Game::start();
    let dir = tempfile::tempdir().unwrap();
    let news = dir.path().join("news");
    fs::create_dir_all(news.join("en")).unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    fs::write(news.join("index.html"), "index").unwrap();
    fs::write(news.join("en/index.html"), "english").unwrap();
    fs::write(news.join("en/atom.xml"), "<feed/>").unwrap();
    std::os::unix::fs::symlink("../secret", news.join("link")).unwrap();
    let gate = Gate::start(game.address, |config| config["news_dir"] = news.to_str().into());
    gate.set(Phase::Closed);
    let get = |path: &str| gate.get(&format!("/_entracte/{path}"), &[]);
    assert_eq!(get("news/").text(), "index");
    assert_eq!(get("news/en/").text(), "english");
    assert_eq!(get("news/en").header("location"), Some("/_entracte/news/en/"));
    assert_eq!(get("news").header("location"), Some("/_entracte/news/"));
    let feed = get("news/en/atom.xml");
    assert_eq!(feed.header("content-type"), Some("application/atom+xml"));
    assert_eq!(feed.header("x-content-type-options"), Some("nosniff"));
    let tag = feed.header("etag").unwrap();
    assert_eq!(gate.get("/_entracte/news/en/atom.xml", &[("If-None-Match", tag)]).status, 304);
    fs::write(news.join("en/atom.xml"), "<feed>new</feed>").unwrap();
    assert_eq!(gate.get("/_entracte/news/en/atom.xml", &[("If-None-Match", tag)]).status, 200);
    for bad in [
        "../secret",
        "%2e%2e/secret",
        "link",
        "en/..%2f..%2fsecret",
        ".hidden",
        "en//index.html",
        "%00",
    ] {
        let reply = get(&format!("news/{bad}"));
        assert_eq!(reply.status, 404, "{bad}");
    }
}

#[test]
fn a_page_for_nobody_in_particular_is_in_the_first_configured_language() {
    let game = Game::start();
    let gate =
        Gate::start(game.address, |config| config["languages"] = serde_json::json!(["fr", "en"]));
    gate.set(Phase::Closed);
    let page = gate.get("/", &[("Accept", "text/html"), ("Accept-Language", "de")]);
    assert_eq!(page.header("content-language"), Some("fr"));
    assert!(page.text().contains("Nous rouvrons dès que tout est prêt."));
}

#[test]
fn the_access_log_has_lines_without_queries() {
    let game = Game::start();
    let gate = Gate::start(game.address, |config| {
        let dir = config["state_dir"].as_str().unwrap().to_owned();
        config["access_log"] = format!("{dir}-access.log").into();
    });
    gate.get(
        "/reset?token=hunter2",
        &[("User-Agent", "a \"quoted\" one"), ("Referer", "http://g/?t=hunter2")],
    );
    let path = gate.config["access_log"].as_str().unwrap().to_owned();
    let line = common::until("a line", || {
        fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
    });
    assert!(
        line.contains("\"GET /reset HTTP/1.1\" 200 ") && line.contains("a ?quoted? one"),
        "{line}"
    );
    assert!(!line.contains("hunter2"));
}
