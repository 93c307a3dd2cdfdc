//! As plain text.

use super::{Block, Doc, Inline};

/// `doc` as text for places without any markup: a mail, a terminal, a line in the game.
pub fn to_text(doc: &Doc) -> String {
    let mut out = String::new();
    for (index, block) in doc.blocks.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        write_block(&mut out, block, 0);
    }
    out
}

/// The words of `inlines`, links with their address behind them.
pub(super) fn inlines(inlines: &[Inline]) -> String {
    let mut out = String::new();
    for inline in inlines {
        match inline {
            Inline::Text(text) | Inline::Code(text) => out.push_str(text),
            Inline::Break => out.push('\n'),
            Inline::Strong(content) | Inline::Em(content) => out.push_str(&self::inlines(content)),
            Inline::Link { href, label } => {
                let label = self::inlines(label);
                out.push_str(&if label == *href { label } else { format!("{label} ({href})") });
            }
            Inline::Image { alt, .. } if alt.is_empty() => {}
            Inline::Image { alt, .. } => out.push_str(&format!("[{alt}]")),
        }
    }
    out
}

fn write_block(out: &mut String, block: &Block, indent: usize) {
    let lines = |out: &mut String, text: &str, first: &str| {
        for (index, line) in text.lines().enumerate() {
            out.push_str(&" ".repeat(indent));
            out.push_str(if index == 0 { first } else { "" });
            out.push_str(line);
            out.push('\n');
        }
    };
    match block {
        Block::Paragraph(content) | Block::Heading(_, content) => lines(out, &inlines(content), ""),
        Block::List(first, items) => {
            for (number, item) in (first.unwrap_or(1)..).zip(items) {
                let mark = if first.is_some() { format!("{number}. ") } else { "- ".to_owned() };
                let mut text = String::new();
                for block in item {
                    write_block(&mut text, block, 0);
                }
                for (index, line) in text.lines().enumerate() {
                    out.push_str(&" ".repeat(indent));
                    out.push_str(&if index == 0 { mark.clone() } else { " ".repeat(mark.len()) });
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
    }
}
