//! The first line of an agent: that it is one, and which protocols it speaks.
//!
//! A login shell may print before it (a greeting, a warning about locales): so much is skipped.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use super::PROTOCOL;

/// How the line begins; the control character keeps it apart from whatever shells print.
const MARK: &str = "\u{1}entracte-agent ";
/// How many bytes of other things may come before it.
const NOISE_BYTES_MAX: u64 = 64 << 10;

/// What an agent says of itself before anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The oldest and the newest protocol that it speaks.
    pub protocols: (u32, u32),
    /// The version of the program.
    pub tool: String,
}

/// Why there was no greeting.
#[derive(Debug, thiserror::Error)]
pub enum NoGreeting {
    /// Reading failed.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// Other things came.
    #[error("no agent answered{}", said(noise))]
    Noise {
        /// The last line of what came.
        noise: String,
    },
}

fn said(noise: &str) -> String {
    if noise.is_empty() { String::new() } else { format!(", but: {noise}") }
}

impl Greeting {
    /// This program's.
    pub fn this(tool: &str) -> Self {
        Self { protocols: (PROTOCOL, PROTOCOL), tool: tool.to_owned() }
    }

    /// Writes it.
    ///
    /// # Errors
    /// A connection that broke.
    pub fn write(&self, into: &mut impl Write) -> io::Result<()> {
        let text = serde_json::to_string(self).map_err(io::Error::other)?;
        writeln!(into, "{MARK}{text}")?;
        into.flush()
    }

    /// Reads it, past whatever a shell printed before.
    ///
    /// # Errors
    /// A connection that broke, and too much of other things, or nothing but those.
    pub fn read(from: &mut impl BufRead) -> Result<Self, NoGreeting> {
        let mut left = NOISE_BYTES_MAX;
        let mut noise = String::new();
        loop {
            let mut line = Vec::new();
            let read = io::Read::take(&mut *from, left).read_until(b'\n', &mut line)?;
            left -= read as u64;
            let line = String::from_utf8_lossy(&line);
            if let Some(at) = line.find(MARK)
                && let Ok(greeting) = serde_json::from_str(line[at + MARK.len()..].trim_end())
            {
                return Ok(greeting);
            }
            if read == 0 {
                return Err(NoGreeting::Noise { noise });
            }
            if !line.trim().is_empty() {
                noise = line.trim().chars().filter(|c| !c.is_control()).take(200).collect();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_may_print_before_it() {
        let mut bytes = b"Welcome to Debian\nperl: warning: no locale".to_vec();
        let greeting = Greeting::this("0.1.0");
        greeting.write(&mut bytes).unwrap();
        bytes.extend(b"mrest");
        let mut from = &bytes[..];
        assert_eq!(Greeting::read(&mut from).unwrap(), greeting);
        assert_eq!(from, b"mrest", "what follows is left for the frames");
    }

    #[test]
    fn what_is_no_agent_is_said() {
        let error = Greeting::read(&mut &b"\nThis account is not available.\n"[..]).unwrap_err();
        assert!(error.to_string().ends_with("but: This account is not available."), "{error}");
        let endless = vec![b'x'; 200_000];
        assert!(matches!(Greeting::read(&mut &endless[..]), Err(NoGreeting::Noise { .. })));
    }
}
