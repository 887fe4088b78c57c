use super::*;
use crate::ErrorKind;
use proptest::prelude::*;

const KEY: [u8; 32] = [7; 32];

/// Pseudo-random bytes, the same for the same seed.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub(super) fn content(min: u32, average: u32, max: u32) -> Cutter {
    ContentCutter::new(min, average, max, &KEY).unwrap().into()
}

/// All cuts of `data` shown whole.
pub(super) fn cut_all(cutter: &Cutter, mut data: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Some(length) = cutter.next_cut(data, true) {
        lengths.push(length);
        data = &data[length..];
    }
    lengths
}

/// All cuts of `data` arriving in pieces of the sizes that `pieces` repeats.
fn cut_streamed(cutter: &Cutter, data: &[u8], pieces: &[usize]) -> Vec<usize> {
    let mut lengths = Vec::new();
    let (mut start, mut end) = (0, 0);
    let mut pieces = pieces.iter().cycle();
    loop {
        while let Some(length) = cutter.next_cut(&data[start..end], end == data.len()) {
            lengths.push(length);
            start += length;
        }
        if end == data.len() {
            return lengths;
        }
        end = data.len().min(end + pieces.next().unwrap());
    }
}

/// The algorithm as the documentation of [`ContentCutter`] gives it, one byte at a time and with nothing from the crate.
fn cut_as_documented(min: usize, average: usize, max: usize, key: &[u8; 32], b: &[u8]) -> usize {
    const MASKS_FROM_7: [u64; 16] = [
        0x0000000018035100,
        0x0000001800035300,
        0x0000019000353000,
        0x0000590003530000,
        0x0000d90003530000,
        0x0000d90103530000,
        0x0000d90303530000,
        0x0000d90313530000,
        0x0000d90f03530000,
        0x0000d90303537000,
        0x0000d90703537000,
        0x0000d90707537000,
        0x0000d91707537000,
        0x0000d91747537000,
        0x0000d91767537000,
        0x0000d93767537000,
    ];
    let mut table = [0; 2048];
    blake3::Hasher::new_derive_key("icecore 1 gear table").update(key).finalize_xof().fill(&mut table);
    let gear = |byte: u8| u64::from_le_bytes(table[usize::from(byte) * 8..][..8].try_into().unwrap());
    let logarithm = average.trailing_zeros() as usize;
    let (strict, loose) = (MASKS_FROM_7[logarithm + 1 - 7], MASKS_FROM_7[logarithm - 1 - 7]);
    let end = b.len().min(max);
    let mut hash = 0u64;
    for (i, byte) in b.iter().enumerate().take(end).skip(min) {
        hash = (hash << 1).wrapping_add(gear(*byte));
        let mask = if i < average { strict } else { loose };
        if hash & mask == 0 {
            return i + 1;
        }
    }
    end
}

/// The same by the crate `fastcdc`, whose cuts are a byte shorter, but at the end.
fn cut_by_the_crate(min: usize, average: usize, max: usize, key: &[u8; 32], b: &[u8]) -> usize {
    use fastcdc::v2020::{Normalization, cut_gear, select_masks};
    let mut table = [0; 2048];
    blake3::Hasher::new_derive_key("icecore 1 gear table").update(key).finalize_xof().fill(&mut table);
    let gear: Vec<u64> = table.chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect();
    let shifted: Vec<u64> = gear.iter().map(|entry| entry << 1).collect();
    let (strict, loose) = select_masks(average, Normalization::Level1);
    let (_, cut) = cut_gear(b, min, average, max, strict, loose, strict << 1, loose << 1, &gear, &shifted);
    b.len().min(max).min(cut + 1)
}

fn cut_all_as_documented(min: usize, average: usize, max: usize, mut b: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while !b.is_empty() {
        let length = cut_as_documented(min, average, max, &KEY, b);
        lengths.push(length);
        b = &b[length..];
    }
    lengths
}

#[test]
fn every_average_cuts_as_documented() {
    for logarithm in 8..=21 {
        let average = 1usize << logarithm;
        let (min, max) = (average / 2, (average * 2).min(CHUNK_LENGTH_MAX as usize));
        let min = min.max(64);
        let data = noise(logarithm, 20 * average.min(1 << 16) + 2 * average + 1);
        let cutter = content(min as u32, average as u32, max as u32);
        assert_eq!(cut_all(&cutter, &data), cut_all_as_documented(min, average, max, &data), "average {average}");
    }
}

#[test]
fn the_default_sizes_come_near_their_average() {
    let cutter = content(16 << 10, 32 << 10, 128 << 10);
    let data = noise(1, 16 << 20);
    let lengths = cut_all(&cutter, &data);
    let (last, others) = lengths.split_last().unwrap();
    assert_eq!(others.iter().sum::<usize>() + last, data.len());
    assert!(others.iter().all(|length| (16 << 10..=128 << 10).contains(length)));
    let average = data.len() / lengths.len();
    assert!((28 << 10..44 << 10).contains(&average), "{average}");
}

#[test]
fn known_cuts_stay_for_ever() {
    let cutter = content(64, 256, 1024);
    assert_eq!(cut_all(&cutter, &noise(3, 4096)), KNOWN_CUTS);
    assert_eq!(cut_all(&cutter, &[0; 2500]), [1024, 1024, 452]);
}

const KNOWN_CUTS: [usize; 15] = [344, 308, 344, 267, 277, 94, 270, 108, 472, 158, 372, 401, 276, 240, 165];

#[test]
fn keys_cut_differently() {
    let data = noise(4, 1 << 20);
    let other: Cutter = ContentCutter::new(1024, 4096, 16384, &[8; 32]).unwrap().into();
    assert_ne!(cut_all(&content(1024, 4096, 16384), &data), cut_all(&other, &data));
}

#[test]
fn an_insertion_moves_only_the_cuts_near_it() {
    let cutter = content(256, 1024, 4096);
    let data = noise(5, 1 << 18);
    let mut changed = data.clone();
    changed.splice(100_000..100_000, *b"inserted");
    let ends = |lengths: Vec<usize>| -> std::collections::BTreeSet<usize> {
        lengths
            .iter()
            .scan(0, |sum, length| {
                *sum += length;
                Some(*sum)
            })
            .collect()
    };
    let before = ends(cut_all(&cutter, &data));
    let after: std::collections::BTreeSet<usize> =
        ends(cut_all(&cutter, &changed)).into_iter().map(|end| if end > 100_000 { end - 8 } else { end }).collect();
    assert!(before.symmetric_difference(&after).count() < 20);
}

#[test]
fn debug_output_shows_no_gear_table() {
    assert!(format!("{:?}", content(64, 256, 1024)).len() < 100);
}

#[test]
fn senseless_parameters_are_refused() {
    for (min, average, max) in [
        (62, 256, 1024),
        (65, 256, 1024),
        (64, 128, 1024),
        (64, 384, 1024),
        (64, 256, 1023),
        (64, 256, 256),
        (256, 256, 1024),
        (64, 256, CHUNK_LENGTH_MAX + 2),
        (64, CHUNK_LENGTH_MAX, CHUNK_LENGTH_MAX),
        (64, 0, 1024),
    ] {
        assert_eq!(ContentCutter::new(min, average, max, &KEY).unwrap_err().kind(), ErrorKind::Invalid, "{min}/{average}/{max}");
    }
    ContentCutter::new(64, 256, 258, &KEY).unwrap();
    ContentCutter::new(64, CHUNK_LENGTH_MAX / 2, CHUNK_LENGTH_MAX, &KEY).unwrap();
    for length in [0, CHUNK_LENGTH_MAX + 1] {
        assert_eq!(FixedCutter::new(length).unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn empty_data_has_no_chunk() {
    for cutter in [content(64, 256, 1024), FixedCutter::new(10).unwrap().into()] {
        assert_eq!(cutter.next_cut(&[], true), None);
        assert_eq!(cutter.next_cut(&[], false), None);
    }
}

#[test]
fn more_data_is_asked_for_only_below_the_maximum() {
    let cutter = content(64, 256, 1024);
    assert_eq!(cutter.next_cut(&[0; 1023], false), None);
    assert_eq!(cutter.next_cut(&[0; 1023], true), Some(1023));
    assert_eq!(cutter.next_cut(&[0; 1024], false), Some(1024));
    let fixed: Cutter = FixedCutter::new(100).unwrap().into();
    assert_eq!(fixed.next_cut(&[0; 99], false), None);
    assert_eq!(fixed.next_cut(&[0; 99], true), Some(99));
    assert_eq!(fixed.next_cut(&[0; 250], false), Some(100));
    assert_eq!(fixed.length_max(), 100);
}

/// Noise with long runs of one byte in between, so that chunks of the greatest length come up too.
pub(super) fn stream() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec((any::<u64>(), 0usize..3000, any::<bool>()), 0..6).prop_map(|parts| {
        let part = |(seed, length, is_run): (u64, usize, bool)| if is_run { vec![seed as u8; length] } else { noise(seed, length) };
        parts.into_iter().flat_map(part).collect()
    })
}

/// Any sizes that a cutter takes, small enough for data of some chunks.
fn sizes() -> impl Strategy<Value = (u32, u32, u32)> {
    (8u32..=14, any::<u16>(), any::<u16>()).prop_map(|(bits, min, max)| {
        let average = 1 << bits;
        let min = 64 + u32::from(min) % (average - 64) / 2 * 2;
        (min, average, average + 2 + u32::from(max) % (4 * average) / 2 * 2)
    })
}

/// Data of every kind: noise, one byte, few different bytes, something that repeats. With a length near one of the sizes, or any.
fn any_data(sizes: (u32, u32, u32)) -> impl Strategy<Value = Vec<u8>> {
    let near = proptest::sample::select(vec![0, 4096, sizes.0, sizes.1, sizes.2]);
    let length = prop_oneof![(near, 0usize..5).prop_map(|(size, more)| (size as usize + more).saturating_sub(2)), 0usize..100_000];
    (0u8..4, any::<u64>(), length, 1usize..300).prop_map(|(kind, seed, length, period)| {
        let mut data = noise(seed, length);
        match kind {
            0 => {}
            1 => data.fill(seed as u8),
            2 => data.iter_mut().for_each(|byte| *byte &= 1),
            _ => (period..length).for_each(|index| data[index] = data[index - period]),
        }
        data
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn cuts_are_those_of_the_crate((sizes, data) in sizes().prop_flat_map(|sizes| (Just(sizes), any_data(sizes)))) {
        let (min, average, max) = sizes;
        let cutter = content(min, average, max);
        let mut rest = data.as_slice();
        while let Some(length) = cutter.next_cut(rest, true) {
            prop_assert_eq!(length, cut_by_the_crate(min as usize, average as usize, max as usize, &KEY, rest));
            prop_assert!(length == rest.len() || cutter.may_end(&rest[..length]));
            rest = &rest[length..];
        }
        prop_assert!(rest.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_do_not_matter(
        data in stream(),
        pieces in proptest::collection::vec(1usize..2000, 1..8),
        (min, average, max) in prop_oneof![Just((64, 256, 258)), Just((64, 256, 1024)), Just((254, 256, 2048)), Just((128, 512, 4096))],
    ) {
        let cutter = content(min, average, max);
        let lengths = cut_all(&cutter, &data);
        prop_assert_eq!(&lengths, &cut_streamed(&cutter, &data, &pieces));
        prop_assert_eq!(&lengths, &cut_all_as_documented(min as usize, average as usize, max as usize, &data));
        prop_assert_eq!(lengths.iter().sum::<usize>(), data.len());
        if let Some((last, others)) = lengths.split_last() {
            prop_assert!(others.iter().all(|&length| length > min as usize && length <= max as usize));
            prop_assert!(*last <= max as usize);
        }
    }

    #[test]
    fn a_chunk_proves_its_own_cut(data in stream(), after in stream()) {
        let cutter = content(64, 256, 1024);
        let lengths = cut_all(&cutter, &data);
        let mut start = 0;
        for length in lengths.iter().take(lengths.len().saturating_sub(1)) {
            let chunk = &data[start..start + length];
            prop_assert_eq!(cutter.next_cut(&[chunk, &after].concat(), true), Some(*length));
            start += length;
        }
    }

    #[test]
    fn fixed_cuts_are_fixed(data in stream(), pieces in proptest::collection::vec(1usize..2000, 1..8), length in 1u32..1500) {
        let cutter: Cutter = FixedCutter::new(length).unwrap().into();
        let expected: Vec<usize> = data.chunks(length as usize).map(<[u8]>::len).collect();
        prop_assert_eq!(&cut_all(&cutter, &data), &expected);
        prop_assert_eq!(&cut_streamed(&cutter, &data, &pieces), &expected);
    }
}
