//! Which semicolons belong to a compound statement's body, where a script does without
//! `DELIMITER`.

/// Blocks that may hold delimiters, in the dialect at hand.
pub(super) enum Blocks {
    Mariadb(MariadbBlocks),
    Sqlite(SqliteTrigger),
    Postgres(PostgresBlocks),
    /// Under a delimiter of the script's own nothing but that delimiter ends a statement.
    Untracked,
}

impl Blocks {
    pub(super) fn word(&mut self, word: &[u8], line: u64) {
        match self {
            Blocks::Mariadb(blocks) => blocks.word(word, line),
            Blocks::Sqlite(trigger) => trigger.word(word, line),
            Blocks::Postgres(blocks) => blocks.word(word, line),
            Blocks::Untracked => {}
        }
    }

    pub(super) fn symbol(&mut self, symbol: u8, next: Option<u8>) {
        match self {
            Blocks::Mariadb(blocks) => blocks.symbol(symbol, next),
            Blocks::Sqlite(trigger) => trigger.other(),
            Blocks::Postgres(blocks) => blocks.symbol(symbol),
            Blocks::Untracked => {}
        }
    }

    pub(super) fn quoted(&mut self) {
        match self {
            Blocks::Mariadb(blocks) => blocks.quoted(),
            Blocks::Sqlite(trigger) => trigger.other(),
            Blocks::Postgres(_) | Blocks::Untracked => {}
        }
    }

    pub(super) fn delimiter_is_inside(&mut self) -> bool {
        match self {
            Blocks::Mariadb(blocks) => blocks.semicolon_is_inside(),
            Blocks::Sqlite(trigger) => trigger.semicolon_is_inside(),
            Blocks::Postgres(blocks) => blocks.semicolon_is_inside(),
            Blocks::Untracked => false,
        }
    }

    pub(super) fn open(&self) -> Option<(&'static str, u64)> {
        match self {
            Blocks::Mariadb(blocks) => blocks.open(),
            Blocks::Sqlite(trigger) => trigger.open(),
            Blocks::Postgres(blocks) => blocks.open(),
            Blocks::Untracked => None,
        }
    }
}

/// SQLite: the body of a trigger ends with `; END ;`, as `sqlite3_complete` has it.
#[derive(Debug, Default)]
pub(super) struct SqliteTrigger {
    words: usize,
    is_create: bool,
    trigger_line: Option<u64>,
    last: Last,
}

#[derive(Debug, Default, PartialEq)]
enum Last {
    #[default]
    Other,
    Semicolon,
    End,
}

impl SqliteTrigger {
    pub(super) fn word(&mut self, word: &[u8], line: u64) {
        let is = |text: &[u8]| word.eq_ignore_ascii_case(text);
        if self.words == 0 && is(b"explain") {
            return;
        }
        match self.words {
            0 => self.is_create = is(b"create"),
            1 if self.is_create && (is(b"temp") || is(b"temporary")) => return,
            1 if self.is_create && is(b"trigger") => self.trigger_line = Some(line),
            _ => {}
        }
        self.words += 1;
        let ends = self.last == Last::Semicolon && is(b"end");
        self.last = if ends { Last::End } else { Last::Other };
    }

    pub(super) fn other(&mut self) {
        self.last = Last::Other;
    }

    pub(super) fn semicolon_is_inside(&mut self) -> bool {
        let inside = self.trigger_line.is_some() && self.last != Last::End;
        self.last = Last::Semicolon;
        inside
    }

    pub(super) fn open(&self) -> Option<(&'static str, u64)> {
        // A last statement without its semicolon is fine, also when it is a trigger.
        self.trigger_line.filter(|_| self.last != Last::End).map(|line| ("trigger", line))
    }
}

/// PostgreSQL: bodies of `BEGIN ATOMIC`, and parentheses (in `CREATE RULE ... DO (...; ...)`).
#[derive(Debug, Default)]
pub(super) struct PostgresBlocks {
    head: Vec<u8>,
    depth: u32,
    parens: u32,
    began: u64,
    after_begin: bool,
}

impl PostgresBlocks {
    pub(super) fn word(&mut self, word: &[u8], line: u64) {
        const HEAD_WORDS: usize = 4;
        let upper = word.to_ascii_uppercase();
        if self.head.len() < HEAD_WORDS {
            self.head.push(match upper.as_slice() {
                b"CREATE" => b'c',
                b"OR" => b'o',
                b"REPLACE" => b'r',
                b"FUNCTION" | b"PROCEDURE" => b'f',
                _ => b'x',
            });
        }
        let after_begin = std::mem::take(&mut self.after_begin);
        if !(self.head.starts_with(b"cf") || self.head.starts_with(b"corf")) || self.parens > 0 {
            return;
        }
        match upper.as_slice() {
            b"BEGIN" if self.depth == 0 => self.after_begin = true,
            b"ATOMIC" if after_begin => {
                self.depth = 1;
                self.began = line;
            }
            b"CASE" if self.depth > 0 => self.depth += 1,
            b"END" => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    pub(super) fn symbol(&mut self, symbol: u8) {
        match symbol {
            b'(' => self.parens += 1,
            b')' => self.parens = self.parens.saturating_sub(1),
            _ => {}
        }
    }

    pub(super) fn semicolon_is_inside(&mut self) -> bool {
        self.depth > 0 || self.parens > 0
    }

    pub(super) fn open(&self) -> Option<(&'static str, u64)> {
        (self.depth > 0).then_some(("BEGIN ATOMIC", self.began))
    }
}

/// MariaDB: blocks of stored programs and of `BEGIN NOT ATOMIC`.
#[derive(Debug, Default)]
pub(super) struct MariadbBlocks {
    phase: Phase,
    stack: Vec<(Block, u64)>,
    /// A statement may begin here: only here do most keywords open a block.
    at_start: bool,
    /// Behind an `END`: `IF`, `LOOP` and so on belong to it.
    after_end: bool,
    until: bool,
    handler: bool,
    paren_depth: u32,
    previous_symbol: u8,
    previous_word_is_character: bool,
    skip_words: u8,
}

#[derive(Debug, Default, PartialEq, Clone, Copy)]
enum Phase {
    #[default]
    First,
    /// The first word was no keyword: a label, if a colon follows.
    MaybeLabel,
    /// `BEGIN` was the first word: a transaction, unless `NOT ATOMIC` follows.
    Begin,
    Create,
    Alter,
    TriggerHeader,
    EventHeader,
    /// Before the closing parenthesis of the parameters.
    RoutineName,
    RoutineHeader,
    Body,
    /// Whatever comes, the next semicolon ends it.
    Plain,
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum Block {
    Begin,
    If,
    CaseStatement,
    CaseExpression,
    Loop,
    While,
    Repeat,
    For,
}

const COMPOUND: [&str; 7] = ["BEGIN", "IF", "CASE", "LOOP", "WHILE", "REPEAT", "FOR"];
const SIMPLE: [&str; 27] = [
    "RETURN", "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "SET", "CALL", "WITH", "DO",
    "EXECUTE", "PREPARE", "TRUNCATE", "DROP", "ALTER", "CREATE", "GRANT", "REVOKE", "ANALYZE",
    "OPTIMIZE", "FLUSH", "KILL", "LOCK", "RENAME", "SHOW", "SIGNAL", "VALUES",
];
/// The longest word that is looked at as a keyword.
const KEYWORD_BYTES_MAX: usize = 16;

impl MariadbBlocks {
    pub(super) fn word(&mut self, word: &[u8], line: u64) {
        let previous = std::mem::replace(&mut self.previous_symbol, 0);
        if word.len() > KEYWORD_BYTES_MAX || matches!(previous, b'.' | b'@') {
            self.at_start = false;
            self.after_end = false;
            self.first_is_plain();
            return;
        }
        let upper = String::from_utf8_lossy(word).to_ascii_uppercase();
        let word = upper.as_str();
        match self.phase {
            Phase::First => self.first(word, line),
            Phase::MaybeLabel => self.phase = Phase::Plain,
            Phase::Begin if word == "NOT" => {
                self.stack.push((Block::Begin, line));
                self.at_start = true;
                self.phase = Phase::Body;
            }
            Phase::Begin => self.phase = Phase::Plain,
            Phase::Create if previous != b'=' => self.create(word),
            Phase::Alter => {
                self.phase = if word == "EVENT" { Phase::EventHeader } else { Phase::Plain };
            }
            Phase::TriggerHeader if word == "ROW" => self.body(),
            Phase::EventHeader if word == "DO" && self.paren_depth == 0 => self.body(),
            Phase::RoutineHeader if self.paren_depth == 0 => self.routine_header(word, line),
            Phase::Body => self.in_body(word, line),
            _ => {}
        }
        self.previous_word_is_character = word == "CHARACTER";
    }

    pub(super) fn symbol(&mut self, symbol: u8, next: Option<u8>) {
        self.previous_symbol = symbol;
        match symbol {
            b'(' => self.paren_depth += 1,
            b')' => {
                self.paren_depth = self.paren_depth.saturating_sub(1);
                if self.phase == Phase::RoutineName && self.paren_depth == 0 {
                    self.phase = Phase::RoutineHeader;
                }
            }
            // A label; `:=` is an assignment.
            b':' if next != Some(b'=') => {
                if matches!(self.phase, Phase::RoutineHeader | Phase::MaybeLabel) {
                    self.phase = Phase::Body;
                }
                self.at_start = true;
                self.after_end = false;
                return;
            }
            _ => {}
        }
        self.at_start = false;
        self.after_end = false;
        if symbol == b'(' {
            self.first_is_plain();
        }
    }

    pub(super) fn quoted(&mut self) {
        self.previous_symbol = 0;
        if self.skip_words > 0 {
            self.skip_words -= 1;
            return;
        }
        self.at_start = false;
        self.after_end = false;
    }

    pub(super) fn semicolon_is_inside(&mut self) -> bool {
        let inside = self.phase == Phase::Body && !self.stack.is_empty();
        self.at_start = true;
        self.after_end = false;
        self.until = false;
        self.handler = false;
        self.previous_symbol = 0;
        inside
    }

    pub(super) fn open(&self) -> Option<(&'static str, u64)> {
        let (block, line) = self.stack.last()?;
        let name = match block {
            Block::Begin => "BEGIN",
            Block::If => "IF",
            Block::CaseStatement | Block::CaseExpression => "CASE",
            Block::Loop => "LOOP",
            Block::While => "WHILE",
            Block::Repeat => "REPEAT",
            Block::For => "FOR",
        };
        (self.phase == Phase::Body).then_some((name, *line))
    }

    fn first_is_plain(&mut self) {
        if matches!(self.phase, Phase::First | Phase::Begin | Phase::MaybeLabel) {
            self.phase = Phase::Plain;
        }
    }

    fn first(&mut self, word: &str, line: u64) {
        self.phase = match word {
            "CREATE" => Phase::Create,
            "ALTER" => Phase::Alter,
            "BEGIN" => Phase::Begin,
            // These begin a statement only as blocks outside a stored program.
            "IF" | "CASE" | "LOOP" | "WHILE" | "REPEAT" | "FOR" => {
                self.at_start = true;
                self.in_body(word, line);
                Phase::Body
            }
            _ if SIMPLE.contains(&word) => Phase::Plain,
            _ => Phase::MaybeLabel,
        };
    }

    fn create(&mut self, word: &str) {
        self.phase = match word {
            "TRIGGER" => Phase::TriggerHeader,
            "EVENT" => Phase::EventHeader,
            "PROCEDURE" | "FUNCTION" => Phase::RoutineName,
            "OR" | "REPLACE" | "DEFINER" | "AGGREGATE" | "CURRENT_USER" | "CURRENT_ROLE" => {
                Phase::Create
            }
            "TABLE" | "VIEW" | "INDEX" | "UNIQUE" | "FULLTEXT" | "SPATIAL" | "DATABASE"
            | "SCHEMA" | "USER" | "ROLE" | "SEQUENCE" | "SERVER" | "TEMPORARY" | "ALGORITHM"
            | "SQL" => Phase::Plain,
            _ => Phase::Create,
        };
    }

    fn body(&mut self) {
        self.phase = Phase::Body;
        self.at_start = true;
    }

    fn routine_header(&mut self, word: &str, line: u64) {
        if COMPOUND.contains(&word) {
            self.body();
            self.in_body(word, line);
        } else if SIMPLE.contains(&word) && !(word == "SET" && self.previous_word_is_character) {
            self.phase = Phase::Plain;
        }
    }

    fn in_body(&mut self, word: &str, line: u64) {
        if self.skip_words > 0 {
            self.skip_words -= 1;
            return;
        }
        if std::mem::take(&mut self.after_end) && COMPOUND.contains(&word) {
            return;
        }
        let starts = self.at_start || (self.handler && COMPOUND.contains(&word) && word != "FOR");
        let top = self.stack.last().map(|(block, _)| *block);
        let mut next_starts = false;
        match word {
            "END" if starts || self.until || top == Some(Block::CaseExpression) => {
                self.stack.pop();
                self.until = false;
                self.after_end = top != Some(Block::CaseExpression);
            }
            "CASE" if starts => self.stack.push((Block::CaseStatement, line)),
            "CASE" => self.stack.push((Block::CaseExpression, line)),
            "BEGIN" if starts => {
                self.stack.push((Block::Begin, line));
                next_starts = true;
            }
            "IF" if starts => self.stack.push((Block::If, line)),
            "WHILE" if starts => self.stack.push((Block::While, line)),
            "FOR" if starts => self.stack.push((Block::For, line)),
            "LOOP" if starts => {
                self.stack.push((Block::Loop, line));
                next_starts = true;
            }
            "REPEAT" if starts => {
                self.stack.push((Block::Repeat, line));
                next_starts = true;
            }
            "UNTIL" if starts => self.until = true,
            "THEN" | "ELSE" => next_starts = top != Some(Block::CaseExpression),
            "DO" => next_starts = !starts && matches!(top, Some(Block::While | Block::For)),
            "HANDLER" => self.handler = true,
            "NOT" | "ATOMIC" => next_starts = starts,
            // In a trigger's header: the name of another trigger follows.
            "FOLLOWS" | "PRECEDES" if starts && self.stack.is_empty() => {
                self.skip_words = 1;
                next_starts = true;
            }
            _ => {}
        }
        self.handler &= !starts || word == "HANDLER";
        self.at_start = next_starts;
    }
}
