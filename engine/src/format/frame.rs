//! Frames: many chunks compressed and sealed together (`format-spec/frame.md`).

use super::cursor::{Reader, Write};
use crate::compress::{Compressor, Decompressor, Effort, Method};
use crate::crypto::{Sealer, TAG_LENGTH};
use crate::error::{Error, Result};
use crate::id::FrameId;
use crate::limits::{CHUNK_SIZE_MAX, FRAME_CHUNKS_MAX, FRAME_PLAINTEXT_MAX};
use std::ops::Range;

/// Chunks being put together into one frame's plaintext.
#[derive(Debug, Default)]
pub(crate) struct FramePlaintext {
    lengths: Vec<u32>,
    chunks: Vec<u8>,
}

impl FramePlaintext {
    /// Adds a chunk of 1 to [`CHUNK_SIZE_MAX`] bytes.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        debug_assert!(!chunk.is_empty() && chunk.len() <= CHUNK_SIZE_MAX, "CHUNK-1");
        self.lengths.push(chunk.len() as u32);
        self.chunks.extend_from_slice(chunk);
    }

    /// Whether another chunk of `length` bytes would make it larger than a frame may be, or than `size` bytes of content.
    pub(crate) fn is_full_for(&self, length: usize, size: usize) -> bool {
        !self.lengths.is_empty() && (self.chunks.len() + length > size || self.lengths.len() == FRAME_CHUNKS_MAX)
    }

    /// How many chunks it has.
    pub(crate) fn count(&self) -> usize {
        self.lengths.len()
    }

    /// The plaintext.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode_to(&mut bytes);
        bytes
    }

    /// Replaces `bytes` by the plaintext.
    pub(crate) fn encode_to(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.reserve_exact(self.chunks.len() + 8 + 4 * self.lengths.len());
        bytes.put_varint(self.lengths.len() as u64);
        self.lengths.iter().for_each(|length| bytes.put_varint(u64::from(*length)));
        bytes.put_bytes(&self.chunks);
    }

    /// Takes all chunks out; the memory stays for others.
    pub(crate) fn clear(&mut self) {
        self.lengths.clear();
        self.chunks.clear();
    }
}

/// Compresses and seals a frame's plaintext; gives the sealed bytes, in no more memory than they need.
pub(crate) fn seal(sealer: &Sealer, number: u32, compressor: &mut Compressor, plaintext: &[u8]) -> Vec<u8> {
    seal_packed(sealer, number, compressor.compress(plaintext))
}

/// As [`seal`], against `bases` where that pays; says whether it was done.
pub(crate) fn seal_against(
    sealer: &Sealer,
    number: u32,
    compressor: &mut Compressor,
    plaintext: &[u8],
    (bases, effort): (&[u8], Effort),
) -> (Vec<u8>, bool) {
    let (method, stored) = compressor.compress_against(plaintext, bases, effort);
    (seal_packed(sealer, number, (method, stored)), method == Method::ZstdWithBases)
}

fn seal_packed(sealer: &Sealer, number: u32, (method, stored): (Method, &[u8])) -> Vec<u8> {
    let mut payload = Vec::with_capacity(1 + stored.len() + TAG_LENGTH);
    payload.push(method as u8);
    payload.extend_from_slice(stored);
    sealer.seal(number, &mut payload);
    payload
}

/// What is known of a sealed frame before it is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) id: FrameId,
    /// BLAKE3 of the sealed bytes.
    pub(crate) hash: &'a [u8; 32],
    pub(crate) plaintext_length: u32,
    /// What it is compressed against, where its contents table names any.
    pub(crate) bases: Option<&'a [u8]>,
}

/// Opens a sealed frame and unpacks it (FRAME-1 to FRAME-4). `sealed` is used as a buffer; the plaintext comes into `plaintext`.
///
/// # Errors
/// The rule that is broken.
pub(crate) fn open(
    sealer: &Sealer,
    expected: Expected<'_>,
    decompressor: &mut Decompressor,
    sealed: &mut Vec<u8>,
    plaintext: &mut Vec<u8>,
) -> Result<()> {
    let Expected { id, hash, plaintext_length, bases } = expected;
    if blake3::hash(sealed).as_bytes() != hash {
        return Err(Error::rule("FRAME-1", format!("frame {} does not have the hash of its contents table", id)));
    }
    if !sealer.open(id.number, sealed) {
        return Err(Error::rule("FRAME-2", format!("frame {} does not open", id)));
    }
    let expected = plaintext_length as usize;
    let unequal = |what: String| Error::rule("FRAME-4", format!("frame {}: {what}", id));
    match (sealed.split_first(), bases) {
        (Some((2, data)), Some(bases)) => {
            decompressor.decompress_against(data, bases, expected, plaintext).map_err(|error| unequal(error.to_string()))
        }
        (Some((0..=2, _)), Some(_)) | (Some((2, _)), None) => {
            Err(Error::rule("FRAME-3", format!("frame {}: its method does not agree with its contents table about bases", id)))
        }
        (Some((0, data)), None) if data.len() == expected => {
            plaintext.clear();
            plaintext.extend_from_slice(data);
            Ok(())
        }
        (Some((0, data)), None) => Err(unequal(format!("{} bytes where {expected} are expected", data.len()))),
        (Some((1, data)), None) => decompressor.decompress(data, expected, plaintext).map_err(|error| unequal(error.to_string())),
        (Some((method, _)), _) => {
            Err(Error::unsupported("FRAME-3", format!("frame {} is packed by method {method}; a newer icecore reads it", id)))
        }
        (None, _) => Err(Error::rule("FRAME-3", format!("frame {} is empty", id))),
    }
}

/// Where each chunk lies in a frame's plaintext (FRAME-5, FRAME-6).
///
/// # Errors
/// The rule that is broken.
pub fn chunk_ranges(plaintext: &[u8], count_expected: usize) -> Result<Vec<Range<usize>>> {
    let mut reader = Reader::new(plaintext);
    let count = reader.varint()?;
    if count != count_expected as u64 || count_expected > FRAME_CHUNKS_MAX || plaintext.len() > FRAME_PLAINTEXT_MAX {
        return Err(Error::rule("FRAME-5", format!("{count} chunks where {count_expected} are expected")));
    }
    let mut ranges = Vec::with_capacity(count_expected);
    let mut end = 0_usize;
    for _ in 0..count_expected {
        let length = reader.varint()?;
        if length == 0 || length > CHUNK_SIZE_MAX as u64 {
            return Err(Error::rule("FRAME-6", format!("a chunk of {length} bytes")));
        }
        let start = end;
        // Bound: 16,384 chunks of 4 MiB fit into 64 bits.
        end += length as usize;
        ranges.push(start..end);
    }
    if end != reader.remaining() {
        return Err(Error::rule("FRAME-6", format!("chunks of {end} bytes in all, {} are there", reader.remaining())));
    }
    let first = plaintext.len() - end;
    ranges.iter_mut().for_each(|range| *range = range.start + first..range.end + first);
    Ok(ranges)
}

const _: () = assert!(
    Method::Stored as u8 == 0 && Method::Zstd as u8 == 1 && Method::ZstdWithBases as u8 == 2,
    "methods are numbered as the page says"
);
