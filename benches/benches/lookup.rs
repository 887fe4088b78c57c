//! The lookup index with a million chunks: look-ups per second on one thread, and adding packs. Chunks that are there are looked up in the order in
//! which they were stored, as duplicates come, and all over the index, where nearly each costs a contents table (`bin/index_scale` has more of them).

use criterion::{BatchSize, Criterion, Throughput};
use icecore::backend::ObjectKind;
use icecore::format::{ContentsTable, FrameRecord};
use icecore::id::{ChunkId, DomainId, FrameClass, FrameId, PackId, RepositoryId, SessionId};
use icecore::repository::index::{LookupIndex, Spool};
use std::ops::Range;
use std::sync::Arc;

const CHUNKS: u64 = 1_000_000;
const CHUNKS_IN_A_FRAME: u64 = 32;
const CHUNKS_IN_A_PACK: u64 = 2_000;
const LOOKUPS: u64 = 10_000;
const DOMAIN: DomainId = DomainId([0; 16]);
const SESSION: SessionId = SessionId([1; 16]);

fn chunk_id(number: u64) -> ChunkId {
    ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// The pack with these chunks.
fn pack(chunks: Range<u64>) -> (PackId, ContentsTable) {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&chunks.start.to_be_bytes());
    let frames = chunks.clone().step_by(CHUNKS_IN_A_FRAME as usize).map(|first| FrameRecord {
        id: FrameId::new(SESSION, FrameClass::Data, (first / CHUNKS_IN_A_FRAME) as u32),
        sealed_length: 1 << 20,
        plaintext_length: 1 << 20,
        hash: [0; 32],
        bases: Vec::new(),
        chunks: (first..chunks.end.min(first + CHUNKS_IN_A_FRAME)).map(chunk_id).collect(),
    });
    (PackId(id), ContentsTable { frames: frames.collect() })
}

fn packs() -> Vec<(PackId, ContentsTable)> {
    (0..CHUNKS).step_by(CHUNKS_IN_A_PACK as usize).map(|first| pack(first..first + CHUNKS_IN_A_PACK)).collect()
}

fn open() -> LookupIndex {
    let tables = Spool::new().expect("a temporary file");
    LookupIndex::open(None, RepositoryId([2; 16]), Arc::new(tables)).expect("a temporary index")
}

fn add(index: &LookupIndex, packs: &[(PackId, ContentsTable)]) {
    for (id, table) in packs {
        index.add_pack(ObjectKind::DataPack, *id, table, |_| DOMAIN).expect("room for the index");
    }
    index.save().expect("room for the index");
}

fn lookup(criterion: &mut Criterion) {
    let packs = packs();
    let index = open();
    add(&index, &packs);
    let mut group = criterion.benchmark_group("lookup");
    group.throughput(Throughput::Elements(LOOKUPS));
    let in_order: Vec<_> = (0..LOOKUPS).map(|n| chunk_id(CHUNKS / 3 + n)).collect();
    // Strides without a common divisor with the number of chunks: all over the index, in no order.
    let hits: Vec<_> = (0..LOOKUPS).map(|n| chunk_id(n * 7_919 % CHUNKS)).collect();
    let misses: Vec<_> = (0..LOOKUPS).map(|n| chunk_id(CHUNKS + n)).collect();
    for (name, ids, expected) in [("hit in order", &in_order, LOOKUPS as usize), ("hit", &hits, LOOKUPS as usize), ("miss", &misses, 0)] {
        let found = || ids.iter().filter(|id| index.lookup(id, DOMAIN).expect("an index").is_some()).count();
        assert_eq!(found(), expected, "{name}");
        group.bench_function(name, |bencher| bencher.iter(found));
    }
    group.throughput(Throughput::Elements(CHUNKS));
    group.bench_function("add a million", |bencher| bencher.iter_batched_ref(open, |index| add(index, &packs), BatchSize::PerIteration));
    group.finish();
}

fn main() {
    icecore_benches::run(lookup);
}
