//! The corpus of the fuzz target `decode` (../../fuzz).

#[path = "../../fuzz/decode_checks.rs"]
mod checks;
#[path = "../../fuzz/replay.rs"]
mod replay;

#[test]
fn decode() {
    replay::replay("decode", b"{}[]\",:\\\n0-9.eE+tfnNI/u\x00", checks::decode);
}
