#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tower_failover::fuzzing::translate_request(input));
