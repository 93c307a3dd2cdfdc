//! Smoke tests: what is asked of the game before players come in, and what must come back.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use entracte_db::Database;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Texts that a page must not show even where its status says 200: many games answer so when they
/// are broken. Taken from what PHP and PDO write when an error reaches the page.
pub const ERROR_TEXTS: &[&str] = &[
    "Fatal error",
    "Parse error",
    "Uncaught ",
    "SQLSTATE[",
    "Stack trace:",
    "Internal Server Error",
];
/// The most of an answer that is read, in bytes.
const BODY_BYTES_MAX: u64 = 4 << 20;
/// The most of an answer that an error shows, in characters.
const SHOWN_CHARS_MAX: usize = 160;

/// One smoke test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Check {
    /// A page, asked for through the gate as a tester.
    Http(HttpCheck),
    /// A question to the database.
    Sql(SqlCheck),
    /// A command that must end with exit code 0.
    Command(CommandCheck),
}

/// A page and what it must answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// What it is called in the log; `GET /path` where nothing is given.
    pub name: Option<String>,
    /// Method and path: `GET /login.php`.
    pub http: String,
    /// The status that is expected.
    #[serde(default = "ok")]
    pub status: u16,
    /// A text that the page must show; `{version}` stands for the new version.
    pub contains: Option<String>,
    /// A text that it must not show, besides [`ERROR_TEXTS`].
    pub lacks: Option<String>,
    /// A place in a JSON answer (RFC 6901), such as `/players/0/name`.
    pub json: Option<String>,
    /// What must stand at that place; anything but null where this is not given.
    pub equals: Option<Value>,
    /// The body of a POST, sent as a form.
    pub form: Option<String>,
    /// The longest it may take, in milliseconds.
    pub within_ms: Option<u64>,
}

/// A reading query and what it must answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlCheck {
    /// What it is called in the log; the query where nothing is given.
    pub name: Option<String>,
    /// The query. Its first column of its first row is looked at.
    pub sql: String,
    /// What that must be; any answer but no row where this is not given.
    pub equals: Option<Value>,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandCheck {
    /// What it is called in the log; the command where nothing is given.
    pub name: Option<String>,
    /// Run by `sh -c` in the root of the game.
    pub command: String,
}

fn ok() -> u16 {
    200
}

/// What a smoke test found instead of what it expected.
#[derive(Debug, thiserror::Error)]
pub enum SmokeError {
    /// The `http` of the check is not a method and a path.
    #[error("expected a method and a path such as `GET /`, found {found:?}")]
    Request {
        /// What stood there.
        found: String,
    },
    /// No answer.
    #[error("no answer from {url}")]
    NoAnswer {
        /// What was asked.
        url: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// Another status.
    #[error("expected status {expected}, found {found}: {body}")]
    Status {
        /// What was expected.
        expected: u16,
        /// What came.
        found: u16,
        /// How the answer begins.
        body: String,
    },
    /// A text is not there.
    #[error("expected the page to show {expected:?}, found: {body}")]
    TextMissing {
        /// What was expected.
        expected: String,
        /// How the answer begins.
        body: String,
    },
    /// A text is there that must not be.
    #[error("the page answers {status} and shows {found:?}: {body}")]
    ErrorText {
        /// The status, often 200.
        status: u16,
        /// What it shows.
        found: String,
        /// The page around it.
        body: String,
    },
    /// Another value, or none, or no JSON at all.
    #[error("expected {expected} at {pointer}, found {found}")]
    Value {
        /// Where.
        pointer: String,
        /// What was expected.
        expected: String,
        /// What was there.
        found: String,
    },
    /// Right, but too late.
    #[error("took {took_ms} ms, at most {limit_ms} ms are expected")]
    Slow {
        /// How long it took.
        took_ms: u64,
        /// How long it may take.
        limit_ms: u64,
    },
    /// The database did not answer.
    #[error("the query failed")]
    Sql(#[from] entracte_db::DbError),
    /// There is no database to ask.
    #[error("the target has no database; add [target.NAME.database] to entracte.toml")]
    NoDatabase,
    /// The command did not succeed.
    #[error("{ending}: {output}")]
    Command {
        /// How it ended.
        ending: String,
        /// The end of what it printed.
        output: String,
    },
}

/// Who tests, and where.
pub struct Tester<'a> {
    /// The address of the gate, or of the game itself in a rehearsal.
    pub base_url: &'a str,
    /// The tester's pass, as a header.
    pub pass: Option<&'a (String, String)>,
    /// Where commands run.
    pub dir: &'a Path,
    /// How long one test may take at most, in milliseconds.
    pub timeout_ms: u64,
    /// The version that `{version}` stands for.
    pub version: &'a str,
}

/// Cookies of one round of tests: a login in the first test holds for those behind it.
#[derive(Debug, Default)]
pub struct Jar(BTreeMap<String, String>);

impl Check {
    /// What it is called in logs.
    pub fn name(&self) -> &str {
        match self {
            Check::Http(check) => check.name.as_deref().unwrap_or(&check.http),
            Check::Sql(check) => check.name.as_deref().unwrap_or(&check.sql),
            Check::Command(check) => check.name.as_deref().unwrap_or(&check.command),
        }
    }

    /// Whether it asks the database.
    pub(crate) fn asks_database(&self) -> bool {
        matches!(self, Check::Sql(_))
    }

    /// Whether it is a page that tells one version from another.
    pub(crate) fn tells_version(&self) -> bool {
        match self {
            Check::Http(check) => {
                let texts =
                    [check.contains.as_deref(), check.equals.as_ref().and_then(Value::as_str)];
                texts.into_iter().flatten().any(|text| text.contains("{version}"))
            }
            Check::Sql(_) | Check::Command(_) => false,
        }
    }
}

impl Tester<'_> {
    /// Runs one smoke test.
    pub fn check(
        &self,
        check: &Check,
        jar: &mut Jar,
        database: Option<&mut (dyn Database + 'static)>,
    ) -> Result<(), SmokeError> {
        match check {
            Check::Http(check) => self.http(check, jar),
            Check::Sql(check) => sql(check, database.ok_or(SmokeError::NoDatabase)?),
            Check::Command(check) => self.command(check),
        }
    }

    fn http(&self, check: &HttpCheck, jar: &mut Jar) -> Result<(), SmokeError> {
        let bad = || SmokeError::Request { found: check.http.clone() };
        let (method, path) = check.http.split_once(' ').ok_or_else(bad)?;
        if !path.starts_with('/') {
            return Err(bad());
        }
        let url = format!("{}{path}", self.base_url.trim_end_matches('/'));
        let begun = Instant::now();
        let (status, body) = self.ask(method, &url, check.form.as_deref(), jar)?;
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        judge(check, status, &body, self.version)?;
        match check.within_ms {
            Some(limit_ms) if took_ms > limit_ms => Err(SmokeError::Slow { took_ms, limit_ms }),
            _ => Ok(()),
        }
    }

    fn ask(
        &self,
        method: &str,
        url: &str,
        form: Option<&str>,
        jar: &mut Jar,
    ) -> Result<(u16, String), SmokeError> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_millis(self.timeout_ms)))
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .into();
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .header("accept", "text/html, application/json;q=0.9, */*;q=0.8")
            .header("user-agent", "entracte-smoke");
        if let Some((name, value)) = self.pass {
            request = request.header(name, value);
        }
        if !jar.0.is_empty() {
            let cookies: Vec<String> =
                jar.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("cookie", cookies.join("; "));
        }
        if form.is_some() {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        let no_answer = |source: ureq::Error| SmokeError::NoAnswer {
            url: url.to_owned(),
            source: Box::new(source),
        };
        let request = request
            .body(form.unwrap_or_default().to_owned())
            .map_err(|error| no_answer(error.into()))?;
        let mut answer = agent.run(request).map_err(no_answer)?;
        for cookie in answer.headers().get_all("set-cookie") {
            jar.keep(cookie.to_str().unwrap_or_default());
        }
        let status = answer.status().as_u16();
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(BODY_BYTES_MAX)
            .read_to_vec()
            .map_err(no_answer)?;
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn command(&self, check: &CommandCheck) -> Result<(), SmokeError> {
        let failed = |ending: String, output: String| SmokeError::Command { ending, output };
        let output = Command::new("timeout")
            .arg(format!("{}.{:03}", self.timeout_ms / 1_000, self.timeout_ms % 1_000))
            .args(["sh", "-c", &check.command])
            .current_dir(self.dir)
            .env("ENTRACTE_URL", self.base_url)
            .env("ENTRACTE_VERSION", self.version)
            .output()
            .map_err(|error| failed("could not be started".into(), error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Err(failed(output.status.to_string(), beginning(text.trim())))
    }
}

impl Jar {
    fn keep(&mut self, set_cookie: &str) {
        let pair = set_cookie.split(';').next().unwrap_or_default();
        if let Some((name, value)) = pair.split_once('=') {
            self.0.insert(name.trim().to_owned(), value.trim().to_owned());
        }
    }
}

/// Judges an answer: status, error texts, text, value.
fn judge(check: &HttpCheck, status: u16, body: &str, version: &str) -> Result<(), SmokeError> {
    let forbidden = ERROR_TEXTS.iter().copied().chain(check.lacks.as_deref());
    if status == check.status
        && let Some(found) = forbidden.into_iter().find(|text| body.contains(text))
    {
        let at = body.find(found).unwrap_or(0);
        return Err(SmokeError::ErrorText {
            status,
            found: found.to_owned(),
            body: beginning(&body[at..]),
        });
    }
    if status != check.status {
        return Err(SmokeError::Status {
            expected: check.status,
            found: status,
            body: beginning(body),
        });
    }
    if let Some(expected) = &check.contains {
        let expected = expected.replace("{version}", version);
        if !body.contains(&expected) {
            return Err(SmokeError::TextMissing { expected, body: beginning(body) });
        }
    }
    if let Some(pointer) = &check.json {
        let answer: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        let found = answer.pointer(pointer).unwrap_or(&Value::Null);
        value(pointer, check.equals.as_ref(), found, version)?;
    }
    Ok(())
}

fn sql(check: &SqlCheck, database: &mut (dyn Database + 'static)) -> Result<(), SmokeError> {
    let rows = database.query(&check.sql)?;
    let first = rows.first().and_then(|row| row.first()).cloned().flatten();
    let found = first.map_or(Value::Null, Value::String);
    value("the first column", check.equals.as_ref(), &found, "")
}

/// Numbers and texts are compared as people read them: a database answers everything as text.
fn value(
    pointer: &str,
    expected: Option<&Value>,
    found: &Value,
    version: &str,
) -> Result<(), SmokeError> {
    let text = |value: &Value| match value {
        Value::String(text) => text.replace("{version}", version),
        other => other.to_string(),
    };
    let right = match expected {
        Some(expected) => text(expected) == text(found),
        None => !found.is_null(),
    };
    if right {
        return Ok(());
    }
    Err(SmokeError::Value {
        pointer: pointer.to_owned(),
        expected: expected.map_or_else(|| "a value".to_owned(), text),
        found: if found.is_null() { "nothing".into() } else { beginning(&text(found)) },
    })
}

/// How a page begins, on one line.
fn beginning(body: &str) -> String {
    let flat = body.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short: String = flat.chars().take(SHOWN_CHARS_MAX).collect();
    if short.len() < flat.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(http: &str) -> HttpCheck {
        serde_json::from_value(serde_json::json!({ "http": http })).unwrap()
    }

    #[test]
    fn a_page_that_says_200_and_shows_an_error_fails() {
        let body = "<h1>Tavern</h1><b>Fatal error</b>: Uncaught PDOException";
        let error = judge(&page("GET /"), 200, body, "1.1.0").unwrap_err();
        assert!(matches!(error, SmokeError::ErrorText { status: 200, .. }), "{error}");
    }

    #[test]
    fn status_text_and_value_are_all_looked_at() {
        let mut check = page("GET /version.php");
        assert!(judge(&check, 200, "{}", "1.1.0").is_ok());
        assert!(matches!(judge(&check, 502, "", "1.1.0"), Err(SmokeError::Status { .. })));
        check.contains = Some("{version}".into());
        assert!(judge(&check, 200, "now 1.1.0", "1.1.0").is_ok());
        assert!(matches!(
            judge(&check, 200, "now 1.0.0", "1.1.0"),
            Err(SmokeError::TextMissing { .. })
        ));
        check.contains = None;
        check.json = Some("/version".into());
        check.equals = Some("{version}".into());
        assert!(judge(&check, 200, r#"{"version":"1.1.0"}"#, "1.1.0").is_ok());
        assert!(matches!(judge(&check, 200, "not json", "1.1.0"), Err(SmokeError::Value { .. })));
    }

    #[test]
    fn a_number_in_the_configuration_equals_the_text_that_a_database_gives() {
        let three = Value::String("3".into());
        assert!(value("x", Some(&serde_json::json!(3)), &three, "").is_ok());
        assert!(value("x", Some(&serde_json::json!(4)), &three, "").is_err());
        assert!(value("x", None, &Value::Null, "").is_err());
    }
}
