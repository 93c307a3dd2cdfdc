//! Files of the news folder. Read-only, and never outside of it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};

use super::with_etag;
use crate::body::Answer;
use crate::pages;

/// A file, and what tells whether it changed.
#[derive(Debug)]
struct Found {
    content: Vec<u8>,
    tag: String,
}

/// Why a file is not served.
#[derive(Debug)]
enum Not {
    Here,
    AFile,
    Small,
}

/// Serves `file` (percent-encoded, as it was asked for) of `dir`.
pub(super) async fn serve(
    dir: &Path,
    file: &str,
    parts: &Parts,
    bytes_max: u64,
) -> Response<Answer> {
    let Some(mut name) = safe_name(file) else {
        return pages::plain(StatusCode::NOT_FOUND, "not here");
    };
    if name.is_empty() || name.ends_with('/') {
        name.push_str("index.html");
    }
    let kind = content_type(&name);
    let dir = dir.to_owned();
    let read = tokio::task::spawn_blocking(move || read(&dir, &name, bytes_max)).await;
    match read.unwrap_or(Err(Not::Here)) {
        Ok(found) => {
            let mut response = Response::new(Answer::whole(found.content));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            let policy = "default-src 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; base-uri 'none'";
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
            with_etag(parts, response, &found.tag, "no-cache")
        }
        Err(Not::AFile) => {
            let mut response = pages::plain(StatusCode::PERMANENT_REDIRECT, "moved");
            let to = format!("/_entracte/news/{file}/");
            if let Ok(to) = HeaderValue::from_str(&to) {
                response.headers_mut().insert(header::LOCATION, to);
            }
            response
        }
        Err(Not::Here | Not::Small) => pages::plain(StatusCode::NOT_FOUND, "not here"),
    }
}

/// The decoded name, where it can only mean a file inside: no parents, no hidden files, no
/// control characters.
fn safe_name(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    let parts: Vec<&str> = name.split('/').collect();
    let last = parts.len() - 1;
    let bad = |(at, part): (usize, &&str)| part.starts_with('.') || (part.is_empty() && at != last);
    let unsafe_char = |c: char| c.is_control() || c == '\\';
    (name.len() <= 1_024 && !name.contains(unsafe_char) && !parts.iter().enumerate().any(bad))
        .then_some(name)
}

fn read(dir: &Path, name: &str, bytes_max: u64) -> Result<Found, Not> {
    let opened = || {
        let folder = open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        // The kernel refuses a way out of the folder, also through a link that was put there.
        // NONBLOCK: opening a pipe must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let bounds =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(&folder, name, flags, Mode::empty(), bounds)
    };
    let file = File::from(opened().map_err(|_| Not::Here)?);
    let about = file.metadata().map_err(|_| Not::Here)?;
    if about.is_dir() {
        return Err(Not::AFile);
    }
    if !about.is_file() {
        return Err(Not::Here);
    }
    if about.len() > bytes_max {
        return Err(Not::Small);
    }
    let mut content = Vec::new();
    let whole: io::Result<usize> = file.take(bytes_max).read_to_end(&mut content);
    whole.map_err(|_| Not::Here)?;
    let tag = format!(
        "\"{:x}-{:x}-{:x}-{:x}\"",
        about.len(),
        about.mtime(),
        about.mtime_nsec(),
        about.ino()
    );
    Ok(Found { content, tag })
}

fn content_type(name: &str) -> &'static str {
    let file = name.rsplit('/').next().unwrap_or(name);
    match file {
        "feed.json" => return "application/feed+json",
        "atom.xml" => return "application/atom+xml",
        "rss.xml" => return "application/rss+xml",
        _ => {}
    }
    match file.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        "json" => "application/json",
        "xml" => "application/xml",
        "atom" => "application/atom+xml",
        "rss" => "application/rss+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "svg" => "image/svg+xml",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        assert_eq!(safe_name("en/1.1.0.html").as_deref(), Some("en/1.1.0.html"));
        assert_eq!(safe_name("caf%C3%A9.html").as_deref(), Some("café.html"));
        assert_eq!(safe_name("en/").as_deref(), Some("en/"));
        assert_eq!(safe_name("").as_deref(), Some(""));
        for bad in [
            "../x",
            "en/../../x",
            "%2e%2e/x",
            "/etc/passwd",
            "en//x",
            ".git/config",
            "a%00b",
            "a\\b",
            "%2",
            "%zz",
            "%+1",
            "%ff",
            "en/.hidden",
        ] {
            assert_eq!(safe_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_link_leads_out_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        let news = dir.path().join("news");
        std::fs::create_dir(&news).unwrap();
        std::os::unix::fs::symlink("../secret", news.join("link")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), news.join("link2")).unwrap();
        std::fs::write(news.join("a.html"), "hello").unwrap();
        assert_eq!(read(&news, "a.html", 100).unwrap().content, b"hello");
        assert!(matches!(read(&news, "a.html", 4), Err(Not::Small)));
        assert!(matches!(read(&news, "link", 100), Err(Not::Here)));
        assert!(matches!(read(&news, "link2", 100), Err(Not::Here)));
        assert!(matches!(read(&news, "../secret", 100), Err(Not::Here)));
    }

    #[test]
    fn feeds_have_their_types() {
        assert_eq!(content_type("fr/atom.xml"), "application/atom+xml");
        assert_eq!(content_type("fr/feed.json"), "application/feed+json");
        assert_eq!(content_type("x.SVG"), "image/svg+xml");
        assert_eq!(content_type("none"), "application/octet-stream");
    }
}
