//! Bytes to measure on, from seeds.

/// Makes so many bytes from a seed.
pub type Generate = fn(seed: u64, length: usize) -> Vec<u8>;

/// The kinds of data, by name.
pub const KINDS: [(&str, Generate); 3] = [("noise", noise), ("text", text), ("database", database)];

const PAGE_LENGTH: usize = 8 << 10;
const WORDS: usize = 4096;
const ROW_STATES: [&str; 4] = ["paid     ", "shipped  ", "cancelled", "returned "];

/// `length` bytes of the kind called `kind`.
///
/// # Panics
/// Where there is no such kind.
pub fn data(kind: &str, seed: u64, length: usize) -> Vec<u8> {
    let (_, generate) = KINDS.iter().find(|(name, _)| *name == kind).expect("a kind of data");
    generate(seed, length)
}

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Lines of words, the first words of a vocabulary far more often than the last. Compresses about as well as source code.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut vocabulary = Random(0);
    let words: Vec<Vec<u8>> = (0..WORDS).map(|_| vocabulary.word()).collect();
    let mut bytes = Vec::with_capacity(length + 32);
    let mut line_start = 0;
    while bytes.len() < length {
        // The product of two random numbers is small more often than not.
        let rank = random.below(WORDS as u64) * random.below(WORDS as u64) / WORDS as u64;
        bytes.extend_from_slice(&words[rank as usize]);
        let is_line_full = bytes.len() - line_start > 60;
        bytes.push(if is_line_full { b'\n' } else { b' ' });
        if is_line_full {
            line_start = bytes.len();
        }
    }
    bytes.truncate(length);
    bytes
}

/// Pages as a database keeps them: a header, rows of running numbers, times, states and digests, and zeros to the page's end.
fn database(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = Vec::with_capacity(length + PAGE_LENGTH);
    let (mut row, mut time) = (0_u64, 1_700_000_000_000_u64);
    while bytes.len() < length {
        let start = bytes.len();
        bytes.extend_from_slice(&[&random.next().to_le_bytes()[..4], &(start / PAGE_LENGTH).to_le_bytes(), &[0; 12]].concat());
        let filled = PAGE_LENGTH * (60 + random.below(40) as usize) / 100;
        while bytes.len() - start < filled - 64 {
            row += 1;
            time += random.below(5_000);
            bytes.extend_from_slice(&row.to_le_bytes());
            bytes.extend_from_slice(&time.to_le_bytes());
            bytes.extend_from_slice(ROW_STATES[random.below(4) as usize].as_bytes());
            bytes.extend_from_slice(&random.next().to_le_bytes());
        }
        bytes.resize(start + PAGE_LENGTH, 0);
    }
    bytes.truncate(length);
    bytes
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn word(&mut self) -> Vec<u8> {
        let length = 2 + self.below(9);
        (0..length).map(|_| b'a' + self.below(26) as u8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_has_its_length_and_depends_on_the_seed_alone() {
        for (name, generate) in KINDS {
            let bytes = generate(1, 100_001);
            assert_eq!(bytes.len(), 100_001, "{name}");
            assert!(bytes == generate(1, 100_001), "{name}");
            assert!(bytes != generate(2, 100_001), "{name}");
        }
    }
}
