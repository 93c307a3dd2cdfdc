//! `cargo xtask setup`: the servers and tools that the tests work with.
//!
//! The tests use real servers, each started by its test on a free port or a socket of its own.
//! What a distribution's package starts by itself is neither needed nor touched.

use std::process::Command;

use crate::run::{find, output, run};

/// A Debian package, and a program in it by which it is recognised on other systems.
struct Package {
    name: &'static str,
    program: &'static str,
    used_for: &'static str,
}

const fn package(name: &'static str, program: &'static str, used_for: &'static str) -> Package {
    Package { name, program, used_for }
}

/// Everything that the tests need beyond Rust and a C compiler.
const PACKAGES: &[Package] = &[
    package("apache2", "apache2", "releases behind a server that the team keeps"),
    package("caddy", "caddy", "releases behind a server that the team keeps"),
    package("chromium", "chromium", "the players' pages in a real browser"),
    package("chromium-driver", "chromedriver", "driving it"),
    package("curl", "curl", "the release by hand that ours is compared with"),
    package("git", "git", "finding files that nobody committed"),
    package("haproxy", "haproxy", "releases behind a server that the team keeps"),
    package("iproute2", "ip", "hosts in network namespaces, with a slow link between them"),
    package("mariadb-client", "mariadb-dump", "dumps, and the client that ours is compared with"),
    package("mariadb-server", "mariadbd", "a real database"),
    package("minisign", "minisign", "verifying our signatures with the ordinary tool"),
    package("mount", "mount", "full disks and trees on two file systems"),
    package("nginx", "nginx", "the web server of the test game"),
    package("openssh-client", "ssh", "reaching the machine of the game"),
    package("openssh-server", "sshd", "a real machine of the game, on loopback"),
    package("openssl", "openssl", "certificates for the gate's tests"),
    package("php-cli", "php", "the test game's cron worker"),
    package("php-fpm", "php-fpm", "the test game"),
    package("php-mysql", "", "the test game's database driver"),
    package("postgresql", "", "a real database"),
    package("postgresql-client", "psql", "dumps, and the client that ours is compared with"),
    package("python3", "python3", "carrying packets from one such host to the other"),
    package("python3-aiosmtpd", "aiosmtpd", "a real mail server"),
    package("restic", "restic", "reading our backups with the ordinary tool"),
    package("rsync", "rsync", "the transfer that ours is compared with"),
    package("sqlite3", "sqlite3", "the client that our script runner is compared with"),
    package("tar", "tar", "opening our packages with the ordinary tool"),
    package("util-linux", "unshare", "mounts that only one test sees"),
    package("zstd", "zstd", "opening our packages with the ordinary tool"),
];

/// Installs what is missing, after saying so; fails where something still is.
pub fn setup() -> Result<(), String> {
    if find(|name| name == "apt-get").is_some() && find(|name| name == "dpkg-query").is_some() {
        let missing: Vec<&Package> = PACKAGES.iter().filter(|p| !is_installed(p.name)).collect();
        if !missing.is_empty() {
            install(&missing)?;
        }
    }
    let lacking: Vec<&Package> = PACKAGES.iter().filter(|package| !has_program(package)).collect();
    if lacking.is_empty() {
        println!("$ setup\nall {} packages that the tests need are here", PACKAGES.len());
        return Ok(());
    }
    let list: Vec<String> = lacking
        .iter()
        .map(|p| format!("  {:14} (Debian: {}) for {}", p.program, p.name, p.used_for))
        .collect();
    Err(format!("the tests need these programs, which are not here:\n{}", list.join("\n")))
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    output(&mut query).is_some_and(|status| status == "installed")
}

/// php-fpm carries its version in its name on Debian, and on some systems it does not.
fn has_program(package: &Package) -> bool {
    match package.program {
        "" => true,
        "php-fpm" => find(|name| name.starts_with("php-fpm")).is_some(),
        program => find(|name| name == program).is_some(),
    }
}

fn install(missing: &[&Package]) -> Result<(), String> {
    let is_root = output(Command::new("id").arg("-u")).is_some_and(|id| id == "0");
    println!("The tests need these Debian packages, which will be installed now:");
    for package in missing {
        println!("  {:16} {}", package.name, package.used_for);
    }
    println!(
        "with {}apt-get. (Debian starts nginx, Apache, Caddy, HAProxy, php-fpm and MariaDB when it installs them; the \
         tests use servers of their own, so you may stop and disable those.)",
        if is_root { "" } else { "sudo " }
    );
    let names = missing.iter().map(|package| package.name);
    if !is_root && find(|name| name == "sudo").is_none() {
        let names: Vec<&str> = names.collect();
        return Err(format!(
            "there is no sudo here; as root: apt-get install --no-install-recommends {}",
            names.join(" ")
        ));
    }
    run(apt(is_root, ["update"]))?;
    let args = ["install", "--yes", "--no-install-recommends"];
    run(apt(is_root, args.into_iter().chain(names)))
}

fn apt<'a>(is_root: bool, args: impl IntoIterator<Item = &'a str>) -> Command {
    // `env` carries the setting through sudo, which drops the environment.
    let words = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    let mut command = Command::new(if is_root { "env" } else { "sudo" });
    command.args(&words[usize::from(is_root)..]).args(args);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_is_called_with_sudo_only_where_it_must_be() {
        let shown = |is_root| crate::run::shown(&apt(is_root, ["install", "nginx"]));
        assert_eq!(shown(true), "env DEBIAN_FRONTEND=noninteractive apt-get install nginx");
        assert_eq!(shown(false), "sudo env DEBIAN_FRONTEND=noninteractive apt-get install nginx");
    }

    #[test]
    fn a_package_that_does_not_exist_is_not_installed() {
        assert!(!is_installed("entracte-no-such-package"));
    }
}
