use super::*;
use crate::entry::{ChunkList, ChunkRef, EntryKind, FileContent, Metadata};
use crate::id::ChunkId;
use crate::runtime::Timestamp;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tempfile::TempDir;

const CONTEXT: [u8; 32] = [7; 32];
const LATE: Timestamp = Timestamp { seconds: i64::MAX, nanoseconds: 0 };

type Model = BTreeMap<Vec<u8>, Cached>;

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache").join("stat").join("series");
    (folder, path)
}

fn write<'a>(path: &Path, items: impl IntoIterator<Item = &'a Cached>) {
    let mut builder = StatCacheBuilder::create(path, CONTEXT).unwrap();
    for cached in items {
        builder.push(&cached.stat, &cached.entry, LATE).unwrap();
    }
    builder.finish().unwrap();
}

fn file(number: u64, chunks: usize) -> Cached {
    let time = Timestamp { seconds: 1_700_000_000 + number as i64, nanoseconds: 123_456_789 };
    let chunk = |i: usize| ChunkRef { id: ChunkId(*blake3::hash(&[number as u8, i as u8]).as_bytes()), length: 20_000 + i as u32 };
    let content =
        FileContent { size: 20_000 * chunks as u64, chunks: ChunkList::Inline((0..chunks).map(chunk).collect()), ..FileContent::default() };
    let metadata = Metadata { mode: 0o644, user: b"root".into(), group: b"root".into(), modified: time, ..Metadata::default() };
    let key = format!("home\0folder {:05}\0file {number:09}", number / 40).into_bytes();
    Cached {
        stat: StatKey { device: 2049, inode: 1_000_000 + number, ctime: time, modified: time, size: content.size },
        entry: Entry { key, kind: EntryKind::File(content), metadata },
        is_settled: true,
    }
}

fn times() -> impl Strategy<Value = Timestamp> {
    (prop_oneof![any::<i64>().prop_map(|s| s.min(i64::MAX - 2)), 0..2_000_000_000_i64], 0..1_000_000_000_u32)
        .prop_map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds })
}

fn kinds() -> impl Strategy<Value = EntryKind> {
    let chunk = (any::<[u8; 32]>(), any::<u32>()).prop_map(|(id, length)| ChunkRef { id: ChunkId(id), length });
    let chunks =
        prop_oneof![vec(chunk, 0..100).prop_map(ChunkList::Inline), any::<[u8; 32]>().prop_map(|root| ChunkList::Recipe(ChunkId(root))),];
    let file = (any::<u64>(), vec(any::<(u64, u64)>(), 0..3), any::<u32>(), chunks)
        .prop_map(|(size, holes, cutter, chunks)| EntryKind::File(FileContent { size, holes, cutter, chunks }))
        .boxed();
    prop_oneof![
        file.clone(),
        file,
        Just(EntryKind::Folder),
        Just(EntryKind::Fifo),
        Just(EntryKind::Socket),
        vec(any::<u8>(), 0..40).prop_map(EntryKind::Symlink),
        vec(any::<u8>(), 0..40).prop_map(EntryKind::HardLink),
        any::<(u32, u32)>().prop_map(|(major, minor)| EntryKind::BlockDevice(major, minor)),
        any::<(u32, u32)>().prop_map(|(major, minor)| EntryKind::CharDevice(major, minor)),
    ]
}

prop_compose! {
    fn values()(
        (device, inode, size) in any::<(u64, u64, u64)>(),
        (ctime, modified, modified_stored) in (times(), times(), proptest::option::of(times())),
        (mode, uid, gid, inode_flags) in any::<(u32, u32, u32, u32)>(),
        (user, group) in (vec(any::<u8>(), 0..6), vec(any::<u8>(), 0..6)),
        xattrs in vec((vec(any::<u8>(), 0..9), vec(any::<u8>(), 0..200)), 0..3),
        kind in kinds(),
    ) -> Cached {
        let modified_stored = modified_stored.unwrap_or(modified);
        let metadata = Metadata { mode, uid, gid, user, group, modified: modified_stored, inode_flags, xattrs };
        Cached { stat: StatKey { device, inode, ctime, modified, size }, entry: Entry { key: Vec::new(), kind, metadata }, is_settled: true }
    }
}

/// Few letters, so that keys share beginnings, are beginnings of each other, and unknown keys lie between known ones.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0_u8), Just(b'a'), Just(b'b'), Just(255)], 0..7)
}

fn models() -> impl Strategy<Value = Model> {
    btree_map(keys(), values(), 0..200).prop_map(|mut model| {
        for (key, cached) in &mut model {
            cached.entry.key.clone_from(key);
        }
        model
    })
}

#[test]
fn another_device_number_is_ignored_where_that_is_asked_for() {
    let (_folder, path) = place();
    let cached = file(1, 3);
    write(&path, [&cached]);
    let elsewhere = StatKey { device: cached.stat.device + 1, ..cached.stat };
    let cache = StatCache::open(&path, CONTEXT).unwrap();
    assert!(cache.is_known(&cached.entry.key, &cached.stat) && !cache.is_known(&cached.entry.key, &elsewhere));
    let cache = cache.ignoring_device();
    assert!(cache.is_known(&cached.entry.key, &cached.stat) && cache.is_known(&cached.entry.key, &elsewhere));
    assert!(!cache.is_known(&cached.entry.key, &StatKey { inode: 5, ..elsewhere }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_are_what_was_pushed_and_nothing_else(model in models(), asked in vec(keys(), 0..300)) {
        let (_folder, path) = place();
        write(&path, model.values());
        let cache = StatCache::open(&path, CONTEXT).unwrap();
        for key in model.keys().chain(&asked).chain(model.keys().rev()) {
            let expected = model.get(key);
            let found = cache.get(key);
            prop_assert_eq!(found.as_ref(), expected);
            let Some(Cached { stat, .. }) = expected else { continue };
            prop_assert!(cache.is_known(key, stat));
            for changed in [
                StatKey { device: stat.device ^ 1, ..*stat },
                StatKey { inode: stat.inode ^ 1, ..*stat },
                StatKey { size: stat.size ^ 1, ..*stat },
                StatKey { ctime: Timestamp { seconds: stat.ctime.seconds ^ 1, ..stat.ctime }, ..*stat },
                StatKey { modified: Timestamp { nanoseconds: stat.modified.nanoseconds ^ 1, ..stat.modified }, ..*stat },
            ] {
                prop_assert!(!cache.is_known(key, &changed));
            }
        }
    }
}

#[test]
fn each_flipped_byte_costs_at_most_a_miss() {
    let (_folder, path) = place();
    let model: Vec<_> = (0..70).map(|number| file(number, 1)).collect();
    write(&path, &model);
    let whole = fs::read(&path).unwrap();
    let mut hits_lost = 0;
    for position in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[position] ^= 1 << (position % 8);
        // A new file each time: a mapped one must not change.
        let torn = path.with_extension(position.to_string());
        fs::write(&torn, &bytes).unwrap();
        // Both ends of the first block, and the second block.
        for cached in [&model[0], &model[63], &model[69]] {
            let Some(cache) = StatCache::open(&torn, CONTEXT) else { continue };
            match cache.get(&cached.entry.key) {
                Some(found) => assert_eq!(found, *cached, "byte {position}"),
                None => {
                    hits_lost += 1;
                    assert!(!cache.is_known(&cached.entry.key, &cached.stat));
                }
            }
        }
        fs::remove_file(torn).unwrap();
    }
    // Damage in the blocks is seen by all who ask there: most bytes are in the first one, for which two ask.
    assert!(hits_lost > whole.len(), "{hits_lost} of {}", whole.len());
}

#[test]
fn a_damaged_block_leaves_the_others() {
    let (_folder, path) = place();
    let model: Vec<_> = (0..200).map(|number| file(number, 1)).collect();
    write(&path, &model);
    let mut bytes = fs::read(&path).unwrap();
    bytes[300] ^= 1;
    fs::write(&path, bytes).unwrap();
    let cache = StatCache::open(&path, CONTEXT).unwrap();
    for round in 0..2 {
        for (number, cached) in model.iter().enumerate() {
            assert_eq!(cache.get(&cached.entry.key).is_some(), number >= 64, "record {number}, round {round}");
        }
    }
}

#[test]
fn cut_short_lengthened_foreign_or_absent_is_none() {
    let (_folder, path) = place();
    assert!(StatCache::open(&path, CONTEXT).is_none());
    write(&path, &[file(1, 1), file(2, 0)]);
    assert!(StatCache::open(&path, CONTEXT).is_some());
    assert!(StatCache::open(&path, [8; 32]).is_none());
    assert!(StatCache::open(path.parent().unwrap(), CONTEXT).is_none());
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        let torn = path.with_extension(length.to_string());
        fs::write(&torn, &whole[..length]).unwrap();
        assert!(StatCache::open(&torn, CONTEXT).is_none(), "{length} bytes");
    }
    let torn = path.with_extension("longer");
    fs::write(&torn, [&whole[..], &[0]].concat()).unwrap();
    assert!(StatCache::open(&torn, CONTEXT).is_none());
}

#[test]
fn lengths_that_overflow_are_none() {
    let (_folder, path) = place();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    for numbers in [[u64::MAX, 1, 0], [0, u64::MAX, 0], [0, u64::MAX / FENCE_LENGTH as u64, 17], [0, 0, u64::MAX], [0, 0, 0]] {
        let mut end = MAGIC.to_vec();
        numbers.iter().for_each(|number| end.extend_from_slice(&number.to_le_bytes()));
        let hash = blake3::keyed_hash(&CONTEXT, &end);
        end.extend_from_slice(hash.as_bytes());
        let torn = path.with_extension(numbers[0].to_string());
        let _ = fs::remove_file(&torn);
        fs::write(&torn, end).unwrap();
        let cache = StatCache::open(&torn, CONTEXT);
        assert_eq!(cache.is_some(), numbers == [0, 0, 0]);
        assert!(cache.is_none_or(|cache| cache.get(b"").is_none()));
    }
}

#[test]
fn what_may_change_again_unseen_is_not_known_again() {
    let seen_at = Timestamp { seconds: 1_000, nanoseconds: 500 };
    let settled = Timestamp { seconds: 880, nanoseconds: 500 };
    let racy = Timestamp { seconds: 880, nanoseconds: 501 };
    let late = Timestamp { seconds: i64::MAX, nanoseconds: 0 };
    let cases = [(settled, settled, true), (racy, settled, false), (settled, racy, false), (late, settled, false), (settled, late, false)];
    let (_folder, path) = place();
    let mut builder = StatCacheBuilder::create(&path, CONTEXT).unwrap();
    let entries: Vec<_> = (0..cases.len() as u64).map(|number| file(number, 1)).collect();
    for (cached, (ctime, modified, _)) in entries.iter().zip(cases) {
        builder.push(&StatKey { ctime, modified, ..cached.stat }, &cached.entry, seen_at).unwrap();
    }
    builder.finish().unwrap();
    let cache = StatCache::open(&path, CONTEXT).unwrap();
    for (cached, (ctime, modified, is_kept)) in entries.iter().zip(cases) {
        let found = cache.get(&cached.entry.key).unwrap();
        assert_eq!(found.is_settled, is_kept, "{ctime:?} {modified:?}");
        assert_eq!(cache.is_known(&cached.entry.key, &found.stat), is_kept);
        assert_eq!(found.entry, cached.entry);
    }
}

#[test]
fn large_files_are_kept_up_to_a_million_chunks() {
    let (_folder, path) = place();
    let with_chunks = |number, count| {
        let mut cached = file(number, 0);
        let EntryKind::File(content) = &mut cached.entry.kind else { unreachable!() };
        content.chunks = ChunkList::Inline(vec![ChunkRef { id: ChunkId([9; 32]), length: 32_768 }; count]);
        cached
    };
    let model = [file(1, 1), with_chunks(2, 1_000_000), with_chunks(3, 1_000_001), file(4, 70)];
    write(&path, &model);
    let cache = StatCache::open(&path, CONTEXT).unwrap();
    for (cached, is_kept) in model.iter().zip([true, true, false, true]) {
        assert!(cache.get(&cached.entry.key) == is_kept.then(|| cached.clone()));
    }
}

#[test]
fn keys_out_of_order_are_refused() {
    let (_folder, path) = place();
    let mut builder = StatCacheBuilder::create(&path, CONTEXT).unwrap();
    let (first, second) = (file(1, 1), file(2, 1));
    builder.push(&second.stat, &second.entry, LATE).unwrap();
    for cached in [&second, &first] {
        let error = builder.push(&cached.stat, &cached.entry, LATE).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Internal);
    }
}

#[test]
fn a_dropped_builder_leaves_the_old_file_and_nothing_else() {
    let (_folder, path) = place();
    let old = file(1, 1);
    write(&path, [&old]);
    let reader = StatCache::open(&path, CONTEXT).unwrap();
    let mut builder = StatCacheBuilder::create(&path, CONTEXT).unwrap();
    builder.push(&file(2, 1).stat, &file(2, 1).entry, LATE).unwrap();
    drop(builder);
    assert_eq!(StatCache::open(&path, CONTEXT).unwrap().get(&old.entry.key), Some(old.clone()));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    // A reader keeps the file that it opened when another takes its place.
    write(&path, [&file(2, 1)]);
    assert_eq!(reader.get(&old.entry.key), Some(old.clone()));
    assert_eq!(StatCache::open(&path, CONTEXT).unwrap().get(&old.entry.key), None);
}

#[test]
fn only_this_user_may_look_and_what_a_killed_builder_left_goes() {
    let (_folder, path) = place();
    let folder = path.parent().unwrap().to_owned();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let working = StatCacheBuilder::create(&path, CONTEXT).unwrap();
    let (orphan, foreign) = (folder.join("series.new-abc"), folder.join("other.new-abc"));
    fs::write(&orphan, b"half a file").unwrap();
    fs::write(&foreign, b"of another series").unwrap();
    write(&path, [&file(1, 1)]);
    assert!(!orphan.exists() && foreign.exists());
    assert_eq!((mode(&path), mode(&folder), mode(folder.parent().unwrap())), (0o600, 0o700, 0o700));
    // One that is still at work was not taken for left behind.
    working.finish().unwrap();
    assert!(StatCache::open(&path, CONTEXT).unwrap().get(&file(1, 1).entry.key).is_none());
}

#[test]
#[allow(clippy::disallowed_methods, reason = "threads of a test")]
fn many_threads_get_the_same_answers() {
    let (_folder, path) = place();
    let model: Vec<_> = (0..3_000).map(|number| file(number, (number % 3) as usize)).collect();
    write(&path, &model);
    let cache = StatCache::open(&path, CONTEXT).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (cache, model) = (&cache, &model);
            scope.spawn(move || {
                for step in 0..model.len() {
                    // Two in order from different places, two jumping about.
                    let cached = &model[if thread < 2 { step + thread * 1_500 } else { step * 997 } % model.len()];
                    assert!(cache.is_known(&cached.entry.key, &cached.stat));
                    assert_eq!(cache.get(&cached.entry.key).as_ref(), Some(cached));
                    assert!(cache.get(&[&cached.entry.key[..], b"!"].concat()).is_none());
                }
            });
        }
    });
}

/// Prints what a look-up costs: `cargo test --release -p icecore --lib stat_cache -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn measures_look_ups() {
    use crate::runtime::{Clock, SystemClock};
    let count = 500_000_u64;
    let (_folder, path) = place();
    let model: Vec<_> = (0..count).map(|number| file(number, 1)).collect();
    let timed = |name: &str, work: &mut dyn FnMut()| {
        let start = SystemClock.monotonic_ns();
        work();
        println!("{name}: {} ns each", (SystemClock.monotonic_ns() - start) / count);
    };
    timed("push and finish", &mut || write(&path, &model));
    println!("{} bytes each", fs::metadata(&path).unwrap().len() / count);
    let mut cache = None;
    timed("open", &mut || cache = StatCache::open(&path, CONTEXT));
    let cache = cache.unwrap();
    for name in ["is_known in order, blocks unproven", "is_known in order"] {
        timed(name, &mut || assert!(model.iter().all(|cached| cache.is_known(&cached.entry.key, &cached.stat))));
    }
    timed("is_known at random", &mut || {
        for step in 0..count {
            let cached = &model[(step * 7_919_777 % count) as usize];
            assert!(cache.is_known(&cached.entry.key, &cached.stat));
        }
    });
    timed("get in order", &mut || assert!(model.iter().all(|cached| cache.get(&cached.entry.key).is_some())));
}
