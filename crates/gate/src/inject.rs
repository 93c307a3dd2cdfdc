//! Puts the widget's script tag into a page that streams by.

use bytes::{Bytes, BytesMut};

/// What is put before the end of the page's head.
pub(crate) const TAG: &[u8] = b"<script src=\"/_entracte/widget.js\" defer></script>";
const NEEDLE: &[u8] = b"</head";
/// A page whose head is longer than this is left as it is.
const SEARCHED_BYTES_MAX: usize = 256 * 1024;

/// Looks for the end of the head, also where it is cut in two between reads.
#[derive(Debug, Default)]
pub(crate) struct Injector {
    /// Bytes held back because they may be the beginning of the needle.
    held: BytesMut,
    searched: usize,
    done: bool,
}

impl Injector {
    /// What to send on for `bytes`.
    pub(crate) fn pass(&mut self, bytes: Bytes) -> Bytes {
        if self.done {
            return bytes;
        }
        self.held.extend_from_slice(&bytes);
        let mut out = std::mem::take(&mut self.held);
        if let Some(at) = find(&out) {
            self.done = true;
            let rest = out.split_off(at);
            out.extend_from_slice(TAG);
            out.extend_from_slice(&rest);
            return out.freeze();
        }
        self.searched += bytes.len();
        if self.searched > SEARCHED_BYTES_MAX {
            self.done = true;
        } else {
            self.held = out.split_off(out.len() - begun(&out));
        }
        out.freeze()
    }

    /// What is held back when the page ends.
    pub(crate) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }
}

fn find(text: &[u8]) -> Option<usize> {
    text.windows(NEEDLE.len()).position(|window| window.eq_ignore_ascii_case(NEEDLE))
}

/// How many bytes at the end of `text` may be the beginning of the needle.
fn begun(text: &[u8]) -> usize {
    (1..NEEDLE.len())
        .rev()
        .find(|&n| text.len() >= n && text[text.len() - n..].eq_ignore_ascii_case(&NEEDLE[..n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(parts: &[&str]) -> String {
        let mut injector = Injector::default();
        let mut out = Vec::new();
        for part in parts {
            out.extend_from_slice(&injector.pass(Bytes::copy_from_slice(part.as_bytes())));
        }
        out.extend_from_slice(&injector.rest());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_tag_stands_once_before_the_end_of_the_head_wherever_the_page_is_cut() {
        let page = "<html><head><title>a</title></HEAD><body></head></body>";
        let tag = std::str::from_utf8(TAG).unwrap();
        let expected = page.replacen("</HEAD>", &format!("{tag}</HEAD>"), 1);
        for at in 0..page.len() {
            let (front, back) = page.split_at(at);
            assert_eq!(run(&[front, back]), expected, "cut at {at}");
        }
    }

    #[test]
    fn a_page_without_a_head_is_left_as_it_is() {
        assert_eq!(
            run(&["<p>", "a</he", "ad"]),
            format!("<p>a{}</head", std::str::from_utf8(TAG).unwrap())
        );
        assert_eq!(run(&["<p>", "a</he", "y"]), "<p>a</hey");
        assert_eq!(run(&["a</hea"]), "a</hea");
        let long = "x".repeat(SEARCHED_BYTES_MAX + 1);
        assert_eq!(run(&[&long, "</head>"]), format!("{long}</head>"));
    }
}
