//! The corpus of the fuzz target `batch` (../../fuzz).

#[path = "../../fuzz/batch_checks.rs"]
mod checks;
#[path = "../../fuzz/replay.rs"]
mod replay;

#[test]
fn batch() {
    replay::replay(
        "batch",
        b"\x00\x01\x02\x03\x04\x08\x10\x40\x7f\x80\xff",
        checks::batch,
    );
}
