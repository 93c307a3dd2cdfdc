//! What belongs to a database and lies outside of it: its owner, its grants, its settings, its
//! comment. A clone has none of them.

use super::connect::{Server, column, ident, literal};
use crate::error::DbError;
use crate::settings::PostgresSettings;

/// Settings that are lists of names, kept by the server as they are written.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// The properties as statements that set them on a new database of the same name.
pub(super) fn of_database(
    server: &mut Server,
    settings: &PostgresSettings,
) -> Result<Vec<String>, DbError> {
    const DOING: &str = "reading the database's properties";
    let name = ident(&settings.database);
    let this = format!("d.datname = {}", literal(&settings.database));
    let sql = format!(
        "SELECT quote_ident(pg_get_userbyid(d.datdba)), d.datconnlimit, d.datallowconn,
           d.datacl IS NOT NULL, coalesce(shobj_description(d.oid, 'pg_database'), '')
         FROM pg_database d WHERE {this}"
    );
    let row = server.rows_for(&sql, DOING)?.into_iter().next().unwrap_or_default();
    let mut found = vec![
        format!("ALTER DATABASE {name} OWNER TO {}", column(&row, 0)),
        format!("ALTER DATABASE {name} CONNECTION LIMIT {}", column(&row, 1)),
    ];
    if column(&row, 3) == "t" {
        found.push(format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"));
        found.push(format!("REVOKE ALL ON DATABASE {name} FROM {}", column(&row, 0)));
        let grants = format!(
            "SELECT a.privilege_type, CASE WHEN a.grantee = 0 THEN 'PUBLIC'
               ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
               CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
             FROM pg_database d, aclexplode(d.datacl) a WHERE {this} ORDER BY 2, 1"
        );
        for grant in server.rows_for(&grants, DOING)? {
            found.push(format!(
                "GRANT {} ON DATABASE {name} TO {}{}",
                column(&grant, 0),
                column(&grant, 1),
                column(&grant, 2)
            ));
        }
    }
    let comment = column(&row, 4);
    if !comment.is_empty() {
        found.push(format!("COMMENT ON DATABASE {name} IS {}", literal(&comment)));
    }
    let sql = format!(
        "SELECT coalesce(quote_ident(pg_get_userbyid(nullif(s.setrole, 0))), ''), u.line
         FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase,
           unnest(s.setconfig) AS u(line) WHERE {this} ORDER BY 1, 2"
    );
    for row in server.rows_for(&sql, DOING)? {
        let (role, line) = (column(&row, 0), column(&row, 1));
        let (key, value) = line.split_once('=').unwrap_or((&line, ""));
        let value = match value {
            "" => "''".to_owned(),
            _ if LISTS.contains(&key) => value.to_owned(),
            _ => literal(value),
        };
        let key = key.split('.').map(ident).collect::<Vec<_>>().join(".");
        found.push(match role.as_str() {
            "" => format!("ALTER DATABASE {name} SET {key} TO {value}"),
            role => format!("ALTER ROLE {role} IN DATABASE {name} SET {key} TO {value}"),
        });
    }
    Ok(found)
}

/// Why our account could not set the properties again; none where it can.
pub(super) fn beyond_us(
    server: &mut Server,
    settings: &PostgresSettings,
) -> Result<Option<String>, DbError> {
    const DOING: &str = "reading the database's properties";
    let this = literal(&settings.database);
    let sql = format!(
        "SELECT CASE
           WHEN NOT pg_has_role(d.datdba, 'USAGE') THEN 'the database belongs to another account'
           WHEN EXISTS (SELECT 1 FROM pg_db_role_setting s WHERE s.setdatabase = d.oid
             AND s.setrole <> 0) THEN 'accounts have settings of their own in it'
           WHEN EXISTS (SELECT 1 FROM pg_db_role_setting s, unnest(s.setconfig) AS u(line)
             LEFT JOIN pg_settings g ON g.name = split_part(u.line, '=', 1)
             WHERE s.setdatabase = d.oid AND coalesce(g.context, '') <> 'user')
             THEN 'it has settings that only a superuser may make'
           WHEN d.dattablespace <> (SELECT oid FROM pg_tablespace WHERE spcname = 'pg_default')
             THEN 'it lies in a tablespace of its own'
         END FROM pg_database d WHERE d.datname = {this}"
    );
    let why = server.text_for(&sql, DOING)?;
    Ok((!why.is_empty()).then_some(why))
}

/// Sets them, inside the transaction that the caller has begun.
pub(super) fn apply(server: &mut Server, properties: &[String]) -> Result<(), DbError> {
    for sql in properties {
        server.run_for(sql, "setting the database's properties")?;
    }
    Ok(())
}

/// Lets nobody into a clone, so that it stays what it is.
pub(super) fn close_to_others(server: &mut Server, clone: &str) -> Result<(), DbError> {
    let name = ident(clone);
    let sql = format!(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS false; REVOKE ALL ON DATABASE {name} FROM PUBLIC"
    );
    server.run_for(&sql, "closing the clone").map(drop)
}
