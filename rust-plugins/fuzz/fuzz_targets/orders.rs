#![no_main]

#[path = "../order_checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::orders(data));
