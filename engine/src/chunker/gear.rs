//! The rolling hash, and the search for the first place where it matches.
//!
//! Each byte shifts the hash by one bit and adds an entry of a table, so a byte waits for the one before. That leaves most of a
//! processor idle. But what a byte adds is gone after 64 more: the hash of any place can be had from the 64 bytes before it. So two
//! neighbouring stretches are hashed in turns, and the first match in the first of them wins, or else the first in the second.

use crate::crypto::derive_into;
use zeroize::Zeroizing;

/// The context under which the table is derived from the cutting key.
const GEAR_CONTEXT: &str = "icecore 1 gear table";
/// Bytes that the hash depends on.
const WINDOW: usize = 64;
/// Bytes of a stretch. Longer ones are begun less often; of shorter ones fewer bytes are hashed in vain behind a match.
const STRETCH: usize = 2048;
/// Stretches that are hashed in turns.
const LANES: usize = 2;
/// Bytes of one stretch before it is the other's turn; even.
const TURN: usize = 8;

/// The table of a cutting key.
#[derive(Clone)]
pub(super) struct Gear {
    /// The table, and the same shifted by one bit: two bytes are rolled in with one shift. In one piece, since each pointer more that the
    /// loop needs is one more that is kept in memory.
    tables: Box<Zeroizing<[[u64; 256]; 2]>>,
}

impl Gear {
    /// For this key.
    pub(super) fn new(cutting_key: &[u8; 32]) -> Self {
        let mut bytes = Zeroizing::new([0; 2048]);
        derive_into(GEAR_CONTEXT, &[cutting_key], bytes.as_mut_slice());
        let mut tables = Box::new(Zeroizing::new([[0; 256]; 2]));
        let (numbers, _) = bytes.as_chunks::<8>();
        for (index, bytes) in numbers.iter().enumerate() {
            let entry = u64::from_le_bytes(*bytes);
            (tables[0][index], tables[1][index]) = (entry, entry << 1);
        }
        Self { tables }
    }

    /// The hash after the last of `bytes`, which begin a chunk's hashed part or are at least 64.
    pub(super) fn hash_of(&self, bytes: &[u8]) -> u64 {
        let window = &bytes[bytes.len().saturating_sub(WINDOW)..];
        let [gear, _] = &**self.tables;
        window.iter().fold(0, |hash, byte| (hash << 1).wrapping_add(gear[usize::from(*byte)]))
    }

    /// Where in `bytes` the first byte is after which no bit of `mask` is set in the hash. `hash` is that before `bytes`, and where nothing
    /// matches, it becomes that after them. `mask` has not the highest bit.
    pub(super) fn first_match(&self, bytes: &[u8], hash: &mut u64, mask: u64) -> Option<usize> {
        let mut start = 0;
        while bytes.len() - start >= LANES * STRETCH {
            let lane = |index: usize| &bytes[start + index * STRETCH..][..STRETCH];
            let mut hashes = [*hash; LANES];
            for (index, hash) in hashes.iter_mut().enumerate().skip(1) {
                *hash = self.hash_of(lane(index - 1));
            }
            match self.roll_in_turns(std::array::from_fn(lane), hashes, mask) {
                Ok(last) => *hash = last,
                Err((turn, hashes)) => {
                    let rest = (0..LANES).find_map(|index| {
                        let mut hash = hashes[index];
                        let found = self.first_match_rolled(&lane(index)[turn * TURN..], &mut hash, mask)?;
                        Some(start + index * STRETCH + turn * TURN + found)
                    });
                    debug_assert!(rest.is_some(), "one lane has matched");
                    return rest;
                }
            }
            start += LANES * STRETCH;
        }
        self.first_match_rolled(&bytes[start..], hash, mask).map(|found| start + found)
    }

    /// Gives the hash after the last lane; or, where a lane has a match, the turn in which that is, and the hashes before it.
    #[inline(always)]
    fn roll_in_turns(&self, lanes: [&[u8]; LANES], mut hashes: [u64; LANES], mask: u64) -> Result<u64, (usize, [u64; LANES])> {
        let [gear, gear_shifted] = &**self.tables;
        let mask_shifted = mask << 1;
        let lanes = lanes.map(|lane| lane.as_chunks::<TURN>().0);
        let lanes = lanes.map(|lane| &lane[..STRETCH / TURN]);
        for turn in 0..STRETCH / TURN {
            let before = hashes;
            for (lane, hash) in lanes.iter().zip(&mut hashes) {
                for [first, second] in lane[turn].as_chunks().0 {
                    *hash = (*hash << 2).wrapping_add(gear_shifted[usize::from(*first)]);
                    if *hash & mask_shifted == 0 {
                        return Err((turn, before));
                    }
                    *hash = hash.wrapping_add(gear[usize::from(*second)]);
                    if *hash & mask == 0 {
                        return Err((turn, before));
                    }
                }
            }
        }
        Ok(hashes[LANES - 1])
    }

    /// As [`Gear::first_match`], one byte after the other.
    fn first_match_rolled(&self, bytes: &[u8], hash: &mut u64, mask: u64) -> Option<usize> {
        let (pairs, last) = bytes.as_chunks::<2>();
        let [gear, gear_shifted] = &**self.tables;
        let mask_shifted = mask << 1;
        let mut rolled = *hash;
        for (index, [first, second]) in pairs.iter().enumerate() {
            rolled = (rolled << 2).wrapping_add(gear_shifted[usize::from(*first)]);
            if rolled & mask_shifted == 0 {
                return Some(2 * index);
            }
            rolled = rolled.wrapping_add(gear[usize::from(*second)]);
            if rolled & mask == 0 {
                return Some(2 * index + 1);
            }
        }
        if let [last] = last {
            rolled = (rolled << 1).wrapping_add(gear[usize::from(*last)]);
            if rolled & mask == 0 {
                return Some(bytes.len() - 1);
            }
        }
        *hash = rolled;
        None
    }
}
