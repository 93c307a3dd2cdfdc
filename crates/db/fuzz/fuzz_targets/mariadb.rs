//! The lexer of this dialect on bytes that nobody meant.

#![no_main]

use entracte_db::Engine;
use entracte_db_fuzz::hold;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| hold(Engine::Mariadb, bytes));
