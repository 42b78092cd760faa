//! The corpus of the fuzz targets (../../fuzz).

#[path = "../../fuzz/checks.rs"]
mod checks;
#[path = "../../fuzz/replay.rs"]
mod replay;

use replay::replay;

const SPECIAL: &[u8] = b"{}[]\",:\\\n\r\t 0-9eEnu\x00\x7f\xc3\xef";

#[test]
fn framing() {
    replay("framing", SPECIAL, checks::framing);
}

#[test]
fn envelope() {
    replay("envelope", SPECIAL, checks::envelope);
}

#[test]
fn relay() {
    replay("relay", SPECIAL, checks::relay);
}
