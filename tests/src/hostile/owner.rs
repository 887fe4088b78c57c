//! A whole repository by somebody hostile who holds all keys: opened, listed, checked, restored, collected.
//!
//! The input is taken apart into a list of entries, which becomes the tree of one snapshot, and a list of changes to other pieces. Everything
//! is sealed and signed anew. Nothing may panic, and nothing outside the target of the restore may be touched.

use super::{Change, Folder, Input, NOW, Reached, collecting, options};
use icecore::backend::MemoryBackend;
use icecore::backup::BackupOptions;
use icecore::crypto::Secret;
use icecore::entry::{Entry, EntryKind, KeyKind};
use icecore::progress::Silent;
use icecore::repository::{Key, Repository, Settings};
use icecore::restore::RestoreOptions;
use icecore::runtime::Runtime;
use icecore::testing::{Decoded, Keys, NodeValue, Part, Piece, tree_leaf};
use std::sync::{Arc, LazyLock};

/// Entries that an input may ask for.
const ENTRIES_MAX: usize = 24;
/// Changes that an input may ask for.
const CHANGES_MAX: usize = 16;
/// Names that keys, links and targets are made of, most of them hostile.
const NAMES: [&[u8]; 16] =
    [b"a", b"b", b"link", b"..", b".", b"", b"a/b", b"/", b"outside", b"../outside", b"sentinel", b"\xff", b"a\nb", b"c", b"d", b"tmp"];

struct Base {
    backend: MemoryBackend,
    keys: Keys,
    key: Key,
}

/// A snapshot of a stream with a recipe. Small, since most of the time goes into signatures and secrets.
static BASE: LazyLock<Base> = LazyLock::new(|| {
    let backend = MemoryBackend::new();
    let key = Key::KeyFile(Secret::new([5; 32]));
    let runtime = Runtime::seeded(1, NOW, 1);
    let made = Repository::create(Arc::new(backend.clone()), runtime, &key, &options(), Settings::default()).expect("a repository is made");
    let stream: Vec<u8> = (0..30_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    made.backup_stream("name", Box::new(std::io::Cursor::new(stream)), &BackupOptions::new("series"), &Silent).expect("a stream is stored");
    Base { keys: Keys::of_repository(&made), backend, key }
});

/// Makes the repository that `data` asks for, and does everything with it.
pub(super) fn run(data: &[u8], reached: &mut Reached) {
    let mut input = Input(data);
    let plan = Plan::read(&mut input);
    let mut number = 0_u8;
    let backend = BASE.keys.rewrite(&BASE.backend, &mut |part, bytes| {
        if part == Part::Tree {
            plan.replace_tree(bytes);
        }
        plan.changes.iter().filter(|change| change.piece == number).for_each(|change| change.apply(bytes));
        number = number.wrapping_add(1);
    });
    let backend = backend.expect("the base is whole");
    let runtime = Runtime::seeded(2, NOW, 1);
    let Ok(opened) = Repository::open(Arc::new(backend), runtime, &BASE.key, Settings::default()) else { return };
    reached.note("opened");
    if plan.extras & 1 != 0 {
        let found = opened.scrub(&Silent).is_ok_and(|report| !report.findings.is_empty());
        reached.note(if found { "scrubbed, damage" } else { "scrubbed" });
        let _ = opened.check(&Silent);
    }
    let Ok((snapshots, _)) = opened.snapshots_and_problems() else { return };
    let folder = Folder::make();
    for (index, snapshot) in snapshots.iter().enumerate() {
        if plan.extras & 2 != 0 {
            let _ = opened.for_each_entry(snapshot, None, &mut |_| Ok(()));
            let _ = opened.restore_to_writer(snapshot, None, &mut std::io::sink(), &Silent);
            let _ = opened.restore_to_tar(snapshot, None, &mut std::io::sink(), &Silent);
        }
        let target = folder.target(index);
        let done = opened.restore(snapshot, &target, &RestoreOptions::default(), &Silent);
        reached.note(if done.is_ok_and(|done| done.items_failed == 0) { "restored whole" } else { "restored in part" });
        if plan.extras & 4 != 0 {
            // Once more, onto what is there now.
            let _ = opened.restore(snapshot, &target, &RestoreOptions::default(), &Silent);
        }
        if plan.extras & 8 != 0 {
            let _ = opened.forget(&[snapshot.id], &Silent);
        }
    }
    if plan.extras & 16 != 0 {
        let collected = opened.gc(&collecting(), &Silent).is_ok();
        reached.note(if collected { "collected" } else { "not collected" });
        let _ = opened.snapshots_and_problems();
    }
    folder.check();
}

struct Plan {
    /// Entries without content, or none: the trees stay as they are.
    entries: Vec<(Vec<u8>, u8, Vec<u8>)>,
    changes: Vec<Change>,
    /// What is done beside a restore, a bit each.
    extras: u8,
}

impl Plan {
    fn read(input: &mut Input<'_>) -> Self {
        let extras = input.byte();
        if extras & 0xe0 == 0xe0 {
            // One in eight is only sealed anew: what is whole has to come back.
            return Self { entries: Vec::new(), changes: Vec::new(), extras };
        }
        let count = usize::from(input.byte()) % ENTRIES_MAX;
        let entries = (0..count).map(|_| (input.path(&NAMES, 0), input.byte(), input.path(&NAMES, b'/'))).collect();
        let count = usize::from(input.byte()) % CHANGES_MAX;
        let changes = (0..count).map(|_| Change::read(input)).collect();
        Self { entries, changes, extras }
    }

    /// Puts the entries in the place of those that the tree has; files get the content of the file that was there.
    fn replace_tree(&self, bytes: &mut Vec<u8>) {
        let piece = Piece::TreeNode { key_kind: KeyKind::Paths, level: None };
        let Ok(Decoded::Node(NodeValue::Entries(Some(found), _))) = BASE.keys.decode(&piece, bytes).map(|reading| reading.value) else {
            return;
        };
        let Some(file) = found.first().filter(|_| !self.entries.is_empty()) else { return };
        let mut entries: Vec<Entry> = self.entries.iter().map(|(key, kind, link)| entry(file, key, *kind, link)).collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries.dedup_by(|a, b| a.key == b.key);
        *bytes = tree_leaf(&entries);
    }
}

fn entry(file: &Entry, key: &[u8], choice: u8, link: &[u8]) -> Entry {
    let kind = match choice % 8 {
        0 | 1 => file.kind.clone(),
        2 | 3 => EntryKind::Folder,
        4 | 5 => EntryKind::Symlink(if link.is_empty() { b"../../outside".to_vec() } else { link.to_vec() }),
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
