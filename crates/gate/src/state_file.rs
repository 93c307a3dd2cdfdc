//! The gate's state on disk: written and synced before the gate acts on it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use entracte_model::UnixMs;
use entracte_model::gate::{STATE_FORMAT, State};

use crate::error::GateError;
use crate::files;

/// Where the state is kept.
#[derive(Debug, Clone)]
pub(crate) struct StateFile {
    path: PathBuf,
}

/// What was found at the start.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) state: State,
    /// Set where the written state could not be read; the gate is closed then.
    pub(crate) alarm: Option<String>,
}

impl StateFile {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("state.json") }
    }

    /// Reads the state back. A file that cannot be understood closes the gate and is kept aside:
    /// a gate that guesses "open" could let players into a half-migrated database.
    pub(crate) fn load(&self, now: UnixMs) -> Result<Loaded, GateError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let state = State::initial(now);
                self.save(&state)?;
                return Ok(Loaded { state, alarm: None });
            }
            Err(error) => return Err(GateError::file("read", &self.path)(error)),
        };
        let problem = match serde_json::from_slice::<State>(&bytes) {
            Ok(state) if state.format == STATE_FORMAT => return Ok(Loaded { state, alarm: None }),
            Ok(state) => format!("format {} instead of {STATE_FORMAT}", state.format),
            Err(error) => error.to_string(),
        };
        let aside = files::set_aside(&self.path)?;
        let state = State::unreadable(now);
        self.save(&state)?;
        let alarm = format!(
            "the written state could not be read ({problem}), so the gate is closed; the file is kept as {}. \
             Open the gate when the game is known to be whole",
            aside.display()
        );
        Ok(Loaded { state, alarm: Some(alarm) })
    }

    /// Writes the state. When this returns, the gate comes back in it after any crash; a crash
    /// inside leaves the previous state, which nobody was told has ended.
    pub(crate) fn save(&self, state: &State) -> Result<(), GateError> {
        let text = serde_json::to_vec_pretty(state).expect("a state has only texts and numbers");
        files::replace(&self.path, &text)
    }
}

/// What a gate whose folder is `state_dir` last wrote down, for when the gate itself does not
/// answer: it comes back in this state. Nothing where that cannot be read.
pub fn last_state(state_dir: &Path) -> Option<State> {
    let bytes = fs::read(StateFile::new(state_dir).path).ok()?;
    serde_json::from_slice::<State>(&bytes).ok().filter(|state| state.format == STATE_FORMAT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use entracte_model::gate::{Goal, Phase};

    #[test]
    fn a_state_comes_back_and_a_damaged_one_closes_the_gate() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(dir.path());
        assert_eq!(file.load(UnixMs(1)).unwrap().state.phase, Phase::Open);
        let held = State {
            phase: Phase::Holding,
            goal: Goal::new(4, Phase::Holding, "x"),
            ..State::initial(UnixMs(1))
        };
        file.save(&held).unwrap();
        assert_eq!(file.load(UnixMs(2)).unwrap().state, held);

        for damage in [&b"{"[..], b"", b"{\"format\":2}", &[0xff, 0, 1]] {
            fs::write(dir.path().join("state.json"), damage).unwrap();
            let loaded = file.load(UnixMs(3)).unwrap();
            assert_eq!(loaded.state.phase, Phase::Closed);
            assert!(loaded.alarm.is_some());
        }
        assert_eq!(fs::read(dir.path().join("state.bad-1")).unwrap(), b"{");
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let newer = State { format: STATE_FORMAT + 1, ..State::initial(UnixMs(1)) };
        let file = StateFile::new(dir.path());
        file.save(&newer).unwrap();
        let loaded = file.load(UnixMs(2)).unwrap();
        assert_eq!(loaded.state.phase, Phase::Closed);
        assert!(loaded.alarm.unwrap().contains("format 2"));
    }
}
