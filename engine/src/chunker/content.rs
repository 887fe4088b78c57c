//! Cutting where the content says: FastCDC of 2020 with normalised chunking, its gear table derived from a key.

use super::CHUNK_LENGTH_MAX;
use super::gear::Gear;
use crate::error::{Error, ErrorKind, Result};
use std::fmt;

/// Mask `n` of the algorithm, which has `n` bits, for `n` from 7 to 22.
const MASKS: [u64; 16] = [
    0x0000_0000_1803_5100,
    0x0000_0018_0003_5300,
    0x0000_0190_0035_3000,
    0x0000_5900_0353_0000,
    0x0000_d900_0353_0000,
    0x0000_d901_0353_0000,
    0x0000_d903_0353_0000,
    0x0000_d903_1353_0000,
    0x0000_d90f_0353_0000,
    0x0000_d903_0353_7000,
    0x0000_d907_0353_7000,
    0x0000_d907_0753_7000,
    0x0000_d917_0753_7000,
    0x0000_d917_4753_7000,
    0x0000_d917_6753_7000,
    0x0000_d937_6753_7000,
];

/// Cuts where a rolling hash of the content says, so that an insertion moves the cuts near it only.
///
/// # The algorithm
///
/// *Gear table.* Take 2,048 bytes of BLAKE3's extended output in key derivation mode, with the context string
/// `icecore 1 gear table` and the 32 bytes of the cutting key as key material. `gear[i]` is the little-endian 64-bit number at
/// byte `8 * i`, for `i` in 0..256.
///
/// *Masks.* With `n` the binary logarithm of the average, `strict` is mask `n + 1` and `loose` is mask `n - 1` of this list. (Mask
/// `n` has `n` bits set; which ones cannot be computed and is part of the algorithm.)
///
/// ```text
///  7 0x0000000018035100    8 0x0000001800035300    9 0x0000019000353000   10 0x0000590003530000
/// 11 0x0000d90003530000   12 0x0000d90103530000   13 0x0000d90303530000   14 0x0000d90313530000
/// 15 0x0000d90f03530000   16 0x0000d90303537000   17 0x0000d90703537000   18 0x0000d90707537000
/// 19 0x0000d91707537000   20 0x0000d91747537000   21 0x0000d91767537000   22 0x0000d93767537000
/// ```
///
/// *Scan.* `b` holds the bytes since the last cut, up to the end of the stream; all arithmetic is modulo 2^64.
///
/// ```text
/// end  = min(length of b, max)
/// hash = 0
/// for i in min .. end:                       (nothing to do where end <= min)
///     hash = (hash << 1) + gear[b[i]]
///     mask = strict if i < average else loose
///     if hash & mask == 0: the chunk is b[0 ..= i], i + 1 bytes; stop
/// the chunk is b[0 .. end]
/// ```
///
/// The first `min` bytes are never hashed; each chunk starts with hash 0. The byte that completes the match is the **last byte
/// of the chunk**, not the first of the next one as in other FastCDC programs: so the bytes of a chunk alone prove its cut.
/// Chunks hence have `min + 1` to `max` bytes, but for the last of a stream, which may have fewer.
///
/// Tests compare with the crate `fastcdc`, whose cuts are the same, but for that byte.
#[derive(Clone)]
pub struct ContentCutter {
    min: u32,
    average: u32,
    max: u32,
    mask_strict: u64,
    mask_loose: u64,
    gear: Gear,
}

impl ContentCutter {
    /// Makes a cutter for chunks of more than `min`, about `average` and at most `max` bytes, with a gear table of `cutting_key`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] unless `min` is even and at least 64, `average` a power of two from 256 to 4 MiB, `max` even and at
    /// most [`CHUNK_LENGTH_MAX`], and `min < average < max`.
    pub fn new(min: u32, average: u32, max: u32, cutting_key: &[u8; 32]) -> Result<Self> {
        let is_valid = min.is_multiple_of(2)
            && min >= 64
            && average.is_power_of_two()
            && (256..=4 << 20).contains(&average)
            && max.is_multiple_of(2)
            && max <= CHUNK_LENGTH_MAX
            && min < average
            && average < max;
        if !is_valid {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "chunks of {min}/{average}/{max} bytes: the minimum must be even and at least 64, the average a power of two from 256 on, \
                     the maximum even and at most {CHUNK_LENGTH_MAX}, each larger than the one before"
                ),
            ));
        }
        let bits = average.ilog2() as usize - 7;
        let (mask_strict, mask_loose) = (MASKS[bits + 1], MASKS[bits - 1]);
        Ok(Self { min, average, max, mask_strict, mask_loose, gear: Gear::new(cutting_key) })
    }

    /// See [`super::Cutter::next_cut`].
    pub fn next_cut(&self, data: &[u8], is_last: bool) -> Option<usize> {
        let max = self.length_max();
        if data.is_empty() || (data.len() < max && !is_last) {
            return None;
        }
        let end = data.len().min(max);
        let centre = end.min(self.average as usize);
        let Some(strict) = data.get(self.min as usize..centre) else { return Some(end) };
        let mut hash = 0;
        let found = self.gear.first_match(strict, &mut hash, self.mask_strict).map(|found| self.min as usize + found);
        let found = found.or_else(|| self.gear.first_match(&data[centre..end], &mut hash, self.mask_loose).map(|found| centre + found));
        Some(found.map_or(end, |found| found + 1))
    }

    /// See [`super::Cutter::may_end`].
    pub(crate) fn may_end(&self, bytes: &[u8]) -> bool {
        let (min, length, max) = (self.min as usize, bytes.len(), self.length_max());
        if length <= min || length >= max {
            return length == max;
        }
        let hash = self.gear.hash_of(&bytes[min..]);
        let mask = if length <= self.average as usize { self.mask_strict } else { self.mask_loose };
        hash & mask == 0
    }

    /// The longest chunk, in bytes.
    pub fn length_max(&self) -> usize {
        self.max as usize
    }
}

// The gear table is derived from a key and stays out of logs.
impl fmt::Debug for ContentCutter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentCutter")
            .field("min", &self.min)
            .field("average", &self.average)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}
