//! Frames of which little is used are made anew, and everything finds what was in them.

use super::fixture::{Fixture, client_with};
use super::{Epochs, GcOptions, gc, gc_all};
use crate::backend::testing::{HookedBackend, Operation};
use crate::backend::{Backend, BackendExt, MemoryBackend, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind};
use crate::format::relocations::RelocationsBody;
use crate::format::session::SessionKind;
use crate::format::{FrameUse, Roles};
use crate::id::{PackId, SessionId};
use crate::progress::{Event, Progress, Silent};
use crate::repository::{FrameReader, Session, SnapshotState};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn stored_bytes_go_down_where_most_chunks_of_every_frame_died() {
    let fixture = Fixture::scattered();
    let copied = fixture.copy();
    let maintainer = client_with(&copied.repository, Roles::MAINTAIN, 72);
    let whole = gc(&maintainer);
    assert_eq!((whole.plan.remake.frames, whole.frames_remade, copied.relocations().len()), (0, 0, 0));
    copied.assert_whole();

    let plan = fixture.repository.gc_plan(&GcOptions::default(), &Silent).unwrap();
    assert!(plan.remake.frames >= 10 && plan.remake.bytes_used * 2 < plan.remake.bytes, "{plan:?}");
    let before = fixture.pack_bytes();
    let summary = gc(&fixture.repository);
    assert_eq!((summary.frames_remade, summary.left.packs, summary.waits_for.len()), (plan.remake.frames, 0, 0), "{summary:?}");
    assert!(summary.bytes_remade > 0 && summary.bytes_remade * 2 < plan.remake.bytes, "{summary:?}");
    assert_eq!(fixture.relocations().len(), 1);
    assert_eq!(before + summary.written.bytes - summary.deleted.bytes, fixture.pack_bytes());
    assert!(fixture.pack_bytes() * 5 < copied.pack_bytes() * 4, "{} and {}", fixture.pack_bytes(), copied.pack_bytes());
    let freed = before - fixture.pack_bytes();
    assert!(plan.bytes_freed().abs_diff(freed) < freed / 10, "planned {}, freed {freed}", plan.bytes_freed());
    fixture.assert_whole();
    assert!(gc(&fixture.repository).plan.is_empty());
    fixture.assert_whole();
}

#[test]
fn frames_are_made_anew_twice_and_relocations_go_with_the_last_snapshot_that_needs_them() {
    let mut fixture = Fixture::scattered();
    fixture.backup_stream(b"something else", 3000);
    assert!(gc(&fixture.repository).frames_remade > 0);
    fixture.assert_whole();
    // What was made anew was for both variants; now one of them is left.
    fixture.forget(2);
    let second = gc_all(&fixture.repository);
    assert!(second.frames_remade > 0 && fixture.relocations().len() == 2, "{second:?}");
    fixture.assert_whole();
    assert!(gc(&fixture.repository).plan.is_empty());
    // The second collection also says where the chunks of older frames are, so that nobody has to go the whole way.
    let reader = FrameReader::new(&fixture.repository, fixture.repository.open_index().unwrap());
    let header = fixture.repository.read_snapshot_header(fixture.kept[0].id).unwrap();
    let mut older = HashSet::new();
    let visit = |used: FrameUse| {
        if reader.chunk_count(used.frame)?.is_none() {
            older.insert(used.frame);
        }
        Ok(())
    };
    fixture.repository.walk_refs(&reader, &header.refs_root, visit).unwrap();
    for name in fixture.relocations() {
        let body = RelocationsBody::decode(&fixture.repository.read_sealed(&name).unwrap().plaintext).unwrap();
        assert!(body.frames.iter().any(|frame| older.contains(&frame.frame)), "{body:?}");
    }
    fixture.forget(1);
    (0..3).for_each(|_| drop(gc(&fixture.repository)));
    assert_eq!(fixture.relocations(), []);
    fixture.assert_whole();
}

#[test]
fn who_may_not_open_frames_follows_relocations_too() {
    let mut fixture = Fixture::scattered();
    assert!(gc(&fixture.repository).frames_remade > 0);
    fixture.backup(3);
    fixture.forget(2);
    let maintainer = client_with(&fixture.repository, Roles::MAINTAIN, 72);
    let summary = gc(&maintainer);
    assert_eq!((summary.frames_remade, summary.left.packs), (0, 0));
    let findings = maintainer.check(&Silent).unwrap().findings;
    assert!(findings.iter().all(|finding| finding.snapshots.is_empty()), "{findings:#?}");
    fixture.assert_whole();
    assert!(gc_all(&fixture.repository).frames_remade > 0);
    fixture.assert_whole();
}

/// Puts objects into the backend when copying begins.
#[derive(Debug)]
struct Publisher(MemoryBackend, Mutex<Vec<(ObjectName, Vec<u8>)>>);

impl Progress for Publisher {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::Phase { name: "copy", .. }) {
            self.1.lock().drain(..).for_each(|(name, bytes)| self.0.put(&name, &bytes).unwrap());
        }
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// `RelocationByChunk`.
#[test]
fn what_a_writer_used_of_a_frame_while_it_was_made_anew_is_rescued() {
    let mut fixture = Fixture::empty();
    (0..3).for_each(|variant| fixture.backup_scattered(variant));
    // The first one is published only when others have been marked.
    let session = fixture.repository.read_snapshot_header(fixture.kept[0].id).unwrap().record.id();
    let names = [ObjectName::session(session), ObjectName::snapshot(fixture.kept[0].id), ObjectName::closed(session)];
    let taken = names.map(|name| (name, fixture.backend.get(&name, u64::MAX).unwrap()));
    names.iter().for_each(|name| fixture.backend.delete(name).unwrap());
    let publisher = Publisher(fixture.backend.clone(), Mutex::new(taken.to_vec()));
    let summary = fixture.repository.gc(&GcOptions::default(), &publisher).unwrap();
    assert!(summary.frames_remade > 0 && summary.deleted.packs > 0 && summary.left.packs == 0, "{summary:?}");
    assert!(summary.bytes_copied > summary.plan.bytes_to_copy, "{summary:?}");
    fixture.assert_whole();
    fixture.forget(0);
    assert!(gc(&fixture.repository).frames_remade > 0);
    fixture.assert_whole();
}

#[test]
fn a_forgotten_snapshot_that_somebody_reads_keeps_its_relocations() {
    let mut fixture = Fixture::scattered();
    gc(&fixture.repository);
    let other = fixture.other_handle(3);
    let reader = Session::begin(&other, SessionKind::Reader).unwrap();
    let header = other.read_snapshot_header(fixture.kept[0].id).unwrap();
    fixture.backup_stream(b"something else", 3000);
    fixture.forget(1);
    fixture.forget(2);
    (0..3).for_each(|_| drop(gc(&fixture.repository)));
    let index = other.open_index().unwrap();
    other.snapshot_chunks(&FrameReader::new(&other, index), &header).unwrap();
    reader.close(true, Vec::new()).unwrap();
    (0..3).for_each(|_| drop(gc(&fixture.repository)));
    assert_eq!(fixture.relocations(), []);
    fixture.assert_whole();
}

#[test]
fn suspects_are_proven_and_settled_by_way_of_relocations() {
    let fixture = Fixture::scattered();
    gc(&fixture.repository);
    let id = fixture.kept[0].id;
    let session = fixture.repository.read_snapshot_header(id).unwrap().record.id();
    fixture.backend.delete(&ObjectName::closed(session)).unwrap();
    let shown = fixture.repository.snapshots().unwrap();
    assert_eq!(shown.iter().find(|snapshot| snapshot.id == id).map(|snapshot| snapshot.state), Some(SnapshotState::Suspect));
    assert!(fixture.repository.check(&Silent).unwrap().findings.is_empty());
    // Without them it is incomplete.
    let removed: Vec<_> = fixture.relocations().into_iter().map(|name| (name, fixture.backend.get(&name, u64::MAX).unwrap())).collect();
    removed.iter().for_each(|(name, _)| fixture.backend.delete(name).unwrap());
    assert!(fixture.repository.snapshots().unwrap().iter().all(|snapshot| snapshot.id != id));
    removed.iter().for_each(|(name, bytes)| fixture.backend.put(name, bytes).unwrap());
    // Nobody is at work: what the session left without `closed/` is settled.
    fixture.backend.delete(&ObjectName::session(session)).unwrap();
    assert_eq!(gc(&fixture.repository).snapshots_settled, [id]);
    assert_eq!(fixture.repository.snapshots().unwrap().len(), 2);
}

#[test]
fn relocations_that_cannot_be_believed_are_reported_and_nothing_more_is_deleted() {
    let fixture = Fixture::scattered();
    gc(&fixture.repository);
    let name = fixture.relocations()[0];
    let bytes = fixture.backend.get(&name, u64::MAX).unwrap();
    let plaintext = fixture.repository.read_sealed(&name).unwrap().plaintext;
    let packs = fixture.packs();
    let damaged = [&bytes[..100], &[bytes[100] ^ 1], &bytes[101..]].concat();
    let writer = client_with(&fixture.repository, Roles::BACKUP, 71);
    let of_writer = writer.credential.author.sealed_object(&writer.header(name), writer.structure_key().unwrap(), plaintext.clone());
    let header = fixture.repository.header(name);
    let shorter = plaintext[..plaintext.len() - 1].to_vec();
    let cut = fixture.repository.credential.author.sealed_object(&header, fixture.repository.structure_key().unwrap(), shorter);
    for (rule, object) in [("OBJ-8", damaged), ("OBJ-9", of_writer), ("CONV-2", cut)] {
        fixture.change(&name, |bytes| *bytes = object);
        let report = fixture.repository.check(&Silent).unwrap();
        let found = report.findings.iter().find(|finding| finding.object == Some(name)).unwrap();
        assert_eq!(found.rule, Some(rule));
        let hurt = report.findings.iter().filter(|finding| !finding.snapshots.is_empty()).count();
        assert!(hurt > 0, "{:#?}", report.findings);
        assert_eq!(fixture.repository.gc(&GcOptions::default(), &Silent).unwrap_err().kind(), ErrorKind::Damaged);
        assert_eq!(fixture.packs(), packs);
    }
    fixture.change(&name, |old| *old = bytes);
    fixture.assert_whole();
}

#[test]
fn statistics_follow_relocations() {
    let fixture = Fixture::scattered();
    let count = || {
        let snapshot = fixture.repository.snapshots().unwrap().into_iter().find(|snapshot| snapshot.id == fixture.kept[0].id).unwrap();
        fixture.repository.stats(Some(&snapshot), &Silent).unwrap()
    };
    let before = count();
    let freed = || fixture.repository.stats_if_forgotten(&[fixture.kept[0].id], &Silent).unwrap();
    let would_free = freed();
    gc(&fixture.repository);
    let after = count();
    assert_eq!((before.unique_chunks, before.files, before.entries), (after.unique_chunks, after.files, after.entries));
    assert!(freed().bytes + freed().bytes_in_part > 0 && would_free.frames > 0);
    assert!(fixture.repository.stats(None, &Silent).unwrap().unique_bytes > 0);
}

#[test]
fn backups_and_restores_beside_collections_that_make_frames_anew() {
    let mut fixture = Fixture::empty();
    (0..3).for_each(|variant| fixture.backup_scattered(variant));
    std::thread::scope(|scope| {
        let (collector, reader) = (fixture.other_handle(1), fixture.other_handle(2));
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        let goes_on = move || stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Empty);
        let still = goes_on.clone();
        let rounds = scope.spawn(move || {
            let mut remade = 0;
            while goes_on() {
                remade += gc(&collector).frames_remade;
            }
            remade
        });
        let read = fixture.kept.iter().map(|kept| (kept.id, kept.content.clone())).nth(1).unwrap();
        let reads = scope.spawn(move || {
            let mut reads = 0;
            while still() || reads == 0 {
                let snapshot = reader.snapshots().unwrap().into_iter().find(|snapshot| snapshot.id == read.0).unwrap();
                let mut content = Vec::new();
                reader.restore_to_writer(&snapshot, None, &mut content, &Silent).unwrap();
                assert!(content == read.1);
                reads += 1;
            }
            reads
        });
        for _ in 0..6 {
            fixture.forget(0);
            fixture.backup_scattered(2);
            fixture.backup_scattered(0);
            fixture.forget(2);
        }
        fixture.forget(0);
        drop(stop);
        assert!(reads.join().unwrap() > 0);
        rounds.join().unwrap()
    });
    fixture.assert_whole();
    let summary = gc(&fixture.repository);
    assert_eq!((summary.left.packs, summary.waits_for.len()), (0, 0));
    fixture.assert_whole();
    assert!(!fixture.backend.list_sorted(ObjectKind::Epoch).unwrap().is_empty());
}

/// `RelocationFound`.
#[test]
fn what_relocations_lead_to_is_rescued_where_its_pack_was_condemned() {
    let fixture = Fixture::scattered();
    gc(&fixture.repository);
    // As if another collector had condemned everything.
    let packs = fixture.packs().iter().map(|name| (name.kind(), PackId(name.id()))).collect();
    let mut epochs = Epochs::read(&fixture.repository).unwrap();
    assert!(epochs.publish(&fixture.repository, SessionId([7; 16]), packs, std::iter::empty()).unwrap());
    let relocations = fixture.relocations();
    assert_eq!(fixture.repository.gc_plan(&GcOptions::default(), &Silent).unwrap().packs.packs, 0);
    let summary = gc(&fixture.repository);
    assert!(summary.bytes_copied > 0 && summary.left.packs == 0, "{summary:?}");
    assert_eq!(fixture.relocations(), relocations);
    fixture.assert_whole();
}

/// Of a frame that was made anew nothing but relocations says where its chunks are.
#[test]
fn a_pack_of_frames_made_anew_that_cannot_be_read_is_what_snapshots_suffer_from() {
    let fixture = Fixture::scattered();
    let before = fixture.packs();
    assert!(gc(&fixture.repository).frames_remade > 0);
    let made: Vec<_> = fixture.packs().into_iter().filter(|name| !before.contains(name) && name.kind() == ObjectKind::DataPack).collect();
    let [made] = made[..] else { panic!("{made:?}") };
    let fails = AtomicBool::new(true);
    // Once: what it holds is found out then.
    let hooked = HookedBackend::new(Arc::new(fixture.backend.clone()), move |call| {
        let is_meant = call.operation == Operation::GetRange && call.name == Some(made) && !call.is_done;
        match is_meant && fails.swap(false, Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Unavailable, "the store does not answer")),
            false => Ok(()),
        }
    });
    let report = fixture.handle_through(Arc::new(hooked), 40).check(&Silent).unwrap();
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.object, finding.kind, finding.snapshots.is_empty())).collect();
    assert_eq!(found, [(Some(made), ErrorKind::Unavailable, false)], "{:#?}", report.findings);
}
