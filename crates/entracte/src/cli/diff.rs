//! `entracte diff`: forgotten SQL, and the statements that would mend it.

use entracte_db::Script;
use entracte_db::compare::Proposal;
use entracte_model::schema::{Difference, Step};
use entracte_release::Target;
use entracte_release::drift::{self, Drift, Mended, Sides, Wanted};
use serde_json::json;

use super::App;
use super::scripts;
use crate::config::Config;
use crate::exit::{Exit, Failure, of_fault};
use crate::remote::compare::Answer;
use crate::remote::{self, Asked, Question};
use crate::report::{Paint, out};

/// Compare development's database with production's after the scripts that wait
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte diff
  entracte diff --sql > SQL/012-what-was-forgotten.sql
  entracte diff --sql --allow-drops
  entracte diff --json | jq .objects

Production's schema is copied into a private database, the scripts run on it, and what development
has is compared with that. Ends with 0 where nothing differs (with --sql: where nothing would), and
with 3 where something does.")]
pub struct Args {
    /// Print the statements that would make production into development, tried on a private copy
    #[arg(long)]
    sql: bool,
    /// With --sql: do not comment out what loses tables, columns or rows
    #[arg(long, requires = "sql")]
    allow_drops: bool,
    /// List every line and every row that differs, however many there are
    #[arg(long)]
    all: bool,
}

/// Rows, and lines of one object, that are listed before the rest is only counted.
const SHOWN_MAX: usize = 20;

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let (config, target, store) = app.production()?;
    let (waiting, troubles) = scripts::look(&config, &store)?;
    if !troubles.is_empty() {
        let list: Vec<String> = troubles.iter().map(ToString::to_string).collect();
        return Err(Failure::refused(list.join("; ")).hint(troubles[0].hint()));
    }
    let waiting = scripts::read(waiting, &target.placeholders)?;
    let mend = args.sql.then_some(args.allow_drops);
    let Answer { drift, mended } = match compare(app, &config, &target, &waiting, mend)? {
        Some(Asked::Answered(answer)) => *answer,
        Some(Asked::Not(why)) => {
            return Err(Failure::refused(format!("the databases cannot be compared: {why}"))
                .hint("`entracte rehearse` runs the scripts on a copy there"));
        }
        None => {
            return Err(Failure::usage("there are no two databases to compare")
                .hint("[development.database] says where development's is"));
        }
    };
    if let Some(mended) = mended {
        return Ok(propose(app, args, &drift, &mended));
    }
    let names: Vec<&str> = waiting.iter().map(|script| script.name.as_str()).collect();
    let value = json!({
        "equal": drift.is_empty(), "scripts": names, "objects": drift.objects, "rows": drift.rows,
        "uncovered": drift.uncovered, "notes": drift.notes,
    });
    if drift.is_empty() {
        app.print(equal(app, &config, &drift), &value);
        return Ok(Exit::Done);
    }
    app.complain(text(app, args, &drift, waiting.len()), &value);
    Ok(Exit::Refused)
}

/// Compares development's database with production's, wherever that is; nothing where there are no
/// two. `mend` looks for statements that mend it, too, and says whether those that lose data are run.
pub fn compare(
    app: &App,
    config: &Config,
    target: &Target,
    waiting: &[Script],
    mend: Option<bool>,
) -> Result<Option<Asked>, Failure> {
    let configured = config.file.target.get(&target.environment);
    let has_one = configured.is_some_and(|production| production.database.is_some());
    let Some(development) = config.development_database()?.filter(|_| has_one) else {
        return Ok(None);
    };
    let fault = |fault| of_fault(&fault);
    let seed_tables = &config.file.development.seed_tables;
    let wanted = Wanted::read(&development, seed_tables).map_err(fault)?;
    let question = Question { wanted, seed_tables: seed_tables.clone(), scripts: vec![], mend };
    if let Some(asked) = remote::compare(app, config, &question, waiting)? {
        return Ok(Some(asked));
    }
    let Some(production) = target.database.as_ref() else { return Ok(None) };
    let dir = tempfile::tempdir()?;
    let wanted = &question.wanted;
    let sides = Sides { production, wanted, scripts: waiting, seed_tables, dir: dir.path() };
    let (drift, mended) = match mend {
        Some(drops) => {
            let (drift, mended) = drift::mend(sides, drops).map_err(fault)?;
            (drift, Some(mended))
        }
        None => (drift::look(sides).map_err(fault)?, None),
    };
    Ok(Some(Asked::Answered(Box::new(Answer { drift, mended }))))
}

fn equal(app: &App, config: &Config, drift: &Drift) -> String {
    let seeds = config.file.development.seed_tables.len();
    let seeds = match seeds {
        0 => String::new(),
        _ => format!(" and {}", out::count(seeds, "seed table")),
    };
    format!(
        "{} Production, with the scripts that wait, is what development is: schema{seeds}.\n{}",
        app.paint.good("Nothing is forgotten."),
        app.paint.dim(not_compared(drift)),
    )
}

fn not_compared(drift: &Drift) -> String {
    format!("Not compared: {}.", drift.uncovered.join("; "))
}

fn text(app: &App, args: &Args, drift: &Drift, scripts: usize) -> String {
    let paint = app.paint;
    let heading = format!(
        "Between development and production with {} that {}, {} {}:",
        out::count(scripts, "script"),
        if scripts == 1 { "waits" } else { "wait" },
        out::count(drift.len(), "thing"),
        if drift.len() == 1 { "differs" } else { "differ" }
    );
    let mut lines = vec![paint.bad(heading).to_string()];
    lines.extend(list(&paint, drift, if args.all { usize::MAX } else { SHOWN_MAX }));
    lines.extend(drift.notes.iter().map(|note| format!("  {} {note}", paint.warn("!"))));
    lines.push(paint.dim(not_compared(drift)).to_string());
    let hint = "`entracte diff --sql` proposes the statements; a rename is seen as one that goes and \
                another that comes.";
    lines.push(paint.dim(hint).to_string());
    lines.join("\n")
}

/// What differs: + is development's, - is production's.
pub fn list(paint: &Paint, drift: &Drift, shown_max: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for one in &drift.objects {
        let mark = |text: &str| paint.bad(text.to_owned()).to_string();
        let object = one.object();
        match one {
            Difference::Missing { .. } => {
                lines.push(format!("  {} {object}: forgotten", mark("✗")));
            }
            Difference::Extra { .. } => {
                lines.push(format!("  {} {object}: development does not have it", mark("✗")));
            }
            Difference::Changed { .. } => lines.push(format!("  {} {object}", mark("✗"))),
        }
        let (wanted, found) = one.lines();
        let wanted = wanted.iter().map(|line| format!("      {} {line}", paint.good("+")));
        let found = found.iter().map(|line| format!("      {} {line}", paint.bad("-")));
        let all: Vec<String> = wanted.chain(found).collect();
        lines.extend(bounded(&all, shown_max, "      "));
    }
    let rows: Vec<String> =
        drift.rows.iter().map(|row| format!("  {} {row}", paint.bad("✗"))).collect();
    lines.extend(bounded(&rows, shown_max, "  "));
    lines
}

fn bounded(all: &[String], shown_max: usize, indent: &str) -> Vec<String> {
    let mut lines: Vec<String> = all.iter().take(shown_max).cloned().collect();
    if all.len() > shown_max {
        lines.push(format!("{indent}… and {} more (entracte diff --all)", all.len() - shown_max));
    }
    lines
}

fn propose(app: &App, args: &Args, drift: &Drift, mended: &Mended) -> Exit {
    let proposal = &mended.proposal;
    let step = |step: &Step| {
        json!({ "sql": step.sql, "loses": step.loses, "warning": step.warning,
                "proposed": args.allow_drops || step.loses.is_none() })
    };
    let script = script(args, drift, mended);
    if app.global.json {
        let refused = proposal.refused.iter();
        let refused: Vec<_> =
            refused.map(|(step, error)| json!({ "sql": step.sql, "error": error })).collect();
        out::line(json!({
            "equal": drift.is_empty(), "sql": script, "left": mended.left, "fails": mended.fails,
            "steps": proposal.steps.iter().map(step).collect::<Vec<_>>(),
            "refused": refused, "uncovered": drift.uncovered,
        }));
    } else {
        out::bytes(script.as_bytes());
    }
    match mended.left == 0 && mended.fails.is_none() {
        true => Exit::Done,
        false => Exit::Refused,
    }
}

fn script(args: &Args, drift: &Drift, mended: &Mended) -> String {
    let mut lines = Vec::new();
    let mut say = |text: &str| lines.extend(text.lines().map(|line| format!("-- {line}")));
    if drift.is_empty() {
        say("Nothing differs: production, with the scripts that wait, is what development is.");
        return lines.join("\n") + "\n";
    }
    say(
        "What makes production, with the scripts that wait, into development, proposed by entracte.",
    );
    say(
        "Read it: a rename is seen as one that goes and another that comes. Where rows were renamed, \
         write the rename yourself.",
    );
    say(&not_compared(drift));
    match &mended.fails {
        None => say("It ran on a private copy of production without its players' rows."),
        Some(error) => say(&format!("It FAILS on a private copy of production: {error}")),
    }
    if mended.left > 0 {
        say(&format!("After it, {} still differ.", out::count(mended.left, "thing")));
    }
    let Proposal { steps, refused, .. } = &mended.proposal;
    for step in steps {
        lines.push(String::new());
        match &step.loses {
            Some(what) if args.allow_drops => lines.push(format!("-- LOSES {what}")),
            Some(what) => {
                let what = format!(
                    "-- WOULD LOSE {what}: left out. Take the dashes away if that is meant."
                );
                lines.push(what);
                lines.extend(step.sql.lines().map(|line| format!("-- {line}")));
                continue;
            }
            None => {}
        }
        lines.extend(step.warning.iter().map(|warning| format!("-- Note: {warning}.")));
        lines.push(step.sql.clone());
    }
    for (step, error) in refused {
        lines.push(String::new());
        lines.push(format!("-- Refused on a private copy, left out: {}", error.replace('\n', " ")));
        lines.extend(step.sql.lines().map(|line| format!("-- {line}")));
    }
    lines.join("\n") + "\n"
}
