//! The point as a dump of the tables, where their files are out of reach. Everything that is no
//! table comes from the definitions beside it, as in the other way.

use std::fs::File;
use std::path::Path;

use super::connect::literal;
use super::definitions::Definitions;
use super::dump::{self, Scope};
use super::point::client_lock_name;
use crate::database::Progress;
use crate::error::DbError;
use crate::files::{private_file, sync_dir};
use crate::settings::MariadbSettings;

const DUMP: &str = "dump.sql";

/// Dumps every table. The size in bytes.
pub(super) fn take(
    settings: &MariadbSettings,
    definitions: &Definitions,
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, DbError> {
    let path = dir.join(DUMP);
    let mut file = private_file(&path)?;
    let bytes = if definitions.tables.is_empty() {
        0
    } else {
        dump::write(settings, definitions, Scope::TablesOnly, &mut file, progress)?
    };
    file.sync_all().map_err(DbError::io("sync", &path))?;
    sync_dir(dir)?;
    Ok(bytes)
}

/// Loads the dump into the emptied database.
pub(super) fn restore(
    settings: &MariadbSettings,
    definitions: &Definitions,
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DbError> {
    if definitions.tables.is_empty() {
        return Ok(());
    }
    let path = dir.join(DUMP);
    let mut file = File::open(&path).map_err(DbError::io("open", &path))?;
    let total = file.metadata().map_err(DbError::io("look at", &path))?.len();
    // Found and ended by a later restore, should our process die while the client works.
    let first = format!("DO GET_LOCK({}, 0)", literal(&client_lock_name(settings)));
    dump::read(settings, &mut file, Some(total), Some(&first), progress)
}
