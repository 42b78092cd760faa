//! The corpus of the fuzz targets (../../fuzz), replayed as it is and with bytes changed.

#[path = "../../fuzz/checks.rs"]
mod checks;

use std::fs;
use std::path::Path;

/// Changed copies of each input.
const CHANGES: u64 = 40;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut inputs = Vec::new();
    for entry in fs::read_dir(&folder).expect("the corpus") {
        let path = entry.expect("an entry").path();
        inputs.push((path.clone(), fs::read(path).expect("an input")));
    }
    inputs.sort();
    assert!(inputs.len() >= 10, "{}", folder.display());
    // Numbers that are the same in every run: Marsaglia's xorshift.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below.max(1) as u64) as usize
    };
    const SPECIAL: &[u8] = b"{}[]\",:\\\n\r\t 0-9eEnu\x00\x7f\xc3\xef";
    for (path, input) in &inputs {
        eprintln!("{}", path.display());
        check(input);
        for _ in 0..CHANGES {
            let mut changed = input.clone();
            for _ in 0..=random(4) {
                let at = random(changed.len());
                match random(4) {
                    _ if changed.is_empty() => {}
                    0 => changed[at] = SPECIAL[random(SPECIAL.len())],
                    1 => changed.insert(at, SPECIAL[random(SPECIAL.len())]),
                    2 => {
                        changed.remove(at);
                    }
                    _ => {
                        let other = &inputs[random(inputs.len())].1;
                        let from = random(other.len());
                        let to = (from + random(64)).min(other.len());
                        changed.splice(at..at, other[from..to].iter().copied());
                    }
                }
            }
            check(&changed);
        }
    }
}

#[test]
fn framing() {
    replay("framing", checks::framing);
}

#[test]
fn envelope() {
    replay("envelope", checks::envelope);
}

#[test]
fn relay() {
    replay("relay", checks::relay);
}
