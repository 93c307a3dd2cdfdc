//! The one change that the program makes to a configuration by itself: a public key more.

use toml::de::{DeTable, DeValue};

/// The text with `key` added to `target.NAME.keys`; everything else stays to the byte. `None` where
/// the target has no such list.
pub fn with_key(text: &str, target: &str, key: &str) -> Option<String> {
    let table = DeTable::parse(text).ok()?;
    let targets = as_table(find(table.get_ref(), "target")?)?;
    let target = as_table(find(targets, target)?)?;
    let (_, keys) = target.iter().find(|(name, _)| name.get_ref() == "keys")?;
    let DeValue::Array(list) = keys.get_ref() else { return None };
    let (at, comma) = match list.iter().last() {
        Some(last) => (last.span().end, ", "),
        None => (keys.span().start + 1, ""),
    };
    let (before, after) = text.split_at_checked(at)?;
    Some(format!("{before}{comma}{key:?}{after}"))
}

fn find<'t, 'i>(table: &'t DeTable<'i>, wanted: &str) -> Option<&'t DeValue<'i>> {
    let found = table.iter().find(|(name, _)| name.get_ref() == wanted);
    found.map(|(_, value)| value.get_ref())
}

fn as_table<'t, 'i>(value: &'t DeValue<'i>) -> Option<&'t DeTable<'i>> {
    match value {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_added_and_nothing_else_changes() {
        let text =
            "# mine\n[target.a]\nkeys = []  # none\n[target.b]\nkeys = [\n  \"RWold\", # why\n]\n";
        assert_eq!(
            with_key(text, "a", "RWnew").unwrap(),
            text.replace("keys = []", "keys = [\"RWnew\"]")
        );
        assert_eq!(
            with_key(text, "b", "RWnew").unwrap(),
            text.replace("\"RWold\"", "\"RWold\", \"RWnew\"")
        );
        assert_eq!(with_key(text, "c", "RWnew"), None);
        assert_eq!(with_key("[target.a]\nroot = \"/\"\n", "a", "RWnew"), None);
    }
}
