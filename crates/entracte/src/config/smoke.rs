//! Smoke tests as the file has them: one table of keys, judged before anything is run.

use entracte_release::smoke::{Check, CommandCheck, HttpCheck, SqlCheck};
use serde::{Deserialize, Deserializer};

/// A smoke test.
#[derive(Debug, Clone)]
pub struct Smoke(pub Check);

/// All keys that a smoke test may have; which ones fit together is said by [`Raw::check`].
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    name: Option<String>,
    http: Option<String>,
    status: Option<u16>,
    contains: Option<String>,
    lacks: Option<String>,
    json: Option<String>,
    equals: Option<serde_json::Value>,
    form: Option<String>,
    within_ms: Option<u64>,
    sql: Option<String>,
    command: Option<String>,
}

/// Methods that a test may use.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

impl<'de> Deserialize<'de> for Smoke {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Raw::deserialize(deserializer)?.check().map(Smoke).map_err(serde::de::Error::custom)
    }
}

impl Raw {
    fn check(self) -> Result<Check, String> {
        match (&self.http, &self.sql, &self.command) {
            (Some(_), None, None) => self.http(),
            (None, Some(_), None) => self.sql(),
            (None, None, Some(_)) => self.command(),
            (None, None, None) => {
                Err("a smoke test needs `http`, `sql` or `command`, and has none of them".into())
            }
            _ => Err("a smoke test has one of `http`, `sql` and `command`, not several".into()),
        }
    }

    fn http(self) -> Result<Check, String> {
        let http = self.http.unwrap_or_default();
        request(&http)?;
        if let Some(pointer) = &self.json
            && !(pointer.is_empty() || pointer.starts_with('/'))
        {
            return Err(format!("`json` is a place such as /players/0/name, found {pointer:?}"));
        }
        if self.equals.is_some() && self.json.is_none() {
            return Err("`equals` of a page needs `json`, the place that it speaks of".into());
        }
        if self.form.is_some() && http.starts_with("GET ") {
            return Err(format!("`form` is the body of a POST, and {http:?} has none"));
        }
        Ok(Check::Http(HttpCheck {
            name: self.name,
            http,
            status: self.status.unwrap_or(200),
            contains: self.contains,
            lacks: self.lacks,
            json: self.json,
            equals: self.equals,
            form: self.form,
            within_ms: self.within_ms,
        }))
    }

    fn sql(self) -> Result<Check, String> {
        self.only(&["name", "sql", "equals"])?;
        Ok(Check::Sql(SqlCheck {
            name: self.name,
            sql: self.sql.unwrap_or_default(),
            equals: self.equals,
        }))
    }

    fn command(self) -> Result<Check, String> {
        self.only(&["name", "command"])?;
        Ok(Check::Command(CommandCheck {
            name: self.name,
            command: self.command.unwrap_or_default(),
        }))
    }

    /// Refuses the keys that belong to another kind of test.
    fn only(&self, allowed: &[&str]) -> Result<(), String> {
        let given = [
            ("status", self.status.is_some()),
            ("contains", self.contains.is_some()),
            ("lacks", self.lacks.is_some()),
            ("json", self.json.is_some()),
            ("form", self.form.is_some()),
            ("within_ms", self.within_ms.is_some()),
            ("equals", self.equals.is_some()),
        ];
        let wrong = given.iter().find(|(key, given)| *given && !allowed.contains(key));
        match wrong {
            Some((key, _)) => Err(format!(
                "`{key}` does not belong to this kind of smoke test; it takes: {}",
                allowed.join(", ")
            )),
            None => Ok(()),
        }
    }
}

/// A method and a path.
fn request(text: &str) -> Result<(), String> {
    let bad = || format!("expected a method and a path such as `GET /`, found {text:?}");
    let (method, path) = text.split_once(' ').ok_or_else(bad)?;
    let plain = path.starts_with('/') && !path.contains(|c: char| c.is_whitespace());
    if METHODS.contains(&method) && plain { Ok(()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Check, String> {
        toml::from_str::<Smoke>(text).map(|smoke| smoke.0).map_err(|error| error.message().into())
    }

    #[test]
    fn each_kind_is_read() {
        assert!(matches!(read("http = 'GET /'"), Ok(Check::Http(check)) if check.status == 200));
        assert!(matches!(read("sql = 'SELECT 1'\nequals = 1"), Ok(Check::Sql(_))));
        assert!(matches!(read("command = 'true'\nname = 'x'"), Ok(Check::Command(_))));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        let says = |text: &str, wanted: &str| {
            let error = read(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        };
        for http in ["/", "GET", "GET login.php", "get /", "GET  /", "GET /a b", "http://x/"] {
            says(&format!("http = {http:?}"), "such as `GET /`");
        }
        says("name = 'x'", "`http`, `sql` or `command`");
        says("http = 'GET /'\nsql = 'SELECT 1'", "not several");
        says("sql = 'SELECT 1'\ncontains = 'x'", "it takes: name, sql, equals");
        says("command = 'x'\nequals = 1", "it takes: name, command");
        says("http = 'GET /'\nequals = 1", "needs `json`");
        says("http = 'GET /'\nform = 'a=b'", "POST");
        says("http = 'GET /'\njson = 'a'", "/players/0/name");
    }
}
