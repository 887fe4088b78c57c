mod lifecycle;
mod moves;
#[cfg(feature = "object-store")]
mod s3;
mod thaw;

use super::*;
use crate::backend::testing::{FreezingBackend, HookedBackend, Operation, Order};
use crate::backend::{BackendExt, MemoryBackend};
use crate::backup::BackupOptions;
use crate::crypto::{PassphraseCost, Secret};
use crate::format::config::CutMethod;
use crate::gc::GcOptions;
use crate::id::SnapshotId;
use crate::progress::{Progress, Silent};
use crate::repository::{CreateOptions, Key, Settings, TierOpener};
use crate::restore::RestoreOptions;
use crate::runtime::Runtime;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

/// Places by address; what is not in it is not plugged in.
#[derive(Debug, Clone, Default)]
struct Shelf(Arc<Mutex<BTreeMap<String, Arc<dyn Backend>>>>);

impl TierOpener for Shelf {
    fn open(&self, tier: &TierBody, address: &str) -> Result<Arc<dyn Backend>> {
        self.0.lock().get(address).map(Arc::clone).ok_or_else(|| crate::repository::absent(tier, address))
    }

    fn create(&self, _: &TierBody, address: &str) -> Result<Arc<dyn Backend>> {
        Ok(Arc::clone(self.0.lock().entry(address.to_owned()).or_insert_with(|| Arc::new(MemoryBackend::new()))))
    }
}

struct World {
    warm: MemoryBackend,
    shelf: Shelf,
    repository: Repository,
    kept: Vec<(SnapshotId, Vec<u8>)>,
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Half of it is the same every day, the other half new.
fn state(day: u64) -> Vec<u8> {
    [noise(1_000_000, 150_000), noise(day, 150_000)].concat()
}

/// So much of each day's own that several packs hold nothing else, however the threads that pack are scheduled.
fn long_state(day: u64) -> Vec<u8> {
    [state(day), noise(100 + day, 500_000)].concat()
}

fn key() -> Key {
    Key::KeyFile(Secret::new([5; 32]))
}

impl World {
    fn with_parity(parity_percent: u8) -> Self {
        let options = CreateOptions {
            pack_size: 64 << 10,
            data_frame_size: 16 << 10,
            meta_frame_size: 4 << 10,
            cut: CutMethod::Content { min: 512, average: 1024, max: 4096 },
            passphrase_cost: PassphraseCost::TEST,
            parity_percent,
        };
        let (warm, shelf) = (MemoryBackend::new(), Shelf::default());
        let settings = Settings::default().with_tier_opener(Arc::new(shelf.clone()));
        let repository = Repository::create(Arc::new(warm.clone()), runtime(1), &key(), &options, settings).unwrap();
        Self { warm, shelf, repository, kept: Vec::new() }
    }

    fn empty() -> Self {
        Self::with_parity(0)
    }

    /// A snapshot of each of four days; that of the last day is the newest.
    fn with_days() -> Self {
        let mut world = Self::empty();
        for day in 0..4 {
            world.backup(day);
        }
        world
    }

    fn backup(&mut self, day: u64) -> crate::backup::BackupSummary {
        self.backup_day(day, state(day))
    }

    fn backup_day(&mut self, day: u64, state: Vec<u8>) -> crate::backup::BackupSummary {
        let mut options = BackupOptions::new("daily");
        options.time = Some(Timestamp { seconds: NOW - DAY * (10 - day as i64), nanoseconds: 0 });
        let summary = self.repository.backup_stream("state", Box::new(std::io::Cursor::new(state.clone())), &options, &Silent).unwrap();
        self.kept.push((summary.snapshot.unwrap(), state));
        summary
    }

    fn add(&self, tier: TierBody) {
        self.repository.add_tier(&tier).unwrap();
    }

    fn freezer(&self, address: &str) -> Arc<FreezingBackend> {
        let freezer = Arc::new(FreezingBackend::new(Arc::new(MemoryBackend::new())));
        self.shelf.0.lock().insert(address.into(), freezer.clone());
        freezer
    }

    fn apply(&self) -> TierSummary {
        self.repository.tier_apply(&TierPolicy::new("cold"), &Silent).unwrap()
    }

    fn open(&self, warm: Arc<dyn Backend>, shelf: Shelf, seed: u64) -> Repository {
        let settings = Settings::default().with_tier_opener(Arc::new(shelf));
        Repository::open(warm, runtime(seed), &key(), settings).unwrap()
    }

    fn other_handle(&self, seed: u64) -> Repository {
        self.open(Arc::new(self.warm.clone()), self.shelf.clone(), seed)
    }

    fn copy(&self) -> Self {
        let copied = |from: &dyn Backend| {
            let to = MemoryBackend::new();
            for object in ObjectKind::ALL.into_iter().flat_map(|kind| from.list_sorted(kind).unwrap()) {
                to.put(&object.name, &from.get(&object.name, u64::MAX).unwrap()).unwrap();
            }
            to
        };
        let warm = copied(&self.warm);
        let shelf = Shelf::default();
        for (address, place) in &*self.shelf.0.lock() {
            shelf.0.lock().insert(address.clone(), Arc::new(copied(&**place)));
        }
        let repository = self.open(Arc::new(warm.clone()), shelf.clone(), 77);
        Self { warm, shelf, repository, kept: self.kept.clone() }
    }

    fn place(&self, address: &str) -> Arc<dyn Backend> {
        Arc::clone(&self.shelf.0.lock()[address])
    }

    fn unplug(&self, address: &str) -> Arc<dyn Backend> {
        self.shelf.0.lock().remove(address).unwrap()
    }

    fn packs_in(&self, address: &str) -> Vec<ObjectName> {
        names(&*self.place(address))
    }

    fn assert_restores(&self, repository: &Repository) {
        for (id, content) in &self.kept {
            let snapshot = repository.find_snapshot(&id.to_string(), None, None).unwrap();
            let mut restored = Vec::new();
            repository.restore_to_writer(&snapshot, None, &mut restored, &Silent).unwrap();
            assert!(restored == *content, "snapshot {id} has other content");
        }
    }

    /// Nothing is wrong, and every kept snapshot comes back; all by a process that has just begun.
    fn assert_whole(&self) {
        let repository = self.other_handle(99);
        let report = repository.scrub(&Silent).unwrap();
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        self.assert_restores(&repository);
    }
}

/// Each process draws other random names.
fn runtime(seed: u64) -> Runtime {
    static PROCESSES: AtomicU64 = AtomicU64::new(0);
    let seed = seed << 32 | PROCESSES.fetch_add(1, Ordering::Relaxed);
    Runtime::seeded(seed, Timestamp { seconds: NOW, nanoseconds: 0 }, 2)
}

fn names(place: &dyn Backend) -> Vec<ObjectName> {
    place.list_sorted(ObjectKind::DataPack).unwrap().into_iter().map(|object| object.name).collect()
}

fn cold() -> TierBody {
    TierBody { minimum_days: 30, prices: Prices { storage: 1_000_000_000_000, ..Prices::default() }, ..TierBody::new("cold", "shelf 1") }
}

fn way(class: &str, days: u32) -> ThawOptions {
    ThawOptions { days, ..ThawOptions::new(class) }
}

fn frozen() -> TierBody {
    let class = |name: &str, seconds, bytes_price| ThawClass { name: name.into(), seconds, bytes_price, requests_price: 1_000_000 };
    let classes = vec![class("bulk", 172_800, 1_000_000_000_000), class("standard", 43_200, 5_000_000_000_000)];
    TierBody { is_frozen: true, classes, ..cold() }
}

#[test]
fn packs_that_only_old_snapshots_need_move_and_all_comes_back() {
    let world = World::with_days();
    world.add(cold());
    let (before, plan) = (names(&world.warm), world.repository.tier_plan(&TierPolicy::new("cold"), &Silent).unwrap());
    assert!(plan.moves.packs >= 4 && plan.needed_warm.packs >= 4, "{plan:#?}");
    assert_eq!((plan.snapshots_cold, plan.snapshots_warm, plan.stranded.packs), (3, 1, 0));
    assert_eq!(names(&world.warm), before, "a plan changes nothing");
    let summary = world.apply();
    assert_eq!((summary.moved, summary.failed.packs, summary.orphans.packs), (plan.moves, 0, 0));
    let (warm, moved) = (names(&world.warm), world.packs_in("shelf 1"));
    assert_eq!((moved.len() as u64, warm.len() + moved.len()), (plan.moves.packs, before.len()));
    assert!(moved.iter().all(|name| before.contains(name) && !warm.contains(name)));
    world.assert_whole();
    // The newest snapshot needs nothing of it.
    let cold = world.repository.cold_plan(&world.repository.find_snapshot("latest", None, None).unwrap(), &[], &Silent).unwrap();
    assert!(cold.tiers.is_empty() && cold.warm.packs > 0);
    let tiers = world.repository.tiers().unwrap();
    assert_eq!((tiers.len(), tiers[0].packs, &tiers[0].absent), (1, plan.moves, &None));
    assert!(world.apply().plan.is_empty());
    world.repository.gc(&GcOptions::default(), &Silent).unwrap();
    world.assert_whole();
}

#[test]
fn policies_are_held_to() {
    let world = World::with_days();
    world.add(cold());
    let plan = |change: &dyn Fn(&mut TierPolicy)| {
        let mut policy = TierPolicy::new("cold");
        change(&mut policy);
        world.repository.tier_plan(&policy, &Silent)
    };
    // Snapshots are 10, 9, 8 and 7 days old.
    assert_eq!(plan(&|policy| policy.life.warm_days = Some(8)).unwrap().snapshots_cold, 2);
    assert_eq!(plan(&|policy| policy.life.warm_days = Some(10)).unwrap().moves.packs, 0);
    assert_eq!(plan(&|policy| policy.keep_newest = 3).unwrap().snapshots_cold, 1);
    assert_eq!(plan(&|policy| policy.keep_newest = 4).unwrap().moves.packs, 0);
    assert_eq!(plan(&|policy| policy.retention_classes = vec![7]).unwrap().snapshots_cold, 0);
    assert_eq!(plan(&|policy| policy.keep_newest = 0).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(plan(&|policy| policy.tier = "none".into()).unwrap_err().kind(), ErrorKind::NotFound);
    let costs = plan(&|_| {}).unwrap();
    assert_eq!(costs.month_cost, costs.moves.bytes, "a millionth for each byte a month");
    assert_eq!(costs.minimum_cost, costs.month_cost, "30 days are paid for in any case");
}

/// Lets so many changes through, in whatever place; after them none is answered any more. Where it `does_last`, the last one is done and its answer is lost.
fn stopping(inner: Arc<dyn Backend>, left: &Arc<AtomicU64>, does_last: bool) -> Arc<dyn Backend> {
    let left = Arc::clone(left);
    Arc::new(HookedBackend::new(inner, move |call| {
        let stopped = || Error::new(ErrorKind::Unavailable, "the process was stopped");
        match (call.operation, call.is_done) {
            (Operation::Finish | Operation::Delete, false) => {
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).map(drop).map_err(|_| stopped())
            }
            (Operation::Finish | Operation::Delete, true) if does_last && left.load(Ordering::Relaxed) == 0 => Err(stopped()),
            _ => Ok(()),
        }
    }))
}

/// Runs `work` on copies of a world, stopped at the first, the second, ... change that it makes, until it gets through.
fn at_every_change(start: &World, work: impl Fn(&Repository) -> Result<()>, look: impl Fn(&World)) -> u64 {
    for changes in 0..10_000 {
        let mut is_through = false;
        for does_last in [false, true] {
            let (world, left) = (start.copy(), Arc::new(AtomicU64::new(changes)));
            let shelf = Shelf::default();
            for (address, place) in &*world.shelf.0.lock() {
                shelf.0.lock().insert(address.clone(), stopping(Arc::clone(place), &left, does_last));
            }
            let handle = world.open(stopping(Arc::new(world.warm.clone()), &left, does_last), shelf, 1000 + changes);
            is_through = work(&handle).is_ok();
            drop(handle);
            look(&world);
        }
        if is_through {
            return changes;
        }
    }
    panic!("it never gets through");
}

#[test]
fn a_move_stopped_at_any_step_loses_nothing_and_the_next_one_finishes() {
    let start = World::with_days();
    start.add(cold());
    let before = names(&start.warm);
    let work = |repository: &Repository| repository.tier_apply(&TierPolicy::new("cold"), &Silent).map(drop);
    let changes = at_every_change(&start, work, |world| {
        world.assert_whole();
        let summary = world.other_handle(5).tier_apply(&TierPolicy::new("cold"), &Silent).unwrap();
        assert_eq!(summary.failed.packs, 0, "{summary:#?}");
        let (warm, moved) = (names(&world.warm), world.packs_in("shelf 1"));
        let mut all = [&warm[..], &moved[..]].concat();
        all.sort();
        assert_eq!(all, before, "each pack is in one place");
        assert!(world.other_handle(6).tier_plan(&TierPolicy::new("cold"), &Silent).unwrap().is_empty());
        world.assert_whole();
    });
    assert!(changes > 10, "only {changes} changes were made");
}

#[test]
fn a_collection_of_what_is_cold_stopped_at_any_step_finishes() {
    let mut start = World::with_days();
    start.add(cold());
    let moved = start.apply().moved;
    let forgotten: Vec<_> = start.kept.drain(..2).map(|(id, _)| id).collect();
    start.repository.forget(&forgotten, &Silent).unwrap();
    let plan = start.repository.gc_plan(&GcOptions::default(), &Silent).unwrap();
    assert!(plan.early.packs > 0 && plan.early_cost > 0, "{plan:#?}");
    at_every_change(
        &start,
        |repository| repository.gc(&GcOptions::default(), &Silent).map(drop),
        |world| {
            world.assert_whole();
            world.other_handle(5).gc(&GcOptions::default(), &Silent).unwrap();
            let tier = world.other_handle(6).tiers().unwrap().remove(0);
            let there = world.packs_in("shelf 1").len() as u64;
            assert!(there < moved.packs && there > 0);
            assert_eq!(tier.packs.packs, there, "placement tells of what is there");
            world.assert_whole();
        },
    );
}

#[test]
fn who_began_before_a_move_finds_what_moved() {
    let world = World::with_days();
    world.add(cold());
    let early = world.other_handle(3);
    let snapshot = early.find_snapshot(&world.kept[0].0.to_string(), None, None).unwrap();
    world.assert_restores(&early);
    let index = early.open_index().unwrap();
    world.apply();
    let reader = crate::repository::FrameReader::new(&early, index);
    let chunks = early.snapshot_chunks(&reader, &snapshot.header).unwrap();
    for ordinal in
        crate::tree::TreeWalk::new(&chunks, &snapshot.body.tree_root, crate::entry::KeyKind::Paths, crate::tree::KeyRange::all()).unwrap()
    {
        assert!(ordinal.is_ok());
    }
    world.assert_restores(&early);
}

#[test]
fn movers_and_collectors_at_once_lose_nothing() {
    // A second mover, and a collector, run at each change that the first one makes.
    for what in 0..2 {
        let start = World::with_days();
        start.add(cold());
        for at in 0..12 {
            let world = start.copy();
            let (other, count) = (world.other_handle(50 + at), Arc::new(AtomicU64::new(0)));
            let others = move |call: &crate::backend::testing::Call| {
                let is_change = matches!(call.operation, Operation::Finish | Operation::Delete) && call.is_done;
                if is_change && count.fetch_add(1, Ordering::Relaxed) == at {
                    match what {
                        0 => drop(other.tier_apply(&TierPolicy::new("cold"), &Silent)?),
                        _ => drop(other.gc(&GcOptions::default(), &Silent)?),
                    }
                }
                Ok(())
            };
            let first = world.open(Arc::new(HookedBackend::new(Arc::new(world.warm.clone()), others)), world.shelf.clone(), 9);
            first.tier_apply(&TierPolicy::new("cold"), &Silent).unwrap();
            world.assert_whole();
            assert!(world.other_handle(8).tier_plan(&TierPolicy::new("cold"), &Silent).unwrap().is_empty());
        }
    }
}

#[test]
fn what_is_frozen_is_planned_asked_for_and_restored() {
    let mut world = World::empty();
    for day in 0..4 {
        world.backup_day(day, long_state(day));
    }
    let freezer = world.freezer("shelf 1");
    world.add(frozen());
    let moved = world.apply().moved;
    let oldest = world.repository.find_snapshot(&world.kept[0].0.to_string(), None, None).unwrap();
    // Nothing that looks thaws.
    let report = world.other_handle(2).scrub(&Silent).unwrap();
    assert!(report.findings.is_empty() && report.notices.iter().any(|notice| notice.contains("in tier cold, frozen")), "{report:#?}");
    world.repository.gc(&GcOptions::default(), &Silent).unwrap();
    world.other_handle(3).stats(None, &Silent).unwrap();
    let plan = world.repository.cold_plan(&oldest, &[], &Silent).unwrap();
    let needs = &plan.tiers[0];
    assert!(!plan.is_ready() && needs.frozen == needs.needed && needs.frozen.packs > 1 && needs.frozen.packs <= moved.packs);
    assert_eq!(needs.classes[0].cost, needs.frozen.bytes + needs.frozen.packs, "a unit for each byte and each request, in millionths");
    assert_eq!((needs.classes[1].name.as_str(), needs.classes[1].seconds), ("standard", 43_200));
    assert!(freezer.asked().is_empty());
    // Without it: said, not damage, nothing half done.
    let target = tempfile::tempdir().unwrap();
    let restore = || world.repository.restore(&oldest, target.path(), &RestoreOptions::default(), &Silent).unwrap();
    let summary = restore();
    assert!(summary.frozen && !summary.damaged && summary.items_failed == 1, "{summary:#?}");
    assert!(!target.path().join("state").exists());
    let mut nothing = Vec::new();
    assert_eq!(world.repository.restore_to_writer(&oldest, None, &mut nothing, &Silent).unwrap_err().kind(), ErrorKind::Frozen);
    // Asked for once, however often.
    assert_eq!(world.repository.thaw(&plan, &way("fast", 2), &Silent).unwrap_err().kind(), ErrorKind::Invalid);
    let asked = world.repository.thaw(&plan, &way("bulk", 2), &Silent).unwrap();
    assert_eq!((asked.asked, asked.cost), (needs.frozen, needs.classes[0].cost));
    assert_eq!(world.repository.thaw(&plan, &way("bulk", 2), &Silent).unwrap().asked.packs, 0);
    assert_eq!(freezer.asked().len() as u64, needs.frozen.packs);
    freezer.pass_time(1);
    assert!(restore().frozen, "only a part has thawed");
    let now = world.repository.cold_plan(&oldest, &[], &Silent).unwrap();
    assert_eq!((now.tiers[0].frozen.packs, now.tiers[0].thawing.packs), (0, needs.frozen.packs - 1));
    freezer.pass_time(usize::MAX);
    assert!(world.repository.cold_plan(&oldest, &[], &Silent).unwrap().is_ready());
    world.repository.wait_for_thaw(&plan, &Silent).unwrap();
    assert!(!restore().frozen);
    assert!(std::fs::read(target.path().join("state")).unwrap() == world.kept[0].1);
}

#[test]
fn a_move_to_a_freezer_that_was_stopped_after_freezing_goes_on() {
    let world = World::with_days();
    let freezer = world.freezer("shelf 1");
    world.add(frozen());
    // The place is there and frozen, but nothing was said of it: as after a stop between the two.
    let moves = world.repository.tier_plan(&TierPolicy::new("cold"), &Silent).unwrap();
    let first = moves.packs[0].name;
    freezer.put(&first, &world.warm.get(&first, u64::MAX).unwrap()).unwrap();
    crate::backend::Thaw::freeze(&*freezer, &first).unwrap();
    assert_eq!(world.apply().moved, moves.moves);
    assert!(world.warm.size(&first).is_err() && freezer.asked().is_empty());
}

#[test]
fn a_medium_that_is_not_there_is_named_and_nothing_is_lost() {
    let mut world = World::with_days();
    world.add(TierBody { is_removable: true, label: "disk 7 in the safe".into(), ..cold() });
    world.apply();
    let disk = world.unplug("shelf 1");
    for is_mount_point in [false, true] {
        if is_mount_point {
            world.shelf.0.lock().insert("shelf 1".into(), Arc::new(MemoryBackend::new()));
        }
        let repository = world.other_handle(4);
        let oldest = repository.find_snapshot(&world.kept[0].0.to_string(), None, None).unwrap();
        let error = repository.restore_to_writer(&oldest, None, &mut Vec::new(), &Silent).unwrap_err();
        assert!(error.kind() == ErrorKind::Frozen && error.to_string().contains("disk 7 in the safe"), "{error}");
        let plan = repository.cold_plan(&oldest, &[], &Silent).unwrap();
        assert!(plan.tiers[0].absent.as_ref().unwrap().contains("disk 7 in the safe") && !plan.is_ready());
        let report = repository.scrub(&Silent).unwrap();
        assert!(report.findings.is_empty() && report.notices.iter().any(|notice| notice.contains("disk 7")), "{report:#?}");
        assert_eq!(repository.tier_apply(&TierPolicy::new("cold"), &Silent).unwrap_err().kind(), ErrorKind::Frozen);
        let newest = repository.find_snapshot("latest", None, None).unwrap();
        repository.restore_to_writer(&newest, None, &mut Vec::new(), &Silent).unwrap();
    }
    assert!(names(&*world.place("shelf 1")).is_empty(), "nothing was written to a place that is none");
    // What is deleted meanwhile goes when the medium is back.
    let (id, _) = world.kept.remove(0);
    let repository = world.other_handle(5);
    repository.forget(&[id], &Silent).unwrap();
    assert!(repository.gc(&GcOptions::default(), &Silent).unwrap().left.packs > 0);
    let held = names(&*disk).len();
    world.shelf.0.lock().insert("shelf 1".into(), disk);
    world.other_handle(6).gc(&GcOptions::default(), &Silent).unwrap();
    assert!(world.packs_in("shelf 1").len() < held);
    world.assert_whole();
}

#[test]
fn a_new_snapshot_does_not_depend_on_what_is_cold() {
    let mut world = World::with_days();
    world.add(cold());
    world.apply();
    let before = names(&world.warm).len();
    // The first day again.
    world.backup(0);
    assert!(names(&world.warm).len() > before, "it was stored anew");
    let plan = world.repository.tier_plan(&TierPolicy::new("cold"), &Silent).unwrap();
    assert_eq!(plan.stranded.packs, 0, "{plan:#?}");
    let newest = world.repository.find_snapshot(&world.kept[4].0.to_string(), None, None).unwrap();
    assert!(world.repository.cold_plan(&newest, &[], &Silent).unwrap().tiers.is_empty());
    world.assert_whole();
}

#[test]
fn packs_go_on_to_a_colder_tier_when_their_minimum_days_have_passed() {
    let world = World::with_days();
    world.add(cold());
    world.add(TierBody { rank: 2, ..TierBody::new("colder", "shelf 2") });
    let moved = world.apply().moved;
    let policy = TierPolicy::new("colder");
    let plan = world.repository.tier_plan(&policy, &Silent).unwrap();
    assert_eq!((plan.too_early, plan.moves.packs), (moved, 0), "{plan:#?}");
    let later = Runtime::seeded(8, Timestamp { seconds: NOW + 31 * DAY, nanoseconds: 0 }, 2);
    let settings = Settings::default().with_tier_opener(Arc::new(world.shelf.clone()));
    let later = Repository::open(Arc::new(world.warm.clone()), later, &key(), settings).unwrap();
    assert_eq!(later.tier_apply(&policy, &Silent).unwrap().moved, moved);
    assert!(world.packs_in("shelf 1").is_empty());
    let tiers = world.other_handle(4).tiers().unwrap();
    assert_eq!([tiers[0].packs.packs, tiers[1].packs.packs], [0, moved.packs]);
    world.other_handle(4).remove_tier("cold").unwrap();
    assert_eq!(world.other_handle(4).remove_tier("colder").unwrap_err().kind(), ErrorKind::Busy);
    world.assert_whole();
}

#[test]
fn a_snapshot_of_a_time_that_lies_warm_cold_and_offline_is_planned_and_restored() {
    let mut world = World::empty();
    // The oldest one goes to a disk, the next to a shelf; the one of the time in question needs something of each.
    let parts: Vec<_> = (0..3).map(|part| noise(500 + part, 120_000)).collect();
    let mut backup = |series: &str, content: Vec<u8>, day: i64| {
        let mut options = BackupOptions::new(series);
        options.time = Some(Timestamp { seconds: NOW - DAY * day, nanoseconds: 0 });
        let made = world.repository.backup_stream("state", Box::new(std::io::Cursor::new(content.clone())), &options, &Silent).unwrap();
        world.kept.push((made.snapshot.unwrap(), content));
    };
    backup("db", parts[0].clone(), 30);
    backup("db", parts[..2].concat(), 20);
    backup("db", parts.concat(), 10);
    backup("db", noise(900, 50_000), 5);
    backup("other", parts[2].clone(), 1);
    world.add(TierBody { is_removable: true, label: "disk 1".into(), ..TierBody::new("disk", "disk 1") });
    world.add(TierBody { rank: 2, ..TierBody::new("shelf", "shelf") });
    let plan = world.repository.tier_plan(&TierPolicy::new("disk"), &Silent).unwrap();
    assert!(plan.moves.packs >= 3);
    world.repository.tier_apply(&TierPolicy::new("disk"), &Silent).unwrap();
    let half = world.packs_in("disk 1").len() / 2;
    // Half of them go on.
    let mut policy = TierPolicy::new("shelf");
    policy.live_percent_min = 0;
    let stopped = world.repository.tier_apply(&policy, &StopAfter(AtomicU64::new(half as u64)));
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(!world.packs_in("disk 1").is_empty() && !world.packs_in("shelf").is_empty());
    let disk = world.unplug("disk 1");
    let repository = world.other_handle(7);
    let at = Timestamp { seconds: NOW - 8 * DAY, nanoseconds: 0 };
    let snapshot = repository.find_snapshot("latest", Some("db"), Some(at)).unwrap();
    assert_eq!(snapshot.id, world.kept[2].0);
    let plan = repository.cold_plan(&snapshot, &[], &Silent).unwrap();
    let tiers: Vec<_> = plan.tiers.iter().map(|needs| (needs.tier.name.as_str(), needs.absent.is_some())).collect();
    assert_eq!((tiers, plan.warm.packs > 0), (vec![("disk", true), ("shelf", false)], true));
    let target = tempfile::tempdir().unwrap();
    let summary = repository.restore(&snapshot, target.path(), &RestoreOptions::default(), &Silent).unwrap();
    assert!(summary.frozen && !summary.damaged);
    world.shelf.0.lock().insert("disk 1".into(), disk);
    let summary = repository.restore(&snapshot, target.path(), &RestoreOptions::default(), &Silent).unwrap();
    assert!(!summary.frozen && summary.items_failed == 0, "{summary:#?}");
    assert!(std::fs::read(target.path().join("state")).unwrap() == world.kept[2].1);
}

/// Stops a run after so many questions whether it should go on that are asked while packs move.
#[derive(Debug)]
struct StopAfter(AtomicU64);

impl Progress for StopAfter {
    fn event(&self, event: crate::progress::Event<'_>) {
        if let crate::progress::Event::Phase { name: "mark", .. } = event {
            self.0.fetch_or(1 << 40, Ordering::Relaxed);
        }
        if let crate::progress::Event::Phase { name: "move", .. } = event {
            self.0.fetch_and((1 << 20) - 1, Ordering::Relaxed);
        }
    }

    fn is_cancelled(&self) -> bool {
        match self.0.load(Ordering::Relaxed) {
            marking if marking >= 1 << 40 => false,
            _ => self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err(),
        }
    }
}

#[test]
fn sidecars_stay_warm_and_bring_nothing_back_that_moved() {
    let mut world = World::with_parity(3);
    for day in 0..3 {
        world.backup(day);
    }
    world.add(cold());
    let moved = world.apply().moved;
    assert!(moved.packs > 0);
    world.assert_whole();
    let warm = names(&world.warm);
    let report = world.other_handle(3).scrub_and_heal(&Silent).unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    let report = crate::check::scrub_and_heal_keyless(&world.warm, &runtime(2), &Silent).unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!(names(&world.warm), warm);
}

#[test]
fn only_maintain_says_what_lies_where() {
    let world = World::with_days();
    world.add(cold());
    world.apply();
    let other = crate::gc::tests::client_with(&world.repository, Roles::BACKUP, 9);
    assert_eq!(other.tier_plan(&TierPolicy::new("cold"), &Silent).unwrap_err().kind(), ErrorKind::Unauthorized);
    assert_eq!(other.add_tier(&TierBody::new("mine", "elsewhere")).unwrap_err().kind(), ErrorKind::Unauthorized);
    let tier = world.repository.tiers().unwrap()[0].tier.tier;
    let lie = TierBody { tier, revision: 2, address: "the thief's".into(), ..cold() };
    let name = ObjectName::placement(PlacementId([9; 16]));
    other.write_sealed(name, PlacementBody::Tier(Box::new(lie)).encode()).unwrap();
    let repository = world.other_handle(3);
    assert_eq!(repository.tiers().unwrap()[0].address, "shelf 1");
    world.assert_restores(&repository);
    let report = repository.check(&Silent).unwrap();
    assert_eq!(report.findings.iter().map(|finding| (finding.object, finding.rule)).collect::<Vec<_>>(), [(Some(name), Some("OBJ-9"))]);
}

#[test]
fn check_finds_what_is_lost_or_changed_in_a_tier() {
    let world = World::with_days();
    world.add(cold());
    world.apply();
    let place = world.place("shelf 1");
    let (lost, changed) = (world.packs_in("shelf 1")[0], world.packs_in("shelf 1")[1]);
    place.delete(&lost).unwrap();
    let mut bytes = place.get(&changed, u64::MAX).unwrap();
    place.delete(&changed).unwrap();
    bytes[100] ^= 1;
    place.put(&changed, &bytes).unwrap();
    let said = |report: crate::check::CheckReport| report.findings.iter().filter_map(|finding| finding.object).collect::<Vec<_>>();
    assert!(said(world.other_handle(2).check(&Silent).unwrap()).contains(&lost));
    let found = said(world.other_handle(2).scrub(&Silent).unwrap());
    assert!(found.contains(&lost) && found.contains(&changed), "{found:?}");
}

#[test]
fn no_warm_copy_goes_for_a_copy_that_is_not_there() {
    let world = World::with_days();
    world.add(cold());
    let before = names(&world.warm);
    // The medium loses everything between the copy and the look.
    let shelf = world.shelf.clone();
    let warm = world.warm.clone();
    let losing = HookedBackend::new(Arc::new(warm.clone()), move |call| {
        if call.kind == ObjectKind::Placement && call.operation == Operation::Finish && call.is_done {
            let place = Arc::clone(&shelf.0.lock()["shelf 1"]);
            names(&*place).iter().for_each(|name| place.delete(name).unwrap());
        }
        Ok(())
    });
    let summary = world.open(Arc::new(losing), world.shelf.clone(), 5).tier_apply(&TierPolicy::new("cold"), &Silent).unwrap();
    assert_eq!((summary.moved.packs, summary.failed), (0, summary.plan.moves));
    assert_eq!(names(&world.warm), before);
    world.assert_restores(&world.other_handle(3));
}

/// Another mover may have said so, and died.
#[test]
fn where_a_pack_is_is_durable_before_its_warm_copy_goes() {
    let world = World::with_days();
    world.add(cold());
    // Stopped before the first warm copy goes.
    let stopped = HookedBackend::new(Arc::new(world.warm.clone()), |call| match call.operation {
        Operation::Delete if call.kind.is_pack() => Err(Error::new(ErrorKind::Unavailable, "the process was stopped")),
        _ => Ok(()),
    });
    world.open(Arc::new(stopped), world.shelf.clone(), 5).tier_apply(&TierPolicy::new("cold"), &Silent).unwrap_err();
    let placed = world.warm.list_sorted(ObjectKind::Placement).unwrap();
    assert_eq!(placed.len(), 2, "the tier, and what lies there");
    let (warm, order) = Order::of(Arc::new(world.warm.clone()));
    let summary = world.open(warm, world.shelf.clone(), 6).tier_apply(&TierPolicy::new("cold"), &Silent).unwrap();
    assert!(summary.finished.packs > 0, "{summary:?}");
    let goes = order.first(Operation::Delete, |name| name.kind().is_pack()).unwrap();
    assert!(placed.iter().all(|object| order.at(Operation::MakeDurable, object.name) < goes));
}

#[test]
fn tiers_are_named_once_and_removed_when_empty() {
    let world = World::empty();
    world.add(cold());
    assert_eq!(world.repository.add_tier(&cold()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    for wrong in [TierBody { rank: 0, ..TierBody::new("a", "b") }, TierBody::new("A", "b"), TierBody::new("a", "")] {
        assert_eq!(world.repository.add_tier(&wrong).unwrap_err().kind(), ErrorKind::Invalid);
    }
    world.repository.remove_tier("cold").unwrap();
    assert!(world.repository.tiers().unwrap().is_empty() && world.warm.list_sorted(ObjectKind::Placement).unwrap().is_empty());
    assert_eq!(world.repository.remove_tier("cold").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn copies_that_interrupted_moves_left_of_packs_that_are_gone_are_deleted() {
    let mut world = World::with_days();
    world.add(cold());
    let place = world.place("shelf 1");
    let (first, _) = world.kept.remove(0);
    // Copied, and then nothing was said of it.
    for name in names(&world.warm) {
        place.put(&name, &world.warm.get(&name, u64::MAX).unwrap()).unwrap();
    }
    let foreign = ObjectName::pack(ObjectKind::DataPack, PackId([7; 16]));
    place.put(&foreign, b"of somebody with a copy of this repository").unwrap();
    world.repository.forget(&[first], &Silent).unwrap();
    let deleted = world.repository.gc(&GcOptions::default(), &Silent).unwrap().deleted;
    let summary = world.other_handle(2).tier_apply(&TierPolicy::new("cold"), &Silent).unwrap();
    assert!(deleted.packs > 0 && summary.orphans.packs > 0 && summary.failed.packs == 0, "{summary:#?}");
    assert!(world.packs_in("shelf 1").contains(&foreign));
    world.assert_whole();
}

#[test]
fn a_restore_writes_files_as_their_packs_arrive() {
    let world = World::empty();
    let freezer = world.freezer("shelf 1");
    let source = tempfile::tempdir().unwrap();
    for file in 0..4 {
        std::fs::write(source.path().join(file.to_string()), noise(file, 120_000)).unwrap();
    }
    let backup = || {
        let roots = crate::source::Roots::resolve(&[source.path().join(".")]).unwrap();
        let options = BackupOptions::new("files");
        world.repository.backup(&roots, &crate::source::SourceOptions::default(), &options, &Silent).unwrap().snapshot.unwrap()
    };
    let first = backup();
    for file in 0..4 {
        std::fs::write(source.path().join(file.to_string()), noise(10 + file, 1000)).unwrap();
    }
    backup();
    world.add(frozen());
    assert!(world.apply().moved.packs > 4);
    let snapshot = world.repository.find_snapshot(&first.to_string(), None, None).unwrap();
    // Of one file only its own packs have to thaw.
    let one = world.repository.cold_plan(&snapshot, &[b"2".to_vec()], &Silent).unwrap();
    let all = world.repository.cold_plan(&snapshot, &[], &Silent).unwrap();
    assert!(one.tiers[0].frozen.packs > 0 && one.tiers[0].frozen.packs < all.tiers[0].frozen.packs);
    assert_eq!(world.repository.cold_plan(&snapshot, &[b"5".to_vec()], &Silent).unwrap_err().kind(), ErrorKind::NotFound);
    let target = tempfile::tempdir().unwrap();
    let restore = || world.repository.restore(&snapshot, target.path(), &RestoreOptions::default(), &Silent).unwrap();
    world.repository.thaw(&one, &way("standard", 1), &Silent).unwrap();
    freezer.pass_time(usize::MAX);
    assert!(restore().frozen);
    assert!(std::fs::read(target.path().join("2")).unwrap() == noise(2, 120_000));
    world.repository.thaw(&all, &way("standard", 1), &Silent).unwrap();
    freezer.pass_time(usize::MAX);
    let summary = restore();
    assert!(!summary.frozen && summary.items_failed == 0 && summary.bytes_unchanged > 0, "{summary:#?}");
    for file in 0..4 {
        assert!(std::fs::read(target.path().join(file.to_string())).unwrap() == noise(file, 120_000));
    }
    let distinct: HashSet<_> = freezer.asked().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(distinct.len(), freezer.asked().len(), "nothing was asked for twice");
}

/// With a key it is known what lies where; without one it may be either.
#[test]
fn a_small_pack_that_is_gone_is_brought_back_where_it_is_known_to_lie_in_no_tier() {
    let mut world = World::with_parity(3);
    for day in 0..4 {
        world.backup(day);
    }
    world.add(cold());
    world.apply();
    let (lost, moved) = (names(&world.warm)[0], world.packs_in("shelf 1"));
    let bytes = world.warm.get(&lost, u64::MAX).unwrap();
    world.warm.delete(&lost).unwrap();
    let report = crate::check::scrub_and_heal_keyless(&world.warm, &runtime(5), &Silent).unwrap();
    assert!(report.findings.is_empty() && world.warm.size(&lost).is_err(), "{:#?}", report.findings);
    let packs = format!("packs of content that are not here and whose sidecars stand: {}", moved.len() + 1);
    assert!(report.notices.iter().any(|notice| notice.starts_with(&packs)), "{:?}", report.notices);
    let report = world.other_handle(6).scrub_and_heal(&Silent).unwrap();
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.object, finding.healed)).collect();
    assert_eq!(found, [(Some(lost), true)]);
    assert!(world.warm.get(&lost, u64::MAX).unwrap() == bytes);
    world.assert_whole();
    // Nothing is put back into a tier, nor from there into the warm place.
    world.place("shelf 1").delete(&moved[0]).unwrap();
    let report = world.other_handle(7).scrub_and_heal(&Silent).unwrap();
    assert!(report.findings.iter().any(|finding| finding.object == Some(moved[0])) && !report.hurt.is_empty(), "{report:#?}");
    assert!(report.findings.iter().all(|finding| !finding.healed) && world.warm.size(&moved[0]).is_err(), "{report:#?}");
}
