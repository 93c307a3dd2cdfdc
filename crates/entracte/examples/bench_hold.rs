//! A release without SQL at 200 requests/s: requests lost, and the longest wait; a symlink switch beside it.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/holding/mod.rs"]
mod holding;

use std::process::{Command, ExitCode};

use common::{Site, said};
use entracte_testbed::players::{Played, Players};
use entracte_testbed::process::{quoted, wait_until};

/// The longest that a request may take while a version is put in, in milliseconds.
const GOAL_MS: u64 = 250;
/// How long the players go on after the release.
const AFTER_MS: u64 = 60_000;

fn main() -> ExitCode {
    let rounds = if std::env::args().any(|argument| argument == "--quick") { 1 } else { 5 };
    println!(
        "| round | side | requests | lost | pages | p99 | longest |\n|---|---|---|---|---|---|---|"
    );
    let mut figure = 0;
    let mut lost = 0;
    for round in 1..=rounds {
        row(round, "symlink and reload", &by_symlink());
        let ours = entracte();
        row(round, "us", &ours);
        lost += ours.with(|outcome| !outcome.is_played()).len();
        // The goal is that nobody waits longer, so the worst round counts.
        figure = figure.max(ours.latencies.max_us() / 1_000);
    }
    let met = lost == 0 && figure <= GOAL_MS;
    println!(
        "bench hold: {figure} ms, {lost} lost (goal {GOAL_MS} ms, 0 lost) {}",
        if met { "ok" } else { "short" }
    );
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn row(round: u32, side: &str, played: &Played) {
    println!(
        "| {round} | {side} | {} | {} | {} | {:.1} ms | {:.1} ms |",
        played.records.len(),
        played.with(|outcome| !outcome.is_played()).len(),
        played.pages(),
        played.latencies.percentile_us(99) as f64 / 1e3,
        played.latencies.max_us() as f64 / 1e3,
    );
}

/// Lets the players go on for as many requests as came until now, so that the release is in the middle.
fn go_on(players: &Players) {
    let before = players.so_far().ok;
    wait_until(AFTER_MS, || players.so_far().ok > before + 400);
}

/// As Capistrano does: the new tree beside the old one, a link that is moved, a reload.
fn by_symlink() -> Played {
    let site = holding::start("true");
    holding::develop(&site, "1.0.1");
    let taverne = &site.taverne;
    let releases = taverne.dir().join("releases");
    let script = format!(
        "set -e; mkdir -p {releases}; mv {live} {releases}/1.0.0; ln -s {releases}/1.0.0 {live}; \
         cp -a {new} {releases}/1.0.1; cp {releases}/1.0.0/config.php {releases}/1.0.1/; \
         rm -rf {releases}/1.0.1/uploads; cp -a {releases}/1.0.0/uploads {releases}/1.0.1/uploads; {reload}",
        releases = quoted(&releases),
        live = quoted(&taverne.docroot),
        new = quoted(&site.dev.join("source")),
        reload = taverne.reload_command,
    );
    run(&script);
    let players = Players::start(&taverne.url, &holding::load()).expect("players come in");
    go_on(&players);
    run(&format!(
        "set -e; ln -s {releases}/1.0.1 {live}.next; mv -T {live}.next {live}; {reload}",
        releases = quoted(&releases),
        live = quoted(&taverne.docroot),
        reload = taverne.reload_command,
    ));
    go_on(&players);
    players.stop()
}

fn run(script: &str) {
    let output = Command::new("sh").args(["-c", script]).output().expect("sh runs");
    assert!(output.status.success(), "{}", said(&output));
}

fn entracte() -> Played {
    let site: Site = holding::start("true");
    holding::develop(&site, "1.0.1");
    let players = Players::start(&site.url, &holding::load()).expect("players come in");
    go_on(&players);
    let text = site.ok(&["deploy", "1.0.1", "--yes"]);
    assert!(text.contains("hold"), "{text}");
    for line in text.lines().filter(|line| line.contains('✓')) {
        eprintln!("  {}", line.trim());
    }
    go_on(&players);
    players.stop()
}
