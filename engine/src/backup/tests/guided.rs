//! Files that were there last time: cut as if they had not been.

use super::*;
use crate::backup::batch::Cut;
use crate::backup::hints::{CHUNKS_MAX, Hints};
use crate::backup::stat_cache::StatCache;
use crate::chunker::{ContentCutter, FixedCutter, Guide};
use crate::entry::{ChunkList, ChunkRef, Entry, EntryKind, FileContent, Metadata};
use crate::id::ChunkId;
use crate::source::StatKey;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What is done to the large file and to the small one.
type Edit = fn(&mut Vec<u8>);

const EDITS: [(&str, Edit); 9] = [
    ("nothing", |_| {}),
    ("a little inserted at the front", |data| drop(data.splice(0..0, [1; 10]))),
    ("much inserted", |data| drop(data.splice(data.len() / 3..data.len() / 3, noise(9, 5_000_000)))),
    ("much removed", |data| drop(data.drain(data.len() / 4..data.len() / 2))),
    ("a little overwritten", |data| data.iter_mut().step_by(1 << 18).for_each(|byte| *byte ^= 1)),
    ("cut short", |data| data.truncate(data.len() / 2 + 1)),
    ("longer", |data| data.extend(noise(10, 100_000))),
    ("halves swapped", |data| {
        let half = data.len() / 2;
        data.rotate_left(half);
    }),
    ("another file", |data| *data = noise(11, data.len())),
];

fn write(path: &Path, bytes: &[u8], seconds: u64) {
    fs::write(path, bytes).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
}

#[test]
fn what_is_stored_does_not_depend_on_what_was_there_before() {
    for (what, edit) in EDITS {
        let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = [("large", noise(1, 13 << 20)), ("small", noise(2, 400_000)), ("zeros", vec![0; 9_000_000])];
        files.iter().for_each(|(name, bytes)| write(&folder.path().join(name), bytes, 1_600_000_000));
        let holes = File::create(folder.path().join("holes")).unwrap();
        holes.write_all_at(&noise(3, 3 << 20), 1 << 20).unwrap();
        holes.set_len(10 << 20).unwrap();

        let key = Key::passphrase("correct horse").unwrap();
        let guided = Repository::create(
            Arc::new(MemoryBackend::new()),
            Runtime::seeded(7, NOW, 2),
            &key,
            &options(),
            Settings::default().with_cache(cache.path()),
        )
        .unwrap();
        backup(&guided, folder.path());
        for (name, mut bytes) in files {
            edit(&mut bytes);
            write(&folder.path().join(name), &bytes, 1_700_000_000);
        }
        holes.write_all_at(&noise(4, 2 << 20), 6 << 20).unwrap();
        backup(&guided, folder.path());
        let alone = repository(&MemoryBackend::new(), 2);
        backup(&alone, folder.path());
        let root = |repository: &Repository| repository.snapshots().unwrap().last().unwrap().body.tree_root;
        assert_eq!(root(&guided), root(&alone), "{what}");
    }
}

fn cut(cutter: u32) -> Cut {
    Cut { cutter: ContentCutter::new(64, 256, 1024, &[1; 32]).unwrap().into(), id: cutter }
}

/// A cache that knows one file with `count` chunks of `length` bytes.
fn cache_of(folder: &Path, cutter: u32, count: u32, length: u32) -> StatCache {
    let path = folder.join("cache");
    let chunks = (0..count).map(|n| ChunkRef { id: ChunkId([n as u8; 32]), length }).collect();
    let content = FileContent { cutter, chunks: ChunkList::Inline(chunks), ..FileContent::default() };
    let entry = Entry { key: b"file".to_vec(), kind: EntryKind::File(content), metadata: Metadata::default() };
    let stat = StatKey { device: 1, inode: 2, ctime: NOW, modified: NOW, size: 3 };
    let mut builder = StatCacheBuilder::create(&path, [5; 32]).unwrap();
    builder.push(&stat, &entry, NOW).unwrap();
    builder.finish().unwrap();
    StatCache::open(&path, [5; 32]).unwrap()
}

#[test]
fn hints_of_another_cutter_or_another_file_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache_of(folder.path(), 1, 100, 1000);
    let fixed = Cut { cutter: FixedCutter::new(4096).unwrap().into(), id: 1 };
    for (key, cut) in [(b"file", &cut(2)), (b"else", &cut(1))] {
        let (length, guide) = Hints::new(Some(&cache), key, cut).extent(0, 10_000);
        assert_eq!((length, guide), (10_000, Guide::new(Vec::new(), 0)));
    }
    // Fixed sizes do not end where chunks did, and still tell what was there.
    let (length, guide) = Hints::new(Some(&cache), b"file", &fixed).extent(0, 10_500);
    assert!(length == 10_500 && guide != Guide::new(Vec::new(), 0));
}

#[test]
fn extents_end_where_chunks_did_and_hold_few_hints() {
    let folder = tempfile::tempdir().unwrap();
    let cut = cut(1);
    let cache = cache_of(folder.path(), 1, 1000, 999);
    let mut hints = Hints::new(Some(&cache), b"file", &cut);
    assert_eq!(hints.extent(0, 10_000).0, 9_990);
    assert_eq!(hints.extent(9_990, 10_000).0, 9_990);
    // Behind the end of the hints, and where none is near.
    assert_eq!(hints.extent(998_000, 10_000).0, 10_000);
    assert_eq!(hints.extent(5_000_000, 10_000).0, 10_000);

    // Chunks without a length, as nobody makes them.
    for length in [0, 1] {
        let cache = cache_of(folder.path(), 1, 100_000, length);
        let mut hints = Hints::new(Some(&cache), b"file", &cut);
        for start in [0, 4 << 20, 1 << 40] {
            hints.extent(start, 4 << 20);
            assert!(hints.near_count() <= CHUNKS_MAX);
        }
    }
}
