//! Repositories that somebody made who holds all keys: right in every hash, seal and signature, and absurd beneath. And such of a newer
//! release.

use crate::home::{Home, finish, noise};
use icecore::backend::{BackendExt, MemoryBackend, ObjectKind, ObjectName};
use icecore::backup::BackupOptions;
use icecore::crypto::Secret;
use icecore::entry::{ChunkList, Entry, EntryKind, FileContent, KeyKind, Metadata};
use icecore::format::config::CutMethod;
use icecore::format::index_object::IndexBody;
use icecore::format::placement::{PlacementBody, TierBody};
use icecore::format::{ContentsTable, FrameRecord};
use icecore::gc::GcOptions;
use icecore::id::{ChunkId, IndexId, PackId, PlacementId};
use icecore::progress::Silent;
use icecore::repository::{CreateOptions, Key, LockEnd, Repository, Settings};
use icecore::runtime::{Runtime, Timestamp};
use icecore::source::{Roots, SourceOptions};
use icecore::testing::{Decoded, Keys, NodeValue, Part, Piece, tree_leaf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A repository with a snapshot of a few files, and one of a stream that is cut into many chunks.
struct Base {
    backend: MemoryBackend,
    keys: Keys,
    key: Key,
}

impl Base {
    fn new(stream_length: usize) -> Self {
        let mut options = CreateOptions::default();
        options.data_frame_size = 256 << 10;
        options.meta_frame_size = 64 << 10;
        options.cut = CutMethod::Content { min: 64, average: 256, max: 1024 };
        Self::with(&options, stream_length).0
    }

    fn with(options: &CreateOptions, stream_length: usize) -> (Self, Repository) {
        let (backend, key) = (MemoryBackend::new(), Key::KeyFile(Secret::new([5; 32])));
        let runtime = Runtime::seeded(1, Timestamp { seconds: 1_800_000_000, nanoseconds: 0 }, 1);
        let made = Repository::create(Arc::new(backend.clone()), runtime, &key, options, Settings::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for number in 0..5 {
            std::fs::write(folder.path().join(number.to_string()), noise(number, 100 << number)).unwrap();
        }
        let roots = Roots::resolve(&[folder.path().join(".")]).unwrap();
        made.backup(&roots, &SourceOptions::default(), &BackupOptions::new("files"), &Silent).unwrap();
        let stream = std::io::Cursor::new(noise(9, stream_length));
        made.backup_stream("dump", Box::new(stream), &BackupOptions::new("dump"), &Silent).unwrap();
        (Self { keys: Keys::of_repository(&made), backend, key }, made)
    }

    /// With an object of every kind that the program writes: index objects, what a garbage collection leaves, a hold, a tier, sidecars.
    fn with_all_kinds() -> Self {
        let mut options = CreateOptions::default();
        (options.pack_size, options.data_frame_size, options.meta_frame_size) = (65_536, 16 << 10, 16 << 10);
        options.cut = CutMethod::Content { min: 512, average: 1024, max: 4096 };
        options.parity_percent = 5;
        let (base, made) = Self::with(&options, 600_000);
        let stream = |content: Vec<u8>| {
            let content = Box::new(std::io::Cursor::new(content));
            made.backup_stream("dump", content, &BackupOptions::new("other"), &Silent).unwrap().snapshot.unwrap()
        };
        // Of each frame of the first two a little is needed by the third.
        let parts = |own: u64| (0..10).flat_map(move |part| [noise(100 + part, 3_000), noise(own + part, 13_000)].concat()).collect();
        let [first, second, third] = [200, 300, 400].map(|own| stream(parts(own)));
        made.forget(&[first, second], &Silent).unwrap();
        let mut collecting = GcOptions::default();
        collecting.dead_percent_max = 0;
        made.gc(&collecting, &Silent).unwrap();
        made.hold(&[third], "note").unwrap();
        made.lock(&[third], LockEnd::After(Duration::from_secs(86_400)), "", &Silent).unwrap();
        let (tier, name) = (TierBody::new("cold", "/nowhere"), ObjectName::placement(PlacementId([1; 16])));
        let tier = PlacementBody::Tier(Box::new(TierBody { tier: icecore::id::TierId([2; 16]), ..tier }));
        base.backend.put(&name, &base.keys.seal(name, tier.encode()).unwrap()).unwrap();
        base
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

/// The largest number of each encoding.
const LARGEST: [&[u8]; 3] = [&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], &[0xff; 4], &[0xff, 0xff, 0xff, 0x7f]];

/// In the place of what stands there: one byte for a varint.
fn put_number(bytes: &mut Vec<u8>, at: usize, number: &[u8]) {
    if at < bytes.len() {
        let end = if number.len() == 4 { bytes.len().min(at + 4) } else { at + 1 };
        bytes.splice(at..end, number.iter().copied());
    }
}

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
    let mut refused = 0;
    for (turn, part) in parts.into_iter().enumerate() {
        for at in 0..6 {
            let number = LARGEST[(turn + at) % 3];
            let home = rewritten(base(), &mut |found, bytes| {
                if found == part {
                    put_number(bytes, at, number);
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

/// The same of the kinds that take more to be there, and with the commands that go by them.
#[test]
fn counts_and_lengths_of_what_collectors_and_movers_write_take_no_memory() {
    let base = Base::with_all_kinds();
    let kinds = [ObjectKind::Index, ObjectKind::Epoch, ObjectKind::Relocation, ObjectKind::Hold, ObjectKind::Placement, ObjectKind::Parity];
    let commands: [&[&str]; 6] = [&["check"], &["gc"], &["repair"], &["scrub"], &["repair", "--apply"], &RESTORE];
    let mut refused = 0;
    for (turn, kind) in kinds.into_iter().enumerate() {
        assert!(!base.backend.list_sorted(kind).unwrap().is_empty(), "{kind:?}");
        // Where counts stand: at the beginning, behind an id and a time, behind what is above.
        for (at, number) in [0, 4, 16, 28, 40, 60, 72, 81].into_iter().zip(LARGEST.into_iter().cycle().skip(turn)) {
            let home = rewritten(&base, &mut |found, bytes| {
                if found == Part::Object(kind) {
                    put_number(bytes, at, number);
                }
            });
            for arguments in [commands[at % 3], commands[3 + at % 3]] {
                let (code, said) = finish(&mut home.command(arguments));
                assert!(matches!(code, 0 | 1 | 3 | 12 | 14), "{kind:?} at {at}, {arguments:?}: {code}\n{said}");
                assert!(code == 0 || said.len() > 40, "{kind:?} at {at}, {arguments:?}: {code}\n{said}");
                refused += usize::from(code != 0);
            }
        }
    }
    assert!(refused > 40, "{refused}");
}

/// As many frames as find room, in packs that are there and in packs that are not; by somebody who is believed.
#[test]
fn an_index_object_as_large_as_may_be_takes_no_more_memory_than_is_there() {
    let (base, keys) = (base(), &base().keys);
    let pack = only(ObjectKind::DataPack);
    let piece = Piece::Object { name: pack, before: None, seed: None };
    let Decoded::Pack(tables) = keys.decode(&piece, &base.backend.get(&pack, u64::MAX).unwrap()).unwrap().value else { unreachable!() };
    let template = tables.contents.frames[0].clone();
    let frame = |number: u32| {
        let mut id = [7; ChunkId::LENGTH];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let mut frame = FrameRecord { chunks: vec![ChunkId(id)], ..template.clone() };
        frame.id.number = template.id.number & 3 << 30 | number;
        frame
    };
    let body = |count: u32, frames_each: u32| {
        let contents = |first: u32| ContentsTable { frames: (first..count.min(first + frames_each)).map(frame).collect() };
        let names = (0..).map(|number: u32| match number {
            0 => pack.pack_id().unwrap(),
            _ => PackId([&[0xff; 12][..], &number.to_be_bytes()].concat().try_into().unwrap()),
        });
        let packs = (0..count).step_by(frames_each as usize).zip(names);
        IndexBody {
            sessions: tables.sessions[..1].to_vec(),
            packs: packs.map(|(first, name)| (ObjectKind::DataPack, name, contents(first))).collect(),
        }
    };
    let size_max = ObjectKind::Index.size_max() as usize;
    let each = (body(20_000, 10_000).encode().len() - body(10_000, 10_000).encode().len()) / 10_000;
    // Few packs with as many frames as may be, and many packs with one.
    for (frames_each, room) in [(65_536, 1 << 20), (11, 6 << 20)] {
        let name = ObjectName::index(IndexId([1; 16]));
        let object =
            keys.seal(name, body(((size_max - room) / (each + 18 / frames_each as usize + 1)) as u32, frames_each).encode()).unwrap();
        assert!(object.len() <= size_max && object.len() > size_max * 4 / 5, "{} of {size_max}", object.len());
        let home = home_of(&base.backend);
        home.set(&name.to_string(), Some(&object));
        for arguments in [&["check"][..], &["gc"], &["repair"], &RESTORE] {
            let (code, said) = finish(&mut home.command(arguments));
            assert!(matches!(code, 0 | 1 | 3 | 14), "{arguments:?}: {code}\n{said}");
        }
    }
}

/// Everything that whoever makes a snapshot says of it, and damage, so that errors say it again.
#[test]
fn what_a_repository_says_of_itself_does_not_reach_the_terminal_as_it_is() {
    let evil = |what: &str| format!("{what}\u{1b}]0;x\u{7}\u{1b}[2J\u{9b}31m\r\u{8}\u{7f}y");
    let (backend, key) = (MemoryBackend::new(), Key::KeyFile(Secret::new([5; 32])));
    let runtime = Runtime::seeded(1, Timestamp { seconds: 1_800_000_000, nanoseconds: 0 }, 1);
    let made = Repository::create(Arc::new(backend.clone()), runtime, &key, &CreateOptions::default(), Settings::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(evil("folder"))).unwrap();
    std::fs::write(folder.path().join(evil("folder")).join(evil("file")), noise(1, 300_000)).unwrap();
    std::os::unix::fs::symlink(evil("target"), folder.path().join(evil("link"))).unwrap();
    let mut options = BackupOptions::new(evil("series"));
    (options.host, options.program, options.tags) = (evil("host"), evil("program"), vec![evil("tag")]);
    let back_up = |path: std::path::PathBuf| {
        let roots = Roots::resolve(&[path]).unwrap();
        made.backup(&roots, &SourceOptions::default(), &options, &Silent).unwrap().snapshot.unwrap()
    };
    let [first, last] = [folder.path().join(evil("folder")), folder.path().join(".")].map(back_up);
    made.hold(&[first], &evil("note")).unwrap();
    let (first, last) = (first.to_string(), last.to_string());
    let home = home_of(&backend);
    let shows = |arguments: &[&str], codes: &[i32], words: &[&str]| {
        let (code, said) = finish(&mut home.command(arguments));
        assert!(codes.contains(&code), "{arguments:?}: {code}\n{said}");
        assert!(said.chars().all(|character| character == '\n' || !character.is_control()), "{arguments:?}: {said:?}");
        for word in words {
            assert!(said.contains(word), "{arguments:?} does not say {word}: {said}");
        }
    };
    let all: [(&[&str], &[&str]); 9] = [
        (&["snapshots"], &["series", "tag"]),
        (&["ls", "latest", "-lR"], &["folder", "file", "link", "target"]),
        (&["find", "*file*"], &["folder", "file"]),
        (&["diff", &first, &last], &["link"]),
        (&["hold", "list"], &["note"]),
        (&["forget", "--keep-last", "1", "--dry-run"], &["series"]),
        (&["stats"], &[]),
        (&["check"], &[]),
        (&["restore", "latest", "--target", "t", "--dry-run"], &["file"]),
    ];
    for (arguments, words) in all {
        shows(arguments, &[0], words);
    }
    let pack = backend.list_sorted(ObjectKind::DataPack).unwrap()[0].name;
    home.set(&pack.to_string(), None);
    shows(&["check"], &[14], &["file"]);
    shows(&["restore", "latest", "--target", "t"], &[14], &["file"]);
    shows(&["snapshots", "--series", &evil("serie")], &[0], &["did you mean"]);
    shows(&["restore", "latest", "--series", "another", "--target", "t"], &[1, 10], &["series"]);
    shows(&["restore", &first, "--series", "another", "--target", "t"], &[1, 10], &["series"]);
    shows(&["restore", &evil("no id"), "--target", "t"], &[1, 2], &[]);
    shows(&["repair", "--apply", "--salvage"], &[0, 14], &[]);
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
    let dry = ["restore", "latest", "--series", "dump", "--target", "t", "--dry-run"];
    for arguments in [&dry[..], &["check"], &["scrub"], &["gc"], &["repair"], &["ls", "latest", "-R"]] {
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
