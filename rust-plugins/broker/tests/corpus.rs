//! The corpus of the fuzz targets (../../fuzz).

#[path = "../../fuzz/broker_checks.rs"]
mod checks;
#[path = "../../fuzz/order_checks.rs"]
mod order_checks;
#[path = "../../fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn dns() {
    replay(
        "dns",
        b"\x00\x01\x02\x05\x0c\x1b\x1c\x21\x3f\x40\x80\xc0\xc1\xff",
        checks::dns,
    );
}

#[test]
fn opening() {
    replay(
        "opening",
        b"\x00\x01\x02\x03\x10\x16\x17\x40\xff{}\",",
        checks::opening,
    );
}

#[test]
fn orders() {
    replay(
        "orders",
        b"{}[]\",:\\\n0-9.tfn*/\x00\xff",
        order_checks::orders,
    );
}
