//! Real nginx and php-fpm under 200 requests a second while releases go back and forth: no answer is
//! made of the files of two versions.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

mod site;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use entracte_testbed::nginx::Nginx;
use entracte_testbed::php::PhpFpm;
use entracte_testbed::process::wait_until;
use site::{PATIENCE_MS, Site};

/// Files that a page is made of, beside itself.
const PARTS: usize = 8;
/// Visitors, and how often each of them asks.
const VISITORS: usize = 20;
const EVERY: Duration = Duration::from_millis(100);
/// Answers of one version that must have been seen before the next release.
const SEEN: u64 = 50;

/// A game whose page says the version of every file that it is made of, each read for itself.
fn write_page(version: &str, tree: &Path) {
    fs::create_dir_all(tree.join("lib")).unwrap();
    let mut page = format!("<?php\nheader('Content-Type: text/plain');\necho '{version}';\n");
    for part in 0..PARTS {
        let code = format!("<?php\nreturn '{version}';\n");
        fs::write(tree.join(format!("lib/part{part}.php")), code).unwrap();
        page += &format!("usleep(500);\necho ' ', require __DIR__ . '/lib/part{part}.php';\n");
    }
    fs::write(tree.join("page.php"), page).unwrap();
}

/// The site with its servers. They end before its files are removed.
struct Php {
    _nginx: Nginx,
    php: PhpFpm,
    site: Site,
}

impl Php {
    fn start(layout: &str, reload: bool) -> Self {
        let mut site = Site::with("", "");
        let run = site.at("run");
        fs::create_dir(&run).unwrap();
        if layout == "symlink" {
            let releases = site.root.with_file_name("releases");
            fs::create_dir(&releases).unwrap();
            fs::rename(&site.root, releases.join("first")).unwrap();
            std::os::unix::fs::symlink("releases/first", &site.root).unwrap();
        }
        let php = PhpFpm::start_untuned(&site.root, &run);
        let nginx = Nginx::start(&site.root, &php);
        let game = site.game.as_ref().unwrap().address.to_string();
        site.edit(&game, &nginx.address().to_string());
        site.edit("[target.production]", &format!("[target.production]\nlayout = {layout:?}"));
        site.edit("[target.production.pace]", "[target.production.pace]\nhold = \"15s\"");
        if reload {
            let hook = php.reload_command();
            let hooks = format!("[target.production.hooks]\nreload = [{hook:?}]\n\n");
            site.edit("[target.production.pace]", &format!("{hooks}[target.production.pace]"));
        }
        let smoke = "\n[[target.production.smoke]]\nhttp = \"GET /page.php\"\n\
                     contains = \"{version} {version} {version}\"\n";
        let path = site.dev.join("entracte.toml");
        fs::write(&path, fs::read_to_string(&path).unwrap() + smoke).unwrap();
        site.up();
        let php = Self { _nginx: nginx, php, site };
        php.deploy("1.1");
        php
    }

    /// Develops a version of files only, and puts it into production.
    fn deploy(&self, version: &str) {
        let site = &self.site;
        site.develop(version);
        fs::remove_dir_all(site.dev.join("SQL")).unwrap();
        fs::create_dir(site.dev.join("SQL")).unwrap();
        write_page(&format!("{version}.0"), &site.dev.join("source"));
        site.ok(&["pack", version]);
        let plan = site.ok(&["plan", version]);
        assert!(plan.contains("hold") && !plan.contains("drain"), "{plan}");
        site.ok(&["deploy", version, "--yes"]);
    }
}

/// People who ask for the page all the time.
struct Visitors {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    answers: Arc<std::sync::Mutex<BTreeMap<(u16, String), u64>>>,
}

impl Visitors {
    fn begin(site: &Site) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let visit = |_| {
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            let mut browser = site.browser();
            std::thread::spawn(move || {
                let answers: Arc<std::sync::Mutex<BTreeMap<(u16, String), u64>>> = answers;
                let mut due = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    let answer = browser.get("/page.php").unwrap();
                    let key = (answer.status, answer.text());
                    *answers.lock().unwrap().entry(key).or_default() += 1;
                    due = (due + EVERY).max(Instant::now());
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
            })
        };
        let threads = (0..VISITORS).map(visit).collect();
        Self { stop, threads, answers }
    }

    /// Waits until the whole page of a version was seen often enough.
    fn see(&self, version: &str) {
        let whole = whole(version);
        let before = self.count(&whole);
        let seen = wait_until(PATIENCE_MS, || self.count(&whole) >= before + SEEN);
        assert!(seen, "{version} is not seen: {:?}", self.answers.lock().unwrap());
    }

    fn count(&self, text: &str) -> u64 {
        self.answers.lock().unwrap().get(&(200, text.to_owned())).copied().unwrap_or_default()
    }

    fn end(self) -> BTreeMap<(u16, String), u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        std::mem::take(&mut *self.answers.lock().unwrap())
    }
}

/// What a page says whose files are all of one version.
fn whole(version: &str) -> String {
    vec![format!("{version}.0"); PARTS + 1].join(" ")
}

fn back_and_forth(layout: &str, reload: bool) {
    let php = Php::start(layout, reload);
    let visitors = Visitors::begin(&php.site);
    visitors.see("1.1");
    php.deploy("1.2");
    visitors.see("1.2");
    php.site.ok(&["rollback", "--yes"]);
    visitors.see("1.1");
    php.deploy("1.3");
    visitors.see("1.3");
    let answers = visitors.end();
    let good = ["1.1", "1.2", "1.3"].map(whole);
    let others: Vec<_> = answers
        .iter()
        .filter(|((status, text), _)| *status != 200 || !good.contains(text))
        .collect();
    assert!(others.is_empty(), "{layout}: answers of no one version: {others:?}");
    assert!(php.php.pid() > 0, "it still runs");
}

#[test]
fn exchanged_trees_with_a_reload() {
    let site = Site::with("", "");
    fs::write(site.root.join("page.php"), "<?php\n").unwrap();
    let doctor = site.run(&["doctor"]);
    assert!(site::said(&doctor).contains("set hooks.reload"), "{}", site::said(&doctor));
    back_and_forth("exchange", true);
}

#[test]
fn a_link_pointed_elsewhere_without_any_reload() {
    back_and_forth("symlink", false);
}

#[test]
fn files_replaced_in_place_with_a_reload() {
    back_and_forth("inplace", true);
}
