//! What a scratch server takes over from the live one.

use super::connect::{self, account, column, ident, plain};
use crate::error::DbError;
use crate::settings::MariadbSettings;

/// The defaults that scripts may depend on.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScratchGoal {
    version: String,
    variables: Vec<(&'static str, String)>,
    database_charset: String,
    database_collation: String,
    definers: Vec<String>,
}

const VARIABLES: [&str; 7] = [
    "sql_mode",
    "character_set_server",
    "collation_server",
    "lower_case_table_names",
    "default_storage_engine",
    "innodb_strict_mode",
    "explicit_defaults_for_timestamp",
];

/// The accounts with whose rights programs run: without them a view cannot even be made.
const DEFINERS: &str = "
    SELECT DEFINER FROM information_schema.VIEWS WHERE TABLE_SCHEMA = DATABASE()
    UNION SELECT DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE()
    UNION SELECT DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()
    UNION SELECT DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE()";

impl ScratchGoal {
    /// The options of the server program.
    pub(crate) fn options(&self) -> Vec<String> {
        self.variables
            .iter()
            .map(|(name, value)| format!("--{}={value}", name.replace('_', "-")))
            .collect()
    }
}

/// Asks the live server for its defaults.
pub(crate) fn live_goal(live: &MariadbSettings) -> Result<ScratchGoal, DbError> {
    const DOING: &str = "reading the server's defaults";
    let mut server = plain(live)?;
    let mut goal = ScratchGoal {
        version: server.text_for("SELECT VERSION()", DOING)?,
        ..ScratchGoal::default()
    };
    for name in VARIABLES {
        let value = server.text_for(&format!("SELECT @@GLOBAL.{name}"), DOING)?;
        goal.variables.push((name, value));
    }
    let sql = "SELECT @@character_set_database, @@collation_database";
    if let Some(row) = server.rows_for(sql, DOING)?.first() {
        goal.database_charset = column(row, 0);
        goal.database_collation = column(row, 1);
    }
    for row in server.rows_for(DEFINERS, DOING)? {
        goal.definers.push(column(&row, 0));
    }
    Ok(goal)
}

/// Makes the empty database on a scratch server, and says how the server differs.
pub(crate) fn prepare_scratch(
    scratch: &MariadbSettings,
    goal: &ScratchGoal,
) -> Result<Vec<String>, DbError> {
    const DOING: &str = "preparing the scratch server";
    // There is no database to enter yet.
    let outside = MariadbSettings { database: String::new(), ..scratch.clone() };
    let mut server = connect::plain(&outside)?;
    let mut create = format!("CREATE DATABASE IF NOT EXISTS {}", ident(&scratch.database));
    if !goal.database_charset.is_empty() {
        create += &format!(
            " CHARACTER SET {} COLLATE {}",
            goal.database_charset, goal.database_collation
        );
    }
    server.run_for(&create, DOING)?;
    for definer in &goal.definers {
        let name = account(definer);
        let create = format!("CREATE USER IF NOT EXISTS {name} ACCOUNT LOCK");
        server.run_for(&create, DOING)?;
        let database = ident(&scratch.database);
        server.run_for(&format!("GRANT ALL ON {database}.* TO {name}"), DOING)?;
    }
    let version = server.text_for("SELECT VERSION()", DOING)?;
    let number = |text: &str| text.split('-').next().unwrap_or("").to_owned();
    if goal.version.is_empty() || number(&goal.version) == number(&version) {
        return Ok(Vec::new());
    }
    Ok(vec![format!("the live server is {}, the scratch server {version}", goal.version)])
}
