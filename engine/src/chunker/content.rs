//! Cutting where the content says: FastCDC of 2020 with normalised chunking, its gear table derived from a key.

use super::CHUNK_LENGTH_MAX;
use crate::crypto::derive_into;
use crate::error::{Error, ErrorKind, Result};
use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use std::fmt;
use zeroize::Zeroizing;

/// The context under which the gear table is derived from the cutting key.
const GEAR_CONTEXT: &str = "icecore 1 gear table";

type Gear = Box<Zeroizing<[u64; 256]>>;

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
/// The crate that does the work rolls two bytes at a time with a second table and masks shifted left by one. As no mask uses
/// bit 63 this gives the same cuts.
#[derive(Clone)]
pub struct ContentCutter {
    min: u32,
    average: u32,
    max: u32,
    mask_strict: u64,
    mask_loose: u64,
    gear: Gear,
    gear_shifted: Gear,
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
        let (mask_strict, mask_loose) = select_masks(average as usize, Normalization::Level1);
        let gear = derive_gear(cutting_key);
        let gear_shifted = Box::new(Zeroizing::new(gear.map(|entry| entry << 1)));
        Ok(Self { min, average, max, mask_strict, mask_loose, gear, gear_shifted })
    }

    /// See [`super::Cutter::next_cut`].
    pub fn next_cut(&self, data: &[u8], is_last: bool) -> Option<usize> {
        let max = self.length_max();
        if data.is_empty() || (data.len() < max && !is_last) {
            return None;
        }
        let end = data.len().min(max);
        let (_, matched) = cut_gear(
            &data[..end],
            self.min as usize,
            self.average as usize,
            max,
            self.mask_strict,
            self.mask_loose,
            self.mask_strict << 1,
            self.mask_loose << 1,
            self.gear.as_slice(),
            self.gear_shifted.as_slice(),
        );
        // The crate gives the index of the byte that completes the match, or `end` where there is none. (It leaves the very last
        // byte untested where `end` is odd; a match there would make the same chunk.)
        Some((matched + 1).min(end))
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

fn derive_gear(cutting_key: &[u8; 32]) -> Gear {
    let mut bytes = Zeroizing::new([0; 2048]);
    derive_into(GEAR_CONTEXT, &[cutting_key], bytes.as_mut_slice());
    let mut gear = Box::new(Zeroizing::new([0; 256]));
    let (entries, _) = bytes.as_chunks::<8>();
    for (entry, bytes) in gear.iter_mut().zip(entries) {
        *entry = u64::from_le_bytes(*bytes);
    }
    gear
}
