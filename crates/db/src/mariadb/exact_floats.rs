//! FLOAT columns in dumps, to the last bit.
//!
//! The server writes a FLOAT as text with six digits, which is not enough to make it again (nine
//! are); no option of the server or of the dump programs changes that. A DOUBLE is written with as
//! many digits as it needs, and every FLOAT is a DOUBLE exactly. So where a table has such columns,
//! the dump program reaches the server through a relay of ours that replaces `f` by
//! `CAST(f AS DOUBLE)` in the questions for the rows of that table, and touches nothing else:
//! all is of the one snapshot that the dump program holds. A second connection that corrects the
//! values would see another moment.
//!
//! The bytes that are followed are those of the client/server protocol: packets of a length (3
//! bytes), a number (1 byte) and a command, <https://mariadb.com/kb/en/0-packet/>.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tempfile::TempDir;

use super::connect::{DEFAULT_HOST, ident};
use super::definitions::Table;
use crate::error::DbError;
use crate::settings::MariadbSettings;

/// How the dump programs of MariaDB and MySQL begin the question for a table's rows.
const ROWS_OF: &[u8] = b"SELECT /*!40001 SQL_NO_CACHE */ ";
const QUERY: u8 = 3;
/// What clients of MySQL 8 put before a question: no attributes, one set of them.
const NO_ATTRIBUTES: &[u8] = &[0, 1];
/// A client that goes over to TLS says so in a packet of this length, with this flag.
const TLS_REQUEST_BYTES: usize = 32;
const WITH_TLS: u8 = 0x08;
/// Longer than any list of columns (4,096 of 64 characters), in bytes.
const QUESTION_BYTES_MAX: usize = 4 << 20;
const CHUNK_BYTES: usize = 1 << 16;
/// Storage engines whose rows the dump programs leave out.
const WITHOUT_ROWS: [&str; 3] = ["MRG_MyISAM", "FEDERATED", "BLACKHOLE"];

/// The FLOAT columns of each table that has some.
type Floats = BTreeMap<String, BTreeSet<String>>;

/// The relay; it stops listening when it is dropped.
pub(super) struct Relay {
    settings: MariadbSettings,
    shared: Arc<Shared>,
    /// The socket's folder, which nobody else may enter.
    _folder: Option<TempDir>,
}

struct Shared {
    floats: Floats,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The tables whose rows were asked for exactly.
    exact: BTreeSet<String>,
    /// Why the server could not be reached.
    failed: Option<io::Error>,
    over: bool,
}

impl Relay {
    /// A relay to the server of `settings`; none where no table has FLOAT columns.
    pub(super) fn start<'a>(
        settings: &MariadbSettings,
        tables: impl Iterator<Item = &'a Table>,
    ) -> Result<Option<Self>, DbError> {
        let floats: Floats = tables
            .filter(|table| !WITHOUT_ROWS.contains(&table.engine.as_str()))
            .map(|table| (table.name.clone(), table.floats()))
            .filter(|(_, columns)| !columns.is_empty())
            .collect();
        if floats.is_empty() {
            return Ok(None);
        }
        let shared = Arc::new(Shared { floats, state: Mutex::default() });
        let mut near = settings.clone();
        // The same kind of connection on both sides: a client is less careful with a password on
        // a socket than on the network.
        let folder = match &settings.socket {
            Some(server) => {
                let folder = tempfile::tempdir().map_err(starting)?;
                let path = folder.path().join("socket");
                let listener = UnixListener::bind(&path).map_err(starting)?;
                let (server, shared) = (server.clone(), Arc::clone(&shared));
                near.socket = Some(path);
                thread::spawn(move || {
                    for client in listener.incoming() {
                        let opened = || UnixStream::connect(&server);
                        if !shared.serve(client, opened) {
                            break;
                        }
                    }
                });
                Some(folder)
            }
            None => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(starting)?;
                let host = settings.host.clone().unwrap_or_else(|| DEFAULT_HOST.to_owned());
                let (port, shared) = (settings.port, Arc::clone(&shared));
                near.host = Some(Ipv4Addr::LOCALHOST.to_string());
                near.port = listener.local_addr().map_err(starting)?.port();
                thread::spawn(move || {
                    for client in listener.incoming() {
                        let opened = || TcpStream::connect((host.as_str(), port));
                        if !shared.serve(client, opened) {
                            break;
                        }
                    }
                });
                None
            }
        };
        Ok(Some(Self { settings: near, shared, _folder: folder }))
    }

    /// The settings that lead to the relay instead of to the server.
    pub(super) fn settings(&self) -> &MariadbSettings {
        &self.settings
    }

    /// Why the server could not be reached behind the relay, if that was so.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.shared.state().failed.take()
    }

    /// Whether each table's rows were asked for exactly.
    ///
    /// # Errors
    /// [`DbError::Unsupported`] names those of which that is not known.
    pub(super) fn see_all_exact(&self) -> Result<(), DbError> {
        let state = self.shared.state();
        let tables = self.shared.floats.keys().filter(|table| !state.exact.contains(*table));
        let rounded: Vec<&str> = tables.map(String::as_str).collect();
        if rounded.is_empty() {
            return Ok(());
        }
        Err(DbError::Unsupported {
            what: format!(
                "the dump program asked for these tables in a way that we do not know, and their \
                 FLOAT columns would be rounded to six digits: {}",
                rounded.join(", ")
            ),
            hint: "install mariadb-dump (Debian: mariadb-client), or make the columns DOUBLE"
                .to_owned(),
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.state().over = true;
        // Wakes the thread that waits for a client, so that it sees that all is over. Where nobody
        // listens any more, there is nobody to wake.
        match &self.settings.socket {
            Some(socket) => drop(UnixStream::connect(socket)),
            None => drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.settings.port))),
        }
    }
}

fn starting(error: io::Error) -> DbError {
    DbError::io("start a relay for the dump program in", std::env::temp_dir())(error)
}

/// What the two kinds of connections have in common.
trait Socket: Read + Write + Send + Sized + 'static {
    fn twin(&self) -> io::Result<Self>;
    fn end(&self, how: Shutdown);
}

impl Socket for UnixStream {
    fn twin(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn end(&self, how: Shutdown) {
        // It may be gone already.
        drop(self.shutdown(how));
    }
}

impl Socket for TcpStream {
    fn twin(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn end(&self, how: Shutdown) {
        drop(self.shutdown(how));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to serve a client; false where the relay is over.
    fn serve<S: Socket>(
        self: &Arc<Self>,
        client: io::Result<S>,
        open: impl FnOnce() -> io::Result<S>,
    ) -> bool {
        if self.state().over {
            return false;
        }
        let pair = client.and_then(|client| {
            let server = open()?;
            Ok((client.twin()?, server.twin()?, client, server))
        });
        match pair {
            Ok((mut to_client, mut from_server, mut from_client, mut to_server)) => {
                thread::spawn(move || {
                    // Either side's end is the end: the other one learns it by its connection.
                    drop(io::copy(&mut from_server, &mut to_client));
                    to_client.end(Shutdown::Both);
                });
                let shared = Arc::clone(self);
                thread::spawn(move || {
                    drop(shared.follow(&mut from_client, &mut to_server));
                    to_server.end(Shutdown::Write);
                });
            }
            Err(error) => self.state().failed = Some(error),
        }
        true
    }

    /// Hands on what the client sends, packet by packet.
    fn follow(&self, from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
        let mut packet = Vec::new();
        loop {
            let mut head = [0; 4];
            if let Err(error) = from.read_exact(&mut head) {
                let over = error.kind() == io::ErrorKind::UnexpectedEof;
                return if over { Ok(()) } else { Err(error) };
            }
            let [low, middle, high, number] = head;
            let long = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
            if long > QUESTION_BYTES_MAX {
                to.write_all(&head)?;
                pass(from, to, long)?;
                continue;
            }
            packet.resize(long, 0);
            from.read_exact(&mut packet)?;
            if number == 1 && long == TLS_REQUEST_BYTES && packet[1] & WITH_TLS != 0 {
                to.write_all(&[&head, packet.as_slice()].concat())?;
                // Nothing can be followed from here on; the tables are not exact, and it is said.
                io::copy(from, to)?;
                return Ok(());
            }
            let asked = if number == 0 { self.exactly(&packet) } else { None };
            match asked {
                Some((table, exact)) => {
                    let [low, middle, high, _] =
                        u32::try_from(exact.len()).unwrap_or(u32::MAX).to_le_bytes();
                    to.write_all(&[&[low, middle, high, number], exact.as_slice()].concat())?;
                    self.state().exact.insert(table);
                }
                None => to.write_all(&[&head, packet.as_slice()].concat())?,
            }
        }
    }

    /// The packet with the FLOAT columns asked for as what they are, and the table's name; nothing
    /// where it is no question for the rows of a table that has some.
    fn exactly(&self, packet: &[u8]) -> Option<(String, Vec<u8>)> {
        let behind = packet.strip_prefix(&[QUERY])?;
        let question = behind.strip_prefix(NO_ATTRIBUTES).unwrap_or(behind);
        let list = question.strip_prefix(ROWS_OF)?;
        let question = exact_question(std::str::from_utf8(list).ok()?, &self.floats)?;
        let before = &packet[..packet.len() - list.len()];
        Some((question.0, [before, question.1.as_bytes()].concat()))
    }
}

fn pass(from: &mut impl Read, to: &mut impl Write, mut left: usize) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    while left > 0 {
        let part = left.min(CHUNK_BYTES);
        from.read_exact(&mut chunk[..part])?;
        to.write_all(&chunk[..part])?;
        left -= part;
    }
    Ok(())
}

/// ``a`, `f` FROM `t` ...`` with the FLOATs among the columns as DOUBLEs; with the table's name.
fn exact_question(text: &str, floats: &Floats) -> Option<(String, String)> {
    let (mut rest, mut items) = (text, Vec::new());
    let behind = loop {
        let (item, behind) = item(rest)?;
        items.push(item);
        let behind = behind.trim_start_matches(' ');
        match behind.strip_prefix(',') {
            Some(more) => rest = more.trim_start_matches(' '),
            None => break behind,
        }
    };
    let (table, _) = item(behind.strip_prefix("FROM ")?)?;
    let Item::Name(table) = table else { return None };
    let columns = floats.get(&table)?;
    let list: Vec<String> = items
        .into_iter()
        .map(|item| match item {
            Item::Name(name) if columns.contains(&name) => as_double(&name),
            Item::Name(name) => ident(&name),
            Item::Word(word) => word.to_owned(),
        })
        .collect();
    Some((table, format!("{} {behind}", list.join(", "))))
}

/// A FLOAT column as the DOUBLE that it is. Without a name of its own: an `ORDER BY` goes on meaning
/// the column, and its index.
pub(super) fn as_double(column: &str) -> String {
    format!("CAST({} AS DOUBLE)", ident(column))
}

enum Item<'a> {
    /// In backticks.
    Name(String),
    /// `row_start`, `row_end`.
    Word(&'a str),
}

/// The next item of a list and what is behind it.
fn item(text: &str) -> Option<(Item<'_>, &str)> {
    if !text.starts_with('`') {
        let end = text.find([',', ' '])?;
        let word = &text[..end];
        let plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        return (plain && !word.is_empty()).then_some((Item::Word(word), &text[end..]));
    }
    let (name, behind) = quoted(text)?;
    Some((Item::Name(name), behind))
}

/// A name in backticks at the beginning of `text`, in which a backtick stands twice, and what is
/// behind it.
pub(super) fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('`')?;
    let mut name = String::new();
    loop {
        let (part, behind) = rest.split_once('`')?;
        name.push_str(part);
        match behind.strip_prefix('`') {
            Some(more) => {
                name.push('`');
                rest = more;
            }
            None => return Some((name, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        let floats = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let floats = [("t".to_owned(), floats(&["f", "a`b"])), ("ü`x".to_owned(), floats(&["f"]))];
        Shared { floats: floats.into(), state: Mutex::default() }
    }

    fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
        let [low, middle, high, _] = u32::try_from(payload.len()).unwrap().to_le_bytes();
        [&[low, middle, high, number], payload].concat()
    }

    fn query(text: &str) -> Vec<u8> {
        packet(0, &[&[QUERY], text.as_bytes()].concat())
    }

    #[test]
    fn only_questions_for_rows_with_floats_are_changed() {
        let shared = shared();
        let through = |sent: &[u8]| {
            let (mut from, mut to) = (sent, Vec::new());
            shared.follow(&mut from, &mut to).unwrap();
            to
        };
        let rows = "SELECT /*!40001 SQL_NO_CACHE */ ";
        let asked = query(&format!("{rows}`id`, `f`, `a``b`, row_start FROM `t` ORDER BY `id`"));
        let exact = query(&format!(
            "{rows}`id`, CAST(`f` AS DOUBLE), CAST(`a``b` AS DOUBLE), row_start FROM `t` ORDER BY `id`"
        ));
        assert_eq!(through(&asked), exact);
        // As MySQL's program writes it, with its attributes before it.
        let sent = [&[QUERY], NO_ATTRIBUTES, rows.as_bytes(), b"`id`,`f` FROM `\xc3\xbc``x`"];
        let exact = [
            &[QUERY],
            NO_ATTRIBUTES,
            rows.as_bytes(),
            b"`id`, CAST(`f` AS DOUBLE) FROM `\xc3\xbc``x`",
        ];
        assert_eq!(through(&packet(0, &sent.concat())), packet(0, &exact.concat()));
        assert_eq!(shared.state().exact, ["t".to_owned(), "ü`x".to_owned()].into());
        for other in [
            query(&format!("{rows}`f` FROM `other`")),
            query(&format!("{rows}* FROM `t`")),
            query("SELECT `f` FROM `t`"),
            query(&format!("{rows}`f` FROM (SELECT 1) `t`")),
            query(&format!("{rows}`f")),
            packet(1, &[&[QUERY], rows.as_bytes(), b"`f` FROM `t`"].concat()),
            packet(0, &vec![b'x'; QUESTION_BYTES_MAX + 70_000]),
            packet(0, b""),
        ] {
            assert!(through(&other) == other);
        }
    }

    #[test]
    fn a_client_that_goes_over_to_tls_is_let_alone_and_cut_packets_end_it() {
        let shared = shared();
        let mut request = packet(1, &[0; TLS_REQUEST_BYTES]);
        request[5] = WITH_TLS;
        let sent = [request, vec![0x16, 3, 1, 2, 0, 1, 0, 0xff]].concat();
        let mut to = Vec::new();
        shared.follow(&mut sent.as_slice(), &mut to).unwrap();
        assert_eq!(to, sent);
        assert!(shared.follow(&mut [9, 0, 0, 0, 3, 1].as_slice(), &mut Vec::new()).is_err());
    }
}
