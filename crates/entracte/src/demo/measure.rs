//! From what was written down in a run to its report.

use std::collections::BTreeSet;
use std::path::PathBuf;

use entracte_model::UnixMs;
use entracte_model::journal::Outcome;
use entracte_release::Store;

use super::monitor::Closed;
use super::page;
use super::players::{Client, Diary, Outage};
use super::report::{FORMAT, News, Page, Release, Report, Requests, Rows, percentile};
use super::stage::Stage;
use super::window::{self, Compared};
use crate::exit::Failure;

/// How many lines of what was lost the report shows.
const SHOWN_MAX: usize = 5;

/// What a run wrote down.
pub struct Run {
    /// What the players wrote.
    pub diaries: Vec<Diary>,
    /// The closed times, by the gate.
    pub closed: Vec<Closed>,
    /// When the players' clock began.
    pub epoch: UnixMs,
    /// How long the run took, in milliseconds.
    pub took_ms: u64,
    /// The address of the gate.
    pub gate: std::net::SocketAddr,
    /// What was not as it should be already.
    pub wrong: Vec<String>,
}

/// Measures everything that there is. The game and its gate must still be there.
pub fn measure(stage: &Stage, run: Run) -> Result<Report, Failure> {
    let Run { diaries, closed, epoch, took_ms, gate, mut wrong } = run;
    let releases = releases(stage, &closed, &outages(&diaries), epoch)?;
    judge_releases(&releases, &mut wrong);
    let taken_back = taken_back(stage, &releases, &mut wrong);
    let requests = requests(&diaries, &mut wrong);
    let rows = rows(stage, &diaries, &mut wrong)?;
    let news = news(gate, &mut wrong);
    let page = first_page(stage, &diaries)?;
    if page.is_none() {
        wrong.push("nobody saw the page that stands in for the game".into());
    }
    let waiting = diaries.iter().filter(|diary| diary.waits()).count();
    if waiting > 0 {
        wrong.push(format!("{waiting} players never came back in"));
    }
    Ok(Report {
        format: FORMAT,
        ok: wrong.is_empty(),
        wrong,
        took_ms,
        players: diaries.len(),
        requests,
        rows,
        releases,
        taken_back,
        page,
        news,
        dir: (!stage.is_temporary()).then(|| stage.dir().to_owned()),
    })
}

fn outages(diaries: &[Diary]) -> Vec<Outage> {
    diaries.iter().flat_map(|diary| diary.outages.iter().copied()).collect()
}

fn releases(
    stage: &Stage,
    closed: &[Closed],
    outages: &[Outage],
    epoch: UnixMs,
) -> Result<Vec<Release>, Failure> {
    let store = Store::open_to_read(&stage.at("production/state/store.sqlite"))?
        .ok_or_else(|| Failure::broken("production has no journal"))?;
    let mut all = store.releases(10)?;
    all.sort_by_key(|release| release.id.0);
    let releases = all.iter().enumerate().map(|(number, release)| {
        let (outcome, why) = match &release.outcome {
            Some(Outcome::Released { .. }) => ("released", None),
            Some(Outcome::Unwell { fault }) => ("unwell", Some(fault.message.clone())),
            Some(Outcome::TakenBack { fault }) => ("taken back", Some(fault.message.clone())),
            None => ("not finished", None),
        };
        let window = closed.get(number);
        let longest = |was_in| window.and_then(|window| longest_ms(outages, window, epoch, was_in));
        Release {
            from: release
                .plan
                .from
                .as_ref()
                .map_or("nothing".into(), |base| base.version.to_string()),
            to: release.plan.to.version.to_string(),
            outcome: outcome.into(),
            why,
            closed_ms: window.map(Closed::ms),
            players_without_ms: longest(true),
            door_without_ms: longest(false),
        }
    });
    Ok(releases.collect())
}

/// The longest outage around a closed time.
fn longest_ms(outages: &[Outage], window: &Closed, epoch: UnixMs, was_in: bool) -> Option<u64> {
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    outages
        .iter()
        .filter(|outage| outage.was_in == was_in)
        .filter(|outage| {
            epoch + ms(outage.from) < window.until && epoch + ms(outage.until) > window.from
        })
        .map(|outage| ms(outage.until - outage.from))
        .max()
}

fn judge_releases(releases: &[Release], wrong: &mut Vec<String>) {
    let expected = [("1.1.0", "released"), ("1.2.0", "taken back")];
    let found: Vec<(&str, &str)> =
        releases.iter().map(|release| (release.to.as_str(), release.outcome.as_str())).collect();
    if found != expected {
        wrong.push(format!("expected releases to end as {expected:?}, found {found:?}"));
    }
    for release in releases.iter().filter(|release| release.closed_ms.is_none()) {
        wrong.push(format!("the gate was not seen closed for {}", release.to));
    }
    let because =
        |release: &Release| release.why.as_ref().is_none_or(|why| why.contains("smoke test"));
    for release in
        releases.iter().filter(|release| release.outcome == "taken back" && !because(release))
    {
        let why = release.why.as_deref().unwrap_or_default();
        wrong.push(format!(
            "{} was to fail in its smoke test, and failed otherwise: {why}",
            release.to
        ));
    }
}

/// What the release that was taken back left behind, by what its hooks noted.
fn taken_back(stage: &Stage, releases: &[Release], wrong: &mut Vec<String>) -> Option<Compared> {
    let number = releases.iter().position(|release| release.outcome == "taken back")? + 1;
    match window::noted(&stage.at("window"), &format!("r{number}")) {
        Ok(noted) => {
            let compared = noted.compare();
            if noted.closed.differences(&noted.undoing).is_empty() {
                wrong.push("the release changed nothing that could have been taken back".into());
            }
            wrong.extend(compared.differences.iter().map(|what| format!("not taken back: {what}")));
            Some(compared)
        }
        Err(failure) => {
            wrong.push(failure.message);
            None
        }
    }
}

fn requests(diaries: &[Diary], wrong: &mut Vec<String>) -> Requests {
    let mut took: Vec<u64> =
        diaries.iter().flat_map(|diary| diary.took_us.iter().copied()).collect();
    let lost: Vec<&String> = diaries.iter().flat_map(|diary| &diary.lost).collect();
    if !lost.is_empty() {
        wrong.push(format!("{} requests were lost", lost.len()));
        wrong.extend(lost.iter().take(SHOWN_MAX).map(ToString::to_string));
    }
    Requests {
        by_game: took.len() as u64,
        by_page: diaries.iter().map(|diary| diary.pages).sum(),
        lost: lost.len() as u64,
        p50_us: percentile(&mut took, 50),
        p99_us: percentile(&mut took, 99),
    }
}

/// Every action that was answered with "ok" must be a row, and every row of a player an action.
fn rows(stage: &Stage, diaries: &[Diary], wrong: &mut Vec<String>) -> Result<Rows, Failure> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
    let database = rusqlite::Connection::open_with_flags(stage.database(), flags)?;
    let mut statement = database.prepare("SELECT request_id FROM ledger")?;
    let ids = statement.query_map([], |row| row.get(0))?;
    let there = ids.collect::<Result<BTreeSet<String>, _>>()?;
    let promised: BTreeSet<&String> = diaries.iter().flat_map(|diary| &diary.promised).collect();
    let lost: Vec<&&String> = promised.iter().filter(|id| !there.contains(**id)).collect();
    let unpromised = there.iter().filter(|id| !promised.contains(id)).count();
    if !lost.is_empty() {
        wrong.push(format!("{} rows were lost, the first is {}", lost.len(), lost[0]));
    }
    if promised.is_empty() {
        wrong.push("no player did anything that could have been lost".into());
    }
    Ok(Rows {
        promised: promised.len() as u64,
        lost: lost.len() as u64,
        unpromised: unpromised as u64,
    })
}

/// Asks for the news as a player does, in both languages.
fn news(gate: std::net::SocketAddr, wrong: &mut Vec<String>) -> News {
    let url = format!("http://{gate}/_entracte/news/");
    let told = |language: &str, words: &str| {
        let path = format!("/_entracte/news/{language}/1.1.0.html");
        let answer = Client::new(gate).get(&path);
        answer.is_ok_and(|answer| answer.status == 200 && answer.body.contains(words))
    };
    let expected = [("en", "The song book"), ("fr", "Le livre de chansons")];
    let mut languages = Vec::new();
    for (language, words) in expected {
        match told(language, words) {
            true => languages.push(language.to_owned()),
            false => wrong.push(format!("the news do not tell of 1.1 in {language}")),
        }
    }
    News { url, languages }
}

/// The first page of a player who was in, else of one at the door; kept as it came.
fn first_page(stage: &Stage, diaries: &[Diary]) -> Result<Option<Page>, Failure> {
    let pages = diaries.iter().filter_map(|diary| diary.page.as_ref());
    let first = pages.min_by_key(|(at, was_in, _)| (!was_in, *at));
    let Some((at, _, html)) = first else { return Ok(None) };
    let file = page_file(stage, html)?;
    let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
    Ok(Some(Page { file, at_ms, lines: page::lines(html) }))
}

/// Beside everything else, or where it outlives a folder that is removed.
fn page_file(stage: &Stage, html: &str) -> Result<PathBuf, Failure> {
    if !stage.is_temporary() {
        let path = stage.at("page.html");
        std::fs::write(&path, html)?;
        return Ok(path);
    }
    let file = tempfile::Builder::new().prefix("entracte-page-").suffix(".html").tempfile()?;
    std::fs::write(file.path(), html)?;
    Ok(file.into_temp_path().keep().map_err(|error| error.error)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_outages_around_the_closed_time_count() {
        let outage = |from, until, was_in| Outage {
            from: Duration::from_millis(from),
            until: Duration::from_millis(until),
            was_in,
        };
        let outages = [
            outage(0, 90, true),
            outage(100, 400, true),
            outage(90, 600, false),
            outage(900, 2_000, true),
        ];
        let window = Closed { from: UnixMs(1_150), until: UnixMs(1_350) };
        let longest = |was_in| longest_ms(&outages, &window, UnixMs(1_000), was_in);
        assert_eq!((longest(true), longest(false)), (Some(300), Some(510)));
    }

    #[test]
    fn what_was_promised_and_is_not_there_is_found_and_so_is_a_lost_request() {
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage::build(Some(&dir.path().join("demo"))).unwrap();
        let database = rusqlite::Connection::open(stage.database()).unwrap();
        let sql =
            "INSERT INTO ledger (request_id, player, kind, gold, at) VALUES (?1, 1, 'x', 0, 0)";
        for id in ["kept", "never promised"] {
            database.execute(sql, [id]).unwrap();
        }
        let mut diary = Diary::default();
        diary.promised = vec!["kept".into(), "gone".into()];
        diary.lost = vec!["player 1 at 7 ms: GET / answered 502".into()];
        let mut wrong = Vec::new();
        let rows = rows(&stage, std::slice::from_ref(&diary), &mut wrong).unwrap();
        assert_eq!((rows.promised, rows.lost, rows.unpromised), (2, 1, 1));
        assert_eq!(requests(&[diary], &mut wrong).lost, 1);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
    }

    #[test]
    fn releases_that_end_otherwise_are_wrong() {
        let release = |to: &str, outcome: &str, why: Option<&str>| Release {
            from: "x".into(),
            to: to.into(),
            outcome: outcome.into(),
            why: why.map(str::to_owned),
            closed_ms: Some(1),
            players_without_ms: None,
            door_without_ms: None,
        };
        let judged = |second| {
            let mut wrong = Vec::new();
            judge_releases(&[release("1.1.0", "released", None), second], &mut wrong);
            wrong.len()
        };
        assert_eq!(judged(release("1.2.0", "taken back", Some("smoke test the table failed"))), 0);
        assert_eq!(judged(release("1.2.0", "taken back", Some("the disk is full"))), 1);
        assert_eq!(judged(release("1.2.0", "released", None)), 1);
    }
}
