//! Making a frame of 1 MiB of chunks on one thread: sealing alone, and compressing and sealing. Bytes of plaintext per second.

use criterion::{BatchSize, Criterion, Throughput};
use icecore::testing::measure::FrameSealing;
use icecore_benches::{KIB, KINDS, MIB, data};

const TAG_LENGTH: usize = 16;

fn seal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seal");
    group.throughput(Throughput::Bytes(MIB as u64));
    let mut sealing = FrameSealing::new([7; 32], 3).expect("a level of zstd");
    let plaintext = data("noise", 1, MIB);
    let with_room = || {
        let mut buffer = Vec::with_capacity(MIB + TAG_LENGTH);
        buffer.extend_from_slice(&plaintext);
        buffer
    };
    group.bench_function("alone", |bencher| {
        bencher.iter_batched_ref(with_room, |buffer| sealing.seal(1, buffer), BatchSize::LargeInput);
    });
    for (kind, generate) in KINDS {
        let bytes = generate(1, MIB);
        group.bench_function(format!("frame/{kind}"), |bencher| bencher.iter(|| sealing.frame(1, bytes.chunks(32 * KIB))));
    }
    group.finish();
}

fn main() {
    icecore_benches::run(seal);
}
