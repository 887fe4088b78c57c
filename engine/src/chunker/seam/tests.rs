use super::*;
use crate::chunker::tests::{content, cut_all, stream};
use crate::chunker::{Cutter, FixedCutter};
use proptest::prelude::*;
use std::convert::Infallible;

/// The cuts of an extent by itself.
fn cut_extent(cutter: &Cutter, data: &[u8], is_last: bool) -> Vec<Range<usize>> {
    let (mut cuts, mut start) = (Vec::new(), 0);
    while let Some(length) = cutter.next_cut(&data[start..], is_last) {
        cuts.push(start..start + length);
        start += length;
    }
    cuts
}

/// The chunks of `data`, divided into extents; `also` adds extents that end where a true cut is.
fn cut_in_extents(cutter: &Cutter, data: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
    let (mut seam, mut chunks, mut start) = (Seam::default(), Vec::new(), 0);
    let mut lengths = lengths.iter().cycle();
    loop {
        let end = data.len().min(start + lengths.next().unwrap());
        let (extent, is_last) = (&data[start..end], end == data.len());
        let cuts = cut_extent(cutter, extent, is_last);
        let take = |bytes: &[u8]| {
            chunks.push(bytes.to_vec());
            Ok::<_, Infallible>(())
        };
        let Ok(met) = seam.join(cutter, extent, &cuts, is_last, take);
        chunks.extend(cuts[met..].iter().map(|cut| extent[cut.clone()].to_vec()));
        if is_last {
            assert!(seam.open.is_empty());
            return chunks;
        }
        assert!(seam.open.len() < cutter.length_max());
        start = end;
    }
}

fn expected(cutter: &Cutter, mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    for length in cut_all(cutter, data) {
        chunks.push(data[..length].to_vec());
        data = &data[length..];
    }
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn extents_do_not_matter(
        data in stream(),
        lengths in proptest::collection::vec(prop_oneof![1usize..300, 1usize..6000], 1..6),
        (min, average, max) in prop_oneof![Just((64, 256, 258)), Just((64, 256, 1024)), Just((254, 256, 2048)), Just((128, 512, 4096))],
    ) {
        let cutter = content(min, average, max);
        prop_assert_eq!(cut_in_extents(&cutter, &data, &lengths), expected(&cutter, &data));
        let fixed: Cutter = FixedCutter::new(max).unwrap().into();
        prop_assert_eq!(cut_in_extents(&fixed, &data, &lengths), expected(&fixed, &data));
    }

    /// As with a hint that is right: nothing is open between extents.
    #[test]
    fn extents_that_end_at_cuts_have_no_seam(data in stream(), count in 1usize..6) {
        let cutter = content(64, 256, 1024);
        let lengths: Vec<usize> = cut_all(&cutter, &data).chunks(count).map(|cuts| cuts.iter().sum()).collect();
        let mut seam = Seam::default();
        let mut rest = data.as_slice();
        for (index, length) in lengths.iter().enumerate() {
            let (extent, behind) = rest.split_at(*length);
            // A guide knows the last chunk of the extent without seeing what follows.
            let cuts = cut_extent(&cutter, extent, true);
            let again = |_: &[u8]| Err("cut again");
            prop_assert_eq!(seam.join(&cutter, extent, &cuts, index + 1 == lengths.len(), again), Ok(0));
            rest = behind;
        }
    }
}
