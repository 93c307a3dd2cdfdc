//! Forgotten SQL: production's schema with the scripts run on it, against development's; and the
//! rows of the seed tables.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use entracte_db::compare::{self, Proposal};
use entracte_db::scratch::{self, Scratch};
use entracte_db::{DbError, Nowhere, Script, Settings};
use entracte_model::journal::Fault;
use entracte_model::schema::{Difference, RowDifference, SeedTable, Snapshot};
use serde::{Deserialize, Serialize};

use crate::fault::{Doing, broken, refused};

/// What production is to become: what development has. It can travel to where production is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Its schema.
    pub schema: Snapshot,
    /// The tables whose rows are compared, too, as far as it has them.
    pub seeds: Vec<SeedTable>,
}

impl Wanted {
    /// Reads it from development's database, which is only read.
    pub fn read(development: &Settings, seed_tables: &[String]) -> Result<Self, Fault> {
        let schema = compare::snapshot(development).doing("reading development's schema")?;
        let seeds = compare::seed_tables(development, seed_tables)
            .doing("reading development's seed tables")?;
        Ok(Self { schema, seeds })
    }
}

/// What is compared with what.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'a> {
    /// Production, which is only read.
    pub production: &'a Settings,
    /// What development has.
    pub wanted: &'a Wanted,
    /// The scripts that production has not had.
    pub scripts: &'a [Script],
    /// Tables whose rows are compared, too.
    pub seed_tables: &'a [String],
    /// A folder for a private instance.
    pub dir: &'a Path,
}

/// What development has and production, with the scripts run, would not; and the other way round.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drift {
    /// Objects.
    pub objects: Vec<Difference>,
    /// Rows of seed tables.
    pub rows: Vec<RowDifference>,
    /// What is not compared, in words.
    pub uncovered: Vec<String>,
    /// How the private instance differs from production, where that may matter.
    pub notes: Vec<String>,
}

impl Drift {
    /// How many things differ.
    pub fn len(&self) -> usize {
        self.objects.len() + self.rows.len()
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What would mend a drift, and what came of trying it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mended {
    /// The statements, in an order in which they ran on a copy of production.
    pub proposal: Proposal,
    /// What still differs after those of them that are proposed to be run.
    pub left: usize,
    /// Why those that are proposed to be run do not run by themselves, where they do not.
    pub fails: Option<String>,
}

/// A private instance that is as production will be, and what it is compared with.
struct Bench<'a> {
    sides: Sides<'a>,
    instance: Scratch,
}

/// Compares.
pub fn look(sides: Sides<'_>) -> Result<Drift, Fault> {
    Bench::set_up(sides)?.drift()
}

/// Compares, and looks for statements that make production into development. Those that lose data
/// are among them; unless `drops`, they are proposed to be read and not to be run.
pub fn mend(sides: Sides<'_>, drops: bool) -> Result<(Drift, Mended), Fault> {
    let bench = Bench::set_up(sides)?;
    let drift = bench.drift()?;
    if drift.is_empty() {
        return Ok((drift, Mended::default()));
    }
    let copy = bench.instance.settings();
    let Wanted { schema, seeds } = sides.wanted;
    let proposal =
        compare::propose(copy, schema, seeds).doing("looking for statements that mend it")?;
    // Once more from the beginning, as it would run.
    bench.prepare()?;
    let run: Vec<&str> = proposal
        .steps
        .iter()
        .filter(|step| drops || step.loses.is_none())
        .map(|step| step.sql.as_str())
        .collect();
    let script = Script::held("proposal", run.join("\n"));
    let fails = bench.run(&[script]).err().map(|error| crate::fault::chain(&error));
    let left = bench.drift()?.len();
    Ok((drift, Mended { proposal, left, fails }))
}

impl<'a> Bench<'a> {
    fn set_up(sides: Sides<'a>) -> Result<Self, Fault> {
        let instance =
            scratch::start(sides.production, sides.dir).doing("starting a private database")?;
        let bench = Self { sides, instance };
        bench.prepare()?;
        Ok(bench)
    }

    /// Makes the instance what production will be. Rows of players are copied only where a script
    /// does not run without them.
    fn prepare(&self) -> Result<(), Fault> {
        let Sides { production, scripts, seed_tables, .. } = self.sides;
        let copy = self.instance.settings();
        compare::copy_definitions(production, copy, seed_tables)
            .doing("copying production's schema")?;
        if self.run(scripts).is_ok() {
            return Ok(());
        }
        self.copy_everything()?;
        self.run(scripts)
            .map_err(|error| broken("the scripts fail on a copy of production", &error))
    }

    fn copy_everything(&self) -> Result<(), Fault> {
        let settings = self.instance.settings();
        let mut copy = entracte_db::open(settings).doing("opening the private database")?;
        let mut live = entracte_db::open(self.sides.production)
            .doing("connecting to production's database")?;
        let (mut reader, mut writer) = std::io::pipe().doing("making a pipe")?;
        std::thread::scope(|scope| {
            let dumped = scope.spawn(move || live.dump(&mut writer, &mut |_| {}));
            let loaded = copy.load(&mut reader, &mut |_| {}).doing("copying production");
            // A loader that failed leaves a writer behind that waits for a reader.
            drop(reader);
            let dumped = dumped.join().map_err(|_| refused("the dump died"))?;
            dumped.doing("reading production").and(loaded)
        })
    }

    fn run(&self, scripts: &[Script]) -> Result<(), DbError> {
        let mut copy = entracte_db::open(self.instance.settings())?;
        let stop = AtomicBool::new(false);
        copy.run_scripts(scripts, &mut Nowhere, &stop, &mut |_| {}).map(drop)
    }

    fn drift(&self) -> Result<Drift, Fault> {
        let copy = self.instance.settings();
        let there = compare::snapshot(copy).doing("reading the copy's schema")?;
        let found = compare::seed_tables(copy, self.sides.seed_tables)
            .doing("reading the copy's seed tables")?;
        let mut rows = Vec::new();
        for name in self.sides.seed_tables {
            let find =
                |tables: &'_ [SeedTable]| tables.iter().find(|table| table.name == *name).cloned();
            let empty = |table: &SeedTable| SeedTable { rows: Vec::new(), ..table.clone() };
            match (find(&self.sides.wanted.seeds), find(&found)) {
                (Some(wanted), Some(found)) => rows.extend(wanted.differences(&found)),
                // A table that is yet to be made, or that goes: its rows are part of that.
                (Some(wanted), None) => rows.extend(wanted.differences(&empty(&wanted))),
                (None, Some(_)) => {}
                (None, None) => {
                    let said = format!("there is no table {name} on either side");
                    return Err(refused(said).hint("mend `development.seed_tables`"));
                }
            }
        }
        Ok(Drift {
            // Development is the model: what it has and production would lack was forgotten.
            objects: self.sides.wanted.schema.differences(&there),
            rows,
            uncovered: self.sides.wanted.schema.uncovered.clone(),
            notes: self.instance.notes().to_vec(),
        })
    }
}
