//! `entracte rollback`: back to the version before, its price stated first.

use entracte_model::plan::{Plan, ReleaseId, Source};
use entracte_model::time::human_ms;
use entracte_release::clock::now;
use entracte_release::{Store, Target, planner};
use serde_json::json;

use super::deploy::{agreed, nothing_under_way, somebody_to_ask};
use super::{App, follow};
use crate::exit::{Exit, Failure};
use crate::report::out;

/// Go back to the version before, with or without the data
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte rollback                 (the files; what players did since stays)
  entracte rollback --with-data     (files and database: what was played since is lost)
  entracte rollback --dry-run       (the plan and its price)")]
pub struct Args {
    /// The release to undo; it must be the one that production holds
    pub release: Option<ReleaseId>,
    /// Bring the database back to where it was, too: what was played since is lost
    #[arg(long)]
    pub with_data: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Show the plan and its price, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Start it and do not follow it
    #[arg(long)]
    pub detach: bool,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let (config, target, mut store) = app.production()?;
    nothing_under_way(&mut store, &target)?;
    let plan = planner::rollback(&target, &store, args.release, args.with_data)
        .map_err(|error| Failure { exit: Exit::Refused, ..Failure::from(error) })?;
    if args.with_data {
        point_there(&target, &plan)?;
    }
    let price = price(&target, &store, &plan)?;
    if args.dry_run {
        let text = format!("{}\n{}", super::plan::render(app, &plan), price.text);
        app.print(
            text,
            &json!({ "plan": plan, "price": price.value, "price_in_words": price.text }),
        );
        return Ok(Exit::Done);
    }
    confirm(app, args, &plan, &price.text)?;
    store.create_release(&plan, now(), None)?;
    let runner = follow::start(&config, &target, plan.id, &[])?;
    if args.detach {
        return follow::detached(app, &target, plan.id, runner);
    }
    follow::follow(app, &target, plan.id, Some(runner))
}

struct Price {
    text: String,
    value: serde_json::Value,
}

/// Data comes back from the point that was taken in the closed window, which a release without
/// scripts does not need and does not take.
fn point_there(target: &Target, plan: &Plan) -> Result<(), Failure> {
    let Source::Kept { undoes, .. } = &plan.source else { return Ok(()) };
    if target.point(*undoes).exists() {
        return Ok(());
    }
    let message =
        format!("{undoes} left no rollback point: it ran no scripts, or retention gave it up");
    Err(Failure::refused(message).hint(
        "without --with-data the files go back and the data stays; an older state of the data is \
         in the backups: `entracte backup list`",
    ))
}

/// What going back costs: how long players have been playing the new version, and how many; or
/// what stays of the new version in the database.
fn price(target: &Target, store: &Store, plan: &Plan) -> Result<Price, Failure> {
    let (with_data, scripts) = match &plan.source {
        Source::Kept { undoes, with_data } => (*with_data, store.release(*undoes)?.plan.scripts),
        Source::Package { .. } => (false, vec![]),
    };
    let since = store.production()?.map_or(now(), |production| production.since);
    let played_ms = now().since(since);
    // A gate that is down cannot say who played; the price then names the time alone.
    let bins = entracte_release::front::driver(target).bins(since, now()).unwrap_or_default();
    let requests: u64 = bins.iter().map(|bin| bin.requests).sum();
    let players = bins.iter().map(|bin| bin.sessions).max().unwrap_or(0);
    let text = match with_data {
        true => format!(
            "Price: {} of play since {} is lost ({requests} requests, up to {players} players at a \
             time).\nIt stays in the backup that this rollback takes first: `entracte backup list`.",
            human_ms(played_ms),
            crate::report::local(since)
        ),
        false if scripts.is_empty() => {
            "Price: none in data; files go back, what players did since stays.".to_owned()
        }
        false => format!(
            "Price: none in data; files go back, what players did since stays, and so does what \
             these scripts did:\n  {}\nThe old files must be able to live with that.",
            scripts.join(", ")
        ),
    };
    let value = json!({
        "with_data": with_data, "since": since, "played_ms": played_ms,
        "requests": requests, "players": players, "scripts_that_stay": if with_data { vec![] } else { scripts },
    });
    Ok(Price { text, value })
}

/// Asks whether to go back, the price being said first.
pub fn confirm(app: &App, args: &Args, plan: &Plan, price: &str) -> Result<(), Failure> {
    if args.yes {
        // For programs there is one document, and it comes later.
        if !args.detach {
            app.say(price);
        }
        return Ok(());
    }
    somebody_to_ask(app)?;
    out::line(format!("{}\n{price}", super::plan::render(app, plan)));
    match agreed(&format!("Go back to {}?", plan.to.version))? {
        true => Ok(()),
        false => Err(Failure::refused("not gone back; nothing was changed")),
    }
}
