//! `entracte rollback`: back to the version before, its price stated first.

use std::io::{BufRead, IsTerminal, Write};

use entracte_gate::control::Client;
use entracte_model::plan::ReleaseId;
use entracte_model::time::human_ms;
use entracte_release::clock::now;
use entracte_release::{Store, Target, planner};
use serde_json::json;

use super::deploy::nothing_under_way;
use super::{App, follow};
use crate::exit::{Exit, Failure};

/// Go back to the version before, with or without the data
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte rollback                 (the files; what players did since stays)
  entracte rollback --with-data     (files and database: what was played since is lost)
  entracte rollback --dry-run       (the plan and its price)")]
pub struct Args {
    /// The release to undo; it must be the one that production holds
    release: Option<ReleaseId>,
    /// Bring the database back to where it was, too: what was played since is lost
    #[arg(long)]
    with_data: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Show the plan and its price, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let (config, target, mut store) = app.production()?;
    nothing_under_way(&store, &target)?;
    let plan = planner::rollback(&target, &store, args.release, args.with_data)
        .map_err(|error| Failure { exit: Exit::Refused, ..Failure::from(error) })?;
    let price = price(&target, &store, args.with_data)?;
    if args.dry_run {
        let text = format!("{}\n{}", super::plan::render(app, &plan), price.text);
        app.print(text, &json!({ "plan": plan, "price": price.value }));
        return Ok(Exit::Done);
    }
    confirm(app, args, &plan.to.version.to_string(), &price)?;
    store.create_release(&plan, now(), None)?;
    let runner = follow::start(&config, &target, plan.id, &[])?;
    follow::follow(app, &target, plan.id, Some(runner))
}

struct Price {
    text: String,
    value: serde_json::Value,
}

/// What going back costs: how long players have been playing the new version, and how many.
fn price(target: &Target, store: &Store, with_data: bool) -> Result<Price, Failure> {
    let since = store.production()?.map_or(now(), |production| production.since);
    let played_ms = now().since(since);
    // A gate that is down cannot say who played; the price then names the time alone.
    let bins = Client::new(&target.gate_socket).bins(since, now()).unwrap_or_default();
    let requests: u64 = bins.iter().map(|bin| bin.requests).sum();
    let players = bins.iter().map(|bin| bin.sessions).max().unwrap_or(0);
    let text = match with_data {
        true => format!(
            "Price: {} of play since {} is lost ({requests} requests, up to {players} players at a time).",
            human_ms(played_ms),
            crate::report::local(since)
        ),
        false => "Price: none in data; files go back, what players did since stays.".to_owned(),
    };
    let value = json!({
        "with_data": with_data, "since": since, "played_ms": played_ms,
        "requests": requests, "players": players,
    });
    Ok(Price { text, value })
}

fn confirm(app: &App, args: &Args, version: &str, price: &Price) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || app.global.json {
        return Err(Failure::usage("nobody is there to be asked").hint("add --yes"));
    }
    anstream::println!("{}", price.text);
    anstream::print!("Go back to {version}? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" | "o" | "oui" => Ok(()),
        _ => Err(Failure::refused("nothing was changed")),
    }
}
