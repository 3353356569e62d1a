#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millwork_fuzz::form(data));
