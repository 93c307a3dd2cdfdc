//! The folder that a front reads at each request: flags, pages, and the tester's pass.
//!
//! `flags/closed` and `flags/draining` say what is shut; a pass is a file in `pass/` whose name is
//! the secret, so that nobody has to be told of a new one; `retry/` holds one file whose name is the
//! time to come back. The front's user may enter the folders, and list none that holds a secret.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use entracte_model::UnixMs;
use entracte_model::gate::{self, PageKind, State};

use super::{Kind, Settings, haproxy, recipe};
use crate::error::GateError;
use crate::files;
use crate::pages::alone::{Alone, policies};

/// The folders and who may do what in them: those that hold a secret are entered, not listed.
const FOLDERS: [(&str, u32); 5] =
    [("", 0o711), ("flags", 0o755), ("pages", 0o755), ("retry", 0o755), ("pass", 0o711)];
/// A file that the front's user reads.
const PUBLIC: u32 = 0o644;
/// What a page of Apache's may grow by, at least, in bytes.
const ROOM_BYTES: usize = 1_024;
/// The kinds of pages that a front has, by the names of their files.
const KINDS: [(&str, PageKind); 2] =
    [("closed", PageKind::Closed), ("login", PageKind::LoginClosed)];

/// The languages that there are pages in, the default one first.
pub(super) fn languages(settings: &Settings) -> Vec<&'static str> {
    let state = State::initial(UnixMs(0));
    alone(settings, &state, UnixMs(0)).strings().iter().map(|strings| strings.lang).collect()
}

fn alone<'a>(settings: &'a Settings, state: &'a State, now: UnixMs) -> Alone<'a> {
    Alone { game_name: &settings.game_name, languages: &settings.languages, state, now }
}

/// When to come back, as a `Retry-After`: a date, because what remains until then is nothing that a
/// file can tell; `later_percent` of that time later. Seconds where no end is known.
pub(super) fn retry_at(state: &State, now: UnixMs, later_percent: u64) -> String {
    let goal = &state.goal;
    let end = goal.reopens_p50.into_iter().chain(goal.reopens_p90).find(|at| *at > now);
    let seconds = gate::retry_after_s(state, now, 0.0);
    let later_s = seconds + seconds * later_percent / 100;
    let at = end.map(|_| now + later_s * 1_000);
    let date = at.and_then(|at| jiff::Timestamp::from_millisecond(at.0).ok());
    date.map_or(later_s.to_string(), |date| date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

/// Makes the folders.
pub(super) fn make(settings: &Settings) -> Result<(), GateError> {
    for (name, mode) in FOLDERS {
        let path = settings.folder.join(name);
        if !path.is_dir() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&path)
                .map_err(GateError::file("make the folder", &path))?;
        }
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .map_err(GateError::file("set the permissions of", &path))?;
    }
    Ok(())
}

/// Writes a file that the front reads, where it is not there already.
pub(super) fn publish(path: &Path, text: &str) -> Result<bool, GateError> {
    if fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(false);
    }
    files::replace_as(path, text.as_bytes(), PUBLIC)?;
    Ok(true)
}

/// Publishes a file of Apache's, which asks for its size by name before it opens it: one that was
/// replaced in between by a shorter one ends the connection without an answer. So it never gets
/// shorter: spaces at its end, which mean nothing in HTML and JSON, make up for it, and some room is
/// there from the start. What grows beyond its room can cost one reader its end, at that moment.
fn publish_in_room(path: &Path, text: &str) -> Result<(), GateError> {
    let room = fs::metadata(path).map_or(0, |meta| usize::try_from(meta.len()).unwrap_or(0));
    let size = match text.len() <= room {
        true => room,
        false => (text.len() + ROOM_BYTES).next_multiple_of(ROOM_BYTES),
    };
    publish(path, &(text.to_owned() + &" ".repeat(size - text.len()))).map(drop)
}

/// The pages of `state`. They are shown only where a flag says so.
pub(super) fn write_pages(
    settings: &Settings,
    state: &State,
    now: UnixMs,
) -> Result<(), GateError> {
    let pages = settings.folder.join("pages");
    let write = |name: &str, text: &str| publish(&pages.join(name), text).map(drop);
    let write_asis = |name: &str, text: &str| publish_in_room(&pages.join(name), text);
    let alone = alone(settings, state, now);
    let retry_s = gate::retry_after_s(state, now, 0.0);
    // HAProxy reads its pages when it starts, whatever is the matter then.
    let nothing = State { phase: gate::Phase::Closed, ..State::initial(UnixMs(0)) };
    let timeless = Alone { state: &nothing, ..alone };
    let (policy, pass_policy) = policies();
    let retry = retry_at(state, now, 0);
    for strings in alone.strings() {
        for (name, kind) in KINDS {
            let html = match settings.kind {
                Kind::Haproxy => timeless.html(strings, kind, retry_s, true),
                _ => alone.html(strings, kind, retry_s, false),
            };
            let problem = alone.problem(strings, kind, retry_s);
            let name = format!("{name}.{}", strings.lang);
            if settings.kind == Kind::Apache {
                let head = format!(
                    "Retry-After: {retry}\nVary: Accept, Accept-Language, Cookie\nContent-Language: {}\n",
                    strings.lang
                );
                let html_head = format!(
                    "{head}Content-Security-Policy: {policy}\nX-Content-Type-Options: nosniff\n"
                );
                write_asis(
                    &format!("{name}.html.asis"),
                    &asis(503, "text/html; charset=utf-8", &html_head, &html),
                )?;
                write_asis(
                    &format!("{name}.problem.asis"),
                    &asis(503, "application/problem+json", &head, &problem),
                )?;
            } else {
                write(&format!("{name}.html"), &html)?;
                write(&format!("{name}.problem"), &problem)?;
            }
        }
    }
    let (status, pass) = (alone.status().to_string(), alone.pass_page());
    if settings.kind == Kind::Apache {
        let head = format!("Content-Security-Policy: {pass_policy}\n");
        write_asis("status.asis", &asis(200, "application/json", "", &status))?;
        write("pass.asis", &asis(200, "text/html; charset=utf-8", &head, &pass))?;
        write("door.asis", &asis(200, "text/plain", "", "open"))?;
        write("health.asis", &asis(200, "text/plain", "", "ok"))?;
        let mark = recipe::mark(settings);
        return write(&format!("ready-{mark}.asis"), &asis(200, "text/plain", "", &mark));
    }
    write("status.json", &status)?;
    write("pass.html", &pass)
}

/// A file of mod_asis.
fn asis(status: u16, kind: &str, head: &str, body: &str) -> String {
    let word = if status == 503 { "Service Unavailable" } else { "OK" };
    format!(
        "Status: {status} {word}\nContent-Type: {kind}\nCache-Control: no-store\n{head}\n{body}"
    )
}

/// What HAProxy's map holds.
pub(super) fn map_values(
    settings: &Settings,
    state: &State,
    secret: &str,
    now: UnixMs,
) -> BTreeMap<String, String> {
    let alone = alone(settings, state, now);
    let retry_s = gate::retry_after_s(state, now, 0.0);
    let mut values = BTreeMap::from([
        ("state".to_owned(), door(state).to_owned()),
        ("pass".to_owned(), secret.to_owned()),
        ("retry".to_owned(), haproxy::packed(&retry_at(state, now, 0))),
        ("status".to_owned(), haproxy::packed(&alone.status().to_string())),
    ]);
    for strings in alone.strings() {
        for (name, kind) in KINDS {
            let problem = alone.problem(strings, kind, retry_s);
            values.insert(format!("{name}.{}", strings.lang), haproxy::packed(&problem));
        }
    }
    values
}

/// The map as a file.
pub(super) fn write_map(
    settings: &Settings,
    values: &BTreeMap<String, String>,
) -> Result<(), GateError> {
    let text: String = values.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
    // It holds the pass; HAProxy reads it before it gives up its rights.
    files::replace(&haproxy::map_file(settings), text.as_bytes())
}

/// What the front does in a state.
pub(super) fn door(state: &State) -> &'static str {
    match state.phase {
        gate::Phase::Closed | gate::Phase::Holding => "closed",
        gate::Phase::Draining => "draining",
        gate::Phase::Open | gate::Phase::Announced | gate::Phase::Reopening => "open",
    }
}

/// Lets the one file in `retry` have the time for its name.
pub(super) fn write_retry(
    settings: &Settings,
    state: &State,
    now: UnixMs,
) -> Result<(), GateError> {
    let dir = settings.folder.join("retry");
    let wanted = retry_at(state, now, 0);
    set_file(&dir.join(&wanted), true)?;
    for other in fs::read_dir(&dir).map_err(GateError::file("read", &dir))?.flatten() {
        if *other.file_name() != *wanted {
            set_file(&other.path(), false)?;
        }
    }
    Ok(())
}

/// Makes `secret` the one pass, or none.
pub(super) fn write_pass(settings: &Settings, secret: &str) -> Result<(), GateError> {
    let dir = settings.folder.join("pass");
    for other in fs::read_dir(&dir).map_err(GateError::file("read", &dir))?.flatten() {
        if *other.file_name() != *secret {
            set_file(&other.path(), false)?;
        }
    }
    set_file(&dir.join(secret), true)
}

/// Sets the flags of a state, those that shut before those that open are gone.
pub(super) fn write_flags(settings: &Settings, state: &State) -> Result<(), GateError> {
    let flags = settings.folder.join("flags");
    let flag = |name: &str| -> (PathBuf, bool) { (flags.join(name), door(state) == name) };
    let mut both = [flag("closed"), flag("draining")];
    both.sort_by_key(|(_, on)| !*on);
    both.iter().try_for_each(|(path, on)| set_file(path, *on))
}

/// Makes an empty file, or takes it away, durably. A crash leaves the one or the other.
fn set_file(path: &Path, there: bool) -> Result<(), GateError> {
    let change = || -> io::Result<()> {
        match there {
            true => {
                let file = File::options().write(true).create(true).truncate(true).open(path)?;
                file.set_permissions(Permissions::from_mode(PUBLIC))?;
                file.sync_all()?;
            }
            false => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            },
        }
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    change().map_err(GateError::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_apache_never_gets_shorter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("closed.fr.html.asis");
        let size = |text: &str| {
            publish_in_room(&path, text).unwrap();
            let found = fs::read_to_string(&path).unwrap();
            assert_eq!(found.trim_end_matches(' '), text);
            found.len()
        };
        assert_eq!(size("fermé"), 2_048);
        assert_eq!(size(&"é".repeat(1_024)), 2_048);
        assert_eq!(size(&"é".repeat(1_025)), 4_096);
        assert_eq!(size("fermé"), 4_096);
    }

    #[test]
    fn the_time_to_come_back_is_a_date_where_an_end_is_known() {
        let mut state = State::initial(UnixMs(0));
        state.phase = gate::Phase::Closed;
        let now = UnixMs(1_700_000_000_000);
        assert_eq!(retry_at(&state, now, 0), "30");
        state.goal.reopens_p50 = Some(now + 60_000);
        assert_eq!(retry_at(&state, now, 0), "Tue, 14 Nov 2023 22:14:20 GMT");
        assert_eq!(retry_at(&state, now, 10), "Tue, 14 Nov 2023 22:14:26 GMT");
    }
}
