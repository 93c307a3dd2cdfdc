//! What a benchmark says about the machine that it ran on, and how it gets into the docs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The workspace's folder of documents.
pub fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// The machine in one line: cores, memory, the disk of the temporary folder, kernel.
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let memory_kib: u64 = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.trim_end_matches("kB").trim().parse().ok())
        .unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores ({cpu}), {:.0} GB of memory, {}, Linux {}{}",
        memory_kib as f64 * 1024.0 / 1e9,
        disk(&std::env::temp_dir()),
        kernel.trim(),
        if cfg!(debug_assertions) { ", a development build" } else { "" }
    )
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The file system of `folder` and the device below it, by the longest mount point that fits.
fn disk(folder: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mount = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?, words.next()?))
        })
        .filter(|(_, at, _)| folder.starts_with(at))
        .max_by_key(|(_, at, _)| at.len());
    let Some((device, _, kind)) = mount else { return "an unknown disk".into() };
    let name = device.trim_start_matches("/dev/");
    let spins = fs::read_to_string(format!("/sys/block/{name}/queue/rotational"));
    let sort = match spins.as_deref().map(str::trim) {
        Ok("0") => ", no spinning disk",
        Ok(_) => ", a spinning or virtual disk",
        Err(_) => "",
    };
    format!("{kind} on {device}{sort}")
}

/// Replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->` in a document.
///
/// # Errors
/// Where the document cannot be read or written, or has no such place.
pub fn write_between(document: &Path, name: &str, text: &str) -> io::Result<()> {
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let old = fs::read_to_string(document)?;
    let missing = || io::Error::other(format!("{} lacks {begin} … {end}", document.display()));
    let (before, rest) = old.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    fs::write(document, format!("{before}{begin}\n{}\n{end}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_keeps_what_stands_around_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("doc.md");
        fs::write(&file, "# A\n<!-- t -->\nold\n<!-- /t -->\nend\n").unwrap();
        write_between(&file, "t", "new\n").unwrap();
        let found = fs::read_to_string(&file).unwrap();
        assert_eq!(found, "# A\n<!-- t -->\nnew\n<!-- /t -->\nend\n");
        assert!(write_between(&file, "other", "x").is_err());
    }

    #[test]
    fn a_machine_has_cores_and_a_disk() {
        let text = describe();
        assert!(!text.starts_with("0 cores") && text.contains(" on "), "{text}");
    }
}
