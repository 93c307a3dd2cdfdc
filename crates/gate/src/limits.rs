//! Every bound of the gate, by name. A caller may change each.

use serde::{Deserialize, Serialize};

macro_rules! limits {
    ($($(#[doc = $doc:literal])* $name:ident: $kind:ty = $value:expr;)*) => {
        /// The bounds of everything that grows, waits or repeats. Units stand last in the names.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Limits {
            $($(#[doc = $doc])* pub $name: $kind,)*
        }

        impl Limits {
            /// Name, default and meaning of each, as the table in docs/gate.md.
            pub fn table() -> String {
                let limits = Self::default();
                let mut table = String::from("| limit | default | what it bounds |\n|---|---|---|\n");
                $({
                    let about = [$($doc),*].map(str::trim).join(" ");
                    table.push_str(&format!("| `{}` | {} | {about} |\n", stringify!($name), limits.$name));
                })*
                table
            }
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $value,)* }
            }
        }
    };
}

limits! {
    /// Connections of clients at one time, and never more than three quarters of the limit of open files. Where all
    /// are taken, those that owe a head or are kept without a request make room, the longest first;
    /// where all are being answered, further ones wait in the kernel's backlog.
    connections_max: usize = 10_000;
    /// How long a client may take to send the head of a request.
    header_ms: u64 = 10_000;
    /// The longest head of a request, request line included.
    header_bytes_max: usize = 32 * 1024;
    /// Requests under way at one time on one HTTP/2 connection.
    h2_streams_max: u32 = 100;
    /// How long a connection without a request is kept.
    keep_alive_ms: u64 = 60_000;
    /// The same while the gate holds or is closed.
    keep_alive_closed_ms: u64 = 5_000;
    /// How long a request's body may pause.
    body_idle_ms: u64 = 15_000;
    /// How long a client may refuse to take the bytes of an answer.
    write_idle_ms: u64 = 60_000;
    /// How much of a refused request's body is read and thrown away, so that the client hears the answer.
    discard_bytes_max: u64 = 256 * 1024;
    /// How long that may take.
    discard_ms: u64 = 1_000;

    /// One attempt to connect to the game.
    connect_ms: u64 = 500;
    /// How long a game that refuses connections is tried again, for one request.
    connect_retry_ms: u64 = 10_000;
    /// The pause between two attempts, give or take half of it.
    connect_retry_pause_ms: u64 = 100;
    /// Requests that may wait for a game that refuses connections; further ones get 502 at once.
    connect_waiting_max: usize = 1_000;
    /// How long the game may take to begin an answer.
    answer_ms: u64 = 120_000;
    /// How long the game may pause inside an answer. Event streams are not counted.
    answer_idle_ms: u64 = 300_000;
    /// Connections to the game that are kept without a request.
    pool_idle_max: usize = 256;
    /// How long one is kept.
    pool_idle_ms: u64 = 20_000;

    /// How long one rate of the reopening lasts; a ramp without trouble has five of them.
    ramp_step_ms: u64 = 10_000;

    /// Requests parked at one time. Never more than a quarter of the limit of open files.
    parked_max: usize = 1_000;
    /// Of these, from one address.
    parked_per_address_max: usize = 50;
    /// How long one is parked before it gets the page.
    parked_wait_ms: u64 = 20_000;
    /// The body of a parked request that is read while it waits; a longer one stays unread.
    parked_body_bytes_max: usize = 64 * 1024;
    /// All these bodies together.
    parked_bodies_bytes_max: usize = 64 * 1024 * 1024;
    /// Parked requests whose body stays unread.
    parked_unread_max: usize = 64;
    /// How fast parked requests are let go, besides the few that go at once.
    release_per_s: u32 = 200;

    /// Sessions that are remembered; the longest unseen is forgotten first.
    sessions_max: usize = 100_000;
    /// How long a session is remembered without a request.
    session_kept_ms: u64 = 12 * 3_600_000;
    /// A session counts as "in" so long after its last request.
    sessions_in_ms: u64 = 300_000;
    /// While draining, a player counts as left after so long without a request.
    player_left_ms: u64 = 60_000;

    /// Tunnels (WebSockets) are cut spread over this time when the gate holds or closes.
    tunnel_close_spread_ms: u64 = 1_000;
    /// How long a tunnel may say nothing in both directions.
    tunnel_idle_ms: u64 = 3_600_000;
    /// How long the successor's program may take to be ready. Until then this gate goes on.
    upgrade_ready_ms: u64 = 30_000;
    /// How long connections may go on in the old process after an upgrade.
    upgrade_drain_ms: u64 = 3_600_000;
    /// How long requests may go on when the gate itself is stopped.
    shutdown_ms: u64 = 10_000;

    /// One line on the control socket.
    control_line_bytes_max: usize = 256 * 1024;
    /// Clients of the control socket at one time.
    control_clients_max: usize = 32;
    /// The largest file served as news.
    news_file_bytes_max: u64 = 8 * 1024 * 1024;
    /// Ten-second bins kept in memory (8640: a day).
    bins_memory_max: usize = 8_640;
    /// Days of bins kept in files.
    bins_kept_days: u32 = 56;
    /// Hours kept for finding the quiet one (1344: eight weeks).
    hours_kept: usize = 1_344;
    /// Lines of the access log that wait for a slow disk; further ones are dropped and counted.
    access_log_lines_max: usize = 4_096;
    /// How large the access log may get before it is put aside as `.1`.
    access_log_bytes_max: u64 = 256 * 1024 * 1024;
    /// How many full ones are kept.
    access_log_files_kept: u32 = 8;
    /// Clients of the metrics address at one time.
    metrics_clients_max: usize = 8;
    /// One-time tokens for a tester's pass that are not used yet.
    pass_tokens_max: usize = 256;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_table_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/gate.md");
        let text = std::fs::read_to_string(path).unwrap();
        let table = Limits::table();
        assert!(text.contains(&table), "put this between the markers of docs/gate.md:\n{table}");
    }

    #[test]
    fn one_limit_is_set_by_name_and_a_wrong_name_is_refused() {
        let limits: Limits = serde_json::from_str(r#"{"parked_max": 5}"#).unwrap();
        assert_eq!(limits, Limits { parked_max: 5, ..Limits::default() });
        assert!(serde_json::from_str::<Limits>(r#"{"parked_mix": 5}"#).is_err());
    }
}
