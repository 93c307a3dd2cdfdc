//! What each way to a rollback point would have to move on this server.

use std::path::{Path, PathBuf};

use entracte_model::way::{Offer, Way, Wish};

use super::connect::{self, Server};
use super::point;
use super::rights::Rights;
use crate::error::DbError;
use crate::files::free_bytes;
use crate::settings::PostgresSettings;

pub(super) fn offers(settings: &PostgresSettings, dir: &Path) -> Result<Vec<Offer>, DbError> {
    let mut server = connect::admin(settings)?;
    let size = "SELECT pg_database_size(current_database())";
    let total: u64 = server.text_for(size, "reading the size")?.parse().unwrap_or(0);
    let rights = Rights::read(&mut server)?;
    let obstacle = point::obstacle(&mut server, settings, &rights)?;
    let offer = |way, obstacle, disk_bytes, free_bytes| Offer {
        way,
        obstacle,
        ahead_bytes: 0,
        read_bytes: 0,
        window_bytes: total,
        back_bytes: total,
        disk_bytes,
        free_bytes,
    };
    let on_server = data_directory(&mut server, settings).ok().and_then(|dir| free_bytes(&dir));
    Ok(vec![
        // The way back clones the clone, which stays.
        offer(Way::Clone, obstacle, total * 2, on_server),
        offer(Way::Dump, None, total, free_bytes(dir)),
    ])
}

/// Where the server keeps its data, if that is on this machine; or why it cannot be looked at.
pub(super) fn data_directory(
    server: &mut Server,
    settings: &PostgresSettings,
) -> Result<PathBuf, String> {
    let local = match (&settings.socket_dir, settings.host.as_deref()) {
        (Some(_), _) | (None, None) => true,
        (None, Some(host)) => matches!(host, "localhost" | "127.0.0.1" | "::1"),
    };
    if !local {
        return Err("the server is another machine".to_owned());
    }
    let dir = server.text("SHOW data_directory").map(PathBuf::from).map_err(|_| {
        let user = &settings.user;
        format!("the server does not say where its data is: GRANT pg_read_all_settings TO {user}")
    })?;
    match dir.exists() {
        true => Ok(dir),
        false => Err(format!("{} cannot be seen from here", dir.display())),
    }
}

/// Has the server write what it changed while the game runs: the clone does the same inside the
/// window, and finds little left. Nothing where our account may not, or a clone is not wished for.
pub(super) fn checkpoint(settings: &PostgresSettings, wish: Wish) -> Result<Option<u64>, DbError> {
    if !wish.allows(Way::Clone) {
        return Ok(None);
    }
    let mut server = connect::admin(settings)?;
    let sql = "SELECT 1 FROM pg_roles r WHERE r.rolname = current_user AND (r.rolsuper OR
               EXISTS (SELECT 1 FROM pg_roles c WHERE c.rolname = 'pg_checkpoint'
                       AND pg_has_role(r.oid, c.oid, 'USAGE')))";
    if server.rows_for(sql, "reading our rights")?.is_empty() {
        return Ok(None);
    }
    server.run_for("CHECKPOINT", "having the server write its changes")?;
    Ok(Some(0))
}
