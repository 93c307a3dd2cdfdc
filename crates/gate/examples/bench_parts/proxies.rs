//! The upstream, and the proxies in front of it, each configured to do the same.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use entracte_gate::control::Client;
use entracte_model::gate::{Goal, Phase};

use crate::load::until;

/// The upstream: nginx, which answers 1 KB from memory.
pub struct Site {
    pub address: SocketAddr,
    pub dir: tempfile::TempDir,
    _upstream: Running,
}

/// A process that ends with the benchmark.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // TERM: nginx ends its workers.
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// One proxy that runs.
pub struct Proxy {
    pub name: &'static str,
    pub version: String,
    /// Where it passes requests on.
    pub pass: SocketAddr,
    /// Where it refuses them with 503 and a page.
    pub refuse: SocketAddr,
    /// Ours: the control socket of the gate that passes.
    pub control: Option<PathBuf>,
    running: Vec<Running>,
}

impl Proxy {
    fn pids(&self) -> Vec<u32> {
        self.running.iter().flat_map(|one| with_children(one.0.id())).collect()
    }

    /// Processor time so far.
    pub fn cpu(&self) -> Duration {
        let ticks: u64 = self.pids().into_iter().map(cpu_ticks).sum();
        // The kernel's unit for this file is a hundredth of a second everywhere.
        Duration::from_millis(ticks * 10)
    }

    pub fn rss_kb(&self) -> u64 {
        self.pids().into_iter().map(rss_kb).sum()
    }
}

fn with_children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all = vec![pid];
    all.extend(listed.split_whitespace().filter_map(|text| text.parse::<u32>().ok()));
    all
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or("").split(' ');
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn rss_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], entracte_testbed::process::free_port()))
}

fn start(core: &str, program: &str, args: &[&str], at: &[SocketAddr]) -> Running {
    let child = Command::new("taskset")
        .args(["-c", core, program])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let running = Running(child);
    for address in at {
        until(|| TcpStream::connect(address).ok());
    }
    running
}

fn nginx_conf(dir: &Path, body: &str) -> String {
    let path = dir.display();
    format!(
        "daemon off; worker_processes 1; worker_rlimit_nofile 60000; pid {path}/pid; error_log {path}/error.log crit;\n\
         events {{ worker_connections 50000; multi_accept on; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 300s; default_type text/html;\n\
         client_body_temp_path {path}/t1; proxy_temp_path {path}/t2; fastcgi_temp_path {path}/t3; uwsgi_temp_path {path}/t4; scgi_temp_path {path}/t5;\n{body}\n}}\n"
    )
}

impl Site {
    pub fn start(core: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = free();
        let page = "x".repeat(1_000);
        let body = format!(
            "server {{ listen {address} backlog=4096; location / {{ return 200 \"{page}\"; }} }}"
        );
        let path = dir.path().join("upstream");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("nginx.conf"), nginx_conf(&path, &body)).unwrap();
        let conf = path.join("nginx.conf");
        let upstream = start(core, "nginx", &["-c", conf.to_str().unwrap()], &[address]);
        Self { address, dir, _upstream: upstream }
    }
}

/// All that are installed; says which are not. nginx and ours are needed.
pub fn start_all(site: &Site, core: &str) -> Vec<Proxy> {
    // The 503 of all of them is as long as ours.
    let page = "y".repeat(7_000);
    let mut proxies = vec![nginx(site, core, &page)];
    for (name, with) in [("haproxy", haproxy as fn(&Site, &str, &str) -> Proxy), ("caddy", caddy)] {
        if Command::new(name).arg("version").output().is_ok() {
            proxies.push(with(site, core, &page));
        } else {
            println!("{name} is not installed (Debian: {name}); the table has no line for it");
        }
    }
    proxies.push(entracte(site, core));
    proxies
}

fn version(program: &str, args: &[&str]) -> String {
    let said = Command::new(program).args(args).output().expect("it is installed");
    let text = [said.stdout, said.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let number = text.split(|c: char| c.is_whitespace() || c == '/' || c == '-');
    number
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
        .unwrap_or("")
        .to_owned()
}

fn nginx(site: &Site, core: &str, page: &str) -> Proxy {
    let (pass, refuse, path) = (free(), free(), site.dir.path().join("nginx"));
    fs::create_dir(&path).unwrap();
    // nginx takes no word of 4 KiB in its configuration.
    let half = &page[..page.len() / 2];
    let body = format!(
        "upstream game {{ server {}; keepalive 128; keepalive_requests 1000000000; }}\n\
         server {{ listen {pass} backlog=4096; location / {{ proxy_pass http://game; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto http; proxy_set_header X-Real-IP $remote_addr; }} }}\n\
         server {{ listen {refuse} backlog=4096; location / {{ add_header Retry-After 30 always; add_header Cache-Control no-store always; set $half \"{half}\"; return 503 \"$half$half\"; }} }}",
        site.address
    );
    let conf = path.join("nginx.conf");
    fs::write(&conf, nginx_conf(&path, &body)).unwrap();
    let running = vec![start(core, "nginx", &["-c", conf.to_str().unwrap()], &[pass, refuse])];
    Proxy {
        name: "nginx",
        version: version("nginx", &["-v"]),
        pass,
        refuse,
        control: None,
        running,
    }
}

fn haproxy(site: &Site, core: &str, page: &str) -> Proxy {
    let (pass, refuse, path) = (free(), free(), site.dir.path().join("haproxy.cfg"));
    let page_file = site.dir.path().join("page.html");
    fs::write(&page_file, page).unwrap();
    let conf = format!(
        "global\n  nbthread 1\n  no strict-limits\n  maxconn 50000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 300s\n  timeout server 300s\n  \
         option forwardfor\n  http-reuse always\n\
         frontend pass\n  bind {pass}\n  default_backend game\n\
         frontend refuse\n  bind {refuse}\n  http-request return status 503 content-type text/html file {} hdr retry-after 30 hdr cache-control no-store\n\
         backend game\n  server one {}\n",
        page_file.display(),
        site.address
    );
    fs::write(&path, conf).unwrap();
    let running =
        vec![start(core, "haproxy", &["-db", "-f", path.to_str().unwrap()], &[pass, refuse])];
    Proxy {
        name: "haproxy",
        version: version("haproxy", &["-v"]),
        pass,
        refuse,
        control: None,
        running,
    }
}

fn caddy(site: &Site, core: &str, page: &str) -> Proxy {
    let (pass, refuse, path) = (free(), free(), site.dir.path().join("Caddyfile"));
    let conf = format!(
        "{{\n  admin off\n  auto_https off\n}}\nhttp://:{} {{\n  bind 127.0.0.1\n  reverse_proxy {}\n}}\n\
         http://:{} {{\n  bind 127.0.0.1\n  header Retry-After 30\n  header Cache-Control no-store\n  header Content-Length {}\n  respond \"{page}\" 503\n}}\n",
        pass.port(),
        site.address,
        refuse.port(),
        // Without it a long answer goes out in chunks.
        page.len()
    );
    fs::write(&path, conf).unwrap();
    let args = ["run", "--adapter", "caddyfile", "--config", path.to_str().unwrap()];
    let running = vec![start(core, "caddy", &args, &[pass, refuse])];
    Proxy {
        name: "caddy",
        version: version("caddy", &["version"]),
        pass,
        refuse,
        control: None,
        running,
    }
}

/// Two gates: one that passes, one that is closed.
fn entracte(site: &Site, core: &str) -> Proxy {
    let program = std::env::current_exe().unwrap();
    let gate = |name: &str| {
        let (dir, address) = (site.dir.path().join(name), free());
        fs::create_dir(&dir).unwrap();
        let socket = dir.join("gate.sock");
        let config = serde_json::json!({
            "listen": address, "upstream": site.address.to_string(), "state_dir": dir.join("state"),
            "control_socket": socket, "session_cookies": ["PHPSESSID"], "login": ["POST /login.php"],
            "limits": { "parked_per_address_max": 10_000, "connections_max": 20_000, "keep_alive_ms": 300_000 },
        });
        let path = dir.join("gate.json");
        fs::write(&path, config.to_string()).unwrap();
        let args = ["--as-gate", path.to_str().unwrap()];
        (start(core, program.to_str().unwrap(), &args, &[address]), address, socket)
    };
    let ((passing, pass, control), (closed, refuse, other)) = (gate("pass"), gate("refuse"));
    Client::new(&other).set(&Goal::new(1, Phase::Closed, "bench")).unwrap();
    Proxy {
        name: "entracte",
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pass,
        refuse,
        control: Some(control),
        running: vec![passing, closed],
    }
}

/// This program as a gate, with one thread, as each of the others has one.
pub fn be_gate(config: &str) -> ExitCode {
    let config = serde_json::from_slice(&fs::read(config).unwrap()).unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let ran = runtime.block_on(async {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        entracte_gate::run(config, |_| {}, terminate.recv()).await
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
