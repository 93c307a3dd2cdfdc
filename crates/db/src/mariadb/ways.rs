//! What each way to a rollback point would have to move on this server.

use std::path::Path;

use entracte_model::way::{Offer, Way};

use super::connect;
use super::definitions::{self, Table};
use super::rights::Rights;
use super::{point_binlog, point_files};
use crate::error::DbError;
use crate::files::{free_bytes, shares_blocks};
use crate::settings::MariadbSettings;

/// What a game changes between the copying and the window: a hundredth, and what every game does.
const CHANGED_SHARE: u64 = 100;
const CHANGED_BYTES: u64 = 4 << 20;

pub(super) fn offers(settings: &MariadbSettings, dir: &Path) -> Result<Vec<Offer>, DbError> {
    let mut server = connect::admin(settings)?;
    let tables = definitions::tables(&mut server)?;
    let rights = Rights::read(&mut server, &settings.database)?;
    let total: u64 = tables.iter().map(|table| table.bytes).sum();
    let changed = total.min(total / CHANGED_SHARE + CHANGED_BYTES);
    let free_bytes = free_bytes(dir);
    let offer = |way, obstacle, ahead_bytes, window_bytes| Offer {
        way,
        obstacle,
        ahead_bytes,
        read_bytes: 0,
        window_bytes,
        back_bytes: total,
        disk_bytes: total,
        free_bytes,
    };
    let mut files = offer(Way::Files, None, total, changed);
    match point_files::possible(&mut server, settings, &rights)? {
        Err(why) => files.obstacle = Some(why),
        Ok(data_dir) => {
            let dumped = point_files::without_files(&mut server, &tables)?;
            let bytes_of = |table: &&Table| dumped.contains_key(&table.name);
            let dumped_bytes: u64 = tables.iter().filter(bytes_of).map(|table| table.bytes).sum();
            if !tables.is_empty() && dumped.len() == tables.len() {
                files.obstacle = Some("no table can be had as a file".to_owned());
            }
            let exists = dir.ancestors().find(|path| path.is_dir());
            if let Some(place) = exists
                && shares_blocks(&data_dir, place).unwrap_or(false)
            {
                (files.ahead_bytes, files.window_bytes) = (0, 0);
                files.disk_bytes = dumped_bytes + changed;
            } else {
                files.read_bytes = total;
            }
            files.window_bytes += dumped_bytes;
        }
    }
    let logged = point_binlog::obstacle(&mut server, settings, &rights, &tables)?;
    Ok(vec![files, offer(Way::Binlog, logged, total, changed), offer(Way::Dump, None, 0, total)])
}
