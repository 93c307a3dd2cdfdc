//! Tests that want a process of their own: other rights, or mounts that nobody else sees.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// What tells the second process that it is the one.
const MARK: &str = "ENTRACTE_TEST_ALONE";

/// Runs the test of this name again as root of a mount namespace of its own, so that what it mounts
/// is seen by nobody else and gone at its end. True in that second process.
///
/// # Panics
/// Where the second process fails, with what it said.
pub fn in_own_namespace(test: &str) -> bool {
    if is_second() {
        return true;
    }
    let mut unshare = Command::new("unshare");
    if !rustix::process::getuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--mount", "--propagation", "private"]).arg(this_program());
    run_again(unshare, test);
    false
}

/// Runs the test of this name again as nobody, for whom, other than for root, there are files that
/// cannot be read or written. True in that second process, and where we are not root anyway.
///
/// # Panics
/// Where the second process fails, with what it said.
pub fn as_nobody(test: &str) -> bool {
    if !rustix::process::getuid().is_root() || is_second() {
        return true;
    }
    // The build's own folder may be closed to others.
    let copy = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(copy.path(), Permissions::from_mode(0o755)).expect("its permissions");
    let program = copy.path().join("test");
    fs::copy(this_program(), &program).expect("a copy of this program");
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    run_again(setpriv, test);
    false
}

fn is_second() -> bool {
    std::env::var_os(MARK).is_some()
}

fn this_program() -> impl AsRef<Path> + AsRef<std::ffi::OsStr> {
    std::env::current_exe().expect("the path of this program")
}

fn run_again(mut command: Command, test: &str) {
    let output = command
        .args(["--exact", test, "--nocapture"])
        .env(MARK, "1")
        .current_dir("/")
        .output()
        .expect("unshare and setpriv (util-linux) are needed: run cargo xtask setup");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
