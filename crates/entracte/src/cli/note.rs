//! `entracte note`: writes a change down while it is made, so that the patch notes write themselves.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueEnum;
use entracte_announce::fragment::{self, Audience, Kind};
use serde_json::json;

use super::App;
use crate::exit::{Exit, Failure};

/// Note a change while you make it; the patch notes are made of these
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte note \"The market opens at level 5\"
  entracte note --kind fixed \"Arrows no longer cost twice\" --fr \"Les flèches ne coûtent plus double\"
  entracte note --kind internal --internal \"only moves files\" \"Sorted the includes\"
  entracte note --list")]
pub struct Args {
    /// What changed, for the players, in the first configured language
    #[arg(required_unless_present = "list")]
    text: Option<String>,
    /// The same in another language: `--in fr=\"…\"`
    #[arg(long = "in", value_name = "LANG=TEXT")]
    other: Vec<String>,
    /// The same in French
    #[arg(long, value_name = "TEXT")]
    fr: Option<String>,
    /// The kind of change
    #[arg(long, value_enum, default_value_t = KindArg::Changed)]
    kind: KindArg,
    /// The part of the game, such as `market`
    #[arg(long)]
    area: Option<String>,
    /// A commit or issue it stands for
    #[arg(long = "ref", value_name = "REF")]
    refs: Vec<String>,
    /// Tell nobody, for this reason
    #[arg(long, value_name = "REASON")]
    internal: Option<String>,
    /// The name of its file; without it, made of the text
    #[arg(long)]
    slug: Option<String>,
    /// List what is noted
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArg {
    Added,
    Changed,
    Fixed,
    Balance,
    Removed,
    Security,
    Internal,
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Kind {
        match kind {
            KindArg::Added => Kind::Added,
            KindArg::Changed => Kind::Changed,
            KindArg::Fixed => Kind::Fixed,
            KindArg::Balance => Kind::Balance,
            KindArg::Removed => Kind::Removed,
            KindArg::Security => Kind::Security,
            KindArg::Internal => Kind::Internal,
        }
    }
}

/// The longest name made of a text, in characters.
const SLUG_CHARS_MAX: usize = 48;

pub fn run(app: &App, args: &Args) -> Result<Exit, Failure> {
    let config = app.config()?;
    let dir = config.at(&config.file.source.changes);
    if args.list {
        return list(app, &dir);
    }
    let text = args.text.as_deref().unwrap_or_default().trim();
    if text.is_empty() {
        return Err(Failure::usage("what changed? The note is empty")
            .hint("entracte note \"The market opens at level 5\""));
    }
    let first = config.file.languages.first().cloned().unwrap_or_else(|| "en".into());
    let mut texts = BTreeMap::from([(first, text.to_owned())]);
    if let Some(french) = &args.fr {
        texts.insert("fr".into(), french.clone());
    }
    for other in &args.other {
        let bad =
            || Failure::usage(format!("{other:?}: expected a language and a text: --in de=\"…\""));
        let (lang, text) = other.split_once('=').ok_or_else(bad)?;
        if lang.is_empty() || !lang.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(bad());
        }
        texts.insert(lang.to_owned(), text.to_owned());
    }
    // A language that is still missing gets its heading, so that it is not forgotten.
    if args.internal.is_none() {
        for lang in &config.file.languages {
            texts.entry(lang.clone()).or_default();
        }
    }
    let audience = match &args.internal {
        Some(reason) => Audience::None { reason: reason.clone() },
        None => Audience::Players,
    };
    let body =
        fragment::render_new(args.kind.into(), &audience, args.area.as_deref(), &args.refs, &texts);
    let name = match &args.slug {
        Some(given) => checked(given)?,
        None => slug(text),
    };
    let path = free_path(&dir, &name)?;
    std::fs::create_dir_all(&dir)?;
    entracte_host::durable::write(&path, body.as_bytes(), 0o644)?;
    let missing: Vec<&String> =
        texts.iter().filter(|(_, text)| text.is_empty()).map(|(lang, _)| lang).collect();
    let mut said = format!("{} {}", app.paint.good("Noted:"), path.display());
    if !missing.is_empty() {
        let list: Vec<&str> = missing.iter().map(|lang| lang.as_str()).collect();
        said.push_str(&format!("\n  still to be written in: {}", list.join(", ")));
    }
    app.print(said, &json!({ "path": path, "missing_languages": missing }));
    Ok(Exit::Done)
}

fn list(app: &App, dir: &std::path::Path) -> Result<Exit, Failure> {
    if !dir.is_dir() {
        app.print("nothing is noted", &json!([]));
        return Ok(Exit::Done);
    }
    let fragments = fragment::read_folder(dir).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure::refused(lines.join("\n"))
    })?;
    let width = fragments.iter().map(|fragment| fragment.slug.len()).max().unwrap_or(0);
    for fragment in &fragments {
        let text =
            fragment.text.values().next().map_or("", |text| text.lines().next().unwrap_or(""));
        app.say(format!("{:9} {:width$}  {text}", fragment.kind.word(), fragment.slug));
    }
    if fragments.is_empty() {
        app.say("nothing is noted");
    }
    app.document(&serde_json::to_value(&fragments)?);
    Ok(Exit::Done)
}

/// A name that somebody gave, which must be one that the reader of the folder takes.
fn checked(slug: &str) -> Result<String, Failure> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if slug.is_empty() || !slug.chars().all(plain) {
        let message = format!("expected a name of small letters, digits and `-`, found {slug:?}");
        return Err(Failure::usage(message).hint("--slug open-market"));
    }
    Ok(slug.to_owned())
}

/// A file name from a text: `The market opens!` gives `the-market-opens`.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
        if slug.len() >= SLUG_CHARS_MAX {
            break;
        }
    }
    let slug = slug.trim_matches('-');
    if slug.is_empty() { "change".into() } else { slug.to_owned() }
}

fn free_path(dir: &std::path::Path, slug: &str) -> Result<PathBuf, Failure> {
    let candidates =
        std::iter::once(slug.to_owned()).chain((2..1_000).map(|n| format!("{slug}-{n}")));
    let path = candidates.map(|name| dir.join(format!("{name}.md"))).find(|path| !path.exists());
    path.ok_or_else(|| Failure::refused(format!("{slug} is taken a thousand times")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_made_of_the_text() {
        assert_eq!(slug("The market opens at level 5!"), "the-market-opens-at-level-5");
        assert_eq!(slug("Über: été"), "ber-t");
        assert_eq!(slug("…"), "change");
    }
}
