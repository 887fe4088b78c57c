//! What only shows between objects, entries, or moments.

use super::*;
use crate::backend::testing::{HookedBackend, Operation};
use crate::entry::{ChunkRef, FileContent};
use crate::format::recipe::{RecipeNode, decode_recipe_node, encode_recipe_leaf};
use crate::format::refs::{RefsNode, Usage, decode_refs_node, encode_refs_leaf};
use crate::format::tree::{TreeNode, decode_tree_node, encode_tree_leaf};
use crate::restore::RestoreOptions;
use crate::testing::{Keys, Part};
use std::sync::atomic::AtomicUsize;

/// The repository written anew, its pieces changed beneath their seals.
fn rewritten(fixture: &Fixture, change: &mut dyn FnMut(Part, &mut Vec<u8>)) -> Repository {
    let anew = Keys::of_repository(&fixture.repository).rewrite(&fixture.backend, change).unwrap();
    opened(Arc::new(anew))
}

fn rules(report: &CheckReport) -> Vec<Option<&'static str>> {
    report.findings.iter().map(|finding| finding.rule).collect()
}

#[test]
fn a_hard_link_must_lead_to_an_entry_that_can_be_linked_to() {
    let fixture = Fixture::empty();
    let folder = tempfile::tempdir().unwrap();
    // Enough entries for several leaves, so that the link and its target are in different ones.
    std::fs::create_dir(folder.path().join("first")).unwrap();
    (0..6000).for_each(|n| std::fs::write(folder.path().join(format!("m{n}")), "").unwrap());
    std::fs::write(folder.path().join("glass"), "content").unwrap();
    std::fs::hard_link(folder.path().join("glass"), folder.path().join("zebra")).unwrap();
    fixture.backup(folder.path());
    // Unchanged leaves are remembered from one snapshot to the next; their links are looked up in both trees.
    fixture.backup(folder.path());
    assert!(fixture.check().findings.is_empty());
    for (target, what) in [(b"glasr", "is not there"), (b"a\0b\0c", "is not there"), (b"first", "is a folder")] {
        let repository = rewritten(&fixture, &mut |part, bytes| {
            let is_end_of_tree = part == Part::Tree && bytes.windows(5).any(|window| window == b"zebra");
            if let Some(at) = bytes.windows(5).rposition(|window| window == b"glass").filter(|_| is_end_of_tree) {
                bytes[at..at + 5].copy_from_slice(target);
            }
        });
        let report = repository.check(&Silent).unwrap();
        assert_eq!(rules(&report), [Some("TREE-15"); 2], "{:#?}", report.findings);
        for finding in &report.findings {
            assert!(finding.paths == [join_key(["zebra"])] && finding.message.contains(what), "{finding:?}");
        }
    }
}

#[test]
fn chunks_that_are_used_must_be_in_the_part_of_a_frame_that_the_refs_name() {
    let fixture = Fixture::with_snapshots();
    let index = fixture.repository.open_index().unwrap();
    let mut left_out = Vec::new();
    let repository = rewritten(&fixture, &mut |part, bytes| {
        let Some(RefsNode::Leaf(mut uses)) = (part == Part::Refs).then(|| decode_refs_node(bytes, None).unwrap()) else { return };
        let whole = uses.iter_mut().find(|used| used.frame.class() == Some(crate::id::FrameClass::Data) && used.usage == Usage::Whole);
        let used = whole.unwrap();
        let count = index.frame(index.ordinal_of(used.frame).unwrap().unwrap()).unwrap().unwrap().chunk_count;
        let mut bitmap = vec![0; (count as usize).div_ceil(8)];
        (1..count as usize).for_each(|position| bitmap[position / 8] |= 1 << (position % 8));
        used.usage = Usage::Part { chunks: count as u16, bitmap };
        left_out.push(used.frame);
        *bytes = encode_refs_leaf(&uses);
    });
    let report = repository.check(&Silent).unwrap();
    assert_eq!(left_out.len(), 3);
    assert_eq!(rules(&report), [Some("REFS-7"); 3], "{:#?}", report.findings);
    assert!(report.findings.iter().all(|finding| finding.paths_total == 1 && finding.snapshots.len() == 1), "{:#?}", report.findings);
    // Such a snapshot can be restored for now.
    let snapshot = repository.snapshots().unwrap().into_iter().find(|snapshot| snapshot.body.series == "stream").unwrap();
    let mut content = Vec::new();
    repository.restore_to_writer(&snapshot, None, &mut content, &Silent).unwrap();
    assert_eq!(content, noise(3000, 130 << 10));
}

/// One byte goes from a chunk to the one before it, so that what they are together stays true.
fn shift(chunks: &mut [ChunkRef]) {
    if let Some(at) = (1..chunks.len()).find(|at| chunks[*at].length > 1) {
        (chunks[at - 1].length, chunks[at].length) = (chunks[at - 1].length + 1, chunks[at].length - 1);
    }
}

/// Only scrub finds what is not as long as it should be, by this rule, and it names what a restore refuses.
fn only_scrub_finds_lengths(repository: &Repository, rule: &'static str) {
    // Who does not read content cannot know.
    let checked = repository.check(&Silent).unwrap();
    assert!(checked.findings.is_empty(), "{:#?}", checked.findings);
    let report = repository.scrub(&Silent).unwrap();
    assert!(!report.hurt.is_empty() && rules(&report).iter().all(|found| *found == Some(rule)), "{:#?}", report.findings);
    for snapshot in repository.snapshots().unwrap() {
        let target = tempfile::tempdir().unwrap();
        let failed = repository.restore(&snapshot, target.path(), &RestoreOptions::default(), &Silent).unwrap().items_failed;
        let hurt = report.hurt.iter().find(|hurt| hurt.snapshot == snapshot.id).map_or(0, |hurt| hurt.paths.len() as u64);
        assert_eq!(failed, hurt);
    }
}

#[test]
fn a_chunk_must_be_as_long_as_who_names_it_says() {
    let fixture = Fixture::with_snapshots();
    let repository = rewritten(&fixture, &mut |part, bytes| {
        if part != Part::Tree {
            return;
        }
        let TreeNode::Leaf(leaf) = decode_tree_node(bytes.as_slice().into(), None, KeyKind::Paths).unwrap() else { return };
        let mut entries: Vec<_> = leaf.map(Result::unwrap).collect();
        for entry in &mut entries {
            if let EntryKind::File(FileContent { chunks: ChunkList::Inline(chunks), .. }) = &mut entry.kind {
                shift(chunks);
            }
        }
        *bytes = encode_tree_leaf(&entries);
    });
    only_scrub_finds_lengths(&repository, "TREE-13");
}

#[test]
fn a_chunk_must_be_as_long_as_the_recipe_that_names_it_says() {
    let fixture = Fixture::empty();
    let folder = tempfile::tempdir().unwrap();
    // More chunks than stand in an entry.
    std::fs::write(folder.path().join("large"), noise(4000, 6 << 20)).unwrap();
    std::fs::write(folder.path().join("small"), noise(4001, 60 << 10)).unwrap();
    fixture.backup(folder.path());
    let repository = rewritten(&fixture, &mut |part, bytes| {
        let Some(RecipeNode::Leaf(mut chunks)) = (part == Part::Recipe).then(|| decode_recipe_node(bytes, None).unwrap()) else { return };
        shift(&mut chunks);
        *bytes = encode_recipe_leaf(&chunks);
    });
    only_scrub_finds_lengths(&repository, "RECIPE-3");
}

#[test]
fn a_withdrawal_must_name_the_session_of_its_snapshot() {
    let fixture = Fixture::with_snapshots();
    let snapshots = fixture.repository.snapshots().unwrap();
    let name = ObjectName::withdrawn(snapshots[0].id);
    let write = |session| {
        fixture.set(&name, None);
        fixture.write_as(Roles::MAINTAIN, name, WithdrawnBody { session, reason: WithdrawnReason::Forgotten, now: NOW }.encode());
    };
    write(snapshots[1].header.record.id());
    let report = fixture.check();
    assert_eq!(rules(&report), [Some("SESS-4")], "{:#?}", report.findings);
    assert!(names(&report, &name));
    let (shown, problems) = fixture.repository.snapshots_and_problems().unwrap();
    assert_eq!((shown.len(), problems.len()), (3, 1));
    write(snapshots[0].header.record.id());
    assert!(fixture.check().findings.is_empty());
    assert_eq!(fixture.repository.snapshots().unwrap().len(), 2);
}

/// A whole backup, or the forgetting of a snapshot together with the garbage collection that removes it, between any two listings of a check.
#[test]
fn what_is_published_or_forgotten_between_two_listings_is_no_finding() {
    for kind in ObjectKind::ALL {
        for forgets in [false, true] {
            let fixture = Fixture::with_snapshots();
            let other = opened(Arc::new(fixture.backend.clone()));
            let happened = Arc::new(AtomicBool::new(false));
            let happens = Arc::clone(&happened);
            let deed = move || {
                if forgets {
                    let oldest = other.snapshots().unwrap()[0].id;
                    other.forget(&[oldest], &Silent).unwrap();
                    (0..2).for_each(|_| drop(other.gc(&crate::gc::GcOptions::default(), &Silent).unwrap()));
                } else {
                    let stream = std::io::Cursor::new(noise(77, 20 << 10));
                    other.backup_stream("late", Box::new(stream), &BackupOptions::new("late"), &Silent).unwrap();
                }
            };
            // Armed once the repository is open, which lists, too.
            let is_armed = Arc::new(AtomicBool::new(false));
            let backend = HookedBackend::new(Arc::new(fixture.backend.clone()), {
                let is_armed = Arc::clone(&is_armed);
                move |call| {
                    let is_listed = call.operation == Operation::List && call.kind == kind && call.is_done;
                    if is_listed && is_armed.swap(false, Ordering::Relaxed) {
                        happens.store(true, Ordering::Relaxed);
                        deed();
                    }
                    Ok(())
                }
            });
            let repository = opened(Arc::new(backend));
            is_armed.store(true, Ordering::Relaxed);
            let report = repository.check(&Silent).unwrap();
            assert!(happened.load(Ordering::Relaxed), "{kind:?} is listed");
            assert!(report.findings.is_empty(), "{kind:?}, forgets {forgets}: {:#?}", report.findings);
        }
    }
}

/// All snapshots are forgotten and swept after a check has asked whether one is still there, because it missed something, and before it looks again.
#[test]
fn what_is_forgotten_after_the_first_look_is_no_finding() {
    let fixture = Fixture::with_snapshots();
    let other = opened(Arc::new(fixture.backend.clone()));
    let (is_armed, happened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let has_missed = AtomicBool::new(false);
    let backend = HookedBackend::new(Arc::new(fixture.backend.clone()), {
        let (is_armed, happened) = (Arc::clone(&is_armed), Arc::clone(&happened));
        move |call| {
            let is_first_miss = call.operation == Operation::GetRange && call.kind == ObjectKind::RefsPack && !call.is_done;
            if is_armed.load(Ordering::Relaxed) && is_first_miss && !has_missed.swap(true, Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::NotFound, "moved"));
            }
            let looks_again = call.operation == Operation::List && !call.is_done;
            if looks_again && has_missed.load(Ordering::Relaxed) && !happened.swap(true, Ordering::Relaxed) {
                let all: Vec<_> = other.snapshots().unwrap().into_iter().map(|snapshot| snapshot.id).collect();
                other.forget(&all, &Silent).unwrap();
                (0..2).for_each(|_| drop(other.gc(&crate::gc::GcOptions::default(), &Silent).unwrap()));
            }
            Ok(())
        }
    });
    let repository = opened(Arc::new(backend));
    let arm = At { phase: "check snapshots", is_armed: &is_armed };
    let report = repository.check(&arm).unwrap();
    assert!(happened.load(Ordering::Relaxed));
    assert!(report.findings.is_empty() && report.hurt.is_empty(), "{:#?}", report.findings);
}

/// A snapshot is forgotten after a check has looked again for what it missed, and the bases of its tree are swept: its own frames are still there, and
/// cannot be read.
#[test]
fn a_base_that_went_with_its_last_snapshot_is_no_finding_unless_it_is_needed() {
    let fixture = Fixture::empty();
    let folder = tempfile::tempdir().unwrap();
    (0..200u64).for_each(|n| std::fs::write(folder.path().join(format!("f{n}")), noise(n, 10)).unwrap());
    let back_up = |seconds| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            std::fs::File::options().write(true).open(entry.unwrap().path()).unwrap().set_modified(time).unwrap();
        }
        let roots = Roots::resolve(&[folder.path().join(".")]).unwrap();
        fixture.repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("tests"), &Silent).unwrap().snapshot.unwrap()
    };
    let first = back_up(1_500_000_000);
    let second = back_up(1_600_000_000);
    fixture.repository.forget(&[first], &Silent).unwrap();
    (0..3).for_each(|_| drop(fixture.repository.gc(&crate::gc::GcOptions::default(), &Silent).unwrap()));
    let snapshot = fixture.repository.snapshots().unwrap().pop().unwrap();
    assert_eq!(snapshot.id, second);
    let reader = crate::repository::FrameReader::new(&fixture.repository, fixture.repository.open_index().unwrap());
    let mut bases = BTreeSet::new();
    let visit = |used: crate::format::FrameUse| {
        if used.usage == Usage::Base && used.frame.class() == Some(crate::id::FrameClass::Meta) {
            let place = reader.place(reader.index().ordinal_of(used.frame).unwrap().unwrap()).unwrap();
            bases.insert(ObjectName::pack(place.kind, place.pack));
        }
        Ok(())
    };
    fixture.repository.walk_refs(&reader, &snapshot.header.refs_root, visit).unwrap();
    assert!(!bases.is_empty());
    let before = fixture.objects();
    let sweep = |names: Vec<ObjectName>| {
        let (is_armed, has_missed) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
        let (inner, happened) = (fixture.backend.clone(), AtomicBool::new(false));
        let backend = HookedBackend::new(Arc::new(fixture.backend.clone()), {
            let is_armed = Arc::clone(&is_armed);
            move |call| {
                let is_meta = call.kind == ObjectKind::MetaPack && is_armed.load(Ordering::Relaxed);
                if is_meta && call.operation == Operation::GetRange && !has_missed.swap(true, Ordering::Relaxed) {
                    return Err(Error::new(ErrorKind::NotFound, "moved"));
                }
                let has_looked_again = is_meta && call.operation == Operation::List && call.is_done;
                if has_looked_again && !happened.swap(true, Ordering::Relaxed) {
                    names.iter().try_for_each(|name| inner.delete(name))?;
                }
                Ok(())
            }
        });
        let repository = opened(Arc::new(backend));
        let report = repository.check(&At { phase: "check snapshots", is_armed: &is_armed }).unwrap();
        assert_ne!(fixture.objects(), before);
        before.iter().for_each(|(name, bytes)| fixture.set(name, Some(bytes)));
        report
    };
    let bases: Vec<_> = bases.into_iter().collect();
    let report = sweep([&bases[..], &[ObjectName::snapshot(second), ObjectName::closed(snapshot.header.record.id())]].concat());
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    let report = sweep(bases);
    assert!(report.findings.iter().any(|finding| finding.snapshots == [second]), "{:#?}", report.findings);
}

/// Says when a phase begins.
#[derive(Debug)]
struct At<'a> {
    phase: &'static str,
    is_armed: &'a AtomicBool,
}

impl crate::progress::Progress for At<'_> {
    fn event(&self, event: crate::progress::Event<'_>) {
        if matches!(event, crate::progress::Event::Phase { name, .. } if name == self.phase) {
            self.is_armed.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_slot_that_lacks_the_keys_in_force_is_missed() {
    let fixture = Fixture::with_snapshots();
    let repository = opened(Arc::new(fixture.backend.clone()));
    repository.rotate(&repository.plan_rotation(None).unwrap()).unwrap();
    assert!(opened(Arc::new(fixture.backend.clone())).check(&Silent).unwrap().findings.is_empty());
    // The generation before it opens what was written before, and nothing of what comes.
    let newest = fixture.backend.list_sorted(ObjectKind::Slot).unwrap().pop().unwrap();
    fixture.backend.delete(&newest.name).unwrap();
    let report = opened(Arc::new(fixture.backend.clone())).check(&Silent).unwrap();
    let found: Vec<_> = report.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert!(matches!(&found[..], [one] if one.starts_with("the newest key slot of this credential is missing")), "{found:?}");
}

/// A repository whose only snapshot was forgotten, and is still there.
fn with_one_forgotten() -> (Fixture, crate::repository::Snapshot) {
    let fixture = Fixture::empty();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), noise(7, 50_000)).unwrap();
    fixture.backup(folder.path());
    let snapshot = fixture.repository.snapshots().unwrap().remove(0);
    fixture.repository.forget(&[snapshot.id], &Silent).unwrap();
    (fixture, snapshot)
}

/// What a collector takes away of a forgotten snapshot is no damage, also where the marker could not be read at first, or cannot be read at all.
#[test]
fn a_forgotten_snapshot_whose_marker_is_not_read_misses_nothing() {
    let (fixture, snapshot) = with_one_forgotten();
    let id = snapshot.id;
    for kind in [ObjectKind::DataPack, ObjectKind::MetaPack, ObjectKind::RefsPack] {
        let packs = fixture.backend.list_sorted(kind).unwrap();
        packs.iter().for_each(|pack| fixture.backend.delete(&pack.name).unwrap());
    }
    for fails in [1, usize::MAX] {
        let left = AtomicUsize::new(fails);
        let hooked = HookedBackend::new(Arc::new(fixture.backend.clone()), move |call| {
            let is_marker = call.operation == Operation::GetRange && call.kind == ObjectKind::Withdrawn && !call.is_done;
            match is_marker && left.load(Ordering::Relaxed) > 0 {
                true => {
                    left.fetch_sub(1, Ordering::Relaxed);
                    Err(Error::new(ErrorKind::Unavailable, "the store does not answer"))
                }
                false => Ok(()),
            }
        });
        let report = opened(Arc::new(hooked)).check(&Silent).unwrap();
        let mut unread = vec![ObjectName::withdrawn(id)];
        // Nor is it known that nothing is damaged.
        unread.extend((fails > 1).then(|| ObjectName::snapshot(id)));
        let found: Vec<_> = report.findings.iter().map(|finding| (finding.object.unwrap(), finding.kind)).collect();
        assert_eq!(found, unread.iter().map(|name| (*name, ErrorKind::Unavailable)).collect::<Vec<_>>(), "{:#?}", report.findings);
    }
    // Where there is no marker it is damage.
    fixture.backend.delete(&ObjectName::withdrawn(id)).unwrap();
    assert!(!fixture.check().findings.is_empty());
}

/// What others have stored since keys changed cannot be read with the old ones, and is not damage.
#[test]
fn who_checks_with_the_keys_of_before_says_so() {
    let fixture = Fixture::empty();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("stays"), noise(7, 50_000)).unwrap();
    std::fs::write(folder.path().join("goes"), noise(8, 50_000)).unwrap();
    fixture.backup(folder.path());
    let first = fixture.repository.snapshots().unwrap()[0].id;
    std::fs::remove_file(folder.path().join("goes")).unwrap();
    fixture.backup(folder.path());
    fixture.repository.forget(&[first], &Silent).unwrap();
    let with_old_keys = opened(Arc::new(fixture.backend.clone()));
    fixture.repository.rotate(&fixture.repository.plan_rotation(None).unwrap()).unwrap();
    let runtime = Runtime::seeded(13, NOW, 2);
    let key = Key::passphrase("correct horse").unwrap();
    let with_new_keys = Repository::open(Arc::new(fixture.backend.clone()), runtime, &key, Settings::default()).unwrap();
    let summary = with_new_keys.gc(&crate::gc::GcOptions { dead_percent_max: 0 }, &Silent).unwrap();
    assert!(summary.written.packs > 0 && summary.deleted.packs > 0, "{summary:?}");
    assert!(with_new_keys.check(&Silent).unwrap().findings.is_empty());
    let error = with_old_keys.check(&Silent).unwrap_err();
    assert!(error.kind() == ErrorKind::Busy && error.to_string().contains("changed the keys"), "{error}");
    // As if frames had been copied as they are.
    let relocations = fixture.backend.list_sorted(ObjectKind::Relocation).unwrap();
    relocations.iter().for_each(|object| fixture.backend.delete(&object.name).unwrap());
    let report = with_old_keys.check(&Silent).unwrap();
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.kind, finding.snapshots.len())).collect();
    assert_eq!(found, [(ErrorKind::Unavailable, 1)], "{:#?}", report.findings);
    assert!(report.findings[0].message.contains("changed the keys"), "{:#?}", report.findings);
}

/// A collector goes on between two lists: what was listed first is gone by now, too.
#[test]
fn a_session_that_goes_with_its_snapshots_is_not_missed() {
    let (fixture, snapshot) = with_one_forgotten();
    let (snapshot, session) = (ObjectName::snapshot(snapshot.id), ObjectName::session(snapshot.header.record.id()));
    for gone in [&[snapshot, session][..], &[session]] {
        let whole = fixture.objects();
        let (backend, names) = (fixture.backend.clone(), gone.to_vec());
        let hooked = HookedBackend::new(Arc::new(fixture.backend.clone()), move |call| {
            if call.operation == Operation::List && call.kind == ObjectKind::Session && !call.is_done {
                names.iter().for_each(|name| drop(backend.delete(name)));
            }
            Ok(())
        });
        let report = opened(Arc::new(hooked)).check(&Silent).unwrap();
        // The session alone is what no collector takes away.
        assert_eq!(report.findings.len(), 2 - gone.len(), "{:#?}", report.findings);
        gone.iter().for_each(|name| fixture.set(name, Some(&whole[name])));
    }
}
