//! What a scratch server takes over from the live one.

use super::connect::{self, Server, column, ident, literal};
use super::properties;
use crate::error::DbError;
use crate::settings::PostgresSettings;

/// What dumps and scripts may depend on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Goal {
    version: String,
    encoding: String,
    collate: String,
    ctype: String,
    accounts: Vec<String>,
    properties: Vec<String>,
    is_superuser: bool,
}

/// Asks the live server for its defaults.
pub(crate) fn live_goal(live: &PostgresSettings) -> Result<Goal, DbError> {
    const DOING: &str = "reading the server's defaults";
    let mut server = connect::admin(live)?;
    let sql = "SELECT pg_encoding_to_char(encoding), datcollate, datctype
               FROM pg_database WHERE datname = current_database()";
    let row = server.rows_for(sql, DOING)?.into_iter().next().unwrap_or_default();
    let accounts = "SELECT rolname FROM pg_roles WHERE rolname NOT LIKE 'pg\\_%'";
    Ok(Goal {
        version: server.text_for("SHOW server_version", DOING)?,
        encoding: column(&row, 0),
        collate: column(&row, 1),
        ctype: column(&row, 2),
        accounts: server.list_for(accounts, DOING)?,
        properties: properties::of_database(&mut server, live)?,
        is_superuser: super::rights::Rights::read(&mut server)?.superuser,
    })
}

/// Makes the empty database on a scratch server, and says how the server differs.
pub(crate) fn prepare(scratch: &PostgresSettings, goal: &Goal) -> Result<Vec<String>, DbError> {
    const DOING: &str = "preparing the scratch server";
    let mut server = connect::outside(scratch)?;
    let there: Vec<String> = server.list_for("SELECT rolname FROM pg_roles", DOING)?;
    for account in goal.accounts.iter().filter(|name| !there.contains(name)) {
        server.run_for(&format!("CREATE ROLE {} NOLOGIN", ident(account)), DOING)?;
    }
    let mut notes = Vec::new();
    create(&mut server, scratch, goal, &mut notes)?;
    for sql in &goal.properties {
        // A setting of an extension that is not installed here.
        if let Err(error) = server.run_for(sql, DOING) {
            notes.push(format!("{error}: {sql}"));
        }
    }
    let version = server.text_for("SHOW server_version", DOING)?;
    let number = |text: &str| text.split(' ').next().unwrap_or("").to_owned();
    if !goal.version.is_empty() && number(&goal.version) != number(&version) {
        notes.push(format!("the live server is {}, the scratch server {version}", goal.version));
    }
    if !goal.version.is_empty() && !goal.is_superuser {
        notes.push(
            "scripts run as a superuser here, with more rights than on the live server".into(),
        );
    }
    Ok(notes)
}

fn create(
    server: &mut Server,
    scratch: &PostgresSettings,
    goal: &Goal,
    notes: &mut Vec<String>,
) -> Result<(), DbError> {
    const DOING: &str = "creating the scratch database";
    let name = ident(&scratch.database);
    let there =
        format!("SELECT count(*) FROM pg_database WHERE datname = {}", literal(&scratch.database));
    if server.text_for(&there, DOING)? == "1" {
        return Ok(());
    }
    if !goal.encoding.is_empty() {
        let exact = format!(
            "CREATE DATABASE {name} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
            literal(&goal.encoding),
            literal(&goal.collate),
            literal(&goal.ctype)
        );
        match server.run_for(&exact, DOING) {
            Ok(_) => return Ok(()),
            Err(error) => notes.push(format!(
                "the live database's encoding or collation ({}, {}) is missing here: {error}",
                goal.encoding, goal.collate
            )),
        }
    }
    server.run_for(&format!("CREATE DATABASE {name} TEMPLATE template0"), DOING).map(drop)
}
