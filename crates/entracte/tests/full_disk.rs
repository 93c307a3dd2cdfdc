//! A disk that is full from the beginning of each step on: production stays exactly the old version,
//! the message names what is full, and once there is room the same package is released.

#![allow(clippy::unwrap_used)] // A test that cannot be set up has failed.

mod small;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use small::{Places, STEPS, Small, ends, signal, step};

/// The size of each file system. A release wants 16 MiB to spare on each of them, and a reserve.
const DISK: &str = "size=48m";
/// What is written at once to fill one up, in bytes, from coarse to fine.
const FILLER_BYTES: [usize; 3] = [1 << 20, 4096, 1];

/// A small file system of its own, unmounted when this is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(at).output();
        let output = mounted.unwrap();
        assert!(
            output.status.success(),
            "mounting a tmpfs needs root; run this test as root: {}",
            small::said(&output)
        );
        Self(at.to_owned())
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        use std::io::Write;
        let mut file = fs::File::create(self.filler()).unwrap();
        for size in FILLER_BYTES {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whatever still looks at it lets go later.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Which disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    State,
    Game,
}

fn full_from(which: Which, at: usize) {
    let case = format!("{which:?} full from {} on", STEPS[at]);
    let home = tempfile::tempdir().unwrap();
    let (state, web) = (home.path().join("state"), home.path().join("www"));
    let (state_disk, web_disk) = (Disk::mount(&state), Disk::mount(&web));
    let mut site =
        Small::start_with("1.1", "", |_| Places { web: web.clone(), state: state.clone() });
    assert!(site.buy(), "{case}");
    let disk = if which == Which::State { &state_disk } else { &web_disk };
    let (mut deploy, runner) = site.deploy_paused("1.1", "started", at);
    disk.fill();
    signal(runner, "CONT");
    let code = ends(&mut deploy).unwrap();

    // Some steps need no room where it is missing; then the release may simply go on.
    let needs_room = match which {
        Which::State => at <= step("reopen"),
        Which::Game => at <= step("stage"),
    };
    if needs_room {
        assert!([3, 4].contains(&code), "{case}: ended with {code}\n{}", site.logs());
        let log = site.ok(&["log"]);
        let says = ["full", "No space left", "no room left", "has 0 B free"]
            .iter()
            .any(|text| log.contains(text));
        assert!(says, "{case}: says nothing:\n{log}");
        assert!(log.contains(&disk.0.display().to_string()), "{case}: does not say which:\n{log}");
        assert_eq!(site.phase(), "open", "{case}");
        disk.free();
        site.assert_is("1.0", &[], &case);
        site.ok(&["deploy", "1.1", "--yes"]);
        site.reference.migrate("1.1");
        site.assert_is("1.1", &["r2"], &format!("{case}, then free"));
    } else {
        assert_eq!(code, 0, "{case}\n{}", site.logs());
        disk.free();
        site.reference.migrate("1.1");
        site.assert_is("1.1", &["r1"], &case);
    }
}

#[test]
fn a_full_state_folder_takes_the_release_back() {
    for at in 0..STEPS.len() {
        full_from(Which::State, at);
    }
}

#[test]
fn a_full_disk_of_the_game_takes_the_release_back() {
    for at in 0..STEPS.len() {
        full_from(Which::Game, at);
    }
}
