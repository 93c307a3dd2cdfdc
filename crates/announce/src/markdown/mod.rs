//! One safe subset of Markdown, read once and rendered for every place where it is shown.
//!
//! Kept: paragraphs, strong, emphasis, code, lists, headings, `http` and `https` links, images of
//! the site's own. Everything else becomes text: HTML is shown as it was typed, a quotation or
//! a table becomes its words, a link of another scheme becomes its label.

mod discord;
mod html;
mod plain;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

pub(crate) use discord::units;
pub use discord::{DISCORD_CONTENT_UNITS_MAX, to_discord, to_discord_within};
pub use html::{to_html, to_html_with};
pub use plain::to_text;

/// How deep lists and emphasis may nest; what lies deeper is kept as text of the last level.
pub const DEPTH_MAX: usize = 12;
/// The longest address of a link or image, in bytes; a longer one is dropped, its label stays.
pub const ADDRESS_BYTES_MAX: usize = 1_000;

/// A text of the subset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Doc {
    pub(crate) blocks: Vec<Block>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Block {
    Paragraph(Vec<Inline>),
    /// The level is that of the source, 1 to 6: renderers show 1 to 3 as h3 and the rest as h4.
    Heading(u8, Vec<Inline>),
    /// The number of the first item where the list is numbered.
    List(Option<u64>, Vec<Vec<Block>>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Inline {
    Text(String),
    Code(String),
    Break,
    Strong(Vec<Inline>),
    Em(Vec<Inline>),
    Link { href: String, label: Vec<Inline> },
    Image { src: String, alt: String },
}

impl Doc {
    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The same without a title of the first level at its top, for pages that have a title already.
    pub fn without_title(mut self) -> Doc {
        if matches!(self.blocks.first(), Some(Block::Heading(1, _))) {
            self.blocks.remove(0);
        }
        self
    }
}

/// Reads `text`. Every text has a meaning, so this cannot fail.
pub fn parse(text: &str) -> Doc {
    let mut builder = Builder { stack: vec![Frame::new(Shape::Root)], ignored: 0 };
    for event in Parser::new_ext(text, Options::empty()) {
        builder.event(event);
    }
    Doc { blocks: builder.finish() }
}

/// `text` as Markdown that shows exactly it, for the middle of a line: marks that only count at the
/// start of one (`-`, `1.`) are left alone.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            out.push(' ');
            continue;
        }
        if char.is_ascii_punctuation() && !",;'\"/?()%:-.".contains(char) {
            out.push('\\');
        }
        out.push(char);
    }
    out
}

/// What a frame of the builder becomes when it ends.
enum Shape {
    Root,
    Paragraph,
    Heading(u8),
    List(Option<u64>),
    Item,
    Strong,
    Em,
    Link(String),
    Image(String),
    /// A construct outside the subset: its content goes to whatever is around it.
    Nothing,
}

struct Frame {
    shape: Shape,
    blocks: Vec<Block>,
    inlines: Vec<Inline>,
    items: Vec<Vec<Block>>,
}

impl Frame {
    fn new(shape: Shape) -> Self {
        Self { shape, blocks: Vec::new(), inlines: Vec::new(), items: Vec::new() }
    }

    /// Text that stands outside a paragraph (in a tight list) becomes one.
    fn settle(&mut self) {
        let inlines = std::mem::take(&mut self.inlines);
        if !is_blank(&inlines) {
            self.blocks.push(Block::Paragraph(inlines));
        }
    }
}

struct Builder {
    stack: Vec<Frame>,
    /// Frames opened below [`DEPTH_MAX`], which are not kept.
    ignored: usize,
}

impl Builder {
    fn event(&mut self, event: Event) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(end) => self.end(end),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => self.text(&text),
            Event::InlineMath(text) | Event::DisplayMath(text) | Event::FootnoteReference(text) => {
                self.text(&text);
            }
            Event::Code(code) => self.inline(Inline::Code(clean(&code))),
            Event::SoftBreak => self.text(" "),
            Event::HardBreak => self.inline(Inline::Break),
            Event::TaskListMarker(done) => self.text(if done { "[x] " } else { "[ ] " }),
            // A line across the page says nothing in a chat or a plain text.
            Event::Rule => {}
        }
    }

    fn start(&mut self, tag: Tag) {
        if self.stack.len() > DEPTH_MAX {
            self.ignored += 1;
            return;
        }
        let shape = match tag {
            Tag::Paragraph => Shape::Paragraph,
            Tag::Heading { level, .. } => Shape::Heading(number(level)),
            Tag::List(first) => Shape::List(first),
            Tag::Item => Shape::Item,
            Tag::Strong => Shape::Strong,
            Tag::Emphasis => Shape::Em,
            Tag::Link { dest_url, .. } if is_web(&dest_url) => Shape::Link(dest_url.into_string()),
            Tag::Image { dest_url, .. } if is_local(&dest_url) => {
                Shape::Image(dest_url.into_string())
            }
            Tag::CodeBlock(CodeBlockKind::Fenced(_) | CodeBlockKind::Indented) | Tag::HtmlBlock => {
                Shape::Paragraph
            }
            _ => Shape::Nothing,
        };
        if matches!(shape, Shape::Paragraph | Shape::Heading(_) | Shape::List(_)) {
            self.top().settle();
        }
        self.stack.push(Frame::new(shape));
    }

    fn end(&mut self, end: TagEnd) {
        if self.ignored > 0 {
            self.ignored -= 1;
            if matches!(end, TagEnd::Paragraph | TagEnd::Item | TagEnd::Heading(_)) {
                self.text(" ");
            }
            return;
        }
        if self.stack.len() < 2 {
            return;
        }
        let Some(mut frame) = self.stack.pop() else { return };
        let parent = self.top();
        match frame.shape {
            Shape::Root => {}
            Shape::Paragraph if is_blank(&frame.inlines) => {}
            Shape::Paragraph => parent.blocks.push(Block::Paragraph(trimmed(frame.inlines))),
            Shape::Heading(_) if is_blank(&frame.inlines) => {}
            Shape::Heading(level) => {
                parent.blocks.push(Block::Heading(level, trimmed(frame.inlines)));
            }
            Shape::List(first) if !frame.items.is_empty() => {
                parent.blocks.push(Block::List(first, frame.items));
            }
            Shape::List(_) => {}
            Shape::Item => {
                frame.settle();
                parent.items.push(frame.blocks);
            }
            Shape::Strong => parent.inlines.push(Inline::Strong(frame.inlines)),
            Shape::Em => parent.inlines.push(Inline::Em(frame.inlines)),
            Shape::Link(href) => parent.inlines.push(Inline::Link { href, label: frame.inlines }),
            Shape::Image(src) => {
                parent.inlines.push(Inline::Image { src, alt: plain::inlines(&frame.inlines) });
            }
            Shape::Nothing => {
                parent.inlines.append(&mut frame.inlines);
                if !frame.blocks.is_empty() {
                    parent.settle();
                    parent.blocks.append(&mut frame.blocks);
                }
            }
        }
    }

    fn text(&mut self, text: &str) {
        // Lines of HTML and of code blocks keep their ends.
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                self.inline(Inline::Break);
            }
            let line = clean(line);
            if line.is_empty() {
                continue;
            }
            match self.top().inlines.last_mut() {
                Some(Inline::Text(before)) => before.push_str(&line),
                _ => self.inline(Inline::Text(line)),
            }
        }
    }

    fn inline(&mut self, inline: Inline) {
        self.top().inlines.push(inline);
    }

    fn top(&mut self) -> &mut Frame {
        self.stack.last_mut().expect("the root frame is never taken off")
    }

    fn finish(mut self) -> Vec<Block> {
        let root = self.top();
        root.settle();
        std::mem::take(&mut root.blocks)
    }
}

fn number(level: HeadingLevel) -> u8 {
    match level {
        HeadingLevel::H1 => 1,
        HeadingLevel::H2 => 2,
        HeadingLevel::H3 => 3,
        HeadingLevel::H4 => 4,
        HeadingLevel::H5 => 5,
        HeadingLevel::H6 => 6,
    }
}

/// Text without control characters and without those that turn the direction of what follows.
fn clean(text: &str) -> String {
    let turns = |char: char| matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .filter(|char| !turns(*char))
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}

fn is_blank(inlines: &[Inline]) -> bool {
    inlines.iter().all(|one| match one {
        Inline::Text(text) => text.trim().is_empty(),
        Inline::Break => true,
        _ => false,
    })
}

fn trimmed(mut inlines: Vec<Inline>) -> Vec<Inline> {
    while matches!(inlines.last(), Some(Inline::Break)) {
        inlines.pop();
    }
    inlines
}

fn printable(address: &str) -> bool {
    address.len() <= ADDRESS_BYTES_MAX
        && !address
            .chars()
            .any(|char| char.is_control() || char.is_whitespace() || "<>\"\\".contains(char))
}

/// Whether `address` is a link that is kept: `http` or `https`, with a host and without a login,
/// since `https://bank.example@evil.example` reads like another place.
fn is_web(address: &str) -> bool {
    let lower = address.to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"))
    else {
        return false;
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    printable(address) && !host.is_empty() && !host.contains('@')
}

/// Whether `address` is an image of the site's own: a relative path that stays below it.
fn is_local(address: &str) -> bool {
    let path = address.to_ascii_lowercase();
    printable(address)
        && !path.is_empty()
        && !path.starts_with('/')
        && !path.contains([':', '%', '?', '#'])
        && path.split('/').all(|part| part != ".." && part != "." && !part.is_empty())
}

#[cfg(test)]
mod tests;
