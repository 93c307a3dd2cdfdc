//! What holds for every input of the script lexer, in every dialect. The fuzz targets look for an
//! input that breaks it; the tests of the crate try a bounded number of their own.

use entracte_db::script::{
    Engine, Found, QuoteMode, ScriptError, Splitter, Statement, squeeze, statements_in,
};

/// The most windows that an input is read in.
const WINDOWS_MAX: usize = 500;

/// Panics where one of the properties does not hold for `bytes`.
pub fn hold(engine: Engine, bytes: &[u8]) {
    // The first byte chooses, so that a fuzzer finds all modes by itself.
    let choice = bytes.first().copied().unwrap_or(0);
    let mode = QuoteMode { no_backslash_escapes: choice & 1 != 0, ansi_quotes: choice & 2 != 0 };
    let whole = statements_in(engine, mode, bytes);
    // How much of a refused line is shown depends on the window; where and why does not.
    let whole = whole.map_err(|error| (error.line, error.expected));
    // Every window reads the statement at hand anew: tiny ones are for small inputs.
    let least = bytes.len() / WINDOWS_MAX;
    for step in [1, 2, 7, 64, usize::from(choice) + 1].map(|step| step.max(least)) {
        let windows = in_windows(engine, mode, bytes, step);
        let windows = windows.map_err(|error| (error.line, error.expected));
        assert_eq!(windows, whole, "windows of {step} bytes");
    }
    let Ok(statements) = whole else { return };
    let mut end = 0;
    for statement in &statements {
        let start = usize::try_from(statement.offset).expect("an offset within the input");
        assert!(start >= end, "offset {start} lies before {end}");
        assert!(!statement.text.is_empty(), "an empty statement at {start}");
        let line = 1 + bytes[..start].iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(statement.line, line, "the line of {start}");
        end = start + length(engine, &bytes[start..], &statement.text);
        // Shortening may not panic, whatever the text is.
        drop(squeeze(engine, &statement.text));
    }
    nothing_is_left_out(engine, mode, bytes, &statements);
}

/// How many bytes of `there` are `text`, which has LF for CRLF but in PostgreSQL.
fn length(engine: Engine, there: &[u8], text: &str) -> usize {
    let mut at = 0;
    for byte in text.bytes() {
        if engine != Engine::Postgres && byte == b'\n' && there[at..].starts_with(b"\r\n") {
            at += 1;
        }
        assert_eq!(there.get(at), Some(&byte), "the text is not what stands at its offset");
        at += 1;
    }
    at
}

/// What stands between two statements, and behind the last, holds none.
fn nothing_is_left_out(engine: Engine, mode: QuoteMode, bytes: &[u8], found: &[Statement]) {
    // With other delimiters and with the client's `\g` a gap means something else alone.
    let lower = bytes.to_ascii_lowercase();
    let has = |word: &[u8]| lower.windows(word.len()).any(|at| at == word);
    if has(b"delimiter") || has(b"\\g") || has(b"sql_mode") {
        return;
    }
    let mut start = 0;
    let mut ends: Vec<usize> = Vec::new();
    for statement in found {
        let offset = usize::try_from(statement.offset).expect("an offset within the input");
        ends.push(offset);
        let alone = statements_in(engine, mode, &bytes[start..offset]);
        // A comment of the shell at a line's start may stand in the middle of one when alone.
        if let Ok(alone) = alone {
            assert_eq!(alone, [], "left out before {offset}");
        }
        start = offset + length(engine, &bytes[offset..], &statement.text);
    }
    if let Ok(alone) = statements_in(engine, mode, &bytes[start..]) {
        assert_eq!(alone, [], "left out behind {start}");
    }
}

/// The statements, found in windows that grow by `step` bytes.
fn in_windows(
    engine: Engine,
    mode: QuoteMode,
    bytes: &[u8],
    step: usize,
) -> Result<Vec<Statement>, ScriptError> {
    let mut splitter = Splitter::new(engine, mode);
    let (mut start, mut end, mut found) = (0, step.min(bytes.len()), Vec::new());
    loop {
        match splitter.next(&bytes[start..end], end == bytes.len())? {
            Found::Statement { statement, consumed } => {
                found.push(statement);
                start += consumed;
            }
            Found::NeedMore => end = (end + step).min(bytes.len()),
            Found::End => return Ok(found),
        }
    }
}
