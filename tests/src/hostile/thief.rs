//! A thief of a backup credential, or of one that restores, in a store that lets him add objects and do nothing else.
//!
//! He makes a backup, as the first allows (whoever may only restore adds the same, under his own signature); what he wrote is then changed beneath its seals, and forgeries of everything that others may write are
//! put beside it, in every case signed by him. Afterwards the snapshots of others are listed and come back byte for byte, with whoever may only restore no
//! others beside them; so does what a client of another dedup domain stores then, though it is what the thief stored; check lays nothing to them, rules
//! keep of them what they kept before, and garbage collection takes nothing of theirs. Whatever he put under the numbers that configs, slots and epochs
//! get next, the owner stores, and removes him.

use super::{Change, Input, NOW, Reached, collecting, options};
use icecore::backend::{BackendExt, MemoryBackend, ObjectKind, ObjectName};
use icecore::backup::BackupOptions;
use icecore::crypto::Secret;
use icecore::format::Roles;
use icecore::format::epoch::EpochBody;
use icecore::format::index_object::IndexBody;
use icecore::format::object::TRAILER_LENGTH;
use icecore::format::pack::{FOOTER_LENGTH, Footer};
use icecore::format::relocations::{MovedChunk, RelocatedFrame, RelocationsBody};
use icecore::format::session::{BeatBody, ClosedBody, TombstoneBody, WithdrawnBody, WithdrawnReason};
use icecore::id::{DomainId, FrameId, IndexId, PackId, RelocationsId, SessionId, SlotId, SnapshotId};
use icecore::progress::Silent;
use icecore::repository::{Key, NewSlot, Repository, Settings, SlotHolder};
use icecore::retention::{Civil, Policy, SnapshotFilter};
use icecore::runtime::{Runtime, Timestamp};
use icecore::testing::{Decoded, Keys, Part, Piece};
use icecore::{Error, ErrorKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

/// Changes and forgeries that an input may ask for.
const CHANGES_MAX: usize = 8;
const FORGERIES_MAX: usize = 6;
/// Snapshots that these may leave in the way of garbage collection.
const IN_THE_WAY_MAX: u64 = 8;

type Objects = BTreeMap<ObjectName, Vec<u8>>;

struct Base {
    key: Key,
    owner: Keys,
    /// What the owner has stored.
    stored: Objects,
    good: BTreeMap<SnapshotId, (SessionId, Vec<u8>)>,
    /// What others and the thief have stored.
    common: Vec<u8>,
    /// Of another dedup domain.
    other_key: Key,
    /// What rules let go of these without a thief.
    dropped: BTreeSet<SnapshotId>,
    /// What the thief has added.
    added: Objects,
    thief: Keys,
    /// Who may restore, and nothing else.
    reader: Keys,
    thief_session: SessionId,
}

fn objects(backend: &MemoryBackend) -> Objects {
    let listed = ObjectKind::ALL.into_iter().flat_map(|kind| backend.list_sorted(kind).expect("memory lists"));
    listed.map(|object| (object.name, backend.get(&object.name, u64::MAX).expect("it is there"))).collect()
}

fn holding(objects: &Objects) -> MemoryBackend {
    let backend = MemoryBackend::new();
    objects.iter().for_each(|(name, bytes)| backend.put(name, bytes).expect("memory takes it"));
    backend
}

fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn back_up(repository: &Repository, seconds: i64, content: Vec<u8>) -> SnapshotId {
    let mut options = BackupOptions::new("series");
    options.time = Some(Timestamp { seconds: NOW.seconds + seconds, nanoseconds: 0 });
    let made = repository.backup_stream("name", Box::new(std::io::Cursor::new(content)), &options, &Silent);
    made.expect("a stream is stored").snapshot.expect("there is a snapshot")
}

static BASE: LazyLock<Base> = LazyLock::new(|| {
    let backend = MemoryBackend::new();
    let (key, thief_key) = (Key::KeyFile(Secret::new([5; 32])), Key::KeyFile(Secret::new([6; 32])));
    let made = Repository::create(Arc::new(backend.clone()), Runtime::seeded(1, NOW, 1), &key, &options(), Settings::default());
    let made = made.expect("a repository is made");
    made.add_slot(&NewSlot::new(SlotHolder::Key(Key::KeyFile(Secret::new([6; 32]))), Roles::BACKUP)).expect("a slot is added");
    let reader_key = || Key::KeyFile(Secret::new([7; 32]));
    made.add_slot(&NewSlot::new(SlotHolder::Key(reader_key()), Roles::RESTORE)).expect("a slot is added");
    let other_key = Key::KeyFile(Secret::new([8; 32]));
    let mut other = NewSlot::new(SlotHolder::Key(other_key.clone()), Roles::BACKUP.and(Roles::RESTORE));
    other.domain = DomainId::of_name("another");
    made.add_slot(&other).expect("a slot is added");
    let common = noise(1, 9_000);
    let contents: Vec<Vec<u8>> = (0..5).map(|n| [&common[usize::from(n) * 1_500..], &noise(10 + n, 3_000)].concat()).collect();
    let ids: Vec<_> = contents.iter().enumerate().map(|(n, content)| back_up(&made, -86_400 * (9 - n as i64), content.clone())).collect();
    // One is gone but for what frames it left and relocations; one is withdrawn and not yet collected.
    made.forget(&ids[..1], &Silent).expect("it is forgotten");
    made.gc(&collecting(), &Silent).expect("it is collected");
    made.forget(&ids[1..2], &Silent).expect("it is forgotten");
    let stored = objects(&backend);
    let session =
        |id: SnapshotId| made.snapshots().expect("they are listed").into_iter().find(|of| of.id == id).map(|of| of.header.record.id());
    let good =
        ids[2..].iter().zip(&contents[2..]).map(|(id, content)| (*id, (session(*id).expect("it counts"), content.clone()))).collect();
    let dropped = dropped(&made);
    let thief = Repository::open(Arc::new(backend.clone()), Runtime::seeded(3, NOW, 1), &thief_key, Settings::default());
    let thief = thief.expect("the thief gets in");
    // Half of it is the others' content: it relies on their packs.
    back_up(&thief, 0, [&common[3_000..], &noise(90, 6_000)].concat());
    let added: Objects = objects(&backend).into_iter().filter(|(name, _)| !stored.contains_key(name)).collect();
    let of_session = |(name, _): (&ObjectName, &Vec<u8>)| (name.kind() == ObjectKind::Session).then(|| SessionId(name.id()));
    let thief_session = added.iter().find_map(of_session).expect("he has a session");
    let owner = Keys::of_repository(&made);
    let thief = owner.clone().signing_as(&Keys::of_repository(&thief));
    let reader = Repository::open(Arc::new(backend), Runtime::seeded(4, NOW, 1), &reader_key(), Settings::default());
    let reader = owner.clone().signing_as(&Keys::of_repository(&reader.expect("the reader gets in")));
    Base { key, owner, stored, good, common, other_key, dropped, added, thief, reader, thief_session }
});

fn calendar(time: Timestamp) -> Civil {
    Civil { year: (time.seconds / 86_400) as i32, month: 1, day: 1, hour: 0, iso_week_year: 0, iso_week: 1 }
}

/// What rules would let go.
fn dropped(repository: &Repository) -> BTreeSet<SnapshotId> {
    let mut policy = Policy::default();
    (policy.keep_last, policy.keep_daily) = (2, 2);
    let plan = repository.plan_forget(&policy, &SnapshotFilter::default(), &calendar);
    plan.expect("rules can be asked").dropped().into_iter().collect()
}

pub(super) fn run(data: &[u8], reached: &mut Reached) {
    let base = &*BASE;
    let mut input = Input(data);
    let backend = holding(&base.stored);
    let may_add = add(&mut input, &backend, reached);
    let added: Vec<_> = objects(&backend).into_keys().filter(|name| !base.stored.contains_key(name)).collect();
    let open = |seed| Repository::open(Arc::new(backend.clone()), Runtime::seeded(seed, NOW, 1), &base.key, Settings::default());
    let owner = open(20).unwrap_or_else(|error| panic!("the owner is locked out: {error}; {added:?}"));
    let mut kept: BTreeMap<_, _> = base.good.iter().map(|(id, (_, content))| (*id, content.clone())).collect();
    let (listed, _) = owner.snapshots_and_problems().unwrap_or_else(|error| panic!("no listing any more: {error}; {added:?}"));
    let listed: BTreeSet<_> = listed.iter().map(|snapshot| snapshot.id).collect();
    assert!(kept.keys().all(|id| listed.contains(id)), "{listed:?} by {added:?}");
    assert!(may_add || listed.len() == kept.len(), "what he adds counts: {listed:?} by {added:?}");
    // Another client stores what the thief has stored, after him.
    let other = Repository::open(Arc::new(backend.clone()), Runtime::seeded(19, NOW, 1), &base.other_key, Settings::default());
    let other = other.unwrap_or_else(|error| panic!("another client is locked out: {error}; {added:?}"));
    let content = [&base.common[..], &noise(92, 2_000)].concat();
    kept.insert(back_up(&other, 3, content.clone()), content);
    reached.note("another domain");
    let owner = open(18).unwrap_or_else(|error| panic!("the owner is locked out: {error}; {added:?}"));
    let whole = |what: &str, owner: &Repository| {
        for (id, content) in &kept {
            let mut out = Vec::new();
            let snapshot = owner.find_snapshot(&id.to_string(), None, None);
            let restored = snapshot.and_then(|snapshot| owner.restore_to_writer(&snapshot, None, &mut out, &Silent));
            restored.unwrap_or_else(|error| panic!("{what}: {id} is lost: {error}; {added:?}"));
            assert!(out == *content, "{what}: {id} came back wrong; {added:?}");
        }
    };
    whole("after the thief", &owner);
    for report in [owner.check(&Silent), owner.scrub(&Silent)] {
        let report = report.unwrap_or_else(|error| panic!("no check any more: {error}; {added:?}"));
        reached.note(if report.findings.is_empty() { "nothing found" } else { "found" });
        let hurt: Vec<_> = report.hurt.iter().filter(|hurt| kept.contains_key(&hurt.snapshot)).collect();
        assert!(hurt.is_empty(), "{hurt:?} by {added:?}: {:#?}", report.findings);
    }
    let gone: Vec<_> = dropped(&owner).into_iter().filter(|id| base.good.contains_key(id) && !base.dropped.contains(id)).collect();
    assert!(gone.is_empty(), "rules let go of {gone:?}, by {added:?}");
    // His snapshots that are damaged, or missing although he says that he made them, stand in the way until they are forgotten, as the error says.
    let mut in_the_way = 0;
    for seed in 21.. {
        let collector = open(seed).expect("the owner gets in");
        let collected = collector.gc(&collecting(), &Silent);
        reached.note(if collected.is_ok() { "collected" } else { "not collected" });
        whole("after gc", &open(seed + 100).expect("the owner gets in"));
        match collected {
            Ok(_) if seed > 21 + in_the_way => break,
            Ok(_) => {}
            Err(error) => {
                in_the_way += 1;
                let named = named(&error).filter(|id| in_the_way <= IN_THE_WAY_MAX && !kept.contains_key(id));
                let named = named.unwrap_or_else(|| panic!("no collection any more: {error}; {added:?}"));
                collector.forget(&[named], &Silent).unwrap_or_else(|error| panic!("{named} stays: {error}; {added:?}"));
                reached.note("forgotten as the error says");
            }
        }
    }
    if added.iter().any(|name| matches!(name.kind(), ObjectKind::Config | ObjectKind::Slot | ObjectKind::Epoch)) {
        remove_thief(&open);
        whole("after the thief was removed", &open(203).expect("the owner gets in"));
        reached.note("removed");
    }
}

/// New keys for everybody else, with which the owner goes on.
fn remove_thief(open: &dyn Fn(u64) -> icecore::Result<Repository>) {
    let owner = open(200).expect("the owner gets in");
    let (slots, _) = owner.slots().expect("they are listed");
    let slot = slots.iter().find(|slot| slot.roles == Roles::BACKUP).expect("he has one");
    let plan = owner.plan_rotation(Some(slot.id)).expect("he can be removed");
    owner.rotate(&plan).expect("he is removed");
    let owner = open(201).expect("the owner gets in");
    assert!(owner.config().revoked.iter().any(|(credential, _)| *credential == slot.credential));
    let kept = back_up(&owner, 5, noise(91, 3_000));
    owner.gc(&collecting(), &Silent).expect("it is collected");
    let (snapshots, _) = open(202).expect("the owner gets in").snapshots_and_problems().expect("they are listed");
    assert!(snapshots.iter().any(|snapshot| snapshot.id == kept));
}

/// The snapshot that an error says to forget.
fn named(error: &Error) -> Option<SnapshotId> {
    let text = error.to_string();
    let (_, id) = text.split_once("`icecore forget ")?;
    SnapshotId::parse(id.split_once('`')?.0).ok()
}

/// What the thief adds; whether he may add anything at all.
fn add(input: &mut Input<'_>, backend: &MemoryBackend, reached: &mut Reached) -> bool {
    let base = &*BASE;
    // By the last byte, which hardly anything else uses.
    let may_add = input.0.last().is_none_or(|byte| byte % 8 != 0);
    if !may_add {
        reached.note("who may only restore");
    }
    let thief = if may_add { &base.thief } else { &base.reader };
    let changes: Vec<_> = (0..input.below(CHANGES_MAX)).map(|_| Change::read(input)).collect();
    let mut number = 0_u8;
    let mut tables = Vec::new();
    let mine = thief.rewrite(&holding(&base.added), &mut |part, bytes| {
        changes.iter().filter(|change| change.piece % 24 == number % 24).for_each(|change| change.apply(bytes));
        number = number.wrapping_add(1);
        if part == Part::Tables {
            tables.push(bytes.clone());
        }
    });
    let mine = mine.expect("what he wrote is whole");
    // Packs were rewritten in the order in which they are listed.
    let packs = objects(&mine).into_iter().filter(|(name, _)| name.kind().is_pack());
    let frames = packs.filter_map(|(_, bytes)| {
        let footer = bytes[..bytes.len() - TRAILER_LENGTH].last_chunk::<FOOTER_LENGTH>()?;
        Some(u64::from(Footer::decode(footer, bytes.len() as u64).ok()?.frames_length))
    });
    let tables: Vec<_> = tables.into_iter().zip(frames).collect();
    let left_out = input.byte();
    for (number, (name, bytes)) in objects(&mine).into_iter().enumerate() {
        if left_out < 128 || number % 8 != usize::from(left_out % 8) {
            put(backend, &name, &bytes);
        }
    }
    let forgeries = input.below(FORGERIES_MAX);
    for _ in 0..forgeries {
        if let Some((what, name, mut plaintext)) = forgery(input, thief, &tables) {
            if input.byte().is_multiple_of(4) {
                Change::read(input).apply(&mut plaintext);
            }
            put(backend, &name, &thief.seal(name, plaintext).expect("he holds the structure key"));
            reached.note(what);
        }
    }
    // Some of his do nothing that is wrong.
    for _ in 0..if forgeries > 0 { input.below(3) } else { 0 } {
        let (name, bytes) = strange(input, thief);
        put(backend, &name, &bytes);
        reached.note("what uses up a number");
    }
    may_add
}

/// Something under a number that a config, a slot or an epoch may get, near or far ahead.
fn strange(input: &mut Input<'_>, thief: &Keys) -> (ObjectName, Vec<u8>) {
    let base = &*BASE;
    let kind = [ObjectKind::Config, ObjectKind::Slot, ObjectKind::Epoch][input.below(3)];
    let of_kind: Vec<_> = base.stored.iter().filter(|(name, _)| name.kind() == kind).collect();
    let (like, bytes) = of_kind[input.below(of_kind.len())];
    let number = match input.byte() % 4 {
        0 => u32::MAX - u32::from(input.byte() % 2),
        _ => like.number() + 1 + u32::from(input.byte() % 3),
    };
    let name = match kind {
        ObjectKind::Config => ObjectName::config(number),
        ObjectKind::Epoch => ObjectName::epoch(number),
        _ if input.byte().is_multiple_of(4) => ObjectName::slot(SlotId([input.byte(); 16]), number),
        _ => ObjectName::slot(SlotId(like.id()), number),
    };
    // What is stored, under that name and signed by him; or as if a newer release had written it; or nothing of the sort.
    let mut bytes = bytes[..bytes.len() - TRAILER_LENGTH].to_vec();
    bytes[12..16].copy_from_slice(&number.to_le_bytes());
    bytes[16..32].copy_from_slice(&name.id());
    match input.byte() % 4 {
        0 => bytes[8] = 2,
        1 => return (name, noise(92, usize::from(input.byte()) * 4)),
        _ => {}
    }
    (name, thief.sign(kind, &bytes))
}

/// The store lets nobody write over what is there.
fn put(backend: &MemoryBackend, name: &ObjectName, bytes: &[u8]) {
    let exists = |error: Error| if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) };
    backend.put(name, bytes).or_else(exists).expect("memory takes it");
}

/// Something that he may not write, or that tells lies.
fn forgery(input: &mut Input<'_>, thief: &Keys, tables: &[(Vec<u8>, u64)]) -> Option<(&'static str, ObjectName, Vec<u8>)> {
    let base = &*BASE;
    let pick = input.below(base.good.len());
    let (snapshot, session) = base.good.iter().nth(pick).map(|(id, (session, _))| (*id, *session))?;
    let packs = |class: fn(ObjectKind) -> bool| -> Vec<(ObjectKind, PackId)> {
        base.stored.keys().filter(|name| class(name.kind())).filter_map(|name| Some((name.kind(), name.pack_id()?))).collect()
    };
    let random = [input.byte(); 16];
    Some(match input.byte() % 7 {
        0 => {
            let body = WithdrawnBody { session, reason: WithdrawnReason::Forgotten, now: NOW };
            ("a withdrawal", ObjectName::withdrawn(snapshot), body.encode())
        }
        1 => ("a tombstone", ObjectName::tombstone(session), TombstoneBody { epoch: u32::from(input.byte() % 4), now: NOW }.encode()),
        2 => {
            let body = ClosedBody { finished: true, now: NOW, snapshots: base.good.keys().copied().collect() };
            (
                "an end",
                ObjectName::closed(if input.byte().is_multiple_of(2) { base.thief_session } else { SessionId(random) }),
                body.encode(),
            )
        }
        3 => {
            let newest = base.stored.keys().filter(|name| name.kind() == ObjectKind::Epoch).map(ObjectName::number).max().unwrap_or(0);
            let before =
                base.stored.get(&ObjectName::epoch(newest)).and_then(|bytes| bytes.last_chunk::<32>().copied()).unwrap_or_default();
            let (condemned, withdrawn) = (packs(ObjectKind::is_pack), base.good.keys().copied().collect());
            let body = EpochBody { predecessor: before, session: base.thief_session, now: NOW, condemned, withdrawn };
            ("an epoch", ObjectName::epoch(newest + 1), body.encode())
        }
        4 => {
            let moved = vec![MovedChunk { position: 0, counter: 0, new_position: 0 }];
            let frame = |number| RelocatedFrame { frame: FrameId { session, number }, chunks: 1, moved: moved.clone() };
            let body = RelocationsBody { session: base.thief_session, now: NOW, frames: (0..4).map(frame).collect() };
            ("relocations", ObjectName::relocations(RelocationsId(random)), body.encode())
        }
        5 => ("a beat", ObjectName::beat(session, u32::from(input.byte())), BeatBody { now: NOW }.encode()),
        _ => {
            // The packs of others hold what his own holds, says he.
            let kind = [ObjectKind::DataPack, ObjectKind::MetaPack, ObjectKind::RefsPack][input.below(3)];
            let certificate = thief.own_certificate();
            let tables = tables.iter().find_map(|(bytes, frames_length)| {
                let piece = Piece::Tables { kind, frames_length: *frames_length, certificate };
                match base.owner.decode(&piece, bytes).ok()?.value {
                    Decoded::Pack(tables) => Some(tables),
                    _ => None,
                }
            })?;
            let packs = base
                .stored
                .keys()
                .filter(|name| name.kind() == kind)
                .filter_map(|name| Some((kind, name.pack_id()?, tables.contents.clone())));
            let body = IndexBody { sessions: tables.sessions.clone(), packs: packs.take(1 + input.below(4)).collect() };
            ("an index object", ObjectName::index(IndexId(random)), body.encode())
        }
    })
}
