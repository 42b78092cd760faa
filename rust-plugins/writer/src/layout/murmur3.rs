//! The hash of Iceberg's buckets: MurmurHash3, x86, 32 bits, seed 0.
//!
//! Source: Iceberg table specification, appendix B; A. Appleby, smhasher, `MurmurHash3_x86_32`.

pub fn hash(bytes: &[u8]) -> u32 {
    let (blocks, tail) = bytes.as_chunks::<4>();
    let mut hash = 0;
    for block in blocks {
        hash ^= scrambled(u32::from_le_bytes(*block));
        hash = u32::rotate_left(hash, 13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
    }
    if !tail.is_empty() {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        hash ^= scrambled(u32::from_le_bytes(last));
    }
    hash ^= bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

fn scrambled(block: u32) -> u32 {
    let block = block.wrapping_mul(0xcc9e_2d51).rotate_left(15);
    block.wrapping_mul(0x1b87_3593)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_specification() {
        assert_eq!(hash(&34i64.to_le_bytes()), 2_017_239_379);
        assert_eq!(hash(&(-1i64).to_le_bytes()) as i32, 1_651_860_712);
        assert_eq!(hash(b"iceberg"), 1_210_000_089);
        assert_eq!(hash(&[0, 1, 2, 3]) as i32, -188_683_207);
        // decimal 14.20
        assert_eq!(hash(&[0x05, 0x8c]) as i32, -500_754_589);
        assert_eq!(hash(b""), 0);
    }
}
