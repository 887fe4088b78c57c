//! A small filter for each page of a run: what it does not contain is not in the page.
//!
//! A Bloom filter (Bloom 1970) of a byte for each key that the page has room for, with five probes by double hashing (Kirsch and Mitzenmacher
//! 2006): one in 46 of the keys that are not there is let through, and costs the reading of a page.

/// Bits that are set for each key; the best number for eight bits a key.
const PROBES: u64 = 5;

/// Stands for: this key is in the run more than once. Keys leave the highest bit free.
pub(super) fn twin(key: u64) -> u64 {
    key | (1 << 63)
}

/// Adds a key.
pub(super) fn insert(filter: &mut [u8], key: u64) {
    for bit in bits(key, filter.len()) {
        filter[bit / 8] |= 1 << (bit % 8);
    }
}

/// Whether the key may have been added.
pub(super) fn contains(filter: &[u8], key: u64) -> bool {
    bits(key, filter.len()).all(|bit| filter[bit / 8] >> (bit % 8) & 1 == 1)
}

/// The bits of a key in a filter of so many bytes, at least one.
fn bits(key: u64, length: usize) -> impl Iterator<Item = usize> {
    let hash = mix(key);
    let (first, step) = (hash >> 32, hash | 1);
    // The upper half of a 32-bit number times the number of bits is below the number of bits.
    (0..PROBES).map(move |probe| {
        let probed = u64::from(first.wrapping_add(probe.wrapping_mul(step)) as u32);
        ((probed * (8 * length as u64)) >> 32) as usize
    })
}

/// Spreads a key over all 64 bits (the last step of SplitMix64, Steele, Lea and Flood 2014).
fn mix(key: u64) -> u64 {
    let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_there_and_little_else() {
        // Keys that share their upper bits, as those of a page do.
        let mut filter = vec![0; 584];
        let key = |n: u64| (0xabcd << 32) | (mix(n) >> 32);
        (0..584).for_each(|n| insert(&mut filter, key(n)));
        assert!((0..584).all(|n| contains(&filter, key(n))));
        let passed = (584..100_584).filter(|&n| contains(&filter, key(n))).count();
        assert!((1_500..3_000).contains(&passed), "{passed}");
        let twins = (0..584).filter(|&n| contains(&filter, twin(key(n)))).count();
        assert!(twins < 40, "{twins}");
    }
}
