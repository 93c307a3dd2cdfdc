//! nginx in front of php-fpm, set up as a hosting guide for PHP games would.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use crate::php::PhpFpm;
use crate::process::{Server, free_port, is_root, program, wait_until};

/// nginx on a free port of 127.0.0.1.
#[derive(Debug)]
pub struct Nginx {
    _server: Server,
    address: SocketAddr,
    flag: PathBuf,
}

/// How often another port is tried where somebody else took the one that was free.
const PORT_TRIES_MAX: usize = 5;

/// The header by which an admin passes the maintenance page of [`Nginx::maintenance_flag`].
pub const ADMIN_HEADER: (&str, &str) = ("X-Maintenance-Pass", "let-me-in");

impl Nginx {
    /// Starts nginx for the game in `docroot`, whose PHP runs in `php`. Its files lie beside the
    /// socket of php-fpm.
    ///
    /// # Panics
    /// Where nginx is not installed or does not come up.
    pub fn start(docroot: &Path, php: &PhpFpm) -> Self {
        let run_dir = php.socket().parent().expect("a socket lies in a folder");
        let flag = run_dir.join("maintenance.flag");
        let log = run_dir.join("nginx.out");
        for _ in 0..PORT_TRIES_MAX {
            let address = free_address();
            let config = run_dir.join("nginx.conf");
            fs::write(&config, configuration(docroot, run_dir, php.socket(), &flag, address))
                .unwrap_or_else(|error| panic!("cannot write {}: {error}", config.display()));
            let args =
                ["-p", &run_dir.to_string_lossy(), "-c", &config.to_string_lossy(), "-e", "stderr"]
                    .map(str::to_owned);
            let server = Server::start(&program(&["nginx"]), &args, &log);
            // nginx itself tries to bind for some seconds before it gives up.
            let taken = || server.log_tail().contains("Address already in use");
            wait_until(crate::process::START_MS_MAX, || {
                TcpStream::connect(address).is_ok() || taken() || !server.runs()
            });
            if !taken() {
                server.wait_until_ready(|| TcpStream::connect(address).is_ok());
                return Self { _server: server, address, flag };
            }
            let _ = fs::remove_file(&log);
        }
        panic!("no free port found for nginx in {PORT_TRIES_MAX} tries");
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Such as `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// While a file is here, everybody without [`ADMIN_HEADER`] gets a page and status 503: the
    /// maintenance switch of an admin who works by hand.
    pub fn maintenance_flag(&self) -> &Path {
        &self.flag
    }
}

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

fn configuration(
    docroot: &Path,
    run_dir: &Path,
    php: &Path,
    flag: &Path,
    listen: SocketAddr,
) -> String {
    let (header, pass) = ADMIN_HEADER;
    let header = header.to_lowercase().replace('-', "_");
    let [docroot, run, php, flag] =
        [docroot, run_dir, php, flag].map(|path| path.display().to_string());
    let user = if is_root() { "user root;\n" } else { "" };
    format!(
        r#"{user}daemon off;
worker_processes 2;
pid "{run}/nginx.pid";
error_log "{run}/nginx-error.log" warn;
events {{ worker_connections 2048; }}
http {{
    types {{
        text/html html; text/css css; text/javascript js; text/plain txt; image/svg+xml svg;
        image/png png; image/jpeg jpg; image/webp webp; application/json json;
    }}
    default_type application/octet-stream;
    charset utf-8;
    access_log "{run}/access.log" combined;
    client_body_temp_path "{run}/nginx-body";
    proxy_temp_path "{run}/nginx-proxy";
    fastcgi_temp_path "{run}/nginx-fastcgi";
    uwsgi_temp_path "{run}/nginx-uwsgi";
    scgi_temp_path "{run}/nginx-scgi";
    client_max_body_size 4m;
    keepalive_timeout 65s;
    keepalive_requests 1000000;
    sendfile on;

    server {{
        listen {listen} backlog=1024;
        server_name _;
        root "{docroot}";
        index index.php;

        set $closed 0;
        if (-f "{flag}") {{ set $closed 1; }}
        if ($http_{header} = "{pass}") {{ set $closed 0; }}
        if ($closed) {{ return 503; }}
        error_page 503 @maintenance;
        location @maintenance {{
            default_type text/html;
            add_header Retry-After 60 always;
            add_header Cache-Control no-store always;
            return 503 "<!DOCTYPE html><meta charset=\"utf-8\"><title>Maintenance</title><h1>La taverne est fermée pour travaux</h1><p>Closed for maintenance. Back soon.</p>";
        }}

        location ~ ^/(inc|pages|lang|cron|cache|tools)/ {{ return 404; }}
        location ~ /\.|^/config.*\.php$|\.(sql|md|sh)$ {{ return 404; }}
        location ~* ^/uploads/.*\.(php|phtml|phar)$ {{ return 404; }}
        location /assets/ {{ expires 1h; try_files $uri =404; }}
        location / {{ try_files $uri $uri/ =404; }}
        location ~ \.php$ {{
            try_files $uri =404;
            fastcgi_pass "unix:{php}";
            fastcgi_read_timeout 60s;
            # The real path, not a link to it: else opcache would mix two versions.
            fastcgi_param SCRIPT_FILENAME $realpath_root$fastcgi_script_name;
            fastcgi_param DOCUMENT_ROOT $realpath_root;
            fastcgi_param SCRIPT_NAME $fastcgi_script_name;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param SERVER_PROTOCOL $server_protocol;
            fastcgi_param SERVER_NAME $host;
            fastcgi_param REMOTE_ADDR $remote_addr;
            fastcgi_param REDIRECT_STATUS 200;
        }}
    }}
}}
"#
    )
}
