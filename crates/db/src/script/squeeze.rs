//! Definitions without what does not change their meaning.

use super::tokens::{
    comment_len, dollar_quoted_len, has_escapes, is_line_comment, is_plain_comment,
    opens_version_comment, quoted_len, version_opener_len, word_at,
};
use super::{Engine, QuoteMode};

/// `sql` without comments, and with one space wherever spaces or line ends stand outside of
/// quotations. The engines' own clients drop comments from what they send or not, depending on
/// an option, so two servers that were given the same script can differ in them.
pub fn squeeze(engine: Engine, sql: &str) -> String {
    let input = sql.as_bytes();
    let mut out: Vec<u8> = Vec::with_capacity(input.len());
    let mut at = 0;
    let mut gap = false;
    while at < input.len() {
        let here = &input[at..];
        let version = opens_version_comment(here, engine);
        let length = if here[0].is_ascii_whitespace() {
            gap = true;
            1
        } else if is_line_comment(here, engine) {
            gap = true;
            here.iter().position(|b| *b == b'\n').unwrap_or(here.len())
        } else if is_plain_comment(here, engine) {
            gap = true;
            comment_len(here, engine).unwrap_or(here.len())
        } else if version || (engine == Engine::Mariadb && here.starts_with(b"*/")) {
            gap = true;
            if here[0] == b'*' { 2 } else { version_opener_len(here) }
        } else {
            if std::mem::take(&mut gap) && !out.is_empty() {
                out.push(b' ');
            }
            let length = part_len(here, engine).min(here.len());
            out.extend_from_slice(&here[..length]);
            length
        };
        at += length;
    }
    // Only whole characters and whole quotations were taken from valid text.
    String::from_utf8_lossy(&out).into_owned()
}

/// The length of the quotation at the start of `here`; of a word where a quotation may hang on
/// it; else of one byte.
fn part_len(here: &[u8], engine: Engine) -> usize {
    let mut quoted =
        matches!(here[0], b'\'' | b'"' | b'`') || (here[0] == b'[' && engine == Engine::Sqlite);
    let mut escapes = has_escapes(here[0], engine, QuoteMode::default());
    let mut before = 0;
    if engine == Engine::Postgres {
        quoted = matches!(here[0], b'\'' | b'"');
        if here[0] == b'$' {
            return dollar_quoted_len(here).map_or(1, |length| length.unwrap_or(here.len()));
        }
        let word = word_at(here);
        escapes = word.eq_ignore_ascii_case(b"e") && here.get(1) == Some(&b'\'');
        if !word.is_empty() && !escapes {
            return word.len();
        }
        before = word.len();
        quoted |= escapes;
    }
    if !quoted {
        return 1;
    }
    quoted_len(&here[before..], escapes).map_or(here.len(), |length| before + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_line_ends_go_and_strings_stay() {
        let sql = "SELECT  'a  -- b' /* x */ , é # y\n FROM\tt -- z";
        assert_eq!(squeeze(Engine::Mariadb, sql), "SELECT 'a  -- b' , é FROM t");
        assert_eq!(squeeze(Engine::Sqlite, "a[x  y] -- q\n5--1"), "a[x  y] 5");
        assert_eq!(squeeze(Engine::Mariadb, "5--1"), "5--1");
    }

    #[test]
    fn version_comments_are_read_as_the_server_reads_them() {
        assert_eq!(squeeze(Engine::Mariadb, "/*!50003 CREATE*/ /*M!100100 x */y"), "CREATE x y");
    }
}
