//! What goes in comes out again.

use icecore::chunker::{ContentCutter, Cutter, FixedCutter};
use icecore::compress::{Compressor, Decompressor, Effort, Method};

/// The first four bytes choose a cutter and the sizes of pieces, the rest is cut.
pub(crate) fn chunker(data: &[u8]) {
    let Some(([choice, repeats, min, piece], rest)) = data.split_first_chunk::<4>() else { return };
    let rest = rest.repeat(1 + usize::from(repeats % 16));
    let average = 256_u32 << (choice % 3);
    let min = 64 + 2 * u32::from(*min) % (average - 65);
    let cutter: Cutter = match choice & 0x80 {
        0 => ContentCutter::new(min & !1, average, 4 * average, &[*choice; 32]).expect("the sizes are allowed").into(),
        _ => FixedCutter::new(min).expect("the size is allowed").into(),
    };
    let (mut lengths, mut at) = (Vec::new(), 0);
    while let Some(length) = cutter.next_cut(&rest[at..], true) {
        assert!(length > 0 && length <= cutter.length_max());
        lengths.push(length);
        at += length;
    }
    assert_eq!(at, rest.len());

    // The same when the bytes come in pieces, and from each chunk alone.
    let (mut begin, mut end, mut index) = (0, 0, 0);
    while end < rest.len() {
        end = (end + 1 + usize::from(*piece)).min(rest.len());
        while let Some(length) = cutter.next_cut(&rest[begin..end], end == rest.len()) {
            assert_eq!(length, lengths[index]);
            assert_eq!(cutter.next_cut(&rest[begin..begin + length], true), Some(length));
            begin += length;
            index += 1;
        }
    }
    assert_eq!(begin, rest.len());
}

/// The first byte says how often the rest is repeated, and where it is cut in two: one part is what the other is compressed against.
pub(crate) fn frame(data: &[u8]) {
    let Some((repeats, rest)) = data.split_first() else { return };
    let plaintext = rest.repeat(1 + usize::from(*repeats));
    let mut compressor = Compressor::new(3).expect("the level exists");
    let (method, packed) = compressor.compress(&plaintext);
    assert_ne!(method, Method::ZstdWithBases);
    comes_back(method, packed, &[], &plaintext);

    let (bases, after) = plaintext.split_at(plaintext.len() * usize::from(*repeats) / 256);
    // Bases in memory of their own, as they always are.
    let (bases, alone) = (bases.to_vec(), compressor.compress(after).1.len());
    for effort in [Effort::Usual, Effort::More] {
        let (method, packed) = compressor.compress_against(after, &bases, effort);
        assert!(packed.len() <= alone);
        comes_back(method, packed, &bases, after);
    }
}

fn comes_back(method: Method, packed: &[u8], bases: &[u8], plaintext: &[u8]) {
    let (mut decompressor, mut unpacked) = (Decompressor::new().expect("memory is there"), Vec::new());
    let mut unpack = |length, unpacked: &mut Vec<u8>| match method {
        Method::ZstdWithBases => decompressor.decompress_against(packed, bases, length, unpacked),
        _ => decompressor.decompress(packed, length, unpacked),
    };
    match method {
        Method::Stored => assert_eq!(packed, plaintext),
        Method::Zstd | Method::ZstdWithBases => {
            assert!(packed.len() < plaintext.len());
            unpack(plaintext.len(), &mut unpacked).expect("it is what was packed");
            assert_eq!(unpacked, plaintext);
            assert!(unpack(plaintext.len() - 1, &mut unpacked).is_err());
        }
    }
}
