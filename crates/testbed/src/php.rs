//! PHP as games run it: php-fpm on a unix socket, and a cron loop beside it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::process::{Server, is_root, program, quoted};

/// php-fpm with several workers. Like a tuned production server it keeps compiled code for good
/// (`opcache.validate_timestamps=0`): new files are seen after a reload only.
#[derive(Debug)]
pub struct PhpFpm {
    server: Server,
    socket: PathBuf,
    pid_file: PathBuf,
}

/// Compiled code is kept for good.
const TUNED: [&str; 2] = [
    "opcache.validate_timestamps=0",
    // Else files younger than two seconds would not be kept, and a test would pass by luck.
    "opcache.file_update_protection=0",
];
/// What a package brings.
const UNTUNED: [&str; 4] = [
    "opcache.validate_timestamps=1",
    "opcache.revalidate_freq=2",
    "opcache.file_update_protection=2",
    "realpath_cache_ttl=120",
];

/// Worker processes of the pool.
pub const WORKERS: u32 = 6;

impl PhpFpm {
    /// Starts php-fpm for the game in `docroot`; socket, sessions and logs go to `run_dir`.
    ///
    /// # Panics
    /// Where php-fpm is not installed or does not come up.
    pub fn start(docroot: &Path, run_dir: &Path) -> Self {
        Self::start_with(docroot, run_dir, &TUNED)
    }

    /// As [`PhpFpm::start`], with opcache as distributions set it: each file is looked at again by
    /// itself, two seconds after it was looked at last.
    pub fn start_untuned(docroot: &Path, run_dir: &Path) -> Self {
        Self::start_with(docroot, run_dir, &UNTUNED)
    }

    fn start_with(docroot: &Path, run_dir: &Path, opcache: &[&str]) -> Self {
        let [sessions, tmp] = ["sessions", "php-tmp"].map(|name| run_dir.join(name));
        for folder in [&sessions, &tmp] {
            fs::create_dir_all(folder)
                .unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        }
        let [socket, pid_file, config, log] =
            ["php-fpm.sock", "php-fpm.pid", "php-fpm.conf", "php-fpm.log"]
                .map(|name| run_dir.join(name));
        let text = format!(
            "[global]\npid = {pid}\nerror_log = {log}\ndaemonize = no\n\
             ; a reload lets requests end instead of cutting them\nprocess_control_timeout = 10s\n\
             [game]\nlisten = {socket}\nlisten.backlog = 1024\npm = static\npm.max_children = {WORKERS}\n\
             chdir = {parent}\ncatch_workers_output = yes\n{user}",
            pid = pid_file.display(),
            log = log.display(),
            socket = socket.display(),
            parent = docroot.parent().unwrap_or(docroot).display(),
            user = if is_root() { "user = root\ngroup = root\n" } else { "" },
        );
        fs::write(&config, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", config.display()));
        let mut args = vec![
            "--nodaemonize".to_owned(),
            "--fpm-config".to_owned(),
            config.display().to_string(),
        ];
        if is_root() {
            args.push("--allow-to-run-as-root".to_owned());
        }
        let opcache = opcache.iter().map(|setting| (*setting).to_owned());
        for setting in opcache.chain(Self::settings(&sessions, &tmp, run_dir)) {
            args.extend(["-d".to_owned(), setting]);
        }
        let names = ["php-fpm8.4", "php-fpm8.3", "php-fpm8.2", "php-fpm"];
        let server = Server::start(&program(&names), &args, &run_dir.join("php-fpm.out"));
        server.wait_until_ready(|| UnixStream::connect(&socket).is_ok() && pid_file.exists());
        Self { server, socket, pid_file }
    }

    fn settings(sessions: &Path, tmp: &Path, run_dir: &Path) -> Vec<String> {
        vec![
            "opcache.enable=1".into(),
            // Careless, and usual: a fatal error is shown to players, with status 200.
            "display_errors=1".into(),
            "log_errors=1".into(),
            format!("error_log={}", run_dir.join("php-errors.log").display()),
            format!("session.save_path={}", sessions.display()),
            format!("upload_tmp_dir={}", tmp.display()),
            "upload_max_filesize=2M".into(),
        ]
    }

    /// The unix socket where it speaks FastCGI.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The process id of its master, which a reload keeps.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// A shell command that makes it forget the code that it compiled, without dropping a request.
    /// As with a service manager, the command returns before the new workers are there.
    pub fn reload_command(&self) -> String {
        format!("kill -USR2 \"$(cat {})\"", quoted(&self.pid_file))
    }
}
