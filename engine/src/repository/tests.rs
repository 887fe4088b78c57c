//! What other credentials of a repository can and cannot make readers believe.

use super::*;
use crate::backend::testing::{HookedBackend, Operation, Order};
use crate::backend::{Backend, BackendExt, MemoryBackend, ObjectInfo, ObjectKind, ObjectName, ObjectWriter};
use crate::backup::BackupOptions;
use crate::crypto::{PassphraseCost, Secret, Signer};
use crate::format::Certificate;
use crate::format::epoch::EpochBody;
use crate::format::object::Author;
use crate::format::session::{BeatBody, ClosedBody, SessionKind, TombstoneBody, WithdrawnBody, WithdrawnReason};
use crate::gc::GcOptions;
use crate::id::{CredentialId, DomainId, PackId, SessionId, SnapshotId};
use crate::progress::Silent;
use crate::runtime::Timestamp;
use parking_lot::Mutex;
use std::collections::BTreeSet;

const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };

pub(super) fn repository(backend: &MemoryBackend) -> Repository {
    let options = CreateOptions { passphrase_cost: PassphraseCost::TEST, ..CreateOptions::default() };
    let key = Key::passphrase("correct horse").unwrap();
    Repository::create(Arc::new(backend.clone()), Runtime::seeded(7, NOW, 2), &key, &options, Settings::default()).unwrap()
}

/// The same repository, opened by another client whose credential has only `roles`.
fn other_client(repository: &Repository, roles: Roles) -> Repository {
    let mut credential = (*repository.credential).clone();
    let admin = Signer::new(credential.admin_seed.as_ref().unwrap());
    credential.signing_seed = Secret::new([77; 32]);
    let signer = Signer::new(&credential.signing_seed);
    let name = CredentialId([77; 16]);
    let certificate = Certificate::sign(&admin, &repository.id, 1, roles, DomainId([0; 16]), name, signer.verifying_key());
    credential.author = Author { certificate, signer };
    credential.admin_seed = None;
    if !roles.contain(Roles::RESTORE) {
        credential.restore_keys.clear();
    }
    let (backend, runtime) = (Arc::clone(&repository.backend), Runtime::seeded(8, NOW, 2));
    Repository::assemble(backend, runtime, credential, repository.config.clone(), repository.id, 1, Settings::default())
}

pub(super) fn back_up(repository: &Repository, content: &'static [u8]) -> SnapshotId {
    repository.backup_stream("name", Box::new(content), &BackupOptions::new("series"), &Silent).unwrap().snapshot.unwrap()
}

#[test]
fn a_backup_credential_cannot_read_back_what_it_stored() {
    let backend = MemoryBackend::new();
    let client = other_client(&repository(&backend), Roles::BACKUP);
    let snapshot = back_up(&client, b"layers of ice");
    let header = client.read_snapshot_header(snapshot).unwrap();
    assert_eq!(client.snapshots().unwrap_err().kind(), ErrorKind::Unauthorized);
    let reader = FrameReader::new(&client, client.open_index().unwrap());
    let chunks = client.snapshot_chunks(&reader, &header).unwrap();
    let id = ChunkIds::new(&client.credential).id_of(ChunkKind::Data, b"layers of ice").unwrap();
    assert_eq!(chunks.chunk(ChunkKind::Data, &id).unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[test]
fn clients_of_one_domain_deduplicate_against_each_other() {
    let backend = MemoryBackend::new();
    let first = repository(&backend);
    back_up(&first, b"layers of ice");
    let client = other_client(&first, Roles::BACKUP);
    let summary = client.backup_stream("name", Box::new(&b"layers of ice"[..]), &BackupOptions::new("theirs"), &Silent).unwrap();
    assert_eq!(summary.bytes_unique, 0);
    assert_eq!(first.snapshots().unwrap().len(), 2);
}

#[test]
fn nobody_but_maintain_withdraws_or_closes_for_others() {
    let backend = MemoryBackend::new();
    let owner = repository(&backend);
    let snapshot = back_up(&owner, b"layers of ice");
    let session = owner.read_snapshot_header(snapshot).unwrap().record.id();
    let thief = other_client(&owner, Roles::BACKUP);
    let own_session = Session::begin(&thief, SessionKind::Writer).unwrap();

    let withdraw = |client: &Repository, of, session| {
        let body = WithdrawnBody { session, reason: WithdrawnReason::Forgotten, now: NOW };
        client.write_sealed(ObjectName::withdrawn(of), body.encode()).unwrap();
    };
    // In the name of the snapshot's session, and in that of its own.
    for session in [session, own_session.id()] {
        withdraw(&thief, snapshot, session);
        let (snapshots, problems) = owner.snapshots_and_problems().unwrap();
        assert_eq!((snapshots.len(), problems.len()), (1, 1), "{problems:?}");
        backend.delete(&ObjectName::withdrawn(snapshot)).unwrap();
    }

    // A session of the owner's that is still open, closed by the thief with a snapshot that never was.
    let open = Session::begin(&owner, SessionKind::Writer).unwrap();
    let ghost = SnapshotId([3; 16]);
    let body = ClosedBody { finished: true, now: NOW, snapshots: vec![ghost] };
    thief.write_sealed(ObjectName::closed(open.id()), body.encode()).unwrap();
    let (snapshots, problems) = owner.snapshots_and_problems().unwrap();
    assert_eq!(snapshots.len(), 1);
    assert_eq!(problems.iter().map(Error::broken_rule).collect::<Vec<_>>(), [Some("SESS-3")]);

    // Maintain may.
    backend.delete(&ObjectName::closed(open.id())).unwrap();
    withdraw(&other_client(&owner, Roles::MAINTAIN), snapshot, session);
    let (snapshots, problems) = owner.snapshots_and_problems().unwrap();
    assert_eq!((snapshots.len(), problems.len()), (0, 0), "{problems:?}");
}

#[test]
fn a_removed_snapshot_is_missed_even_when_a_thief_says_that_it_was_withdrawn() {
    let backend = MemoryBackend::new();
    let owner = repository(&backend);
    let snapshot = back_up(&owner, b"layers of ice");
    let session = owner.read_snapshot_header(snapshot).unwrap().record.id();
    backend.delete(&ObjectName::snapshot(snapshot)).unwrap();
    assert_eq!(owner.snapshots().unwrap_err().kind(), ErrorKind::Damaged);
    let thief = other_client(&owner, Roles::BACKUP);
    let own_session = Session::begin(&thief, SessionKind::Writer).unwrap();
    for session in [session, own_session.id()] {
        let body = WithdrawnBody { session, reason: WithdrawnReason::Forgotten, now: NOW };
        thief.write_sealed(ObjectName::withdrawn(snapshot), body.encode()).unwrap();
        assert_eq!(owner.snapshots_and_problems().unwrap().1.len(), 2);
        backend.delete(&ObjectName::withdrawn(snapshot)).unwrap();
    }
}

#[test]
fn an_open_session_makes_its_snapshot_suspect_and_its_frames_prove_it() {
    let backend = MemoryBackend::new();
    let owner = repository(&backend);
    let snapshot = back_up(&owner, b"layers of ice");
    let session = owner.read_snapshot_header(snapshot).unwrap().record.id();
    backend.delete(&ObjectName::closed(session)).unwrap();
    assert_eq!(owner.snapshots().unwrap()[0].state, SnapshotState::Suspect);
    let pack = backend.list_sorted(ObjectKind::DataPack).unwrap()[0].name;
    backend.delete(&pack).unwrap();
    assert!(owner.snapshots().unwrap().is_empty());
}

/// What befell a snapshot whose session never closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Complete,
    LacksAPack,
    /// A pack stands, but may be gone at any moment.
    PackIsCondemned,
    Withdrawn,
}

/// Nobody shows a snapshot of a dead session as good unless its frames are there, whichever way it is asked for.
#[test]
fn a_snapshot_of_a_dead_or_withdrawn_session_is_good_only_with_its_frames() {
    for (kind, fate) in [ObjectKind::DataPack, ObjectKind::MetaPack, ObjectKind::RefsPack]
        .into_iter()
        .flat_map(|kind| [Fate::Complete, Fate::LacksAPack, Fate::PackIsCondemned, Fate::Withdrawn].map(|fate| (kind, fate)))
    {
        let backend = MemoryBackend::new();
        let owner = repository(&backend);
        let snapshot = back_up(&owner, b"layers of ice");
        let session = owner.read_snapshot_header(snapshot).unwrap().record.id();
        backend.delete(&ObjectName::closed(session)).unwrap();
        owner.write_sealed(ObjectName::tombstone(session), TombstoneBody { epoch: 0, now: NOW }.encode()).unwrap();
        let pack = backend.list_sorted(kind).unwrap()[0].name;
        match fate {
            Fate::Complete => {}
            Fate::LacksAPack => backend.delete(&pack).unwrap(),
            Fate::PackIsCondemned => {
                let condemned = vec![(kind, PackId(pack.id()))];
                let epoch = EpochBody { predecessor: [0; 32], session, now: NOW, condemned, withdrawn: Vec::new() };
                owner.write_sealed(ObjectName::epoch(1), epoch.encode()).unwrap();
            }
            Fate::Withdrawn => {
                let body = WithdrawnBody { session, reason: WithdrawnReason::Settled, now: NOW };
                owner.write_sealed(ObjectName::withdrawn(snapshot), body.encode()).unwrap();
            }
        }
        let is_good = fate == Fate::Complete;
        // Shown in lists, found as the latest, found by its id (as restore and ls do), and told by check.
        assert_eq!(owner.snapshots().unwrap().len(), usize::from(is_good), "{kind:?} {fate:?}");
        assert_eq!(owner.find_snapshot("latest", None, None).is_ok(), is_good, "{kind:?} {fate:?}");
        let by_id = owner.find_snapshot(&snapshot.to_string(), None, None);
        let expected = match fate {
            Fate::Complete => None,
            Fate::LacksAPack | Fate::PackIsCondemned => Some(ErrorKind::Damaged),
            Fate::Withdrawn => Some(ErrorKind::NotFound),
        };
        assert_eq!(by_id.as_ref().err().map(Error::kind), expected, "{kind:?} {fate:?}");
        if let Ok(found) = &by_id {
            let mut content = Vec::new();
            owner.restore_to_writer(found, None, &mut content, &Silent).unwrap();
            assert_eq!(content, b"layers of ice");
        }
        let report = owner.check(&Silent).unwrap();
        assert!(report.findings.is_empty(), "{kind:?} {fate:?}: {:?}", report.findings);
        let is_told = report.notices.iter().any(|notice| notice.contains("does not count") || notice.contains("do not count"));
        assert_eq!(is_told, !is_good, "{kind:?} {fate:?}: {:?}", report.notices);
    }
}

/// A stream during which something happens.
pub(super) struct Meanwhile<F: FnOnce()>(pub(super) Option<F>, pub(super) &'static [u8]);

impl<F: FnOnce()> std::io::Read for Meanwhile<F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Some(happens) = self.0.take() {
            happens();
        }
        self.1.read(buffer)
    }
}

#[test]
fn only_maintain_condemns_packs_and_gives_sessions_up() {
    for (roles, is_believed) in [(Roles::BACKUP, false), (Roles::MAINTAIN, true)] {
        let backend = MemoryBackend::new();
        let owner = repository(&backend);
        back_up(&owner, b"layers of ice");
        let other = other_client(&owner, roles);
        let session = SessionId(backend.list_sorted(ObjectKind::Session).unwrap()[0].name.id());
        let condemned = owner.list_packs().unwrap().into_iter().map(|pack| (pack.name.kind(), PackId(pack.name.id()))).collect();
        let epoch = EpochBody { predecessor: [0; 32], session, now: NOW, condemned, withdrawn: Vec::new() };
        other.write_sealed(ObjectName::epoch(1), epoch.encode()).unwrap();
        let stored = owner.backup_stream("name", Box::new(&b"layers of ice"[..]), &BackupOptions::new("series"), &Silent).unwrap();
        assert_eq!(stored.bytes_unique > 0, is_believed, "nobody deduplicates against what is condemned");

        let store = backend.clone();
        let give_up = move || {
            for object in store.list_sorted(ObjectKind::Session).unwrap() {
                let body = TombstoneBody { epoch: 1, now: NOW };
                other.write_sealed(ObjectName::tombstone(SessionId(object.name.id())), body.encode()).unwrap();
            }
        };
        let stream = Meanwhile(Some(give_up), b"another layer");
        let result = owner.backup_stream("name", Box::new(stream), &BackupOptions::new("series"), &Silent);
        assert_eq!(result.err().map(|error| error.kind()), is_believed.then_some(ErrorKind::Busy));
        assert_eq!(owner.snapshots().unwrap().len(), if is_believed { 2 } else { 3 });
        let reported: Vec<_> = owner.check(&Silent).unwrap().findings.into_iter().filter_map(|finding| finding.rule).collect();
        let expected: &[&str] = if is_believed { &[] } else { &["OBJ-9"; 4] };
        assert_eq!(reported, expected, "the epoch, and the tombstones of three sessions");
    }
}

/// A store in which one snapshot was published just after the snapshots were listed.
#[derive(Debug)]
struct Late {
    inner: MemoryBackend,
    snapshot: SnapshotId,
}

impl crate::backend::Backend for Late {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn crate::backend::ObjectWriter + '_>> {
        self.inner.create(name)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.inner.get_range(name, offset, length)
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.inner.size(name)
    }

    fn list(
        &self,
        kind: ObjectKind,
        visit: &mut dyn FnMut(crate::backend::ObjectInfo) -> Result<()>,
        stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let late = ObjectName::snapshot(self.snapshot);
        self.inner.list(kind, &mut |object| if object.name == late { Ok(()) } else { visit(object) }, stranger)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.inner.delete(name)
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[test]
fn a_backup_that_ends_while_snapshots_are_listed_is_no_damage() {
    let backend = MemoryBackend::new();
    let owner = repository(&backend);
    let snapshot = back_up(&owner, b"layers of ice");
    let key = Key::passphrase("correct horse").unwrap();
    let open =
        || Repository::open(Arc::new(Late { inner: backend.clone(), snapshot }), Runtime::system(1), &key, Settings::default()).unwrap();
    assert_eq!(open().snapshots().unwrap().iter().map(|found| found.id).collect::<Vec<_>>(), [snapshot]);
    // One that is really gone is still missed.
    backend.delete(&ObjectName::snapshot(snapshot)).unwrap();
    assert_eq!(open().snapshots().unwrap_err().kind(), ErrorKind::Damaged);
}

/// Its listings lack one object, as those of any store may that was being written meanwhile.
#[derive(Debug)]
struct Overlooking {
    inner: MemoryBackend,
    name: ObjectName,
}

impl Backend for Overlooking {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        self.inner.create(name)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.inner.get_range(name, offset, length)
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.inner.size(name)
    }

    fn list(
        &self,
        kind: ObjectKind,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let mut see = |object: ObjectInfo| if object.name == self.name { Ok(()) } else { visit(object) };
        self.inner.list(kind, &mut see, stranger)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.inner.delete(name)
    }

    fn describe(&self) -> String {
        "overlooking".into()
    }
}

fn opened(backend: impl Backend + 'static) -> Result<Repository> {
    opened_at(Arc::new(backend))
}

fn opened_at(backend: Arc<dyn Backend>) -> Result<Repository> {
    Repository::open(backend, Runtime::seeded(9, NOW, 2), &Key::passphrase("correct horse")?, Settings::default())
}

#[test]
fn of_numbered_objects_the_one_that_a_listing_lacks_is_asked_for_by_name() {
    let backend = MemoryBackend::new();
    let owner = repository(&backend);
    owner.rotate(&owner.plan_rotation(None).unwrap()).unwrap();
    let owner = opened(backend.clone()).unwrap();
    owner.rotate(&owner.plan_rotation(None).unwrap()).unwrap();
    let overlooking = |name| opened(Overlooking { inner: backend.clone(), name });
    let owner = overlooking(ObjectName::config(2)).unwrap();
    assert_eq!(owner.generation(), 3);

    let session = Session::begin(&owner, SessionKind::Writer).unwrap();
    let packs = [1, 2].map(|n| (ObjectKind::DataPack, PackId([n; 16])));
    let mut predecessor = [0; 32];
    for (number, pack) in (1..).zip(packs) {
        let body = EpochBody { predecessor, session: session.id(), now: NOW, condemned: vec![pack], withdrawn: Vec::new() };
        owner.write_sealed(ObjectName::epoch(number), body.encode()).unwrap();
        predecessor = owner.read_sealed(&ObjectName::epoch(number)).unwrap().hash;
    }
    let (newest, condemned) = overlooking(ObjectName::epoch(1)).unwrap().condemned().unwrap();
    assert_eq!((newest, condemned), (2, packs.into()));
    // Somebody puts one far ahead: not all that could be before it is asked for.
    backend.put(&ObjectName::epoch(u32::MAX), b"rubbish").unwrap();
    assert_eq!(opened(backend.clone()).unwrap().condemned().unwrap().1, packs.into());
    backend.delete(&ObjectName::config(2)).unwrap();
    assert_eq!(opened(backend.clone()).unwrap_err().broken_rule(), Some("CFG-2"));
}

#[test]
fn what_others_stored_is_made_durable_before_it_is_relied_on() {
    let backend = MemoryBackend::new();
    let owner = repository(&backend);
    let first = back_up(&owner, b"layers of snow");
    back_up(&owner, b"layers of ice");
    owner.forget(&[first], &Silent).unwrap();
    owner.gc(&GcOptions::default(), &Silent).unwrap();
    let kinds = [ObjectKind::DataPack, ObjectKind::MetaPack, ObjectKind::RefsPack];
    let others: Vec<_> = kinds.into_iter().flat_map(|kind| backend.list_sorted(kind).unwrap()).map(|object| object.name).collect();
    let (watched, order) = Order::of(Arc::new(backend.clone()));
    let snapshot = back_up(&opened_at(watched).unwrap(), b"layers of ice");
    let published = order.at(Operation::Finish, ObjectName::snapshot(snapshot));
    let begun = order.first(Operation::Finish, |name| name.kind() == ObjectKind::Session).unwrap();
    assert!(others.into_iter().all(|pack| order.at(Operation::MakeDurable, pack) < published));
    // Whose keys seal it, and what tells collectors whom to wait for.
    assert!(order.at(Operation::MakeDurable, ObjectName::config(1)) < published);
    assert!(order.at(Operation::MakeDurable, ObjectName::epoch(1)) < begun);
}

#[test]
fn only_its_own_beats_keep_a_session_alive() {
    let backend = MemoryBackend::new();
    let owner = repository(&backend);
    let other = other_client(&owner, Roles::BACKUP);
    let session = Session::begin(&owner, SessionKind::Writer).unwrap();
    let beat = |by: &Repository, number| by.write_sealed(ObjectName::beat(session.id(), number), BeatBody { now: NOW }.encode()).unwrap();
    let last_beat = || owner.open_sessions().unwrap()[0].last_beat;
    beat(&other, u32::MAX);
    assert_eq!(last_beat(), 0);
    beat(&owner, 1);
    beat(&other, 2);
    assert_eq!(last_beat(), 1);
}

/// Otherwise the one that comes next stands, and the one before it goes with the power.
#[test]
fn a_config_is_durable_before_the_next_one_is_written() {
    let backend = MemoryBackend::new();
    let owner = repository(&backend);
    owner.rotate(&owner.plan_rotation(None).unwrap()).unwrap();
    let (watched, order) = Order::of(Arc::new(backend));
    let other = opened_at(watched).unwrap();
    other.rotate(&other.plan_rotation(None).unwrap()).unwrap();
    assert!(order.at(Operation::MakeDurable, ObjectName::config(2)) < order.at(Operation::Finish, ObjectName::config(3)));
}

/// A repository in a store that is far away: lists are read side by side, and ends of packs are read once.
#[test]
fn ends_of_packs_are_read_once_from_a_store_that_is_far_away() {
    let (backend, cache) = (MemoryBackend::new(), tempfile::tempdir().unwrap());
    let content: &[u8] = &(0..60_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>();
    let back_up = || {
        let reads = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&reads);
        let far = HookedBackend::new(Arc::new(backend.clone()), move |call| {
            if call.is_done && call.kind == ObjectKind::DataPack && matches!(call.operation, Operation::GetRange | Operation::Size) {
                noted.lock().push(call.name.unwrap());
            }
            Ok(())
        });
        let runtime = Runtime::system(2);
        let key = Key::passphrase("correct horse").unwrap();
        let client = Repository::open(Arc::new(far.asked_at_once(8)), runtime, &key, Settings::default().with_cache(cache.path())).unwrap();
        let stream = Box::new(std::io::Cursor::new(content.to_vec()));
        client.backup_stream("name", stream, &BackupOptions::new("series"), &Silent).unwrap();
        assert!(client.snapshots().unwrap().iter().all(|snapshot| snapshot.state == SnapshotState::Closed));
        std::mem::take(&mut *reads.lock())
    };
    repository(&backend);
    (0..2).for_each(|_| assert_eq!(back_up(), [], "who wrote them need not read them"));
    let folder = cache.path().join(repository_folder(cache.path())).join("tails");
    let kept = || std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    kept().for_each(|path| std::fs::write(path, "rubbish").unwrap());
    let read: BTreeSet<_> = back_up().into_iter().collect();
    assert!(!read.is_empty(), "what is kept and wrong is read");
    assert_eq!(back_up(), []);
    kept().for_each(|path| std::fs::remove_file(path).unwrap());
    assert_eq!(back_up().into_iter().collect::<BTreeSet<_>>(), read);
    assert_eq!(back_up(), []);
    assert_eq!(opened(backend).unwrap().snapshots().unwrap().len(), 6);
}

/// The only folder of a repository in this one.
fn repository_folder(cache: &std::path::Path) -> std::ffi::OsString {
    std::fs::read_dir(cache).unwrap().find(|entry| entry.as_ref().unwrap().path().join("tails").is_dir()).unwrap().unwrap().file_name()
}
