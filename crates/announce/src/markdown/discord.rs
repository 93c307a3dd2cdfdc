//! As Discord's dialect (<https://support.discord.com/hc/articles/210298617>), in parts within its limits.

use super::{Block, Doc, Inline};

/// The longest `content` of a message, in UTF-16 units: never fewer than the characters Discord counts.
pub const DISCORD_CONTENT_UNITS_MAX: usize = 2_000;
/// The least room for text that a limit must leave beside marks and indents.
const ROOM_UNITS_MIN: usize = 16;

/// `doc` as messages of at most [`DISCORD_CONTENT_UNITS_MAX`].
pub fn to_discord(doc: &Doc) -> Vec<String> {
    to_discord_within(doc, DISCORD_CONTENT_UNITS_MAX)
}

/// `doc` as texts of at most `units_max` UTF-16 units (at least 200). They are cut between blocks
/// and items; within a paragraph only where it alone is too long, and then between words, with its
/// marks closed and opened again. A heading stays with what it is over.
pub fn to_discord_within(doc: &Doc, units_max: usize) -> Vec<String> {
    let units_max = units_max.max(200);
    let mut pieces = Vec::new();
    for block in &doc.blocks {
        block_pieces(&mut pieces, block, 0, units_max);
    }
    pack(&pieces, units_max)
}

/// The length of `text` as Discord's clients count it.
pub(crate) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// A text that is not cut any further.
struct Piece {
    text: String,
    heading: bool,
    /// Whether an empty line stands before it where it is not the first of a message.
    apart: bool,
}

fn pack(pieces: &[Piece], units_max: usize) -> Vec<String> {
    let mut parts: Vec<Vec<&Piece>> = Vec::new();
    let mut current: Vec<&Piece> = Vec::new();
    for piece in pieces {
        let mut longer = current.clone();
        longer.push(piece);
        if current.is_empty() || units(&joined(&longer)) <= units_max {
            current = longer;
            continue;
        }
        let mut next = Vec::new();
        // A heading at the end of a message would stand over nothing.
        if current.len() > 1 && current.last().is_some_and(|last| last.heading) {
            next.extend(current.pop());
        }
        parts.push(std::mem::take(&mut current));
        next.push(piece);
        if units(&joined(&next)) > units_max {
            parts.push(vec![next.remove(0)]);
        }
        current = next;
    }
    if !current.is_empty() {
        parts.push(current);
    }
    parts.iter().map(|part| joined(part)).collect()
}

fn joined(pieces: &[&Piece]) -> String {
    let mut out = String::new();
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 {
            let close = pieces[index - 1].heading || !piece.apart;
            out.push_str(if close { "\n" } else { "\n\n" });
        }
        out.push_str(&piece.text);
    }
    out
}

fn block_pieces(out: &mut Vec<Piece>, block: &Block, depth: usize, units_max: usize) {
    match block {
        Block::Paragraph(content) => {
            for text in inline_pieces(content, units_max) {
                out.push(Piece { text, heading: false, apart: depth == 0 });
            }
        }
        Block::Heading(level, content) => {
            let (open, close) = if *level <= 3 { ("### ", "") } else { ("**", "**") };
            for text in inline_pieces(content, units_max - 4) {
                let text = format!("{open}{}{close}", text.replace('\n', " "));
                out.push(Piece { text, heading: true, apart: true });
            }
        }
        Block::List(first, items) => {
            for (index, (number, item)) in (first.unwrap_or(1)..).zip(items).enumerate() {
                let mark = if first.is_some() { format!("{number}. ") } else { "- ".to_owned() };
                item_pieces(out, item, &mark, depth, units_max, index == 0 && depth == 0);
            }
        }
    }
}

fn item_pieces(
    out: &mut Vec<Piece>,
    item: &[Block],
    mark: &str,
    depth: usize,
    units_max: usize,
    apart: bool,
) {
    let indent = "  ".repeat(depth);
    let room = units_max.saturating_sub(indent.len() + mark.len()).max(ROOM_UNITS_MIN);
    let mut inner = Vec::new();
    let mut first = true;
    for block in item {
        match block {
            Block::List(..) => block_pieces(&mut inner, block, depth + 1, units_max),
            other => {
                let mut own = Vec::new();
                block_pieces(&mut own, other, depth + 1, room);
                for piece in own {
                    let lead = if first { mark.to_owned() } else { " ".repeat(mark.len()) };
                    // Within an item a `###` would start a line of its own.
                    let bare = piece.text.strip_prefix("### ").map(|text| format!("**{text}**"));
                    let text = bare.unwrap_or(piece.text);
                    let hung = text.replace('\n', &format!("\n{indent}{}", " ".repeat(mark.len())));
                    inner.push(Piece {
                        text: format!("{indent}{lead}{hung}"),
                        heading: false,
                        apart: false,
                    });
                    first = false;
                }
            }
        }
    }
    if let Some(piece) = inner.first_mut() {
        piece.apart = apart;
    }
    out.append(&mut inner);
}

/// `inlines` as texts of at most `units_max`, each with its marks closed.
fn inline_pieces(inlines: &[Inline], units_max: usize) -> Vec<String> {
    let mut out = Vec::new();
    let mut current = String::new();
    for inline in inlines {
        for piece in one(inline, units_max, current.is_empty() || current.ends_with('\n')) {
            if !current.is_empty() && units(&current) + units(&piece) > units_max {
                out.push(std::mem::take(&mut current).trim_end().to_owned());
                current.push_str(piece.trim_start());
            } else {
                current.push_str(&piece);
            }
        }
    }
    if !current.trim().is_empty() {
        out.push(current.trim_end().to_owned());
    }
    out
}

fn one(inline: &Inline, units_max: usize, line_start: bool) -> Vec<String> {
    let marked = |content: &[Inline], mark: &str| -> Vec<String> {
        let room = units_max.saturating_sub(2 * mark.len()).max(ROOM_UNITS_MIN);
        inline_pieces(content, room).into_iter().map(|text| format!("{mark}{text}{mark}")).collect()
    };
    match inline {
        Inline::Text(text) => words(&escape(text, line_start), units_max),
        Inline::Code(code) => {
            // Discord has no escape within code, so the quote itself is replaced.
            let code = code.replace('`', "'");
            words(&code, units_max - 2)
                .into_iter()
                .map(|part| format!("`{}`", part.trim_end()))
                .collect()
        }
        Inline::Break => vec!["\n".to_owned()],
        Inline::Strong(content) => marked(content, "**"),
        Inline::Em(content) => marked(content, "*"),
        Inline::Link { href, label } => link(href, label, units_max),
        Inline::Image { alt, .. } => words(&escape(alt, line_start), units_max),
    }
}

fn link(href: &str, label: &[Inline], units_max: usize) -> Vec<String> {
    let safe = href.replace('(', "%28").replace(')', "%29");
    let room = units_max.saturating_sub(units(&safe) + 6);
    let label_is_href = matches!(label, [Inline::Text(text)] if text == href);
    if label_is_href && units(&safe) + 2 <= units_max {
        return vec![format!("<{safe}>")];
    }
    let flat = super::plain::inlines(label);
    if room < ROOM_UNITS_MIN {
        return words(&escape(&flat, false), units_max);
    }
    let parts = words(&escape(&flat, false), room);
    parts.into_iter().map(|text| format!("[{}](<{safe}>)", text.trim())).collect()
}

/// `text` cut between words into parts of at most `units_max`; a word that is longer is cut where it must.
fn words(text: &str, units_max: usize) -> Vec<String> {
    let mut out = Vec::new();
    let mut current = String::new();
    for word in text.split_inclusive(' ') {
        if units(&current) + units(word) > units_max && !current.is_empty() {
            out.push(std::mem::take(&mut current));
        }
        for char in word.chars() {
            // A mark of escape must not be parted from what it escapes.
            let room = if char == '\\' { 2 } else { char.len_utf16() };
            let escaped = current.ends_with('\\') && char != '\\';
            if units(&current) + room > units_max && !escaped {
                out.push(std::mem::take(&mut current));
            }
            current.push(char);
        }
    }
    if !current.is_empty() {
        out.push(current);
    }
    out
}

/// `text` so that Discord shows exactly it. Addresses are left alone: a backslash would break them.
fn escape(text: &str, line_start: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut at_start = line_start;
    while let Some(char) = rest.chars().next() {
        if rest.starts_with("https://") || rest.starts_with("http://") {
            let end = rest
                .find(|c: char| c.is_whitespace() || "<>*|`\\".contains(c))
                .unwrap_or(rest.len());
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            at_start = false;
            continue;
        }
        let opens_line = at_start
            && ("#-+".contains(char)
                || (char == '.' && out.ends_with(|c: char| c.is_ascii_digit())));
        if opens_line || "\\*_~`|<>[]:@".contains(char) {
            out.push('\\');
        }
        out.push(char);
        at_start = at_start && (char.is_whitespace() || char.is_ascii_digit());
        rest = &rest[char.len_utf8()..];
    }
    out
}
