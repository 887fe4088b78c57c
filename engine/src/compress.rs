//! Compression of frames: one zstd frame, or the bytes as they are where that saves too little.
//!
//! Both directions keep their zstd context and are meant to be reused, one for each thread. What comes out depends on the bytes,
//! the level and the release of zstd, on nothing else. What goes in on the way back may be hostile: output is bounded by the
//! length that the caller expects, and only one plain frame without dictionary that fills the input is accepted.

use crate::error::{Error, ErrorKind, Result};
use crate::sys::{compress_behind, decompress_behind};
use std::fmt;
use zstd::bulk;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx};

/// Compression has to save at least one part in this many to be used.
const SAVING_PART_MIN: usize = 64;
/// Below this many bytes the probe would cost more than it saves.
const PROBED_LENGTH_MIN: usize = 128 << 10;
/// The probe compresses this many pieces ...
const PROBE_PIECES: usize = 16;
/// ... of this many bytes each.
const PROBE_PIECE_LENGTH: usize = 1 << 10;
/// Data counts as incompressible where the probe saves less than one part in this many. Finer than [`SAVING_PART_MIN`], since
/// pieces compress worse than the whole.
const PROBE_SAVING_PART_MIN: usize = 256;
/// The largest window that a frame may ask for, in bytes.
const WINDOW_LENGTH_MAX: u64 = 8 << 20;
/// With bases a frame has to take at most so many percent of what it takes without.
const BASES_PERCENT_MAX: usize = 70;
/// Where a frame would have to take less than a quarter of this many bytes without bases, so many are tried first.
const HEAD_LENGTH: usize = 32 << 10;
/// So many of the first bytes tell of a frame that is at least four times as long what it takes without bases.
const FORETELLING_LENGTH: usize = 128 << 10;
/// So many times what it takes with them that has to be, to be believed: the rest of the frame may be of another kind.
const FORETOLD_TIMES_MIN: usize = 2;
/// So many levels more [`Effort::More`] takes.
const LEVELS_MORE: i32 = 5;
/// Up to this level zstd looks matches up in tables that remember one place for each hash, and of a prefix it puts only every third place in: they need not be as large as what
/// is looked up, and cost less where they fit a core's cache.
const LEVEL_OF_TABLES_MAX: i32 = 4;
/// The size of the table of long matches, as a power of two; that of short ones is half of it.
const TABLE_LOG_MIN: u32 = 16;
const TABLE_LOG_MAX: u32 = 18;
/// First bytes of every zstd frame.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How the plaintext of a frame is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// As it is.
    Stored,
    /// As one zstd frame.
    Zstd,
    /// As one zstd frame that goes on behind bases.
    ZstdWithBases,
}

/// How hard to look for what of a frame stands in its bases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// As hard as for matches in the frame itself.
    Usual,
    /// Five levels of zstd harder. Text that was edited is put together of very many pieces of what it was, and comes out a fifth smaller for the same time; programs and
    /// databases take more time and come out as large.
    More,
}

/// Compresses at one level.
pub struct Compressor {
    level: i32,
    context: bulk::Compressor<'static>,
    /// For what is compressed against bases; made when there is such a frame first.
    context_with_bases: Option<CCtx<'static>>,
    probe: bulk::Compressor<'static>,
    sample: Vec<u8>,
    /// Where the output goes first: as long as the longest so far, so that it is zeroed once and not for every frame.
    room: Vec<u8>,
    /// The same for what is compressed against bases.
    room_with_bases: Vec<u8>,
}

impl Compressor {
    /// Makes a compressor of a zstd `level`, from the fastest negative ones to 22.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a level that zstd does not have, [`ErrorKind::Unavailable`] where memory is short.
    pub fn new(level: i32) -> Result<Self> {
        let levels = zstd_safe::min_c_level()..=zstd_safe::max_c_level();
        if !levels.contains(&level) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("compression level {level}: choose {} to {}", levels.start(), levels.end()),
            ));
        }
        let context = |level| -> std::io::Result<bulk::Compressor<'static>> {
            let mut context = bulk::Compressor::new(level)?;
            context.set_parameter(CParameter::ChecksumFlag(false))?;
            context.set_parameter(CParameter::ContentSizeFlag(true))?;
            context.set_parameter(CParameter::DictIdFlag(false))?;
            Ok(context)
        };
        let both = || Ok((context(level)?, context(1)?));
        let (context, probe) = both().map_err(|error| Error::io("preparing compression", error))?;
        Ok(Self { level, context, context_with_bases: None, probe, sample: Vec::new(), room: Vec::new(), room_with_bases: Vec::new() })
    }

    /// Gives what is to be stored for `plaintext`, and says how: compressed where that saves at least 1/64.
    ///
    /// The caller keeps `plaintext` to the length of a frame; up to 8 MiB [`Decompressor`] reads back what this makes.
    pub fn compress<'a>(&'a mut self, plaintext: &'a [u8]) -> (Method, &'a [u8]) {
        match self.compress_within(plaintext, plaintext.len()) {
            Some(length) => (Method::Zstd, &self.room[..length]),
            None => (Method::Stored, plaintext),
        }
    }

    /// As [`Compressor::compress`], with `bases` as what comes before the plaintext, where that takes at most 70 % of what it takes without, or half of what it would take if all
    /// of it were like its first 128 KiB.
    ///
    /// [`Decompressor::decompress_against`] reads it back with the same bases. They must not lie in the memory of `plaintext`: zstd leaves out what
    /// overlaps, for it might be overwritten.
    pub fn compress_against<'a>(&'a mut self, plaintext: &'a [u8], bases: &[u8], effort: Effort) -> (Method, &'a [u8]) {
        let Some(length) = self.compress_with_bases(plaintext, bases, effort) else { return self.compress(plaintext) };
        // Without bases it has to come out shorter than this to be preferred, so it is given up as soon as it is longer.
        let length_max = (length * 100).div_ceil(BASES_PERCENT_MAX) - 1;
        if self.head_takes_more(plaintext, length_max) || self.head_foretells_more(plaintext, length) {
            return (Method::ZstdWithBases, &self.room_with_bases[..length]);
        }
        match self.compress_within(plaintext, length_max) {
            Some(length) => (Method::Zstd, &self.room[..length]),
            None => (Method::ZstdWithBases, &self.room_with_bases[..length]),
        }
    }

    /// Compresses into `room` where that saves at least 1/64 and takes at most `length_max` bytes; gives how many.
    fn compress_within(&mut self, plaintext: &[u8], length_max: usize) -> Option<usize> {
        if !self.is_worth_trying(plaintext) {
            return None;
        }
        // Room only for what would be used: zstd gives up when that is full. The room, and so the outcome, depends on
        // the plaintext alone, not on what was compressed before.
        let length = (plaintext.len() - plaintext.len().div_ceil(SAVING_PART_MIN)).min(length_max);
        if self.room.len() < length {
            self.room.resize(length, 0);
        }
        self.context.compress_to_buffer(plaintext, &mut self.room[..length]).ok()
    }

    /// Whether the first bytes take more than `length_max` alone, so that all of them do: zstd would find out behind the first block of 128 KiB.
    fn head_takes_more(&mut self, plaintext: &[u8], length_max: usize) -> bool {
        if plaintext.len() <= HEAD_LENGTH || length_max >= HEAD_LENGTH / 4 {
            return false;
        }
        if self.room.len() < length_max {
            self.room.resize(length_max, 0);
        }
        self.context.compress_to_buffer(&plaintext[..HEAD_LENGTH], &mut self.room[..length_max]).is_err()
    }

    /// Whether all would take much more than `length` if it were like its first bytes. Compressing all of it to know for sure takes longer than with bases.
    fn head_foretells_more(&mut self, plaintext: &[u8], length: usize) -> bool {
        // Of little bytes each frame of zstd has some of its own; there the head can be shorter.
        if plaintext.len() < 4 * FORETELLING_LENGTH || length < HEAD_LENGTH / 8 {
            return false;
        }
        if self.room.len() < FORETELLING_LENGTH {
            self.room.resize(FORETELLING_LENGTH, 0);
        }
        let head = self.context.compress_to_buffer(&plaintext[..FORETELLING_LENGTH], &mut self.room[..FORETELLING_LENGTH]);
        head.unwrap_or(FORETELLING_LENGTH) * (plaintext.len() / FORETELLING_LENGTH) >= FORETOLD_TIMES_MIN * length
    }

    /// Compresses into `room_with_bases` where the bases make it short enough to be of any use; gives how many bytes.
    fn compress_with_bases(&mut self, plaintext: &[u8], bases: &[u8], effort: Effort) -> Option<usize> {
        let length = plaintext.len() * BASES_PERCENT_MAX / 100;
        if self.room_with_bases.len() < length {
            self.room_with_bases.resize(length, 0);
        }
        let context = match &mut self.context_with_bases {
            Some(context) => context,
            none => none.insert(CCtx::try_create()?),
        };
        let level = match effort {
            Effort::Usual => self.level,
            Effort::More => (self.level + LEVELS_MORE).min(zstd_safe::max_c_level()),
        };
        // 0: as the level has it; the context may have been of another one.
        let log = match level {
            ..=LEVEL_OF_TABLES_MAX => (bases.len() + plaintext.len()).max(1).ilog2().clamp(TABLE_LOG_MIN, TABLE_LOG_MAX),
            _ => 0,
        };
        let parameters = [
            CParameter::CompressionLevel(level),
            CParameter::HashLog(log),
            CParameter::ChainLog(log.saturating_sub(1)),
            CParameter::ChecksumFlag(false),
            CParameter::ContentSizeFlag(true),
            CParameter::DictIdFlag(false),
        ];
        parameters.into_iter().try_for_each(|parameter| context.set_parameter(parameter).map(drop)).ok()?;
        compress_behind(context, bases, plaintext, &mut self.room_with_bases[..length]).ok()
    }

    /// Whether a sample of a long plaintext compresses at all. Already compressed data then costs a fraction of a full run.
    fn is_worth_trying(&mut self, plaintext: &[u8]) -> bool {
        if plaintext.len() < PROBED_LENGTH_MIN {
            return !plaintext.is_empty();
        }
        self.sample.clear();
        let stride = (plaintext.len() - PROBE_PIECE_LENGTH) / (PROBE_PIECES - 1);
        for piece in 0..PROBE_PIECES {
            self.sample.extend_from_slice(&plaintext[piece * stride..][..PROBE_PIECE_LENGTH]);
        }
        let mut room = [0; PROBE_PIECES * PROBE_PIECE_LENGTH * (PROBE_SAVING_PART_MIN - 1) / PROBE_SAVING_PART_MIN];
        self.probe.compress_to_buffer(&self.sample, room.as_mut_slice()).is_ok()
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("level", &self.level).finish_non_exhaustive()
    }
}

/// Undoes [`Method::Zstd`].
pub struct Decompressor {
    context: DCtx<'static>,
}

impl Decompressor {
    /// Makes a decompressor.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where memory is short.
    pub fn new() -> Result<Self> {
        let short = || Error::new(ErrorKind::Unavailable, "preparing decompression: memory is short");
        Ok(Self { context: DCtx::try_create().ok_or_else(short)? })
    }

    /// Replaces `out` by the `length_expected` bytes that the zstd frame `bytes` holds.
    ///
    /// Takes `length_expected` bytes of memory, whatever `bytes` says; the caller keeps that to the limits of the format.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] unless `bytes` is exactly one zstd frame, without dictionary and with a window of at most 8 MiB,
    /// that unpacks to exactly `length_expected` bytes. `out` is then empty.
    pub fn decompress(&mut self, bytes: &[u8], length_expected: usize, out: &mut Vec<u8>) -> Result<()> {
        self.decompress_against(bytes, &[], length_expected, out)
    }

    /// As [`Decompressor::decompress`], for what goes on behind `bases`.
    ///
    /// # Errors
    /// As [`Decompressor::decompress`].
    pub fn decompress_against(&mut self, bytes: &[u8], bases: &[u8], length_expected: usize, out: &mut Vec<u8>) -> Result<()> {
        let outcome = self.unpack(bytes, bases, length_expected, out);
        if outcome.is_err() {
            out.clear();
        }
        outcome
    }

    fn unpack(&mut self, bytes: &[u8], bases: &[u8], length_expected: usize, out: &mut Vec<u8>) -> Result<()> {
        check_one_frame(bytes)?;
        // There may be more room than that; what fills it is refused.
        out.clear();
        out.reserve(length_expected);
        match decompress_behind(&mut self.context, bases, bytes, out) {
            Ok(length) if length == length_expected => Ok(()),
            Ok(length) => Err(damaged(format!("it unpacks to {length} bytes, expected {length_expected}"))),
            Err(code) => Err(damaged(format!("{}, expected {length_expected} bytes", zstd_safe::get_error_name(code)))),
        }
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

fn damaged(what: String) -> Error {
    Error::new(ErrorKind::Damaged, format!("the compressed bytes are not one sound zstd frame: {what}"))
}

/// Refuses anything but one frame that keeps to the format.
fn check_one_frame(bytes: &[u8]) -> Result<()> {
    check_header(bytes)?;
    let length_framed = zstd_safe::find_frame_compressed_size(bytes).map_err(|code| damaged(zstd_safe::get_error_name(code).to_owned()))?;
    match length_framed == bytes.len() {
        true => Ok(()),
        false => Err(damaged(format!("{} bytes follow the frame", bytes.len() - length_framed))),
    }
}

/// Refuses what zstd would take in one pass although the format does not: other kinds of frame, dictionaries, large windows.
fn check_header(bytes: &[u8]) -> Result<()> {
    let Some([descriptor, rest @ ..]) = bytes.strip_prefix(&ZSTD_MAGIC) else {
        return Err(damaged("the magic number is missing".to_owned()));
    };
    if descriptor & 0b11 != 0 {
        return Err(damaged("it asks for a dictionary".to_owned()));
    }
    let is_single_segment = descriptor & 0b10_0000 != 0;
    if is_single_segment {
        // The window is the content, which the room for the output bounds.
        return Ok(());
    }
    let Some(window) = rest.first() else {
        return Err(damaged("its header is cut short".to_owned()));
    };
    let base = 1u64 << (10 + (window >> 3));
    let length = base + base / 8 * u64::from(window & 7);
    if length > WINDOW_LENGTH_MAX {
        return Err(damaged(format!("it asks for a window of {length} bytes, at most {WINDOW_LENGTH_MAX} are allowed")));
    }
    Ok(())
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

    /// Bytes of which about half can be saved.
    fn text(seed: u64, length: usize) -> Vec<u8> {
        noise(seed, length).iter().map(|byte| b"etaoin shrdlu\n01"[usize::from(byte & 15)]).collect()
    }

    fn compress(plaintext: &[u8]) -> (Method, Vec<u8>) {
        let mut compressor = Compressor::new(3).unwrap();
        let (method, stored) = compressor.compress(plaintext);
        (method, stored.to_vec())
    }

    fn refusal(bytes: &[u8], length_expected: usize) -> Error {
        let mut out = vec![1, 2, 3];
        let error = Decompressor::new().unwrap().decompress(bytes, length_expected, &mut out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(out.is_empty());
        error
    }

    #[test]
    fn what_does_not_compress_is_stored() {
        for length in [0, 1, 63, 64, 1000, PROBED_LENGTH_MIN - 1, PROBED_LENGTH_MIN, 600_000] {
            let plaintext = noise(1, length);
            assert_eq!(compress(&plaintext), (Method::Stored, plaintext), "{length}");
        }
    }

    #[test]
    fn a_saving_below_one_part_in_64_is_not_worth_it() {
        let mut plaintext = noise(2, 100_000);
        plaintext.extend([0; 1_200]);
        assert_eq!(compress(&plaintext).0, Method::Stored);
        plaintext.extend([0; 1_200]);
        let (method, bytes) = compress(&plaintext);
        assert_eq!(method, Method::Zstd);
        assert!(bytes.len() * SAVING_PART_MIN <= plaintext.len() * (SAVING_PART_MIN - 1));
    }

    #[test]
    fn frames_carry_the_content_size_and_no_checksum() {
        let (method, bytes) = compress(&text(3, 300_000));
        assert_eq!(method, Method::Zstd);
        assert_eq!(zstd_safe::get_frame_content_size(&bytes).unwrap(), Some(300_000));
        assert_eq!(bytes[4] & 0b111, 0, "checksum or dictionary");
    }

    #[test]
    fn the_outcome_does_not_depend_on_what_came_before() {
        let mut used = Compressor::new(3).unwrap();
        for seed in (0..20).rev() {
            let length = 1 << (seed + 1);
            for plaintext in [text(seed, length), noise(seed, length), vec![0; length]] {
                let (method, stored) = used.compress(&plaintext);
                assert_eq!((method, stored.to_vec()), compress(&plaintext));
            }
        }
    }

    #[test]
    fn every_level_makes_frames_that_are_read_back() {
        let plaintext = text(4, 1 << 16).repeat(64);
        let mut back = Vec::new();
        for level in [-7, 1, 3, 9, 22] {
            let mut compressor = Compressor::new(level).unwrap();
            let (method, bytes) = compressor.compress(&plaintext);
            assert_eq!(method, Method::Zstd);
            Decompressor::new().unwrap().decompress(bytes, plaintext.len(), &mut back).unwrap();
            assert!(back == plaintext);
        }
        assert_eq!(Compressor::new(23).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn a_frame_that_unpacks_to_another_length_is_refused() {
        let (_, bytes) = compress(&[0; 1 << 20]);
        assert!(bytes.len() < 100, "a small bomb");
        refusal(&bytes, (1 << 20) - 1);
        refusal(&bytes, (1 << 20) + 1);
        refusal(&bytes, 0);
    }

    #[test]
    fn a_bomb_that_hides_its_length_is_refused() {
        let mut bytes = Vec::new();
        zstd::stream::copy_encode([0; 1 << 20].as_slice(), &mut bytes, 3).unwrap();
        assert_eq!(zstd_safe::get_frame_content_size(&bytes).unwrap(), None);
        refusal(&bytes, 1000);
        let mut out = Vec::new();
        Decompressor::new().unwrap().decompress(&bytes, 1 << 20, &mut out).unwrap();
    }

    #[test]
    fn anything_beside_one_frame_is_refused() {
        let (_, bytes) = compress(&text(5, 1000));
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"skip"].concat();
        let empty_frame = zstd::bulk::compress(&[], 3).unwrap();
        refusal(&[&bytes[..], &[0]].concat(), 1000);
        refusal(&[&bytes[..], &bytes].concat(), 2000);
        refusal(&[&bytes[..], &empty_frame].concat(), 1000);
        refusal(&[&bytes[..], &skippable].concat(), 1000);
        refusal(&[&skippable[..], &bytes].concat(), 1000);
        refusal(&skippable, 0);
        refusal(&[], 0);
        refusal(&text(6, 1000), 1000);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_of_the_header_is_survived() {
        let (_, bytes) = compress(&text(7, 1000));
        for length in 0..bytes.len() {
            refusal(&bytes[..length], 1000);
        }
        let mut decompressor = Decompressor::new().unwrap();
        for bit in 0..64 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut out = Vec::new();
            if decompressor.decompress(&flipped, 1000, &mut out).is_ok() {
                assert_eq!(out.len(), 1000);
            }
        }
        // A context that has just failed is as good as new.
        decompressor.decompress(&bytes, 1000, &mut Vec::new()).unwrap();
    }

    #[test]
    fn what_changed_little_costs_little_against_what_it_was() {
        let before = text(8, 3 << 20);
        let mut after = before[1 << 20..2 << 20].to_vec();
        (0..50).for_each(|at| after[at * 20_000] ^= 1);
        let mut compressor = Compressor::new(3).unwrap();
        let (method, bytes) = compressor.compress_against(&after, &before, Effort::Usual);
        let bytes = bytes.to_vec();
        assert_eq!(method, Method::ZstdWithBases);
        assert!(bytes.len() < 10_000, "{}", bytes.len());
        let mut back = Vec::new();
        let mut decompressor = Decompressor::new().unwrap();
        decompressor.decompress_against(&bytes, &before, after.len(), &mut back).unwrap();
        assert!(back == after);
        for (bases, length) in [(&before[..before.len() - 1], after.len()), (&[], after.len()), (&before[..], after.len() - 1)] {
            let wrong = decompressor.decompress_against(&bytes, bases, length, &mut back);
            assert!(wrong.is_err() && back.is_empty() || back != after);
        }
        // Bases that are of no use, or of little, are not used; the outcome is that of a frame without.
        let alone = compress(&after);
        for bases in [text(9, 1 << 20), after[..200_000].to_vec()] {
            let (method, bytes) = compressor.compress_against(&after, &bases, Effort::Usual);
            assert_eq!((method, bytes.to_vec()), alone);
        }
        // What needs no bases to become short is left alone too.
        let zeros = vec![0; 1 << 20];
        assert_eq!(compressor.compress_against(&zeros, &zeros, Effort::Usual).0, Method::Zstd);
        let noise = noise(10, 1 << 20);
        assert_eq!(compressor.compress_against(&noise, &before, Effort::Usual).0, Method::Stored);
        // The head alone takes more than the whole does behind its bases: what the rest would take is not looked at.
        let after = [&noise[..HEAD_LENGTH], &zeros[..]].concat();
        assert_eq!(compressor.compress_against(&after, &noise, Effort::Usual).0, Method::ZstdWithBases);
        // Copies: bases that lie in the same memory as the plaintext are passed over.
        for (plaintext, bases) in [(&noise[..], noise.to_vec()), (&noise[..100_000], noise[50_000..200_000].to_vec())] {
            assert_eq!(compressor.compress_against(plaintext, &bases, Effort::More).0, Method::ZstdWithBases);
        }
    }

    #[test]
    fn more_effort_finds_more_of_what_was_moved_about() {
        // Lines of a few words each, in another order: matches are short and many.
        let lines = |seed, order: &dyn Fn(usize) -> usize| -> Vec<u8> {
            (0..8_000).flat_map(|n| [&text(seed + order(n) as u64, 40)[..], b"\n"].concat()).collect()
        };
        let (before, after) = (lines(1000, &|n| n), lines(1000, &|n| n * 3 % 8_000));
        let mut compressor = Compressor::new(3).unwrap();
        let mut length = |effort| {
            let (method, bytes) = compressor.compress_against(&after, &before, effort);
            assert_eq!(method, Method::ZstdWithBases);
            bytes.len()
        };
        let (usual, more) = (length(Effort::Usual), length(Effort::More));
        assert!(more * 10 < usual * 9, "{more} of {usual}");
    }

    /// The price of not compressing all of it: where the rest is of another kind, bases are kept that save less.
    #[test]
    fn the_head_of_a_long_frame_tells_what_it_takes_without_bases() {
        let head = text(12, FORETELLING_LENGTH);
        let mut compressor = Compressor::new(3).unwrap();
        for (zeros, method) in [(3, Method::ZstdWithBases), (2, Method::Zstd)] {
            let plaintext = [&head[..], &vec![0; zeros * FORETELLING_LENGTH]].concat();
            assert_eq!(compressor.compress_against(&plaintext, &head[..20_000], Effort::Usual).0, method);
        }
    }

    #[test]
    fn a_large_window_is_refused() {
        // A frame without content size, one empty last raw block: all that differs is the window descriptor.
        let frame = |window: u8| [&ZSTD_MAGIC[..], &[0, window, 1, 0, 0]].concat();
        Decompressor::new().unwrap().decompress(&frame(13 << 3), 0, &mut Vec::new()).unwrap();
        assert!(refusal(&frame(13 << 3 | 1), 0).to_string().contains("window"));
        assert!(refusal(&frame(0xff), 0).to_string().contains("window"));
    }

    #[test]
    fn a_dictionary_is_refused() {
        let with_dictionary = [&ZSTD_MAGIC[..], &[1, 0, 9, 1, 0, 0]].concat();
        assert!(refusal(&with_dictionary, 0).to_string().contains("dictionary"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn round_trip(seed in any::<u64>(), lengths in proptest::collection::vec((0usize..100_000, any::<bool>()), 0..6)) {
            let parts = lengths.iter().map(|&(length, is_text)| if is_text { text(seed, length) } else { noise(seed, length) });
            let plaintext: Vec<u8> = parts.flatten().collect();
            let (method, bytes) = compress(&plaintext);
            match method {
                Method::ZstdWithBases => prop_assert!(false, "there were no bases"),
                Method::Stored => prop_assert!(bytes == plaintext),
                Method::Zstd => {
                    let mut back = Vec::new();
                    Decompressor::new().unwrap().decompress(&bytes, plaintext.len(), &mut back).unwrap();
                    prop_assert!(back == plaintext);
                }
            }
        }

        #[test]
        fn random_bytes_never_get_past_their_length(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in 0usize..5000) {
            let bytes = [&ZSTD_MAGIC[..], &bytes].concat();
            let mut out = Vec::new();
            if Decompressor::new().unwrap().decompress(&bytes, length, &mut out).is_ok() {
                prop_assert_eq!(out.len(), length);
            }
        }
    }

    /// What is stored must not depend on which worker had which frames before.
    #[test]
    fn a_used_compressor_and_decompressor_give_what_new_ones_give() {
        let edited = |seed, length, at: usize| {
            let mut bytes = text(seed, length);
            bytes[at..at + 10].copy_from_slice(b"0123456789");
            bytes
        };
        let frames = [
            (text(1, 200_000), edited(1, 200_000, 90_000)),
            (noise(2, 60_000), noise(3, 50_000)),
            (text(4, 3_000_000), edited(4, 512_000, 500)),
            (text(5, 100), edited(5, 100, 50)),
            (Vec::new(), text(6, 5_000)),
            (Vec::new(), Vec::new()),
            (text(6, 5_000), Vec::new()),
            (noise(7, 400_000), [noise(7, 400_000), text(7, 1_000)].concat()),
            (text(1, 200_000), edited(1, 200_000, 7)),
        ];
        for level in [-7, 1, 3, 9, 22] {
            let (mut used, mut decompressor) = (Compressor::new(level).unwrap(), Decompressor::new().unwrap());
            let in_turn = [Effort::Usual, Effort::More, Effort::More].into_iter().cycle();
            for ((bases, plaintext), effort) in frames.iter().chain(frames.iter().rev()).zip(in_turn) {
                let (method, bytes) = used.compress_against(plaintext, bases, effort);
                let (method, bytes) = (method, bytes.to_vec());
                let mut new = Compressor::new(level).unwrap();
                assert_eq!(new.compress_against(plaintext, bases, effort), (method, bytes.as_slice()), "level {level}");
                let mut back = Vec::new();
                match method {
                    Method::Stored => continue,
                    Method::Zstd => decompressor.decompress(&bytes, plaintext.len(), &mut back).unwrap(),
                    Method::ZstdWithBases => {
                        let others = &bases[..bases.len() - 1];
                        assert!(decompressor.decompress_against(&bytes, others, plaintext.len(), &mut back).is_err() || back != *plaintext);
                        assert!(decompressor.decompress(&bytes, plaintext.len(), &mut back).is_err() || back != *plaintext);
                        decompressor.decompress_against(&bytes, bases, plaintext.len(), &mut back).unwrap();
                    }
                }
                assert_eq!(back, *plaintext);
            }
        }
    }
}
