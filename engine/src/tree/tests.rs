use super::testing::{BOUNDARY, Nodes, build, entries, file, folder, many};
use super::*;
use crate::entry::{ChunkList, ChunkRef, Entry, EntryKind, Key, KeyKind};
use crate::error::ErrorKind;
use crate::format::recipe::{RecipeChild, encode_recipe_inner, encode_recipe_leaf};
use crate::format::refs::{RefsChild, encode_refs_inner, encode_refs_leaf};
use crate::format::testing::refused;
use crate::format::tree::{TreeChild, encode_tree_inner, encode_tree_leaf};
use crate::format::{FrameUse, Usage};
use crate::id::{FrameId, SessionId};
use proptest::prelude::*;

fn walk<'a>(nodes: &'a Nodes, root: &TreeRoot, range: KeyRange) -> TreeWalk<'a> {
    TreeWalk::new(nodes, &root.id, KeyKind::Paths, range).unwrap()
}

fn all(nodes: &Nodes, root: &ChunkId) -> Result<Vec<Entry>> {
    TreeWalk::new(nodes, root, KeyKind::Paths, KeyRange::all())?.collect()
}

proptest! {
    #[test]
    fn small_trees_walk_as_they_were_built(entries in entries(1..40), other in entries(1..2)) {
        let (nodes, root) = build(entries.clone());
        prop_assert_eq!(root.entries, entries.len() as u64);
        prop_assert_eq!(&all(&nodes, &root.id).unwrap(), &entries);
        for entry in entries.iter().chain(&other) {
            let found = find_entry(&nodes, &root.id, KeyKind::Paths, &entry.key).unwrap();
            prop_assert_eq!(found.as_ref(), entries.iter().find(|other| other.key == entry.key));
        }
        prop_assert_eq!(build(entries).1, root);
    }
}

#[test]
fn one_entry_more_changes_few_nodes() {
    let entries = many(20_000);
    let (before, root) = build(entries.clone());
    assert_eq!(root.entries, 20_400);
    assert_eq!(root.file_bytes, (1..=20_000).sum::<u64>());
    assert!((10..90).contains(&before.0.len()), "{} nodes", before.0.len());
    for at in (0..entries.len()).step_by(1_021) {
        let mut entries = entries.clone();
        let above = &entries[at];
        // `!` stands before all names that are there.
        let key = [&above.key[..], if above.kind == EntryKind::Folder { b"\0!" } else { b"!" }].concat();
        entries.insert(at + 1, file(key, 7));
        let (after, _) = build(entries);
        let changed = after.0.keys().filter(|id| !before.0.contains_key(*id)).count();
        assert!((2..=6).contains(&changed), "{changed} nodes changed");
    }
}

#[test]
fn ranges_open_only_what_they_need() {
    let entries = many(20_000);
    let (nodes, root) = build(entries.clone());
    assert_eq!(walk(&nodes, &root, KeyRange::all()).collect::<Result<Vec<_>>>().unwrap(), entries);
    let ranges = [
        KeyRange::folder(b"00123"),
        KeyRange::folder(b"nowhere"),
        KeyRange::prefix(b"0012"),
        KeyRange::prefix(b"00399\x0019999"),
        KeyRange::exactly(&entries[0].key),
        KeyRange::exactly(&entries[20_399].key),
        KeyRange::exactly(b"00123\0"),
    ];
    for range in ranges {
        let mut walk = walk(&nodes, &root, range.clone());
        let found = walk.by_ref().collect::<Result<Vec<_>>>().unwrap();
        assert_eq!(found, entries.iter().filter(|entry| range.contains(&entry.key)).cloned().collect::<Vec<_>>());
        assert_eq!(walk.counters().items, found.len() as u64);
        assert!(walk.counters().nodes <= 4, "{range:?}: {:?}", walk.counters());
    }
    for entry in entries.iter().step_by(97) {
        let mut walk = walk(&nodes, &root, KeyRange::exactly(&entry.key));
        assert_eq!(walk.next().unwrap().unwrap(), *entry);
        assert!(walk.next().is_none());
        assert_eq!(walk.counters().nodes, 2);
    }
}

#[test]
fn object_keys_may_look_like_anything() {
    let keys = [&b""[..], b"..", b"a", b"a\0", b"a\0\0b", b"a//b", b"\xff\xff"];
    let entries: Vec<_> = keys.map(|key| file(key, 1)).to_vec();
    let mut nodes = Nodes::default();
    let mut builder = TreeBuilder::new(BOUNDARY, KeyKind::Objects);
    entries.iter().for_each(|entry| builder.push(entry.clone(), &mut nodes).unwrap());
    let root = builder.finish(&mut nodes).unwrap();
    let walk = |range| TreeWalk::new(&nodes, &root.id, KeyKind::Objects, range).unwrap().collect::<Result<Vec<_>>>().unwrap();
    assert_eq!(walk(KeyRange::all()), entries);
    assert_eq!(walk(KeyRange::prefix(b"\xff")), entries[6..]);
    assert_eq!(walk(KeyRange::prefix(b"a")), entries[2..6]);
}

#[test]
fn builders_refuse_what_readers_would() {
    let push = |entries: &[Entry]| {
        let mut builder = TreeBuilder::new(BOUNDARY, KeyKind::Paths);
        let mut nodes = Nodes::default();
        entries.iter().try_for_each(|entry| builder.push(entry.clone(), &mut nodes))?;
        builder.finish(&mut nodes)
    };
    let mut heavy = file("a", 1);
    heavy.metadata.xattrs = vec![(b"x".to_vec(), vec![0; 2_000_000])];
    let mut in_holes = file("a", 1);
    if let EntryKind::File(content) = &mut in_holes.kind {
        content.size = 3_000_001;
        content.holes = (0..1_000_000).map(|n| (n * 3 + 1, 1)).collect();
        content.chunks = ChunkList::Recipe(ChunkId([0; 32]));
    }
    let cases: [&[Entry]; 7] = [
        &[],
        &[folder("b"), folder("a")],
        &[folder("a"), folder("a")],
        &[file("a", 1), folder("a\0b")],
        &[folder("..")],
        &[heavy],
        &[in_holes],
    ];
    for entries in cases {
        assert_eq!(push(entries).unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn heavy_entries_end_leaves_early() {
    let entries: Vec<_> = (0..40).map(|n| folder([&vec![b'a' + n as u8; 60_000][..], b"x"].concat())).collect();
    let (nodes, root) = build(entries.clone());
    assert!(nodes.0.values().all(|node| node.len() <= 600_000));
    assert_eq!(all(&nodes, &root.id).unwrap(), entries);
}

fn store(nodes: &mut Nodes, bytes: Vec<u8>) -> ChunkId {
    nodes.store(NodeKind::Tree, bytes).unwrap()
}

#[test]
fn lying_inner_nodes_are_named() {
    let mut nodes = Nodes::default();
    let low = store(&mut nodes, encode_tree_leaf(&[folder("a"), file("b", 5)]));
    let high = store(&mut nodes, encode_tree_leaf(&[folder("c"), file("d", 6)]));
    let child = |id, last: &str, entries, file_bytes| TreeChild { last_key: last.into(), id, entries, file_bytes };
    let mut inner = |level, children: &[TreeChild]| store(&mut nodes, encode_tree_inner(level, children));
    let truth = child(low, "b", 2, 5);
    let good = inner(1, &[truth.clone(), child(high, "d", 2, 6)]);
    let lies = [
        inner(1, &[truth.clone(), child(high, "e", 2, 6)]),
        inner(1, &[child(low, "b", 3, 5), child(high, "d", 2, 6)]),
        inner(1, &[truth.clone(), child(high, "d", 2, 5)]),
        inner(1, &[child(low, "b", 2, 5), child(low, "c", 2, 5)]),
        inner(1, &[child(high, "d", 2, 6), child(low, "e", 2, 5)]),
        inner(2, &[child(good, "d", 4, 12)]),
    ];
    let wrong_level = inner(3, &[child(good, "d", 4, 11)]);
    let own_parent = inner(1, &[child(good, "d", 4, 11)]);
    let same_keys = {
        let overlapping = encode_tree_leaf(&[folder("b"), folder("d")]);
        let id = ChunkId([1; 32]);
        nodes.0.insert(id, overlapping.into());
        store(&mut nodes, encode_tree_inner(1, &[truth, child(id, "d", 2, 0)]))
    };
    assert_eq!(all(&nodes, &good).unwrap().len(), 4);
    for lie in lies.into_iter().chain([same_keys]) {
        let error = all(&nodes, &lie).unwrap_err();
        assert_eq!(error.broken_rule(), Some("TREE-16"));
        assert!(error.to_string().contains(&lie.to_string()), "{error}");
    }
    refused("TREE-1", all(&nodes, &wrong_level));
    refused("TREE-1", all(&nodes, &own_parent));
}

#[test]
fn a_node_that_is_its_own_child_is_refused() {
    let mut nodes = Nodes::default();
    let id = ChunkId([5; 32]);
    nodes.0.insert(id, encode_tree_inner(10, &[TreeChild { last_key: Key::new(), id, entries: 1, file_bytes: 0 }]).into());
    refused("TREE-1", all(&nodes, &id));
    nodes.0.insert(id, encode_recipe_inner(10, &[RecipeChild { id, chunks: 1, bytes: 1 }]).into());
    refused("RECIPE-1", RecipeWalk::new(&nodes, &id, 1, 0).unwrap().collect::<Result<Vec<_>>>());
    nodes.0.insert(id, encode_refs_inner(10, &[RefsChild { last: frame(1, 1), id, frames: 1 }]).into());
    refused("REFS-1", RefsWalk::new(&nodes, &id).unwrap().collect::<Result<Vec<_>>>());
}

#[test]
fn nothing_lies_below_a_file() {
    for keys in [["a", "a\0b"], ["", "a"]] {
        let mut nodes = Nodes::default();
        let id = store(&mut nodes, encode_tree_leaf(&keys.map(|key| file(key, 1))));
        refused("TREE-17", all(&nodes, &id));
        TreeWalk::new(&nodes, &id, KeyKind::Objects, KeyRange::all()).unwrap().for_each(|entry| drop(entry.unwrap()));
    }
    // Also across leaves, and in a range that starts inside.
    let mut nodes = Nodes::default();
    let leaves = ["a", "a\0b"].map(|key| store(&mut nodes, encode_tree_leaf(&[file(key, 1)])));
    let child = |n: usize, key: &str| TreeChild { last_key: key.into(), id: leaves[n], entries: 1, file_bytes: 1 };
    let root = store(&mut nodes, encode_tree_inner(1, &[child(0, "a"), child(1, "a\0b")]));
    refused("TREE-17", all(&nodes, &root));
}

fn chunks(count: u32) -> Vec<ChunkRef> {
    (0..count).map(|n| ChunkRef { id: ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes()), length: n % 1_000 + 1 }).collect()
}

fn recipe(chunks: &[ChunkRef]) -> (Nodes, RecipeRoot) {
    let mut nodes = Nodes::default();
    let mut builder = RecipeBuilder::new();
    chunks.iter().for_each(|chunk| builder.push(*chunk, &mut nodes).unwrap());
    let root = builder.finish(&mut nodes).unwrap();
    (nodes, root)
}

#[test]
fn recipes_walk_from_any_byte() {
    let mut list = chunks(20_000);
    let (nodes, root) = recipe(&list);
    let bytes: u64 = list.iter().map(|chunk| u64::from(chunk.length)).sum();
    assert_eq!((root.chunks, root.bytes), (20_000, bytes));
    for start in [0, 1, 2, bytes / 3, bytes - 1, bytes, u64::MAX] {
        let with_offsets = list.iter().scan(0, |end, chunk| {
            *end += u64::from(chunk.length);
            Some((*end - u64::from(chunk.length), *chunk))
        });
        let expected: Vec<_> = with_offsets.filter(|(offset, chunk)| offset + u64::from(chunk.length) > start).collect();
        let mut walk = RecipeWalk::new(&nodes, &root.id, bytes, start).unwrap();
        assert_eq!(walk.by_ref().take(3_000).collect::<Result<Vec<_>>>().unwrap(), expected[..expected.len().min(3_000)]);
        assert!(walk.counters().nodes <= 14, "{:?}", walk.counters());
    }
    list[10_000].length += 1;
    let changed = recipe(&list).0.0.keys().filter(|id| !nodes.0.contains_key(*id)).count();
    assert_eq!(changed, 2);
    refused("RECIPE-4", RecipeWalk::new(&nodes, &root.id, bytes + 1, 0));
}

#[test]
fn lying_recipes_are_refused() {
    let mut nodes = Nodes::default();
    let list = chunks(3);
    let id = store(&mut nodes, encode_recipe_leaf(&list));
    let truth = RecipeChild { id, chunks: 3, bytes: 6 };
    let mut read = |children: &[RecipeChild]| {
        let root = store(&mut nodes, encode_recipe_inner(1, children));
        let bytes = children.iter().fold(0_u64, |sum, child| sum.wrapping_add(child.bytes));
        RecipeWalk::new(&nodes, &root, bytes, 0)?.collect::<Result<Vec<_>>>()
    };
    assert_eq!(read(&[truth, truth]).unwrap().len(), 6);
    refused("RECIPE-4", read(&[truth, RecipeChild { bytes: 7, ..truth }]));
    refused("RECIPE-4", read(&[truth, RecipeChild { chunks: 2, ..truth }]));
    refused("RECIPE-4", read(&[truth, RecipeChild { bytes: u64::MAX, ..truth }]));
}

fn frame(session: u8, number: u32) -> FrameId {
    FrameId { session: SessionId([session; 16]), number }
}

#[test]
fn refs_walk_as_they_were_built() {
    let usage = |n: u32| match n % 3 {
        0 => Usage::Part { chunks: 30, bitmap: vec![n as u8 | 1, 0, 0, 0] },
        _ => Usage::Whole,
    };
    let mut frames: Vec<_> = (0..20_000).map(|n| FrameUse { frame: frame((n / 9_000) as u8, n * 2 + (n % 2)), usage: usage(n) }).collect();
    let build = |frames: &[FrameUse]| {
        let mut nodes = Nodes::default();
        let mut builder = RefsBuilder::new(BOUNDARY);
        frames.iter().for_each(|used| builder.push(used.clone(), &mut nodes).unwrap());
        let root = builder.finish(&mut nodes).unwrap();
        (nodes, root)
    };
    let (nodes, root) = build(&frames);
    assert_eq!(root.frames, 20_000);
    let mut walk = RefsWalk::new(&nodes, &root.id).unwrap();
    assert_eq!(walk.by_ref().collect::<Result<Vec<_>>>().unwrap(), frames);
    assert_eq!(walk.counters().nodes, nodes.0.len() as u64);
    frames[10_000].usage = Usage::Whole;
    frames[10_002].usage = Usage::Part { chunks: 9, bitmap: vec![0, 1] };
    let (changed, _) = build(&frames);
    assert!(changed.0.keys().filter(|id| !nodes.0.contains_key(*id)).count() <= 3);
}

#[test]
fn full_bitmaps_do_not_make_nodes_too_large() {
    let mut nodes = Nodes::default();
    let mut builder = RefsBuilder::new(BOUNDARY);
    for n in 0..4_096 {
        let used = FrameUse { frame: frame(1, n), usage: Usage::Part { chunks: 16_384, bitmap: vec![1; 2_048] } };
        builder.push(used, &mut nodes).unwrap();
    }
    builder.finish(&mut nodes).unwrap();
    assert!(nodes.0.values().all(|node| node.len() < 600_000));
}

#[test]
fn refs_that_lie_or_cannot_be_are_refused() {
    let mut nodes = Nodes::default();
    let whole = |n| FrameUse { frame: frame(1, n), usage: Usage::Whole };
    let leaves = [[1, 2], [2, 3], [4, 5]].map(|numbers| store(&mut nodes, encode_refs_leaf(&numbers.map(whole))));
    let child = |n: usize, last, frames| RefsChild { last: frame(1, last), id: leaves[n], frames };
    let mut read = |children: &[RefsChild]| {
        let root = store(&mut nodes, encode_refs_inner(1, children));
        RefsWalk::new(&nodes, &root)?.collect::<Result<Vec<_>>>()
    };
    assert_eq!(read(&[child(0, 2, 2), child(2, 5, 2)]).unwrap().len(), 4);
    refused("REFS-5", read(&[child(0, 2, 2), child(1, 3, 2)]));
    refused("REFS-5", read(&[child(0, 2, 2), child(2, 6, 2)]));
    refused("REFS-5", read(&[child(0, 2, 2), child(2, 5, 1)]));
    refused("REFS-5", read(&[child(0, 2, u64::MAX), child(2, 5, 2)]));

    let push = |frames: &[FrameUse]| {
        let mut builder = RefsBuilder::new(BOUNDARY);
        frames.iter().try_for_each(|used| builder.push(used.clone(), &mut Nodes::default()))?;
        builder.finish(&mut Nodes::default())
    };
    let empty = FrameUse { frame: frame(1, 1), usage: Usage::Part { chunks: 9, bitmap: vec![0, 0] } };
    for frames in [&[][..], &[whole(2), whole(1)], &[whole(1), whole(1)], &[whole(1 << 31)], &[empty]] {
        assert_eq!(push(frames).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
