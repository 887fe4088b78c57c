//! Naming chunks: keyed BLAKE3 of chunks of a size, bytes per second on one thread.

use criterion::{Criterion, Throughput};
use icecore::testing::Keys;
use icecore_benches::{KIB, MIB, create, data};

const LENGTH: usize = 16 * MIB;
const DATA_CHUNK: u8 = 1;

fn hash(criterion: &mut Criterion) {
    let keys = Keys::of_repository(&create(None));
    let bytes = data("noise", 1, LENGTH);
    let mut group = criterion.benchmark_group("hash");
    group.throughput(Throughput::Bytes(LENGTH as u64));
    for size in [4, 16, 32, 128].map(|kib| kib * KIB) {
        group.bench_function(format!("{} KiB", size / KIB), |bencher| {
            bencher
                .iter(|| bytes.chunks(size).map(|chunk| keys.chunk_id(DATA_CHUNK, chunk).expect("an id").0[0]).fold(0, u8::wrapping_add));
        });
    }
    group.finish();
}

fn main() {
    icecore_benches::run(hash);
}
