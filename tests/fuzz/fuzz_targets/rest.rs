#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| taskwatch_fuzz::rest(input));
