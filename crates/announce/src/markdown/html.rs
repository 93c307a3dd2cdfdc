//! As HTML for the news pages and feeds.

use std::collections::{HashMap, HashSet};

use ammonia::UrlRelative;
use entracte_model::html::escape;

use super::{Block, Doc, Inline};

/// `doc` as HTML, images relative to where it is shown.
pub fn to_html(doc: &Doc) -> String {
    to_html_with(doc, "")
}

/// `doc` as HTML, with `image_base` (empty, or ending in `/`) in front of every image's path.
pub fn to_html_with(doc: &Doc, image_base: &str) -> String {
    let mut out = String::new();
    for block in &doc.blocks {
        write_block(&mut out, block, image_base);
        out.push('\n');
    }
    second_belt(&out)
}

fn write_block(out: &mut String, block: &Block, base: &str) {
    match block {
        Block::Paragraph(content) => wrap(out, "p", |out| write_inlines(out, content, base)),
        Block::Heading(level, content) => {
            wrap(out, if *level <= 3 { "h3" } else { "h4" }, |out| {
                write_inlines(out, content, base);
            });
        }
        Block::List(first, items) => {
            match first {
                None => out.push_str("<ul>"),
                Some(1) => out.push_str("<ol>"),
                Some(number) => out.push_str(&format!("<ol start=\"{number}\">")),
            }
            for item in items {
                wrap(out, "li", |out| write_item(out, item, base));
            }
            out.push_str(if first.is_some() { "</ol>" } else { "</ul>" });
        }
    }
}

/// An item that begins with one paragraph shows it without the space around a paragraph.
fn write_item(out: &mut String, item: &[Block], base: &str) {
    let paragraphs = item.iter().filter(|block| matches!(block, Block::Paragraph(_))).count();
    for block in item {
        match block {
            Block::Paragraph(content) if paragraphs == 1 => write_inlines(out, content, base),
            other => write_block(out, other, base),
        }
    }
}

fn write_inlines(out: &mut String, inlines: &[Inline], base: &str) {
    for inline in inlines {
        match inline {
            Inline::Text(text) => out.push_str(&escape(text)),
            Inline::Code(code) => wrap(out, "code", |out| out.push_str(&escape(code))),
            Inline::Break => out.push_str("<br>"),
            Inline::Strong(content) => wrap(out, "strong", |out| write_inlines(out, content, base)),
            Inline::Em(content) => wrap(out, "em", |out| write_inlines(out, content, base)),
            Inline::Link { href, label } => {
                out.push_str(&format!("<a href=\"{}\">", escape(href)));
                write_inlines(out, label, base);
                out.push_str("</a>");
            }
            Inline::Image { src, alt } => {
                let (base, src, alt) = (escape(base), escape(src), escape(alt));
                out.push_str(&format!("<img src=\"{base}{src}\" alt=\"{alt}\">"));
            }
        }
    }
}

fn wrap(out: &mut String, tag: &str, content: impl FnOnce(&mut String)) {
    out.push_str(&format!("<{tag}>"));
    content(out);
    out.push_str(&format!("</{tag}>"));
}

/// What is written above is safe by its making; this holds if a mistake is made there one day.
fn second_belt(html: &str) -> String {
    let tags = ["p", "h3", "h4", "ul", "ol", "li", "code", "br", "strong", "em", "a", "img"];
    let attributes = HashMap::from([
        ("a", HashSet::from(["href"])),
        ("img", HashSet::from(["src", "alt"])),
        ("ol", HashSet::from(["start"])),
    ]);
    ammonia::Builder::empty()
        .tags(HashSet::from(tags))
        .tag_attributes(attributes)
        .url_schemes(HashSet::from(["http", "https"]))
        .url_relative(UrlRelative::PassThrough)
        .link_rel(Some("noopener noreferrer"))
        .clean(html)
        .to_string()
}
