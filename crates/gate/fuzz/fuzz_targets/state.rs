#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| entracte_gate::fuzzing::state(data));
