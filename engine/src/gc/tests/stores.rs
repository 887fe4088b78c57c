//! What only a store can keep: clients that reach it through a door that lets them add, or through one that lets nobody delete.

use super::fixture::{Fixture, NOW, client_with, state};
use super::*;
use crate::backend::testing::s3::{ACCESS_KEY, S3Server};
use crate::backend::testing::{HookedBackend, Operation};
use crate::backend::{Address, ObjectName, StoreSettings, create, open};
use crate::backup::BackupOptions;
use crate::format::Roles;
use crate::repository::{LockEnd, Settings};
use crate::runtime::Runtime;
use crate::source::{Roots, SourceOptions};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The client behind a door that refuses to delete, and how often it refused.
fn behind_the_door(fixture: &Fixture, client: Repository) -> (Repository, Arc<AtomicU64>) {
    let refused = Arc::new(AtomicU64::new(0));
    let refusals = Arc::clone(&refused);
    let adding = HookedBackend::new(Arc::new(fixture.backend.clone()), move |call| match call.operation {
        Operation::Delete => {
            refusals.fetch_add(1, Ordering::Relaxed);
            Err(Error::new(ErrorKind::Unavailable, "this store lets nobody delete"))
        }
        _ => Ok(()),
    });
    let (credential, config, generation) = ((*client.credential).clone(), client.config.clone(), fixture.repository.generation());
    let (id, runtime) = (client.id, Runtime::seeded(77, NOW, 2));
    (Repository::assemble(Arc::new(adding), runtime, credential, config, id, generation, Settings::default()), refused)
}

/// A stream that ends with an error after `at` bytes, or does something before its first.
struct Stream<F>(std::io::Cursor<Vec<u8>>, Option<u64>, Option<F>);

impl<F: FnOnce()> Read for Stream<F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Some(happens) = self.2.take() {
            happens();
        }
        match self.1.is_some_and(|at| self.0.position() >= at) {
            true => Err(std::io::Error::other("the source is gone")),
            false => self.0.read(buffer),
        }
    }
}

#[test]
fn a_client_that_may_only_add_backs_up_and_takes_nothing_away() {
    for parity in [0, 5] {
        let mut fixture = Fixture::with_states(0..3);
        if parity > 0 {
            fixture.repository.set_parity(parity).unwrap();
            fixture.reopen(Settings::default(), 30);
            fixture.repository.protect(&Silent).unwrap();
        }
        let before = fixture.objects();
        let (client, refused) = behind_the_door(&fixture, client_with(&fixture.repository, Roles::BACKUP, 70));
        for name in before.keys() {
            assert_eq!(client.backend.put(name, b"something else").unwrap_err().kind(), ErrorKind::AlreadyExists);
        }
        let folder = tempfile::tempdir().unwrap();
        for number in 0..20 {
            std::fs::write(folder.path().join(number.to_string()), &state(9)[number * 3_000..][..5_000]).unwrap();
        }
        let roots = Roots::resolve(&[folder.path().join(".")]).unwrap();
        let folder_of = |client: &Repository| client.backup(&roots, &SourceOptions::default(), &BackupOptions::new("folder"), &Silent);
        let stream = |client: &Repository, fails_at: Option<u64>| {
            let source = Box::new(Stream(std::io::Cursor::new(state(3)), fails_at, None::<fn()>));
            client.backup_stream("state", source, &BackupOptions::new("daily"), &Silent)
        };
        folder_of(&client).unwrap();
        // One that fails leaves what it has stored, and the next one uses it.
        assert!(stream(&client, Some(200_000)).unwrap_err().to_string().contains("the source is gone"));
        let id = stream(&client, None).unwrap().snapshot.unwrap();
        fixture.keep(id, 3);
        // Keys change meanwhile: nothing is published.
        let admin = fixture.other_handle(31);
        let rotates = move || admin.rotate(&admin.plan_rotation(None).unwrap()).unwrap();
        let source = Box::new(Stream(std::io::Cursor::new(state(4)), None, Some(rotates)));
        let shown = fixture.repository.snapshots().unwrap().len();
        assert_eq!(client.backup_stream("state", source, &BackupOptions::new("daily"), &Silent).unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(fixture.other_handle(32).snapshots().unwrap().len(), shown);
        assert_eq!(refused.load(Ordering::Relaxed), 0, "parity {parity}: a client tries to delete nothing");
        let after = fixture.objects();
        assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)));
        fixture.reopen(Settings::default(), 33);
        fixture.assert_whole();
        // What it has added it can leave behind and no more: the owner, who may delete, collects all the same.
        fixture.forget(0);
        assert!(gc_all(&fixture.repository).deleted.packs > 0);
        fixture.assert_whole();
    }
}

/// Without such a door whoever has the store's own password deletes with any credential or none; it is noticed (`sightings.rs`), and no more.
#[test]
fn without_the_door_a_client_deletes_and_check_names_what_is_lost() {
    let fixture = Fixture::with_states(0..2);
    let client = client_with(&fixture.repository, Roles::BACKUP, 70);
    let pack = fixture.packs().into_iter().find(|name| name.kind() == ObjectKind::DataPack).unwrap();
    client.backend.delete(&pack).unwrap();
    let report = fixture.repository.check(&Silent).unwrap();
    assert!(!report.hurt.is_empty() && report.hurt.iter().all(|hurt| hurt.paths == [b"state"]), "{:?}", report.hurt);
}

#[test]
fn what_a_stolen_maintain_credential_forgets_a_locking_store_still_has() {
    let fixture = Fixture::with_states(0..3);
    let before = fixture.objects();
    let (thief, _) = behind_the_door(&fixture, client_with(&fixture.repository, Roles::MAINTAIN, 71));
    let all: Vec<_> = fixture.kept.iter().map(|kept| kept.id).collect();
    thief.forget(&all, &Silent).unwrap();
    // It condemns everything, and gets rid of nothing.
    assert_eq!(thief.gc(&super::all(), &Silent).unwrap_err().kind(), ErrorKind::Unavailable);
    let after = fixture.objects();
    assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)));
    assert!(fixture.repository.snapshots().unwrap().is_empty());
    // Whoever holds the store takes away what came since, and all of it is there again.
    let added: Vec<ObjectName> = after.into_keys().filter(|name| !before.contains_key(name)).collect();
    added.iter().for_each(|name| fixture.backend.delete(name).unwrap());
    fixture.assert_whole();
}

/// Whoever has the store's password deletes and writes over everything; a bucket with object lock keeps the versions that a lock needs.
#[test]
fn what_a_lock_needs_a_bucket_with_object_lock_still_has_whatever_is_deleted_or_written_over() {
    let (fixture, server) = (Fixture::with_states(0..3), S3Server::start());
    server.enable_object_lock();
    let place = Address::parse("s3://bucket/place".as_ref()).unwrap();
    let mut settings = StoreSettings::new(Runtime::seeded(3, NOW, 2));
    let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    settings.options = vec![
        option("endpoint", &server.endpoint()),
        option("access_key_id", ACCESS_KEY),
        option("secret_access_key", "secret"),
        option("region", "here"),
    ];
    let bucket = create(&place, &settings).unwrap();
    fixture.objects().iter().for_each(|(name, bytes)| bucket.put(name, bytes).unwrap());
    let (owner, kept) = (fixture.handle_through(bucket, 40), &fixture.kept[1]);
    assert!(owner.lock(&[kept.id], LockEnd::After(Duration::from_secs(864_000)), "", &Silent).unwrap().kept_objects > 5);
    let (thief, retained) = (open(&place, &settings).unwrap(), server.retained());
    for name in ObjectKind::ALL.into_iter().flat_map(|kind| thief.list_sorted(kind).unwrap()).map(|object| object.name) {
        thief.delete(&name).unwrap();
        thief.put(&name, b"something else").unwrap();
    }
    for key in server.keys() {
        assert_eq!(server.delete_versions(&key), !retained.contains_key(&key), "{key}");
    }
    server.bring_back();
    let owner = fixture.handle_through(open(&place, &settings).unwrap(), 41);
    let (mut content, snapshot) = (Vec::new(), owner.find_snapshot(&kept.id.to_string(), None, None).unwrap());
    owner.restore_to_writer(&snapshot, None, &mut content, &Silent).unwrap();
    assert!(content == kept.content);
}
