//! Text inside HTML.

/// `text` as it may stand in an element and in a quoted attribute: it cannot become markup.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_it_is_markup_any_more() {
        assert_eq!(
            escape(r#"<a b="c" d='e'>&amp;"#),
            "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;amp;"
        );
        assert_eq!(escape("Rêverie 🍺"), "Rêverie 🍺");
    }
}
