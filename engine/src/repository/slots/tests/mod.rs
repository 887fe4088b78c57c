//! What each credential can do, and that no way of changing keys locks anybody out or lets anybody stay in.

mod meetings;

use super::*;
use crate::backend::testing::{FaultyBackend, HookedBackend, Operation, Order};
use crate::backend::{Backend, MemoryBackend};
use crate::backup::BackupOptions;
use crate::check::scrub_keyless;
use crate::crypto::{PassphraseCost, public_key_of};
use crate::format::object::StructureKeys;
use crate::format::session::SessionKind;
use crate::id::SnapshotId;
use crate::progress::Silent;
use crate::repository::tests::Meanwhile;
use crate::repository::{ChunkIds, ChunkKind, CreateOptions, FrameReader, Key, Recipient, Session, Settings, Writer};
use crate::runtime::{Runtime, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };
const CONTENT: &[u8] = b"layers of ice";
const EVERYTHING: Roles = Roles::ALL.and(Roles::ADMIN);

/// Another seed for everybody who opens a repository.
fn runtime() -> Runtime {
    static SEED: AtomicU64 = AtomicU64::new(100);
    Runtime::seeded(SEED.fetch_add(1, Ordering::Relaxed), NOW, 2)
}

fn key(n: u8) -> Key {
    Key::KeyFile(Secret::new([n; 32]))
}

/// A repository that key 1 opens.
fn create(backend: &MemoryBackend) -> Repository {
    Repository::create(Arc::new(backend.clone()), runtime(), &key(1), &CreateOptions::default(), Settings::default()).unwrap()
}

fn try_open(backend: impl Backend + 'static, key: &Key) -> Result<Repository> {
    Repository::open(Arc::new(backend), runtime(), key, Settings::default())
}

fn open(backend: &MemoryBackend, key: &Key) -> Repository {
    try_open(backend.clone(), key).unwrap()
}

fn add(admin: &Repository, n: u8, roles: Roles, domain: &str) -> SlotInfo {
    let new = NewSlot { domain: DomainId::of_name(domain), ..NewSlot::new(SlotHolder::Key(key(n)), roles) };
    admin.add_slot(&new).unwrap()
}

/// Content bytes that were new.
fn back_up(repository: &Repository, content: &'static [u8]) -> u64 {
    repository.backup_stream("name", Box::new(content), &BackupOptions::new("series"), &Silent).unwrap().bytes_unique
}

fn rotate(repository: &Repository, removed: Option<SlotId>) -> Result<()> {
    repository.rotate(&repository.plan_rotation(removed)?)
}

fn newest_snapshot(backend: &MemoryBackend) -> SnapshotId {
    let all = open(backend, &key(1));
    all.snapshots().unwrap().into_iter().max_by_key(|snapshot| snapshot.header.sequence).unwrap().id
}

fn restored(repository: &Repository, snapshot: SnapshotId) -> Vec<u8> {
    try_restored(repository, snapshot).unwrap()
}

fn try_restored(repository: &Repository, snapshot: SnapshotId) -> Result<Vec<u8>> {
    let snapshots = repository.snapshots().unwrap();
    let snapshot = snapshots.iter().find(|found| found.id == snapshot).unwrap();
    let reader = FrameReader::new(repository, repository.open_index().unwrap());
    let chunks = repository.snapshot_chunks(&reader, &snapshot.header).unwrap();
    let id = ChunkIds::new(&repository.credential).id_of(ChunkKind::Data, CONTENT).unwrap();
    chunks.chunk(ChunkKind::Data, &id)
}

#[test]
fn a_backup_credential_with_empty_caches_deduplicates_and_cannot_open_its_own_frames() {
    let backend = MemoryBackend::new();
    let admin = create(&backend);
    for n in [2, 3] {
        add(&admin, n, Roles::BACKUP, "");
    }
    assert_eq!(back_up(&open(&backend, &key(2)), CONTENT), CONTENT.len() as u64);
    assert_eq!(back_up(&open(&backend, &key(3)), CONTENT), 0, "another client, with nothing but what the store has");

    let client = open(&backend, &key(2));
    assert!(client.credential.restore_keys.is_empty() && !client.credential.is_admin());
    let reader = FrameReader::new(&client, client.open_index().unwrap());
    let mut frames = 0;
    for pack in client.list_packs().unwrap() {
        for record in client.read_pack_tail(&pack.name, pack.size).unwrap().tables.contents.frames {
            let place = reader.place(reader.index().ordinal_of(record.id).unwrap().unwrap()).unwrap();
            let opened = reader.read(&place);
            match pack.name.kind() {
                ObjectKind::RefsPack => drop(opened.unwrap()),
                _ => {
                    frames += 1;
                    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Unauthorized);
                }
            }
        }
    }
    assert!(frames >= 2, "data and tree");
    assert_eq!(client.snapshots().unwrap_err().kind(), ErrorKind::Unauthorized);
    assert_eq!(client.plan_rotation(None).unwrap_err().kind(), ErrorKind::Unauthorized);
    let new = NewSlot::new(SlotHolder::Key(key(9)), Roles::BACKUP);
    assert_eq!(client.add_slot(&new).unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[test]
fn maintain_checks_and_scrubs_without_content_or_chunk_id_keys_and_restore_reads_without_writing() {
    let backend = MemoryBackend::new();
    let admin = create(&backend);
    back_up(&admin, CONTENT);
    add(&admin, 2, Roles::MAINTAIN, "");
    add(&admin, 3, Roles::RESTORE, "");
    let (maintain, restore) = (open(&backend, &key(2)), open(&backend, &key(3)));
    let held = &maintain.credential;
    assert!(held.chunk_id_key.is_none() && held.cutting_key.is_none() && held.restore_keys.is_empty());
    for report in
        [maintain.check(&Silent).unwrap(), maintain.scrub(&Silent).unwrap(), scrub_keyless(&backend, &runtime(), &Silent).unwrap()]
    {
        assert!(report.findings.is_empty() && report.packs > 0, "{report:?}");
    }
    let refused = |client: &Repository| client.backup_stream("n", Box::new(CONTENT), &BackupOptions::new("s"), &Silent).unwrap_err().kind();
    assert_eq!((refused(&maintain), refused(&restore)), (ErrorKind::Unauthorized, ErrorKind::Unauthorized));
    assert_eq!(maintain.snapshots().unwrap_err().kind(), ErrorKind::Unauthorized);
    assert_eq!(restored(&restore, newest_snapshot(&backend)), CONTENT);
    assert!(restore.credential.cutting_key.is_none());
}

#[test]
fn an_admin_gives_away_only_what_it_holds() {
    let backend = MemoryBackend::new();
    let admin = create(&backend);
    add(&admin, 2, Roles::ADMIN, "");
    let lone = open(&backend, &key(2));
    assert!(lone.credential.restore_keys.is_empty() && lone.credential.chunk_id_key.is_none());
    let new = |n, roles| NewSlot::new(SlotHolder::Key(key(n)), roles);
    for roles in [Roles::BACKUP, Roles::RESTORE, EVERYTHING] {
        assert_eq!(lone.add_slot(&new(3, roles)).unwrap_err().kind(), ErrorKind::Unauthorized);
    }
    lone.add_slot(&new(3, Roles::MAINTAIN.and(Roles::ADMIN))).unwrap();
    open(&backend, &key(3)).check(&Silent).unwrap();
    assert_eq!(lone.plan_rotation(None).unwrap_err().kind(), ErrorKind::Unauthorized);
    assert_eq!(admin.add_slot(&new(3, Roles::BACKUP)).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let strange = NewSlot { domain: DomainId([1; 16]), ..new(4, Roles::BACKUP) };
    assert_eq!(admin.add_slot(&strange).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(admin.slots().unwrap().0.len(), 3);
}

#[test]
fn every_kind_of_key_opens_its_slot() {
    let backend = MemoryBackend::new();
    let admin = create(&backend);
    let new = |holder| NewSlot { passphrase_cost: PassphraseCost::TEST, ..NewSlot::new(holder, EVERYTHING) };
    let (passphrase, command) = (Key::passphrase("correct horse").unwrap(), Key::Command(Secret::new([5; 32])));
    admin.add_slot(&new(SlotHolder::Key(passphrase.clone()))).unwrap();
    admin.add_slot(&new(SlotHolder::Key(command.clone()))).unwrap();
    admin.add_slot(&new(SlotHolder::Recipient(Recipient::of_key(&key(6)).unwrap()))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let open_all = || {
        open(&backend, &passphrase);
        open(&backend, &command);
        let known = Settings::default().with_known_admins(folder.path().join("known"));
        Repository::open(Arc::new(backend.clone()), runtime(), &key(6), known).unwrap()
    };
    open_all();
    assert_eq!(try_open(backend.clone(), &key(5)).unwrap_err().kind(), ErrorKind::Unauthorized, "the seed of a command is no key file");
    rotate(&admin, None).unwrap();
    rotate(&open_all(), None).unwrap();
    open_all();
    assert_eq!(back_up(&open(&backend, &key(1)), CONTENT), CONTENT.len() as u64);
}

#[test]
fn a_recipient_believes_the_admin_that_it_met_first() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (MemoryBackend::new(), MemoryBackend::new());
    let recipient = Recipient::of_key(&key(6)).unwrap();
    for backend in [&one, &other] {
        create(backend).add_slot(&NewSlot::new(SlotHolder::Recipient(recipient.clone()), Roles::BACKUP)).unwrap();
    }
    let open_in = |backend: &MemoryBackend, settings| Repository::open(Arc::new(backend.clone()), runtime(), &key(6), settings);
    let known = || Settings::default().with_known_admins(folder.path());
    assert_eq!(open_in(&one, Settings::default()).unwrap_err().kind(), ErrorKind::Unauthorized);
    open_in(&one, known()).unwrap();
    assert_eq!(open_in(&other, known()).unwrap_err().broken_rule(), Some("SLOT-11"));
    open_in(&one, known()).unwrap();
}

/// The store serves a repository of its own, to which it lets the holder of a key file in by the public key that stands in his slot.
#[test]
fn the_public_key_of_a_key_files_slot_is_nobodys_recipient() {
    let (backend, forged) = (MemoryBackend::new(), MemoryBackend::new());
    create(&backend);
    let public_key = open(&backend, &key(1)).stored_slots().unwrap().0.remove(0).slot.public_key;
    let store = Repository::create(Arc::new(forged.clone()), runtime(), &key(9), &CreateOptions::default(), Settings::default()).unwrap();
    store.add_slot(&NewSlot::new(SlotHolder::Recipient(Recipient(public_key)), EVERYTHING)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let known = Settings::default().with_known_admins(folder.path());
    let refused = Repository::open(Arc::new(forged), runtime(), &key(1), known).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthorized);
}

/// The store serves a repository of its own under the id of ours, with a slot of the kind, the public key and the pin of ours: all but the seed is
/// there to be read. The config and everything else agree with that slot.
#[test]
fn a_repository_with_a_slot_that_a_store_forged_for_our_key_file_does_not_open() {
    let (backend, forged) = (MemoryBackend::new(), MemoryBackend::new());
    let ours = create(&backend);
    let slot = open(&backend, &key(1)).stored_slots().unwrap().0.remove(0).slot;
    let store = Repository::create(Arc::new(forged.clone()), runtime(), &key(9), &CreateOptions::default(), Settings::default()).unwrap();
    // Its own credential, of a repository that is called as ours is.
    let (id, mut credential) = (ours.id, (*store.credential).clone());
    let admin = Signer::new(credential.admin_seed.as_ref().unwrap());
    let (name, signer) = (credential.author.certificate.credential(), Signer::new(&credential.signing_seed));
    let domain = credential.author.certificate.domain();
    let certificate = Certificate::sign(&admin, &id, 1, Roles::ALL, domain, name, signer.verifying_key());
    credential.author = Author { certificate, signer };
    let author =
        || Author { certificate: Certificate::of_admin(&admin, &id, 1), signer: Signer::new(credential.admin_seed.as_ref().unwrap()) };
    for object in forged.list_sorted(ObjectKind::Slot).unwrap().into_iter().chain(forged.list_sorted(ObjectKind::Config).unwrap()) {
        forged.delete(&object.name).unwrap();
    }
    let header = Header { name: ObjectName::config(1), repository: id, structure_epoch: 0 };
    forged.put(&header.name, &author().object(&header, &store.config.encode())).unwrap();
    let header = Header { name: ObjectName::slot(SlotId([2; 16]), 1), ..header };
    let sealed = slot.seal_anew(&header, &credential, &*runtime().entropy).unwrap();
    forged.put(&header.name, &author().object(&header, &sealed.encode())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for settings in [Settings::default(), Settings::default().with_known_admins(folder.path())] {
        let refused = Repository::open(Arc::new(forged.clone()), runtime(), &key(1), settings).unwrap_err();
        assert_eq!(refused.broken_rule(), Some("SLOT-11"), "{refused}");
    }
    // With the pin that only who has the seed can make it opens.
    forged.delete(&header.name).unwrap();
    let sealed = Slot::seal(&header, SlotKind::KeyFile, &Secret::new([1; 32]), &credential, &*runtime().entropy).unwrap();
    forged.put(&header.name, &author().object(&header, &sealed.encode())).unwrap();
    assert_eq!(open(&forged, &key(1)).credential.admin_key, credential.admin_key);
}

#[test]
fn damaged_slots_are_named_by_a_rotation_and_who_was_removed_does_not_come_back_with_them() {
    let backend = MemoryBackend::new();
    let admin = create(&backend);
    let (escrow, thief) = (add(&admin, 2, EVERYTHING, "").id, add(&admin, 3, Roles::BACKUP, "").id);
    rotate(&open(&backend, &key(1)), Some(thief)).unwrap();
    assert!(open(&backend, &key(1)).plan_rotation(None).unwrap().problems.is_empty());
    // All of the one, and of the other the end.
    for name in [ObjectName::slot(escrow, 1), ObjectName::slot(escrow, 2), ObjectName::slot(thief, 2)] {
        backend.delete(&name).unwrap();
        backend.put(&name, b"damaged").unwrap();
    }
    let plan = open(&backend, &key(1)).plan_rotation(None).unwrap();
    assert_eq!((plan.kept.len(), plan.problems.len()), (1, 3), "{:?}", plan.problems);
    assert!(plan.problems.iter().any(|problem| problem.contains(&escrow.to_string())));
    rotate(&open(&backend, &key(1)), None).unwrap();
    assert!(open(&backend, &key(3)).structure_key().is_err());
}

/// Who ended the slot died before the config: its end may go with the power.
#[test]
fn a_removal_that_is_finished_later_makes_the_end_of_the_slot_durable() {
    let backend = MemoryBackend::new();
    let admin = create(&backend);
    let thief = add(&admin, 2, Roles::BACKUP, "").id;
    let faulty = Arc::new(FaultyBackend::new(Arc::new(backend.clone()), 1));
    let dying = Repository::open(Arc::clone(&faulty) as Arc<dyn Backend>, runtime(), &key(1), Settings::default()).unwrap();
    faulty.fail(Operation::Create, 3);
    rotate(&dying, Some(thief)).unwrap_err();
    let (watched, order) = Order::of(Arc::new(backend));
    rotate(&Repository::open(watched, runtime(), &key(1), Settings::default()).unwrap(), Some(thief)).unwrap();
    assert!(order.at(Operation::MakeDurable, ObjectName::slot(thief, 2)) < order.at(Operation::Finish, ObjectName::config(2)));
}

/// Publishes garbage under the id of [`CONTENT`], as a stolen backup credential could.
fn poison(thief: &Repository) {
    let session = Session::begin(thief, SessionKind::Writer).unwrap();
    let mut writer = Writer::start(thief, &session, thief.open_index().unwrap(), 3).unwrap();
    let id = ChunkIds::new(&thief.credential).id_of(ChunkKind::Data, CONTENT).unwrap();
    writer.add(ChunkKind::Data, id, b"garbage").unwrap();
    writer.finish().unwrap();
    session.close(false, Vec::new()).unwrap();
}

#[test]
fn garbage_in_another_domain_is_never_deduplicated_against() {
    for (domain, is_safe) in [("laptops", true), ("", false)] {
        let backend = MemoryBackend::new();
        let admin = create(&backend);
        add(&admin, 2, Roles::BACKUP, domain);
        poison(&open(&backend, &key(2)));
        let stored = back_up(&open(&backend, &key(1)), CONTENT);
        // Within one domain it works, which shows that the garbage was there to be found.
        assert_eq!(stored == CONTENT.len() as u64, is_safe);
        let restored = try_restored(&open(&backend, &key(1)), newest_snapshot(&backend));
        match is_safe {
            true => assert_eq!(restored.unwrap(), CONTENT),
            false => assert_eq!(restored.unwrap_err().broken_rule(), Some("CHUNK-2"), "it is noticed"),
        }
    }
}

#[test]
fn a_domain_lasts_through_rotations_by_any_admin() {
    let backend = MemoryBackend::new();
    let admin = create(&backend);
    add(&admin, 2, EVERYTHING, "");
    for n in [3, 4] {
        add(&admin, n, Roles::BACKUP, "laptops");
    }
    let signer = |n| *open(&backend, &key(n)).credential.author.certificate.verifying_key();
    let before = [1, 2, 3, 4].map(signer);
    assert_eq!(back_up(&open(&backend, &key(3)), CONTENT), CONTENT.len() as u64);
    for n in [2, 1] {
        rotate(&open(&backend, &key(n)), None).unwrap();
        assert_eq!(back_up(&open(&backend, &key(4)), CONTENT), 0);
    }
    assert_eq!([1, 2, 3, 4].map(signer), before, "whoever signs stays the same signer");
    assert_eq!(back_up(&open(&backend, &key(1)), CONTENT), CONTENT.len() as u64);
    let slots = open(&backend, &key(3)).slots().unwrap().0;
    assert_eq!(slots.iter().filter(|slot| slot.domain == DomainId::of_name("laptops")).count(), 2);
}

#[test]
fn a_removed_slot_opens_nothing_written_afterwards() {
    let backend = MemoryBackend::new();
    let admin = create(&backend);
    back_up(&admin, CONTENT);
    let slot = add(&admin, 2, EVERYTHING, "");
    let old = open(&backend, &key(2));
    let before = newest_snapshot(&backend);
    rotate(&admin, Some(slot.id)).unwrap();

    assert!(try_open(backend.clone(), &key(2)).unwrap_err().to_string().contains("was removed"));
    let new = open(&backend, &key(1));
    assert_eq!(back_up(&new, b"another layer"), 13);
    let session = new.read_snapshot_header(newest_snapshot(&backend)).unwrap().record.id();
    // Whoever kept the credential still reads what was written before, and of the rest nothing, structure included.
    assert_eq!(old.read_snapshot_header(before).unwrap().sequence, 1);
    let mut unread = 0;
    for kind in ObjectKind::ALL {
        for object in old
            .backend
            .list_sorted(kind)
            .unwrap()
            .into_iter()
            .filter(|object| !matches!(kind, ObjectKind::Config | ObjectKind::Slot) && object.name.id() != [0; 16])
        {
            let header = Header::decode(&object.name, object.size, &old.backend.get(&object.name, u64::MAX).unwrap()).unwrap();
            let is_new = header.structure_epoch == 2;
            assert_eq!(old.credential.structure_key(header.structure_epoch).is_none(), is_new);
            unread += usize::from(is_new);
        }
    }
    assert!(unread >= 6, "session, three packs, snapshot, closed: {unread}");
    let record = new.read_session(session).unwrap().record;
    assert_eq!(record.open_secret(&old.credential.restore_keys).unwrap_err().kind(), ErrorKind::Unauthorized);
    record.open_secret(&new.credential.restore_keys).unwrap();
    let too_old = old.snapshots().unwrap_err();
    assert_eq!(too_old.kind(), ErrorKind::Unauthorized);
    assert!(too_old.to_string().contains("newer credential"), "{too_old}");
    let stale = old.backup_stream("n", Box::new(CONTENT), &BackupOptions::new("s"), &Silent).unwrap_err();
    assert!(matches!(stale.kind(), ErrorKind::Unauthorized | ErrorKind::Busy), "{stale}");
}

#[test]
fn what_a_removed_credential_writes_in_the_new_epoch_counts_for_nobody() {
    let backend = MemoryBackend::new();
    let admin = create(&backend);
    let slot = add(&admin, 2, Roles::BACKUP, "");
    let mut thief = open(&backend, &key(2));
    back_up(&thief, CONTENT);
    rotate(&admin, Some(slot.id)).unwrap();
    let owner = open(&backend, &key(1));
    assert!(owner.check(&Silent).unwrap().findings.is_empty(), "what it wrote before counts");
    // Somebody who still has a way in gives the new keys to the thief.
    let mut credential = (*thief.credential).clone();
    credential.structure_keys.clone_from(&owner.credential.structure_keys);
    thief.credential = Arc::new(credential);
    thief.config.clone_from(&owner.config);
    thief.generation = owner.generation;
    back_up(&thief, b"forged");
    let (snapshots, problems) = owner.snapshots_and_problems().unwrap();
    assert_eq!(snapshots.len(), 1);
    assert!(!problems.is_empty() && problems.iter().all(|problem| problem.broken_rule() == Some("CERT-6")), "{problems:?}");
    let rules: Vec<_> = owner.check(&Silent).unwrap().findings.into_iter().map(|finding| finding.rule).collect();
    assert!(rules.len() >= 5 && rules.iter().all(|rule| *rule == Some("CERT-6")), "{rules:?}");
}

#[test]
fn rotation_keeps_what_is_stored_and_every_other_way_in() {
    let backend = MemoryBackend::new();
    let admin = create(&backend);
    back_up(&admin, CONTENT);
    let packs = || admin.list_packs().unwrap();
    let before = packs();
    add(&admin, 2, Roles::BACKUP, "");
    add(&admin, 3, Roles::RESTORE, "");
    let plan = admin.plan_rotation(None).unwrap();
    assert_eq!((plan.generation, plan.structure_epoch, plan.restore_epoch, plan.kept.len()), (2, 2, 2, 3));
    assert!(
        plan.kept[0].is_own && packs() == before && admin.slots().unwrap().0.iter().all(|slot| slot.generation == 1),
        "a plan writes nothing"
    );
    admin.rotate(&plan).unwrap();
    assert_eq!(packs(), before);
    assert_eq!(back_up(&open(&backend, &key(2)), CONTENT), 0);
    assert_eq!(restored(&open(&backend, &key(3)), newest_snapshot(&backend)), CONTENT);
    let report = open(&backend, &key(1)).scrub(&Silent).unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
    assert!(scrub_keyless(&backend, &runtime(), &Silent).unwrap().findings.is_empty());
}

#[test]
fn what_cannot_be_removed_is_refused() {
    let backend = MemoryBackend::new();
    let admin = create(&backend);
    let slot = add(&admin, 2, Roles::BACKUP, "");
    let kind = |repository: &Repository, id| repository.plan_rotation(Some(id)).unwrap_err().kind();
    assert_eq!(kind(&admin, SlotId([0; 16])), ErrorKind::NotFound);
    let own = admin.slots().unwrap().0.into_iter().find(|slot| slot.is_own).unwrap();
    assert_eq!(kind(&admin, own.id), ErrorKind::Invalid);
    rotate(&admin, Some(slot.id)).unwrap();
    assert_eq!(kind(&admin, slot.id), ErrorKind::Busy, "this handle has the old keys");
    let again = open(&backend, &key(1));
    assert_eq!(kind(&again, slot.id), ErrorKind::NotFound);
    assert_eq!(again.slots().unwrap().0.iter().filter(|slot| slot.state == SlotState::Removed).count(), 1);
}

#[test]
fn a_backup_during_which_keys_change_publishes_nothing_and_the_next_finds_what_it_stored() {
    let backend = MemoryBackend::new();
    let admin = create(&backend);
    add(&admin, 2, Roles::BACKUP, "");
    let client = open(&backend, &key(2));
    let stream = Meanwhile(Some(move || rotate(&admin, None).unwrap()), CONTENT);
    let error = client.backup_stream("n", Box::new(stream), &BackupOptions::new("s"), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains("run it again"), "{error}");
    let owner = open(&backend, &key(1));
    assert!(owner.snapshots().unwrap().is_empty());
    assert_eq!(back_up(&open(&backend, &key(2)), CONTENT), 0);
    assert_eq!(restored(&owner, newest_snapshot(&backend)), CONTENT);
}

#[test]
fn a_slot_that_admin_did_not_sign_is_passed_over_and_named() {
    let backend = MemoryBackend::new();
    let admin = create(&backend);
    add(&admin, 2, Roles::BACKUP, "");
    let thief = open(&backend, &key(2));
    // A slot for its own key, and the next generation of admin's.
    for name in [ObjectName::slot(SlotId([9; 16]), 1), ObjectName::slot(SlotId(admin.slot.unwrap().id()), 2)] {
        let header = Header { name, repository: admin.id, structure_epoch: 0 };
        let slot = Slot::seal(&header, SlotKind::KeyFile, &Secret::new([9; 32]), &admin.credential, &*runtime().entropy).unwrap();
        backend.put(&name, &thief.credential.author.object(&header, &slot.encode())).unwrap();
    }
    let admin = open(&backend, &key(1));
    let (slots, problems) = admin.slots().unwrap();
    assert_eq!(slots.len(), 2);
    assert_eq!(problems.iter().map(Error::broken_rule).collect::<Vec<_>>(), [Some("OBJ-9"); 2]);
    rotate(&admin, None).unwrap();
    assert_eq!(try_open(backend.clone(), &key(9)).unwrap_err().broken_rule(), Some("OBJ-9"));
    // Nor does anybody but admin remove one.
    let (name, thief) = (ObjectName::slot(SlotId(admin.slot.unwrap().id()), 4), open(&backend, &key(2)));
    let removed = admin.stored_slots().unwrap().0.into_iter().find(|slot| slot.id.0 == name.id()).unwrap().slot.removed();
    let header = Header { name, repository: admin.id, structure_epoch: 0 };
    backend.put(&name, &thief.credential.author.object(&header, &removed.encode())).unwrap();
    for n in [1, 2] {
        assert_eq!(open(&backend, &key(n)).structure_key().unwrap().bytes(), open(&backend, &key(1)).structure_key().unwrap().bytes());
    }
}
