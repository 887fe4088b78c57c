//! Whole backups and restores of 256 MiB in some thousand files, the repository in memory, on all cores. Bytes of content per second;
//! for the backup of an unchanged folder too, which reads none of them.

use criterion::{BatchSize, Criterion, SamplingMode, Throughput};
use icecore::progress::Silent;
use icecore::restore::RestoreOptions;
use icecore_benches::{MIB, back_up, create, fill_with_data};
use std::path::Path;

const LENGTH: usize = 256 * MIB;

fn backup(criterion: &mut Criterion, folder: &Path, length: u64) {
    let mut group = criterion.benchmark_group("backup");
    group.throughput(Throughput::Bytes(length)).sampling_mode(SamplingMode::Flat);
    group.bench_function("first", |bencher| {
        bencher.iter_batched_ref(|| create(None), |repository| back_up(repository, folder), BatchSize::PerIteration);
    });
    let cache = tempfile::tempdir().expect("a temporary folder");
    let repository = create(Some(cache.path()));
    back_up(&repository, folder);
    assert_eq!(back_up(&repository, folder).bytes_read, 0, "the stat cache knows all files");
    group.bench_function("unchanged", |bencher| bencher.iter(|| back_up(&repository, folder)));
    group.finish();
}

fn restore(criterion: &mut Criterion, folder: &Path, length: u64) {
    let repository = create(None);
    back_up(&repository, folder);
    let snapshot = repository.snapshots().expect("snapshots").pop().expect("the one that was made");
    let mut group = criterion.benchmark_group("restore");
    group.throughput(Throughput::Bytes(length)).sampling_mode(SamplingMode::Flat);
    group.bench_function("all", |bencher| {
        bencher.iter_batched_ref(
            || tempfile::tempdir().expect("a temporary folder"),
            |target| {
                let summary = repository.restore(&snapshot, target.path(), &RestoreOptions::default(), &Silent).expect("a restore");
                assert_eq!((summary.bytes_total, summary.items_failed), (length, 0), "everything comes back");
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn main() {
    icecore_benches::run(|criterion| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fill_with_data(folder.path(), LENGTH);
        let length = back_up(&create(None), folder.path()).bytes_total;
        backup(criterion, folder.path(), length);
        restore(criterion, folder.path(), length);
    });
}
