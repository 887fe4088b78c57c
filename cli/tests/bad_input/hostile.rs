//! Repositories that somebody made who holds all keys: right in every hash, seal and signature, and absurd beneath. And such of a newer
//! release.

use crate::home::{Home, finish, noise};
use icecore::backend::{BackendExt, MemoryBackend, ObjectKind, ObjectName};
use icecore::backup::BackupOptions;
use icecore::crypto::Secret;
use icecore::entry::{ChunkList, Entry, EntryKind, FileContent, KeyKind, Metadata};
use icecore::format::config::CutMethod;
use icecore::progress::Silent;
use icecore::repository::{CreateOptions, Key, Repository, Settings};
use icecore::runtime::{Runtime, Timestamp};
use icecore::source::{Roots, SourceOptions};
use icecore::testing::{Decoded, Keys, NodeValue, Part, Piece, tree_leaf};
use std::sync::{Arc, OnceLock};

/// A repository with a snapshot of a few files, and one of a stream that is cut into many chunks.
struct Base {
    backend: MemoryBackend,
    keys: Keys,
    key: Key,
}

impl Base {
    fn new(stream_length: usize) -> Self {
        let (backend, key) = (MemoryBackend::new(), Key::KeyFile(Secret::new([5; 32])));
        let mut options = CreateOptions::default();
        options.data_frame_size = 256 << 10;
        options.meta_frame_size = 64 << 10;
        options.cut = CutMethod::Content { min: 64, average: 256, max: 1024 };
        let runtime = Runtime::seeded(1, Timestamp { seconds: 1_800_000_000, nanoseconds: 0 }, 1);
        let made = Repository::create(Arc::new(backend.clone()), runtime, &key, &options, Settings::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for number in 0..5 {
            std::fs::write(folder.path().join(number.to_string()), noise(number, 100 << number)).unwrap();
        }
        let roots = Roots::resolve(&[folder.path().join(".")]).unwrap();
        made.backup(&roots, &SourceOptions::default(), &BackupOptions::new("files"), &Silent).unwrap();
        let stream = std::io::Cursor::new(noise(9, stream_length));
        made.backup_stream("dump", Box::new(stream), &BackupOptions::new("dump"), &Silent).unwrap();
        Self { keys: Keys::of_repository(&made), backend, key }
    }
}

/// With as little as there must be, since it is written anew many times.
fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| Base::new(40_000))
}

/// Puts all objects into a folder, with the key file beside it.
fn home_of(backend: &MemoryBackend) -> Home {
    let home = Home::empty();
    for kind in ObjectKind::ALL {
        for object in backend.list_sorted(kind).unwrap() {
            home.set(&object.name.to_string(), Some(&backend.get(&object.name, u64::MAX).unwrap()));
        }
    }
    home.write("k", base().key.to_key_file().unwrap().as_bytes());
    home
}

/// The base with pieces changed beneath their seals.
fn rewritten(base: &Base, change: &mut dyn FnMut(Part, &mut Vec<u8>)) -> Home {
    home_of(&base.keys.rewrite(&base.backend, change).unwrap())
}

/// The base with one object sealed anew from other bytes.
fn with_object(name: ObjectName, change: impl FnOnce(&mut Vec<u8>)) -> Home {
    let home = home_of(&base().backend);
    let mut body = base().keys.open(&name, &base().backend.get(&name, u64::MAX).unwrap()).unwrap();
    change(&mut body);
    home.set(&name.to_string(), Some(&base().keys.seal(name, body).unwrap()));
    home
}

fn only(kind: ObjectKind) -> ObjectName {
    base().backend.list_sorted(kind).unwrap()[0].name
}

const RESTORE: [&str; 6] = ["restore", "latest", "--series", "files", "--target", "t"];
const READ: [&[&str]; 4] = [&RESTORE, &["scrub"], &["ls", "latest", "-R"], &["snapshots"]];

#[test]
fn counts_and_lengths_beyond_all_limits_take_no_memory() {
    let parts = [
        Part::Tree,
        Part::Recipe,
        Part::Refs,
        Part::Frame,
        Part::Tables,
        Part::SnapshotHeader,
        Part::SnapshotBody,
        Part::Object(ObjectKind::Config),
        Part::Object(ObjectKind::Session),
        Part::Object(ObjectKind::Closed),
    ];
    // The largest number of each encoding.
    let numbers: [&[u8]; 3] = [&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], &[0xff; 4], &[0xff, 0xff, 0xff, 0x7f]];
    let mut refused = 0;
    for (turn, part) in parts.into_iter().enumerate() {
        for at in 0..6 {
            let number = numbers[(turn + at) % 3];
            let home = rewritten(base(), &mut |found, bytes| {
                if found == part && at < bytes.len() {
                    let end = if number.len() == 4 { bytes.len().min(at + 4) } else { at + 1 };
                    bytes.splice(at..end, number.iter().copied());
                }
            });
            for arguments in [READ[at % 2], READ[2 + at % 2]] {
                let (code, said) = finish(&mut home.command(arguments));
                assert!(matches!(code, 0 | 1 | 3 | 12 | 14), "{part:?} at {at}, {arguments:?}: {code}\n{said}");
                assert!(code == 0 || said.len() > 40, "{part:?} at {at}, {arguments:?}: {code}\n{said}");
                refused += usize::from(code != 0);
            }
        }
    }
    assert!(refused > 40, "{refused}");
}

/// A tree of these entries in the place of the one of the series `files`.
fn with_tree(entries: &[Entry]) -> Home {
    rewritten(base(), &mut |part, bytes| {
        let piece = Piece::TreeNode { key_kind: KeyKind::Paths, level: None };
        if part == Part::Tree
            && let Ok(Decoded::Node(NodeValue::Entries(Some(found), _))) = base().keys.decode(&piece, bytes).map(|reading| reading.value)
            && found.len() > 1
        {
            *bytes = tree_leaf(entries);
        }
    })
}

fn entry(key: Vec<u8>, kind: EntryKind) -> Entry {
    Entry { key, kind, metadata: Metadata { mode: 0o755, ..Metadata::default() } }
}

#[test]
fn an_absurdly_deep_path_neither_recurses_nor_opens_everything() {
    let depth = 2_000;
    let key = |depth: usize| vec![&b"d"[..]; depth].join(&0);
    let folders = (1..depth).map(|depth| entry(key(depth), EntryKind::Folder));
    let root = entry(Vec::new(), EntryKind::Folder);
    let home = with_tree(&std::iter::once(root.clone()).chain(folders).collect::<Vec<_>>());
    for arguments in READ {
        let (code, said) = finish(&mut home.command(arguments));
        assert!(matches!(code, 0 | 3 | 14), "{arguments:?}: {code}\n{said}");
    }
    assert!(std::process::Command::new("rm").args(["-rf"]).arg(home.path("t")).status().unwrap().success());
    // As long as a key may be, with nothing above the file.
    let home = with_tree(&[root, entry(key(32_000), EntryKind::File(FileContent::default()))]);
    for arguments in READ {
        let (code, said) = finish(&mut home.command(arguments));
        assert!(matches!(code, 0 | 3 | 14), "{arguments:?}: {code}\n{said}");
    }
    assert!(std::process::Command::new("rm").args(["-rf"]).arg(home.path("t")).status().unwrap().success());
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

#[test]
fn a_few_nodes_that_stand_for_millions_of_chunks_take_no_memory() {
    const TIMES: u64 = 1024;
    let base = Base::new(4 << 20);
    let mut sizes = None;
    let home = rewritten(&base, &mut |part, bytes| match part {
        Part::Recipe => {
            let decoded = base.keys.decode(&Piece::RecipeNode(None), bytes);
            if let Ok(Decoded::Node(NodeValue::RecipeChildren(level, children))) = decoded.map(|reading| reading.value) {
                // The same child over and over again.
                let (id, chunks, length) = children[0];
                let child = [&id.0[..], &varint(chunks), &varint(length)].concat();
                *bytes = [&[4, level][..], &varint(TIMES), &child.repeat(TIMES as usize)].concat();
                sizes = Some((chunks * TIMES, length * TIMES));
            }
        }
        Part::Tree => {
            let piece = Piece::TreeNode { key_kind: KeyKind::Paths, level: None };
            if let (Some((_, size)), Ok(Decoded::Node(NodeValue::Entries(Some(mut entries), _)))) =
                (sizes, base.keys.decode(&piece, bytes).map(|reading| reading.value))
            {
                for entry in &mut entries {
                    if let EntryKind::File(FileContent { size: old, chunks: ChunkList::Recipe(_), .. }) = &mut entry.kind {
                        *old = size;
                    }
                }
                *bytes = tree_leaf(&entries);
            }
        }
        _ => {}
    });
    let (chunks, _) = sizes.unwrap();
    assert!(chunks >= 1 << 22, "{chunks}");
    for arguments in [&["restore", "latest", "--series", "dump", "--target", "t", "--dry-run"][..], &["check"], &["ls", "latest", "-R"]] {
        let (code, said) = finish(&mut home.command(arguments));
        assert!(matches!(code, 0 | 14), "{arguments:?}: {code}\n{said}");
        println!("{arguments:?}: {code}\n{said}");
    }
}

#[test]
fn a_slot_that_asks_for_absurd_memory_is_refused_before_it_gets_it() {
    let slot = only(ObjectKind::Slot);
    for (memory_kib, passes, lanes) in [(u32::MAX, 3, 4), (65_537, 3, 4), (65_536, u32::MAX, 4), (65_536, 3, u32::MAX), (0, 0, 0)] {
        let home = with_object(slot, |body| {
            body[0] = 1;
            for (at, number) in [(4, memory_kib), (8, passes), (12, lanes)] {
                body[at..at + 4].copy_from_slice(&number.to_le_bytes());
            }
        });
        home.write("password", "correct horse");
        let words = [&slot.to_string(), "Argon2id", &memory_kib.to_string(), "copy of the repository"];
        home.run(14, &["snapshots", "--password-file", "password"], &words);
    }
}

#[test]
fn what_a_newer_release_wrote_is_named_and_left_alone() {
    let config = only(ObjectKind::Config);
    // Optional flags, flags for writers, required flags: eight bytes each.
    let with_flag = |at: usize| with_object(config, |body| body[at] |= 0x20);
    let home = with_flag(16);
    for arguments in [&["snapshots"][..], &["check"], &["backup", "k"], &["gc"]] {
        home.run(1, arguments, &["feature flag 5", "upgrade", &config.to_string()]);
    }
    let home = with_flag(8);
    home.run(0, &["snapshots"], &[]);
    home.run(0, &["check"], &[]);
    for arguments in [&["backup", "k"][..], &["gc"]] {
        home.run(1, arguments, &["feature flag", "upgrade"]);
    }
    with_flag(0).run(0, &["backup", "k"], &[]);
    // Another version of one object.
    for kind in [ObjectKind::Config, ObjectKind::Snapshot, ObjectKind::DataPack] {
        let (home, name) = (home_of(&base().backend), only(kind));
        let mut bytes = home.object(&name.to_string());
        bytes[8] = 2;
        home.set(&name.to_string(), Some(&bytes));
        let (code, said) = finish(&mut home.command(&["check"]));
        let words = ["format version 2", "newer icecore", &name.to_string()];
        assert!(matches!(code, 1 | 14) && words.iter().all(|word| said.contains(word)), "{kind:?}: {code}: {said}");
    }
}
