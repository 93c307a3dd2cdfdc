//! A real Chromium, driven through ChromeDriver by the WebDriver protocol.
//!
//! One browser with a fresh profile for each [`Browser`]; dropping it ends both processes.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::Client;
use crate::process::{Server, free_port, program, wait_until};

/// The accessibility checks, as the page runs them.
const AXE: &str = include_str!("../vendor/axe-core/axe.min.js");
/// How long a browser on a busy machine may take for anything, in milliseconds.
pub const PATIENCE_MS: u64 = 60_000;

/// What a player prefers.
#[derive(Debug, Clone, Copy)]
pub struct Taste<'a> {
    /// As in `Accept-Language`.
    pub language: &'a str,
    /// Light letters on dark ground.
    pub dark: bool,
    /// The window's width in CSS pixels.
    pub width: u32,
}

impl Default for Taste<'_> {
    fn default() -> Self {
        Self { language: "en", dark: false, width: 1_280 }
    }
}

/// A browser with one window.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    session: String,
    _driver: Server,
    _dir: TempDir,
}

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    /// Where Chromium or ChromeDriver is not installed, or does not come up.
    pub fn start() -> Self {
        let dir =
            tempfile::Builder::new().prefix("browser-").tempdir().expect("a temporary folder");
        let port = free_port();
        let args = [format!("--port={port}")];
        let driver =
            Server::start(&program(&["chromedriver"]), &args, &dir.path().join("driver.log"));
        let url = format!("http://127.0.0.1:{port}");
        let ready = || {
            let answer = Client::new(&url).get("/status");
            answer.is_ok_and(|answer| answer.text().contains("\"ready\":true"))
        };
        driver.wait_until_ready(ready);
        let profile = dir.path().join("profile");
        let options = json!({
            "binary": program(&["chromium"]),
            "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", "--hide-scrollbars",
                format!("--user-data-dir={}", profile.display()),
            ],
        });
        let wish = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let mut browser =
            Self { client: Client::new(&url), session: String::new(), _driver: driver, _dir: dir };
        let session = browser.call("POST", "/session", &wish);
        let id = session["sessionId"].as_str();
        browser.session = id.unwrap_or_else(|| panic!("no session: {session}")).to_owned();
        browser.send("timeouts", &json!({ "script": PATIENCE_MS, "pageLoad": PATIENCE_MS }));
        browser
    }

    fn call(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self
            .client
            .request(method, path, &[], "application/json", body.to_string().as_bytes())
            .unwrap_or_else(|error| panic!("ChromeDriver, {path}: {error}"));
        let mut told: Value = serde_json::from_slice(&answer.body)
            .unwrap_or_else(|error| panic!("ChromeDriver, {path}: {error}: {}", answer.text()));
        assert_eq!(answer.status, 200, "ChromeDriver, {path}: {}", told["value"]["message"]);
        told["value"].take()
    }

    fn send(&mut self, command: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{command}", self.session);
        self.call("POST", &path, body)
    }

    /// A command of the Chrome DevTools Protocol.
    fn devtools(&mut self, command: &str, parameters: &Value) {
        self.send("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
    }

    /// From now on, the browser is that of somebody else.
    pub fn prefer(&mut self, taste: Taste<'_>) {
        let agent = self.run("return navigator.userAgent");
        self.devtools(
            "Network.setUserAgentOverride",
            &json!({ "userAgent": agent, "acceptLanguage": taste.language }),
        );
        let scheme = if taste.dark { "dark" } else { "light" };
        self.devtools(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": taste.width, "height": 800, "deviceScaleFactor": 1, "mobile": false }),
        );
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&mut self, url: &str) {
        self.send("url", &json!({ "url": url }));
    }

    /// The value of a script: `return document.title`.
    pub fn run(&mut self, script: &str) -> Value {
        self.send("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until a script returns something true, and returns that.
    ///
    /// # Panics
    /// With the page's text, where that takes longer than [`PATIENCE_MS`].
    pub fn wait_for(&mut self, what: &str, script: &str) -> Value {
        let mut found = Value::Null;
        let done = wait_until(PATIENCE_MS, || {
            found = self.run(script);
            !matches!(found, Value::Null | Value::Bool(false)) && found != ""
        });
        assert!(done, "{what} did not come; the page says: {}", self.text());
        found
    }

    /// What the page says.
    pub fn text(&mut self) -> String {
        self.run("return document.body ? document.body.innerText : ''")
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// What the accessibility checks find: one line each, with the elements that it is about.
    pub fn accessibility(&mut self) -> Vec<String> {
        self.accessibility_of("html")
    }

    /// The same for a part of the page, with its shadow trees.
    pub fn accessibility_of(&mut self, part: &str) -> Vec<String> {
        let loaded = "return typeof window.axe === 'object'";
        if self.run(loaded) != true {
            self.send("execute/sync", &json!({ "script": AXE, "args": [] }));
        }
        let script = "const done = arguments[arguments.length - 1];
            axe.run(document.querySelector(arguments[0]), { resultTypes: ['violations'] }).then(
                r => done(r.violations.map(v => v.id + ': ' + v.help + ': '
                    + v.nodes.map(n => n.target + ' (' + n.failureSummary + ')').join('; '))),
                e => done(['axe failed: ' + e]));";
        let found = self.send("execute/async", &json!({ "script": script, "args": [part] }));
        let found = found.as_array().cloned().unwrap_or_default();
        found.iter().map(|line| line.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Whether the page is wider than the window.
    pub fn scrolls_sideways(&mut self) -> bool {
        self.run("return document.documentElement.scrollWidth > window.innerWidth") == true
    }

    /// A PNG of the window.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn picture(&mut self, into: &Path) {
        let path = format!("/session/{}/screenshot", self.session);
        let answer = self.client.get(&path).expect("a screenshot");
        let told: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let png = STANDARD.decode(told["value"].as_str().unwrap_or_default()).expect("base64");
        std::fs::write(into, png).unwrap_or_else(|error| panic!("{}: {error}", into.display()));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser with the session. Where it does not answer, its guard ends it.
        let path = format!("/session/{}", self.session);
        let _ = self.client.request("DELETE", &path, &[], "", b"");
    }
}
