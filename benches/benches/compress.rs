//! Compressing a frame's plaintext and undoing it: bytes of plaintext per second.

use criterion::{Criterion, Throughput};
use icecore::compress::{Compressor, Decompressor, Method};
use icecore_benches::{KINDS, MIB};

fn compress(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compress");
    group.throughput(Throughput::Bytes(MIB as u64));
    for level in [1, 3] {
        let mut compressor = Compressor::new(level).expect("a level of zstd");
        for (kind, generate) in KINDS {
            let plaintext = generate(1, MIB);
            group.bench_function(format!("level {level}/{kind}"), |bencher| bencher.iter(|| compressor.compress(&plaintext).1.len()));
        }
    }
    group.finish();
}

fn decompress(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decompress");
    group.throughput(Throughput::Bytes(MIB as u64));
    let mut compressor = Compressor::new(3).expect("a level of zstd");
    let mut decompressor = Decompressor::new().expect("memory");
    for (kind, generate) in KINDS {
        let (plaintext, mut out) = (generate(1, MIB), Vec::new());
        let (method, compressed) = compressor.compress(&plaintext);
        if method == Method::Stored {
            continue;
        }
        group.bench_function(kind, |bencher| bencher.iter(|| decompressor.decompress(compressed, MIB, &mut out).expect("a zstd frame")));
    }
    group.finish();
}

fn main() {
    icecore_benches::run(|criterion| {
        compress(criterion);
        decompress(criterion);
    });
}
