//! Blocks that can be computed from others: a Reed–Solomon code over GF(2⁸) (`format-spec/parity.md`).
//!
//! Blocks of equal length are the coefficients of a polynomial, byte by byte, the first one the highest; with `m` recovery blocks at the end it is 0
//! at 2⁰, 2¹, … 2^(m−1). So up to `m` blocks that are missing, whichever they are, follow from the others. Making the recovery blocks
//! is the same as missing them. Blocks come in order and are not kept: what is kept is the value of the polynomial at each point (Horner's rule).
//! Pure computation; plain code that the compiler turns into vector instructions.

mod field;

use field::{invert, multiply_add, power_of_two, shift_add};

/// Blocks of one codeword, data and recovery together: as many as the field has elements but 0.
pub(crate) const CODEWORD_BLOCKS_MAX: usize = 255;

/// One codeword on its way past: what its blocks so far say, and which of them are missing.
#[derive(Debug)]
pub(crate) struct Codeword {
    block_length: usize,
    /// The values of the polynomial at the points, one block each.
    values: Vec<Vec<u8>>,
    /// Blocks so far.
    count: usize,
    missing: Vec<usize>,
}

impl Codeword {
    /// With `recovery` recovery blocks of `block_length` bytes.
    pub(crate) fn new(recovery: usize, block_length: usize) -> Self {
        Self { block_length, values: vec![vec![0; block_length]; recovery], count: 0, missing: Vec::new() }
    }

    /// The next block; a shorter one goes on in zeros, one that is longer is cut off.
    pub(crate) fn push(&mut self, block: &[u8]) {
        let block = block.get(..self.block_length).unwrap_or(block);
        self.values.iter_mut().enumerate().for_each(|(point, value)| shift_add(value, point, block));
        self.count += 1;
    }

    /// The next block is missing.
    pub(crate) fn push_missing(&mut self) {
        self.missing.push(self.count);
        self.push(&[]);
    }

    /// How many are missing so far.
    pub(crate) fn missing(&self) -> usize {
        self.missing.len()
    }

    /// After the last block: the missing ones, in order. `None` where they are more than the recovery blocks, or all blocks together too many.
    pub(crate) fn solve(self) -> Option<Vec<Vec<u8>>> {
        let missing = self.missing.len();
        if missing > self.values.len() || self.count > CODEWORD_BLOCKS_MAX {
            return None;
        }
        // For each point the missing blocks, each times the point to the power of its place, add up to the value of all others. The powers are
        // those of distinct elements, so this has exactly one solution (Vandermonde).
        let element = |place: usize| self.count - 1 - place;
        let rows = (0..missing).map(|point| self.missing.iter().map(|place| power_of_two(element(*place) * point)).collect());
        let inverse = invert(rows.collect())?;
        let block = |row: &Vec<u8>| {
            let mut block = vec![0; self.block_length];
            row.iter().zip(&self.values).for_each(|(factor, value)| multiply_add(&mut block, *factor, value));
            block
        };
        Some(inverse.iter().map(block).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn recovery(data: &[Vec<u8>], count: usize) -> Vec<Vec<u8>> {
        let mut codeword = Codeword::new(count, data[0].len());
        data.iter().for_each(|block| codeword.push(block));
        (0..count).for_each(|_| codeword.push_missing());
        codeword.solve().unwrap()
    }

    /// The definition, byte by byte, as the page has it.
    fn is_codeword(blocks: &[Vec<u8>], recovery: usize) -> bool {
        let times_two = |x: u8| (x << 1) ^ if x & 0x80 == 0 { 0 } else { 0x1d };
        (0..blocks[0].len()).all(|at| {
            (0..recovery).all(|point| {
                let step = |value: u8, block: &Vec<u8>| (0..point).fold(value, |value, _| times_two(value)) ^ block[at];
                blocks.iter().fold(0, step) == 0
            })
        })
    }

    #[test]
    fn what_is_made_is_what_the_page_defines() {
        for (data, count, length) in [(1, 1, 1), (1, 4, 64), (3, 2, 63), (17, 6, 65), (220, 35, 7), (253, 2, 9), (220, 7, 200)] {
            let data: Vec<_> = (0..data).map(|n| noise(n, length)).collect();
            let blocks = [data.clone(), recovery(&data, count)].concat();
            assert!(is_codeword(&blocks, count), "{} {count} {length}", data.len());
            let mut broken = blocks.clone();
            broken[0][0] ^= 1;
            assert!(!is_codeword(&broken, count));
        }
    }

    #[test]
    fn any_few_blocks_may_be_missing() {
        let data: Vec<_> = (0..9).map(|n| noise(n, 40)).collect();
        let blocks = [data.clone(), recovery(&data, 3)].concat();
        for set in 0_u32..1 << 12 {
            let mut codeword = Codeword::new(3, 40);
            for (n, block) in blocks.iter().enumerate() {
                if set >> n & 1 == 1 { codeword.push_missing() } else { codeword.push(block) }
            }
            let expected: Vec<_> = (0..12).filter(|n| set >> n & 1 == 1).map(|n| blocks[n].clone()).collect();
            assert_eq!(codeword.solve(), Some(expected).filter(|missing| missing.len() <= 3), "{set:b}");
        }
    }

    #[test]
    fn more_blocks_than_the_field_has_elements_are_refused() {
        let mut codeword = Codeword::new(2, 4);
        (0..254).for_each(|_| codeword.push(b"data"));
        (0..2).for_each(|_| codeword.push_missing());
        assert_eq!(codeword.solve(), None);
    }

    proptest! {
        #[test]
        fn missing_blocks_come_back(data in 1_usize..221, count in 1_usize..36, length in 1_usize..150, seed: u64) {
            let data: Vec<_> = (0..data).map(|n| noise(seed.wrapping_add(n as u64), length)).collect();
            let mut blocks = [data.clone(), recovery(&data, count)].concat();
            let all = blocks.clone();
            let missing: std::collections::BTreeSet<_> =
                noise(seed ^ 1, 2 * count).chunks(2).map(|two| (usize::from(two[0]) << 8 | usize::from(two[1])) % blocks.len()).collect();
            missing.iter().for_each(|n| blocks[*n].clear());
            let mut codeword = Codeword::new(count, length);
            blocks.iter().for_each(|block| if block.is_empty() { codeword.push_missing() } else { codeword.push(block) });
            let expected: Vec<_> = missing.iter().map(|n| all[*n].clone()).collect();
            prop_assert_eq!(codeword.solve(), Some(expected));
        }
    }
}
