//! Bins and hours on disk. A crash costs the last bin, and the last minutes of an hour's count.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use entracte_model::UnixMs;

use crate::bins::{Bin, HourOfWeek};
use crate::error::GateError;
use crate::files;

const DAY_MS: i64 = 86_400_000;

/// The folder of bins, a file a day named by its number since 1970, and the file of hours.
#[derive(Debug, Clone)]
pub(crate) struct BinFiles {
    bins: PathBuf,
    hours: PathBuf,
    kept_days: i64,
}

impl BinFiles {
    pub(crate) fn new(state_dir: &Path, kept_days: u32) -> Result<Self, GateError> {
        let bins = state_dir.join("bins");
        files::private_dir(&bins)?;
        Ok(Self { bins, hours: state_dir.join("hours.json"), kept_days: i64::from(kept_days) })
    }

    fn of_day(&self, day: i64) -> PathBuf {
        self.bins.join(format!("{day}.jsonl"))
    }

    /// The bins of the last day, oldest first. Lines that cannot be read are left out: the last
    /// one may be torn by a crash.
    pub(crate) fn load(&self, now: UnixMs, max: usize) -> VecDeque<Bin> {
        let today = now.0.div_euclid(DAY_MS);
        let mut bins = VecDeque::new();
        for day in [today - 1, today] {
            let text = fs::read_to_string(self.of_day(day)).unwrap_or_default();
            bins.extend(text.lines().filter_map(|line| serde_json::from_str::<Bin>(line).ok()));
        }
        let surplus = bins.len().saturating_sub(max);
        bins.drain(..surplus);
        bins
    }

    /// The bins of the files that began in `from..to`, oldest first; of more than `max`, the last.
    pub(crate) fn between(&self, from: UnixMs, to: UnixMs, max: usize) -> VecDeque<Bin> {
        let last = to.0.div_euclid(DAY_MS);
        let first = from.0.div_euclid(DAY_MS).max(last - self.kept_days);
        let mut bins = VecDeque::new();
        for day in first..=last {
            let text = fs::read_to_string(self.of_day(day)).unwrap_or_default();
            let read = text.lines().filter_map(|line| serde_json::from_str::<Bin>(line).ok());
            bins.extend(read.filter(|bin| (from..to).contains(&bin.from)));
            let surplus = bins.len().saturating_sub(max);
            bins.drain(..surplus);
        }
        bins
    }

    /// The hours that are kept. A damaged file means that the counting begins anew.
    pub(crate) fn load_hours(&self, max: usize) -> VecDeque<HourOfWeek> {
        let bytes = fs::read(&self.hours).unwrap_or_default();
        let mut hours: VecDeque<HourOfWeek> = serde_json::from_slice(&bytes).unwrap_or_default();
        let surplus = hours.len().saturating_sub(max);
        hours.drain(..surplus);
        hours
    }

    /// Appends a bin, and removes the files that are too old when a day begins.
    pub(crate) fn append(&self, bin: &Bin) -> Result<(), GateError> {
        let day = bin.from.0.div_euclid(DAY_MS);
        let path = self.of_day(day);
        let is_new_day = !path.exists();
        let write = || {
            let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
            let mut line = serde_json::to_vec(bin)?;
            line.push(b'\n');
            file.write_all(&line)
        };
        write().map_err(GateError::file("append to", &path))?;
        if is_new_day { self.remove_before(day - self.kept_days) } else { Ok(()) }
    }

    fn remove_before(&self, day: i64) -> Result<(), GateError> {
        let listed = fs::read_dir(&self.bins).map_err(GateError::file("list", &self.bins))?;
        for path in listed.filter_map(Result::ok).map(|entry| entry.path()) {
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .and_then(|stem| stem.parse::<i64>().ok());
            if number.is_some_and(|number| number < day) {
                fs::remove_file(&path).map_err(GateError::file("remove", &path))?;
            }
        }
        Ok(())
    }

    pub(crate) fn save_hours(&self, hours: &[HourOfWeek]) -> Result<(), GateError> {
        let text = serde_json::to_vec(hours).expect("hours have only finite numbers");
        files::replace(&self.hours, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_come_back_without_a_torn_line_and_old_days_go() {
        let dir = tempfile::tempdir().unwrap();
        let files = BinFiles::new(dir.path(), 2).unwrap();
        for day in 10..15 {
            files
                .append(&Bin { from: UnixMs(day * DAY_MS), requests: 1, ..Bin::default() })
                .unwrap();
        }
        let mut left: Vec<_> = fs::read_dir(dir.path().join("bins"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["12.jsonl", "13.jsonl", "14.jsonl"]);
        let mut torn = OpenOptions::new().append(true).open(files.of_day(14)).unwrap();
        torn.write_all(b"{\"from\":12").unwrap();
        let loaded = files.load(UnixMs(14 * DAY_MS + 5), 10);
        assert_eq!(loaded.iter().map(|bin| bin.from.0 / DAY_MS).collect::<Vec<_>>(), [13, 14]);
        assert_eq!(files.load(UnixMs(14 * DAY_MS + 5), 1).len(), 1);
        let days = |from, to, max| {
            let bins = files.between(UnixMs(from * DAY_MS), UnixMs(to * DAY_MS), max);
            bins.iter().map(|bin| bin.from.0 / DAY_MS).collect::<Vec<_>>()
        };
        assert_eq!(days(0, 14, 9), [12, 13]);
        assert_eq!(days(0, 15, 1), [14]);
        assert!(days(15, 20, 9).is_empty());
    }
}
