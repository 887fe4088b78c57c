//! Cutting: bytes of a stream per second, by average chunk size and kind of data.

use criterion::{Criterion, Throughput};
use icecore::chunker::ContentCutter;
use icecore_benches::{KIB, KINDS, MIB};

const LENGTH: usize = 16 * MIB;

fn cut(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunk");
    group.throughput(Throughput::Bytes(LENGTH as u64));
    for average in [16, 32, 128].map(|kib| (kib * KIB) as u32) {
        let cutter = ContentCutter::new(average / 2, average, average * 4, &[7; 32]).expect("sizes of a cutter");
        for (kind, generate) in KINDS {
            let bytes = generate(1, LENGTH);
            group.bench_function(format!("{} KiB/{kind}", average as usize / KIB), |bencher| bencher.iter(|| count(&cutter, &bytes)));
        }
    }
    group.finish();
}

fn count(cutter: &ContentCutter, bytes: &[u8]) -> usize {
    let (mut rest, mut chunks) = (bytes, 0);
    while let Some(length) = cutter.next_cut(rest, true) {
        rest = &rest[length..];
        chunks += 1;
    }
    chunks
}

fn main() {
    icecore_benches::run(cut);
}
