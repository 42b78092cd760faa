//! The corpus of a fuzz target, replayed as it is and with bytes changed: for `cargo test` of the crates that are fuzzed.

use std::fs;
use std::path::Path;

/// Changed copies of each input.
const CHANGES: u64 = 40;

/// Bytes that mean something to what is fuzzed are put in by `special`.
pub fn replay(target: &str, special: &[u8], check: fn(&[u8])) {
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
    for (path, input) in &inputs {
        eprintln!("{}", path.display());
        check(input);
        for _ in 0..CHANGES {
            let mut changed = input.clone();
            for _ in 0..=random(4) {
                let at = random(changed.len());
                match random(4) {
                    _ if changed.is_empty() => {}
                    0 => changed[at] = special[random(special.len())],
                    1 => changed.insert(at, special[random(special.len())]),
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
