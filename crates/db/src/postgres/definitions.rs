//! The definition of every object, as `pg_dump --schema-only` writes it: the one reading of the
//! catalogues that knows every kind of object of its version.

use std::collections::BTreeMap;

use entracte_model::schema::{Kind, Object, Schema};

use super::dump;
use crate::error::DbError;
use crate::history::HISTORY_TABLE;
use crate::settings::PostgresSettings;

/// One entry of the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    /// In the server's words (`FK CONSTRAINT`).
    pub(super) kind: String,
    pub(super) schema: String,
    owner: String,
    pub(super) sql: String,
}

/// Every object of a database.
pub(super) struct Definitions {
    pub(super) entries: Vec<Entry>,
}

impl Definitions {
    pub(super) fn read(settings: &PostgresSettings) -> Result<Self, DbError> {
        let mut listing = Vec::new();
        dump::write(settings, dump::Scope::SchemaOnly, &mut listing, 0, &mut |_| {})?;
        let mut entries = entries(&String::from_utf8_lossy(&listing));
        entries.retain(|entry| entry.name != HISTORY_TABLE);
        Ok(Self { entries })
    }

    /// What two servers share: without owners and grants, whose accounts differ between them.
    pub(super) fn schema(&self) -> Schema {
        let mut objects = BTreeMap::new();
        for entry in &self.entries {
            if matches!(entry.kind.as_str(), "ACL" | "DEFAULT ACL") {
                continue;
            }
            let owner = format!(" OWNER TO {};", entry.owner_as_sql());
            let lines: Vec<&str> = entry
                .sql
                .lines()
                .filter(|line| {
                    let sets_owner = line.starts_with("ALTER ") && line.ends_with(&owner);
                    !sets_owner && !line.trim().is_empty()
                })
                .collect();
            objects
                .entry(entry.object())
                .and_modify(|text: &mut String| *text += &format!("\n{}", lines.join("\n")))
                .or_insert_with(|| lines.join("\n"));
        }
        Schema { objects }
    }

    /// Owners and grants, which are part of the database and not of [`Schema`].
    pub(super) fn rights(&self) -> Vec<String> {
        let mut rights: Vec<String> = self
            .entries
            .iter()
            .map(|entry| {
                let grants = matches!(entry.kind.as_str(), "ACL" | "DEFAULT ACL");
                let sql = if grants { entry.sql.as_str() } else { "" };
                format!("{} {} {} {} {sql}", entry.kind, entry.schema, entry.name, entry.owner)
            })
            .collect();
        rights.sort();
        rights
    }
}

impl Entry {
    fn object(&self) -> Object {
        let (kind, principal) = match self.kind.as_str() {
            "INDEX" => (Kind::Index, "INDEX"),
            "INDEX ATTACH" => (Kind::Index, ""),
            "VIEW" => (Kind::View, "VIEW"),
            "MATERIALIZED VIEW" | "RULE" => (Kind::View, ""),
            "TRIGGER" => (Kind::Trigger, "TRIGGER"),
            "EVENT TRIGGER" => (Kind::Trigger, ""),
            "FUNCTION" => (Kind::Routine, "FUNCTION"),
            "PROCEDURE"
            | "AGGREGATE"
            | "OPERATOR"
            | "OPERATOR CLASS"
            | "OPERATOR FAMILY"
            | "CAST"
            | "TRANSFORM"
            | "PROCEDURAL LANGUAGE" => (Kind::Routine, ""),
            "SEQUENCE" => (Kind::Sequence, "SEQUENCE"),
            "SEQUENCE OWNED BY" => (Kind::Sequence, ""),
            // Kinds without a name of their own are told apart by the words behind theirs.
            _ => (Kind::Table, "TABLE"),
        };
        let mut name = match self.schema.as_str() {
            "public" | "-" => self.name.clone(),
            schema => format!("{schema}.{}", self.name),
        };
        if self.kind != principal {
            name += &format!(" ({})", self.kind.to_lowercase());
        }
        Object { kind, name }
    }

    /// The owner as `pg_dump` quotes it.
    fn owner_as_sql(&self) -> String {
        let plain = self.owner.bytes().enumerate().all(|(at, byte)| {
            byte == b'_' || byte.is_ascii_lowercase() || (at > 0 && byte.is_ascii_digit())
        });
        if plain { self.owner.clone() } else { super::connect::ident(&self.owner) }
    }
}

/// Splits a listing at the three lines that announce each entry.
fn entries(listing: &str) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    // What applies to each table that follows, until it is set again.
    let mut standing: BTreeMap<&str, &str> = BTreeMap::new();
    for line in listing.lines() {
        if let Some((name, kind, schema, owner)) = heading(line) {
            let sql = standing.values().filter(|line| !line.ends_with("'';"));
            let is_table = matches!(kind, "TABLE" | "MATERIALIZED VIEW" | "INDEX");
            let sql = sql.filter(|_| is_table).fold(String::new(), |all, line| all + line + "\n");
            found.push(Entry {
                name: name.to_owned(),
                kind: kind.to_owned(),
                schema: schema.to_owned(),
                owner: owner.to_owned(),
                sql,
            });
        } else if line.starts_with("SET default_table") {
            standing.insert(line.split(" = ").next().unwrap_or(line), line);
        } else if line != "--" && !line.starts_with("-- PostgreSQL database dump") {
            let is_noise = line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ");
            if let Some(entry) = found.last_mut().filter(|_| !is_noise) {
                entry.sql += line;
                entry.sql.push('\n');
            }
        }
    }
    found
}

/// `-- Name: players; Type: TABLE; Schema: public; Owner: game`.
fn heading(line: &str) -> Option<(&str, &str, &str, &str)> {
    let (rest, owner) = line.strip_prefix("-- Name: ")?.rsplit_once("; Owner: ")?;
    // A table of its own tablespace has one more word.
    let owner = owner.split("; Tablespace: ").next().unwrap_or(owner);
    let (rest, schema) = rest.rsplit_once("; Schema: ")?;
    let (name, kind) = rest.rsplit_once("; Type: ")?;
    Some((name, kind, schema, owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "--
-- PostgreSQL database dump
--

SET statement_timeout = 0;
SET default_table_access_method = heap;

--
-- Name: a b; Type: TABLE; Schema: public; Owner: The Game
--

CREATE TABLE public.\"a b\" (
    x integer
);


ALTER TABLE public.\"a b\" OWNER TO \"The Game\";

--
-- Name: TABLE \"a b\"; Type: ACL; Schema: public; Owner: The Game
--

GRANT SELECT ON TABLE public.\"a b\" TO other;

--
-- Name: mood; Type: TYPE; Schema: far; Owner: game
--

CREATE TYPE far.mood AS ENUM ('a');


ALTER TYPE far.mood OWNER TO game;

--
-- PostgreSQL database dump complete
--
";

    #[test]
    fn each_entry_is_an_object_without_its_owner() {
        let definitions = Definitions { entries: entries(LISTING) };
        let schema = definitions.schema();
        let said: Vec<String> = schema
            .objects
            .iter()
            .map(|(object, sql)| format!("{object}: {}", sql.replace('\n', " ")))
            .collect();
        assert_eq!(
            said,
            [
                "table a b: SET default_table_access_method = heap; \
                 CREATE TABLE public.\"a b\" (     x integer );",
                "table far.mood (type): CREATE TYPE far.mood AS ENUM ('a');",
            ]
        );
        assert!(definitions.rights().iter().any(|right| right.contains("GRANT SELECT")));
    }
}
