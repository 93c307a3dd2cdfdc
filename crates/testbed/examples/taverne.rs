//! Starts the whole game on a free port, to be played and looked at: `taverne [version] [requests a second]`.
//! Ends, and tells how the players fared, when its standard input ends or a line is typed.

use std::io::{self, Write};

use entracte_testbed::players::{self, Load, Players};
use entracte_testbed::taverne::{Options, Taverne};

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let version = args.next().unwrap_or_else(|| "1.0".into());
    let rate: f64 = args.next().and_then(|rate| rate.parse().ok()).unwrap_or(0.0);
    let game = Taverne::start(&Options { version, ..Options::default() });
    let mut out = io::stdout();
    writeln!(out, "{}\n{}\n{:#?}", game.url, game.docroot.display(), game.database.defaults_file)?;
    let playing = match rate > 0.0 {
        true => Some(Players::start(&game.url, &Load::new(40, rate))?),
        false => None,
    };
    io::stdin().read_line(&mut String::new())?;
    if let Some(playing) = playing {
        let counts = playing.so_far();
        let played = playing.stop();
        let time = |percent| played.latencies.percentile_us(percent) / 1_000;
        writeln!(
            out,
            "{counts:?}\np50 {} ms, p99 {} ms, max {} ms",
            time(50),
            time(99),
            time(100)
        )?;
        writeln!(out, "longest gap {} ms, lost {:?}", played.longest_gap_ms, played.lost())?;
        let missing = players::missing(&mut game.connection(), &played.oks);
        writeln!(out, "{} actions answered ok, {} missing", played.oks.len(), missing.len())?;
    }
    Ok(())
}
