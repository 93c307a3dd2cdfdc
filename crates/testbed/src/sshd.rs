//! A real sshd, on loopback or at the end of a link, with keys of its own, and ssh options that lead to it and nowhere else.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::link::Ends;
use crate::process::{Server, free_port, is_root, program};

/// The running server. Dropping it ends it, with every connection.
pub struct Sshd {
    server: Server,
    dir: PathBuf,
    address: String,
    /// The port that it listens on.
    pub port: u16,
}

impl Sshd {
    /// Starts it on loopback, in the folder `dir`, which it fills. The one who runs the test may log
    /// in, with `dir/user`; `env` is set for whatever a connection runs.
    ///
    /// # Panics
    /// Where sshd is not installed or does not come up.
    pub fn start(dir: &Path, env: &[(&str, &str)]) -> Self {
        Self::start_at("127.0.0.1", dir, env)
    }

    /// As [`Sshd::start`], on another address of where this process is.
    ///
    /// # Panics
    /// Where sshd is not installed or does not come up.
    pub fn start_at(address: &str, dir: &Path, env: &[(&str, &str)]) -> Self {
        let server = |config: &Path, log: &Path| {
            let args = ["-D", "-e", "-f", &config.to_string_lossy()].map(str::to_owned);
            Server::start(&program(&["sshd"]), &args, log)
        };
        let sshd = Self::prepare(address, dir, env, server);
        let ready = || std::net::TcpStream::connect((address, sshd.port)).is_ok();
        sshd.server.wait_until_ready(ready);
        sshd
    }

    /// As [`Sshd::start`], at the end B of a link.
    ///
    /// # Panics
    /// Where sshd is not installed or does not come up.
    pub fn start_at_b(link: &Ends, dir: &Path) -> Self {
        let server = |config: &Path, log: &Path| {
            let command = link.at(&link.b, &program(&["sshd"]));
            let args = command.get_args().map(OsStr::to_owned);
            let own = ["-D", "-e", "-f", &config.to_string_lossy()].map(OsString::from);
            let args: Vec<OsString> = args.chain(own).collect();
            Server::start(Path::new(command.get_program()), &args, log)
        };
        let sshd = Self::prepare(Ends::B, dir, &[], server);
        sshd.server.wait_until_ready(|| sshd.log().contains("Server listening"));
        sshd
    }

    fn prepare(
        address: &str,
        dir: &Path,
        env: &[(&str, &str)],
        start: impl FnOnce(&Path, &Path) -> Server,
    ) -> Self {
        fs::create_dir_all(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        for name in ["host", "user"] {
            keygen(&dir.join(name));
        }
        fs::copy(dir.join("user.pub"), dir.join("authorized_keys")).expect("the key was just made");
        if is_root() {
            // Where a distribution's own service has never run, its folder is missing.
            let _ = fs::create_dir_all("/run/sshd");
        }
        let port = free_port();
        let config = dir.join("sshd_config");
        let text = configuration(address, dir, port, env);
        fs::write(&config, text).expect("the folder was just made");
        let server = start(&config, &dir.join("sshd.log"));
        let sshd = Self { server, dir: dir.to_owned(), address: address.to_owned(), port };
        sshd.learn_the_host_key();
        sshd
    }

    /// The process of the server; those of its connections are below it.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    fn learn_the_host_key(&self) {
        let public = fs::read_to_string(self.dir.join("host.pub")).expect("the key was just made");
        let known = format!("game {public}");
        fs::write(self.dir.join("known_hosts"), known).expect("the folder was just made");
    }

    /// Options for `ssh` that lead the host `game` to this server, through `port` of its
    /// address.
    pub fn options(&self, port: u16) -> Vec<String> {
        let at = |name: &str| self.dir.join(name).display().to_string();
        vec![
            format!("HostName={}", self.address),
            format!("Port={port}"),
            "HostKeyAlias=game".into(),
            format!("UserKnownHostsFile={}", at("known_hosts")),
            "GlobalKnownHostsFile=/dev/null".into(),
            format!("IdentityFile={}", at("user")),
            "IdentitiesOnly=yes".into(),
            "StrictHostKeyChecking=yes".into(),
            "PreferredAuthentications=publickey".into(),
        ]
    }

    /// How many connections logged in so far, as its log counts them.
    pub fn logins(&self) -> usize {
        self.log().matches("Accepted publickey").count()
    }

    /// What it wrote down.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("sshd.log")).unwrap_or_default()
    }

    /// Lets nobody in any more, or only for one command.
    pub fn authorize(&self, restriction: Option<&str>) {
        let key = fs::read_to_string(self.dir.join("user.pub")).expect("the key was just made");
        let line = restriction.map_or(String::new(), |words| format!("{words}{key}"));
        fs::write(self.dir.join("authorized_keys"), line).expect("the folder is ours");
    }

    /// Forgets the machine's key, as a laptop that never met it.
    pub fn forget(&self) {
        fs::write(self.dir.join("known_hosts"), "").expect("the folder is ours");
    }
}

fn configuration(address: &str, dir: &Path, port: u16, env: &[(&str, &str)]) -> String {
    let at = |name: &str| dir.join(name).display().to_string();
    let mut lines = vec![
        format!("Port {port}"),
        format!("ListenAddress {address}"),
        format!("HostKey {}", at("host")),
        format!("AuthorizedKeysFile {}", at("authorized_keys")),
        format!("PidFile {}", at("sshd.pid")),
        "PermitRootLogin prohibit-password".into(),
        "PasswordAuthentication no".into(),
        "KbdInteractiveAuthentication no".into(),
        "UsePAM no".into(),
        // A temporary folder is writable for others somewhere above.
        "StrictModes no".into(),
        "MaxStartups 100".into(),
        "LogLevel VERBOSE".into(),
    ];
    let pairs: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !pairs.is_empty() {
        lines.push(format!("SetEnv {}", pairs.join(" ")));
    }
    lines.join("\n") + "\n"
}

fn keygen(path: &Path) {
    let made = Command::new(program(&["ssh-keygen"]))
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(path)
        .status()
        .expect("it was just found");
    assert!(made.success(), "ssh-keygen failed");
}
