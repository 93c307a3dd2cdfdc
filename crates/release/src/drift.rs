//! Forgotten SQL: production's schema with the scripts run on it, against development's.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use entracte_db::{Script, Settings, scratch};
use entracte_model::journal::Fault;
use entracte_model::schema::Difference;

use crate::fault::{Doing, broken};
use crate::rehearse::Nowhere;

/// What differs in the development database from production with `scripts` run on it.
///
/// Production is copied into a private instance in `dir`; nothing is written to either side.
pub fn differences(
    production: &Settings,
    development: &Settings,
    scripts: &[Script],
    dir: &Path,
) -> Result<Vec<Difference>, Fault> {
    let instance = scratch::start(production, dir).doing("starting a private database")?;
    let mut copy = entracte_db::open(instance.settings()).doing("opening the private database")?;
    let mut live = entracte_db::open(production).doing("connecting to production's database")?;
    let (mut reader, mut writer) = std::io::pipe().doing("making a pipe")?;
    std::thread::scope(|scope| {
        let dumped = scope.spawn(move || live.dump(&mut writer, &mut |_| {}));
        let loaded = copy.load(&mut reader, &mut |_| {}).doing("copying production");
        drop(reader);
        let dumped = dumped.join().map_err(|_| crate::fault::refused("the dump died"))?;
        dumped.doing("reading production").and(loaded)
    })?;
    copy.run_scripts(scripts, &mut Nowhere, &AtomicBool::new(false), &mut |_| {})
        .map_err(|error| broken("the scripts fail on a copy of production", &error))?;
    let expected = copy.schema().doing("reading the copy's schema")?;
    let found = entracte_db::open(development)
        .and_then(|mut development| development.schema())
        .doing("reading development's schema")?;
    // Development is the model: what it has and production would lack was forgotten.
    Ok(found.differences(&expected))
}
