//! The web servers that teams keep in front of a game: nginx, Caddy, HAProxy and Apache, each as an
//! ordinary reverse proxy on a free port, with lines that the test adds to its configuration.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::process::{START_MS_MAX, Server, free_port, is_root, program, quoted, runs, wait_until};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// nginx.
    Nginx,
    /// Caddy.
    Caddy,
    /// HAProxy.
    Haproxy,
    /// Apache.
    Apache,
}

/// A server with a configuration of its own in a folder of its own.
#[derive(Debug)]
pub struct Front {
    kind: Kind,
    dir: PathBuf,
    upstream: SocketAddr,
    address: SocketAddr,
    server: Option<Server>,
}

impl Front {
    /// A server that is not started yet, with its files in `dir`, for the game at `upstream`.
    ///
    /// # Panics
    /// Where the folder cannot be made.
    pub fn new(kind: Kind, dir: &Path, upstream: SocketAddr) -> Self {
        Self::at(kind, dir, upstream, SocketAddr::from(([127, 0, 0, 1], free_port())))
    }

    /// As [`Front::new`], at an address that is free.
    ///
    /// # Panics
    /// Where the folder cannot be made.
    pub fn at(kind: Kind, dir: &Path, upstream: SocketAddr, address: SocketAddr) -> Self {
        fs::create_dir_all(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        // Apache gives up root's rights: it must be able to enter.
        for folder in dir.ancestors().filter(|folder| folder.starts_with(std::env::temp_dir())) {
            let mode = fs::metadata(folder).map_or(0o755, |meta| meta.permissions().mode());
            if folder != std::env::temp_dir() {
                let _ = fs::set_permissions(folder, Permissions::from_mode(mode | 0o055));
            }
        }
        Self { kind, dir: dir.to_owned(), upstream, address, server: None }
    }

    /// Such as `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The command that tests its configuration.
    pub fn check(&self) -> String {
        let (program, config) = (self.program(), self.config());
        let (program, config) = (quoted(&program), quoted(&config));
        match self.kind {
            Kind::Nginx => {
                format!("{program} -t -q -e stderr -p {} -c {config}", quoted(&self.dir))
            }
            Kind::Caddy => format!(
                "HOME={} {program} validate --config {config} --adapter caddyfile",
                quoted(&self.dir)
            ),
            Kind::Haproxy => format!("{program} -c -q -f {config}"),
            Kind::Apache => format!("{program} -f {config} -t"),
        }
    }

    /// The command that reloads it.
    pub fn reload(&self) -> String {
        let (program, config) = (self.program(), self.config());
        let (program, config) = (quoted(&program), quoted(&config));
        match self.kind {
            Kind::Nginx => {
                format!("{program} -s reload -e stderr -p {} -c {config}", quoted(&self.dir))
            }
            Kind::Caddy => format!(
                "HOME={} {program} reload --config {config} --adapter caddyfile --address unix/{}",
                quoted(&self.dir),
                self.admin().display()
            ),
            Kind::Haproxy => "false".into(),
            Kind::Apache => format!("{program} -f {config} -k graceful"),
        }
    }

    /// The file with the number of its main process.
    pub fn pid_file(&self) -> PathBuf {
        self.dir.join("server.pid")
    }

    /// Its admin socket.
    pub fn admin(&self) -> PathBuf {
        self.dir.join("admin.sock")
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("server.conf")
    }

    /// Writes its configuration, with `lines` where they belong (for nginx, the first goes into
    /// `http`, the others into `server`), and starts it.
    ///
    /// # Panics
    /// Where it is not installed or does not come up.
    pub fn start(&mut self, lines: &[String]) {
        let text = match self.kind {
            Kind::Nginx => self.nginx(lines),
            Kind::Caddy => self.caddy(lines),
            Kind::Haproxy => self.haproxy(lines),
            Kind::Apache => self.apache(lines),
        };
        fs::write(self.config(), text)
            .unwrap_or_else(|error| panic!("{}: {error}", self.config().display()));
        self.start_again();
    }

    /// Starts it with the configuration that it has.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn start_again(&mut self) {
        let config = self.config().to_string_lossy().into_owned();
        let dir = self.dir.to_string_lossy().into_owned();
        let (program, args): (PathBuf, Vec<String>) = match self.kind {
            Kind::Nginx => (self.program(), words(&["-p", &dir, "-c", &config, "-e", "stderr"])),
            Kind::Haproxy => (self.program(), words(&["-db", "-f", &config])),
            Kind::Apache => (self.program(), words(&["-f", &config, "-DFOREGROUND"])),
            Kind::Caddy => (
                crate::process::program(&["env"]),
                words(&[
                    &format!("HOME={dir}"),
                    &self.program().to_string_lossy(),
                    "run",
                    "--config",
                    &config,
                    "--adapter",
                    "caddyfile",
                ]),
            ),
        };
        // What a killed one left is in nobody's use: it may still be a zombie, which Apache takes for life.
        for left in [self.admin(), self.pid_file()] {
            let _ = fs::remove_file(left);
        }
        let server = Server::start(&program, &args, &self.dir.join("server.out"));
        server.wait_until_ready(|| TcpStream::connect(self.address).is_ok());
        self.server = Some(server);
    }

    /// Ends it and all its workers as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            let pid = server.pid();
            drop(server);
            wait_until(START_MS_MAX, || !runs(pid) && TcpStream::connect(self.address).is_err());
        }
    }

    /// What it printed last.
    pub fn words(&self) -> String {
        self.server.as_ref().map_or_else(String::new, Server::log_tail)
    }

    fn program(&self) -> PathBuf {
        match self.kind {
            Kind::Nginx => program(&["nginx"]),
            Kind::Caddy => program(&["caddy"]),
            Kind::Haproxy => program(&["haproxy"]),
            Kind::Apache => program(&["apache2", "httpd"]),
        }
    }

    fn nginx(&self, lines: &[String]) -> String {
        let (dir, listen, upstream) = (self.dir.display(), self.address, self.upstream);
        let user = if is_root() { "user root;\n" } else { "" };
        let (http, server) = lines.split_at(lines.len().min(1));
        let (http, server) = (http.join("\n"), server.join("\n"));
        format!(
            "{user}daemon off;
worker_processes 2;
pid \"{}\";
error_log \"{dir}/error.log\" warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path \"{dir}/body\";
    proxy_temp_path \"{dir}/proxy\";
    fastcgi_temp_path \"{dir}/fastcgi\";
    uwsgi_temp_path \"{dir}/uwsgi\";
    scgi_temp_path \"{dir}/scgi\";
    {http}
    server {{
        listen {listen};
        {server}
        location / {{
            proxy_pass http://{upstream};
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header X-Entracte-Pass \"\";
        }}
    }}
}}
",
            self.pid_file().display()
        )
    }

    fn caddy(&self, lines: &[String]) -> String {
        let lines = lines.join("\n");
        format!(
            "{{
    admin unix/{}
    auto_https off
}}
http://{} {{
    bind 127.0.0.1
    route {{
{lines}
        reverse_proxy {}
    }}
}}
",
            self.admin().display(),
            format_args!(":{}", self.address.port()),
            self.upstream
        )
    }

    fn haproxy(&self, lines: &[String]) -> String {
        let lines = lines.join("\n");
        format!(
            "global
    stats socket {} mode 600 level admin
    nbthread 2
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend game
    bind {}
{lines}
    default_backend game
backend game
    server one {}
",
            self.admin().display(),
            self.address,
            self.upstream
        )
    }

    fn apache(&self, lines: &[String]) -> String {
        let modules = [
            "mpm_event",
            "authz_core",
            "rewrite",
            "alias",
            "asis",
            "headers",
            "proxy",
            "proxy_http",
        ];
        let loads: String = modules
            .iter()
            .map(|name| {
                format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n")
            })
            .collect();
        let user = if is_root() { "User www-data\nGroup www-data\n" } else { "" };
        let (dir, address) = (self.dir.display(), self.address);
        format!(
            "ServerRoot \"{dir}\"
ServerName localhost
DefaultRuntimeDir \"{dir}\"
PidFile \"{}\"
ErrorLog \"{dir}/error.log\"
{loads}{user}StartServers 2
ServerLimit 4
ThreadsPerChild 16
MaxRequestWorkers 32
Listen {address}
<VirtualHost {address}>
{}
ProxyPass \"/\" \"http://{}/\"
</VirtualHost>
",
            self.pid_file().display(),
            lines.join("\n"),
            self.upstream
        )
    }
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|&word| word.to_owned()).collect()
}
