//! The game's database: players, their sessions, and the ledger of what they did.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, params};

use super::GameError;

/// How long a request waits for the write lock, in milliseconds.
const BUSY_MS_MAX: u64 = 5_000;
/// How many bytes of randomness a session has.
const TOKEN_BYTES: usize = 16;

/// The database, opened for one request.
#[derive(Debug)]
pub struct Book {
    connection: Connection,
}

/// A player, as far as the code of all versions knows one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Player {
    /// The row.
    pub id: i64,
    /// What the others call them.
    pub name: String,
    /// What the purse holds.
    pub gold: i64,
}

impl Book {
    /// Opens the database, which must be there.
    pub fn open(path: &Path) -> Result<Self, GameError> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_millis(BUSY_MS_MAX))?;
        // An action that was answered has to survive a power cut, not only a crash.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        Ok(Self { connection })
    }

    /// Who is behind a session.
    pub fn player(&self, session: &str) -> Result<Option<Player>, GameError> {
        let sql = "SELECT p.id, p.name, p.gold FROM sessions s JOIN players p ON p.id = s.player
                   WHERE s.token = ?1";
        let player = |row: &rusqlite::Row<'_>| {
            Ok(Player { id: row.get(0)?, name: row.get(1)?, gold: row.get(2)? })
        };
        Ok(self.connection.query_row(sql, [session], player).optional()?)
    }

    /// Lets `name` in, who is a new player where nobody is called so. Gives the session.
    pub fn enter(&mut self, name: &str) -> Result<String, GameError> {
        let token = token()?;
        let transaction = self.writing()?;
        transaction.execute("INSERT OR IGNORE INTO players (name) VALUES (?1)", [name])?;
        transaction.execute(
            "INSERT INTO sessions (token, player) SELECT ?1, id FROM players WHERE name = ?2",
            [&token, name],
        )?;
        transaction.commit()?;
        Ok(token)
    }

    /// Ends a session.
    pub fn leave(&mut self, session: &str) -> Result<(), GameError> {
        self.connection.execute("DELETE FROM sessions WHERE token = ?1", [session])?;
        Ok(())
    }

    /// Writes an action into the ledger and the purse, both or neither, and returns once they are
    /// durable. A purse is never overdrawn. An action that is there already is not done again.
    pub fn act(&mut self, id: &str, player: i64, kind: &str, gold: i64) -> Result<(), GameError> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
        let transaction = self.writing()?;
        let written = transaction.execute(
            "INSERT OR IGNORE INTO ledger (request_id, player, kind, gold, at)
             SELECT ?1, id, ?3, max(?4, -gold), ?5 FROM players WHERE id = ?2",
            params![id, player, kind, gold, at],
        )?;
        if written == 1 {
            let sql = "UPDATE players SET gold = max(gold + ?2, 0) WHERE id = ?1";
            transaction.execute(sql, params![player, gold])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// The rows of a query of the rules, each cell as text. `:player` stands for who looks.
    pub fn list(&self, sql: &str, player: Option<i64>) -> Result<Vec<Vec<String>>, GameError> {
        let mut statement = self.connection.prepare(sql)?;
        if let Some(index) = statement.parameter_index(":player")? {
            statement.raw_bind_parameter(index, player)?;
        }
        let columns = statement.column_count();
        let mut rows = statement.raw_query();
        let mut list = Vec::new();
        while let Some(row) = rows.next()? {
            let cell = |at| row.get_ref(at).map(text);
            list.push((0..columns).map(cell).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(list)
    }

    fn writing(&mut self) -> Result<rusqlite::Transaction<'_>, rusqlite::Error> {
        self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
    }
}

fn text(value: rusqlite::types::ValueRef<'_>) -> String {
    use rusqlite::types::ValueRef;
    match value {
        ValueRef::Null => "nothing".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
    }
}

/// A word that nobody guesses.
pub(super) fn token() -> Result<String, GameError> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(GameError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

const FIRST: [&str; 20] = [
    "Alba", "Bruno", "Cleo", "Dario", "Edda", "Falk", "Gwen", "Hugo", "Ines", "Jona", "Kira",
    "Lasse", "Mila", "Nico", "Orla", "Pavel", "Rosa", "Sten", "Tilda", "Yann",
];
const LAST: [&str; 10] = [
    "of the Ford",
    "Oakhand",
    "Redscarf",
    "the Late",
    "Two-Cups",
    "from the Hill",
    "Longroad",
    "Half-Moon",
    "the Quiet",
    "Saltmarsh",
];

/// Makes the database at `path` by `schema`, with `players` players who came before.
pub fn seed(path: &Path, schema: &str, players: u32) -> Result<(), GameError> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(schema)?;
    {
        let sql = "INSERT INTO players (name, gold) VALUES (?1, ?2)";
        let mut insert = transaction.prepare(sql)?;
        for number in 0..players {
            let pick = |list: &[&'static str], at: u32| list[at as usize % list.len()];
            let (first, last) = (pick(&FIRST, number), pick(&LAST, number / 20));
            // Many light purses and a few heavy ones, the same in every run.
            let spread = number.wrapping_mul(2_654_435_761) >> 22;
            let gold = spread * spread / 4_096;
            insert.execute(params![format!("{first} {last} {}", number / 200 + 1), gold])?;
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = include_str!("../../../../../games/demo/v1.0/SQL/000-schema.sql");

    fn book() -> (tempfile::TempDir, Book) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inn.sqlite");
        seed(&path, SCHEMA, 2_000).unwrap();
        let book = Book::open(&path).unwrap();
        (dir, book)
    }

    fn number(book: &Book, sql: &str) -> i64 {
        book.list(sql, None).unwrap()[0][0].parse().unwrap()
    }

    #[test]
    fn the_books_begin_with_as_many_players_as_asked_for() {
        let (_dir, book) = book();
        assert_eq!(number(&book, "SELECT count(DISTINCT name) FROM players"), 2_000);
    }

    #[test]
    fn an_action_is_written_once_and_a_purse_is_never_overdrawn() {
        let (_dir, mut book) = book();
        let session = book.enter("Ada").unwrap();
        let ada = book.player(&session).unwrap().unwrap();
        assert_eq!((ada.name.as_str(), ada.gold), ("Ada", 20));
        book.act("r1", ada.id, "work", 4).unwrap();
        book.act("r1", ada.id, "work", 4).unwrap();
        assert_eq!(book.player(&session).unwrap().unwrap().gold, 24);
        book.act("r2", ada.id, "feast", -100).unwrap();
        assert_eq!(book.player(&session).unwrap().unwrap().gold, 0);
        let sum = "SELECT sum(gold) FROM ledger WHERE player = (SELECT id FROM players WHERE name = 'Ada')";
        assert_eq!(number(&book, sum), -20);
        assert_eq!(number(&book, "SELECT count(*) FROM ledger"), 2);
    }

    #[test]
    fn a_session_ends_and_the_player_stays() {
        let (_dir, mut book) = book();
        let first = book.enter("Ada").unwrap();
        let second = book.enter("Ada").unwrap();
        book.leave(&first).unwrap();
        assert_eq!(book.player(&first).unwrap(), None);
        assert!(book.player(&second).unwrap().is_some());
        assert_eq!(number(&book, "SELECT count(*) FROM players WHERE name = 'Ada'"), 1);
    }
}
