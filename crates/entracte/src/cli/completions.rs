//! `entracte completions`: for shells, and the manual page.

use std::io::Write;

use clap_complete::Shell;

use super::command;
use crate::exit::{Exit, Failure, TABLE};
use crate::report::out;

/// Print completions for a shell, or the manual page
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  entracte completions bash > /etc/bash_completion.d/entracte
  entracte completions zsh > ~/.zfunc/_entracte
  entracte completions --man > /usr/local/share/man/man1/entracte.1")]
pub struct Args {
    /// The shell
    #[arg(required_unless_present = "man")]
    shell: Option<Shell>,
    /// The manual page instead
    #[arg(long)]
    man: bool,
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    if args.man {
        manual(&mut text)?;
    } else if let Some(shell) = args.shell {
        clap_complete::generate(shell, &mut command(), "entracte", &mut text);
    }
    out::bytes(&text);
    Ok(Exit::Done)
}

/// One page for everything: each command with what its `--help` says.
fn manual(text: &mut Vec<u8>) -> std::io::Result<()> {
    let mut program = command();
    program.build();
    let page = clap_mangen::Man::new(program.clone());
    page.render_title(text)?;
    page.render_name_section(text)?;
    page.render_synopsis_section(text)?;
    page.render_description_section(text)?;
    page.render_options_section(text)?;
    writeln!(text, ".SH COMMANDS")?;
    for sub in program.get_subcommands_mut().filter(|sub| !sub.is_hide_set()) {
        let name = sub.get_name().to_owned();
        if name != "help" {
            writeln!(text, ".SS \"entracte {name}\"\n.nf")?;
            write!(text, "{}", escaped(&sub.render_long_help().to_string()))?;
            writeln!(text, ".fi")?;
        }
    }
    writeln!(text, ".SH \"EXIT CODES\"\n.nf")?;
    write!(text, "{}", escaped(TABLE.split_once('\n').map_or(TABLE, |(_, codes)| codes)))?;
    writeln!(text, ".fi")
}

/// Text that roff takes as it is: no line of it is a request, no character an escape.
fn escaped(text: &str) -> String {
    let line = |line: &str| {
        let mut escaped = String::new();
        for c in line.chars() {
            match c {
                '\\' => escaped.push_str("\\(rs"),
                '-' => escaped.push_str("\\-"),
                c if c.is_ascii() => escaped.push(c),
                c => escaped.push_str(&format!("\\[u{:04X}]", u32::from(c))),
            }
        }
        let line = escaped;
        match line.starts_with(['.', '\'']) {
            true => format!("\\&{line}\n"),
            false => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_text_is_a_request_to_roff() {
        assert_eq!(escaped(".TH x\n'a\n--b \\ é"), "\\&.TH x\n\\&'a\n\\-\\-b \\(rs \\[u00E9]\n");
    }
}
