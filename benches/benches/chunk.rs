//! Cutting: bytes of a stream per second, by average chunk size and kind of data, and the same by the crate `fastcdc`.

use criterion::{Criterion, Throughput};
use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use icecore::chunker::ContentCutter;
use icecore_benches::{KIB, KINDS, MIB, data};

const LENGTH: usize = 16 * MIB;

fn cut(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunk");
    group.throughput(Throughput::Bytes(LENGTH as u64));
    for average in [16, 32, 128].map(|kib| (kib * KIB) as u32) {
        let cutter = ContentCutter::new(average / 2, average, average * 4, &[7; 32]).expect("sizes of a cutter");
        for (kind, generate) in KINDS {
            let bytes = generate(1, LENGTH);
            let name = format!("{} KiB/{kind}", average as usize / KIB);
            group.bench_function(format!("{name}/own"), |bencher| bencher.iter(|| count(&bytes, |rest| cutter.next_cut(rest, true))));
            let by_crate = by_crate(average as usize);
            group.bench_function(format!("{name}/fastcdc"), |bencher| bencher.iter(|| count(&bytes, &by_crate)));
        }
    }
    group.finish();
}

fn count(bytes: &[u8], cut: impl Fn(&[u8]) -> Option<usize>) -> usize {
    let (mut rest, mut chunks) = (bytes, 0);
    while let Some(length) = cut(rest) {
        rest = &rest[length..];
        chunks += 1;
    }
    chunks
}

/// The crate, with some table: which one, does not matter for its speed.
fn by_crate(average: usize) -> impl Fn(&[u8]) -> Option<usize> {
    let numbers = data("noise", 2, 2048);
    let gear: Vec<u64> = numbers.chunks_exact(8).map(|number| number.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))).collect();
    let shifted: Vec<u64> = gear.iter().map(|entry| entry << 1).collect();
    let (strict, loose) = select_masks(average, Normalization::Level1);
    move |rest| {
        let (_, cut) = cut_gear(rest, average / 2, average, average * 4, strict, loose, strict << 1, loose << 1, &gear, &shifted);
        (!rest.is_empty()).then_some((cut + 1).min(rest.len()))
    }
}

fn main() {
    icecore_benches::run(cut);
}
