//! What the account may do, as `SHOW GRANTS` says it.

use std::collections::BTreeSet;

use super::connect::Server;
use crate::error::DbError;

/// The rights of the account we entered with.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Rights {
    /// The account, as `user@host`.
    pub(super) account: String,
    global: BTreeSet<String>,
    database: BTreeSet<String>,
}

impl Rights {
    pub(super) fn read(server: &mut Server, database: &str) -> Result<Self, DbError> {
        let doing = "reading the account's rights";
        let mut rights =
            Self { account: server.text_for("SELECT CURRENT_USER()", doing)?, ..Self::default() };
        for row in server.rows_for("SHOW GRANTS", doing)? {
            if let Some(Some(line)) = row.first() {
                rights.add(line, database);
            }
        }
        Ok(rights)
    }

    /// `GRANT SELECT, INSERT ON `taverne`.* TO ...`
    fn add(&mut self, line: &str, database: &str) {
        let Some(rest) = line.strip_prefix("GRANT ") else { return };
        let Some((privileges, rest)) = rest.split_once(" ON ") else { return };
        let Some((object, _)) = rest.split_once(" TO ") else { return };
        let set = if object == "*.*" {
            &mut self.global
        } else if object.strip_suffix(".*").is_some_and(|pattern| covers(pattern, database)) {
            &mut self.database
        } else {
            return;
        };
        set.extend(privileges.split(", ").map(str::to_ascii_uppercase));
    }

    /// Whether the account has this right on the whole server, or every right there, or SUPER,
    /// out of which the finer rights were cut.
    pub(super) fn global(&self, right: &str) -> bool {
        const CUT_OUT_OF_SUPER: [&str; 4] =
            ["CONNECTION ADMIN", "SET USER", "BINLOG MONITOR", "BINLOG ADMIN"];
        let has = |right: &str| self.global.contains(right);
        has("ALL PRIVILEGES") || has(right) || (CUT_OUT_OF_SUPER.contains(&right) && has("SUPER"))
    }

    /// Whether the account has this right on the database.
    pub(super) fn on_database(&self, right: &str) -> bool {
        self.global(right)
            || self.database.contains("ALL PRIVILEGES")
            || self.database.contains(right)
    }
}

/// Whether a database pattern of a grant (`` `my\_game` ``, `` `my%` ``) covers the database.
fn covers(pattern: &str, database: &str) -> bool {
    let pattern = pattern.trim_matches('`').replace("``", "`");
    fn like(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['\\', literal, rest @ ..] => text.first() == Some(literal) && like(rest, &text[1..]),
            ['%', rest @ ..] => (0..=text.len()).any(|skip| like(rest, &text[skip..])),
            ['_', rest @ ..] => !text.is_empty() && like(rest, &text[1..]),
            [literal, rest @ ..] => text.first() == Some(literal) && like(rest, &text[1..]),
        }
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = database.chars().collect();
    like(&pattern, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(lines: &[&str]) -> Rights {
        let mut rights = Rights::default();
        lines.iter().for_each(|line| rights.add(line, "my_game"));
        rights
    }

    #[test]
    fn rights_are_told_apart_by_what_they_are_on() {
        let ordinary = rights(&[
            "GRANT USAGE ON *.* TO `a`@`localhost` IDENTIFIED BY PASSWORD '*X'",
            "GRANT ALL PRIVILEGES ON `my\\_game`.* TO `a`@`localhost`",
            "GRANT PROCESS ON `other`.* TO `a`@`localhost`",
        ]);
        assert!(ordinary.on_database("LOCK TABLES"));
        assert!(!ordinary.global("PROCESS"));
        let admin =
            rights(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"]);
        assert!(admin.global("SET USER") && admin.on_database("SELECT"));
        assert!(rights(&["GRANT SUPER ON *.* TO `x`@`%`"]).global("CONNECTION ADMIN"));
        assert!(!rights(&["GRANT SUPER ON *.* TO `x`@`%`"]).global("PROCESS"));
    }

    #[test]
    fn patterns_of_databases_are_those_of_the_server() {
        assert!(covers("`my\\_game`", "my_game") && !covers("`my\\_game`", "myxgame"));
        assert!(covers("`my%`", "my_game") && covers("`my_game`", "myxgame"));
        assert!(!covers("`my`", "my_game") && !covers("`my_game_`", "my_game"));
    }
}
