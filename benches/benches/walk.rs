//! Walking a folder of 20,000 files, its names in the page cache: entries per second on all cores.

use criterion::{Criterion, Throughput};
use icecore::runtime::Runtime;
use icecore::source::{Known, Roots, SourceOptions, StatKey, Walk, WalkItem};
use icecore_benches::fill_with_small_files;
use std::sync::Arc;

const FILES: usize = 20_000;

/// Knows every entry, as after a backup of a folder that did not change.
#[derive(Debug)]
struct KnowsAll;

impl Known for KnowsAll {
    fn is_known(&self, _key: &[u8], _stat: &StatKey) -> bool {
        true
    }
}

fn walk(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fill_with_small_files(folder.path(), FILES);
    let roots = Roots::resolve(&[folder.path().to_owned()]).expect("the folder is there");
    let runtime = Runtime::system(0);
    let entries = |known: Option<Arc<dyn Known>>| {
        let walk = Walk::start(&roots, &SourceOptions::default(), known, &runtime).expect("a walk");
        walk.filter(|item| matches!(item, Ok(WalkItem::Entry(_)))).count()
    };
    let count = entries(None);
    assert!(count > FILES, "all files are found");
    let mut group = criterion.benchmark_group("walk");
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function("new", |bencher| bencher.iter(|| entries(None)));
    group.bench_function("known", |bencher| bencher.iter(|| entries(Some(Arc::new(KnowsAll)))));
    group.finish();
}

fn main() {
    icecore_benches::run(walk);
}
