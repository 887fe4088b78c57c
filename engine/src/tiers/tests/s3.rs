//! A tier that is an archive class of the bucket in which the repository lies, and object lock.

use super::*;
use crate::backend::testing::s3::{ACCESS_KEY, S3Server};
use crate::backend::{Address, ArchiveClass, StoreSettings, create, open, open_place};
use crate::repository::LockEnd;
use std::ffi::OsStr;
use std::time::Duration;

/// Opens what stands in an address, as the program does.
#[derive(Debug)]
struct Door(StoreSettings);

impl Door {
    fn settings(&self, tier: &TierBody) -> StoreSettings {
        StoreSettings { storage_class: tier.storage_class.clone(), ..self.0.clone() }
    }
}

impl TierOpener for Door {
    fn open(&self, tier: &TierBody, address: &str) -> Result<Arc<dyn Backend>> {
        open_place(&Address::parse(OsStr::new(address))?, &self.settings(tier))
    }

    fn create(&self, tier: &TierBody, address: &str) -> Result<Arc<dyn Backend>> {
        create(&Address::parse(OsStr::new(address))?, &self.settings(tier))
    }
}

fn store(server: &S3Server) -> StoreSettings {
    let mut settings = StoreSettings::new(runtime(3));
    let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    settings.options = vec![
        option("endpoint", &server.endpoint()),
        option("access_key_id", ACCESS_KEY),
        option("secret_access_key", "secret"),
        option("region", "here"),
    ];
    settings
}

/// Four days in a bucket.
fn world(server: &S3Server) -> (Repository, Vec<(SnapshotId, Vec<u8>)>) {
    world_of(server, state)
}

fn world_of(server: &S3Server, state: fn(u64) -> Vec<u8>) -> (Repository, Vec<(SnapshotId, Vec<u8>)>) {
    let options = CreateOptions {
        pack_size: 64 << 10,
        data_frame_size: 16 << 10,
        meta_frame_size: 4 << 10,
        cut: CutMethod::Content { min: 512, average: 1024, max: 4096 },
        passphrase_cost: PassphraseCost::TEST,
        parity_percent: 0,
    };
    let backend = create(&Address::parse(OsStr::new("s3://bucket/warm")).unwrap(), &store(server)).unwrap();
    let settings = Settings::default().with_tier_opener(Arc::new(Door(store(server))));
    let repository = Repository::create(backend, runtime(1), &key(), &options, settings).unwrap();
    let backup = |day: u64| {
        let mut options = BackupOptions::new("daily");
        options.time = Some(Timestamp { seconds: NOW - DAY * (10 - day as i64), nanoseconds: 0 });
        let made = repository.backup_stream("state", Box::new(std::io::Cursor::new(state(day))), &options, &Silent).unwrap();
        (made.snapshot.unwrap(), state(day))
    };
    let kept = (0..4).map(backup).collect();
    (repository, kept)
}

fn glacier() -> TierBody {
    let way = |(name, seconds): &(&str, u32)| ThawClass { name: (*name).into(), seconds: *seconds, bytes_price: 0, requests_price: 0 };
    let classes = ArchiveClass::of("GLACIER").unwrap().ways.iter().map(way).collect();
    TierBody { is_frozen: true, storage_class: "GLACIER".into(), classes, ..TierBody::new("cold", "s3://bucket/cold") }
}

fn restored(repository: &Repository, id: SnapshotId) -> Result<Vec<u8>> {
    let snapshot = repository.find_snapshot(&id.to_string(), None, None)?;
    let mut bytes = Vec::new();
    repository.restore_to_writer(&snapshot, None, &mut bytes, &Silent).map(|_| bytes)
}

#[test]
fn packs_go_into_an_archive_class_and_come_back_by_a_thaw() {
    let server = S3Server::start();
    let (repository, kept) = world_of(&server, long_state);
    repository.add_tier(&glacier()).unwrap();
    let moved = repository.tier_apply(&TierPolicy::new("cold"), &Silent).unwrap().moved;
    assert!(moved.packs >= 4);
    let cold: Vec<_> = server.keys().into_iter().filter(|key| key.starts_with("cold/packs/")).collect();
    assert_eq!(cold.len() as u64, moved.packs);
    assert!(cold.iter().all(|key| server.class_of(key).as_deref() == Some("GLACIER")));
    assert!(server.keys().iter().filter(|key| !key.starts_with("cold/packs/")).all(|key| server.class_of(key).is_none()));

    // Nothing thaws by itself, and what is frozen says so.
    let report = repository.scrub(&Silent).unwrap();
    assert!(report.findings.is_empty() && server.asked_to_thaw().is_empty(), "{report:#?}");
    assert_eq!(restored(&repository, kept[0].0).unwrap_err().kind(), ErrorKind::Frozen);
    assert!(restored(&repository, kept[3].0).unwrap() == kept[3].1);
    assert!(repository.tier_apply(&TierPolicy::new("cold"), &Silent).unwrap().plan.is_empty());

    let oldest = repository.find_snapshot(&kept[0].0.to_string(), None, None).unwrap();
    let plan = repository.cold_plan(&oldest, &[], &Silent).unwrap();
    assert_eq!(repository.thaw(&plan, &way("tomorrow", 3), &Silent).unwrap_err().kind(), ErrorKind::Invalid);
    // It goes on where it was interrupted, and asks for nothing twice.
    server.fail_by({
        let mut left = 2;
        move |asked| {
            left -= u32::from(asked.query.contains("restore") && left > 0);
            (left == 0 && asked.query.contains("restore")).then_some(crate::backend::testing::s3::Fault::Refuse(403, "AccessDenied"))
        }
    });
    assert_eq!(repository.thaw(&plan, &way("bulk", 3), &Silent).unwrap_err().kind(), ErrorKind::Unavailable);
    server.fail_no_more();
    let done = repository.thaw(&plan, &way("bulk", 3), &Silent).unwrap();
    assert_eq!(done.asked.packs + 1, plan.tiers[0].frozen.packs);
    assert_eq!(repository.thaw(&plan, &way("bulk", 3), &Silent).unwrap().asked.packs, 0);
    let asked = server.asked_to_thaw();
    assert!(
        asked.len() as u64 == plan.tiers[0].frozen.packs && asked.iter().all(|(_, way, days)| way == "Bulk" && *days == 3),
        "{asked:?}"
    );
    assert_eq!(restored(&repository, kept[0].0).unwrap_err().kind(), ErrorKind::Frozen);
    let left = server.pass_time(1);
    assert_eq!(repository.cold_plan(&oldest, &[], &Silent).unwrap().tiers[0].thawing.packs, left as u64);
    server.pass_time(usize::MAX);
    repository.wait_for_thaw(&plan, &Silent).unwrap();
    assert!(restored(&repository, kept[0].0).unwrap() == kept[0].1);

    // What nobody needs goes from there, too.
    repository.forget(&[kept[0].0, kept[1].0, kept[2].0], &Silent).unwrap();
    repository.gc(&GcOptions::default(), &Silent).unwrap();
    assert!(!server.keys().iter().any(|key| key.starts_with("cold/packs/")));
}

#[test]
fn a_class_that_is_no_archive_is_read_at_once_and_others_have_none() {
    let server = S3Server::start();
    let (repository, kept) = world(&server);
    repository.add_tier(&TierBody { storage_class: "STANDARD_IA".into(), ..TierBody::new("cold", "s3://bucket/cold") }).unwrap();
    assert!(repository.tier_apply(&TierPolicy::new("cold"), &Silent).unwrap().moved.packs >= 4);
    assert!(server.keys().iter().any(|key| server.class_of(key).as_deref() == Some("STANDARD_IA")));
    assert!(restored(&repository, kept[0].0).unwrap() == kept[0].1);
    let folder = tempfile::tempdir().unwrap();
    let wrong = TierBody { storage_class: "GLACIER".into(), ..TierBody::new("other", folder.path().to_str().unwrap()) };
    assert_eq!(repository.add_tier(&wrong).unwrap_err().kind(), ErrorKind::Invalid);
}

/// A repository with the same keys in another place of the bucket.
fn replica(server: &S3Server, repository: &Repository) -> Repository {
    let backend = create(&Address::parse(OsStr::new("s3://bucket/replica")).unwrap(), &store(server)).unwrap();
    repository.make_replica(&backend).unwrap();
    Repository::open(backend, runtime(7), &key(), Settings::default()).unwrap()
}

#[test]
fn locks_are_kept_by_the_stores_of_replicas_and_of_what_is_mirrored() {
    let server = S3Server::start();
    let (repository, kept) = world(&server);
    server.enable_object_lock();
    let until = |ids: &[SnapshotId], days: u64| {
        repository.lock(ids, LockEnd::After(Duration::from_secs(days * 86_400)), "", &Silent).unwrap().until
    };
    let ends = [until(&[kept[0].0], 10), until(&[kept[1].0], 20)].map(|end| end.to_string().replacen(' ', "T", 1).replacen(" UTC", "Z", 1));
    let other = replica(&server, &repository);
    repository.replicate(&other, &crate::replicate::ReplicateOptions::default(), &Silent).unwrap();
    let retained = server.retained();
    let of = |id: SnapshotId| retained.iter().find(|(key, _)| key.contains(&format!("replica/snapshots/{id}"))).map(|(_, end)| end.clone());
    assert_eq!([of(kept[0].0), of(kept[1].0), of(kept[2].0)], [Some(ends[0].clone()), Some(ends[1].clone()), None], "{retained:?}");
    for needed in ["packs", "meta", "refs", "config", "keys", "holds", "closed"] {
        assert!(retained.keys().any(|key| key.starts_with(&format!("replica/{needed}/"))), "{needed} {retained:?}");
    }
    // With a mirror the first place is asked all the same.
    let first = open(&Address::parse(OsStr::new("s3://bucket/warm")).unwrap(), &store(&server)).unwrap();
    let mirrored = Repository::open(first, runtime(9), &key(), Settings::default()).unwrap().mirroring([&other]).unwrap();
    assert!(mirrored.lock(&[kept[2].0], LockEnd::After(Duration::from_secs(86_400)), "", &Silent).unwrap().kept_objects > 0);
}

#[test]
fn a_store_with_object_lock_keeps_what_a_lock_needs_before_it_is_acknowledged() {
    let server = S3Server::start();
    let (repository, kept) = world(&server);
    let lock = |days: u64| repository.lock(&[kept[0].0], LockEnd::After(Duration::from_secs(days * 86_400)), "", &Silent).unwrap();
    server.fail_by(|asked| asked.query.contains("object-lock").then_some(crate::backend::testing::s3::Fault::Refuse(403, "AccessDenied")));
    let unknown = repository.lock(&[kept[0].0], LockEnd::After(Duration::from_secs(86_400)), "", &Silent).unwrap_err();
    assert!(unknown.kind() == ErrorKind::Unauthorized && unknown.to_string().contains("s3:GetBucketObjectLockConfiguration"), "{unknown}");
    assert_eq!(repository.renew_deadlines(&Silent).unwrap(), 0, "a collection goes on");
    server.fail_no_more();
    assert_eq!(lock(10).kept_objects, 0, "this store has no object lock");
    server.enable_object_lock();
    let handle = {
        let settings = Settings::default().with_tier_opener(Arc::new(Door(store(&server))));
        let backend = open(&Address::parse(OsStr::new("s3://bucket/warm")).unwrap(), &store(&server)).unwrap();
        Repository::open(backend, runtime(5), &key(), settings).unwrap()
    };
    let lock = |days: u64| handle.lock(&[kept[0].0], LockEnd::After(Duration::from_secs(days * 86_400)), "", &Silent).unwrap();
    // Locked as long already, and the store keeps it by now, too.
    let locked = lock(10);
    let retained = server.retained();
    assert!(locked.snapshots.is_empty() && retained.len() as u64 == locked.kept_objects, "{locked:?}");
    let until = |key: &str| retained.iter().find(|(known, _)| known.contains(key)).map(|(_, until)| until.clone());
    for needed in ["warm/packs/", "warm/meta/", "warm/refs/", "warm/config/", "warm/keys/", "warm/holds/", "warm/closed/"] {
        assert_eq!(until(needed).as_deref(), Some("2027-01-25T08:00:00Z"), "{needed} {retained:?}");
    }
    assert!(until(&format!("warm/snapshots/{}", &kept[0].0.to_string())).is_some());
    assert!(retained.len() < server.keys().len(), "what only other snapshots need is not kept");
    // Longer, never shorter.
    lock(20);
    lock(5);
    assert!(server.retained().values().all(|until| until == "2027-02-04T08:00:00Z"), "{:?}", server.retained());

    // What locks keep stays where it is kept, unless the tier keeps it, too: here it is a folder.
    let folder = tempfile::tempdir().unwrap();
    handle.add_tier(&TierBody::new("disk", folder.path().join("d").to_str().unwrap())).unwrap();
    let plan = handle.tier_plan(&TierPolicy::new("disk"), &Silent).unwrap();
    assert!(plan.locked.packs > 0 && plan.moves.packs > 0, "{plan:#?}");
    handle.add_tier(&TierBody { rank: 2, ..glacier() }).unwrap();
    let moved = handle.tier_apply(&TierPolicy::new("cold"), &Silent).unwrap();
    assert_eq!(moved.plan.locked.packs, 0);
    assert!(
        server.retained().keys().filter(|key| key.starts_with("cold/packs/")).count() as u64 == plan.locked.packs,
        "{:?}",
        server.retained()
    );
}

#[test]
fn what_locks_keep_does_not_go_on_from_a_tier_that_keeps_it_to_one_that_does_not() {
    let server = S3Server::start();
    server.enable_object_lock();
    let world = World::with_days();
    let place = create(&Address::parse(OsStr::new("s3://bucket/cold")).unwrap(), &store(&server)).unwrap();
    world.shelf.0.lock().insert("shelf 1".into(), place);
    world.repository.lock(&[world.kept[0].0], LockEnd::After(Duration::from_secs(86_400)), "", &Silent).unwrap();
    world.add(TierBody { minimum_days: 0, ..cold() });
    let moved = world.apply().moved;
    let kept = server.retained().keys().filter(|key| key.starts_with("cold/packs/")).count() as u64;
    assert!(kept > 0 && kept < moved.packs);
    world.add(TierBody { rank: 2, ..TierBody::new("colder", "shelf 2") });
    let plan = world.repository.tier_plan(&TierPolicy::new("colder"), &Silent).unwrap();
    assert_eq!((plan.locked.packs, plan.moves.packs), (kept, moved.packs - kept), "{plan:#?}");
}

/// Whoever is stopped in between leaves them to the next one. Of frames that were re-made nothing but relocations tells.
#[test]
fn copies_and_relocations_have_their_deadlines_before_anything_goes() {
    // In which frames chunks lie depends on threads, and so does whether any frame is worth being made anew.
    assert!((0..10).any(|_| collects_what_is_locked()));
}

/// Whether the collection made frames anew; if so, what is kept by then was looked at.
fn collects_what_is_locked() -> bool {
    let server = Arc::new(S3Server::start());
    let (repository, _) = world(&server);
    server.enable_object_lock();
    let backup = |content: &[u8], days_ago: i64| {
        let mut options = BackupOptions::new("other");
        options.time = Some(Timestamp { seconds: NOW - DAY * days_ago, nanoseconds: 0 });
        let made = repository.backup_stream("state", Box::new(std::io::Cursor::new(content.to_vec())), &options, &Silent).unwrap();
        made.snapshot.unwrap()
    };
    let mut content = noise(7, 300_000);
    let forgotten = backup(&content, 5);
    content.chunks_mut(8192).step_by(2).zip(100..).for_each(|(block, seed)| block.copy_from_slice(&noise(seed, block.len())));
    let locked = backup(&content, 4);
    let kept_by_then = Arc::new(Mutex::new(None));
    let (noted, asked) = (Arc::clone(&kept_by_then), Arc::clone(&server));
    let warm = open(&Address::parse(OsStr::new("s3://bucket/warm")).unwrap(), &store(&server)).unwrap();
    let hooked = HookedBackend::new(warm, move |call| {
        if call.operation == Operation::Delete && call.kind == ObjectKind::DataPack {
            noted.lock().get_or_insert_with(|| asked.retained());
        }
        Ok(())
    });
    let handle = Repository::open(Arc::new(hooked), runtime(5), &key(), Settings::default()).unwrap();
    handle.lock(&[locked], LockEnd::After(Duration::from_secs(86_400)), "", &Silent).unwrap();
    handle.forget(&[forgotten], &Silent).unwrap();
    let summary = handle.gc(&GcOptions::default(), &Silent).unwrap();
    if summary.frames_remade == 0 {
        return false;
    }
    assert!(summary.deleted.packs > 0, "{summary:?}");
    let kept_by_then = kept_by_then.lock().take().unwrap();
    let needed = handle.locked_objects(&handle.list_snapshots().unwrap(), &Silent).unwrap();
    for kind in [ObjectKind::DataPack, ObjectKind::Relocation] {
        assert!(needed.keys().any(|name| name.kind() == kind));
    }
    assert!(needed.keys().all(|name| kept_by_then.contains_key(&format!("warm/{name}"))), "{needed:?} {kept_by_then:?}");
    true
}
