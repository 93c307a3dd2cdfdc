//! The parts of a `CREATE TABLE` as the engines print it.

use super::Dialect;

/// `CREATE TABLE x`, what stands between its parentheses, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) head: &'a str,
    pub(super) items: Vec<&'a str>,
    pub(super) tail: &'a str,
}

impl<'a> Parts<'a> {
    /// Splits a definition; nothing where it has no list in parentheses.
    pub(super) fn of(dialect: Dialect, sql: &'a str) -> Option<Self> {
        let mut depth = 0usize;
        let mut items = Vec::new();
        let mut open = None;
        let mut begin = 0;
        for (at, byte) in words_of_code(dialect, sql) {
            match byte {
                b'(' => {
                    depth += 1;
                    if depth == 1 {
                        open = Some(at);
                        begin = at + 1;
                    }
                }
                b',' if depth == 1 => {
                    items.push(sql[begin..at].trim());
                    begin = at + 1;
                }
                b')' => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        items.push(sql[begin..at].trim());
                        let head = sql[..open?].trim();
                        return Some(Self { head, items, tail: sql[at + 1..].trim() });
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// The bytes of `sql` that stand in no quotation, each with its place.
pub fn words_of_code(dialect: Dialect, sql: &str) -> Vec<(usize, u8)> {
    let bytes = sql.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let close = match byte {
            b'\'' | b'"' => byte,
            b'`' if dialect != Dialect::Postgres => byte,
            b'[' if dialect == Dialect::Sqlite => b']',
            _ => {
                code.push((at, byte));
                at += 1;
                continue;
            }
        };
        let escapes = dialect == Dialect::Mariadb && close != b'`';
        at += 1;
        while at < bytes.len() {
            if escapes && bytes[at] == b'\\' {
                at += 2;
            } else if bytes[at] == close {
                at += 1;
                if close == b']' || bytes.get(at) != Some(&close) {
                    break;
                }
                at += 1;
            } else {
                at += 1;
            }
        }
    }
    code
}

/// Where the words of `phrase` (in capitals, one space between them) stand outside of quotations
/// and parentheses.
pub(super) fn find_phrase(dialect: Dialect, sql: &str, phrase: &str) -> Option<usize> {
    let upper = sql.to_ascii_uppercase();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut depth = 0i32;
    for (at, byte) in words_of_code(dialect, sql) {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        let free = at == 0 || !is_word(sql.as_bytes()[at - 1]);
        if depth == 0 && free && upper[at..].starts_with(phrase) {
            let end = sql.as_bytes().get(at + phrase.len());
            if end.is_none_or(|byte| !is_word(*byte)) {
                return Some(at);
            }
        }
    }
    None
}

/// The name at the beginning of an item, as it is written, and what follows.
pub(super) fn leading_name(item: &str) -> (&str, &str) {
    let bytes = item.as_bytes();
    let close = match bytes.first() {
        Some(b'"') => b'"',
        Some(b'`') => b'`',
        Some(b'\'') => b'\'',
        Some(b'[') => b']',
        _ => {
            let end = item.find(|c: char| c.is_whitespace() || c == '(').unwrap_or(item.len());
            return (&item[..end], item[end..].trim_start());
        }
    };
    let mut at = 1;
    while at < bytes.len() {
        if bytes[at] == close {
            at += 1;
            if close == b']' || bytes.get(at) != Some(&close) {
                break;
            }
        }
        at += 1;
    }
    let at = at.min(item.len());
    (&item[..at], item[at..].trim_start())
}

/// A name without its quotation.
pub(super) fn unquoted(name: &str) -> String {
    let inner = |close: char| {
        let text = name.get(1..name.len().saturating_sub(1)).unwrap_or("");
        text.replace(&format!("{close}{close}"), &close.to_string())
    };
    match name.chars().next() {
        Some(quote @ ('"' | '`' | '\'')) if name.len() > 1 && name.ends_with(quote) => inner(quote),
        Some('[') if name.ends_with(']') => name[1..name.len() - 1].to_owned(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_split_at_the_commas_that_count() {
        let sql =
            "CREATE TABLE `a(b` (\n `x` varchar(9) DEFAULT 'a\\',(', \n CHECK (x in (1,2))\n) T=1";
        let parts = Parts::of(Dialect::Mariadb, sql).unwrap();
        assert_eq!(parts.head, "CREATE TABLE `a(b`");
        assert_eq!(parts.items, ["`x` varchar(9) DEFAULT 'a\\',('", "CHECK (x in (1,2))"]);
        assert_eq!(parts.tail, "T=1");
        assert!(Parts::of(Dialect::Sqlite, "CREATE TABLE t AS SELECT 1").is_none());
        let sqlite = Parts::of(Dialect::Sqlite, "CREATE TABLE [a,b]([x ,y] int, 'it''s(' text)");
        assert_eq!(sqlite.unwrap().items, ["[x ,y] int", "'it''s(' text"]);
    }

    #[test]
    fn names_lose_their_quotation() {
        assert_eq!(leading_name("\"a\"\"b\" int"), ("\"a\"\"b\"", "int"));
        assert_eq!(leading_name("x(1)"), ("x", "(1)"));
        for (written, name) in [("`a``b`", "a`b"), ("[x y]", "x y"), ("é", "é"), ("\"", "\"")] {
            assert_eq!(unquoted(written), name);
        }
    }

    #[test]
    fn a_phrase_counts_outside_of_quotations_only() {
        let sql = "a int DEFAULT 'x NOT NULL' CHECK (b IS NOT NULL) not null";
        assert_eq!(find_phrase(Dialect::Postgres, sql, "NOT NULL"), Some(49));
    }
}
