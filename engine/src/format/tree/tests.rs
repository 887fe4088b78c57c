use super::super::cursor::Write;
use super::super::testing::{mutate, refused};
use super::*;
use crate::entry::{ChunkList, ChunkRef, Entry, EntryKind, FileContent, Key, Metadata};
use crate::id::ChunkId;
use crate::runtime::Timestamp;
use crate::tree::testing::entries;
use proptest::collection::btree_map;
use proptest::prelude::*;

fn decode(bytes: &[u8]) -> Result<TreeNode> {
    decode_tree_node(bytes.into(), None, KeyKind::Paths)
}

fn leaf_entries(bytes: &[u8]) -> Result<Vec<Entry>> {
    match decode(bytes)? {
        TreeNode::Leaf(leaf) => leaf.collect(),
        TreeNode::Inner(_) => panic!("an inner node"),
    }
}

fn children() -> impl Strategy<Value = (u8, Vec<TreeChild>)> {
    let children = btree_map("[ab]{1,3}", (any::<[u8; 32]>(), 0..1_u64 << 40, any::<u64>()), 1..20);
    (1..=10_u8, children).prop_map(|(level, children)| {
        let child =
            |(key, (id, entries, file_bytes)): (String, _)| TreeChild { last_key: key.into_bytes(), id: ChunkId(id), entries, file_bytes };
        (level, children.into_iter().map(child).collect())
    })
}

proptest! {
    #[test]
    fn leaves_read_back(entries in entries(1..20)) {
        prop_assert_eq!(leaf_entries(&encode_tree_leaf(&entries)).unwrap(), entries);
    }

    #[test]
    fn inner_nodes_read_back((level, children) in children()) {
        let TreeNode::Inner(inner) = decode(&encode_tree_inner(level, &children)).unwrap() else { panic!("a leaf") };
        prop_assert_eq!(inner.facts().level, level);
        prop_assert_eq!(inner.collect::<Vec<_>>(), children);
    }

    #[test]
    fn what_is_accepted_is_canonical(entries in entries(1..6), (level, children) in children(), changes in mutate::changes()) {
        for bytes in [encode_tree_leaf(&entries), encode_tree_inner(level, &children)] {
            let bytes = mutate::apply(bytes, &changes);
            match decode(&bytes) {
                Ok(TreeNode::Leaf(leaf)) => {
                    let entries = leaf.clone().collect::<Result<Vec<_>>>().unwrap();
                    prop_assert_eq!(entries.len() as u64, leaf.facts().entries);
                    if !has_unknown_columns(&bytes) {
                        prop_assert_eq!(encode_tree_leaf(&entries), bytes);
                    }
                }
                Ok(TreeNode::Inner(inner)) => prop_assert_eq!(encode_tree_inner(inner.facts().level, &inner.collect::<Vec<_>>()), bytes),
                Err(error) => prop_assert!(error.broken_rule().is_some(), "{}", error),
            }
        }
    }
}

fn has_unknown_columns(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(&bytes[2..]);
    reader.varint().unwrap();
    let count = reader.varint().unwrap();
    (0..count).any(|_| {
        let tag = reader.varint().unwrap();
        reader.blob().unwrap();
        tag.is_multiple_of(2)
    })
}

fn entry(key: &[u8], kind: EntryKind) -> Entry {
    Entry { key: key.to_vec(), kind, metadata: Metadata::default() }
}

fn file(size: u64, holes: &[(u64, u64)], chunks: &[u32]) -> EntryKind {
    let chunks = chunks.iter().map(|length| ChunkRef { id: ChunkId([9; 32]), length: *length }).collect();
    EntryKind::File(FileContent { size, holes: holes.to_vec(), cutter: 1, chunks: ChunkList::Inline(chunks) })
}

/// A leaf of `count` entries with these columns.
fn raw(count: u64, columns: &[(u64, &[u8])]) -> Vec<u8> {
    let mut out = vec![1, 0];
    out.put_varint(count);
    out.put_varint(columns.len() as u64);
    for (tag, bytes) in columns {
        out.put_varint(*tag);
        out.put_blob(bytes);
    }
    out
}

/// Columns of a leaf with one folder `a`, with one of them replaced or, where empty, left out.
fn folder_with(tag: u64, bytes: &[u8]) -> Vec<u8> {
    let plain: [(u64, &[u8]); 10] = [
        (3, &[0, 1, b'a']),
        (5, &[2]),
        (7, &[1, 0]),
        (9, &[1, 0]),
        (11, &[1, 0]),
        (13, &[1, 0]),
        (15, &[1, 0]),
        (17, &[0, 0]),
        (19, &[1, 0]),
        (21, &[1, 0]),
    ];
    let mut columns: Vec<_> = plain.into_iter().filter(|column| column.0 != tag).collect();
    if !bytes.is_empty() {
        columns.push((tag, bytes));
        columns.sort_unstable();
    }
    raw(1, &columns)
}

#[track_caller]
fn bad(rule: &str, bytes: &[u8]) {
    refused(rule, decode(bytes));
}

#[track_caller]
fn bad_entry(rule: &str, entry: Entry) {
    bad(rule, &encode_tree_leaf(&[entry]));
}

#[test]
fn a_folder_is_what_the_page_says() {
    let entries = [entry(b"a", EntryKind::Folder)];
    assert_eq!(encode_tree_leaf(&entries), folder_with(0, &[]));
    assert_eq!(leaf_entries(&folder_with(400, b"of a later version")).unwrap(), entries);
}

#[test]
fn heads_and_columns_are_checked() {
    bad("CONV-2", &[1]);
    bad("TREE-1", &[3, 0, 1]);
    bad("TREE-1", &[1, 1, 1]);
    bad("TREE-1", &[2, 0, 1]);
    bad("TREE-1", &[2, 11, 1]);
    refused("TREE-1", decode_tree_node(folder_with(0, &[]).into(), Some(1), KeyKind::Paths));
    bad("TREE-2", &raw(0, &[]));
    bad("TREE-2", &raw(4_097, &[]));
    bad("TREE-2", &raw(1 << 60, &[]));
    bad("TREE-2", &folder_with(400, &vec![0; NODE_SIZE_MAX]));
    bad("TREE-3", &raw(1, &[(3, &[0, 1, b'a']), (3, &[0, 1, b'a'])]));
    bad("TREE-3", &folder_with(401, b"x"));
    assert_eq!(decode(&folder_with(401, b"x")).unwrap_err().kind(), crate::ErrorKind::Unsupported);
    bad("TREE-3", &folder_with(2, b"x"));
    bad("TREE-4", &raw(1, &[(3, &[0, 1, b'a'])]));
    for tag in [3, 5, 7, 9, 11, 13, 15, 17, 19, 21] {
        bad("TREE-4", &folder_with(tag, &[]));
    }
    for tag in [23, 25, 27, 29, 31, 33, 35] {
        bad("TREE-4", &folder_with(tag, &[0]));
    }
    bad("CONV-2", &raw(1, &[(3, &[0, 1, b'a']), (5, &[])]));
    bad("CONV-3", &folder_with(5, &[2, 2]));
    bad("CONV-3", &[&folder_with(0, &[])[..], &[0]].concat());
    bad("CONV-1", &folder_with(17, &[0x80, 0, 0]));
}

#[test]
fn keys_are_checked() {
    let folders = |keys: &[&[u8]]| encode_tree_leaf(&keys.iter().map(|key| entry(key, EntryKind::Folder)).collect::<Vec<_>>());
    bad("TREE-5", &folders(&[b"b", b"a"]));
    bad("TREE-5", &folders(&[b"a", b"a"]));
    bad("TREE-5", &folders(&[b"ab", b"a"]));
    bad("TREE-5", &folders(&[b"", b""]));
    bad("TREE-5", &folders(&[&[b'x'; 65_537]]));
    bad("TREE-5", &folder_with(3, &[1, 1, b'a']));
    bad("TREE-5", &raw(2, &[(3, &[0, 2, b'a', b'b', 0, 2, b'a', b'c'])]));
    for keys in
        [&[&b"."[..]][..], &[b".."], &[b"a/b"], &[b"a\0"], &[b"\0a"], &[b"a", b"a\0.."], &[b"a\0b", b"a\0b\0"], &[b"a\0b", b"a\0c\0\0d"]]
    {
        bad("TREE-6", &folders(keys));
        decode_tree_node(folders(keys).into(), None, KeyKind::Objects).unwrap();
    }
    decode(&folders(&[b"", b"a", b"a\0..b", b"a\0c", &[b'x'; 65_536]])).unwrap();
    let child = |key: &[u8]| TreeChild { last_key: key.to_vec(), id: ChunkId([0; 32]), entries: 1, file_bytes: 0 };
    bad("TREE-5", &encode_tree_inner(1, &[child(b"a"), child(b"a")]));
    bad("TREE-6", &encode_tree_inner(1, &[child(b"a"), child(b"b\0..")]));
    bad("TREE-16", &encode_tree_inner(1, &[TreeChild { entries: u64::MAX, ..child(b"a") }, child(b"b")]));
}

#[test]
fn metadata_is_checked() {
    bad("TREE-7", &folder_with(5, &[9]));
    assert_eq!(decode(&folder_with(5, &[0])).unwrap_err().kind(), crate::ErrorKind::Unsupported);
    bad("TREE-8", &folder_with(7, &[0, 0]));
    bad("TREE-8", &folder_with(7, &[2, 0]));
    bad("TREE-8", &folder_with(7, &[1, 0, 1, 1]));
    bad("TREE-8", &raw(2, &[(3, &[0, 1, b'a', 0, 1, b'b']), (5, &[2, 2]), (7, &[1, 0])]));
    bad("TREE-8", &raw(2, &[(3, &[0, 1, b'a', 0, 1, b'b']), (5, &[2, 2]), (7, &[1, 0, 1, 0])]));
    let mut endless = Vec::new();
    endless.put_varint(1 << 60);
    endless.put_blob(&[0; 1_000]);
    bad("TREE-8", &folder_with(13, &endless));
    let mut large = vec![1];
    large.put_varint(1 << 32);
    for tag in [9, 11, 19] {
        bad("TREE-9", &folder_with(tag, &large));
    }
    bad("TREE-9", &folder_with(7, &[1, 0x80, 0x20]));
    let with = |metadata| Entry { metadata, ..entry(b"a", EntryKind::Folder) };
    bad_entry("TREE-10", with(Metadata { modified: Timestamp { seconds: 0, nanoseconds: 1_000_000_000 }, ..Metadata::default() }));
    let attributes = |list: &[(&[u8], &[u8])]| {
        with(Metadata { xattrs: list.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect(), ..Metadata::default() })
    };
    bad_entry("TREE-11", attributes(&[(b"", b"v")]));
    bad_entry("TREE-11", attributes(&[(b"b", b""), (b"a", b"")]));
    bad_entry("TREE-11", attributes(&[(b"a", b""), (b"a", b"")]));
    bad_entry("TREE-11", attributes(&[(b"a", &[0; 1_048_576])]));
    decode(&encode_tree_leaf(&[attributes(&[(b"a", &[0; 1_048_575])])])).unwrap();
}

#[test]
fn files_are_checked() {
    let bad_file = |rule, kind| bad_entry(rule, entry(b"f", kind));
    bad_file("TREE-12", file(10, &[(0, 0)], &[10]));
    bad_file("TREE-12", file(10, &[(0, 2), (2, 3)], &[5]));
    bad_file("TREE-12", file(10, &[(5, 6)], &[5]));
    bad_file("TREE-12", file(10, &[(u64::MAX, 1)], &[10]));
    bad_file("TREE-12", file(u64::MAX, &[(1, u64::MAX)], &[10]));
    bad_file("TREE-13", file(0, &[], &[0]));
    bad_file("TREE-13", file(4_194_305, &[], &[4_194_305]));
    bad_file("TREE-13", file(65, &[], &[1; 65]));
    bad_file("TREE-13", file(10, &[(0, 4)], &[7]));
    bad_file("TREE-13", file(10, &[], &[]));
    for kind in [file(0, &[], &[]), file(10, &[(0, 10)], &[]), file(64, &[], &[1; 64]), file(9, &[(2, 3), (6, 1)], &[2, 3])] {
        decode(&encode_tree_leaf(&[entry(b"f", kind)])).unwrap();
    }
}

#[test]
fn targets_and_links_are_checked() {
    for target in [&b""[..], b"a\0b", &[b'x'; 65_537]] {
        bad_entry("TREE-14", entry(b"s", EntryKind::Symlink(target.to_vec())));
    }
    for (rule, link) in [("TREE-15", &b"m"[..]), ("TREE-15", b"n"), ("TREE-6", b"a\0"), ("TREE-6", b".."), ("TREE-6", b"a/b")] {
        bad_entry(rule, entry(b"m", EntryKind::HardLink(link.to_vec())));
    }
    let mut high: Key = vec![b'x'; 65_536];
    bad_entry("TREE-5", entry(&[b'y'; 3], EntryKind::HardLink([&high[..], b"x"].concat())));
    high.truncate(3);
    decode(&encode_tree_leaf(&[entry(b"y", EntryKind::HardLink(high))])).unwrap();
}

#[test]
fn few_bytes_do_not_become_many_entries_at_once() {
    // 4,096 entries that share attributes of 1 MiB: 4 GiB, were they all in memory.
    let mut entries: Vec<_> = (0..4_096).map(|n| entry(format!("{n:04}").as_bytes(), EntryKind::Folder)).collect();
    let bytes = encode_tree_leaf(&entries);
    entries[0].metadata.xattrs = vec![(b"user.a".to_vec(), vec![7; 1_000_000])];
    let one = encode_tree_leaf(&entries[..1]);
    assert!(bytes.len() < 60_000 && one.len() > 1_000_000);
    let TreeNode::Leaf(mut leaf) = decode(&shared_attributes(&bytes, &one)).unwrap() else { panic!("an inner node") };
    assert_eq!(leaf.facts().entries, 4_096);
    assert_eq!(leaf.nth(4_095).unwrap().unwrap().metadata, entries[0].metadata);
}

/// The leaf `many` with the attributes of the one entry of `one` in all entries.
fn shared_attributes(many: &[u8], one: &[u8]) -> Vec<u8> {
    let columns = |bytes: &[u8]| -> Vec<(u64, Vec<u8>)> {
        let mut reader = Reader::new(&bytes[2..]);
        reader.varint().unwrap();
        let count = reader.varint().unwrap();
        (0..count).map(|_| (reader.varint().unwrap(), reader.blob().unwrap().to_vec())).collect()
    };
    let mut run = Vec::new();
    run.put_varint(4_096);
    run.put_bytes(&columns(one).iter().find(|column| column.0 == 21).unwrap().1[1..]);
    let all = columns(many);
    let all: Vec<_> = all.iter().map(|(tag, bytes)| (*tag, if *tag == 21 { run.as_slice() } else { bytes.as_slice() })).collect();
    raw(4_096, &all)
}
