//! Asking for what is frozen: many at once, in batches, and waiting for it.

use super::*;
use crate::runtime::{Clock, StillClock};

/// A clock by which one pack thaws with each second that somebody waits, and perhaps freezes again with the next.
#[derive(Debug)]
struct Melting {
    still: StillClock,
    freezer: Arc<FreezingBackend>,
    freezes_again: bool,
    /// The most that were on their way at once.
    most: AtomicU64,
}

impl Clock for Melting {
    fn now(&self) -> Timestamp {
        self.still.now()
    }

    fn monotonic_ns(&self) -> u64 {
        self.still.monotonic_ns()
    }

    fn sleep_ns(&self, nanoseconds: u64) {
        self.still.sleep_ns(nanoseconds);
        self.most.fetch_max(self.freezer.pass_time(0) as u64, Ordering::Relaxed);
        if self.freezes_again {
            self.freezer.expire();
        }
        self.freezer.pass_time(1);
    }
}

/// A world with its old packs in a freezer, a handle to it whose clock melts them, and what the oldest snapshot needs.
fn melting(freezes_again: bool) -> (World, Arc<FreezingBackend>, Arc<Melting>, Repository, ColdPlan) {
    let mut world = World::empty();
    world.backup_of("s", noise(1, 500_000), 10);
    world.backup_of("s", noise(2, 1000), 1);
    let freezer = world.freezer("shelf 1");
    world.add(frozen());
    world.apply();
    let clock = Arc::new(Melting {
        still: StillClock::new(Timestamp { seconds: NOW, nanoseconds: 0 }),
        freezer: freezer.clone(),
        freezes_again,
        most: AtomicU64::new(0),
    });
    let settings = Settings::default().with_tier_opener(Arc::new(world.shelf.clone()));
    let repository =
        Repository::open(Arc::new(world.warm.clone()), Runtime { clock: clock.clone(), ..runtime(21) }, &key(), settings).unwrap();
    let oldest = repository.find_snapshot(&world.kept[0].0.to_string(), None, None).unwrap();
    let plan = repository.cold_plan(&oldest, &[], &Silent).unwrap();
    assert!(plan.tiers[0].frozen.packs > 5);
    (world, freezer, clock, repository, plan)
}

#[test]
fn no_more_than_a_batch_is_on_its_way() {
    let (_world, freezer, clock, repository, plan) = melting(true);
    let all = plan.tiers[0].frozen;
    let two = plan.tiers[0].packs[..2].iter().map(|(_, size)| size).sum();
    let options = ThawOptions { batch_bytes: Some(two), ..way("bulk", 2) };
    let first = repository.thaw(&plan, &options, &Silent).unwrap();
    assert_eq!((first.asked, first.thawing.packs, first.left.packs), (PackGroup { packs: 2, bytes: two }, 2, all.packs - 2));
    // As long as they are on their way, nothing more.
    let again = repository.thaw(&plan, &options, &Silent).unwrap();
    assert_eq!((again.asked.packs, again.thawing, again.left, again.cost), (0, first.thawing, first.left, 0));
    freezer.pass_time(usize::MAX);
    // A batch into which nothing fits takes one at a time; each is asked for once, though those before freeze again meanwhile.
    let options = ThawOptions { batch_bytes: Some(1), wait: true, ..options };
    let done = repository.thaw(&plan, &options, &Silent).unwrap();
    assert_eq!((done.asked, done.thawing.packs, done.left.packs, done.ready), (first.left, 0, 0, all));
    assert_eq!(clock.most.load(Ordering::Relaxed), 1);
    assert_eq!(freezer.asked().len() as u64, all.packs);
    assert!(first.cost + done.cost <= plan.tiers[0].classes[0].cost && done.cost > first.cost);
}

#[test]
fn all_of_it_is_asked_for_at_once_and_waited_for() {
    let (world, freezer, clock, repository, plan) = melting(false);
    let done = repository.thaw(&plan, &ThawOptions { wait: true, ..way("bulk", 2) }, &Silent).unwrap();
    assert_eq!((done.asked, done.ready, done.left.packs), (plan.tiers[0].frozen, plan.tiers[0].needed, 0));
    assert_eq!((clock.most.load(Ordering::Relaxed), freezer.asked().len() as u64), (done.asked.packs, done.asked.packs));
    let oldest = repository.find_snapshot(&world.kept[0].0.to_string(), None, None).unwrap();
    let mut back = Vec::new();
    repository.restore_to_writer(&oldest, None, &mut back, &Silent).unwrap();
    assert!(back == world.kept[0].1);
}

/// Is stopped once a phase begins that is called so.
#[derive(Debug)]
struct StopIn(&'static str, AtomicU64);

impl Progress for StopIn {
    fn event(&self, event: crate::progress::Event<'_>) {
        if let crate::progress::Event::Phase { name, .. } = event {
            self.1.store(u64::from(name == self.0), Ordering::Relaxed);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.1.load(Ordering::Relaxed) > 0
    }
}

#[test]
fn whoever_stops_a_thaw_is_told_what_was_asked_for() {
    let (_world, freezer, _clock, repository, plan) = melting(false);
    let stopped = repository.thaw(&plan, &way("bulk", 2), &StopIn("thaw", AtomicU64::new(0))).unwrap_err();
    assert_eq!((stopped.kind(), freezer.asked().len()), (ErrorKind::Cancelled, 0));
    let waiting = StopIn("wait", AtomicU64::new(0));
    let error = repository.thaw(&plan, &ThawOptions { wait: true, ..way("bulk", 2) }, &waiting).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let frozen = plan.tiers[0].frozen;
    assert!(error.to_string().contains(&format!("{} packs of {} bytes were asked for", frozen.packs, frozen.bytes)), "{error}");
    assert_eq!(freezer.asked().len() as u64, frozen.packs);
}

#[test]
fn what_lies_frozen_goes_on_to_a_colder_tier_once_it_has_thawed() {
    let (world, freezer, _clock, repository, plan) = melting(false);
    repository.add_tier(&TierBody { rank: 2, ..TierBody::new("colder", "shelf 2") }).unwrap();
    let later = Runtime::seeded(23, Timestamp { seconds: NOW + 31 * DAY, nanoseconds: 0 }, 2);
    let settings = Settings::default().with_tier_opener(Arc::new(world.shelf.clone()));
    let later = Repository::open(Arc::new(world.warm.clone()), later, &key(), settings).unwrap();
    let moved = plan.tiers[0].frozen;
    let left = later.tier_apply(&TierPolicy::new("colder"), &Silent).unwrap();
    assert_eq!((left.plan.moves.packs, left.plan.frozen, left.failed.packs), (0, moved, 0));
    assert!(freezer.asked().is_empty());
    later.thaw(&plan, &way("bulk", 2), &Silent).unwrap();
    freezer.pass_time(usize::MAX);
    let done = later.tier_apply(&TierPolicy::new("colder"), &Silent).unwrap();
    assert_eq!((done.moved, done.plan.frozen.packs), (moved, 0));
    assert!(world.packs_in("shelf 1").is_empty());
    world.assert_whole();
}

/// Somebody took away what told of them: then nobody knows what is in them, until they have thawed.
#[test]
fn frozen_packs_of_which_nothing_tells_thaw_and_are_told_of_again() {
    let world = World::with_days();
    let freezer = world.freezer("shelf 1");
    world.add(frozen());
    let moved = world.apply().moved;
    for object in world.warm.list_sorted(ObjectKind::Index).unwrap() {
        world.warm.delete(&object.name).unwrap();
    }
    let repository = world.other_handle(3);
    assert_eq!(repository.gc(&GcOptions::default(), &Silent).unwrap_err().kind(), ErrorKind::Frozen);
    let restored = |number: usize| {
        let (id, content) = &world.kept[number];
        let snapshot = repository.find_snapshot(&id.to_string(), None, None).unwrap();
        let mut bytes = Vec::new();
        repository.restore_to_writer(&snapshot, None, &mut bytes, &Silent).map(|_| bytes == *content)
    };
    assert!(restored(3).unwrap(), "it needs nothing of them");
    restored(0).unwrap_err();
    let oldest = repository.find_snapshot(&world.kept[0].0.to_string(), None, None).unwrap();
    let plan = repository.cold_plan(&oldest, &[], &Silent).unwrap();
    assert_eq!(plan.tiers[0].frozen, moved);
    repository.thaw(&plan, &way("bulk", 2), &Silent).unwrap();
    freezer.pass_time(usize::MAX);
    assert!(restored(0).unwrap());
    repository.gc(&GcOptions::default(), &Silent).unwrap();
    let packs = freezer.list_sorted(ObjectKind::DataPack).unwrap();
    let told = world.other_handle(4).told_agrees(packs.iter(), &std::collections::HashMap::new()).unwrap();
    assert!(told.len() == packs.len() && told.values().all(|(_, agrees)| *agrees), "{told:?}");
}
