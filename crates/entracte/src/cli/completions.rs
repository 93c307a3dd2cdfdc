//! `entracte completions`: for shells, and the manual page.

use clap_complete::Shell;

use super::command;
use crate::exit::{Exit, Failure};
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
        clap_mangen::Man::new(command()).render(&mut text)?;
        for sub in command().get_subcommands().filter(|sub| !sub.is_hide_set()) {
            clap_mangen::Man::new(sub.clone()).render_description_section(&mut text)?;
        }
    } else if let Some(shell) = args.shell {
        clap_complete::generate(shell, &mut command(), "entracte", &mut text);
    }
    out::bytes(&text);
    Ok(Exit::Done)
}
