//! The commands' manual: every command has its section, with every option, and none that is not
//! there.

use std::collections::BTreeSet;

use super::Finding;
use super::files::Files;
use super::links::prose;

const CLI: &str = "crates/entracte/src/cli/";
const MANUAL: &str = "docs/commands.md";
/// Options that clap gives to every command by itself.
const OF_CLAP: [&str; 2] = ["help", "version"];

/// Checks the manual of the commands against the command line, both ways.
pub fn check(files: &Files) -> Vec<Finding> {
    let Some(code) = files.text(&format!("{CLI}mod.rs")) else { return vec![] };
    let Some(manual) = files.text(MANUAL) else {
        return vec![Finding::new(MANUAL, 0, "is missing")];
    };
    let global: BTreeSet<String> =
        options(code).into_iter().chain(OF_CLAP.map(str::to_owned)).collect();
    let sections = sections(manual);
    let commands = commands(code);
    let mut findings = Vec::new();
    for (name, line, _) in &sections {
        if !commands.contains(name) {
            findings.push(Finding::new(MANUAL, *line, format!("there is no command `{name}`")));
        }
    }
    for command in &commands {
        let Some((_, line, text)) = sections.iter().find(|(name, ..)| name == command) else {
            findings.push(Finding::new(MANUAL, 0, format!("`entracte {command}` has no section")));
            continue;
        };
        let own = own_options(files, command);
        let told = told_options(text);
        for option in own.difference(&told) {
            let what = format!("`entracte {command}`: --{option} is not told");
            findings.push(Finding::new(MANUAL, *line, what));
        }
        for option in
            told.iter().filter(|option| !own.contains(*option) && !global.contains(*option))
        {
            let what = format!("`entracte {command}` has no option --{option}");
            findings.push(Finding::new(MANUAL, *line, what));
        }
    }
    findings
}

/// The commands that are not hidden, as they are typed.
fn commands(code: &str) -> BTreeSet<String> {
    let body = code.split("enum Command {").nth(1).and_then(|rest| rest.split("\n}").next());
    let mut hidden = false;
    let mut found = BTreeSet::new();
    for line in body.unwrap_or_default().lines().map(str::trim) {
        if line.starts_with("#[") {
            hidden |= line.contains("hide = true");
        } else if let Some((variant, _)) = line.split_once('(')
            && !std::mem::take(&mut hidden)
        {
            found.insert(kebab(variant));
        }
    }
    found
}

/// The options of a command: of its file and, where it is a folder, of all files in it.
fn own_options(files: &Files, command: &str) -> BTreeSet<String> {
    let module = command.replace('-', "_");
    let (file, folder) = (format!("{CLI}{module}.rs"), format!("{CLI}{module}/"));
    let own = files.texts().filter(|(path, _)| *path == file || path.starts_with(&folder));
    // What a hidden command takes stands in a struct of its own, beside that of the shown one.
    let shown = |text: &str| -> String {
        let parts = text.split("\npub struct ");
        parts
            .filter(|part| !part.starts_with(|c: char| c.is_ascii_uppercase()) || is_shown(part))
            .collect()
    };
    own.flat_map(|(_, text)| options(&shown(text))).collect()
}

/// Whether a struct, from behind `pub struct`, is that of a command in the manual.
fn is_shown(part: &str) -> bool {
    part.starts_with("Args ")
}

/// The long options that a file declares: the field behind each `#[arg(long …)]`.
fn options(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut lines = code.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line != "#[arg(" && !(line.starts_with("#[arg(") && has_long(line)) {
            continue;
        }
        let mut attribute = line.to_owned();
        while !attribute.ends_with(']') {
            let Some(more) = lines.next() else { break };
            attribute += more;
        }
        let is_shown = has_long(&attribute) && !attribute.contains("hide = true");
        let field = lines.find(|line| !line.starts_with("#[") && !line.starts_with("//"));
        let own = attribute.split("long = \"").nth(1).and_then(|rest| rest.split('"').next());
        if let Some((field, _)) = field.and_then(|field| field.split_once(':'))
            && is_shown
        {
            let field = field.rsplit(' ').next().unwrap_or(field);
            found.insert(own.map_or_else(|| kebab(field), str::to_owned));
        }
    }
    found
}

fn has_long(attribute: &str) -> bool {
    let words = attribute.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.into_iter().any(|word| word == "long")
}

fn kebab(name: &str) -> String {
    let mut found = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !found.is_empty() {
            found.push('-');
        }
        found.push(if c == '_' { '-' } else { c.to_ascii_lowercase() });
    }
    found
}

/// The sections `## entracte NAME`, with their lines and texts.
fn sections(manual: &str) -> Vec<(String, usize, String)> {
    let headings: Vec<(usize, &str)> =
        prose(manual).filter(|(_, line)| line.starts_with("## ")).collect();
    let lines: Vec<&str> = manual.lines().collect();
    let ends = headings.iter().skip(1).map(|(line, _)| line - 1).chain([lines.len()]);
    let mut found = Vec::new();
    for ((line, heading), end) in headings.iter().zip(ends) {
        let title = heading.trim_start_matches("## ").replace('`', "");
        if let Some(name) = title.strip_prefix("entracte ") {
            found.push((name.trim().to_owned(), *line, lines[*line..end].join("\n")));
        }
    }
    found
}

/// Every `--option` of a text.
fn told_options(text: &str) -> BTreeSet<String> {
    let name = |part: &str| -> String {
        part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
    };
    let starts = text.match_indices("--").filter(|(at, _)| {
        let before = text[..*at].chars().next_back();
        before.is_none_or(|c| matches!(c, ' ' | '`' | '\n' | '(' | '[' | '|'))
    });
    starts
        .map(|(at, _)| name(&text[at + 2..]))
        .filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOD: &str = "
pub struct Global {
    /// As JSON
    #[arg(long, global = true)]
    json: bool,
}
enum Command {
    Deploy(deploy::Args),
    #[command(hide = true)]
    DemoGame(demo::GameArgs),
}
";
    const DEPLOY: &str = "
pub struct HiddenArgs {
    #[arg(long)]
    inner: bool,
}
pub struct Args {
    /// A package
    package: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[arg(long = \"in\", value_name = \"LANG\")]
    other: Vec<String>,
    #[arg(
        long,
        value_name = \"WHEN\"
    )]
    pub start_at: Option<String>,
}
";

    fn whats(manual: &str) -> Vec<String> {
        let files = Files::of(&[
            ("crates/entracte/src/cli/mod.rs", MOD),
            ("crates/entracte/src/cli/deploy.rs", DEPLOY),
            (MANUAL, manual),
        ]);
        check(&files).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_manual_that_tells_everything_has_no_findings() {
        let manual = "# Commands\n## entracte deploy\n`--yes`, `--in LANG`, `--start-at WHEN`, `--json`\n## Else\n--x\n";
        assert_eq!(whats(manual), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_told_and_what_does_not_exist_is_found() {
        assert_eq!(whats("# Commands\n"), ["`entracte deploy` has no section"]);
        let manual = "## `entracte deploy`\n`--yes` `--in` `--force`\n## entracte fly\n";
        assert_eq!(
            whats(manual),
            [
                "there is no command `fly`",
                "`entracte deploy`: --start-at is not told",
                "`entracte deploy` has no option --force",
            ]
        );
    }
}
