//! Everything in a database that is not rows: read so that it can be made again exactly.

use std::collections::BTreeSet;

use entracte_model::schema::{Kind, Object, Schema};
use serde::{Deserialize, Serialize};

use super::connect::{Row, Server, column, ident, number};
use super::exact_floats::quoted;
use crate::error::DbError;
use crate::history::HISTORY_TABLE;
use crate::script::{Engine, squeeze};

/// All definitions of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Definitions {
    pub(super) charset: String,
    pub(super) collation: String,
    pub(super) sequences: Vec<Sequence>,
    pub(super) tables: Vec<Table>,
    /// Views, routines, triggers and events, in an order in which they can be made.
    pub(super) programs: Vec<Program>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) engine: String,
    /// Has rows of the past that an ordinary copy leaves out.
    pub(super) versioned: bool,
    pub(super) options: String,
    pub(super) bytes: u64,
    pub(super) rows: u64,
    pub(super) auto_increment: Option<u64>,
    /// `CREATE TABLE ...`
    pub(super) create: String,
}

/// A sequence and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sequence {
    pub(super) name: String,
    pub(super) create: String,
    pub(super) next: String,
    pub(super) cycles: String,
}

/// What the server executes or expands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Program {
    /// `VIEW`, `PROCEDURE`, `FUNCTION`, `PACKAGE`, `PACKAGE BODY`, `TRIGGER` or `EVENT`.
    pub(super) kind: String,
    pub(super) name: String,
    /// A trigger's table.
    pub(super) table: Option<String>,
    pub(super) create: String,
    pub(super) definer: String,
    pub(super) sql_mode: Option<String>,
    pub(super) time_zone: Option<String>,
    pub(super) charset: String,
    pub(super) collation: String,
    pub(super) database_collation: Option<String>,
}

const DOING: &str = "reading the definitions";

impl Definitions {
    /// Reads all definitions of the current database.
    ///
    /// # Errors
    /// [`DbError::Privilege`] where the body of a routine is kept from us.
    pub(super) fn read(server: &mut Server) -> Result<Self, DbError> {
        let sql = "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME
                   FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = DATABASE()";
        let row = server.rows_for(sql, DOING)?.pop().unwrap_or_default();
        Ok(Self {
            charset: column(&row, 0),
            collation: column(&row, 1),
            sequences: sequences(server)?,
            tables: tables(server)?,
            programs: programs(server)?,
        })
    }

    /// The definitions without what differs between two servers by nature.
    pub(super) fn schema(&self) -> Schema {
        let mut schema = Schema::default();
        let mut add = |kind, name: String, text: String| {
            schema.objects.insert(Object { kind, name }, text);
        };
        for table in self.tables.iter().filter(|table| table.name != HISTORY_TABLE) {
            add(Kind::Table, table.name.clone(), without_next_value(&table.create));
        }
        for sequence in &self.sequences {
            add(Kind::Sequence, sequence.name.clone(), sequence.create.clone());
        }
        for program in &self.programs {
            let Object { kind, name } = program.object();
            add(kind, name, program.normalised());
        }
        schema
    }
}

impl Table {
    /// The FLOAT columns, which the server writes with six digits where nobody asks otherwise.
    pub(super) fn floats(&self) -> BTreeSet<String> {
        // The name may hold anything; a backtick in it stands twice.
        let columns = self.create.lines().filter_map(|line| quoted(line.strip_prefix("  ")?));
        let floats = columns.filter(|(_, behind)| behind.starts_with(" float"));
        floats.map(|(name, _)| name).collect()
    }
}

impl Program {
    /// What it is called in a comparison.
    pub(super) fn object(&self) -> Object {
        let kind = match self.kind.as_str() {
            "VIEW" => Kind::View,
            "TRIGGER" => Kind::Trigger,
            "EVENT" => Kind::Event,
            _ => Kind::Routine,
        };
        let name = match (&self.table, kind) {
            (Some(table), _) => format!("{table}.{}", self.name),
            // A procedure and a function may have the same name.
            (None, Kind::Routine) => format!("{} {}", self.kind.to_lowercase(), self.name),
            (None, _) => self.name.clone(),
        };
        Object { kind, name }
    }

    pub(super) fn normalised(&self) -> String {
        let text = squeeze(Engine::Mariadb, &self.create);
        let text = without_definer(&text);
        let text = if self.kind == "EVENT" { without_start(&text) } else { text };
        match &self.sql_mode {
            Some(mode) if !mode.is_empty() => format!("{text}\n-- sql_mode {mode}"),
            _ => text,
        }
    }
}

/// Tables in the order of their names.
pub(super) fn tables(server: &mut Server) -> Result<Vec<Table>, DbError> {
    let sql = "SELECT TABLE_NAME, COALESCE(ENGINE, ''), TABLE_TYPE, COALESCE(CREATE_OPTIONS, ''),
               COALESCE(DATA_LENGTH, 0) + COALESCE(INDEX_LENGTH, 0), COALESCE(TABLE_ROWS, 0),
               AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()
               AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY TABLE_NAME";
    let rows = server.rows_for(sql, DOING)?;
    rows.iter()
        .map(|row| {
            let name = column(row, 0);
            let create = show_create(server, "TABLE", &name)?;
            Ok(Table {
                create: column(&create, 1),
                name,
                engine: column(row, 1),
                versioned: column(row, 2) == "SYSTEM VERSIONED",
                options: column(row, 3),
                bytes: number(row, 4).unwrap_or(0),
                rows: number(row, 5).unwrap_or(0),
                auto_increment: number(row, 6),
            })
        })
        .collect()
}

pub(super) fn sequences(server: &mut Server) -> Result<Vec<Sequence>, DbError> {
    let sql = "SELECT TABLE_NAME FROM information_schema.TABLES
               WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE = 'SEQUENCE' ORDER BY TABLE_NAME";
    let rows = server.rows_for(sql, DOING)?;
    rows.iter()
        .map(|row| {
            let name = column(row, 0);
            let create = column(&show_create(server, "SEQUENCE", &name)?, 1);
            let sql = format!("SELECT next_not_cached_value, cycle_count FROM {}", ident(&name));
            let state = server.rows_for(&sql, DOING)?.pop().unwrap_or_default();
            Ok(Sequence { name, create, next: column(&state, 0), cycles: column(&state, 1) })
        })
        .collect()
}

/// Routines first (views may call them), then views, triggers in the order in which they fire,
/// events.
pub(super) fn programs(server: &mut Server) -> Result<Vec<Program>, DbError> {
    let mut found = Vec::new();
    let sql = "SELECT ROUTINE_TYPE, ROUTINE_NAME, DEFINER FROM information_schema.ROUTINES
               WHERE ROUTINE_SCHEMA = DATABASE() ORDER BY ROUTINE_TYPE DESC, ROUTINE_NAME";
    for row in server.rows_for(sql, DOING)? {
        let (kind, name) = (column(&row, 0), column(&row, 1));
        let shown = show_create(server, &kind, &name)?;
        if shown.get(2).cloned().flatten().is_none() {
            return Err(DbError::Privilege {
                missing: "SHOW CREATE ROUTINE (SELECT ON mysql.proc before MariaDB 11.3)".into(),
                needed_to: format!("read the {} {name}", kind.to_lowercase()),
                hint: format!("grant it, or enter as its definer {}", column(&row, 2)),
            });
        }
        found.push(Program {
            sql_mode: Some(column(&shown, 1)),
            create: column(&shown, 2),
            charset: column(&shown, 3),
            collation: column(&shown, 4),
            database_collation: Some(column(&shown, 5)),
            definer: column(&row, 2),
            time_zone: None,
            table: None,
            kind,
            name,
        });
    }
    found.extend(views(server)?);
    found.extend(triggers(server)?);
    found.extend(events(server)?);
    Ok(found)
}

fn views(server: &mut Server) -> Result<Vec<Program>, DbError> {
    let sql = "SELECT TABLE_NAME, DEFINER FROM information_schema.VIEWS
               WHERE TABLE_SCHEMA = DATABASE() ORDER BY TABLE_NAME";
    let rows = server.rows_for(sql, DOING)?;
    rows.iter()
        .map(|row| {
            let name = column(row, 0);
            let shown = show_create(server, "VIEW", &name)?;
            Ok(Program {
                kind: "VIEW".to_owned(),
                name,
                table: None,
                create: column(&shown, 1),
                definer: column(row, 1),
                sql_mode: None,
                time_zone: None,
                charset: column(&shown, 2),
                collation: column(&shown, 3),
                database_collation: None,
            })
        })
        .collect()
}

fn triggers(server: &mut Server) -> Result<Vec<Program>, DbError> {
    let sql = "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE, DEFINER FROM information_schema.TRIGGERS
               WHERE TRIGGER_SCHEMA = DATABASE() ORDER BY EVENT_OBJECT_TABLE, ACTION_TIMING,
               EVENT_MANIPULATION, ACTION_ORDER";
    let rows = server.rows_for(sql, DOING)?;
    rows.iter()
        .map(|row| {
            let name = column(row, 0);
            let shown = show_create(server, "TRIGGER", &name)?;
            Ok(Program {
                kind: "TRIGGER".to_owned(),
                name,
                table: Some(column(row, 1)),
                create: column(&shown, 2),
                definer: column(row, 2),
                sql_mode: Some(column(&shown, 1)),
                time_zone: None,
                charset: column(&shown, 3),
                collation: column(&shown, 4),
                database_collation: Some(column(&shown, 5)),
            })
        })
        .collect()
}

fn events(server: &mut Server) -> Result<Vec<Program>, DbError> {
    let sql = "SELECT EVENT_NAME, DEFINER FROM information_schema.EVENTS
               WHERE EVENT_SCHEMA = DATABASE() ORDER BY EVENT_NAME";
    let rows = server.rows_for(sql, DOING)?;
    rows.iter()
        .map(|row| {
            let name = column(row, 0);
            let shown = show_create(server, "EVENT", &name)?;
            Ok(Program {
                kind: "EVENT".to_owned(),
                name,
                table: None,
                create: column(&shown, 3),
                definer: column(row, 1),
                sql_mode: Some(column(&shown, 1)),
                time_zone: Some(column(&shown, 2)),
                charset: column(&shown, 4),
                collation: column(&shown, 5),
                database_collation: Some(column(&shown, 6)),
            })
        })
        .collect()
}

fn show_create(server: &mut Server, kind: &str, name: &str) -> Result<Row, DbError> {
    let sql = format!("SHOW CREATE {kind} {}", ident(name));
    let row = server.rows_for(&sql, &format!("reading the definition of {name}"))?.pop();
    Ok(row.unwrap_or_default())
}

/// `CREATE TABLE` without ` AUTO_INCREMENT=7`, which stands among the options behind the last
/// parenthesis.
pub(super) fn without_next_value(create: &str) -> String {
    const KEY: &str = " AUTO_INCREMENT=";
    let options = create.rfind("\n)").unwrap_or(0);
    let Some(at) = create[options..].find(KEY).map(|at| at + options) else {
        return create.to_owned();
    };
    let rest = &create[at + KEY.len()..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    format!("{}{}", &create[..at], &rest[digits..])
}

/// `CREATE DEFINER=`root`@`localhost` VIEW` without its definer.
pub(super) fn without_definer(create: &str) -> String {
    const KEY: &str = " DEFINER=";
    let head_bytes_max = 200.min(create.len());
    let Some(at) = create.find(KEY).filter(|at| *at < head_bytes_max) else {
        return create.to_owned();
    };
    let rest = &create[at + KEY.len()..];
    // Quoted names may hold spaces.
    let mut quoted = false;
    let end = rest.find(|c| {
        quoted ^= c == '`';
        c == ' ' && !quoted
    });
    format!("{}{}", &create[..at], &rest[end.unwrap_or(rest.len())..])
}

/// An event without the moment at which it began: the server fills that in at its creation.
fn without_start(create: &str) -> String {
    const KEY: &str = " STARTS '";
    let Some(at) = create.find(KEY) else { return create.to_owned() };
    let rest = &create[at + KEY.len()..];
    match rest.find('\'') {
        Some(end) => format!("{}{}", &create[..at], &rest[end + 1..]),
        None => create.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_type_float_are_seen() {
        let table = |columns: &str| Table {
            name: "t".to_owned(),
            engine: "InnoDB".to_owned(),
            versioned: false,
            options: String::new(),
            bytes: 0,
            rows: 0,
            auto_increment: None,
            create: format!("CREATE TABLE `t` (\n{columns}\n) ENGINE=InnoDB"),
        };
        let some = table("  `a``b` float(7,4) DEFAULT NULL,\n  `f` double,\n  KEY `k` (`a``b`)");
        assert_eq!(some.floats(), ["a`b".to_owned()].into());
        let none = table("  `x`` float` double DEFAULT 1 COMMENT '` float',\n  KEY `f` (`x`)");
        assert!(none.floats().is_empty());
    }

    #[test]
    fn what_differs_by_nature_is_left_out() {
        let table = "CREATE TABLE `t` (\n  `a` varchar(20) DEFAULT ' AUTO_INCREMENT=3'\n) \
                     ENGINE=InnoDB AUTO_INCREMENT=42 DEFAULT CHARSET=utf8mb4";
        let found = without_next_value(table);
        assert!(found.contains("' AUTO_INCREMENT=3'") && found.contains("InnoDB DEFAULT"));
        assert_eq!(
            without_definer("CREATE ALGORITHM=MERGE DEFINER=`a b`@`%` SQL SECURITY DEFINER VIEW"),
            "CREATE ALGORITHM=MERGE SQL SECURITY DEFINER VIEW"
        );
        assert_eq!(
            without_start("ON SCHEDULE EVERY 1 DAY STARTS '2026-01-01 00:00:00' ON COMPLETION"),
            "ON SCHEDULE EVERY 1 DAY ON COMPLETION"
        );
    }
}
