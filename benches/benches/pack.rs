//! Writing packs into memory: one pack of frames that are sealed already, and chunks through all of the writer on all cores (ids,
//! look-ups, frames, compressing, sealing, packs). Bytes per second.

use criterion::{BatchSize, Criterion, Throughput};
use icecore::testing::measure::{PackWriting, store_chunks};
use icecore_benches::{KIB, KINDS, MIB, create, data};

const LENGTH: usize = 64 * MIB;

fn write_pack(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pack");
    group.throughput(Throughput::Bytes(LENGTH as u64));
    let frames: Vec<_> = data("noise", 1, LENGTH).chunks(MIB).map(<[u8]>::to_vec).collect();
    // Each in a repository of its own, which goes with it: otherwise all packs would be in memory at the end.
    let prepare = || PackWriting::prepare(&create(None), frames.clone()).expect("a session");
    group.bench_function("frames", |bencher| {
        bencher.iter_batched_ref(prepare, |pack| pack.write().expect("a pack"), BatchSize::PerIteration);
    });
    group.finish();
}

fn store(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Bytes(LENGTH as u64));
    for (kind, generate) in KINDS {
        let bytes = generate(1, LENGTH);
        group.bench_function(kind, |bencher| {
            bencher.iter_batched_ref(
                || create(None),
                |repository| store_chunks(repository, 3, bytes.chunks(32 * KIB)).expect("packs"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn main() {
    icecore_benches::run(|criterion| {
        write_pack(criterion);
        store(criterion);
    });
}
