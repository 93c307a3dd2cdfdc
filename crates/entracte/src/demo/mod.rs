//! `entracte demo`: the main job of the program, on a small game with lively players.
//!
//! Nothing here is a shortcut. The game, the gate and each release are processes of this very
//! program, the commands are those that a person would type, and every figure in the report comes
//! from what the players, the gate and the database of this run wrote down.

pub mod game;
mod measure;
mod monitor;
mod page;
mod players;
mod processes;
mod report;
mod screen;
mod stage;
mod versions;
pub mod window;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use entracte_gate::control::Client;
use entracte_model::UnixMs;
use entracte_model::gate::Phase;
use entracte_release::clock::now;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::exit::{Exit, Failure};
use crate::report::{Paint, out};
use measure::Run;
use monitor::{Closed, Monitor};
use players::{Crowd, Diary};
use processes::Running;
use report::Report;
use screen::Screen;
use stage::{Places, SEEDED, Stage};
use versions::{GameVersion, V1_1, V1_2};

/// How long everybody may take to come in, in milliseconds.
const COME_IN_MS_MAX: u64 = 20_000;
/// How long people play before, between and after the releases, in milliseconds.
const PLAY_MS: u64 = 1_500;
const POLL_MS: u64 = 20;

/// What the visitor asked for.
#[derive(Debug)]
pub struct Wishes {
    /// Leave everything there to look at, until Ctrl-C.
    pub keep: bool,
    /// Where; a fresh temporary folder where nothing is given.
    pub dir: Option<PathBuf>,
    /// How many lively players.
    pub players: usize,
    /// One JSON report and nothing else.
    pub json: bool,
    /// The report and nothing else.
    pub quiet: bool,
    /// How to print.
    pub paint: Paint,
}

/// Plays the whole piece.
///
/// # Errors
/// Where it could not be played to its end. A run that was, with a figure that is not as it should
/// be, is no error but [`Exit::Broken`].
pub fn play(wishes: &Wishes) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let shows = !wishes.json && !wishes.quiet;
    let screen = Arc::new(Screen::new(wishes.paint, shows, Arc::clone(&stop)));
    let mut stage = Stage::build(wishes.dir.as_deref())?;
    if wishes.keep {
        stage.keep();
    }
    let theatre = Theatre::open(stage, Arc::clone(&screen), Arc::clone(&stop))?;
    let (crowd, epoch) = theatre.let_in(wishes.players)?;
    let run = theatre.releases(crowd, epoch)?;
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let report = measure::measure(&theatre.stage, Run { took_ms, ..run })?;
    show(wishes, &report)?;
    if wishes.keep {
        theatre.stay(wishes, &stop);
    }
    Ok(if report.ok { Exit::Done } else { Exit::Broken })
}

fn show(wishes: &Wishes, report: &Report) -> Result<(), Failure> {
    if wishes.json {
        out::log(serde_json::to_string(report)?);
        return Ok(());
    }
    for line in report.text(wishes.paint) {
        out::log(line);
    }
    Ok(())
}

/// The game with its gate, before an audience. Fields are dropped in their order: the gate ends
/// before the game behind it, and the folders go last.
struct Theatre {
    _gate: Running,
    _game: Running,
    stage: Stage,
    screen: Arc<Screen>,
    stop: Arc<AtomicBool>,
    places: Places,
    socket: PathBuf,
}

impl Theatre {
    /// Starts the game, takes production as it stands, and starts the gate before it.
    fn open(stage: Stage, screen: Arc<Screen>, stop: Arc<AtomicBool>) -> Result<Self, Failure> {
        let paint = screen.paint;
        screen.say(format!(
            "{}, a small browser game (SQLite, {} players on its books), is in production.",
            paint.bold("The Lantern Inn"),
            report::grouped(SEEDED.into())
        ));
        screen.say(format!("{}", paint.dim(format!("Its folders: {}", stage.dir().display()))));
        let (game, upstream) = processes::game(&stage)?;
        let [gate, dashboard] = processes::free_addresses()?;
        let places = Places { game: upstream, gate, dashboard };
        stage.configure(&places)?;
        let args = ["init", "--production-version", "1.0"];
        let ended = processes::command(&stage, &screen, &args, &stop)?;
        expect(&args, &ended, Exit::Done)?;
        let socket = stage.at("production/state/gate/control.sock");
        let client = Client::new(&socket);
        screen.command(&["up"]);
        let open = || client.status().is_ok_and(|at| at.phase == Phase::Open && at.upstream_ok);
        let up = processes::up(&stage, open)?;
        screen.say(format!("the gate listens on http://{gate}, the game is {upstream}"));
        Ok(Self { _gate: up, _game: game, stage, screen, stop, places, socket })
    }

    /// Lets the players in, and waits until all of them are.
    fn let_in(&self, count: usize) -> Result<(Crowd, (Instant, UnixMs)), Failure> {
        let epoch = (Instant::now(), now());
        let crowd = Crowd::start(count, self.places.gate, epoch.0)?;
        let all = || usize::try_from(crowd.now.inside.load(Ordering::Relaxed)) == Ok(count);
        while !all() {
            self.go_on()?;
            if epoch.0.elapsed() > Duration::from_millis(COME_IN_MS_MAX) {
                return Err(Failure::broken(format!("{count} players did not all come in")));
            }
            std::thread::sleep(Duration::from_millis(POLL_MS));
        }
        let paint = self.screen.paint;
        self.screen.say(format!("{} came in and play.", paint.accent(format!("{count} players"))));
        Ok((crowd, epoch))
    }

    /// Both releases, while the crowd plays.
    fn releases(&self, crowd: Crowd, epoch: (Instant, UnixMs)) -> Result<Run, Failure> {
        let monitor =
            Monitor::start(&self.socket, Arc::clone(&crowd.now), Arc::clone(&self.screen));
        let paint = self.screen.paint;
        let mut wrong = Vec::new();
        self.let_them_play()?;
        let intro = format!("{} adds a song book and cheaper cider", paint.bold("1.1"));
        self.release(&V1_1, &intro, Exit::Done, &mut wrong)?;
        self.let_them_play()?;
        let intro = format!(
            "{} is broken: its SQL runs and deletes rows, its page asks for a column that is not there",
            paint.bold("1.2")
        );
        self.release(&V1_2, &intro, Exit::TakenBack, &mut wrong)?;
        self.let_them_play()?;
        let diaries: Vec<Diary> = crowd.finish();
        let closed: Vec<Closed> = monitor.finish();
        self.command(&["history"], Exit::Done)?;
        Ok(Run { diaries, closed, epoch: epoch.1, took_ms: 0, gate: self.places.gate, wrong })
    }

    /// One version as its developers bring it: written, packed, deployed.
    fn release(
        &self,
        version: &GameVersion,
        intro: &str,
        expected: Exit,
        wrong: &mut Vec<String>,
    ) -> Result<(), Failure> {
        self.stage.develop(version)?;
        self.screen.child_line(&format!("\n{intro}."));
        self.screen.say(self.screen.paint.dim(version.summary()));
        self.command(&["pack", version.number], Exit::Done)?;
        let args = ["deploy", version.number, "--yes"];
        let ended = processes::command(&self.stage, &self.screen, &args, &self.stop)?;
        self.go_on()?;
        // A release that ends otherwise is what the report is for.
        wrong.extend(expect(&args, &ended, expected).err().map(|failure| failure.message));
        Ok(())
    }

    fn command(&self, args: &[&str], expected: Exit) -> Result<(), Failure> {
        let ended = processes::command(&self.stage, &self.screen, args, &self.stop)?;
        self.go_on()?;
        expect(args, &ended, expected)
    }

    fn let_them_play(&self) -> Result<(), Failure> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(PLAY_MS) {
            self.go_on()?;
            std::thread::sleep(Duration::from_millis(POLL_MS));
        }
        Ok(())
    }

    fn go_on(&self) -> Result<(), Failure> {
        match self.stop.load(Ordering::SeqCst) {
            true => Err(Failure::broken("the demo was interrupted")),
            false => Ok(()),
        }
    }

    /// Leaves game and gate there until Ctrl-C.
    fn stay(&self, wishes: &Wishes, stop: &AtomicBool) {
        let paint = wishes.paint;
        let Places { gate, dashboard, .. } = self.places;
        let dir = shell_words::quote(&self.stage.dir().to_string_lossy()).into_owned();
        let lines = [
            format!("\n{}", paint.bold("It goes on, to look at")),
            format!("  the game         http://{gate}/"),
            format!("  its news         http://{gate}/_entracte/news/"),
            format!("  the dashboard    http://{dashboard}/"),
            format!("  its folders      {dir}"),
            format!("  try              cd {dir} && entracte status"),
            "  mend 1.2         ask for charms, not charm, in dev/rules.json; put 1.3.0 into"
                .into(),
            "                   dev/version.txt; entracte deploy 1.3".into(),
            format!("{} ends it; the folders stay.", paint.bold("Ctrl-C")),
        ];
        for line in lines {
            // With --json the one line on standard output is the report.
            match wishes.json {
                true => out::note(line),
                false => out::log(line),
            }
        }
        while !stop.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(POLL_MS));
        }
    }
}

fn expect(args: &[&str], ended: &processes::Ended, expected: Exit) -> Result<(), Failure> {
    if ended.code == Some(expected as i32) {
        return Ok(());
    }
    let code = ended.code.map_or("by a signal".to_owned(), |code| format!("with {code}"));
    Err(Failure::broken(format!(
        "`entracte {}` ended {code}, not with {}: {}",
        args.join(" "),
        expected as i32,
        ended.last
    )))
}
