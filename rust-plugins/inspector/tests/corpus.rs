//! The corpus of the fuzz target (../../fuzz).

#[path = "../../fuzz/footer_checks.rs"]
mod checks;
#[path = "../../fuzz/replay.rs"]
mod replay;

#[test]
fn footer() {
    replay::replay(
        "footer",
        b"\x00\x01\x02\x0c\x15\x16\x18\x19\x1c\x25\x26\x28\x2c\x7f\x80\xff",
        checks::footer,
    );
}
