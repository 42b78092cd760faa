#![no_main]

#[path = "../footer_checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::footer(data));
