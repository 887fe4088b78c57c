//! What goes in comes out again.

use icecore::chunker::{ContentCutter, Cutter, FixedCutter};
use icecore::compress::{Compressor, Decompressor, Method};

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

/// The first byte says how often the rest is repeated.
pub(crate) fn frame(data: &[u8]) {
    let Some((repeats, rest)) = data.split_first() else { return };
    let plaintext = rest.repeat(1 + usize::from(*repeats));
    let (mut compressor, mut unpacked) = (Compressor::new(3).expect("the level exists"), Vec::new());
    let (method, packed) = compressor.compress(&plaintext);
    match method {
        Method::Stored => assert_eq!(packed, plaintext),
        Method::Zstd => {
            assert!(packed.len() < plaintext.len());
            let mut decompressor = Decompressor::new().expect("memory is there");
            decompressor.decompress(packed, plaintext.len(), &mut unpacked).expect("it is what was packed");
            assert_eq!(unpacked, plaintext);
            assert!(decompressor.decompress(packed, plaintext.len() - 1, &mut unpacked).is_err());
        }
    }
}
