#![no_main]

use std::sync::LazyLock;

use entracte_package::fuzz::{self, Fixture};

/// Made once, with the same content each time: what a stream names stays the same.
static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| Fixture::make().expect("the fixture"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::thin(&FIXTURE, bytes));
