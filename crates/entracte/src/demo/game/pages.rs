//! What the game answers: pages from templates, actions, and what programs ask.

use entracte_model::html::escape;
use serde_json::json;

use super::book::{Book, Player, token};
use super::rules::{Page, Rules};
use super::{Game, GameError, Reply, Request, SESSION_COOKIE};

/// The longest name of a player, in characters.
const NAME_CHARS_MAX: usize = 24;
/// The longest id of a request, in bytes.
const ID_BYTES_MAX: usize = 64;

pub(super) fn answer(game: &Game, request: &Request) -> Result<Reply, GameError> {
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/login") => login(game, request),
        ("POST", "/act") => act(game, request),
        ("POST", "/leave") => leave(game, request),
        ("GET", "/api/status") => status(game),
        ("GET", path) => match path.strip_prefix("/static/") {
            Some(file) => Ok(file_of(game, file)),
            None => page(game, request),
        },
        _ => Ok(Reply::word(405, "not in this house")),
    }
}

fn login(game: &Game, request: &Request) -> Result<Reply, GameError> {
    let name = request.form.get("name").map(|name| name.trim()).unwrap_or_default();
    if name.is_empty()
        || name.chars().count() > NAME_CHARS_MAX
        || name.chars().any(char::is_control)
    {
        return Ok(Reply::word(400, "a name of 1 to 24 letters, please"));
    }
    let session = Book::open(&game.database)?.enter(name)?;
    let mut reply = Reply::see("/play");
    let cookie = format!("{SESSION_COOKIE}={session}; Path=/; HttpOnly; SameSite=Lax");
    reply.headers.push(("set-cookie", cookie));
    Ok(reply)
}

fn leave(game: &Game, request: &Request) -> Result<Reply, GameError> {
    if let Some(session) = &request.session {
        Book::open(&game.database)?.leave(session)?;
    }
    let mut reply = Reply::see("/");
    reply.headers.push(("set-cookie", format!("{SESSION_COOKIE}=; Path=/; Max-Age=0")));
    Ok(reply)
}

/// Done and durable before it is answered.
fn act(game: &Game, request: &Request) -> Result<Reply, GameError> {
    let mut book = Book::open(&game.database)?;
    let Some(player) = who(&book, request)? else { return Ok(Reply::word(403, "come in first")) };
    let field = |name: &str| request.form.get(name).map(String::as_str).unwrap_or_default();
    let (id, kind) = (field("id"), field("kind"));
    let rules = Rules::read(game)?;
    let Some(action) = rules.actions.get(kind) else {
        return Ok(Reply::word(400, format!("nobody here knows how to {kind:?}")));
    };
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Ok(Reply::word(400, "an id of 1 to 64 bytes, please"));
    }
    book.act(id, player.id, kind, action.gold(id))?;
    Ok(if request.wants_page { Reply::see("/play") } else { Reply::word(200, format!("ok {id}")) })
}

/// The version of the code and that of the schema, for tests and for the curious.
fn status(game: &Game) -> Result<Reply, GameError> {
    let book = Book::open(&game.database)?;
    let one = |sql: &str| -> Result<i64, GameError> {
        let rows = book.list(sql, None)?;
        Ok(rows.first().and_then(|row| row.first()?.parse().ok()).unwrap_or(0))
    };
    let value = json!({
        "version": game.read("version.txt")?.trim(),
        "schema": one("SELECT value FROM settings WHERE name = 'schema'")?,
        "players": one("SELECT count(*) FROM players")?,
    });
    let mut reply = Reply::word(200, value.to_string());
    reply.kind = "application/json";
    Ok(reply)
}

fn file_of(game: &Game, file: &str) -> Reply {
    let kind = match file.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let none = || Reply::word(404, "there is no such thing here");
    if file.starts_with('.') || !file.chars().all(plain) {
        return none();
    }
    match std::fs::read(game.root.join("static").join(file)) {
        Ok(body) => Reply { status: 200, kind, headers: vec![], body },
        Err(_) => none(),
    }
}

fn who(book: &Book, request: &Request) -> Result<Option<Player>, GameError> {
    request.session.as_deref().map_or(Ok(None), |session| book.player(session))
}

fn page(game: &Game, request: &Request) -> Result<Reply, GameError> {
    let rules = Rules::read(game)?;
    let Some(page) = rules.pages.iter().find(|page| page.path == request.path) else {
        return Ok(Reply::word(404, "there is no such room in this house"));
    };
    let book = Book::open(&game.database)?;
    let player = who(&book, request)?;
    if page.players_only && player.is_none() {
        return Ok(Reply::see("/"));
    }
    let version = game.read("version.txt")?;
    let view = View { rules: &rules, book: &book, page, player, version: version.trim() };
    let body = view.fill(&game.read(&format!("templates/{}.html", page.template))?, "")?;
    let html = view.fill(&game.read("templates/layout.html")?, &body)?;
    Ok(Reply::page(200, html))
}

/// What a template can show.
struct View<'a> {
    rules: &'a Rules,
    book: &'a Book,
    page: &'a Page,
    player: Option<Player>,
    version: &'a str,
}

impl View<'_> {
    /// Replaces each `{{name}}`, in one pass: what is filled in is not searched again.
    fn fill(&self, template: &str, body: &str) -> Result<String, GameError> {
        let mut out = String::with_capacity(template.len() * 2);
        let mut rest = template;
        while let Some((before, from)) = rest.split_once("{{") {
            out.push_str(before);
            let (name, after) = from.split_once("}}").unwrap_or((from, ""));
            out.push_str(&self.value(name, body)?);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn value(&self, name: &str, body: &str) -> Result<String, GameError> {
        let player = self.player.as_ref();
        Ok(match name.split_once(' ').unwrap_or((name, "")) {
            ("body", "") => body.to_owned(),
            ("title", "") => escape(&self.page.title),
            ("version", "") => escape(self.version),
            ("player", "") => escape(player.map_or("a stranger", |player| &player.name)),
            ("gold", "") => player.map_or(0, |player| player.gold).to_string(),
            ("menu", "") => self.menu(),
            ("actions", "") => self.actions()?,
            ("list", list) => self.list(list)?,
            ("value", list) => {
                let rows = self.rows(list)?;
                escape(rows.first().and_then(|row| row.first()).map_or("nothing", String::as_str))
            }
            _ => return Err(GameError::Unknown(name.to_owned())),
        })
    }

    fn rows(&self, list: &str) -> Result<Vec<Vec<String>>, GameError> {
        let sql = self
            .rules
            .lists
            .get(list)
            .ok_or_else(|| GameError::Unknown(format!("the list {list}")))?;
        self.book.list(sql, self.player.as_ref().map(|player| player.id))
    }

    fn list(&self, list: &str) -> Result<String, GameError> {
        let rows = self.rows(list)?;
        let items = rows.iter().map(|row| format!("<li>{}</li>", escape(&row.join(", "))));
        Ok(format!("<ol>{}</ol>", items.collect::<String>()))
    }

    fn menu(&self) -> String {
        let open = |page: &&Page| !page.players_only || self.player.is_some();
        let link =
            |page: &Page| format!("<a href=\"{}\">{}</a>", escape(&page.path), escape(&page.title));
        self.rules.pages.iter().filter(open).map(link).collect()
    }

    fn actions(&self) -> Result<String, GameError> {
        let mut out = String::new();
        for (kind, action) in &self.rules.actions {
            out.push_str(&format!(
                "<form method=\"post\" action=\"/act\"><input type=\"hidden\" name=\"id\" value=\"{}\">\
                 <button name=\"kind\" value=\"{}\">{}</button></form>",
                token()?,
                escape(kind),
                escape(&action.label)
            ));
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::seed;
    use super::*;
    use crate::demo::versions::{V1_0, V1_1, V1_2};

    fn game() -> (tempfile::TempDir, Game) {
        let dir = tempfile::tempdir().unwrap();
        let game = Game { root: dir.path().join("tree"), database: dir.path().join("inn.sqlite") };
        std::fs::create_dir(&game.root).unwrap();
        V1_0.put_into(&game.root).unwrap();
        seed(&game.database, V1_0.scripts[0].1, 50).unwrap();
        (dir, game)
    }

    fn ask(game: &Game, method: &str, path: &str, session: &str, form: &[(&str, &str)]) -> Reply {
        game.answer(&Request {
            method: method.into(),
            path: path.into(),
            session: Some(session.to_owned()),
            form: form.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            wants_page: false,
        })
    }

    fn text(reply: &Reply) -> String {
        String::from_utf8(reply.body.clone()).unwrap()
    }

    fn enter(game: &Game, name: &str) -> String {
        let reply = ask(game, "POST", "/login", "", &[("name", name)]);
        let (_, cookie) = reply.headers.iter().find(|(name, _)| *name == "set-cookie").unwrap();
        cookie.split(';').next().unwrap().split_once('=').unwrap().1.to_owned()
    }

    fn run(game: &Game, script: &str) {
        rusqlite::Connection::open(&game.database).unwrap().execute_batch(script).unwrap();
    }

    #[test]
    fn a_name_is_shown_and_never_becomes_markup() {
        let (_dir, game) = game();
        let session = enter(&game, "<b>Ada</b>");
        let page = text(&ask(&game, "GET", "/play", &session, &[]));
        assert!(page.contains("&lt;b&gt;Ada") && !page.contains("<b>Ada"), "{page}");
        assert_eq!(ask(&game, "GET", "/play", "nobody", &[]).status, 303);
    }

    #[test]
    fn an_action_is_answered_with_its_id_once_it_is_in_the_ledger() {
        let (_dir, game) = game();
        let session = enter(&game, "Ada");
        let acted = ask(&game, "POST", "/act", &session, &[("id", "r1"), ("kind", "work")]);
        assert_eq!((acted.status, text(&acted).as_str()), (200, "ok r1"));
        let rows = Book::open(&game.database).unwrap().list("SELECT request_id FROM ledger", None);
        assert_eq!(rows.unwrap(), [["r1"]]);
        assert_eq!(
            ask(&game, "POST", "/act", &session, &[("id", "r2"), ("kind", "fly")]).status,
            400
        );
    }

    #[test]
    fn files_outside_the_static_folder_are_not_there() {
        let (_dir, game) = game();
        assert_eq!(ask(&game, "GET", "/static/style.css", "", &[]).status, 200);
        for path in ["/static/../version.txt", "/static/..", "/static/", "/nowhere"] {
            assert_eq!(ask(&game, "GET", path, "", &[]).status, 404, "{path}");
        }
    }

    #[test]
    fn the_second_version_works_with_its_script_and_only_with_it() {
        let (_dir, game) = game();
        let session = enter(&game, "Ada");
        V1_1.put_into(&game.root).unwrap();
        let page = text(&ask(&game, "GET", "/play", &session, &[]));
        assert!(page.contains("Fatal error"), "{page}");
        run(&game, V1_1.scripts[0].1);
        ask(&game, "POST", "/act", &session, &[("id", "r1"), ("kind", "sing")]);
        let page = text(&ask(&game, "GET", "/play", &session, &[]));
        assert!(page.contains("renown <b>1</b>") && page.contains("/songs"), "{page}");
        assert!(!game.root.join("static/candle.svg").exists());
        assert!(game.root.join("static/lantern.svg").exists());
    }

    #[test]
    fn the_third_version_fails_though_its_script_runs_and_its_status_says_200() {
        let (_dir, game) = game();
        let session = enter(&game, "Ada");
        for version in [&V1_1, &V1_2] {
            version.put_into(&game.root).unwrap();
            run(&game, version.scripts[0].1);
        }
        let page = ask(&game, "GET", "/play", &session, &[]);
        assert_eq!(page.status, 200);
        assert!(
            text(&page).contains("Fatal error") && text(&page).contains("charm"),
            "{}",
            text(&page)
        );
        let status = text(&ask(&game, "GET", "/api/status", "", &[]));
        assert!(
            status.contains("\"version\":\"1.2.0\"") && status.contains("\"schema\":3"),
            "{status}"
        );
    }
}
