//! A small repository in memory whose snapshots are known.

use crate::backend::{Backend, BackendExt, MemoryBackend, ObjectKind, ObjectName};
use crate::backup::BackupOptions;
use crate::crypto::{PassphraseCost, Secret, Signer};
use crate::error::Result;
use crate::format::config::CutMethod;
use crate::format::object::Author;
use crate::format::{Certificate, Roles};
use crate::id::{CredentialId, DomainId, SnapshotId};
use crate::progress::{Event, Progress, Silent};
use crate::repository::{CreateOptions, Key, Repository, Settings};
use crate::runtime::{Runtime, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };
/// Pieces of a state; in each stretch of so many some in a row change every day.
const PIECES: u64 = 60;
const STRETCH: u64 = 15;
const CHANGED: u64 = 5;
/// Bytes of a stretch of scattered content; a frame is a little shorter.
const SCATTERED: usize = 10_000;

/// Bytes that depend on `seed` and do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// What is backed up on a day: pieces of which a third, here and there, is new each day.
pub(crate) fn state(day: u64) -> Vec<u8> {
    let piece = |n: u64| {
        let changed = (0..day).rev().find(|past| (n + past * 4) % STRETCH < CHANGED).map_or(0, |past| past + 1);
        noise(n << 32 | changed, 3000 + (n as usize * 997) % 4000)
    };
    (0..PIECES).flat_map(piece).collect()
}

/// Content of which variants 1 and 2 have a few chunks here and there in common with variant 0 and none with one another, so that most of every
/// frame dies with variant 0.
pub(crate) fn scattered(variant: u64) -> Vec<u8> {
    let (common, length) = (noise(u64::MAX, 12 * SCATTERED), SCATTERED);
    let own = noise(u64::MAX - 1 - variant, 12 * length);
    let kept = [0..length, 0..2000, 2000..5500][variant as usize % 3].clone();
    let byte = |at: usize| if kept.contains(&(at % length)) { common[at] } else { own[at] };
    (0..common.len()).map(byte).collect()
}

/// A snapshot that has to be there, and its content.
pub(crate) struct Kept {
    pub(crate) id: SnapshotId,
    pub(crate) content: Vec<u8>,
    day: Option<u64>,
}

impl Kept {
    /// The day whose state it is.
    pub(crate) fn day(&self) -> Option<u64> {
        self.day
    }
}

pub(crate) struct Fixture {
    pub(crate) backend: MemoryBackend,
    pub(crate) repository: Repository,
    pub(crate) kept: Vec<Kept>,
    key: Key,
}

impl Fixture {
    pub(crate) fn empty() -> Self {
        Self::other(11)
    }

    /// An empty one, with keys of its own for each seed.
    pub(crate) fn other(seed: u64) -> Self {
        let options = CreateOptions {
            pack_size: 64 << 10,
            data_frame_size: 8 << 10,
            meta_frame_size: 4 << 10,
            cut: CutMethod::Content { min: 512, average: 1024, max: 4096 },
            passphrase_cost: PassphraseCost::TEST,
            parity_percent: 0,
        };
        let backend = MemoryBackend::new();
        let key = Key::KeyFile(Secret::new([5; 32]));
        let repository =
            Repository::create(Arc::new(backend.clone()), Runtime::seeded(seed, NOW, 2), &key, &options, Settings::default()).unwrap();
        Self { backend, repository, kept: Vec::new(), key }
    }

    /// One snapshot for each day.
    pub(crate) fn with_states(days: std::ops::Range<u64>) -> Self {
        let mut fixture = Self::empty();
        days.for_each(|day| fixture.backup(day));
        fixture
    }

    /// The same objects in a backend of their own; nobody holds anything there.
    pub(crate) fn copy(&self) -> Self {
        let backend = MemoryBackend::new();
        self.objects().iter().for_each(|(name, bytes)| backend.put(name, bytes).unwrap());
        let repository = open(Arc::new(backend.clone()), &self.key, 12);
        let kept = self.kept.iter().map(|kept| Kept { id: kept.id, content: kept.content.clone(), day: kept.day }).collect();
        Self { backend, repository, kept, key: self.key.clone() }
    }

    /// A replica without any snapshot yet, in a backend of its own.
    pub(crate) fn replica(&self, seed: u64) -> Self {
        let backend = MemoryBackend::new();
        let shared: Arc<dyn Backend> = Arc::new(backend.clone());
        self.repository.make_replica(&shared).unwrap();
        Self { backend, repository: open(shared, &self.key, seed), kept: Vec::new(), key: self.key.clone() }
    }

    /// Expects of it what `other` has.
    pub(crate) fn keep_as(&mut self, other: &Self) {
        self.kept = other.kept.iter().map(|kept| Kept { id: kept.id, content: kept.content.clone(), day: kept.day }).collect();
    }

    /// Goes on with a new handle that has these settings.
    pub(crate) fn reopen(&mut self, settings: Settings, seed: u64) {
        let backend = Arc::new(self.backend.clone());
        self.repository = Repository::open(backend, Runtime::seeded(seed, NOW, 2), &self.key, settings).unwrap();
    }

    /// Another process with the same credential.
    pub(crate) fn other_handle(&self, seed: u64) -> Repository {
        open(Arc::new(self.backend.clone()), &self.key, seed)
    }

    /// Another process, which reaches the objects through `backend`.
    pub(crate) fn handle_through(&self, backend: Arc<dyn Backend>, seed: u64) -> Repository {
        open(backend, &self.key, seed)
    }

    /// What opens it.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn backup(&mut self, day: u64) {
        let id = backup_state(&self.repository, "daily", day).unwrap();
        self.keep(id, day);
    }

    /// Keeps the variant as if it were a day.
    pub(crate) fn backup_scattered(&mut self, variant: u64) {
        let content = scattered(variant);
        let id = backup_bytes(&self.repository, "scattered", content.clone()).unwrap();
        self.kept.push(Kept { id, content, day: Some(variant) });
    }

    /// Variants 0 to 2 were backed up, and 0 was forgotten: of its frames little is needed.
    pub(crate) fn scattered() -> Self {
        let mut fixture = Self::empty();
        (0..3).for_each(|variant| fixture.backup_scattered(variant));
        fixture.forget(0);
        fixture
    }

    /// Removes a snapshot and all that tells of it, as somebody with access to the store can.
    pub(crate) fn take_away(&self, snapshot: SnapshotId) -> Vec<(ObjectName, Vec<u8>)> {
        let session = self.repository.read_snapshot_header(snapshot).unwrap().record.id();
        let names = [ObjectName::snapshot(snapshot), ObjectName::closed(session), ObjectName::session(session)];
        let objects = names.map(|name| (name, self.backend.get(&name, u64::MAX).unwrap()));
        names.iter().for_each(|name| self.backend.delete(name).unwrap());
        objects.into()
    }

    pub(crate) fn put_back(&self, objects: &[(ObjectName, Vec<u8>)]) {
        objects.iter().for_each(|(name, bytes)| self.backend.put(name, bytes).unwrap());
    }

    pub(crate) fn relocations(&self) -> Vec<ObjectName> {
        self.backend.list_sorted(ObjectKind::Relocation).unwrap().into_iter().map(|object| object.name).collect()
    }

    pub(crate) fn backup_stream(&mut self, name: &[u8], length: usize) {
        let content: Vec<u8> = [name, &noise(self.kept.len() as u64, length)].concat();
        let id = backup_bytes(&self.repository, "streams", content.clone()).unwrap();
        self.kept.push(Kept { id, content, day: None });
    }

    pub(crate) fn keep(&mut self, id: SnapshotId, day: u64) {
        self.kept.push(Kept { id, content: state(day), day: Some(day) });
    }

    /// Forgets the first kept snapshot of that day.
    pub(crate) fn forget(&mut self, day: u64) {
        let at = self.kept.iter().position(|kept| kept.day == Some(day)).unwrap();
        let kept = self.kept.remove(at);
        self.repository.forget(&[kept.id], &Silent).unwrap();
    }

    pub(crate) fn objects(&self) -> BTreeMap<ObjectName, Vec<u8>> {
        let kinds = ObjectKind::ALL.into_iter().flat_map(|kind| self.backend.list_sorted(kind).unwrap());
        kinds.map(|object| (object.name, self.backend.get(&object.name, u64::MAX).unwrap())).collect()
    }

    pub(crate) fn packs(&self) -> Vec<ObjectName> {
        self.repository.list_packs().unwrap().into_iter().map(|object| object.name).collect()
    }

    pub(crate) fn pack_bytes(&self) -> u64 {
        self.repository.list_packs().unwrap().iter().map(|object| object.size).sum()
    }

    pub(crate) fn change(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.backend.get(name, u64::MAX).unwrap();
        change(&mut bytes);
        self.backend.delete(name).unwrap();
        self.backend.put(name, &bytes).unwrap();
    }

    /// The newest snapshots of each content that `fixture` keeps come back from here, whatever they are called.
    pub(crate) fn assert_contents(&self, fixture: &Self) {
        let restore = |snapshot| {
            let mut content = Vec::new();
            self.repository.restore_to_writer(snapshot, None, &mut content, &Silent).unwrap();
            content
        };
        let contents: Vec<_> = self.repository.snapshots().unwrap().iter().map(restore).collect();
        assert!(fixture.kept.iter().all(|kept| contents.contains(&kept.content)));
    }

    /// Scrub finds nothing, and every kept snapshot comes back as it was.
    pub(crate) fn assert_whole(&self) {
        let report = self.repository.scrub(&Silent).unwrap();
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        let shown: Vec<_> = self.repository.snapshots().unwrap();
        for kept in &self.kept {
            let snapshot = shown.iter().find(|snapshot| snapshot.id == kept.id).expect("the snapshot is listed");
            let mut content = Vec::new();
            self.repository.restore_to_writer(snapshot, None, &mut content, &Silent).unwrap();
            assert!(content == kept.content, "snapshot {} has other content", kept.id);
        }
    }
}

fn open(backend: Arc<dyn Backend>, key: &Key, seed: u64) -> Repository {
    Repository::open(backend, Runtime::seeded(seed, NOW, 2), key, Settings::default()).unwrap()
}

pub(crate) fn backup_state(repository: &Repository, series: &str, day: u64) -> Result<SnapshotId> {
    backup_bytes(repository, series, state(day))
}

fn backup_bytes(repository: &Repository, series: &str, content: Vec<u8>) -> Result<SnapshotId> {
    let stream = Box::new(std::io::Cursor::new(content));
    let summary = repository.backup_stream("state", stream, &BackupOptions::new(series), &Silent)?;
    Ok(summary.snapshot.unwrap())
}

/// The same repository, opened by a client whose credential has only `roles`, and the keys that go with them.
pub(crate) fn client_with(repository: &Repository, roles: Roles, seed: u8) -> Repository {
    let mut credential = (*repository.credential).clone();
    let admin = Signer::new(credential.admin_seed.as_ref().unwrap());
    credential.signing_seed = Secret::new([seed; 32]);
    let signer = Signer::new(&credential.signing_seed);
    let name = CredentialId([seed; 16]);
    let certificate = Certificate::sign(&admin, &repository.id, 1, roles, DomainId([0; 16]), name, signer.verifying_key());
    credential.author = Author { certificate, signer };
    credential.admin_seed = None;
    if !roles.contain(Roles::BACKUP) {
        (credential.chunk_id_key, credential.cutting_key) = (None, None);
    }
    if !roles.contain(Roles::RESTORE) {
        credential.restore_keys.clear();
    }
    let (backend, runtime) = (Arc::clone(&repository.backend), Runtime::seeded(u64::from(seed), NOW, 2));
    Repository::assemble(backend, runtime, credential, repository.config.clone(), repository.id, 1, Settings::default())
}

/// Stops an operation at the n-th question whether it should go on.
#[derive(Debug)]
pub(crate) struct Interrupter(AtomicU64);

impl Interrupter {
    pub(crate) fn after(questions: u64) -> Self {
        Self(AtomicU64::new(questions))
    }
}

impl Progress for Interrupter {
    fn event(&self, _: Event<'_>) {}
    fn is_cancelled(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}
