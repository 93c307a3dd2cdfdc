#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entracte_package::fuzz::patch(bytes));
