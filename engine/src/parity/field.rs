//! Arithmetic in GF(2⁸): polynomials over one bit modulo x⁸+x⁴+x³+x²+1 (0x11d), of whose elements 2 generates all but 0.

/// What is left of x⁸.
const REDUCTION: u8 = 0x1d;
/// Bytes that are worked on at once.
const LANES: usize = 64;
const WORDS: usize = LANES / 8;

/// Twice each byte.
fn double(word: u64) -> u64 {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const REDUCTIONS: u64 = 0x0101_0101_0101_0101 * REDUCTION as u64;
    let high = word & HIGH;
    // 0x7f in each byte whose highest bit was set.
    let carried = (high - (high >> 7)) & REDUCTIONS;
    ((word & !HIGH) << 1) ^ carried
}

fn words(bytes: &[u8; LANES]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    words.iter_mut().zip(bytes.as_chunks::<8>().0).for_each(|(word, bytes)| *word = u64::from_le_bytes(*bytes));
    words
}

/// `value = value · 2^power + block`, where the block goes on in zeros if it is shorter.
pub(super) fn shift_add(value: &mut [u8], power: usize, block: &[u8]) {
    let shift = |bytes: &[u8; LANES], block: &[u8; LANES]| {
        let mut words = words(bytes);
        match power {
            0..8 => (0..power).for_each(|_| words.iter_mut().for_each(|word| *word = double(*word))),
            _ => words = times(words, power_of_two(power)),
        }
        let mut sum = [0; LANES];
        let added = words.iter().zip(block.as_chunks::<8>().0).map(|(word, block)| word ^ u64::from_le_bytes(*block));
        sum.as_chunks_mut::<8>().0.iter_mut().zip(added).for_each(|(bytes, word)| *bytes = word.to_le_bytes());
        sum
    };
    for (number, piece) in value.chunks_mut(LANES).enumerate() {
        let rest = block.get(number * LANES..).unwrap_or_default();
        match (piece.as_chunks_mut::<LANES>().0, rest.first_chunk::<LANES>()) {
            ([whole], Some(block)) => *whole = shift(whole, block),
            _ => {
                let (mut ours, mut theirs) = ([0; LANES], [0; LANES]);
                ours[..piece.len()].copy_from_slice(piece);
                let length = rest.len().min(piece.len());
                theirs[..length].copy_from_slice(&rest[..length]);
                let length = piece.len();
                piece.copy_from_slice(&shift(&ours, &theirs)[..length]);
            }
        }
    }
}

/// Each byte times `factor`.
fn times(words: [u64; WORDS], factor: u8) -> [u64; WORDS] {
    let (mut power, mut sum) = (words, [0; WORDS]);
    for bit in 0..8 {
        if factor >> bit & 1 == 1 {
            sum.iter_mut().zip(power).for_each(|(sum, power)| *sum ^= power);
        }
        power.iter_mut().for_each(|word| *word = double(*word));
    }
    sum
}

/// `sum = sum + factor · bytes`.
pub(super) fn multiply_add(sum: &mut [u8], factor: u8, bytes: &[u8]) {
    let mut table = [0; 256];
    (0..=255_u8).zip(&mut table).for_each(|(byte, product)| *product = multiply(factor, byte));
    sum.iter_mut().zip(bytes).for_each(|(sum, byte)| *sum ^= table[usize::from(*byte)]);
}

/// The product of two elements.
fn multiply(mut a: u8, b: u8) -> u8 {
    let mut product = 0;
    for bit in 0..8 {
        if b >> bit & 1 == 1 {
            product ^= a;
        }
        a = (a << 1) ^ if a & 0x80 == 0 { 0 } else { REDUCTION };
    }
    product
}

/// 2 to that power.
pub(super) fn power_of_two(power: usize) -> u8 {
    (0..power % 255).fold(1, |element, _| multiply(element, 2))
}

/// 1 divided by an element that is not 0: its 254th power.
fn reciprocal(element: u8) -> u8 {
    (0..254).fold(1, |power, _| multiply(power, element))
}

/// The inverse of a square matrix, by elimination. `None` where it has none.
pub(super) fn invert(mut rows: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    let size = rows.len();
    rows.iter_mut().enumerate().for_each(|(at, row)| row.extend((0..size).map(|column| u8::from(column == at))));
    for at in 0..size {
        let pivot = (at..size).find(|row| rows[*row][at] != 0)?;
        rows.swap(at, pivot);
        let scale = reciprocal(rows[at][at]);
        rows[at].iter_mut().for_each(|element| *element = multiply(*element, scale));
        let pivot = rows[at].clone();
        for row in rows.iter_mut().enumerate().filter(|(number, _)| *number != at).map(|(_, row)| row) {
            let factor = row[at];
            row.iter_mut().zip(&pivot).for_each(|(element, pivot)| *element ^= multiply(factor, *pivot));
        }
    }
    Some(rows.into_iter().map(|row| row[size..].to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_generates_the_field_and_every_element_has_a_reciprocal() {
        let powers: std::collections::BTreeSet<_> = (0..255).map(power_of_two).collect();
        assert!(powers.len() == 255 && !powers.contains(&0) && power_of_two(255) == 1);
        assert!((1..=255).all(|element| multiply(element, reciprocal(element)) == 1));
        assert_eq!((multiply(0x80, 2), multiply(0x57, 0x83), multiply(3, 3)), (0x1d, 0x31, 5));
    }

    #[test]
    fn all_ways_to_multiply_agree() {
        let all: Vec<u8> = (0..=255).collect();
        for power in 0..40 {
            let mut value = all.clone();
            shift_add(&mut value, power, &[7; 100]);
            let expected = all.iter().enumerate().map(|(at, byte)| multiply(*byte, power_of_two(power)) ^ if at < 100 { 7 } else { 0 });
            assert_eq!(value, expected.collect::<Vec<_>>(), "{power}");
        }
        let mut sum = vec![9; 256];
        multiply_add(&mut sum, 0x53, &all);
        assert!(sum.iter().zip(&all).all(|(sum, byte)| *sum == 9 ^ multiply(0x53, *byte)));
    }

    #[test]
    fn a_matrix_times_its_inverse_is_one() {
        let rows: Vec<Vec<u8>> = (0..35).map(|row| (0..35).map(|column| power_of_two(row * column)).collect()).collect();
        let inverse = invert(rows.clone()).unwrap();
        for (at, row) in rows.iter().enumerate() {
            let product = (0..35).map(|column| row.iter().zip(&inverse).fold(0, |sum, (a, b)| sum ^ multiply(*a, b[column])));
            assert!(product.enumerate().all(|(column, element)| element == u8::from(column == at)));
        }
        assert_eq!(invert(vec![vec![1, 1], vec![1, 1]]), None);
    }
}
