//! The order of the database scripts, by the numbers that their names begin with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use entracte_model::RelPath;

/// The ending of a script.
const SQL: &str = ".sql";
/// The ending of a script that takes another one back.
const DOWN: &str = ".down.sql";

/// One script: its name in the package, and where it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Its file name.
    pub name: RelPath,
    /// Its path on this machine.
    pub path: PathBuf,
}

/// Scripts in the order in which they run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ordered {
    /// Those that bring the database to the version, first to last.
    pub up: Vec<Script>,
    /// Those that take one of them back, in the same order. They are never run by the release.
    pub down: Vec<Script>,
}

/// Why scripts have no clear order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptFault {
    /// A name that says no place in the order.
    #[error(
        "{0:?} is not a script's name: a number and {SQL} are expected, such as 010-add-market.sql"
    )]
    Name(String),
    /// Two scripts with the same number.
    #[error(
        "{first} and {second} have the same number; give one of them another, so that their order is clear"
    )]
    SameNumber {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// A script that takes back nothing.
    #[error(
        "{0} takes back a script that is not there; its name must be that of the script with {DOWN} instead of {SQL}"
    )]
    DownAlone(String),
}

/// Whether `name` is that of a script that takes another one back.
pub(crate) fn is_down(name: &str) -> bool {
    name.ends_with(DOWN)
}

/// Puts scripts in their order: 1, 2, 10, and by versions 1.9, 1.10.
pub fn order(paths: Vec<PathBuf>) -> Result<Ordered, ScriptFault> {
    let mut up = BTreeMap::new();
    let mut down = BTreeMap::new();
    for path in paths {
        let (number, script) = parse(path)?;
        let side = if is_down(script.name.as_str()) { &mut down } else { &mut up };
        let second = script.name.to_string();
        if let Some(first) = side.insert(number, script) {
            return Err(ScriptFault::SameNumber { first: first.name.to_string(), second });
        }
    }
    for script in down.values() {
        let name = script.name.as_str();
        let taken_back =
            |up: &Script| name.strip_suffix(DOWN) == up.name.as_str().strip_suffix(SQL);
        if !up.values().any(taken_back) {
            return Err(ScriptFault::DownAlone(name.to_owned()));
        }
    }
    Ok(Ordered { up: up.into_values().collect(), down: down.into_values().collect() })
}

fn parse(path: PathBuf) -> Result<(Vec<u64>, Script), ScriptFault> {
    let shown = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let bad = || ScriptFault::Name(shown.clone());
    let text = path.file_name().and_then(|name| name.to_str()).ok_or_else(bad)?;
    let name: RelPath = text.parse().map_err(|_| bad())?;
    let stem = text.strip_suffix(DOWN).or_else(|| text.strip_suffix(SQL)).ok_or_else(bad)?;
    let number = number(stem).ok_or_else(bad)?;
    Ok((number, Script { name, path }))
}

/// The dotted number at the beginning, without zeros at its end: 1.10.0 is 1.10.
fn number(stem: &str) -> Option<Vec<u64>> {
    let stem = stem.strip_prefix(['v', 'V']).unwrap_or(stem);
    let end = stem.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(stem.len());
    let (digits, rest) = stem.split_at(end);
    if !(rest.is_empty() || rest.starts_with(['-', '_', ' '])) {
        return None;
    }
    let mut parts = digits.split('.').map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
    while parts.len() > 1 && parts.last() == Some(&0) {
        parts.pop();
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(names: &[&str]) -> Result<Vec<String>, ScriptFault> {
        let ordered = order(names.iter().map(PathBuf::from).collect())?;
        Ok(ordered.up.iter().map(|script| script.name.to_string()).collect())
    }

    #[test]
    fn numbers_and_versions_are_ordered_as_such() {
        assert_eq!(
            ordered(&["10-c.sql", "sql/2_b.sql", "001.sql"]),
            Ok(vec!["001.sql".into(), "2_b.sql".into(), "10-c.sql".into()])
        );
        assert_eq!(
            ordered(&["1.10-b.sql", "v1.9.2-a.sql"]),
            Ok(vec!["v1.9.2-a.sql".into(), "1.10-b.sql".into()])
        );
    }

    #[test]
    fn the_same_number_twice_is_refused_in_whatever_form() {
        for (a, b) in [("10-a.sql", "010-b.sql"), ("1.1-a.sql", "v1.1.0_b.sql")] {
            assert!(matches!(ordered(&[a, b]), Err(ScriptFault::SameNumber { .. })), "{a} {b}");
        }
    }

    #[test]
    fn names_without_a_number_or_ending_are_refused() {
        for name in ["market.sql", "10market.sql", "10-a.SQL", "10-a.txt", "1..2.sql", "-1.sql"] {
            assert!(matches!(ordered(&[name]), Err(ScriptFault::Name(_))), "{name}");
        }
    }

    #[test]
    fn a_down_script_goes_along_but_does_not_run() {
        let paths = ["10-a.sql", "10-a.down.sql"].map(PathBuf::from).to_vec();
        let ordered = order(paths).unwrap();
        assert_eq!(ordered.up.len(), 1);
        assert_eq!(ordered.down[0].name.as_str(), "10-a.down.sql");
        let alone = order(vec![PathBuf::from("10-b.down.sql")]);
        assert!(matches!(alone, Err(ScriptFault::DownAlone(_))));
    }
}
