//! A whole repository by somebody hostile who holds all keys: opened, listed, checked, restored, collected.
//!
//! The input is taken apart into a list of entries, which becomes the tree of one snapshot, and a list of changes to other pieces. Everything
//! is sealed and signed anew. Nothing may panic, and nothing outside the target of the restore may be touched.

use super::{Change, Folder, Input, NOW, Reached, collecting, options};
use icecore::backend::{Backend, BackendExt, MemoryBackend, ObjectKind, ObjectName};
use icecore::backup::BackupOptions;
use icecore::browse::FindQuery;
use icecore::crypto::Secret;
use icecore::entry::{Entry, EntryKind, KeyKind};
use icecore::format::index_object::IndexBody;
use icecore::id::{IndexId, SnapshotId};
use icecore::progress::Silent;
use icecore::repair::RepairOptions;
use icecore::repository::{Key, LockEnd, Repository, Settings, Snapshot};
use icecore::restore::RestoreOptions;
use icecore::runtime::Runtime;
use icecore::testing::{Decoded, Keys, NodeValue, Part, Piece, read_tar, tree_leaf};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Entries that an input may ask for.
const ENTRIES_MAX: usize = 24;
/// Changes that an input may ask for.
const CHANGES_MAX: usize = 16;
/// Names that keys, links and targets are made of, most of them hostile.
const NAMES: [&[u8]; 16] =
    [b"a", b"b", b"link", b"..", b".", b"", b"a/b", b"/", b"outside", b"../outside", b"sentinel", b"\xff", b"a\nb", b"c", b"d", b"tmp"];
/// Bytes of a block of a tar stream.
const BLOCK: usize = 512;

struct Base {
    backend: MemoryBackend,
    keys: Keys,
    key: Key,
    /// What each snapshot holds, as a tar stream.
    whole: BTreeMap<SnapshotId, Vec<u8>>,
}

fn numbers(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// A folder with a file, a link, another name of the file, and a pipe.
fn archive(content: &[u8]) -> Vec<u8> {
    let member = |kind: u8, name: &[u8], target: &[u8], content: &[u8]| {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name);
        for (at, text) in [(100, "0000644\0"), (108, "0000000\0"), (116, "0000000\0"), (136, "14524617200\0"), (148, "        ")] {
            block[at..at + text.len()].copy_from_slice(text.as_bytes());
        }
        block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        block[156] = kind;
        block[157..157 + target.len()].copy_from_slice(target);
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block.extend_from_slice(content);
        block.resize(block.len().next_multiple_of(BLOCK), 0);
        block
    };
    let members = [
        member(b'5', b"a/", b"", b""),
        member(b'0', b"a/b", b"", content),
        member(b'2', b"a/link", b"b", b""),
        member(b'1', b"c", b"a/b", b""),
        member(b'6', b"d", b"", b""),
    ];
    [members.concat(), vec![0; 2 * BLOCK]].concat()
}

fn back_up(repository: &Repository, content: Vec<u8>) -> icecore::Result<Option<SnapshotId>> {
    let done = repository.backup_stream("name", Box::new(Cursor::new(content)), &BackupOptions::new("series"), &Silent)?;
    Ok(done.snapshot)
}

/// Streams with a recipe, the later one against the earlier, and a folder; what garbage collection left of one that was forgotten, a hold, a
/// lock, and a sidecar of everything. Small, since most of the time goes into signatures and secrets.
static BASE: LazyLock<Base> = LazyLock::new(|| {
    let backend = MemoryBackend::new();
    let key = Key::KeyFile(Secret::new([5; 32]));
    let runtime = Runtime::seeded(1, NOW, 1);
    let mut options = options();
    options.parity_percent = 5;
    let made = Repository::create(Arc::new(backend.clone()), runtime, &key, &options, Settings::default()).expect("a repository is made");
    let mut stream = noise(1, 16_000);
    stream.extend(numbers(14_000));
    // Of each of its frames a little is needed by the others.
    let scattered = stream[..8_000].chunks(1_600).zip(2..).flat_map(|(part, seed)| [part, &noise(seed, 6_400)].concat()).collect();
    let first = back_up(&made, scattered).expect("a stream is stored").expect("there is a snapshot");
    back_up(&made, stream.clone()).expect("a stream is stored");
    (0..4).for_each(|at| stream[2_000 + 7_000 * at] ^= 1);
    let held = back_up(&made, stream.clone()).expect("a stream is stored").expect("there is a snapshot");
    let tar = Box::new(Cursor::new(archive(&stream[..12_000])));
    made.backup_tar("name", tar, &BackupOptions::new("folder"), &Silent).expect("a folder is stored");
    made.forget(&[first], &Silent).expect("it is forgotten");
    made.gc(&collecting(), &Silent).expect("it is collected");
    made.hold(&[held], "note").expect("it is held");
    made.lock(&[held], LockEnd::After(Duration::from_secs(86_400)), "", &Silent).expect("it is locked");
    let keys = Keys::of_repository(&made);
    put_index(&backend, &keys);
    for kind in [ObjectKind::Index, ObjectKind::Epoch, ObjectKind::Relocation, ObjectKind::Withdrawn, ObjectKind::Hold, ObjectKind::Parity]
    {
        assert!(!backend.list_sorted(kind).expect("memory lists").is_empty(), "{kind:?}");
    }
    let whole = made.snapshots().expect("they are listed").iter().map(|snapshot| (snapshot.id, tar_of(&made, snapshot))).collect();
    Base { keys, backend, key, whole }
});

/// Puts an index object there that tells of all packs: the engine writes none for so few.
fn put_index(backend: &MemoryBackend, keys: &Keys) {
    let mut body = IndexBody { sessions: Vec::new(), packs: Vec::new() };
    for kind in [ObjectKind::DataPack, ObjectKind::MetaPack, ObjectKind::RefsPack] {
        for name in backend.list_sorted(kind).expect("memory lists").into_iter().map(|object| object.name) {
            let bytes = backend.get(&name, u64::MAX).expect("it is there");
            let piece = Piece::Object { name, before: None, seed: None };
            let Ok(Decoded::Pack(tables)) = keys.decode(&piece, &bytes).map(|reading| reading.value) else { panic!("{name} is no pack") };
            // In the order in which frames first use them.
            let of_frames = tables.contents.frames.iter().filter_map(|frame| tables.sessions.iter().find(|of| of.id() == frame.id.session));
            for session in of_frames {
                if !body.sessions.contains(session) {
                    body.sessions.push(session.clone());
                }
            }
            body.packs.push((kind, name.pack_id().expect("it is a pack"), tables.contents));
        }
    }
    let name = ObjectName::index(IndexId([1; 16]));
    backend.put(&name, &keys.seal(name, body.encode()).expect("he has all keys")).expect("memory takes it");
}

fn tar_of(repository: &Repository, snapshot: &Snapshot) -> Vec<u8> {
    let mut tar = Vec::new();
    repository.restore_to_tar(snapshot, None, &mut tar, &Silent).expect("it is restored");
    tar
}

/// Makes the repository that `data` asks for, and does everything with it.
pub(super) fn run(data: &[u8], reached: &mut Reached) {
    let mut input = Input(data);
    let (plan, folder) = (Plan::read(&mut input), Folder::make());
    let mut number = 0_u8;
    let backend = BASE.keys.rewrite(&BASE.backend, &mut |part, bytes| {
        if part == Part::Tree {
            plan.replace_tree(bytes, &folder.outside());
        }
        plan.changes.iter().filter(|change| change.piece == number).for_each(|change| change.apply(bytes));
        number = number.wrapping_add(1);
    });
    let backend: Arc<dyn Backend> = Arc::new(backend.expect("the base is whole"));
    let open = |seed| Repository::open(Arc::clone(&backend), Runtime::seeded(seed, NOW, 1), &BASE.key, Settings::default());
    if plan.is_whole {
        assert_whole(&open(3).expect("what is only sealed anew opens"));
        reached.note("whole again");
    }
    let Ok(opened) = open(2) else { return };
    reached.note("opened");
    if plan.does(1) {
        let found = opened.scrub(&Silent).is_ok_and(|report| !report.findings.is_empty());
        reached.note(if found { "scrubbed, damage" } else { "scrubbed" });
        let _ = opened.check(&Silent);
    }
    let Ok((snapshots, _)) = opened.snapshots_and_problems() else { return };
    for (index, snapshot) in snapshots.iter().enumerate() {
        if plan.does(2) {
            read(&opened, snapshot, reached);
        }
        let target = folder.target(index);
        restore(&plan, &opened, snapshot, &target, reached);
    }
    if plan.does(0x20)
        && let [first, .., last] = &snapshots[..]
    {
        let _ = opened.diff(first, last, None, &Silent, &mut |_| Ok(()));
        let _ = opened.find(&snapshots, &FindQuery::default(), &Silent);
        reached.note("compared");
    }
    if plan.does(0x40) {
        // With what is there as what it stands on.
        let made = back_up(&opened, numbers(30_100));
        let tar = Box::new(Cursor::new(archive(&numbers(12_100))));
        let _ = opened.backup_tar("name", tar, &BackupOptions::new("folder"), &Silent);
        if made.is_ok() {
            reached.note("backed up onto it");
        }
    }
    if plan.does(0x80) {
        let mut options = RepairOptions::default();
        options.salvage = plan.does(1);
        let repaired = opened.repair(&options, &Silent).is_ok();
        reached.note(if repaired { "repaired" } else { "not repaired" });
    }
    if plan.does(8) {
        snapshots.iter().for_each(|snapshot| drop(opened.forget(&[snapshot.id], &Silent)));
    }
    if plan.does(16) {
        let collected = opened.gc(&collecting(), &Silent).is_ok();
        reached.note(if collected { "collected" } else { "not collected" });
        let _ = opened.snapshots_and_problems();
    }
    folder.check();
}

/// Nothing is found, and every snapshot has in it what it had.
fn assert_whole(repository: &Repository) {
    let report = repository.scrub(&Silent).expect("it is scrubbed");
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    let snapshots = repository.snapshots().expect("they are listed");
    let found: BTreeMap<_, _> = snapshots.iter().map(|snapshot| (snapshot.id, tar_of(repository, snapshot))).collect();
    assert!(found == BASE.whole);
}

/// Everything that only reads. What becomes a tar stream leads nobody who unpacks it elsewhere.
fn read(opened: &Repository, snapshot: &Snapshot, reached: &mut Reached) {
    let mut no_folders = BTreeSet::new();
    let listed = opened.for_each_entry(snapshot, None, &mut |entry| {
        if entry.kind != EntryKind::Folder {
            no_folders.insert(entry.key);
        }
        Ok(())
    });
    let _ = opened.restore_to_writer(snapshot, None, &mut std::io::sink(), &Silent);
    let mut tar = Vec::new();
    if opened.restore_to_tar(snapshot, None, &mut tar, &Silent).is_err() || listed.is_err() {
        return;
    }
    let (members, told) = read_tar(&tar[..]).expect("it is a tar stream");
    assert_eq!(told, 0, "members that were better skipped");
    for member in &members {
        let components: Vec<_> = member.key.split(|byte| *byte == 0).collect();
        let is_name = |name: &&[u8]| !name.is_empty() && ![&b"."[..], b".."].contains(name) && !name.contains(&b'/');
        assert!(member.key.is_empty() || components.iter().all(is_name), "{member:?}");
        let above = (1..components.len()).map(|count| components[..count].join(&0));
        assert!(above.into_iter().all(|key| !no_folders.contains(&key)), "{member:?} is below what is no folder");
    }
    reached.note("a tar stream");
}

fn restore(plan: &Plan, opened: &Repository, snapshot: &Snapshot, target: &Path, reached: &mut Reached) {
    let done = opened.restore(snapshot, target, &RestoreOptions::default(), &Silent);
    reached.note(if done.is_ok_and(|done| done.items_failed == 0) { "restored whole" } else { "restored in part" });
    if plan.does(4) {
        // Once more, onto what is there now.
        let _ = opened.restore(snapshot, target, &RestoreOptions::default(), &Silent);
    }
    if plan.does(0x100) {
        let mut options = RestoreOptions::default();
        options.delete = true;
        let _ = opened.restore(snapshot, target, &options, &Silent);
        reached.note("restored with what is not there deleted");
    }
}

struct Plan {
    /// Entries without content, or none: the trees stay as they are.
    entries: Vec<(Vec<u8>, u8, Vec<u8>)>,
    changes: Vec<Change>,
    /// It is only sealed anew, and what is whole has to come back.
    is_whole: bool,
    /// What is done beside a restore, a bit each.
    extras: u16,
}

impl Plan {
    fn read(input: &mut Input<'_>) -> Self {
        let extras = u16::from_le_bytes([input.byte(), input.byte()]);
        if extras & 0xe000 == 0xe000 {
            return Self { entries: Vec::new(), changes: Vec::new(), is_whole: true, extras };
        }
        let count = usize::from(input.byte()) % ENTRIES_MAX;
        let entries = (0..count).map(|_| (input.path(&NAMES, 0), input.byte(), input.path(&NAMES, b'/'))).collect();
        let count = usize::from(input.byte()) % CHANGES_MAX;
        let changes = (0..count).map(|_| Change::read(input)).collect();
        Self { entries, changes, is_whole: false, extras }
    }

    fn does(&self, bit: u16) -> bool {
        self.extras & bit != 0
    }

    /// Puts the entries in the place of those that the tree has; files get the content of the file that was there.
    fn replace_tree(&self, bytes: &mut Vec<u8>, outside: &[PathBuf; 2]) {
        let piece = Piece::TreeNode { key_kind: KeyKind::Paths, level: None };
        let Ok(Decoded::Node(NodeValue::Entries(Some(found), _))) = BASE.keys.decode(&piece, bytes).map(|reading| reading.value) else {
            return;
        };
        let file = found.iter().find(|entry| matches!(entry.kind, EntryKind::File(_)));
        let Some(file) = file.filter(|_| !self.entries.is_empty()) else { return };
        let mut entries: Vec<Entry> = self.entries.iter().map(|(key, kind, link)| entry(file, key, *kind, link, outside)).collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries.dedup_by(|a, b| a.key == b.key);
        *bytes = tree_leaf(&entries);
    }
}

fn entry(file: &Entry, key: &[u8], choice: u8, link: &[u8], outside: &[PathBuf; 2]) -> Entry {
    let kind = match choice % 8 {
        0 | 1 => file.kind.clone(),
        2 | 3 => EntryKind::Folder,
        4 => EntryKind::Symlink(if link.is_empty() { b"../../outside".to_vec() } else { link.to_vec() }),
        // Some lead out by their full path.
        5 => EntryKind::Symlink(outside[usize::from(choice >> 3) % 2].as_os_str().as_bytes().to_vec()),
        6 => EntryKind::HardLink(link.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect()),
        _ => EntryKind::Fifo,
    };
    let mut metadata = match kind {
        EntryKind::HardLink(_) => Default::default(),
        _ => file.metadata.clone(),
    };
    if choice & 0x80 != 0 && !matches!(kind, EntryKind::HardLink(_)) {
        metadata.mode = u32::from(choice) << 4 & 0o7777;
        metadata.xattrs = vec![(b"user.x".to_vec(), link.to_vec())];
    }
    Entry { key: key.to_vec(), kind, metadata }
}
